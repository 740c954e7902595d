"""Sufficient statistics of a calibration block.

Where the corrupted model `K M` is known and the gains are constant, all that a solver of scalar
gains needs to know of a baseline is

    A_de = Σ w conj(M_d) M_e      c_d = Σ w conj(M_d) D      E = Σ w |D|²

summed over the samples of one time-frequency block.  Every sweep of every solver touches only
these, and χ² is exact: with G_d = g_pd conj(g_qd), χ² = E - 2 Re Σ conj(G_d) c_d + Σ conj(G_d)
A_de G_e.  A is Hermitian and stored as its packed lower triangle, planar float32; the measured
loss against float64 is below the last printed digit even with a source of 30 Jy in the field.
"""

from __future__ import annotations

from concurrent.futures import Executor
from dataclasses import dataclass

import numpy as np
from numba import njit

from ddfpipe.calibration.linalg import FAST
from ddfpipe.errors import SolveError

BASELINES_PER_TASK = 256
"""Fixed, so that the split into tasks does not depend on the number of threads."""


LANES = 16
"""Baselines whose sums are taken side by side, in the lanes of the processor: sums over samples of
one baseline in those lanes would spend twice the time of the products on adding the lanes up."""

CHUNK = 40
"""Samples of a group of baselines at once: with tens of directions they stay in a nearby cache."""

RUN = 4
"""Samples between two looks at the sums; chunks are filled up with zeros to a multiple of it."""

_IM, _STEP, _SUM = np.uintp(LANES), np.uintp(2 * LANES), np.uintp(LANES)
_STEP2, _STEP3 = np.uintp(4 * LANES), np.uintp(6 * LANES)
_TILE = 8 * LANES


@dataclass
class BlockStatistics:
    """Statistics of one time-frequency block.

    a_re, a_im: (n_bl, n_dir (n_dir + 1) / 2) float32, packed lower triangle (d >= e) of A.
    c: (n_bl, n_dir) complex64.
    power: (n_bl,) float64, E.
    count: (n_bl,) int64, complex samples with weight.
    With weights that are inverse variances per real component of a complex sample's noise power,
    i.e. w = 1 / <|noise|²>, χ² / count is one at the true gains.
    """

    a_re: np.ndarray
    a_im: np.ndarray
    c: np.ndarray
    power: np.ndarray
    count: np.ndarray

    @property
    def n_dir(self) -> int:
        """Number of directions."""
        return self.c.shape[1]

    def taking_part(self, use: np.ndarray | None = None) -> np.ndarray:
        """(n_bl,) bool: baselines with samples, of those that `use` names if given."""
        return self.count > 0 if use is None else use & (self.count > 0)

    def scaled(self, factor: np.ndarray) -> BlockStatistics:
        """As if the weights of every baseline were multiplied by factor (n_bl,)."""
        rows = factor.astype(np.float32)[:, None]
        return BlockStatistics(self.a_re * rows, self.a_im * rows, self.c * rows,
                               self.power * factor, self.count)


@njit(cache=True, nogil=True, forceinline=True)
def _weigh(data, weight, channels, first, lanes, t0, t1, c0, c1, root, power, count):
    """Roots of the weights of a chunk into root (lane, sample), zero where there is none; Σ w |D|²
    and the number of samples are added to power and count."""
    for lane in range(lanes):
        b = first + lane
        s = 0
        for t in range(t0, t1):
            for k in range(c0, c1):
                w = weight[t, b, channels[k]]
                value = data[t, b, channels[k]]
                root[lane, s] = 0.0
                if w > 0.0 and np.isfinite(value.real) and np.isfinite(value.imag):
                    root[lane, s] = np.sqrt(w)
                    power[b] += np.float64(w) * (np.float64(value.real)**2
                                                 + np.float64(value.imag)**2)
                    count[b] += 1
                s += 1


@njit(cache=True, nogil=True, forceinline=True)
def _fill(values, channels, first, lanes, t0, t1, c0, c1, root, row, x):
    """Weighted samples of values (time, bl, chan) into a row of x; no sample: zero."""
    start = row * CHUNK * 2 * LANES
    for lane in range(lanes):
        at = np.uintp(start + lane)
        s = 0
        for t in range(t0, t1):
            for k in range(c0, c1):
                r = root[lane, s]
                value = values[t, first + lane, channels[k]]
                x[at] = r * value.real if r > 0 else np.float32(0)
                x[at + _IM] = r * value.imag if r > 0 else np.float32(0)
                at += _STEP
                s += 1


@njit(cache=True, nogil=True, fastmath=FAST, inline="always")
def _products(x, i, j):
    """Sum of the products of a run of samples from i and from j."""
    return (x[i] * x[j] + x[i + _STEP] * x[j + _STEP] + x[i + _STEP2] * x[j + _STEP2]
            + x[i + _STEP3] * x[j + _STEP3])


