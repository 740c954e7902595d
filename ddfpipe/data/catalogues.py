"""Survey catalogues in FITS tables, read into radians and Jy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ddfpipe.errors import DataError
from ddfpipe.units import ARCSEC, DEGREE


@dataclass(frozen=True)
class Catalogue:
    """Sources: ra, dec radians; peak Jy/beam; major, minor FWHM radians; pa radians; all (n,)."""

    ra: np.ndarray
    dec: np.ndarray
    peak: np.ndarray
    major: np.ndarray
    minor: np.ndarray
    pa: np.ndarray

    def select(self, keep: np.ndarray) -> Catalogue:
        """The sources where `keep` (n,) is true."""
        return Catalogue(*(getattr(self, name)[keep] for name in self.__dataclass_fields__))


def read_columns(path: Path | str, names: Sequence[str]) -> tuple[dict, dict]:
    """Columns of the first table of a FITS file by name, in any case: (values float64, units).

    Raises DataError naming the file when it is missing, damaged, or lacks a column.
    """
    from astropy.io import fits

    path = Path(path)
    try:
        with fits.open(path, memmap=True) as hdus:
            tables = [hdu for hdu in hdus if isinstance(hdu, (fits.BinTableHDU, fits.TableHDU))]
            if not tables:
                raise DataError(f"{path}: no table in this FITS file; a catalogue is needed.")
            columns = {column.name.lower(): column for column in tables[0].columns}
            lacking = [name for name in names if name.lower() not in columns]
            if lacking:
                raise DataError(f"{path}: lacks the columns {', '.join(lacking)}; it has "
                                f"{', '.join(c.name for c in columns.values())}.")
            values = {n: np.array(tables[0].data[columns[n.lower()].name], float) for n in names}
            units = {n: str(columns[n.lower()].unit or "") for n in names}
    except FileNotFoundError as err:
        raise DataError(f"{path}: there is no such catalogue.") from err
    except (OSError, TypeError, ValueError) as err:
        raise DataError(f"{path}: not a readable FITS catalogue ({err}).") from err
    return values, units


def read_tgss(path: Path | str) -> Catalogue:
    """TGSS-like catalogue: columns RA, DEC, Peak_flux, Maj, Min, PA.

    Units are those of the columns, else those of TGSS ADR1 (degrees, mJy/beam, arcsec; Intema et
    al. 2017, A&A 598, A78).  Rows without a finite position or peak are left out.
    """
    values, units = read_columns(path, ("RA", "DEC", "Peak_flux", "Maj", "Min", "PA"))
    flux = 1.0 if units["Peak_flux"].lower().startswith("jy") else 1e-3
    angle = [DEGREE if units[n].lower().startswith("deg") else ARCSEC for n in ("Maj", "Min")]
    made = Catalogue(
        values["RA"] * DEGREE, values["DEC"] * DEGREE, values["Peak_flux"] * flux,
        np.nan_to_num(values["Maj"]) * angle[0], np.nan_to_num(values["Min"]) * angle[1],
        np.nan_to_num(values["PA"]) * DEGREE,
    )
    return made.select(np.isfinite(made.ra) & np.isfinite(made.dec) & np.isfinite(made.peak))
