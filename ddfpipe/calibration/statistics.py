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
"""Samples are filled up with zeros to a multiple of this: what a processor adds at once."""


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


@njit(cache=True, nogil=True)
def _gather(model, data, weight, channels, b, re, im):
    """Weighted samples of baseline b as rows of re, im: the directions, then the data.

    Returns the number of samples and Σ w |D|².
    """
    n_dir, n_time = model.shape[0], model.shape[1]
    n = 0
    power = 0.0
    for t in range(n_time):
        for c in channels:
            w = weight[t, b, c]
            if not w > 0.0:
                continue
            value = data[t, b, c]
            if not (np.isfinite(value.real) and np.isfinite(value.imag)):
                continue
            root = np.sqrt(w)
            re[n_dir, n] = root * value.real
            im[n_dir, n] = root * value.imag
            power += np.float64(w) * (np.float64(value.real)**2 + np.float64(value.imag)**2)
            for d in range(n_dir):
                m = model[d, t, b, c]
                re[d, n] = root * m.real
                im[d, n] = root * m.imag
            n += 1
    return n, power


@njit(cache=True, nogil=True, fastmath=FAST)
def _tile(re, im, d, e, n):
    """Σ conj(row) row for the 2 × 2 rows d, d+1 by e, e+1: eight float32 sums.

    Two by two keeps the multipliers busy: 16 fused multiply-adds for 8 loads.
    """
    r00 = np.float32(0)
    i00 = np.float32(0)
    r01 = np.float32(0)
    i01 = np.float32(0)
    r10 = np.float32(0)
    i10 = np.float32(0)
    r11 = np.float32(0)
    i11 = np.float32(0)
    for s in range(n):
        ar, ai, br, bi = re[d, s], im[d, s], re[d + 1, s], im[d + 1, s]
        xr, xi, yr, yi = re[e, s], im[e, s], re[e + 1, s], im[e + 1, s]
        r00 += ar * xr + ai * xi
        i00 += ar * xi - ai * xr
        r01 += ar * yr + ai * yi
        i01 += ar * yi - ai * yr
        r10 += br * xr + bi * xi
        i10 += br * xi - bi * xr
        r11 += br * yr + bi * yi
        i11 += br * yi - bi * yr
    return r00, i00, r01, i01, r10, i10, r11, i11


@njit(cache=True, nogil=True)
def _pack(sum_re, sum_im, a_re, a_im, c, b):
    """Rows of sums of baseline b as packed A and c; the row behind the directions is the data."""
    n_dir = c.shape[1]
    k = 0
    for d in range(n_dir):
        for e in range(d + 1):
            a_re[b, k] = sum_re[d, e]
            a_im[b, k] = sum_im[d, e]
            k += 1
    for e in range(n_dir):
        c[b, e] = complex(sum_re[n_dir, e], -sum_im[n_dir, e])


@njit(cache=True, nogil=True)
def _statistics(model, data, weight, channels, first, last, a_re, a_im, c, power, count):
    """Fill the statistics of baselines first <= b < last.

    Sums go through small arrays: writing each into its packed place keeps the compiler from
    vectorising the tiles, at twice the cost.
    """
    n_dir, n_time = model.shape[0], model.shape[1]
    rows = n_dir + 1 + (n_dir + 1) % 2
    most = (n_time * channels.size + LANES - 1) // LANES * LANES
    re = np.zeros((rows, most), np.float32)
    im = np.zeros((rows, most), np.float32)
    sum_re = np.zeros((rows, rows), np.float32)
    sum_im = np.zeros((rows, rows), np.float32)
    for b in range(first, last):
        n, power[b] = _gather(model, data, weight, channels, b, re, im)
        count[b] = n
        full = (n + LANES - 1) // LANES * LANES
        for d in range(rows):
            for s in range(n, full):
                re[d, s] = 0.0
                im[d, s] = 0.0
        for d in range(0, rows, 2):
            for e in range(0, d + 2, 2):
                r00, i00, r01, i01, r10, i10, r11, i11 = _tile(re, im, d, e, full)
                sum_re[d, e], sum_im[d, e] = r00, i00
                sum_re[d, e + 1], sum_im[d, e + 1] = r01, i01
                sum_re[d + 1, e], sum_im[d + 1, e] = r10, i10
                sum_re[d + 1, e + 1], sum_im[d + 1, e + 1] = r11, i11
        _pack(sum_re, sum_im, a_re, a_im, c, b)


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
