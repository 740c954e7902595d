"""In which facet a position lies."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ddfpipe.data.images import SkyGrid
from ddfpipe.data.regions import FacetOutline, read_tessel


def facet_numbers(ra: np.ndarray, dec: np.ndarray, facets: list[FacetOutline], grid: SkyGrid
                  ) -> np.ndarray:
    """(n,) number of the facet (from 0, in the order of the file) of each position, -1 outside.

    ra, dec: (n,) radians.  Facets are polygons of straight lines on the image's plane.  A
    position on a common edge belongs to the first.
    """
    l, m = grid.lm_of(ra, dec)  # noqa: E741
    number = np.full(np.shape(l), -1)
    for k, facet in enumerate(facets):
        corners = np.stack(grid.lm_of(facet.polygon[:, 0], facet.polygon[:, 1]), axis=-1)
        free = (number < 0) & np.isfinite(l)
        number[free] = np.where(inside_polygon(l[free], m[free], corners), k, -1)
    return number


def inside_polygon(x: np.ndarray, y: np.ndarray, corners: np.ndarray) -> np.ndarray:
    """(n,) bool by counting crossings of a ray towards +x; corners: (k, 2)."""
    inside = np.zeros(np.shape(x), bool)
    for (x0, y0), (x1, y1) in zip(corners, np.roll(corners, -1, axis=0)):
        spans = (y0 > y) != (y1 > y)
        if spans.any():
            with np.errstate(divide="ignore", invalid="ignore"):
                crossing = x0 + (y - y0) * (x1 - x0) / (y1 - y0)
            inside ^= spans & (x < crossing)
    return inside


def facet_map(facets: list[FacetOutline], grid: SkyGrid, step: int) -> np.ndarray:
    """(ny // step, nx // step) facet numbers at the centres of blocks of `step` x `step` pixels."""
    y = (np.arange(grid.ny // step) + 0.5) * step - 0.5
    x = (np.arange(grid.nx // step) + 0.5) * step - 0.5
    ra, dec = grid.radec(*(v.ravel() for v in np.broadcast_arrays(*_lm(grid, y, x))))
    return facet_numbers(ra, dec, facets, grid).reshape(y.size, x.size)


def _lm(grid: SkyGrid, y: np.ndarray, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    l, m = grid.lm(y, x)  # noqa: E741
    return l[None, :], m[:, None]


def read_facets(path: Path | None) -> list[FacetOutline]:
    """Outlines of a `.tessel.reg`; none where there is no such file."""
    return read_tessel(path) if path is not None and path.exists() else []
