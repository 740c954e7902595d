"""Facets of an image that is to be mosaicked: which are left out, and how far each is shifted."""

from __future__ import annotations

import ast
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ddfpipe import naming
from ddfpipe.data.images import grid_of_header
from ddfpipe.errors import DataError
from ddfpipe.products.astrometry.tables import read_facet_offsets
from ddfpipe.products.facetnoise import facet_outlines, tessel_of
from ddfpipe.products.planes import Plane
from ddfpipe.units import ARCSEC

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
    of the others; with no good facet at all, zero.
    Raises DataError for a table that cannot be read or does not belong to these facets.
    """
    table = read_facet_offsets(path)
    if table.size != count:
        raise DataError(f"{path}: offsets of {table.size} facets, but the facet layout has {count};"
                        " measure the offsets of this image.")
    # A fit that was never made has an error of zero.
    good = table.clear & (table.peak_error > 0.0).all(axis=1)
    good &= np.isfinite(table.east) & np.isfinite(table.north)
    out = []
    for values in (table.east, table.north):
        middle = np.median(values[good]) if good.any() else 0.0
        out.append(np.where(good, values, middle) / ARCSEC)
    return out[0], out[1]


def offsets_file(folder: Path, method: str) -> Path:
    """``<method>-facet_offsets.fits`` of a directory; DataError if it is not there."""
    path = folder / naming.offsets_file(method, "offsets")
    if not path.is_file():
        others = sorted(p.name for p in folder.glob(naming.offsets_file("*", "offsets")))
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
