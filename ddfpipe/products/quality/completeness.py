"""What fraction of sources is found, and how many found ones are none.

Point sources of known flux are put into the residual image as the restoring beam would show them
(without smearing or phase errors: what noise and side lobes alone do) and searched with the
settings of the catalogue.  False detections are counted in the image turned upside down, whose
noise is as good and which holds no sources.  Both as is usual for surveys (Shimwell et al. 2022,
A&A 659, A1, sect. 3.6).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ddfpipe.data.atomic import remove, temporary_name
from ddfpipe.data.images import FitsImage, read_image, write_image
from ddfpipe.errors import ImagingError
from ddfpipe.products.crossmatch import match
from ddfpipe.products.quality.statistics import SEED, bootstrap_median, finite
from ddfpipe.products.sourcefinding import (
    FinderSettings, NoSourcesFound, central_box, find_sources, scaled_boxes,
)
from ddfpipe.units import DEGREE, FWHM_TO_SIGMA

if TYPE_CHECKING:
    from astropy.table import Table

SPACING_BEAMS = 8.0
"""Injected sources are at least so many beams apart, so that they do not hinder each other."""
REACH_SIGMA = 5.0
SNR_RANGE = (1.5, 40.0)
"""Fluxes are drawn, evenly in the logarithm, between these multiples of the noise."""


@dataclass(frozen=True)
class Injected:
    """Sources put into an image: ra, dec radians; flux Jy (intrinsic); snr: flux over the local
    noise; all (n,)."""

    ra: np.ndarray
    dec: np.ndarray
    flux: np.ndarray
    snr: np.ndarray


def completeness_figures(app: Path, intrinsic: Path, rms: np.ndarray, settings: FinderSettings, *,
                         fraction: float, sources: int, threads: int, folder: Path,
                         monitor: Any = None, bins: int = 12) -> dict:
    """Inject sources into residual images and find them again.

    app, intrinsic: residual images (apparent and beam-corrected).  rms: (ny, nx) noise of the
    beam-corrected image, NaN where nothing was searched.  fraction: central part searched.
    sources: how many are injected at most; the room decides too.  folder: for temporary files.
    Returns {injected, found,
    by_flux: [{low, high (Jy), n, found, completeness, error}], by_snr, flux_50_jy, flux_90_jy,
    snr_50, snr_90, flux_recovery: median of measured over injected flux above 10 sigma}.
    Raises what find_sources raises, ImagingError when there is no room for sources.
    """
    one, two = read_image(app), read_image(intrinsic)
    injected = draw_sources(two, rms, fraction, sources)
    made_app, made_int = (
        temporary_name(folder / f"injected.{kind}.fits") for kind in ("app", "int"))
    box = central_box(two.grid.nx, two.grid.ny, fraction)
    searched = (two.grid.nx, two.grid.ny) if box is None else (box[1] - box[0], box[3] - box[2])
    how = replace(scaled_boxes(settings, *searched), trim_box=box, atrous_do=False)
    try:
        _write_injected(one, two, injected, made_app, made_int)
        table = find_sources(made_app, made_int, how, threads=threads, monitor=monitor)
    except NoSourcesFound:
        table = None
    finally:
        remove(made_app)
        remove(made_int)
    return recovery(injected, table, two.beam[0], bins)


def draw_sources(image: FitsImage, rms: np.ndarray, fraction: float, sources: int,
                 seed: int = SEED) -> Injected:
    """Positions on a grid shaken by a beam, and fluxes evenly spread in the logarithm.

    rms: (ny, nx) Jy/beam, NaN outside.  Raises ImagingError for fewer than 20 places.
    """
    grid, rng = image.grid, np.random.default_rng(seed)
    beam = image.beam[0] / grid.cell
    step = SPACING_BEAMS * beam
    x0, x1, y0, y1 = central_box(grid.nx, grid.ny, fraction) or (0, grid.nx, 0, grid.ny)
    edge = REACH_SIGMA * beam * FWHM_TO_SIGMA + beam
    rows = np.arange(y0 + edge, y1 - edge, step)
    columns = np.arange(x0 + edge, x1 - edge, step)
    places = np.stack(np.meshgrid(rows, columns, indexing="ij"), axis=-1).reshape(-1, 2)
    places = places + rng.uniform(-beam, beam, places.shape)
    noise = rms[np.rint(places[:, 0]).astype(int), np.rint(places[:, 1]).astype(int)] if len(
        places) else np.zeros(0)
    good = np.flatnonzero(np.isfinite(noise) & (noise > 0.0))
    if good.size < 20:
        raise ImagingError(f"{image.path}: room for {good.size} injected sources only, 20 are "
                           "needed; the image is too small for a test of completeness.")
    chosen = np.sort(rng.permutation(good)[:sources])
    low, high = np.log(SNR_RANGE)
    typical = float(np.median(noise[chosen]))
    flux = typical * np.exp(rng.uniform(low, high, chosen.size))
    ra, dec = grid.radec(*grid.lm(places[chosen, 0], places[chosen, 1]))
    return Injected(ra, dec, flux, flux / noise[chosen])


def _write_injected(app: FitsImage, intrinsic: FitsImage, injected: Injected, to_app: Path,
                    to_int: Path) -> None:
    """Write both residual images with the sources added."""
    grid = intrinsic.grid
    one, two = app.plane(), intrinsic.plane()
    response = response_at(one, two, *grid.pixel_of(injected.ra, injected.dec))
    for image, plane, flux, path in ((app, one, injected.flux * response, to_app),
                                     (intrinsic, two, injected.flux, to_int)):
        add_beams(plane, *grid.pixel_of(injected.ra, injected.dec), flux,
                  intrinsic.beam, grid.cell)
        freq = image.freq[:1] if image.freq.size else [150e6]
        write_image(path, plane, grid, freq=freq, beam=intrinsic.beam)


def response_at(app: np.ndarray, intrinsic: np.ndarray, y: np.ndarray, x: np.ndarray,
                reach: int = 2) -> np.ndarray:
    """(n,) apparent over intrinsic flux at pixels, the median of a few pixels around each."""
    result = np.ones(np.shape(y))
    for k, (row, column) in enumerate(zip(np.rint(y).astype(int), np.rint(x).astype(int))):
        part = (slice(max(0, row - reach), row + reach + 1),
                slice(max(0, column - reach), column + reach + 1))
        one, two = app[part].astype(float), intrinsic[part].astype(float)
        use = np.isfinite(one) & np.isfinite(two) & (two != 0.0)
        if use.any():
            result[k] = np.median(one[use] / two[use])
    return result


def add_beams(plane: np.ndarray, y: np.ndarray, x: np.ndarray, peak: np.ndarray,
              beam: tuple[float, float, float], cell: float) -> None:
    """Add elliptical Gaussians of `peak` (n,) at pixels (y, x) to `plane`, in place.

    beam: FWHM major, minor and position angle (from north through east), radians.
    """
    major, minor = (v * FWHM_TO_SIGMA / cell for v in beam[:2])
    sin, cos = math.sin(beam[2]), math.cos(beam[2])
    reach = math.ceil(REACH_SIGMA * major)
    for row, column, height in zip(y, x, peak):
        y0, x0 = round(float(row)), round(float(column))
        rows = slice(max(0, y0 - reach), min(plane.shape[0], y0 + reach + 1))
        columns = slice(max(0, x0 - reach), min(plane.shape[1], x0 + reach + 1))
        dy = np.arange(rows.start, rows.stop)[:, None] - row
        dx = np.arange(columns.start, columns.stop)[None, :] - column
        # East is towards lower x.
        along, across = dy * cos - dx * sin, dy * sin + dx * cos
        plane[rows, columns] += height * np.exp(
            -0.5 * ((along / major) ** 2 + (across / minor) ** 2))


def recovery(injected: Injected, table: Table | None, beam: float, bins: int = 12) -> dict:
    """Figures of what was found of injected sources; see `completeness_figures`.

    A source counts as found if a catalogued one lies within one beam of its place with a flux
    that is right within a factor of three, so that other sources nearby do not count.
    """
    found = np.zeros(injected.flux.size, bool)
    measured = np.full(injected.flux.size, np.nan)
    if table is not None:
        pairs = match(injected.ra, injected.dec, np.asarray(table["RA"]) * DEGREE,
                      np.asarray(table["DEC"]) * DEGREE, beam)
        flux = np.asarray(table["Total_flux"], float)[pairs.second]
        right = np.abs(np.log(np.maximum(flux, 1e-30) / injected.flux[pairs.first])) < math.log(3)
        found[pairs.first[right]] = True
        measured[pairs.first[right]] = flux[right]
    result: dict = {"injected": int(found.size), "found": int(found.sum())}
    for name, value in (("flux", injected.flux), ("snr", injected.snr)):
        result[f"by_{name}"] = _fractions(value, found, bins)
        half, most = levels(value, found)
        result[f"{name}_50" + ("_jy" if name == "flux" else "")] = finite(half)
        result[f"{name}_90" + ("_jy" if name == "flux" else "")] = finite(most)
    bright = found & (injected.snr >= 10.0)
    ratio = measured[bright] / injected.flux[bright]
    result["flux_recovery"] = bootstrap_median(ratio).plain()
    return result


def _fractions(value: np.ndarray, found: np.ndarray, bins: int) -> list[dict]:
    edges = np.geomspace(value.min(), value.max() * 1.0001, bins + 1)
    rows = []
    for low, high in zip(edges[:-1], edges[1:]):
        inside = (value >= low) & (value < high)
        n, hits = int(inside.sum()), int(found[inside].sum())
        if n:
            # Standard deviation of a beta distribution: not zero for none or all found.
            share = (hits + 1) / (n + 2)
            rows.append({"low": float(low), "high": float(high), "n": n, "found": hits,
                         "completeness": hits / n,
                         "error": math.sqrt(share * (1 - share) / (n + 3))})
    return rows


def levels(value: np.ndarray, found: np.ndarray) -> tuple[float, float]:
    """Values at which 50 % and 90 % are found, from a fit of a rising curve to every source.

    The curve is Phi((log value - a) / b) with the Gaussian distribution function Phi, fitted by
    greatest likelihood; NaN where not even half or not nearly all are found.
    """
    from scipy.optimize import minimize
    from scipy.special import ndtr, ndtri

    if not 0.0 < found.mean() < 1.0:
        return math.nan, math.nan
    logs = np.log(value)

    def loss(p: np.ndarray) -> float:
        chance = np.clip(ndtr((logs - p[0]) / math.exp(p[1])), 1e-3, 1.0 - 1e-3)
        return -float(np.sum(np.where(found, np.log(chance), np.log1p(-chance))))

    start = np.array([float(np.median(logs)), math.log(0.3)])
    best = minimize(loss, start, method="Nelder-Mead", options={"xatol": 1e-4, "fatol": 1e-4})
    half, most = best.x[0], best.x[0] + math.exp(best.x[1]) * float(ndtri(0.9))
    top = logs.max()
    return (math.exp(half) if half <= top else math.nan,
            math.exp(most) if most <= top else math.nan)


def false_figures(app: Path, intrinsic: Path, table: Table, settings: FinderSettings, *,
                  fraction: float, threads: int, folder: Path, monitor: Any = None) -> dict:
    """Sources of the image turned upside down against those of the image.

    table: the catalogue.  folder: for temporary files.  Returns {negative, positive, fraction,
    by_snr: [{low, high, negative, positive}]}.
    """
    one, two = read_image(app), read_image(intrinsic)
    paths = [temporary_name(folder / f"negative.{kind}.fits") for kind in ("app", "int")]
    box = central_box(two.grid.nx, two.grid.ny, fraction)
    searched = (two.grid.nx, two.grid.ny) if box is None else (box[1] - box[0], box[3] - box[2])
    how = replace(scaled_boxes(settings, *searched), trim_box=box)
    try:
        for image, path in zip((one, two), paths):
            freq = image.freq[:1] if image.freq.size else [150e6]
            write_image(path, -image.plane(), image.grid, freq=freq, beam=image.beam)
        negative = find_sources(*paths, how, threads=threads, monitor=monitor)
        peaks = _snr(negative)
    except NoSourcesFound:
        peaks = np.zeros(0)
    finally:
        for path in paths:
            remove(path)
    positive = _snr(table)
    # Detected above the threshold in apparent flux, a source may be measured below it.
    edges = np.array([settings.thresh_pix, 5.5, 6.0, 7.0, 10.0, 20.0, 50.0, np.inf])
    edges = np.unique(np.append(edges[edges >= settings.thresh_pix], 0.0))
    rows = [{"low": float(low), "high": finite(high),
             "negative": int(((peaks >= low) & (peaks < high)).sum()),
             "positive": int(((positive >= low) & (positive < high)).sum())}
            for low, high in zip(edges[:-1], edges[1:])]
    return {"negative": int(peaks.size), "positive": int(positive.size),
            "fraction": finite(peaks.size / positive.size) if positive.size else None,
            "by_snr": rows}


def _snr(table: Table) -> np.ndarray:
    return np.asarray(table["Peak_flux"], float) / np.asarray(table["Isl_rms"], float)
