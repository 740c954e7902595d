"""Dynamic spectra on disk: what an engine hands over, and the FITS files that users get.

An engine leaves a folder with, for the measurement sets numbered k = 0, 1, ...

    <k>.axes.npz    time (n_time,) MJD s, freq (n_chan,) Hz, interval s, width Hz
    <k>.flux.npy    (2, pos, n_time, n_chan) float32: Stokes I and V in Jy, NaN without data
    <k>.weight.npy  (pos, n_time, n_chan) float32

The FITS file of a target has the axes TIME, FREQ, STOKES, that is an array (stokes, freq, time),
and the extensions WEIGHT (freq, time) and NOISE (stokes, freq, time; Jy).  Time is written as FITS
demands (Rots et al. 2015, A&A 574, A36): seconds after MJDREF, UTC.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ddfpipe.data.arrays import allocate
from ddfpipe.data.atomic import atomic_path
from ddfpipe.errors import DataError
from ddfpipe.units import DAY

STOKES = ("I", "V")
STOKES_STEP = 3.0
"""From I (1) to V (4) in FITS."""


@dataclass(frozen=True)
class Piece:
    """Spectra of one measurement set; arrays as in the module's table, memory-mapped."""

    time: np.ndarray
    freq: np.ndarray
    interval: float
    width: float
    flux: np.ndarray
    weight: np.ndarray


def create_piece(folder: Path, number: int, n_positions: int, *, time, freq, interval: float,
                 width: float) -> Piece:
    """A new piece whose arrays are to be filled."""
    folder.mkdir(parents=True, exist_ok=True)
    np.savez(folder / f"{number}.axes.npz", time=time, freq=freq, interval=interval, width=width)
    shape = (n_positions, len(time), len(freq))
    return Piece(
        time, freq, interval, width,
        allocate(folder / f"{number}.flux.npy", np.float32, (len(STOKES), *shape)),
        allocate(folder / f"{number}.weight.npy", np.float32, shape),
    )


def read_pieces(folder: Path) -> list[Piece]:
    """All pieces of a folder.  Raises DataError when there is none or one is damaged."""
    pieces = []
    try:
        while (path := folder / f"{len(pieces)}.axes.npz").exists():
            k = len(pieces)
            with np.load(path) as axes:
                pieces.append(Piece(
                    axes["time"], axes["freq"], float(axes["interval"]), float(axes["width"]),
                    np.load(folder / f"{k}.flux.npy", mmap_mode="r"),
                    np.load(folder / f"{k}.weight.npy", mmap_mode="r"),
                ))
    except (OSError, ValueError, KeyError) as error:
        raise DataError(f"{folder}: spectra cannot be read ({error}); make them again") from error
    if not pieces:
        raise DataError(f"{folder}: there are no spectra; make them again")
    return pieces


@dataclass(frozen=True)
class Axis:
    """A regular axis: `size` cells of `step` from `first` (centre of cell 0).

    deviation: farthest that a value lies from the centre of its cell.
    """

    first: float
    step: float
    size: int
    deviation: float = 0.0

    def cells(self, values: np.ndarray) -> np.ndarray:
        """Cell of each value."""
        return np.rint((np.asarray(values) - self.first) / self.step).astype(int)

    @property
    def centres(self) -> np.ndarray:
        """(size,) centres of the cells."""
        return self.first + self.step * np.arange(self.size)


def regular_axis(parts: list[np.ndarray], step: float) -> Axis:
    """The axis of width `step` that covers all values; gaps become empty cells."""
    values = np.concatenate(parts)
    first = float(values.min())
    axis = Axis(first, step, 1 + int(np.rint((values.max() - first) / step)))
    apart = np.abs(values - axis.centres[axis.cells(values)])
    return Axis(first, step, axis.size, float(apart.max()))


