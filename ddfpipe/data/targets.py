"""Positions on the sky: lists that users bring, and those that are looked at."""

from __future__ import annotations

import csv
import io
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ddfpipe.data.atomic import atomic_write_text
from ddfpipe.data.catalogues import read_columns
from ddfpipe.data.skymodel import parse_dec, parse_ra
from ddfpipe.errors import DataError
from ddfpipe.units import DEGREE

NAME_COLUMNS = ("name", "source_name", "source_id", "id", "object")
FIELDS = ("ra", "dec", "name", "kind", "facet")


@dataclass(frozen=True)
class Position:
    """A place on the sky.  ra, dec: rad; kind: "target", "bright" or "off"; facet: label or ""."""

    ra: float
    dec: float
    name: str
    kind: str = "target"
    facet: str = ""


def coordinate_name(ra: float, dec: float) -> str:
    """`J132841.1+475221` of a position in rad."""
    tenths = round(ra / DEGREE / 15 * 36000) % (24 * 36000)
    hours, rest = divmod(tenths, 36000)
    minutes, seconds = divmod(rest, 600)
    arcsec = round(abs(dec) / DEGREE * 3600)
    degrees, part = divmod(arcsec, 3600)
    sign = "-" if dec < 0 else "+"
    return (f"J{hours:02d}{minutes:02d}{seconds // 10:02d}.{seconds % 10}"
            f"{sign}{degrees:02d}{part // 60:02d}{part % 60:02d}")


def read_targets(path: Path | str) -> list[Position]:
    """Targets of a FITS table (RA, DEC in degrees, perhaps a name) or of text.

    Text has right ascension, declination and perhaps a name on each line, with commas or blanks
    between; angles are degrees or sexagesimal (hours for right ascension).  A first line that
    begins with "ra" is a heading, and # begins a comment.
    Raises DataError that names the file and what is wrong with it.
    """
    path = Path(path)
    if path.suffix.lower() in (".fits", ".fit", ".fz"):
        values, _ = read_columns(path, ("RA", "DEC"))
        ra, dec, names = values["RA"] * DEGREE, values["DEC"] * DEGREE, _fits_names(path)
        rows = [(ra[i], dec[i], names[i] if names else "") for i in range(ra.size)]
    else:
        rows = _text_rows(path)
    rows = [row for row in rows if np.isfinite(row[0]) and np.isfinite(row[1])]
    if not rows:
        raise DataError(f"{path}: there is no target in this list.")
    if max(abs(dec) for _, dec, _ in rows) > np.pi / 2 + 1e-9:
        raise DataError(f"{path}: a declination is beyond the pole; columns RA and DEC must be "
                        "degrees.")
    return [
        Position(float(ra), float(dec), name or coordinate_name(ra, dec)) for ra, dec, name in rows
    ]


def _fits_names(path: Path) -> list[str]:
    """Names of the rows of the first table of a FITS file; empty if it has none."""
    from astropy.io import fits

    with fits.open(path, memmap=False) as hdus:
        table = next(hdu for hdu in hdus if isinstance(hdu, (fits.BinTableHDU, fits.TableHDU)))
        columns = {column.name.lower(): column.name for column in table.columns}
        found = next((columns[name] for name in NAME_COLUMNS if name in columns), None)
        return [str(value).strip() for value in table.data[found]] if found else []


def _text_rows(path: Path) -> list[tuple[float, float, str]]:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read as text ({error}); a FITS table needs the suffix "
                        ".fits.") from error
    rows = []
    for number, line in enumerate(text.splitlines(), start=1):
        line = line.split("#")[0].strip()
        words = [w.strip() for w in line.split(",")] if "," in line else line.split()
        if not line or (number == 1 and words[0].lower().startswith("ra")):
            continue
        try:
            name = " ".join(words[2:3]) if "," in line else " ".join(words[2:])
            rows.append((parse_ra(words[0]), parse_dec(words[1]), name))
        except (ValueError, IndexError):
            raise DataError(f"{path}, line {number}: expected right ascension, declination and "
                            "perhaps a name.") from None
    return rows


def file_name(name: str) -> str:
    """A name that is safe as that of a file."""
    return re.sub(r"[^\w.+-]+", "_", name).strip("._") or "target"


def write_positions(path: Path | str, positions: list[Position]) -> Path:
    """Write positions as text with commas: degrees, name, kind, facet."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(FIELDS)
    for p in positions:
        writer.writerow([f"{p.ra / DEGREE:.9f}", f"{p.dec / DEGREE:.9f}", p.name, p.kind, p.facet])
    atomic_write_text(path, out.getvalue())
    return Path(path)


def read_positions(path: Path | str) -> list[Position]:
    """Read what `write_positions` wrote.  Raises DataError for anything else."""
    try:
        with open(path, encoding="utf-8", newline="") as stream:
            return [
                Position(float(row["ra"]) * DEGREE, float(row["dec"]) * DEGREE, row["name"],
                         row["kind"], row["facet"])
                for row in csv.DictReader(stream)
            ]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path}: not a list of positions ({error}); make it again.") from error
