"""The files that an image leaves: FITS, regions, the native model."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ...data.images import SkyGrid, write_image
from ...data.model import save_model
from ...data.regions import FacetOutline, write_tessel
from ..base import ImageJob, ImageResult
from ...imaging.noise import robust_noise
from ...imaging.psf import fit_beam
from ...imaging.sky import lm_to_radec
from ...naming import image_product
from ...units import ARCSEC, DEGREE, MHZ
from .restoring import restored_image

ATTENUATION_FLOOR = 1e-3
"""Intrinsic fluxes are given where at least this part of the flux is seen."""


def band_mean(cube: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """(y, x) float32 mean of (band, y, x) with weights (band,)."""
    return np.tensordot((weight / weight.sum()).astype(np.float32), cube, axes=1)


class Writer:
    """Writes the products of one image under its root.

    Parameters
    ----------
    job : ImageJob
    workdir : folder of the products
    grid : SkyGrid
    freq : Hz, of the band mean
    """

    def __init__(self, job: ImageJob, workdir: Path, grid: SkyGrid, freq: float):
        self.job, self.workdir, self.grid, self.freq = job, workdir, grid, freq
        self.keys = {"MEANFREQ": (freq, "Hz, weighted mean of the data")}
        if job.header_mhz is not None:
            self.freq = job.header_mhz * MHZ
        self.beam = None
        self.written: list[Path] = []

    def path(self, kind: str, cycle: int | None = None) -> Path:
        return self.workdir / image_product(self.job.name, kind, cycle)

    def __call__(self, kind: str, image: np.ndarray, *, unit="Jy/beam", cycle=None,
                 history=()) -> None:
        path = self.path(kind, cycle)
        write_image(
            path, image, self.grid, freq=self.freq, beam=self.beam, unit=unit, keys=self.keys,
            history=[f"ddfpipe image {self.job.name}: {kind}", *history],
        )
        self.written.append(path)


def restoring_beam(job: ImageJob, psf: np.ndarray, cell: float) -> tuple[float, float, float]:
    """Beam (major, minor, position angle) in rad: the job's, or one fitted to `psf` (y, x)."""
    if job.restoring_beam is None:
        return fit_beam(psf, cell)
    major, minor, angle = job.restoring_beam
    return major * ARCSEC, minor * ARCSEC, angle * DEGREE


def beam_arcsec(beam: tuple[float, float, float]) -> tuple[float, float, float]:
    """A beam in rad as major and minor axis in arcsec and position angle in degrees."""
    return beam[0] / ARCSEC, beam[1] / ARCSEC, beam[2] / DEGREE


def write_products(writer: Writer, operators, picture, dirty, cycles) -> ImageResult:
    """Restore, write everything, and tell the figures of the image.

    Parameters
    ----------
    dirty : (y, x) band mean of the first residual
    cycles : list of dict, one a major cycle
    """
    job, weight = writer.job, operators.data.band_weight
    attenuation = band_mean(picture.attenuation, weight)
    psf = band_mean(picture.psf[middle_facet(operators.facets)], weight)
    writer.beam = restoring_beam(job, psf, picture.grid.cell)
    writer("psf", _centred(psf, picture.grid.shape))
    writer("norm", attenuation, unit="")
    _write_both(writer, "dirty", "dirty_corr", dirty, attenuation)
    sky, flux = picture.model, (weight / weight.sum() @ picture.model.flux).astype(np.float32)
    true_model = sky.raster(flux[None])[0]
    writer("int_model", true_model, unit="Jy/pixel")
    # not the mean of the bands' apparent models: the beam would weigh them differently from place
    # to place, so that fluxes belonged to another frequency at the edge than in the middle
    true_model *= attenuation
    writer("app_model", true_model, unit="Jy/pixel")
    del true_model
    residual = band_mean(picture.residual, weight)
    noise = robust_noise(residual)
    _write_both(writer, "app_residual", "int_residual", residual, attenuation)
    restored = restored_image(sky, flux, attenuation, residual, writer.beam)
    del residual
    _write_both(writer, "app_restored", "int_restored", restored, attenuation)
    writer.written.append(save_model(writer.path("model"), picture.model))
    outlines = facet_outlines(operators.facets, operators.data.phase_centre)
    writer.written.append(write_tessel(writer.path("tessel"), outlines))
    return _figures(writer, picture, float(np.nanmax(restored)), noise, cycles)


def _write_both(writer: Writer, apparent: str, intrinsic: str, image, attenuation) -> None:
    """Write an apparent image (y, x) and the intrinsic one, blank where nothing is seen."""
    writer(apparent, image)
    floor = ATTENUATION_FLOOR * attenuation.max()
    with np.errstate(divide="ignore", invalid="ignore"):
        out = np.divide(image, attenuation, dtype=np.float32)
    out[attenuation < floor] = np.nan
    writer(intrinsic, out)


def record_cycle(job: ImageJob, monitor, cycle: int, residual: np.ndarray, model, *,
                 components: int | None = None, ending: str = "") -> dict:
    """Figures of a major cycle, which are also told.

    residual : (y, x) band mean; model : PixelModel so far; components : found in this cycle (None:
    the size of the model); ending : why it ended
    """
    record = {
        "cycle": cycle, "noise": robust_noise(residual), "peak": float(np.abs(residual).max()),
        "flux": float(model.total_flux.mean()),
        "components": int(model.size) if components is None else components,
    }
    monitor.message(
        f"{job.name}: cycle {cycle}: noise {1e3 * record['noise']:.3g} mJy/beam, largest residual "
        f"{1e3 * record['peak']:.3g} mJy/beam, model {record['flux']:.4g} Jy in "
        f"{model.size} components{f' ({ending})' if ending else ''}"
    )
    return record


def _figures(writer, picture, peak: float, noise: float, cycles) -> ImageResult:
    return ImageResult(
        name=writer.job.name, noise=noise, peak=peak,
        model_flux=float(picture.model.total_flux.mean()), beam_arcsec=beam_arcsec(writer.beam),
        products=tuple(writer.written),
        details={"cycles": cycles, "model_pixels": int(picture.model.size)},
    )


def facet_outlines(facets, phase_centre) -> list[FacetOutline]:
    """Cells of the directions on the sky; directions that own no pixel are left out."""
    centres = {f.dir_index: (f.l_dir, f.m_dir) for f in facets.facets}
    out = []
    for index, polygon in enumerate(facets.polygons):
        if index not in centres or len(polygon) < 3:
            continue
        ra, dec = lm_to_radec(polygon[:, 0], polygon[:, 1], *phase_centre)
        centre = tuple(float(v) for v in lm_to_radec(*centres[index], *phase_centre))
        out.append(FacetOutline(f"S{index}", centre, np.stack([ra, dec], axis=1)))
    return out


def middle_facet(facets) -> int:
    """Index of the facet whose centre is nearest to the phase centre."""
    return int(np.argmin([np.hypot(f.l0, f.m0) for f in facets.facets]))


def _centred(psf: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """A PSF patch in the middle of an image of `shape`."""
    out = np.zeros(shape, np.float32)
    n = min(psf.shape[0], *shape)
    cut = (psf.shape[0] - n) // 2
    y, x = shape[0] // 2 - n // 2, shape[1] // 2 - n // 2
    out[y : y + n, x : x + n] = psf[cut : cut + n, cut : cut + n]
    return out
