"""The grid of a mosaic: chosen around the images, asked for, or taken from a FITS file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ddfpipe.data.atomic import atomic_write_text
from ddfpipe.data.images import image_layout
from ddfpipe.errors import ConfigError, DataError
from ddfpipe.products.mosaic.options import MosaicOptions
from ddfpipe.products.mosaic.pointing import Pointing
from ddfpipe.products.planes import celestial, pixel_scale
from ddfpipe.units import ARCSEC, DEGREE

if TYPE_CHECKING:
    from astropy.io.fits import Header
    from astropy.wcs import WCS

_ROUNDS = 4
_SAMPLES = 17
"""Positions along each side of a piece that tell where it lies in an image."""


@dataclass(frozen=True)
class Layout:
    """Grid of a mosaic: a two-dimensional celestial header with NAXIS1 and NAXIS2."""

    header: Header

    @property
    def shape(self) -> tuple[int, int]:
        """(ny, nx)."""
        return int(self.header["NAXIS2"]), int(self.header["NAXIS1"])

    def wcs(self, rows: slice = slice(0), columns: slice = slice(0)) -> WCS:
        """A new WCS whose pixel (0, 0) is the first one of `rows` and `columns`."""
        wcs = celestial(self.header, "layout of the mosaic")
        wcs.wcs.crpix -= [columns.start or 0, rows.start or 0]
        return wcs

    @property
    def pixel(self) -> float:
        """Side of a pixel, radians."""
        return pixel_scale(self.wcs())

    def write(self, path: Path) -> None:
        """Write the header as text, a card a line."""
        atomic_write_text(path, self.header.tostring(sep="\n", endcard=True, padding=False) + "\n")

    def same(self, other: Layout) -> bool:
        """Whether both have the same pixels (to 1e-3 of one)."""
        if self.shape != other.shape:
            return False
        ny, nx = self.shape
        x, y = np.array([0.0, nx - 1, nx / 2]), np.array([0.0, ny - 1, ny / 2])
        moved = place(self.wcs(), other.wcs(), x, y)
        return bool(np.nanmax(np.hypot(moved[0] - x, moved[1] - y), initial=0.0) < 1e-3)


def place(source: WCS, target: WCS, x, y) -> tuple[np.ndarray, np.ndarray]:
    """Pixels (x, y) of `source` as pixels of `target`; NaN where there are none."""
    from astropy.wcs.utils import pixel_to_pixel

    x, y = pixel_to_pixel(source, target, np.asarray(x, float), np.asarray(y, float))
    return np.asarray(x), np.asarray(y)


def choose_layout(pointings: Sequence[Pointing], options: MosaicOptions,
                  stored: Path) -> Layout:
    """The grid that the options ask for; without any, just around all that has weight.

    Then it has the projection, pixels and frame of the first image, and its tangent point in the
    middle.  stored: where an earlier layout lies, for `load_layout`.
    Raises ConfigError or DataError when there is no such grid.
    """
    if options.load_layout:
        return read_layout(stored)
    if options.header is not None:
        return template_layout(options.header)
    first = pointings[0].intrinsic.wcs()
    pixel = (options.pixel or pixel_scale(first) / ARCSEC) * ARCSEC
    code = options.projection or str(first.wcs.ctype[0])[-3:]
    wcs = _new_wcs(code, pixel, first)
    centre = options.centre
    if centre is None:
        centre = _middle([p.intrinsic.wcs() for p in pointings])
    wcs.wcs.crval = centre
    size = options.size
    if size is None or options.centre is None:
        low, high = _extent(wcs, pointings)
        for _ in range(0 if options.centre else _ROUNDS):
            wcs.wcs.crval = wcs.wcs_pix2world([(low + high) / 2], 0)[0]
            low, high = _extent(wcs, pointings)
        size = size or tuple(int(n) for n in 2 * np.ceil(np.maximum(-low, high)) + 2)
    wcs.wcs.crpix = [n // 2 + 1 for n in size]
    return _layout(wcs, size)


def _new_wcs(code: str, pixel: float, like: WCS) -> WCS:
    from astropy.wcs import WCS

    wcs = WCS(naxis=2)
    prefix = "RA--", "DEC-"
    if str(like.wcs.ctype[0]).startswith("GLON"):
        prefix = "GLON", "GLAT"
    wcs.wcs.ctype = [f"{p}-{code}" for p in prefix]
    wcs.wcs.cunit = ["deg", "deg"]
    wcs.wcs.cdelt = [-pixel / DEGREE, pixel / DEGREE]
    wcs.wcs.crpix = [1.0, 1.0]
    if like.wcs.radesys:
        wcs.wcs.radesys = like.wcs.radesys
    if np.isfinite(like.wcs.equinox):
        wcs.wcs.equinox = like.wcs.equinox
    return wcs


def _middle(images: Sequence[WCS]) -> tuple[float, float]:
    """Mean direction of the reference positions, degrees: safe across 0h and at the pole."""
    ra, dec = np.radians([w.wcs.crval for w in images]).T
    x, y, z = np.mean([np.cos(dec) * np.cos(ra), np.cos(dec) * np.sin(ra), np.sin(dec)], axis=1)
    return float(np.degrees(np.arctan2(y, x)) % 360.0), float(np.degrees(
        np.arctan2(z, np.hypot(x, y))))


def _extent(wcs: WCS, pointings: Sequence[Pointing]) -> tuple[np.ndarray, np.ndarray]:
    """Lowest and highest pixel (x, y) of all that has weight, counted from the tangent point."""
    points = []
    for pointing in pointings:
        found = np.column_stack(place(pointing.intrinsic.wcs(), wcs, *pointing.outline().T))
        points.append(found[np.isfinite(found).all(axis=1)])
    if not sum(map(len, points)):
        raise ConfigError("--centre: none of the images can be seen in this projection about it")
    points = np.concatenate(points)
    return points.min(axis=0), points.max(axis=0)


def _layout(wcs: WCS, size: Sequence[int]) -> Layout:
    header = wcs.to_header()
    for key in ("MJDREF", "DATE-OBS", "MJD-OBS"):
        header.remove(key, ignore_missing=True)
    header["NAXIS"], header["NAXIS1"], header["NAXIS2"] = 2, int(size[0]), int(size[1])
    return Layout(header)


def template_layout(path: Path) -> Layout:
    """The grid of a FITS image; ImagingError if it cannot be read."""
    header, _, _, shape = image_layout(path)
    return _layout(celestial(header, path), shape[:-3:-1])


def read_layout(path: Path) -> Layout:
    """A layout that `Layout.write` wrote; DataError when it is missing or damaged."""
    from astropy.io import fits

    if not path.is_file():
        old = path.with_suffix(".pickle")
        hint = f"; {old.name} is not opened, since a pickle may run any code: hand a FITS image " \
            "of that layout to --header" if old.is_file() else "; make a mosaic without " \
            "--load_layout first"
        raise DataError(f"{path}: there is no such layout{hint}.")
    try:
        header = fits.Header.fromstring(path.read_text(encoding="ascii"), sep="\n")
        return _layout(celestial(header, path), (header["NAXIS1"], header["NAXIS2"]))
    except (ValueError, KeyError) as err:
        raise DataError(f"{path}: not the text of a FITS header ({err}); delete it and make the "
                        "mosaic without --load_layout.") from err


def cutout_of(layout: Layout, rows: slice, columns: slice, image: WCS, shape: tuple[int, int],
              margin: int) -> tuple[slice, slice] | None:
    """Rows and columns of an image that a piece of the mosaic needs; None if it lies outside.

    margin: more pixels on all sides.
    """
    ny, nx = rows.stop - rows.start, columns.stop - columns.start
    for samples in (_SAMPLES, 8 * _SAMPLES):
        y, x = np.meshgrid(np.linspace(-0.5, ny - 0.5, samples),
                           np.linspace(-0.5, nx - 0.5, samples), indexing="ij")
        px, py = place(layout.wcs(rows, columns), image, x.ravel(), y.ravel())
        good = np.isfinite(px) & np.isfinite(py)
        if good.all() or not good.any():
            break  # otherwise the edge of the sky is near, and its place must be found well
    if not good.any():
        return None
    found = []
    for values, size in ((py[good], shape[0]), (px[good], shape[1])):
        low = max(0, int(np.floor(values.min())) - margin)
        high = min(size, int(np.ceil(values.max())) + margin + 1)
        if low >= high:
            return None
        found.append(slice(low, high))
    return found[0], found[1]
