"""FITS images on the common tangent plane: grids, writing, reading, checking.

Axis order in the file is RA, DEC, STOKES, FREQ, that is a numpy array `(band, stokes, y, x)`, the
order of DDFacet, whose products the tools of the LOFAR surveys read as `data[0, 0]`.  Pixels are
32-bit floats.  Files carry no date, so the same image gives the same bytes.

FITS: Pence et al. 2010, A&A 524, A42; celestial coordinates: Calabretta & Greisen 2002, A&A 395,
1077.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ddfpipe.data.atomic import atomic_path
from ddfpipe.errors import ImagingError
from ddfpipe.units import ARCSEC, DEGREE

if TYPE_CHECKING:
    from astropy.io import fits
    from astropy.wcs import WCS

STOKES_CODE = {"I": 1, "Q": 2, "U": 3, "V": 4}
_BLOCK = 2880
_WRITE_ROWS = 256


@dataclass(frozen=True)
class SkyGrid:
    """Pixel grid of an image: SIN projection about (ra, dec), radians, square pixels of `cell` rad.

    Pixel (y, x) has l = -(x - nx//2) cell (east is left), m = (y - ny//2) cell (north is up).
    """

    ra: float
    dec: float
    ny: int
    nx: int
    cell: float

    @property
    def shape(self) -> tuple[int, int]:
        """(ny, nx)."""
        return self.ny, self.nx

    def lm(self, y, x) -> tuple[np.ndarray, np.ndarray]:
        """Direction cosines (l, m) of (fractional, zero-based) pixels."""
        x, y = np.asarray(x, float), np.asarray(y, float)
        return -(x - self.nx // 2) * self.cell, (y - self.ny // 2) * self.cell

    def pixel(self, l, m) -> tuple[np.ndarray, np.ndarray]:  # noqa: E741
        """Fractional zero-based pixels (y, x) of direction cosines."""
        l, m = np.asarray(l, float), np.asarray(m, float)  # noqa: E741
        return m / self.cell + self.ny // 2, self.nx // 2 - l / self.cell

    def radec(self, l, m) -> tuple[np.ndarray, np.ndarray]:  # noqa: E741
        """Right ascension in [0, 2 pi) and declination, radians; NaN beyond the horizon."""
        l, m = np.asarray(l, float), np.asarray(m, float)  # noqa: E741
        with np.errstate(invalid="ignore"):
            n = np.sqrt(1.0 - l * l - m * m)
        sin_dec, cos_dec = math.sin(self.dec), math.cos(self.dec)
        dec = np.arcsin(np.clip(m * cos_dec + n * sin_dec, -1.0, 1.0))
        ra = self.ra + np.arctan2(l, n * cos_dec - m * sin_dec)
        return np.mod(ra, 2.0 * math.pi), dec

    def lm_of(self, ra, dec) -> tuple[np.ndarray, np.ndarray]:
        """Direction cosines of sky positions in radians; NaN more than 90 degrees away."""
        ra, dec = np.asarray(ra, float), np.asarray(dec, float)
        dra = ra - self.ra
        l = np.cos(dec) * np.sin(dra)  # noqa: E741
        m = np.sin(dec) * math.cos(self.dec) - np.cos(dec) * math.sin(self.dec) * np.cos(dra)
        n = np.sin(dec) * math.sin(self.dec) + np.cos(dec) * math.cos(self.dec) * np.cos(dra)
        behind = n <= 0.0
        return np.where(behind, np.nan, l), np.where(behind, np.nan, m)

    def pixel_of(self, ra, dec) -> tuple[np.ndarray, np.ndarray]:
        """Fractional zero-based pixels (y, x) of sky positions in radians."""
        return self.pixel(*self.lm_of(ra, dec))

    def inside(self, y, x) -> np.ndarray:
        """True where the nearest pixel lies on the grid (NaN does not)."""
        y, x = np.asarray(y, float), np.asarray(x, float)
        return (y >= -0.5) & (y < self.ny - 0.5) & (x >= -0.5) & (x < self.nx - 0.5)

    def same(self, other: SkyGrid, tolerance: float = 1e-3) -> bool:
        """Whether the pixels of both grids coincide within `tolerance` pixels everywhere."""
        if self.shape != other.shape:
            return False
        corners_y = np.array([0, 0, self.ny - 1, self.ny - 1, self.ny // 2], float)
        corners_x = np.array([0, self.nx - 1, 0, self.nx - 1, self.nx // 2], float)
        y, x = self.pixel_of(*other.radec(*other.lm(corners_y, corners_x)))
        ok = np.isfinite(y)
        offset = np.hypot(y - corners_y, x - corners_x)[ok]
        # Corners beyond the horizon cannot be compared; then the plain numbers must agree.
        alike = math.isclose(self.cell, other.cell, rel_tol=1e-6)
        return bool(alike and ok[-1] and (offset <= tolerance).all())

    def wcs(self) -> WCS:
        """Two-dimensional celestial WCS of astropy."""
        from astropy.wcs import WCS

        wcs = WCS(naxis=2)
        wcs.wcs.ctype = ["RA---SIN", "DEC--SIN"]
        wcs.wcs.cunit = ["deg", "deg"]
        wcs.wcs.crval = [self.ra / DEGREE, self.dec / DEGREE]
        wcs.wcs.crpix = [self.nx // 2 + 1, self.ny // 2 + 1]
        wcs.wcs.cdelt = [-self.cell / DEGREE, self.cell / DEGREE]
        wcs.wcs.radesys = "FK5"
        wcs.wcs.equinox = 2000.0
        return wcs


@dataclass(frozen=True)
class FitsImage:
    """An open image.  `data` is a read-only memory map (band, stokes, y, x) in file byte order."""

    path: Path
    grid: SkyGrid
    data: np.ndarray
    freq: np.ndarray
    beam: tuple[float, float, float] | None
    unit: str
    header: fits.Header = field(repr=False)

    def plane(self, band: int = 0, stokes: int = 0) -> np.ndarray:
        """(ny, nx) float32 copy of one plane in native byte order."""
        return np.ascontiguousarray(self.data[band, stokes], dtype=np.float32)

    def cube(self, stokes: int = 0) -> np.ndarray:
        """(band, ny, nx) float32 copy in native byte order."""
        return np.ascontiguousarray(self.data[:, stokes], dtype=np.float32)


def image_header(
    grid: SkyGrid,
    *,
    freq: Iterable[float],
    stokes: str = "I",
    beam: tuple[float, float, float] | None = None,
    unit: str = "Jy/beam",
    history: Iterable[str] = (),
    keys: Mapping[str, object] | None = None,
    bandwidth: float | None = None,
) -> fits.Header:
    """FITS header of an image on `grid`; see `write_image` for the arguments."""
    from astropy.io import fits

    freq = np.atleast_1d(np.asarray(list(freq), dtype=float))
    codes = [STOKES_CODE[s] for s in stokes]
    step = codes[1] - codes[0] if len(codes) > 1 else 1
    if any(b - a != step for a, b in zip(codes, codes[1:])):
        raise ImagingError(f"Stokes {stokes!r} cannot be one FITS axis: use I, IQU, IV or IQUV.")
    header = fits.Header()
    header["SIMPLE"] = (True, "FITS standard")
    header["BITPIX"] = (-32, "32-bit floating point")
    header["NAXIS"] = 4
    for axis, size in enumerate((grid.nx, grid.ny, len(codes), freq.size), start=1):
        header[f"NAXIS{axis}"] = size
    header["BUNIT"] = unit
    header["BTYPE"] = "Intensity"
    if beam is not None:
        names = ("BMAJ", "BMIN", "BPA")
        header.update({k: v / DEGREE for k, v in zip(names, beam)})
    header["RADESYS"] = "FK5"
    header["EQUINOX"] = 2000.0
    delta = float(np.mean(np.diff(freq))) if freq.size > 1 else float(bandwidth or 1.0)
    axes = (
        ("RA---SIN", grid.ra / DEGREE, grid.nx // 2 + 1, -grid.cell / DEGREE, "deg"),
        ("DEC--SIN", grid.dec / DEGREE, grid.ny // 2 + 1, grid.cell / DEGREE, "deg"),
        ("STOKES", float(codes[0]), 1, float(step), ""),
        ("FREQ", float(freq[0]), 1, delta, "Hz"),
    )
    for axis, (ctype, value, pixel, step_, cunit) in enumerate(axes, start=1):
        header[f"CTYPE{axis}"] = ctype
        header[f"CRVAL{axis}"] = value
        header[f"CRPIX{axis}"] = float(pixel)
        header[f"CDELT{axis}"] = step_
        header[f"CUNIT{axis}"] = cunit
    header["RESTFRQ"] = (float(freq.mean()), "Hz")
    header["SPECSYS"] = "TOPOCENT"
    if freq.size > 1:  # bands need not be evenly spaced: their true frequencies follow
        for band, value in enumerate(freq):
            header[f"FREQ{band:04d}"] = (float(value), "Hz, centre of this plane")
    for key, value in (keys or {}).items():
        header[key] = value
    for line in history:
        header.add_history(line)
    return header


def write_image(
    path: Path | str,
    data: np.ndarray,
    grid: SkyGrid,
    *,
    freq: float | Iterable[float],
    stokes: str = "I",
    beam: tuple[float, float, float] | None = None,
    unit: str = "Jy/beam",
    history: Iterable[str] = (),
    keys: Mapping[str, object] | None = None,
    bandwidth: float | None = None,
) -> Path:
    """Write an image; it appears under `path` only when it is complete.

    data: (y, x), (band, y, x) or (band, stokes, y, x), any real type, written as float32 by rows,
    so a memory map is never loaded whole.  freq: Hz, one for each band.  beam: major and minor FWHM
    and position angle, radians.  Raises ImagingError when shapes disagree.
    """
    path = Path(path)
    data = np.asanyarray(data)
    freq = np.atleast_1d(np.asarray(freq, dtype=float))
    if data.ndim == 2:
        data = data[None, None]
    elif data.ndim == 3:
        data = data[:, None]
    expected = (freq.size, len(stokes), grid.ny, grid.nx)
    if data.shape != expected:
        raise ImagingError(f"{path}: data of shape {data.shape}, but the header says {expected}.")
    header = image_header(
        grid, freq=freq, stokes=stokes, beam=beam, unit=unit, history=history, keys=keys,
        bandwidth=bandwidth,
    )
    try:
        with atomic_path(path) as part, open(part, "wb") as out:
            out.write(header.tostring().encode("ascii"))
            for plane in data.reshape(-1, grid.ny, grid.nx):
                for row in range(0, grid.ny, _WRITE_ROWS):
                    out.write(plane[row:row + _WRITE_ROWS].astype(">f4").tobytes())
            out.write(b"\0" * (-out.tell() % _BLOCK))
    except OSError as err:
        what = f"{path}: cannot be written ({err}); check disk and permissions."
        raise ImagingError(what) from err
    return path


def image_layout(path: Path | str) -> tuple[fits.Header, int, str, tuple[int, ...]]:
    """(header, offset of the first pixel in bytes, pixel type, shape) of a FITS image's first HDU.

    Any projection, 2 to 4 axes; the shape is that of the numpy array.  Raises ImagingError when
    the file is missing, truncated, or not an image of plain numbers.
    """
    from astropy.io import fits

    path = Path(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of truncation: it is an error below
            with fits.open(path, memmap=False, lazy_load_hdus=True) as hdus:
                header = hdus[0].header.copy()
                info = hdus[0].fileinfo()
    except FileNotFoundError as err:
        raise ImagingError(f"{path}: there is no such image.") from err
    except (OSError, ValueError) as err:
        raise ImagingError(f"{path}: not a readable FITS image ({err}).") from err
    naxis = header.get("NAXIS", 0)
    shape = tuple(header[f"NAXIS{axis}"] for axis in range(naxis, 0, -1))
    if not 2 <= naxis <= 4:
        raise ImagingError(f"{path}: {naxis} axes; an image with 2 to 4 is needed.")
    dtype = {-32: ">f4", -64: ">f8", 8: "u1", 16: ">i2", 32: ">i4"}.get(header["BITPIX"])
    if dtype is None or header.get("BSCALE", 1) != 1 or header.get("BZERO", 0) != 0:
        raise ImagingError(f"{path}: scaled or unusual pixel type; rewrite it as 32-bit floats.")
    need = info["datLoc"] + int(np.prod(shape)) * np.dtype(dtype).itemsize
    have = path.stat().st_size
    if have < need:
        raise ImagingError(
            f"{path}: truncated, {have} bytes where the header needs {need}. "
            "Delete it and make it again."
        )
    return header, info["datLoc"], dtype, shape


def read_image(path: Path | str) -> FitsImage:
    """Open a FITS image of two to four axes (any order of STOKES and FREQ).

    Raises ImagingError when the file is missing, truncated, not an image, or not on a SIN grid
    with square pixels, north up and east left.
    """
    path = Path(path)
    header, offset, dtype, shape = image_layout(path)
    data = np.memmap(path, dtype=dtype, mode="r", offset=offset, shape=shape)
    return FitsImage(path, grid_of_header(header, path), _four_axes(data, header, path),
                     _frequencies(header), _beam(header), str(header.get("BUNIT", "")), header)


def _four_axes(data: np.ndarray, header: fits.Header, path: Path) -> np.ndarray:
    """View of `data` with axes (band, stokes, y, x)."""
    names = [str(header.get(f"CTYPE{axis}", "")).upper() for axis in range(3, data.ndim + 1)]
    kinds = ["stokes" if n.startswith("STOKES") else "freq" for n in names]
    if kinds == ["stokes", "freq"]:
        return data
    if kinds == ["freq", "stokes"]:
        return data.swapaxes(0, 1)
    if kinds == ["stokes"]:
        return data[None]
    if kinds == ["freq"]:
        return data[:, None]
    if not kinds:
        return data[None, None]
    raise ImagingError(f"{path}: cannot tell axes {names} apart; FREQ and STOKES are expected.")


def _frequencies(header: fits.Header) -> np.ndarray:
    """Frequency in Hz of each plane (empty when the header has none)."""
    for axis in range(3, header["NAXIS"] + 1):
        if str(header.get(f"CTYPE{axis}", "")).upper().startswith("FREQ"):
            count = header[f"NAXIS{axis}"]
            if "FREQ0000" in header:
                return np.array([header[f"FREQ{band:04d}"] for band in range(count)], float)
            steps = np.arange(count) + 1 - header.get(f"CRPIX{axis}", 1.0)
            return header[f"CRVAL{axis}"] + steps * header.get(f"CDELT{axis}", 0.0)
    rest = header.get("RESTFRQ", header.get("RESTFREQ"))
    return np.array([] if rest is None else [rest], dtype=float)


def _beam(header: fits.Header) -> tuple[float, float, float] | None:
    if "BMAJ" not in header or "BMIN" not in header:
        return None
    beam = (header["BMAJ"], header["BMIN"], header.get("BPA", 0.0))
    return tuple(float(v) * DEGREE for v in beam)


def grid_of_header(header: fits.Header, path: Path | str = "image") -> SkyGrid:
    """SkyGrid of a header; ImagingError unless it is SIN, square, unrotated, north up."""
    try:
        cdelt = float(header["CDELT1"]), float(header["CDELT2"])
        crpix = float(header["CRPIX1"]), float(header["CRPIX2"])
        crval = float(header["CRVAL1"]), float(header["CRVAL2"])
        nx, ny = int(header["NAXIS1"]), int(header["NAXIS2"])
    except KeyError as err:
        raise ImagingError(f"{path}: header lacks {err.args[0]}; no sky grid can be made.") from err
    if not str(header.get("CTYPE1", "")).upper().endswith("SIN"):
        raise ImagingError(f"{path}: projection {header.get('CTYPE1')!r}; RA---SIN is needed.")
    rotated = any(abs(header.get(k, 0.0)) > 1e-9 for k in ("CROTA2", "PC1_2", "PC2_1"))
    if rotated or cdelt[0] >= 0 or not math.isclose(-cdelt[0], cdelt[1], rel_tol=1e-5):
        raise ImagingError(f"{path}: pixels must be square, unrotated, CDELT1 < 0 < CDELT2.")
    cell = cdelt[1] * DEGREE
    ra, dec = crval[0] * DEGREE, crval[1] * DEGREE
    shift = crpix[0] - (nx // 2 + 1), crpix[1] - (ny // 2 + 1)
    if max(abs(shift[0]), abs(shift[1])) > 1e-6:
        # SkyGrid has its tangent point on pixel N//2.  A subimage or half-pixel reference is
        # re-centred; away from the tangent point this is not exactly a SIN grid any more.
        if math.hypot(*shift) > 2.0:
            raise ImagingError(
                f"{path}: reference pixel {crpix} is not the centre; cut-outs are refused."
            )
        start = SkyGrid(ra, dec, ny, nx, cell)
        new_ra, new_dec = start.radec(shift[0] * cell, -shift[1] * cell)
        ra, dec = float(new_ra), float(new_dec)
    return SkyGrid(ra, dec, ny, nx, cell)


def describe_beam(beam: tuple[float, float, float]) -> str:
    """`6.0 x 6.0 arcsec, 0 deg` for a beam in radians."""
    return f"{beam[0] / ARCSEC:.2f} x {beam[1] / ARCSEC:.2f} arcsec, {beam[2] / DEGREE:.1f} deg"
