"""Source lists of any survey: FITS tables, VOTables, makesourcedb text, plain text tables.

Whatever the names and units of the columns, a list is read into radians, Jy and Hz.  Columns are
found by the names that surveys use (`ALIASES`), or are named by the user.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ddfpipe.data.skymodel import parse_dec, parse_ra, read_skymodel
from ddfpipe.errors import DataError, SkyModelError
from ddfpipe.units import ARCSEC, DEGREE

if TYPE_CHECKING:
    from astropy.table import Column, Table

ALIASES: dict[str, tuple[str, ...]] = {
    "ra": ("ra", "raj2000", "_raj2000", "ra_icrs", "ramean", "ra_deg", "ra(2000)", "radeg",
           "rajdeg", "alpha_j2000", "wiseradeg"),
    "dec": ("dec", "dej2000", "_dej2000", "decj2000", "de_icrs", "decmean", "dec_deg",
            "dec(2000)", "dedeg", "decdeg", "delta_j2000", "wisedecdeg"),
    "ra_error": ("e_ra", "e_raj2000", "e_ra_icrs", "rameanerr", "ra_error", "sigra"),
    "dec_error": ("e_dec", "e_dej2000", "e_decj2000", "e_de_icrs", "decmeanerr", "dec_error",
                  "sigdec"),
    "flux": ("total_flux", "int_flux", "s1.4", "fint", "sint", "sint2", "stotal", "st", "sp+sint",
             "s_int", "flux", "total_flux_lofar", "intflux", "fluxtot"),
    "flux_error": ("e_total_flux", "e_s1.4", "e_sint", "e_stotal", "e_fint", "err_int_flux",
                   "e_flux", "e_total_flux_lofar"),
    "peak": ("peak_flux", "fpeak", "speak", "sp", "s_peak", "peakflux", "fluxpk"),
    "major": ("maj", "majax", "major", "majoraxis", "maj_axis", "bmaj"),
    "name": ("source_name", "name", "source_id", "objid", "designation", "nvss", "objname"),
}
"""Names of columns in lower case, the first that a table has is taken."""


@dataclass(frozen=True)
class SurveyCatalogue:
    """Sources of a survey; all arrays (n,), NaN where the survey does not say.

    ra, dec: radians; ra_error, dec_error: radians on the sky; flux: integrated Jy; flux_error;
    peak: Jy/beam; major: FWHM radians; frequency: Hz; name: str.
    """

    ra: np.ndarray
    dec: np.ndarray
    ra_error: np.ndarray
    dec_error: np.ndarray
    flux: np.ndarray
    flux_error: np.ndarray
    peak: np.ndarray
    major: np.ndarray
    frequency: np.ndarray
    name: np.ndarray

    @property
    def size(self) -> int:
        """Number of sources."""
        return self.ra.size

    def select(self, keep: np.ndarray) -> SurveyCatalogue:
        """The sources where `keep` (n,) is true, or those of indices `keep`."""
        return SurveyCatalogue(**{f.name: getattr(self, f.name)[keep] for f in fields(self)})


def read_survey(
    path: Path | str,
    *,
    columns: Mapping[str, str] | None = None,
    flux_divisor: float | None = None,
    unitless_divisor: float | None = None,
    frequency: float | None = None,
    notes: list[str] | None = None,
) -> SurveyCatalogue:
    """Read a source list; the kind of file is told from its contents.

    columns: names of columns by our names (keys of ALIASES) where they are unusual.
    flux_divisor: what the file's fluxes are divided by to get Jy; None takes the columns' units.
    unitless_divisor: the same, for columns without a unit only.  frequency: Hz, over what the file
    says.  notes: receives what had to be assumed.
    Rows without a finite position are left out.  Raises DataError naming file and column.
    """
    path = Path(path)
    notes = [] if notes is None else notes
    kind = _kind(path)
    if kind == "makesourcedb":
        if columns:
            raise DataError(f"{path}: a sky model has fixed columns; none can be named for it.")
        made = _from_skymodel(path, flux_divisor or 1.0)
    else:
        made = catalogue_of_table(_table(path, kind), columns=columns, flux_divisor=flux_divisor,
                                  unitless_divisor=unitless_divisor, where=str(path),
                                  notes=notes)
    if frequency is not None:
        made.frequency[:] = frequency
    kept = made.select(np.isfinite(made.ra) & np.isfinite(made.dec))
    if kept.size < made.size:
        notes.append(f"{path}: {made.size - kept.size} rows without a position are left out")
    return kept


def _kind(path: Path) -> str:
    """fits, votable, makesourcedb or text."""
    try:
        with open(path, "rb") as stream:
            start = stream.read(4096)
    except OSError as err:
        raise DataError(f"{path}: the catalogue cannot be read ({err.strerror}).") from err
    if not start.strip():
        raise DataError(f"{path}: the catalogue is empty.")
    if start.startswith((b"SIMPLE  =", b"\x1f\x8b")):
        return "fits"
    text = start.decode("utf-8", "replace").lower()
    if "<votable" in text:
        return "votable"
    head = [line.strip().lower() for line in text.splitlines()[:40]]
    if any(line.startswith("format") or line.endswith("= format") for line in head):
        return "makesourcedb"
    return "text"


def _table(path: Path, kind: str) -> Table:
    from astropy.table import Table

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of units that are not of the standard
            if kind == "fits":
                return Table.read(path, format="fits", hdu=1, character_as_bytes=False)
            if kind == "votable":
                return Table.read(path, format="votable", table_id=0)
            return Table.read(path, format="ascii")
    except Exception as err:  # the readers raise many kinds
        words = str(err).strip().splitlines()[0] if str(err).strip() else type(err).__name__
        raise DataError(f"{path}: not a readable {kind} table ({words[:200]}).") from err


def catalogue_of_table(
    table: Table,
    *,
    columns: Mapping[str, str] | None = None,
    flux_divisor: float | None = None,
    unitless_divisor: float | None = None,
    where: str = "table",
    notes: list[str] | None = None,
) -> SurveyCatalogue:
    """The sources of an astropy table; see `read_survey`.  Positions may be NaN."""
    notes = [] if notes is None else notes
    found = _columns(table, columns or {}, where)
    n = len(table)

    def get(name: str, unit: float, kind: str) -> np.ndarray:
        if name not in found:
            return np.full(n, np.nan)
        column = table[found[name]]
        return _numbers(column, where) * _scale(column, kind, unit, notes, where)

    kind = "flux" if flux_divisor is None else "given"
    jansky = 1.0 / (flux_divisor or unitless_divisor or 1.0)
    dec = _angles(table[found["dec"]], parse_dec, where)
    made = SurveyCatalogue(
        ra=np.mod(_angles(table[found["ra"]], parse_ra, where), 2 * np.pi), dec=dec,
        ra_error=get("ra_error", DEGREE, "angle"), dec_error=get("dec_error", DEGREE, "angle"),
        flux=get("flux", jansky, kind), flux_error=get("flux_error", jansky, kind),
        peak=get("peak", jansky, kind), major=get("major", ARCSEC, "angle"),
        frequency=np.full(n, np.nan),
        name=np.array([str(v) for v in table[found["name"]]] if "name" in found else [""] * n),
    )
    return made


def _columns(table: Table, given: Mapping[str, str], where: str) -> dict[str, str]:
    """Names of the table's columns by our names; ra and dec are among them."""
    names = {name.lower(): name for name in table.colnames}
    found: dict[str, str] = {}
    for ours, theirs in given.items():
        if ours not in ALIASES:
            raise DataError(f"{where}: {ours} is no column that is read; those are "
                            f"{', '.join(ALIASES)}.")
        if theirs.lower() not in names:
            raise DataError(f"{where}: there is no column {theirs} for {ours}; the table has "
                            f"{', '.join(table.colnames)}.")
        found[ours] = names[theirs.lower()]
    for ours, aliases in ALIASES.items():
        hit = next((alias for alias in aliases if alias in names), None)
        if hit is not None:
            found.setdefault(ours, names[hit])
    lacking = [ours for ours in ("ra", "dec") if ours not in found]
    if lacking:
        raise DataError(f"{where}: no column for {' and '.join(lacking)} among "
                        f"{', '.join(table.colnames)}; name it.")
    return found


