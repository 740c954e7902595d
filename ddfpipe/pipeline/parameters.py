"""Jobs with the parameters that all stages of a part share, taken from the settings."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from ddfpipe.config.checks import VERY_LOW_UV_KM
from ddfpipe.engines.base import GainChoice, ImageJob, SmoothJob, SolveJob
from ddfpipe.pipeline.builder import Builder, Data, restoring_beam
from ddfpipe.pipeline.jobs import ExternalMaskJob
from ddfpipe.pipeline.settings import Settings

LONGEST_BASELINE_KM = 1000.0
LOW_UV_KM_ARCSEC = 2.5 * 206.0
"""Outer uv cut in km of a low-resolution image, times its beam in arcsec."""


def selfcal_image(s: Settings, name: str, data: Data, use_weights: bool, **given: Any) -> ImageJob:
    """An image of the self-calibration at the resolution of `psf_arcsec`."""
    beam = s.image.psf_arcsec
    return _image(
        s, name, data, use_weights, npix=s.image.imsize, cell_arcsec=s.image.cellsize,
        robust=s.image.robust, restoring_beam=(beam, beam, 0.0),
        uv_km=(s.image.uvmin, s.image.uvmax), **given,
    )


def full_image(s: Settings, name: str, data: Data, use_weights: bool | None = None,
               **given: Any) -> ImageJob:
    """A full-bandwidth image at full resolution; `use_weights` replaces the setting."""
    return _image(
        s, name, data, s.image.apply_weights[2] if use_weights is None else use_weights,
        npix=s.image.imsize, cell_arcsec=s.image.cellsize, robust=s.image.final_robust,
        restoring_beam=restoring_beam(s), uv_km=(s.image.uvmin, s.image.uvmax),
        peak_factor=0.001, auto_mask_sigma=s.masking.thresholds[2], smooth_beam=True,
        allow_negative=True, **given,
    )


def low_image(s: Settings, name: str, data: Data, **given: Any) -> ImageJob:
    """A full-bandwidth image at low resolution."""
    beam = s.image.low_psf_arcsec
    return _image(
        s, name, data, True, npix=low_imsize(s), cell_arcsec=s.image.low_cell,
        robust=s.image.low_robust, restoring_beam=(beam, beam, 0.0),
        uv_km=(s.image.uvmin, LOW_UV_KM_ARCSEC / beam), peak_factor=0.001, smooth_beam=True,
        allow_negative=True, **given,
    )


def band_cube_image(s: Settings, name: str, data: Data, **given: Any) -> ImageJob:
    """A low-resolution image of the small list with a plane a frequency."""
    beam = s.image.low_psf_arcsec
    return _image(
        s, name, data, True, npix=low_imsize(s), cell_arcsec=s.image.low_cell,
        robust=s.image.low_robust, restoring_beam=(beam, beam, 0.0),
        uv_km=(s.image.uvmin, LOW_UV_KM_ARCSEC / beam), peak_factor=0.1, smooth_beam=True,
        band_mode="frequency", **given,
    )


def very_low_image(s: Settings, name: str, data: Data, **given: Any) -> ImageJob:
    """A full-bandwidth image of the shortest baselines."""
    beam = s.image.vlow_psf_arcsec
    return _image(
        s, name, data, True, npix=s.image.vlow_imsize, cell_arcsec=s.image.vlow_cell,
        robust=s.image.vlow_robust, restoring_beam=None if beam is None else (beam, beam, 0.0),
        uv_km=(s.image.uvmin, VERY_LOW_UV_KM), peak_factor=0.001, smooth_beam=True,
        allow_negative=True, **given,
    )


def wide_image(s: Settings, name: str, data: Data, **given: Any) -> ImageJob:
    """An image of the sky far around the field."""
    beam = s.image.wide_psf_arcsec
    return _image(
        s, name, data, False, npix=s.image.wide_imsize, cell_arcsec=s.image.wide_cell,
        robust=s.image.wide_robust, restoring_beam=(beam, beam, 0.0),
        uv_km=(s.image.uvmin, LOW_UV_KM_ARCSEC / beam), peak_factor=0.001,
        auto_mask_sigma=s.masking.thresholds[0], smooth_beam=True, allow_negative=True, **given,
    )


def low_imsize(s: Settings) -> int:
    """Pixels of the low-resolution image: as given, or the (even) number that spans the field."""
    given = s.image.low_imsize
    if given is not None:
        return given
    size = math.ceil(s.image.imsize * s.image.cellsize / s.image.low_cell - 1e-6)
    return size + size % 2


def _image(s: Settings, name: str, data: Data, use_weights: bool, *,
           uv_km: tuple[float, float], **given: Any) -> ImageJob:
    weights, solve = _weights(s, data, use_weights)
    return ImageJob(
        name=name, vis=data.select(uv_km), weights=weights, weights_from=solve,
        decorrelation=s.image.do_decorr, n_bands=s.image.nband, **given,
    )


def _weights(s: Settings, data: Data, use_weights: bool) -> tuple[str, str | None]:
    """Imaging weights once a solve has made some; till then, and otherwise, those of the data."""
    if use_weights and data.weights_from is not None:
        return "imaging", data.weights_from
    return ("spectrum" if s.image.use_weightspectrum else "unit"), None


def gains(s: Settings, names: tuple[str, ...], apply: int, normalize: int) -> GainChoice:
    """Solutions as entries `apply` of apply_sols and `normalize` of normalize say."""
    norm = s.solutions.normalize[normalize]
    return GainChoice(names, s.solutions.apply_sols[apply], None if norm == "None" else norm)


def dd_solve(s: Settings, name: str, data: Data, model: str, clusters: Path, *,
             uvmin: float | None = None, **given: Any) -> SolveJob:
    """A direction-dependent solve; `uvmin` in km replaces that of the settings.

    Gains on top of others are for slow causes, and keep their intervals.
    """
    shortest = (s.solutions.uvmin or 0.0) if uvmin is None else uvmin
    given.setdefault("shorten", s.solutions.dt_shorten and not given.get("pre_apply"))
    return SolveJob(
        name=name, vis=data.select((shortest, LONGEST_BASELINE_KM)), kind="DD", model=model,
        clusters=clusters, lambda_kf=s.solutions.LambdaKF, **_solve_weights(s), **given,
    )


def di_solve(s: Settings, name: str, data: Data, model: str, **given: Any) -> SolveJob:
    """A direction-independent full-Jones solve."""
    return SolveJob(
        name=name, vis=data.select((s.solutions.uvmin or 0.0, LONGEST_BASELINE_KM)), kind="DI",
        model=model, dt_min=s.solutions.dt_di, lambda_kf=s.solutions.LambdaKF,
        **_solve_weights(s), **given,
    )


def _solve_weights(s: Settings) -> dict[str, Any]:
    return {
        "image_weights": "spectrum" if s.image.use_weightspectrum else "unit",
        "uv_down_weight": s.solutions.wtuv,
        "robust": s.solutions.robust,
        "decorrelation": s.image.do_decorr,
    }


def smoothed(b: Builder, solve: str, data: Data) -> str:
    """Merge and smooth a solve's solutions if the settings ask for it; the name to use then."""
    s = b.settings
    if not s.solutions.smoothing:
        return solve
    return b.smooth(SmoothJob(solve, data.ms, s.solutions.smoothingtype))


def tied(b: Builder, solve: str, data: Data, sigma_clip: float | None = None) -> str:
    """Merge a solve's slow solutions and tie times and measurement sets together, if the settings
    ask for smoothing; the name to use then."""
    if not b.settings.solutions.smoothing:
        return solve
    return b.smooth(SmoothJob(solve, data.ms, None, sigma_clip, tie=True))


def known_sources(s: Settings, output: str, grid: Path) -> ExternalMaskJob:
    """Mask of what catalogue, regions and mask of the user show, on the grid of an image."""
    m = s.masking
    drawing = {
        "tgss": Path(m.tgss), "tgss_radius": m.tgss_radius, "tgss_flux": m.tgss_flux,
        "tgss_extended": m.tgss_extended, "tgss_pointlike": m.tgss_pointlike,
    } if m.tgss else {}
    return ExternalMaskJob(
        Path(output), grid, region=_path(m.region), fits_mask=_path(m.external_fits_mask),
        **drawing,
    )


def _path(text: str | None) -> Path | None:
    return Path(text) if text else None
