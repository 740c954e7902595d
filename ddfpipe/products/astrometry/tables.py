"""Files of a measurement of offsets: the table of facets, the list for shifting, the samples."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ddfpipe.data.atomic import atomic_path, atomic_write_text
from ddfpipe.data.regions import FacetOutline
from ddfpipe.errors import DataError
from ddfpipe.units import ARCSEC

COLUMNS = ("Facet_id", "N_Sources", "RA_offset", "DEC_offset", "RA_error", "DEC_error", "RA_peak",
           "DEC_peak", "RA_peak_error", "DEC_peak_error")
"""Columns of the surveys' tables of facet offsets, arcsec."""
BIN = 80.0 / 150.0
"""Width in arcsec of the histogram bins to which the heights of peaks refer."""


@dataclass(frozen=True)
class FacetOffsets:
    """Offsets of the facets of an image, in the order of its facet layout; all arrays (facets,).

    sources: number of sources.  east, north: position in the image minus position in the
    reference along the image's axes, radians; the image has to be moved the other way.  east_error,
    north_error: radians.  peak, peak_error: (facets, 2) height of the peak in counts a bin.
    clear: whether the facet's own sources show a peak; else the offset is that of the field (or
    zero with an error of 100 arcsec where nothing is known).
    """

    sources: np.ndarray
    east: np.ndarray
    north: np.ndarray
    east_error: np.ndarray
    north_error: np.ndarray
    peak: np.ndarray
    peak_error: np.ndarray
    clear: np.ndarray

    @property
    def size(self) -> int:
        """Number of facets."""
        return self.sources.size

    @property
    def total_error(self) -> np.ndarray:
        """(facets,) errors of both axes added in quadrature, radians."""
        return np.hypot(self.east_error, self.north_error)

    def significant(self) -> np.ndarray:
        """(facets,) whether the offset is larger than its error."""
        return np.hypot(self.east, self.north) > self.total_error


def write_facet_offsets(path: Path | str, offsets: FacetOffsets, outlines: Sequence[FacetOutline],
                        meta: dict[str, str]) -> Path:
    """Write the table of facets, with the names of other surveys' tools and a few columns more.

    meta: texts for the header, by keyword.
    """
    from astropy.table import Table

    values = [np.arange(offsets.size), offsets.sources, offsets.east / ARCSEC,
              offsets.north / ARCSEC, offsets.east_error / ARCSEC, offsets.north_error / ARCSEC,
              *offsets.peak.T, *offsets.peak_error.T]
    table = Table(values, names=COLUMNS, meta=dict(meta))
    table["Clear"] = offsets.clear
    table["Label"] = [outline.label for outline in outlines]
    for name in COLUMNS[2:6]:
        table[name].unit = "arcsec"
    with atomic_path(path) as part:
        table.write(part, format="fits")
    return Path(path)


def read_facet_offsets(path: Path | str) -> FacetOffsets:
    """Read a table of facet offsets, ours or one of ddf-pipeline.

    Raises DataError naming the file for a missing or damaged one.
    """
    from astropy.table import Table

    path = Path(path)
    try:
        table = Table.read(path, format="fits", hdu=1)
        values = {name: np.asarray(table[name], float) for name in COLUMNS}
        clear = np.asarray(table["Clear"], bool) if "Clear" in table.colnames else None
    except FileNotFoundError as error:
        raise DataError(f"{path}: there is no such table of facet offsets.") from error
    except (OSError, KeyError, ValueError, TypeError) as error:
        raise DataError(f"{path}: not a table of facet offsets ({error}).") from error
    order = np.argsort(values["Facet_id"], kind="stable")
    if not np.array_equal(values["Facet_id"][order], np.arange(order.size)):
        raise DataError(f"{path}: Facet_id must count facets from 0 without gaps.")
    values = {name: value[order] for name, value in values.items()}
    peak = np.stack([values["RA_peak"], values["DEC_peak"]], axis=1)
    peak_error = np.stack([values["RA_peak_error"], values["DEC_peak_error"]], axis=1)
    # Tables without the column: the limit that the surveys use for a believable peak.
    clear = (peak >= 2.0 * peak_error).all(axis=1) if clear is None else clear[order]
    return FacetOffsets(
        values["N_Sources"].astype(int), values["RA_offset"] * ARCSEC,
        values["DEC_offset"] * ARCSEC, values["RA_error"] * ARCSEC, values["DEC_error"] * ARCSEC,
        peak, peak_error, clear,
    )


def write_shift_list(path: Path | str, offsets: FacetOffsets, outlines: Sequence[FacetOutline],
                     cell: float) -> Path:
    """Write the list that DDFacet's RestoreAndShift reads.

    A line a facet: right ascension and declination of its centre in radians, and where in pixels
    (x, y) of `cell` radians its sources lie relative to the reference.
    """
    lines = []
    for number, outline in enumerate(outlines):
        ra, dec = centre_of(outline)
        lines.append(f"{ra:.10f} {dec:.10f} {-offsets.east[number] / cell:.6f} "
                     f"{offsets.north[number] / cell:.6f}\n")
    atomic_write_text(path, "".join(lines))
    return Path(path)


def centre_of(outline: FacetOutline) -> tuple[float, float]:
    """(ra, dec) in radians of a facet's direction, or of the middle of its corners."""
    if outline.centre is not None:
        return outline.centre
    ra, dec = outline.polygon.T
    x, y, z = (np.cos(dec) * np.cos(ra)).sum(), (np.cos(dec) * np.sin(ra)).sum(), np.sin(dec).sum()
    return float(np.arctan2(y, x) % (2.0 * np.pi)), float(np.arctan2(z, np.hypot(x, y)))


def write_state(path: Path | str, facts: dict, fits: Sequence) -> Path:
    """Write facts of a measurement (JSON values) and the parameters of every facet's fit.

    The file is JSON and needs nothing of this package to be read.
    """
    facets = [None if fit is None else {
        "offset_arcsec": [float(v) for v in fit.offset],
        "error_arcsec": [float(v) for v in fit.error],
        "matched": float(fit.matched), "matched_error": float(fit.matched_error),
        "scatter_arcsec": float(fit.scatter), "share": float(fit.share), "gain": float(fit.gain),
    } for fit in fits]
    atomic_write_text(path, json.dumps({**facts, "facets": facets}, indent=1) + "\n")
    return Path(path)