def _numbers(column: Column, where: str) -> np.ndarray:
    values = np.ma.filled(np.ma.asarray(column.astype(float)), np.nan) if (
        column.dtype.kind in "fiu") else None
    if values is None:
        try:
            values = np.array([float(v) if str(v).strip() not in ("", "--") else np.nan
                               for v in column])
        except ValueError as err:
            raise DataError(f"{where}: the column {column.name} holds no numbers ({err}).") from err
    return np.asarray(values, float)


def _scale(column: Column, kind: str, assumed: float, notes: list[str], where: str) -> float:
    """What to multiply a column with to get radians or Jy."""
    from astropy import units

    if kind == "given":
        return assumed
    text = str(column.unit or "").lower().replace(" ", "").replace("beam-1", "").rstrip("/.")
    if kind == "flux":
        text = text.split("/")[0]
        scales = {"jy": 1.0, "mjy": 1e-3, "ujy": 1e-6, "microjy": 1e-6, "janskys": 1.0}
        if text in scales:
            return scales[text]
        said = f"has the unit {column.unit}" if text else "has no unit"
        taken = {1.0: "it is read as Jy", 1e-3: "it is read as mJy"}.get(
            assumed, f"{1.0 / assumed:g} are read as one Jy")
        notes.append(f"{where}: column {column.name} {said}, {taken}")
        return assumed
    try:
        return float(units.Unit(text, parse_strict="raise").to(units.rad)) if text else assumed
    except (ValueError, TypeError, units.UnitsError):
        return assumed


def _angles(column: Column, parse, where: str) -> np.ndarray:
    """Positions in radians: numbers (in the column's unit, degrees without) or sexagesimal."""
    from astropy import units

    if column.dtype.kind in "fiu":
        try:
            scale = float(units.Unit(column.unit).to(units.rad)) if column.unit else DEGREE
        except (ValueError, TypeError, units.UnitsError):
            scale = DEGREE
        return np.ma.filled(np.ma.asarray(column.astype(float)), np.nan) * scale
    result = np.full(len(column), np.nan)
    for i, value in enumerate(column):
        text = ":".join(str(value).split())
        if text in ("", "--", "nan"):
            continue
        try:
            result[i] = parse(text)
        except ValueError as err:
            raise DataError(f"{where}: the column {column.name}, row {i + 1}: {err}.") from err
    return result


def _from_skymodel(path: Path, flux_divisor: float) -> SurveyCatalogue:
    try:
        model = read_skymodel(path)
    except SkyModelError as err:
        raise DataError(str(err)) from err
    n = model.size
    flux = model.stokes[0] / flux_divisor
    if not flux.any():  # an optical catalogue
        flux = np.full(n, np.nan)
    unknown = np.full(n, np.nan)
    return SurveyCatalogue(
        ra=model.ra, dec=model.dec, ra_error=unknown.copy(), dec_error=unknown.copy(), flux=flux,
        flux_error=unknown.copy(), peak=np.where(model.gaussian, np.nan, flux),
        major=model.major.copy(),
        frequency=np.where(model.frequency > 0.0, model.frequency, np.nan),
        name=np.array(model.name),
    )