@njit(cache=True, nogil=True, fastmath=FAST, forceinline=True)
def _add_tile(x, d, e, n, sums, at):
    """Add Σ conj(row) row for the 2 × 2 rows d, d+1 by e, e+1 of x to eight rows of sums from at.

    Two by two keeps the multipliers busy: 16 products for 8 values.  Unsigned indices into flat
    arrays: others are checked for their sign, which keeps the compiler from using the lanes.
    """
    row = np.uintp(CHUNK * 2 * LANES)
    for s in range(0, n, RUN):
        first, second = np.uintp((d * CHUNK + s) * 2 * LANES), np.uintp((e * CHUNK + s) * 2 * LANES)
        for lane in range(LANES):
            i, j = first + np.uintp(lane), second + np.uintp(lane)
            i1, j1 = i + row, j + row
            k = at + np.uintp(lane)
            sums[k] += _products(x, i, j) + _products(x, i + _IM, j + _IM)
            k += _SUM
            sums[k] += _products(x, i, j + _IM) - _products(x, i + _IM, j)
            k += _SUM
            sums[k] += _products(x, i, j1) + _products(x, i + _IM, j1 + _IM)
            k += _SUM
            sums[k] += _products(x, i, j1 + _IM) - _products(x, i + _IM, j1)
            k += _SUM
            sums[k] += _products(x, i1, j) + _products(x, i1 + _IM, j + _IM)
            k += _SUM
            sums[k] += _products(x, i1, j + _IM) - _products(x, i1 + _IM, j)
            k += _SUM
            sums[k] += _products(x, i1, j1) + _products(x, i1 + _IM, j1 + _IM)
            k += _SUM
            sums[k] += _products(x, i1, j1 + _IM) - _products(x, i1 + _IM, j1)


@njit(cache=True, nogil=True, forceinline=True)
def _unpack(sums, first, lanes, a_re, a_im, c):
    """Tiles of a group of baselines as packed A and c; the row behind the directions is the
    data."""
    n_dir = c.shape[1]
    for lane in range(lanes):
        b = first + lane
        k = 0
        for d in range(n_dir + 1):
            half = d // 2
            for e in range(min(d + 1, n_dir)):
                tile = half * (half + 1) // 2 + e // 2
                at = tile * _TILE + (4 * (d % 2) + 2 * (e % 2)) * LANES + lane
                if d < n_dir:
                    a_re[b, k] = sums[at]
                    a_im[b, k] = sums[at + LANES]
                    k += 1
                else:
                    c[b, e] = complex(sums[at], -sums[at + LANES])


