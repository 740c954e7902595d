"""Noise of an image, and how far artefacts of bright sources stand out of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ddfpipe.data.images import FitsImage, read_image
from ddfpipe.data.regions import FacetOutline
from ddfpipe.imaging.noise import local_noise, robust_noise
from ddfpipe.products.crossmatch import isolated
from ddfpipe.products.quality.facets import facet_map
from ddfpipe.products.quality.statistics import finite
from ddfpipe.units import ARCSEC, DEGREE

MAP_PIXELS = 600
"""Longest side of the map of the noise."""
MIN_FACET_PIXELS = 200
CORE_BEAMS = 1.5
"""Radius around a bright source, in beams, that belongs to the source itself."""
FEW = 10
"""So many of the brightest sources are looked at if none reaches the flux asked for."""
BRIGHT_SIGMA = 100.0


def noise_figures(app: Path, facets: list[FacetOutline], *, central_pixels: int, box: int,
                  threads: int) -> tuple[dict, np.ndarray]:
    """Noise of the apparent image: figures, and a coarse map (y, x) in Jy/beam.

    central_pixels: side of the central square whose noise is `central`.  box: pixels, window of
    the map.  By facet: the noise of all its pixels.
    """
    image = read_image(app)
    plane = image.plane()
    ny, nx = plane.shape
    half = min(central_pixels, nx, ny) // 2
    middle = plane[ny // 2 - half:ny // 2 + half, nx // 2 - half:nx // 2 + half]
    smooth, _ = local_noise(plane, (max(8, min(box, nx, ny)), 2), threads)
    step = max(1, -(-max(plane.shape) // MAP_PIXELS))
    shown = smooth[step // 2::step, step // 2::step]
    valid = np.isfinite(plane) & (plane != 0.0)
    levels = np.percentile(smooth[valid], (5, 50, 95)) if valid.any() else np.full(3, np.nan)
    by_facet = _noise_by_facet(plane, facets, image)
    figures = {
        "central_jy": finite(robust_noise(middle)),
        "whole_jy": finite(robust_noise(plane)),
        "percentiles_jy": {str(p): finite(v) for p, v in zip((5, 50, 95), levels)},
        "facets": by_facet,
    }
    return figures, shown


def _noise_by_facet(plane: np.ndarray, facets: list[FacetOutline], image: FitsImage) -> list[dict]:
    """[{facet, label, noise_jy}] for the facets that the image holds enough of."""
    if not facets:
        return []
    step = max(1, min(plane.shape) // 1000)
    number = facet_map(facets, image.grid, step)
    full = np.repeat(np.repeat(number, step, axis=0), step, axis=1)
    part = plane[:full.shape[0], :full.shape[1]]
    order = np.argsort(full, axis=None, kind="stable")
    counts = np.bincount(full.ravel() + 1, minlength=len(facets) + 1)
    groups = np.split(part.ravel()[order], np.cumsum(counts)[:-1])[1:]
    return [
        {"facet": k, "label": facets[k].label, "noise_jy": finite(robust_noise(values))}
        for k, values in enumerate(groups) if values.size >= MIN_FACET_PIXELS
    ]


def dynamic_range(app: Path, table, *, min_peak: float, box_arcsec: float, max_size: float,
                  isolation: float) -> dict:
    """How far the image around bright sources is from clean.

    table: catalogue.  Used are compact sources (deconvolved FWHM up to `max_size` rad) with no
    other within `isolation` rad that have an apparent peak of `min_peak` Jy/beam or more; if none
    does, the brightest few above 100 sigma.  For each the peak is divided by the largest absolute
    pixel in a square of `box_arcsec` around it, its own core (1.5 beams) left out.  Returns
    {median, n, threshold_jy, sources: [{ra_deg, dec_deg, peak_jy, range}]}.
    """
    image = read_image(app)
    plane = image.plane()
    ra, dec = (np.asarray(table[n], float) * DEGREE for n in ("RA", "DEC"))
    y, x = image.grid.pixel_of(ra, dec)
    alone = isolated(ra, dec, isolation) & (np.asarray(table["DC_Maj"]) * DEGREE <= max_size)
    half = max(2, round(0.5 * box_arcsec * ARCSEC / image.grid.cell))
    core = CORE_BEAMS * image.beam[0] / image.grid.cell
    rows = []
    for k in np.flatnonzero(alone & image.grid.inside(y, x)):
        peak, rest = _around(plane, y[k], x[k], half, core)
        if np.isfinite(peak) and rest > 0.0:
            rows.append({"ra_deg": float(table["RA"][k]), "dec_deg": float(table["DEC"][k]),
                         "peak_jy": peak, "range": peak / rest})
    rows.sort(key=lambda row: -row["peak_jy"])
    used, threshold = [row for row in rows if row["peak_jy"] >= min_peak], min_peak
    if not used:
        floor = BRIGHT_SIGMA * robust_noise(plane)
        used = [row for row in rows if row["peak_jy"] >= floor][:FEW]
        threshold = used[-1]["peak_jy"] if used else min_peak
    median = float(np.median([row["range"] for row in used])) if used else None
    return {"median": median, "n": len(used), "threshold_jy": threshold, "sources": used}


def _around(plane: np.ndarray, y: float, x: float, half: int, core: float) -> tuple[float, float]:
    """(peak within the core, largest absolute pixel of the square outside of it), NaN at edges."""
    row, column = round(y), round(x)
    if not (half <= row < plane.shape[0] - half and half <= column < plane.shape[1] - half):
        return np.nan, np.nan
    patch = plane[row - half:row + half + 1, column - half:column + half + 1]
    rows, columns = np.mgrid[row - half:row + half + 1, column - half:column + half + 1]
    inside = (rows - y) ** 2 + (columns - x) ** 2 <= core ** 2
    if not np.isfinite(patch).all() or inside.all():
        return np.nan, np.nan
    return float(patch[inside].max()), float(np.abs(patch[~inside]).max())
