"""Single planes of FITS images on the disk, read and written in pieces of bounded size.

Each access maps the file anew and lets go of it: pages of a map that stays open count as memory
of the process, and those of many large images would add up.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ddfpipe.data.images import STOKES_CODE, image_layout
from ddfpipe.errors import ImagingError, ResourceError
from ddfpipe.units import DEGREE

if TYPE_CHECKING:
    from astropy.io.fits import Header
    from astropy.wcs import WCS

_BLOCK = 2880


@dataclass(frozen=True)
class Plane:
    """One plane (ny, nx) of a FITS image on the disk, of any celestial projection."""

    path: Path
    header: Header
    shape: tuple[int, int]
    dtype: str
    offset: int

    def read(self, rows: slice = slice(None), columns: slice = slice(None)) -> np.ndarray:
        """Copy of a part (y, x) as float32 in native byte order."""
        return np.array(self._map("r")[rows, columns], dtype=np.float32)

    def sample(self, step: int) -> np.ndarray:
        """Every `step`-th pixel along both axes, float32."""
        return np.array(self._map("r")[::step, ::step], dtype=np.float32)

    def write(self, rows: slice, columns: slice, values: np.ndarray) -> None:
        """Put values (y, x) into the file."""
        self._map("r+")[rows, columns] = values

    def _map(self, mode: str) -> np.ndarray:
        return np.memmap(self.path, self.dtype, mode, self.offset, self.shape)

    def wcs(self) -> WCS:
        """A new two-dimensional celestial WCS; astropy's are not safe to share among threads."""
        return celestial(self.header, self.path)

    @property
    def beam(self) -> tuple[float, float, float] | None:
        """Major, minor FWHM and position angle, radians; None if the header has no beam."""
        if "BMAJ" not in self.header or "BMIN" not in self.header:
            return None
        return tuple(float(self.header.get(k, 0.0)) * DEGREE for k in ("BMAJ", "BMIN", "BPA"))

    @property
    def frequency(self) -> float | None:
        """Hz: that of the frequency axis, else the rest frequency."""
        for axis in range(3, self.header["NAXIS"] + 1):
            if str(self.header.get(f"CTYPE{axis}", "")).upper().startswith("FREQ"):
                return float(self.header[f"CRVAL{axis}"])
        found = self.header.get("RESTFRQ", self.header.get("RESTFREQ"))
        return None if found is None else float(found)


def celestial(header: Header, path: Path | str) -> WCS:
    """Celestial part of a header; ImagingError unless axes 1 and 2 are longitude and latitude."""
    from astropy.wcs import WCS

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of dates and units that astropy mends
        try:
            wcs = WCS(header)
        except Exception as err:  # wcslib's errors have no common base class
            raise ImagingError(f"{path}: the sky coordinates cannot be read ({err}).") from err
    if (wcs.wcs.lng, wcs.wcs.lat) != (0, 1):
        raise ImagingError(f"{path}: its first two axes are not sky coordinates.")
    return wcs.celestial


def pixel_scale(wcs: WCS) -> float:
    """Side of a pixel in radians (geometric mean)."""
    return float(np.sqrt(np.abs(np.linalg.det(wcs.pixel_scale_matrix)))) * DEGREE


def open_plane(path: Path | str, stokes: str = "I") -> Plane:
    """Open the plane of a Stokes parameter, first frequency.

    An image without that parameter on its STOKES axis gives its only plane, or of two the second
    for V, as DDFacet writes it.  Raises ImagingError as `image_layout` does, or when there is no
    such plane.
    """
    header, offset, dtype, shape = image_layout(path)
    plane = shape[-2:]
    index = stride = 0
    for axis in range(3, len(shape) + 1):
        if str(header.get(f"CTYPE{axis}", "")).upper().startswith("STOKES"):
            index = _stokes_index(header, axis, stokes, path)
            stride = int(np.prod(shape[::-1][2:axis - 1], dtype=int))
    offset += index * stride * int(np.prod(plane)) * np.dtype(dtype).itemsize
    return Plane(Path(path), header, plane, dtype, offset)


def _stokes_index(header: Header, axis: int, stokes: str, path: Path | str) -> int:
    count = header[f"NAXIS{axis}"]
    first, step = header.get(f"CRVAL{axis}", 1.0), header.get(f"CDELT{axis}", 1.0)
    codes = [first + step * (i + 1 - header.get(f"CRPIX{axis}", 1.0)) for i in range(count)]
    if STOKES_CODE[stokes] in codes:
        return codes.index(STOKES_CODE[stokes])
    if count == 1:
        return 0
    if stokes == "V" and count == 2:
        return 1
    raise ImagingError(f"{path}: none of its {count} Stokes planes is {stokes}.")


def create_plane(path: Path, header: Header, dtype: str = ">f4") -> Plane:
    """New two-dimensional image of zeros with the disk space set aside.

    header: with NAXIS1 and NAXIS2; SIMPLE, BITPIX and NAXIS are set here.  dtype: ">f4" or ">i2".
    Raises ResourceError when the disk is full or not writable.
    """
    from astropy.io import fits

    full = fits.Header()
    full["SIMPLE"] = (True, "FITS standard")
    full["BITPIX"] = {">f4": -32, ">i2": 16}[dtype]
    axes = [k for k in header if k.startswith("NAXIS")]
    full["NAXIS"] = header.get("NAXIS", 2)
    for key in sorted(k for k in axes if k != "NAXIS"):
        full[key] = header[key]
    full.extend([c for c in header.cards if c.keyword not in ("SIMPLE", "BITPIX", "END", *axes)],
                update=False)
    shape = int(full["NAXIS2"]), int(full["NAXIS1"])
    text = full.tostring().encode("ascii")
    size = len(text) + shape[0] * shape[1] * np.dtype(dtype).itemsize
    try:
        with open(path, "wb") as out:
            out.write(text)
            # Without room on the disk a write through the map would kill the process.
            os.posix_fallocate(out.fileno(), 0, size + -size % _BLOCK)
    except OSError as err:
        raise ResourceError(f"{path}: cannot be written ({err.strerror}); {size / 1e9:.2f} GB are "
                            "needed: make room or choose another directory.") from err
    return Plane(path, full, shape, dtype, len(text))


def tiles(shape: tuple[int, int], size: int) -> Iterator[tuple[slice, slice]]:
    """Cut (ny, nx) into squares of at most `size` pixels a side, row by row."""
    for y in range(0, shape[0], size):
        for x in range(0, shape[1], size):
            yield slice(y, min(y + size, shape[0])), slice(x, min(x + size, shape[1]))


def widened(part: slice, size: int, by: int) -> slice:
    """`part` with `by` more pixels on both sides, within 0..size."""
    return slice(max(0, part.start - by), min(size, part.stop + by))
