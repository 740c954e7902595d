"""Which facet a place belongs to: label maps of images, labels of sources, maps of offsets."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ddfpipe.data.images import SkyGrid
from ddfpipe.data.regions import FacetOutline


def facet_labels(outlines: Sequence[FacetOutline], grid: SkyGrid) -> np.ndarray:
    """(ny, nx) int16 number of the facet that owns each pixel, -1 outside of all.

    A pixel on a common edge goes to one of the facets only.  Polygons may be concave.
    """
    labels = np.full(grid.shape, -1, np.int16)
    for number, outline in enumerate(outlines):
        y, x = grid.pixel_of(outline.polygon[:, 0], outline.polygon[:, 1])
        for row, first, stop in _runs(y, x, grid):
            labels[row, first:stop] = number
    return labels


def _runs(y: np.ndarray, x: np.ndarray, grid: SkyGrid):
    """(row, first column, column after the last) of the pixels inside a polygon (even-odd rule)."""
    if not np.isfinite(y).all():
        return
    y_next, x_next = np.roll(y, -1), np.roll(x, -1)
    low, high = np.minimum(y, y_next), np.maximum(y, y_next)
    for row in range(max(0, int(np.ceil(y.min()))), min(grid.ny, int(np.floor(y.max())) + 1)):
        cut = (low <= row) & (row < high)
        at = x[cut] + (row - y[cut]) * (x_next[cut] - x[cut]) / (y_next[cut] - y[cut])
        columns = np.clip(np.ceil(np.sort(at)), 0, grid.nx).astype(int)
        for first, stop in zip(columns[::2], columns[1::2]):
            if stop > first:
                yield row, first, stop


def facet_of(outlines: Sequence[FacetOutline], grid: SkyGrid, ra: np.ndarray, dec: np.ndarray
             ) -> np.ndarray:
    """(n,) number of the facet that holds each position (radians), -1 outside of all."""
    from matplotlib.path import Path

    y, x = grid.pixel_of(ra, dec)
    points = np.nan_to_num(np.column_stack([np.atleast_1d(x), np.atleast_1d(y)]), nan=-1e9)
    found = np.full(len(points), -1)
    for number, outline in enumerate(outlines):
        corner_y, corner_x = grid.pixel_of(outline.polygon[:, 0], outline.polygon[:, 1])
        inside = Path(np.column_stack([corner_x, corner_y])).contains_points(points)
        found[inside & (found < 0)] = number
    return found


def offset_map(values: np.ndarray, outlines: Sequence[FacetOutline], grid: SkyGrid,
               outside: float = np.nan) -> np.ndarray:
    """(..., ny, nx) float32 map of one value a facet.

    values: (..., facets), for instance np.stack([offsets.east, offsets.north]); outside: value of
    pixels that belong to no facet.
    """
    values = np.asarray(values, np.float32)
    padded = np.concatenate([values, np.full((*values.shape[:-1], 1), outside, np.float32)], -1)
    return padded[..., facet_labels(outlines, grid)]


def coarse_grid(grid: SkyGrid, factor: int) -> SkyGrid:
    """A grid of pixels `factor` times as large about the same centre."""
    return SkyGrid(grid.ra, grid.dec, max(1, grid.ny // factor), max(1, grid.nx // factor),
                   grid.cell * factor)
