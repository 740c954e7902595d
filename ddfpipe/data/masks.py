"""External clean masks: from a catalogue, ds9 regions and FITS masks, on the image's own grid."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from ddfpipe.data.catalogues import Catalogue
from ddfpipe.data.images import SkyGrid, read_image, write_image
from ddfpipe.data.regions import region_mask
from ddfpipe.errors import ImagingError, SkyModelError
from ddfpipe.units import ARCSEC

_ROWS = 256


def write_mask(path: Path | str, mask: np.ndarray, grid: SkyGrid, *, freq: float,
               history: Iterable[str] = ()) -> Path:
    """Write a mask (ny, nx) as a FITS image of zeros and ones."""
    return write_image(path, np.asarray(mask) != 0, grid, freq=freq, unit="", history=history)


def read_mask(path: Path | str, grid: SkyGrid, *, reproject: bool = True) -> np.ndarray:
    """(ny, nx) bool mask on `grid` from a FITS image; true where it is not zero and not NaN.

    A mask on another grid is looked up at the nearest of its pixels (false outside it), or, with
    `reproject` false, refused with an ImagingError that names the difference.
    """
    path = Path(path)
    try:
        image = read_image(path)
    except ImagingError:
        if not path.is_file():
            raise
        image = None
    if image is not None and image.grid.same(grid):
        plane = image.plane()
        return (plane != 0.0) & np.isfinite(plane)
    if not reproject:
        what = "another projection" if image is None else (
            f"{image.grid.nx} x {image.grid.ny} pixels of {image.grid.cell / ARCSEC:.3f} arcsec")
        raise ImagingError(
            f"{path}: the mask has {what}, the image {grid.nx} x {grid.ny} pixels of "
            f"{grid.cell / ARCSEC:.3f} arcsec or another centre; regrid the mask."
        )
    return _nearest(path, grid)


def _nearest(path: Path, grid: SkyGrid) -> np.ndarray:
    """Look a mask of any projection up at the pixels of `grid`."""
    from astropy.io import fits
    from astropy.wcs import WCS

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with fits.open(path, memmap=True) as hdus:
                wcs = WCS(hdus[0].header).celestial
                data = hdus[0].data
                while data.ndim > 2:
                    data = data[0]
                source = (data != 0) & np.isfinite(data)
    except (OSError, TypeError, ValueError, AttributeError) as err:
        raise ImagingError(f"{path}: not a readable FITS mask ({err}).") from err
    out = np.zeros(grid.shape, bool)
    for y0 in range(0, grid.ny, _ROWS):
        y, x = np.mgrid[y0:min(y0 + _ROWS, grid.ny), 0:grid.nx]
        ra, dec = grid.radec(*grid.lm(y, x))
        px, py = wcs.all_world2pix(np.degrees(ra), np.degrees(dec), 0)
        ok = np.isfinite(px) & np.isfinite(py)
        px, py = np.rint(np.where(ok, px, -1)), np.rint(np.where(ok, py, -1))
        ok &= (px >= 0) & (py >= 0) & (px < source.shape[1]) & (py < source.shape[0])
        out[y[ok], x[ok]] = source[py[ok].astype(int), px[ok].astype(int)]
    return out


def catalogue_mask(
    grid: SkyGrid,
    catalogue: Catalogue,
    *,
    min_peak: float,
    radius: float,
    extended: bool = False,
    pointlike: float = 0.0,
) -> np.ndarray:
    """(ny, nx) bool: a disc on every source brighter than `min_peak` Jy/beam inside the grid.

    radius: pixels.  extended: sources with a major axis above `pointlike` radians get an ellipse of
    diameters Maj + 2 radius and Min + 2 radius at their position angle instead.
    Raises SkyModelError when no source of the whole catalogue is bright enough.
    """
    bright = catalogue.select(catalogue.peak > min_peak)
    if bright.ra.size == 0:
        raise SkyModelError(
            f"catalogue mask: none of {catalogue.ra.size} sources is above {min_peak:.3g} Jy/beam; "
            "lower tgss_flux or check the catalogue's units."
        )
    y, x = grid.pixel_of(bright.ra, bright.dec)
    inside = grid.inside(y, x)
    bright, y, x = bright.select(inside), y[inside], x[inside]
    wide = (bright.major > pointlike) if extended else np.zeros(y.size, bool)
    out = np.zeros(grid.shape, bool)
    for i in range(y.size):
        axes = (radius, radius, 0.0)
        if wide[i]:
            axes = (0.5 * bright.major[i] / grid.cell + radius,
                    0.5 * bright.minor[i] / grid.cell + radius, bright.pa[i])
        _paint_ellipse(out, y[i], x[i], *axes)
    return out


def _paint_ellipse(mask, y, x, semi_major, semi_minor, angle) -> None:
    """Set pixels within an ellipse (pixels; angle from +y towards -x, north through east)."""
    ny, nx = mask.shape
    reach = max(semi_major, semi_minor)
    y0, y1 = max(0, math.floor(y - reach)), min(ny, math.ceil(y + reach) + 1)
    x0, x1 = max(0, math.floor(x - reach)), min(nx, math.ceil(x + reach) + 1)
    dy, dx = np.mgrid[y0:y1, x0:x1].astype(float)
    dy -= y
    dx -= x
    along = dy * math.cos(angle) - dx * math.sin(angle)
    across = dy * math.sin(angle) + dx * math.cos(angle)
    small = max(semi_minor, 0.5)
    mask[y0:y1, x0:x1] |= (along / max(semi_major, 0.5)) ** 2 + (across / small) ** 2 <= 1.0


def external_mask(
    grid: SkyGrid,
    *,
    catalogue: np.ndarray | None = None,
    regions: Sequence[Path | str] = (),
    fits_masks: Sequence[Path | str] = (),
    reproject: bool = True,
) -> np.ndarray:
    """(ny, nx) bool: OR of a catalogue mask, ds9 regions and FITS masks (all may be absent)."""
    out = np.zeros(grid.shape, bool)
    if catalogue is not None:
        if catalogue.shape != grid.shape:
            raise ImagingError(f"catalogue mask {catalogue.shape} does not fit {grid.shape}.")
        out |= catalogue
    for path in regions:
        out |= region_mask(path, grid)
    for path in fits_masks:
        out |= read_mask(path, grid, reproject=reproject)
    return out