@dataclass(frozen=True)
class Spectra:
    """Pieces of an observation on common regular axes of time (MJD s) and frequency (Hz)."""

    pieces: list[Piece]
    time: Axis
    freq: Axis

    @classmethod
    def of(cls, pieces: list[Piece]) -> "Spectra":
        """Axes that hold all pieces, as fine as the finest of them."""
        return cls(
            pieces, regular_axis([p.time for p in pieces], min(p.interval for p in pieces)),
            regular_axis([p.freq for p in pieces], min(p.width for p in pieces)),
        )

    def position(self, number: int) -> tuple[np.ndarray, np.ndarray]:
        """Flux (2, freq, time) float32 Jy and weight (freq, time) float32 towards a position.

        Samples of one cell are averaged by their weights; empty cells are NaN and of weight zero.
        """
        total = np.zeros((len(STOKES), self.freq.size, self.time.size))
        weight = np.zeros(total.shape[1:])
        for piece in self.pieces:
            where = np.ix_(self.freq.cells(piece.freq), self.time.cells(piece.time))
            share = piece.weight[number].T.astype(float)
            np.add.at(weight, where, share)
            for k in range(len(STOKES)):
                flux = np.where(share > 0, piece.flux[k, number].T, 0)
                np.add.at(total[k], where, share * flux)
        with np.errstate(invalid="ignore", divide="ignore"):
            flux = np.where(weight > 0, total / weight, np.nan)
        return flux.astype(np.float32), weight.astype(np.float32)


def write_spectrum(path: Path | str, spectra: Spectra, flux: np.ndarray, weight: np.ndarray,
                   noise: np.ndarray, keys: Mapping[str, object]) -> Path:
    """Write the spectrum of one position; arrays as in the module's text.

    keys: further header keywords with their values.  The file appears whole or not at all.
    """
    from astropy.io import fits

    header = _header(spectra, keys)
    main = fits.PrimaryHDU(np.asarray(flux, np.float32), header)
    side = fits.ImageHDU(np.asarray(weight, np.float32), _axes_only(header, 2), name="WEIGHT")
    sigma = fits.ImageHDU(np.asarray(noise, np.float32), _axes_only(header, 3), name="NOISE")
    with atomic_path(path) as part:
        fits.HDUList([main, side, sigma]).writeto(part)
    return Path(path)


def _header(spectra: Spectra, keys: Mapping[str, object]):
    from astropy.io import fits
    from astropy.time import Time

    time, freq = spectra.time, spectra.freq
    start = time.first - time.step / 2
    header = fits.Header()
    axes = (
        ("TIME", time.step / 2, time.step, "s"), ("FREQ", freq.first, freq.step, "Hz"),
        ("STOKES", 1.0, STOKES_STEP, ""),
    )
    for number, (kind, first, step, unit) in enumerate(axes, start=1):
        header[f"CTYPE{number}"] = kind
        header[f"CRPIX{number}"] = 1.0
        header[f"CRVAL{number}"] = first
        header[f"CDELT{number}"] = step
        header[f"CUNIT{number}"] = unit
    header["BUNIT"] = "Jy"
    header["TIMESYS"] = "UTC"
    header["MJDREF"] = (start / DAY, "beginning of the first cell")
    for key, moment in (("DATE-BEG", start), ("DATE-END", start + time.size * time.step)):
        header[key] = Time(moment / DAY, format="mjd", scale="utc").isot
    header["TIMEDEV"] = (time.deviation, "s, farthest of a sample from its cell")
    header["FREQDEV"] = (freq.deviation, "Hz, farthest of a channel from its cell")
    for key, value in keys.items():
        header[key] = value
    return header


def _axes_only(header, n_axes: int):
    """Header of an extension: the first axes of the main one."""
    from astropy.io import fits

    out = fits.Header()
    for number in range(1, n_axes + 1):
        for name in ("CTYPE", "CRPIX", "CRVAL", "CDELT", "CUNIT"):
            out[f"{name}{number}"] = header[f"{name}{number}"]
    for name in ("TIMESYS", "MJDREF"):
        out[name] = header[name]
    if n_axes == 3:
        out["BUNIT"] = "Jy"
    return out
