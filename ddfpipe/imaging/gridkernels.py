"""Samples onto a facet's open grid and back, a block at a time: the compiled part of `facetgrid`.

A block: x, y (n,) float64 cells; tau (n,) float32, w/w_max; vis (2 n,) float32, real and imaginary
parts; at (n,) int64, place in the grid of the first cell that a sample touches, or less than zero
for none; taps (16 n,) float32, eight values of the kernel in u and eight in v.  The grid is flat
float32: planes of rows of complex cells.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from ddfpipe.imaging.lanes import (
    LANES, alternate, fma, halves, load, mul, pairs, splat, spread, store, sum_pairs,
)
from ddfpipe.imaging.phasor import BORROW, FASTMATH, reduce_turns, sincos_turns

TAPS = 8
"""Support of the kernel in u and v: with real and imaginary parts one vector."""
BLOCK = 256
"""Samples whose positions and taps are worked out together."""


@njit(**BORROW, forceinline=True)
def place(n, x, y, tau, vis, shape, at, first):
    """Fold n samples into the half-grid; at (n,) first cell, -1 as it was; first: s of the taps.

    x, y: (n,) float64 cells; tau: (n,) float32 w/w_max; vis (2 n,) float32, conjugated where
    folded; at[i] < 0 on entry: no sample there.  sign of the folds goes to first[2 BLOCK + i].
    """
    n_grid, row0, line = shape[0], shape[1], shape[2]
    per = 1.0 / n_grid
    for i in range(n):
        xi, yi = x[i], y[i]
        xi -= n_grid * np.floor(xi * per + 0.5)
        fold = -1.0 if xi < 0 else 1.0
        xi *= fold
        yi *= fold
        yi -= n_grid * np.floor(yi * per + 0.5)
        column, row = np.ceil(xi), np.ceil(yi)
        first[i] = 2.0 * (column - xi) - 1.0
        first[BLOCK + i] = 2.0 * (row - yi) - 1.0
        first[2 * BLOCK + i] = fold
        cell = np.int64(row + row0 - TAPS // 2) * line + 2 * np.int64(column)
        at[i] = cell if at[i] >= 0 else at[i]
        tau[i] *= np.float32(fold)
        vis[2 * i + 1] *= np.float32(fold)


@njit(**BORROW, forceinline=True)
def make_taps(n, first, poly, taps):
    """taps (16 n,): eight values of the kernel in u, then in v, of each sample."""
    p0, p1, p2, p3 = load(poly, 0), load(poly, 16), load(poly, 32), load(poly, 48)
    p4, p5, p6, p7 = load(poly, 64), load(poly, 80), load(poly, 96), load(poly, 112)
    p8, p9, p10, p11 = load(poly, 128), load(poly, 144), load(poly, 160), load(poly, 176)
    for i in range(n):
        s = halves(first[i], first[BLOCK + i])
        y = fma(fma(fma(fma(p0, s, p1), s, p2), s, p3), s, p4)
        y = fma(fma(fma(fma(y, s, p5), s, p6), s, p7), s, p8)
        store(taps, LANES * i, fma(fma(fma(y, s, p9), s, p10), s, p11))


@njit(cache=True, nogil=True, fastmath=FASTMATH, inline="always")
def _run_end(start, n, at, tau, most):
    """(end, middle of tau) of the run of samples on the same cell that begins at `start`."""
    low = high = tau[start]
    end = start + 1
    while end < n and at[end] == at[start]:
        lower, higher = min(low, tau[end]), max(high, tau[end])
        if higher - lower > most:
            break
        low, high = lower, higher
        end += 1
    return end, np.float32(0.5) * (low + high)


@njit(cache=True, nogil=True, fastmath=FASTMATH, inline="always")
def _put_one(i, at, tau, taps, vis, offset, shape, grid):
    """Sample i alone, as `put`: nothing has to be gathered, and w is exact."""
    line, sheet, n_planes = shape[2], shape[3], shape[4]
    x = mul(pairs(taps, LANES * i), alternate(vis[2 * i], vis[2 * i + 1]))
    o = LANES * i + TAPS
    k0, k1, k2, k3 = (spread(taps, o), spread(taps, o + 1), spread(taps, o + 2),
                      spread(taps, o + 3))
    k4, k5, k6, k7 = (spread(taps, o + 4), spread(taps, o + 5), spread(taps, o + 6),
                      spread(taps, o + 7))
    two = np.float32(2) * tau[i]
    t0, t1 = np.float32(1), tau[i]
    for plane in range(n_planes):
        y = mul(x, splat(t0))
        o = offset + plane * sheet + at[i]
        store(grid, o, fma(k0, y, load(grid, o)))
        o += line
        store(grid, o, fma(k1, y, load(grid, o)))
        o += line
        store(grid, o, fma(k2, y, load(grid, o)))
        o += line
        store(grid, o, fma(k3, y, load(grid, o)))
        o += line
        store(grid, o, fma(k4, y, load(grid, o)))
        o += line
        store(grid, o, fma(k5, y, load(grid, o)))
        o += line
        store(grid, o, fma(k6, y, load(grid, o)))
        o += line
        store(grid, o, fma(k7, y, load(grid, o)))
        t0, t1 = t1, two * t1 - t0


@njit(**BORROW, forceinline=True)
def put(n, at, tau, taps, vis, offset, shape, most, grid):
    """Add n samples, vis (2 n,) re and im, to the planes that begin at grid[offset]."""
    line, sheet, n_planes = shape[2], shape[3], shape[4]
    start = 0
    while start < n:
        if at[start] < 0:
            start += 1
            continue
        if start + 1 == n or at[start + 1] != at[start]:
            _put_one(start, at, tau, taps, vis, offset, shape, grid)
            start += 1
            continue
        end, middle = _run_end(start, n, at, tau, most)
        a0 = a1 = a2 = a3 = a4 = a5 = a6 = a7 = splat(np.float32(0))
        b0 = b1 = b2 = b3 = b4 = b5 = b6 = b7 = splat(np.float32(0))
        for i in range(start, end):
            x = mul(pairs(taps, LANES * i), alternate(vis[2 * i], vis[2 * i + 1]))
            d = mul(x, splat(tau[i] - middle))
            o = LANES * i + TAPS
            k = spread(taps, o)
            a0, b0 = fma(k, x, a0), fma(k, d, b0)
            k = spread(taps, o + 1)
            a1, b1 = fma(k, x, a1), fma(k, d, b1)
            k = spread(taps, o + 2)
            a2, b2 = fma(k, x, a2), fma(k, d, b2)
            k = spread(taps, o + 3)
            a3, b3 = fma(k, x, a3), fma(k, d, b3)
            k = spread(taps, o + 4)
            a4, b4 = fma(k, x, a4), fma(k, d, b4)
            k = spread(taps, o + 5)
            a5, b5 = fma(k, x, a5), fma(k, d, b5)
            k = spread(taps, o + 6)
            a6, b6 = fma(k, x, a6), fma(k, d, b6)
            k = spread(taps, o + 7)
            a7, b7 = fma(k, x, a7), fma(k, d, b7)
        # T_k and its derivative k U_(k-1) at the middle
        two = np.float32(2) * middle
        t0, t1, u0, u1 = np.float32(1), middle, np.float32(0), np.float32(1)
        for plane in range(n_planes):
            c, e = splat(t0), splat(np.float32(plane) * u0)
            o = offset + plane * sheet + at[start]
            store(grid, o, fma(c, a0, fma(e, b0, load(grid, o))))
            o += line
            store(grid, o, fma(c, a1, fma(e, b1, load(grid, o))))
            o += line
            store(grid, o, fma(c, a2, fma(e, b2, load(grid, o))))
            o += line
            store(grid, o, fma(c, a3, fma(e, b3, load(grid, o))))
            o += line
            store(grid, o, fma(c, a4, fma(e, b4, load(grid, o))))
            o += line
            store(grid, o, fma(c, a5, fma(e, b5, load(grid, o))))
            o += line
            store(grid, o, fma(c, a6, fma(e, b6, load(grid, o))))
            o += line
            store(grid, o, fma(c, a7, fma(e, b7, load(grid, o))))
            t0, t1 = t1, two * t1 - t0
            u0, u1 = u1, two * u1 - u0
        start = end


@njit(**BORROW, forceinline=True)
def get(n, at, tau, taps, vis, offset, shape, most, grid):
    """Fill vis (2 n,) with n samples from the planes: the transpose of `put`."""
    line, sheet, n_planes = shape[2], shape[3], shape[4]
    start = 0
    while start < n:
        if at[start] < 0:
            start += 1
            continue
        end, middle = _run_end(start, n, at, tau, most)
        a0 = a1 = a2 = a3 = a4 = a5 = a6 = a7 = splat(np.float32(0))
        b0 = b1 = b2 = b3 = b4 = b5 = b6 = b7 = splat(np.float32(0))
        two = np.float32(2) * middle
        t0, t1, u0, u1 = np.float32(1), middle, np.float32(0), np.float32(1)
        for plane in range(n_planes):
            c, e = splat(t0), splat(np.float32(plane) * u0)
            o = offset + plane * sheet + at[start]
            g = load(grid, o)
            a0, b0 = fma(c, g, a0), fma(e, g, b0)
            g = load(grid, o + line)
            a1, b1 = fma(c, g, a1), fma(e, g, b1)
            g = load(grid, o + 2 * line)
            a2, b2 = fma(c, g, a2), fma(e, g, b2)
            g = load(grid, o + 3 * line)
            a3, b3 = fma(c, g, a3), fma(e, g, b3)
            g = load(grid, o + 4 * line)
            a4, b4 = fma(c, g, a4), fma(e, g, b4)
            g = load(grid, o + 5 * line)
            a5, b5 = fma(c, g, a5), fma(e, g, b5)
            g = load(grid, o + 6 * line)
            a6, b6 = fma(c, g, a6), fma(e, g, b6)
            g = load(grid, o + 7 * line)
            a7, b7 = fma(c, g, a7), fma(e, g, b7)
            t0, t1 = t1, two * t1 - t0
            u0, u1 = u1, two * u1 - u0
        for i in range(start, end):
            d, o = splat(tau[i] - middle), LANES * i + TAPS
            x = mul(spread(taps, o), fma(d, b0, a0))
            x = fma(spread(taps, o + 1), fma(d, b1, a1), x)
            x = fma(spread(taps, o + 2), fma(d, b2, a2), x)
            x = fma(spread(taps, o + 3), fma(d, b3, a3), x)
            x = fma(spread(taps, o + 4), fma(d, b4, a4), x)
            x = fma(spread(taps, o + 5), fma(d, b5, a5), x)
            x = fma(spread(taps, o + 6), fma(d, b6, a6), x)
            x = fma(spread(taps, o + 7), fma(d, b7, a7), x)
            vis[2 * i], vis[2 * i + 1] = sum_pairs(mul(x, pairs(taps, LANES * i)))
        start = end


@njit(cache=True, nogil=True, fastmath=FASTMATH)
def grid_samples(forward, uvw, vis, weight, parameters, shape, poly, grid):
    """Grid w V (forward False) or fill vis from the grid (True), in blocks of samples."""
    a, b, us, vs, ws, l0, m0, n1 = parameters[:8]
    x, y, tau = np.empty(BLOCK), np.empty(BLOCK), np.empty(BLOCK, np.float32)
    at, value = np.empty(BLOCK, np.int64), np.zeros(2 * BLOCK, np.float32)
    first, taps = np.empty(3 * BLOCK, np.float32), np.empty(LANES * BLOCK, np.float32)
    turn = np.empty((2, BLOCK), np.float32)
    for start in range(0, vis.size, BLOCK):
        n = min(BLOCK, vis.size - start)
        for i in range(n):
            u, v, w = uvw[start + i, 0], uvw[start + i, 1], uvw[start + i, 2]
            x[i], y[i], tau[i] = (u + a * w) * us, (v + b * w) * vs, w * ws
            turn[0, i] = reduce_turns(u * l0 + v * m0 + w * n1)
            at[i] = 0
        for i in range(n):
            c, s = sincos_turns(turn[0, i])
            turn[0, i], turn[1, i] = c, s
        if not forward:
            for i in range(n):
                c, s, v, w = turn[0, i], turn[1, i], vis[start + i], weight[start + i]
                value[2 * i] = w * (v.real * c + v.imag * s) if w != 0 else np.float32(0)
                value[2 * i + 1] = w * (v.imag * c - v.real * s) if w != 0 else np.float32(0)
                at[i] = 0 if w != 0 else -1
        place(n, x, y, tau, value, shape, at, first)
        make_taps(n, first, poly, taps)
        if not forward:
            put(n, at, tau, taps, value, 0, shape, parameters[8], grid)
            continue
        get(n, at, tau, taps, value, 0, shape, parameters[8], grid)
        for i in range(n):
            c, s = turn[0, i], turn[1, i]
            re, im = value[2 * i], value[2 * i + 1] * first[2 * BLOCK + i]
            vis[start + i] = complex(re * c - im * s, re * s + im * c)