@njit(cache=True, nogil=True)
def _statistics(model, data, weight, channels, first, last, a_re, a_im, c, power, count):
    """Fill the statistics of baselines first <= b < last."""
    n_dir, n_time, n_chan = model.shape[0], model.shape[1], channels.size
    rows = n_dir + 1 + (n_dir + 1) % 2
    x = np.zeros(rows * CHUNK * 2 * LANES, np.float32)
    sums = np.empty(rows // 2 * (rows // 2 + 1) // 2 * _TILE, np.float32)
    root = np.zeros((LANES, CHUNK), np.float32)
    wide = min(max(n_chan, 1), CHUNK)
    long = CHUNK // wide
    for b in range(first, last, LANES):
        lanes = min(LANES, last - b)
        sums[:] = 0
        power[b:b + lanes] = 0
        count[b:b + lanes] = 0
        for t in range(0, n_time, long):
            for k in range(0, n_chan, wide):
                stop, end = min(t + long, n_time), min(k + wide, n_chan)
                _weigh(data, weight, channels, b, lanes, t, stop, k, end, root, power, count)
                for d in range(n_dir):
                    _fill(model[d], channels, b, lanes, t, stop, k, end, root, d, x)
                _fill(data, channels, b, lanes, t, stop, k, end, root, n_dir, x)
                n = (stop - t) * (end - k)
                full = (n + RUN - 1) // RUN * RUN
                for row in range(rows):
                    x[(row * CHUNK + n) * 2 * LANES:(row * CHUNK + full) * 2 * LANES] = 0
                at = np.uintp(0)
                for d in range(0, rows, 2):
                    for e in range(0, d + 2, 2):
                        _add_tile(x, d, e, full, sums, at)
                        at += np.uintp(_TILE)
        _unpack(sums, b, lanes, a_re, a_im, c)


def block_statistics(model: np.ndarray, data: np.ndarray, weight: np.ndarray,
                     channels: np.ndarray | None = None,
                     executor: Executor | None = None) -> BlockStatistics:
    """Statistics of the samples of `channels` (indices; None: all).

    model: (n_dir, n_time, n_bl, n_chan) complex64; data: (n_time, n_bl, n_chan) complex64;
    weight: (n_time, n_bl, n_chan) float32, zero or NaN where flagged.  Samples whose data are not
    finite are left out.  executor: a thread pool, or None; the result is the same to the bit.
    Raises SolveError when shapes disagree.
    """
    if model.shape[1:] != data.shape or data.shape != weight.shape:
        raise SolveError(f"statistics: model {model.shape}, data {data.shape} and weight "
                         f"{weight.shape} must agree in (time, bl, chan)")
    n_dir, _, n_bl, n_chan = model.shape
    chan = np.arange(n_chan) if channels is None else np.asarray(channels, np.int64)
    n_pair = n_dir * (n_dir + 1) // 2
    out = BlockStatistics(np.empty((n_bl, n_pair), np.float32),
                          np.empty((n_bl, n_pair), np.float32),
                          np.empty((n_bl, n_dir), np.complex64),
                          np.empty(n_bl), np.empty(n_bl, np.int64))
    model = np.asarray(model, np.complex64)
    data = np.asarray(data, np.complex64)
    weight = np.asarray(weight, np.float32)

    def work(first: int) -> None:
        last = min(first + BASELINES_PER_TASK, n_bl)
        _statistics(model, data, weight, chan, first, last, out.a_re, out.a_im, out.c, out.power,
                    out.count)

    firsts = range(0, n_bl, BASELINES_PER_TASK)
    list(map(work, firsts) if executor is None else executor.map(work, firsts))
    return out


@njit(cache=True, nogil=True, fastmath=FAST)
def _chi_squared(a_re, a_im, c, power, gains, ant1, ant2, out):
    n_bl, n_dir = c.shape
    re = np.empty(n_dir)
    im = np.empty(n_dir)
    for b in range(n_bl):
        p, q = ant1[b], ant2[b]
        total = power[b]
        k = 0
        for d in range(n_dir):
            z = gains[p, d] * np.conj(gains[q, d])
            x, y = z.real, z.imag
            re[d] = x
            im[d] = y
            cross_re = 0.0
            cross_im = 0.0
            for e in range(d):
                cross_re += a_re[b, k + e] * re[e] - a_im[b, k + e] * im[e]
                cross_im += a_re[b, k + e] * im[e] + a_im[b, k + e] * re[e]
            total += 2.0 * (x * (cross_re - c[b, d].real) + y * (cross_im - c[b, d].imag))
            total += a_re[b, k + d] * (x * x + y * y)
            k += d + 1
        out[b] = total


def chi_squared(stats: BlockStatistics, gains: np.ndarray, ant1: np.ndarray,
                ant2: np.ndarray) -> np.ndarray:
    """χ² of each baseline, (n_bl,) float64, for gains (n_ant, n_dir) complex.

    ant1, ant2: (n_bl,) station indices.  The expected value at the true gains is stats.count.
    """
    out = np.empty(len(stats.power))
    _chi_squared(stats.a_re, stats.a_im, stats.c, stats.power,
                 np.ascontiguousarray(gains, np.complex128), np.asarray(ant1, np.int64),
                 np.asarray(ant2, np.int64), out)
    return out


@njit(cache=True, nogil=True)
def _excess(a_re, a_im, c, use, gains, ant1, ant2):
    """(Σ |conj(G_d) e_d|², Σ |G_d|² A_dd) over baselines and directions, e = c - A G."""
    n_bl, n_dir = c.shape
    pair = np.empty(n_dir, np.complex128)
    rest = np.empty(n_dir, np.complex128)
    found = 0.0
    expected = 0.0
    for b in range(n_bl):
        if not use[b]:
            continue
        for d in range(n_dir):
            pair[d] = gains[ant1[b], d] * np.conj(gains[ant2[b], d])
            rest[d] = c[b, d]
        k = 0
        for d in range(n_dir):
            for e in range(d):
                z = complex(a_re[b, k], a_im[b, k])
                rest[d] -= z * pair[e]
                rest[e] -= np.conj(z) * pair[d]
                k += 1
            rest[d] -= a_re[b, k] * pair[d]
            expected += a_re[b, k] * (pair[d].real**2 + pair[d].imag**2)
            k += 1
        for d in range(n_dir):
            z = np.conj(pair[d]) * rest[d]
            found += z.real**2 + z.imag**2
    return found, expected


def gradient_excess(stats: BlockStatistics, gains: np.ndarray, ant1: np.ndarray,
                    ant2: np.ndarray, use: np.ndarray | None = None) -> tuple[float, float]:
    """How much more residuals look like the directions than noise does: (found, expected).

    A baseline's pull on the gains is conj(G_d) e_d, e = c - A G; noise alone gives it the variance
    |G_d|² A_dd.  What the model lacks is coherent over a block and gives more.  Both are summed
    over baselines and directions; their ratio is the variance of gains over that which noise
    explains ("meat" over "bread" of the sandwich estimator, Huber 1967, Proc. 5th Berkeley Symp.
    1, 221; White 1980, Econometrica 48, 817).  gains: (n_ant, n_dir); use: (n_bl,) bool.
    """
    take = np.ones(len(stats.power), bool) if use is None else use
    return _excess(stats.a_re, stats.a_im, stats.c, take,
                   np.ascontiguousarray(gains, np.complex128), np.asarray(ant1, np.int64),
                   np.asarray(ant2, np.int64))
