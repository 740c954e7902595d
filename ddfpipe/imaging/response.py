"""Slow variation over a facet of what its single gain leaves out: beam and smearing.

The quantity (a ratio to its value at the facet's centre, say) is evaluated at a coarse grid of
nodes and carried to the pixels by a spline through them.
"""

from __future__ import annotations

import numpy as np

from ddfpipe.errors import ImagingError
from ddfpipe.imaging.facets import Facet


def _node_pixels(facet: Facet, n_y: int, n_x: int) -> tuple[np.ndarray, np.ndarray]:
    """Box rows (n_y,) and columns (n_x,) of the nodes: even, from edge to edge of the box.

    Boxes can lie partly beyond the owned pixels; the nodes span the owned rows and columns only,
    so that none is wasted or behind the horizon.
    """
    rows = np.flatnonzero(facet.stop > facet.start)
    x_lo, x_hi = facet.start[rows].min(), facet.stop[rows].max() - 1
    return np.linspace(rows[0], rows[-1], n_y), np.linspace(x_lo, x_hi, n_x)


def response_nodes(facet: Facet, cell: float, n_y: int = 5, n_x: int = 5):
    """Directions (l, m), each (n_y, n_x) in rad, where `facet_response` wants its values."""
    y, x = _node_pixels(facet, n_y, n_x)
    l = facet.l0 - (x - facet.nx // 2) * cell
    m = facet.m0 + (y - facet.ny // 2) * cell
    return np.broadcast_to(l, (n_y, n_x)).copy(), np.repeat(m[:, None], n_x, axis=1)


def _spline_matrix(nodes: np.ndarray, n: int) -> np.ndarray:
    """(n, node) weights that carry node values to pixels 0 ... n-1, held constant outside."""
    from scipy.interpolate import make_interp_spline

    at = np.clip(np.arange(n), nodes[0], nodes[-1])
    if nodes.size == 1 or nodes[-1] == nodes[0]:
        return np.full((n, nodes.size), 1.0 / nodes.size)
    return make_interp_spline(nodes, np.eye(nodes.size), k=min(3, nodes.size - 1))(at)


def facet_response(values, facet: Facet, dtype=np.float32) -> np.ndarray:
    """Smooth map (ny, nx) over a facet's box through values at the nodes of `response_nodes`.

    values: (n_y, n_x) real.  The spline is cubic (of lower degree for fewer than four nodes along
    an axis); beyond the owned rows and columns the map keeps its value at their edge.
    Raises ImagingError when values are not a finite (n_y, n_x) array.
    """
    values = np.asarray(values, np.float64)
    if values.ndim != 2 or 0 in values.shape or not np.isfinite(values).all():
        raise ImagingError(f"facet {facet.index}: the response at the nodes must be a finite "
                           f"(n_y, n_x) array, got shape {values.shape}; check the beam model")
    y, x = _node_pixels(facet, *values.shape)
    out = _spline_matrix(y, facet.ny) @ values @ _spline_matrix(x, facet.nx).T
    return out.astype(dtype)
