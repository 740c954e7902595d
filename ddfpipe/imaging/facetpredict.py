"""Visibilities of a facet's pixels for every sample of a chunk: degridding on the facet's grid.

Nothing is averaged: what a solver or a subtraction compares with data must hold for each sample.
Baselines are walked along time, channel after channel, so that samples on the same cells follow
each other (`gridkernels.get`).
"""

from __future__ import annotations

import numpy as np
from numba import njit

from ddfpipe.imaging.facetgrid import FacetGrid, tap_polynomials
from ddfpipe.imaging.facets import Facet
from ddfpipe.imaging.gridding import facet_to_vis
from ddfpipe.imaging.gridkernels import BLOCK, get, make_taps, place
from ddfpipe.imaging.lanes import LANES
from ddfpipe.imaging.phasor import FASTMATH, reduce_turns, sincos_turns
from ddfpipe.units import SPEED_OF_LIGHT

ACCURACY = 5e-5
"""Accuracy of the treatment of w; what goes through grids is faint."""

GRID_BYTES = 400e6
"""Largest grid; larger ones are left to ducc0, which keeps one plane at a time."""

DIRECT, DEGRID, DEGRID_PLANE, LOAD = 0.25, 8.0, 2.5, 7.0
"""CPU time in ns: a component and visibility summed directly; a visibility, and each w plane, taken
from a loaded grid; a pixel and w plane on their way to the grid."""


@njit(cache=True, nogil=True, fastmath=FASTMATH)
def _predict(uvw, nu, parameters, shape, poly, grid, out):
    """Fill out (time, bl, chan) from a loaded grid; uvw (time, bl, 3) in seconds."""
    a, b, us, vs, ws, l0, m0, n1 = parameters[:8]
    place_uvw = np.empty((4, BLOCK))
    x, y, tau = np.empty(BLOCK), np.empty(BLOCK), np.empty(BLOCK, np.float32)
    at, value = np.zeros(BLOCK, np.int64), np.zeros(2 * BLOCK, np.float32)
    first, taps = np.empty(3 * BLOCK, np.float32), np.empty(LANES * BLOCK, np.float32)
    turn = np.empty((2, BLOCK), np.float32)
    n_t, n_bl, n_c = out.shape
    for k in range(n_bl):
        for t0 in range(0, n_t, BLOCK):
            n = min(BLOCK, n_t - t0)
            for i in range(n):
                u, v, w = uvw[t0 + i, k, 0], uvw[t0 + i, k, 1], uvw[t0 + i, k, 2]
                place_uvw[0, i], place_uvw[1, i] = (u + a * w) * us, (v + b * w) * vs
                place_uvw[2, i], place_uvw[3, i] = w * ws, u * l0 + v * m0 + w * n1
            for c in range(n_c):
                f = nu[c]
                for i in range(n):
                    x[i], y[i] = place_uvw[0, i] * f, place_uvw[1, i] * f
                    tau[i], at[i] = place_uvw[2, i] * f, 0
                    turn[0, i] = reduce_turns(place_uvw[3, i] * f)
                for i in range(n):
                    turn[0, i], turn[1, i] = sincos_turns(turn[0, i])
                place(n, x, y, tau, value, shape, at, first)
                make_taps(n, first, poly, taps)
                get(n, at, tau, taps, value, 0, shape, parameters[8], grid)
                for i in range(n):
                    p, q = turn[0, i], turn[1, i]
                    re, im = value[2 * i], value[2 * i + 1] * first[2 * BLOCK + i]
                    out[t0 + i, k, c] = complex(re * p - im * q, re * q + im * p)


def reach(uvw, freq) -> tuple[float, float]:
    """Largest |w| and largest |u| or |v| in wavelengths of uvw (..., 3) m at freq (chan,) Hz."""
    most = np.abs(np.asarray(uvw).reshape(-1, 3)).max(axis=0) * (np.max(freq) / SPEED_OF_LIGHT)
    return float(most[2]), float(max(most[0], most[1]))


def _empty_grid(facet: Facet, cell: float, w_max: float, uv_max: float) -> FacetGrid:
    return FacetGrid(facet, cell, w_max, uv_max, accuracy=ACCURACY)


def grid_size(facet: Facet, cell: float, w_max: float, uv_max: float) -> int:
    """Floats of a facet's grid for visibilities of that reach (`reach`)."""
    return _empty_grid(facet, cell, w_max, uv_max).size


def grid_pays(facet: Facet, cell: float, limits: tuple[float, float], components: int,
              visibilities: int) -> bool:
    """Whether so many visibilities of the reach `limits` come cheaper from a facet's grid, which
    has to be loaded, than from the sum over so many components."""
    empty = _empty_grid(facet, cell, *limits)
    grid = visibilities * _degrid_ns(empty) + LOAD * empty.n_planes * facet.ny * facet.nx
    return components * visibilities * DIRECT > grid


def degrid_ns(facet: Facet, cell: float, limits: tuple[float, float]) -> float:
    """CPU time in ns of a visibility that is taken from a loaded grid."""
    return _degrid_ns(_empty_grid(facet, cell, *limits))


def _degrid_ns(grid: FacetGrid) -> float:
    return DEGRID + DEGRID_PLANE * grid.n_planes


class LoadedFacet:
    """Pixels of a facet on its grid, ready for any number of chunks.

    image (ny, nx) float32, flux a pixel; cell rad; w_max, uv_max: the reach of all the chunks;
    buffer: `grid_size` float32 numbers to lay the grid in, made when None.  Errors are below
    1e-4 rms.  Threads may share it.
    """

    def __init__(self, image, facet: Facet, cell: float, w_max: float, uv_max: float,
                 buffer: np.ndarray | None = None):
        self._grid = _empty_grid(facet, cell, w_max, uv_max)
        if buffer is not None:
            self._grid.use(buffer)
        self._grid.load(image)

    def chunk(self, uvw, freq) -> np.ndarray:
        """Visibilities (time, bl, chan) complex64 for uvw (time, bl, 3) m and freq (chan,) Hz."""
        seconds = np.ascontiguousarray(uvw, np.float64) / SPEED_OF_LIGHT
        freq, grid = np.atleast_1d(np.asarray(freq, np.float64)), self._grid
        out = np.empty((*seconds.shape[:2], freq.size), np.complex64)
        _predict(seconds, freq, grid.parameters, grid.shape, tap_polynomials(grid.sigma),
                 grid.buffer, out)
        return out


class _DuccFacet:
    """As LoadedFacet, for a grid that is too large: ducc0 keeps one plane at a time."""

    def __init__(self, image, facet: Facet, cell: float, epsilon: float):
        self._args = {"image": image, "facet": facet, "cell": cell, "epsilon": epsilon}

    def chunk(self, uvw, freq) -> np.ndarray:
        freq = np.atleast_1d(np.asarray(freq, np.float64))
        return facet_to_vis(uvw=uvw, freq=freq, **self._args)


def load_facet(image, facet: Facet, cell: float, limits: tuple[float, float],
               epsilon: float = 1e-5) -> LoadedFacet | _DuccFacet:
    """Pixels of a facet (`LoadedFacet`) for chunks of the reach `limits`.

    epsilon: accuracy where the grid is too large for the memory and ducc0 takes over; otherwise it
    is that of LoadedFacet.
    """
    if 4 * grid_size(facet, cell, *limits) > GRID_BYTES:
        return _DuccFacet(image, facet, cell, epsilon)
    return LoadedFacet(image, facet, cell, *limits)
