"""Facets of an image that is to be mosaicked: which are left out, and how far each is shifted."""

from __future__ import annotations

import ast
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ddfpipe import naming
from ddfpipe.data.catalogues import read_columns
from ddfpipe.data.images import grid_of_header
from ddfpipe.errors import DataError
from ddfpipe.products.facetnoise import facet_outlines, tessel_of
from ddfpipe.products.planes import Plane
from ddfpipe.units import ARCSEC

WORST_PEAK = 2.0
"""A fitted peak of the separations below this many times its error is no detection."""
_GAP = 0.05
"""Pixels by which corners of facets are moved outwards."""


@dataclass(frozen=True)
class Facets:
    """Outlines (n, 2) as pixels (x, y) of the image; shift (facet, 2): how far sources lie from
    their true pixel (x, y); used (facet,) bool."""

    outlines: tuple[np.ndarray, ...]
    shift: np.ndarray
    used: np.ndarray

    def reach(self) -> int:
        """Pixels by which any facet is shifted at most."""
        return int(np.ceil(np.abs(self.shift).max(initial=0.0)))

    def label(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Facet that each pixel position lies in, same shape; -1 outside of all used ones."""
        from matplotlib.path import Path as Outline

        out = np.full(x.shape, -1, np.int32)
        for number in np.flatnonzero(self.used):
            corners = _grown(self.outlines[number])
            low, high = corners.min(axis=0), corners.max(axis=0)
            near = (out < 0) & (x >= low[0]) & (x <= high[0]) & (y >= low[1]) & (y <= high[1])
            if near.any():
                inside = Outline(corners).contains_points(np.column_stack([x[near], y[near]]))
                out[near] = np.where(inside, number, -1)
        return out


def _grown(corners: np.ndarray) -> np.ndarray:
    """The polygon, a little larger: corners in region files are rounded, and pixels in the gaps
    between neighbours would belong to nobody.  The first facet takes those that two share."""
    middle = corners.mean(axis=0)
    size = np.hypot(*(corners - middle).T).min()
    return middle + (corners - middle) * (1.0 + _GAP / max(size, 1.0))


def read_facets(image: Plane, *, offsets: Path | None, bad: Path | None) -> Facets:
    """Facets of an image from its ``.tessel.reg``.

    offsets: table of astrometric offsets, None for no shift; bad: list of facets left out, None
    or a file that is not there for none.
    Raises DataError when a file does not fit the layout, SkyModelError when that cannot be read.
    """
    tessel = tessel_of(image.path)
    grid = grid_of_header(image.header, image.path)
    outlines = tuple(facet_outlines(grid, tessel))
    used = np.ones(len(outlines), bool)
    if bad is not None and bad.is_file():
        used[_bad_facets(bad, len(outlines))] = False
    shift = np.zeros((len(outlines), 2))
    if offsets is not None:
        east, north = read_offsets(offsets, len(outlines))
        shift = np.column_stack([-east, north]) * ARCSEC / grid.cell
    return Facets(outlines, shift, used)


def read_offsets(path: Path, count: int) -> tuple[np.ndarray, np.ndarray]:
    """(east, north) offsets of `count` facets, arcsec: this image's minus the reference positions.

    Facets whose fit found no clear peak (peak below twice its error, in RA or Dec) take the median
    of the others, so do facets without a row; with no good facet at all, zero.
    Raises DataError for a table that does not belong to these facets.
    """
    names = ("Facet_id", "RA_offset", "DEC_offset", "RA_peak", "RA_peak_error", "DEC_peak",
             "DEC_peak_error")
    table, _ = read_columns(path, names)
    number = table["Facet_id"].astype(int)
    if number.size == 0 or number.min() < 0 or number.max() >= count \
            or np.unique(number).size < number.size:
        raise DataError(f"{path}: its facets are not those of the {count} in the facet layout; "
                        "measure the offsets of this image.")
    good = np.isfinite(table["RA_offset"]) & np.isfinite(table["DEC_offset"])
    for axis in ("RA", "DEC"):
        error = table[f"{axis}_peak_error"]
        good &= (error > 0.0) & (table[f"{axis}_peak"] >= WORST_PEAK * error)
    out = []
    for column in ("RA_offset", "DEC_offset"):
        values = table[column][good]
        full = np.full(count, np.median(values) if values.size else 0.0)
        full[number[good]] = values
        out.append(full)
    return out[0], out[1]


def offsets_file(folder: Path, method: str) -> Path:
    """``<method>-facet_offsets.fits`` of a directory; DataError if it is not there."""
    path = folder / f"{method}-facet_offsets.fits"
    if not path.is_file():
        others = sorted(p.name for p in folder.glob("*-facet_offsets.fits"))
        there = f"; there is {', '.join(others)}: choose it with --offsets" if others else \
            "; run the pipeline with [offsets] method, or leave --apply_shift out"
        raise DataError(f"{path}: there is no such table of offsets{there}.")
    return path


def _bad_facets(path: Path, count: int) -> list[int]:
    """Numbers in the second line of ``Badfacets.txt``: ``<name>,[3, 7]``."""
    try:
        line = path.read_text(encoding="utf-8").splitlines()[1]
        numbers = ast.literal_eval(line.split(",", 1)[1].strip().strip('"'))
        numbers = [int(n) for n in numbers]
    except (OSError, IndexError, ValueError, SyntaxError, TypeError) as err:
        raise DataError(f"{path}: the second line must be a name and a list of facet numbers, like "
                        "P123+45,[3, 7].") from err
    if any(not 0 <= n < count for n in numbers):
        raise DataError(f"{path}: facets {numbers}, but the image has 0 to {count - 1}.")
    return numbers


def bad_facets_file(folder: Path) -> Path:
    """``Badfacets.txt`` of a directory."""
    return folder / naming.BAD_FACETS
