"""Cubes over frequency, written plane by plane so that memory does not grow with them.

Axes are RA, DEC, STOKES, FREQ.  The primary header's frequency axis is linear: exact where the
planes are evenly spaced, else through the first plane with the mean step.  The true frequencies
are in keywords FREQ0000, FREQ0001, ... and, with what a spectral fit needs besides, in the binary
table FREQUENCIES: PLANE, FREQ and WIDTH in Hz, WEIGHT (sum of the visibilities' weights), and for
every Stokes parameter NOISE_<s> in Jy/beam.  A plane without data is NaN and has weight 0.
"""

from __future__ import annotations

import warnings
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from ddfpipe.data.atomic import atomic_path
from ddfpipe.data.images import SkyGrid, image_header
from ddfpipe.errors import ImagingError

TABLE = "FREQUENCIES"
_BLOCK = 2880


class CubeFile:
    """A cube in the making: a context manager; the file appears when the block ends well.

    Parameters
    ----------
    path : of the cube
    grid : SkyGrid
    freq, width : (band,) Hz, ascending, and how wide each plane is
    stokes : such as "I" or "QU"
    stokes_axis : False leaves the axis of a single Stokes parameter out: RA, DEC, FREQ
    others : as for `image_header`

    Raises
    ------
    ImagingError : the file cannot be written, or a plane was left out
    """

    def __init__(self, path: Path | str, grid: SkyGrid, *, freq, width, stokes: str = "I",
                 beam=None, unit: str = "Jy/beam", history=(), keys=None,
                 stokes_axis: bool = True):
        self.path, self.grid, self.stokes = Path(path), grid, stokes
        self.freq, self.width = np.asarray(freq, float), np.asarray(width, float)
        header = image_header(
            grid, freq=self.freq, stokes=stokes, beam=beam, unit=unit, history=history,
            keys={"EXTEND": True, **(keys or {})}, bandwidth=float(self.width.mean()),
        )
        if not stokes_axis:
            _leave_stokes_out(header, stokes)
        self._head = header.tostring().encode("ascii")
        shape = (self.freq.size, len(stokes))
        self._weight = np.zeros(self.freq.size)
        self._noise = np.full(shape, np.nan)
        self._done = np.zeros(shape, bool)

    def __enter__(self) -> CubeFile:
        self._stack = ExitStack()
        try:
            part = self._stack.enter_context(atomic_path(self.path))
            self._stream = self._stack.enter_context(open(part, "wb"))
            self._stream.write(self._head)
        except OSError as error:
            raise self._unwritable(error) from error
        return self

    def put(self, band: int, stokes: str, plane: np.ndarray, weight: float, noise: float) -> None:
        """Write plane (y, x) of one band and Stokes parameter; weight and noise go to the table."""
        if plane.shape != self.grid.shape:
            raise ImagingError(f"{self.path}: plane of {plane.shape}, not {self.grid.shape}")
        number = self.stokes.index(stokes)
        position = (band * len(self.stokes) + number) * plane.size * 4
        try:
            self._stream.seek(len(self._head) + position)
            self._stream.write(np.ascontiguousarray(plane, ">f4").tobytes())
        except OSError as error:
            raise self._unwritable(error) from error
        self._weight[band] = weight
        self._noise[band, number] = noise
        self._done[band, number] = True

    def __exit__(self, kind, error, trace):
        try:
            if kind is None:
                self._finish()
        except BaseException as problem:
            self._stack.__exit__(type(problem), problem, problem.__traceback__)
            raise
        try:
            return self._stack.__exit__(kind, error, trace)
        except OSError as problem:
            raise self._unwritable(problem) from problem

    def _finish(self) -> None:
        if not self._done.all():
            raise ImagingError(f"{self.path}: {np.sum(~self._done)} planes were never written")
        try:
            self._stream.seek(0, 2)
            self._stream.write(b"\0" * (-self._stream.tell() % _BLOCK))
            self._stream.write(self._table())
            self._stream.flush()
        except OSError as problem:
            raise self._unwritable(problem) from problem

    def _table(self) -> bytes:
        """The binary table of the planes' frequencies as it stands in the file."""
        from io import BytesIO

        from astropy.io import fits

        columns = [
            fits.Column("PLANE", "J", array=np.arange(self.freq.size)),
            fits.Column("FREQ", "D", unit="Hz", array=self.freq),
            fits.Column("WIDTH", "D", unit="Hz", array=self.width),
            fits.Column("WEIGHT", "D", array=self._weight),
        ] + [
            fits.Column(f"NOISE_{name}", "E", unit="Jy/beam", array=self._noise[:, k])
            for k, name in enumerate(self.stokes)
        ]
        table = fits.BinTableHDU.from_columns(columns, name=TABLE)
        buffer = BytesIO()
        # astropy writes an extension alone only behind a primary header: leave that out
        fits.HDUList([fits.PrimaryHDU(), table]).writeto(buffer)
        return buffer.getvalue()[_BLOCK:]

    def _unwritable(self, error: OSError) -> ImagingError:
        return ImagingError(
            f"{self.path}: cannot be written ({error.strerror or error}); check disk and "
            "permissions"
        )


def _leave_stokes_out(header, stokes: str) -> None:
    """Make the frequency axis the third one; which Stokes parameter it is goes to a keyword."""
    for name in ("NAXIS", "CTYPE", "CRVAL", "CRPIX", "CDELT", "CUNIT"):
        header[f"{name}3"] = header[f"{name}4"]
        del header[f"{name}4"]
    header["NAXIS"] = 3
    header["STOKES"] = (stokes, "Stokes parameter of all planes")


def read_planes(path: Path | str) -> dict[str, np.ndarray]:
    """The table of a cube's planes: PLANE, FREQ, WIDTH, WEIGHT and NOISE_<s>, each (band,).

    Raises
    ------
    ImagingError : there is no such cube, or it has no such table
    """
    from astropy.io import fits

    try:
        with warnings.catch_warnings(), fits.open(path) as hdus:
            warnings.simplefilter("ignore")
            data = hdus[TABLE].data
            return {name: np.array(data[name]) for name in data.names}
    except (OSError, KeyError) as error:
        raise ImagingError(f"{path}: no cube with a table {TABLE} ({error})") from error
