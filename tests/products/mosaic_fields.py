"""Images of overlapping pointings of a known sky, as a finished run leaves them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.ndimage import gaussian_filter

from ddfpipe import naming
from ddfpipe.data.images import SkyGrid, write_image
from ddfpipe.data.regions import FacetOutline, write_tessel
from ddfpipe.units import ARCSEC, FWHM_TO_SIGMA

CELL, BEAM = 3 * ARCSEC, 12 * ARCSEC
CENTRES = ((359.9, 45.0), (0.12, 45.01), (0.0, 45.13), (359.97, 44.88))
"""RA, Dec in degrees, on both sides of 0h."""


@dataclass(frozen=True)
class Sky:
    """Point sources: ra, dec in radians, flux in Jy."""

    ra: np.ndarray
    dec: np.ndarray
    flux: np.ndarray


def make_sky(count: int = 40, width: float = 0.3, seed: int = 1) -> Sky:
    """Sources of 0.1 to 1 Jy in a square of `width` degrees about RA 0, Dec 45."""
    rng = np.random.default_rng(seed)
    dec = 45.0 + rng.uniform(-0.5, 0.5, count) * width
    ra = rng.uniform(-0.5, 0.5, count) * width / np.cos(np.radians(dec))
    return Sky(np.radians(ra % 360.0), np.radians(dec), rng.uniform(0.1, 1.0, count))


def render(grid: SkyGrid, sky: Sky, beam: tuple[float, float, float],
           shift: tuple[float, float] = (0.0, 0.0)) -> np.ndarray:
    """(ny, nx) Jy/beam; every source is the beam at its exact place plus `shift` pixels (x, y)."""
    out = np.zeros(grid.shape)
    major, minor = (axis * FWHM_TO_SIGMA / grid.cell for axis in beam[:2])
    reach = int(np.ceil(6 * major))
    for ra, dec, flux in zip(sky.ra, sky.dec, sky.flux):
        y0, x0 = (float(v) for v in grid.pixel_of(ra, dec))
        x0, y0 = x0 + shift[0], y0 + shift[1]
        if not grid.inside(y0, x0):
            continue
        rows = slice(max(0, int(y0) - reach), int(y0) + reach + 1)
        columns = slice(max(0, int(x0) - reach), int(x0) + reach + 1)
        box = out[rows, columns]
        y, x = np.mgrid[rows.start:rows.start + box.shape[0],
                        columns.start:columns.start + box.shape[1]]
        east, north = x0 - x, y - y0
        along = east * np.sin(beam[2]) + north * np.cos(beam[2])
        across = east * np.cos(beam[2]) - north * np.sin(beam[2])
        box += flux * np.exp(-0.5 * ((along / major) ** 2 + (across / minor) ** 2))
    return out


def primary(grid: SkyGrid, fwhm: float) -> np.ndarray:
    """Gaussian primary beam (ny, nx) of `fwhm` radians."""
    y, x = np.mgrid[:grid.ny, :grid.nx]
    radius = np.hypot(y - grid.ny // 2, x - grid.nx // 2) * grid.cell
    return np.exp(-0.5 * (radius / (fwhm * FWHM_TO_SIGMA)) ** 2)


def write_pointing(folder: Path, centre: tuple[float, float], sky: Sky, *, n: int = 300,
                   noise: float = 0.0, beam: tuple[float, float, float] = (BEAM, BEAM, 0.0),
                   cell: float = CELL, root: str = naming.FINAL_IMAGE, seed: int = 0,
                   shift: tuple[float, float] = (0.0, 0.0), factor: float = 1.0,
                   width: float = 0.7, margin: int = 0) -> SkyGrid:
    """Write apparent and intrinsic image of one pointing; returns its grid.

    noise: Jy/beam, correlated over the beam.  shift: pixels that all sources lie off.  factor:
    what the flux scale is wrong by.  width: FWHM of the primary beam in widths of the image.
    margin: blank pixels at the edges.
    """
    folder.mkdir(parents=True, exist_ok=True)
    grid = SkyGrid(np.radians(centre[0]), np.radians(centre[1]), n, n, cell)
    response = primary(grid, width * n * cell)
    apparent = render(grid, sky, beam, shift) * response
    if noise:
        white = np.random.default_rng(seed).normal(size=grid.shape)
        grain = gaussian_filter(white, beam[0] * FWHM_TO_SIGMA / cell, mode="wrap")
        apparent += noise * grain / grain.std()
    else:
        apparent += 1e-9  # an empty sky would leave no trace of the beam
    apparent *= factor
    intrinsic = apparent / response
    if margin:
        for plane in (apparent, intrinsic):
            for edge in (np.s_[:margin], np.s_[-margin:], np.s_[:, :margin], np.s_[:, -margin:]):
                plane[edge] = np.nan
    for kind, plane in (("app_restored", apparent), ("int_restored", intrinsic)):
        write_image(folder / naming.image_product(root, kind), plane, grid, freq=144e6, beam=beam)
    return grid


def write_facets(folder: Path, grid: SkyGrid, columns: int = 2) -> None:
    """A layout of equal vertical stripes, the first in the east, that reaches past the image."""
    edges = np.linspace(-10, grid.nx + 9, columns + 1)
    outlines = []
    for number, (x0, x1) in enumerate(zip(edges[:-1], edges[1:])):
        y, x = np.array([-10, -10, grid.ny + 9, grid.ny + 9.0]), np.array([x0, x1, x1, x0])
        ra, dec = grid.radec(*grid.lm(y, x))
        centre = tuple(float(v) for v in grid.radec(*grid.lm(grid.ny / 2, (x0 + x1) / 2)))
        outlines.append(FacetOutline(f"F{number}", centre, np.stack([ra, dec], axis=1)))
    write_tessel(folder / naming.image_product(naming.FINAL_IMAGE, "tessel"), outlines)


def peak_flux(image: np.ndarray, wcs, ra: float, dec: float) -> float:
    """Peak of a Gaussian at a position in radians; NaN where it is not whole on the image."""
    x, y = wcs.wcs_world2pix([[np.degrees(ra), np.degrees(dec)]], 0)[0]
    x, y = round(x), round(y)
    if min(x, y) < 1:
        return np.nan
    box = image[y - 1:y + 2, x - 1:x + 2]
    if box.shape != (3, 3) or not (box > 0).all():
        return np.nan
    # The logarithm of a Gaussian is a parabola: exact between pixels.
    log = np.log(box)
    value = log[1, 1]
    for low, high in ((log[0, 1], log[2, 1]), (log[1, 0], log[1, 2])):
        curve = low - 2 * log[1, 1] + high
        value -= (high - low) ** 2 / (8 * curve)
    return float(np.exp(value))


def isolated(sky: Sky, apart: float = 5 * BEAM) -> np.ndarray:
    """True for sources with no other nearer than `apart` radians."""
    dra = (sky.ra[:, None] - sky.ra + np.pi) % (2 * np.pi) - np.pi
    far = np.hypot(dra * np.cos(sky.dec), sky.dec[:, None] - sky.dec)
    np.fill_diagonal(far, np.inf)
    return far.min(axis=1) > apart
