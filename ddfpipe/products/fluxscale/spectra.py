"""Fluxes of reference sources at many frequencies: those of surveys, then those of an image cube.

On disk they are a FITS table (`<obs>crossmatch-1.fits`) and a list of frequencies
(`<obs>frequencies.txt`), called as in the LoTSS pipeline (Shimwell et al. 2019, A&A 622, A1).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ddfpipe.data.atomic import atomic_path, atomic_write_text
from ddfpipe.errors import DataError
from ddfpipe.units import DEGREE

CHANNEL = "ch"
"""Channel k of the cube is called chK, counted from 1."""


@dataclass(frozen=True)
class SourceSpectra:
    """Fluxes of n sources at k frequencies.

    ra, dec: (n,) rad.  names: (k,) of surveys and channels.  frequency: (k,) Hz.
    scaled: (k,) bool, True for the channels, whose scale is to be found.
    flux, error: (n, k) Jy; a flux that is not known is NaN.
    """

    ra: np.ndarray
    dec: np.ndarray
    names: tuple[str, ...]
    frequency: np.ndarray
    scaled: np.ndarray
    flux: np.ndarray
    error: np.ndarray

    @property
    def size(self) -> int:
        """Number of sources."""
        return self.ra.size

    @property
    def channels(self) -> np.ndarray:
        """Hz of the frequencies whose scale is to be found."""
        return self.frequency[self.scaled]

    def select(self, keep: np.ndarray) -> SourceSpectra:
        """The sources where `keep` (n,) is true."""
        return replace(self, ra=self.ra[keep], dec=self.dec[keep], flux=self.flux[keep],
                       error=self.error[keep])


def join(surveys: SourceSpectra, channels: np.ndarray, flux: np.ndarray,
         error: np.ndarray) -> SourceSpectra:
    """The surveys' fluxes together with those of channels (c,) Hz; flux, error: (n, c) Jy."""
    names = tuple(f"{CHANNEL}{k + 1}" for k in range(len(channels)))
    return replace(
        surveys, names=surveys.names + names,
        frequency=np.concatenate([surveys.frequency, channels]),
        scaled=np.concatenate([surveys.scaled, np.ones(len(channels), bool)]),
        flux=np.hstack([surveys.flux, flux]), error=np.hstack([surveys.error, error]),
    )


def _columns(name: str, scaled: bool) -> tuple[str, str]:
    """Names of the columns of flux and error."""
    if scaled:
        return f"Total_flux_{name}", f"E_Total_flux_{name}"
    return f"{name}_flux", f"{name}_e_flux"


def write_crossmatch(path: Path | str, spectra: SourceSpectra) -> Path:
    """Write the table: RA, DEC in degrees, two columns in Jy for each survey and channel."""
    from astropy.table import Table

    table = Table({"RA": spectra.ra / DEGREE, "DEC": spectra.dec / DEGREE})
    table["RA"].unit = table["DEC"].unit = "deg"
    for k, (name, scaled) in enumerate(zip(spectra.names, spectra.scaled)):
        for column, values in zip(_columns(name, scaled), (spectra.flux, spectra.error)):
            table[column] = values[:, k]
            table[column].unit = "Jy"
        table.meta[f"FREQ{k + 1}"] = (float(spectra.frequency[k]), f"Hz, {name}")
        table.meta[f"NAME{k + 1}"] = name
    with atomic_path(path) as part:
        table.write(part, format="fits")
    return Path(path)


def read_crossmatch(path: Path | str) -> SourceSpectra:
    """Read what `write_crossmatch` wrote.  Raises DataError if it is missing or another table."""
    from astropy.io import fits

    try:
        with fits.open(path) as hdus:
            header, data = hdus[1].header, hdus[1].data
            count = sum(key.startswith("FREQ") for key in header)
            names = tuple(header[f"NAME{k + 1}"] for k in range(count))
            frequency = np.array([header[f"FREQ{k + 1}"] for k in range(count)])
            scaled = np.array([f"Total_flux_{name}" in data.names for name in names])
            pairs = [_columns(name, flag) for name, flag in zip(names, scaled)]
            flux, error = (
                np.array([data[pair[k]] for pair in pairs], float).T.reshape(len(data), count)
                for k in range(2)
            )
            return SourceSpectra(np.array(data["RA"], float) * DEGREE,
                                 np.array(data["DEC"], float) * DEGREE, names, frequency, scaled,
                                 flux, error)
    except (OSError, KeyError, IndexError) as error:
        raise DataError(f"{path}: no table of matched sources ({error}); run the bootstrap "
                        "again") from error


def write_frequencies(path: Path | str, spectra: SourceSpectra) -> Path:
    """A line a frequency: Hz, and True where the scale is to be found."""
    lines = [f"{freq:.6f} {bool(flag)}\n" for freq, flag in zip(spectra.frequency, spectra.scaled)]
    atomic_write_text(path, "".join(lines))
    return Path(path)
