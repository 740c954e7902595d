"""Alternating least squares: complex scalar gains, antenna by antenna, all directions at once.

With the gains of the other stations fixed the visibilities of station p are linear in its gains:

    N_p = Σ_q A_pq ∘ (g_q g_q^H)        r_p = Σ_q c_pq ∘ g_q        g_p <- N_p⁻¹ r_p

(A and c conjugated where p is the second station of the baseline).  Newest values are used at
once (Gauss-Seidel).  The structure is that of CohJones (Smirnov & Tasse 2015, MNRAS 449, 2668)
and StefCal (Salvini & Wijnholds 2014, A&A 571, A97).  All stations are free; a reference station
is a matter of presentation and slows convergence when it is pinned here.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from ddfpipe.calibration.accelerate import MEMORY, mix, remember
from ddfpipe.calibration.linalg import FAST, hermitian_solve
from ddfpipe.calibration.statistics import BlockStatistics
from ddfpipe.errors import SolveError

RIDGE = 1e-6
"""Proximal ridge relative to the largest diagonal element of N_p: covers float32 rounding of the
statistics; it pulls towards the current gain, so it does not move the solution."""

PLAIN_SWEEPS = 3
"""Sweeps of a solve before extrapolation begins."""


def baseline_lookup(ant1: np.ndarray, ant2: np.ndarray, n_ant: int) -> np.ndarray:
    """(n_ant, n_ant) int64: b + 1 where p is the first station of baseline b, -(b + 1) where it is
    the second, 0 where there is no baseline; autocorrelations are left out.

    Raises SolveError for stations outside 0..n_ant-1 or a pair that occurs twice.
    """
    lookup = np.zeros((n_ant, n_ant), np.int64)
    for b, (p, q) in enumerate(zip(ant1, ant2, strict=True)):
        if not (0 <= p < n_ant and 0 <= q < n_ant):
            raise SolveError(f"baseline {b} joins stations {p} and {q}, but there are {n_ant}")
        if p == q:
            continue
        if lookup[p, q]:
            raise SolveError(f"stations {p} and {q} are joined by two baselines; each pair may "
                             "occur once")
        lookup[p, q], lookup[q, p] = b + 1, -(b + 1)
    return lookup


@njit(cache=True, nogil=True, forceinline=True)
def outer_products(gains, h_re, h_im, q):
    """Packed lower triangle of g g^H of station q into row q of h_re, h_im (float32)."""
    k = 0
    for d in range(gains.shape[1]):
        for e in range(d + 1):
            z = gains[q, d] * np.conj(gains[q, e])
            h_re[q, k] = z.real
            h_im[q, k] = z.imag
            k += 1


@njit(cache=True, nogil=True, forceinline=True)
def begin_normal(gains):
    """What `assemble` works on: outer products (n_ant, n_pair) of all stations' gains (n_ant,
    n_dir), real and imaginary; room for N_p (n_pair,), likewise, and r_p (n_dir,)."""
    n_ant, n_dir = gains.shape
    n_pair = n_dir * (n_dir + 1) // 2
    h_re = np.empty((n_ant, n_pair), np.float32)
    h_im = np.empty((n_ant, n_pair), np.float32)
    for q in range(n_ant):
        outer_products(gains, h_re, h_im, q)
    n_re = np.empty(n_pair, np.float32)
    n_im = np.empty(n_pair, np.float32)
    return h_re, h_im, n_re, n_im, np.empty(n_dir, np.complex128)


@njit(cache=True, nogil=True, fastmath=FAST, forceinline=True)
def assemble(a_re, a_im, c, use, gains, h_re, h_im, lookup, p, n_re, n_im, rhs):
    """Normal equations of station p: packed N_p into n_re, n_im, r_p into rhs.

    use: (n_bl,) bool, baselines that take part.  Returns the number of baselines used.
    """
    n_ant, n_dir = gains.shape
    n_pair = a_re.shape[1]
    n_re[:] = 0
    n_im[:] = 0
    rhs[:] = 0
    used = 0
    for q in range(n_ant):
        code = lookup[p, q]
        if code == 0:
            continue
        b = abs(code) - 1
        if not use[b]:
            continue
        used += 1
        sign = np.float32(1.0) if code > 0 else np.float32(-1.0)
        for k in range(n_pair):
            x = a_re[b, k]
            y = sign * a_im[b, k]
            n_re[k] += x * h_re[q, k] - y * h_im[q, k]
            n_im[k] += x * h_im[q, k] + y * h_re[q, k]
        for d in range(n_dir):
            z = c[b, d]
            rhs[d] += complex(z.real, sign * z.imag) * gains[q, d]
    return used


@njit(cache=True, nogil=True, forceinline=True)
def _update(n_re, n_im, rhs, gains, p, full_re, full_im, x_re, x_im):
    """New gains of station p from its normal equations; returns the predicted χ² decrease."""
    n_dir = gains.shape[1]
    largest = 0.0
    k = 0
    for d in range(n_dir):
        for e in range(d + 1):
            full_re[d, e] = n_re[k]
            full_im[d, e] = n_im[k]
            k += 1
        largest = max(largest, full_re[d, d])
    if not largest > 0.0:
        return 0.0
    ridge = RIDGE * largest
    for d in range(n_dir):
        x_re[d] = rhs[d].real + ridge * gains[p, d].real
        x_im[d] = rhs[d].imag + ridge * gains[p, d].imag
        full_re[d, d] += ridge
    if not hermitian_solve(full_re, full_im, x_re, x_im, n_dir):
        return 0.0
    # |L^H dg|² = dg^H N dg is what a full step of this station gains in χ².
    decrease = 0.0
    for e in range(n_dir):
        a, b = 0.0, 0.0
        for d in range(e, n_dir):
            u, v = x_re[d] - gains[p, d].real, x_im[d] - gains[p, d].imag
            a += full_re[d, e] * u + full_im[d, e] * v
            b += full_re[d, e] * v - full_im[d, e] * u
        decrease += a * a + b * b
    for d in range(n_dir):
        gains[p, d] = complex(x_re[d], x_im[d])
    return decrease


@njit(cache=True, nogil=True, forceinline=True)
def _sweep(a_re, a_im, c, use, gains, lookup, information):
    """One Gauss-Seidel sweep; the predicted decrease of χ².  information: diagonal of N_p."""
    n_ant, n_dir = gains.shape
    h_re, h_im, n_re, n_im, rhs = begin_normal(gains)
    full_re = np.empty((n_dir, n_dir))
    full_im = np.empty((n_dir, n_dir))
    x_re = np.empty(n_dir)
    x_im = np.empty(n_dir)
    decrease = 0.0
    for p in range(n_ant):
        information[p] = 0.0
        if assemble(a_re, a_im, c, use, gains, h_re, h_im, lookup, p, n_re, n_im, rhs) == 0:
            continue
        for d in range(n_dir):
            information[p, d] = n_re[d * (d + 3) // 2]
        decrease += _update(n_re, n_im, rhs, gains, p, full_re, full_im, x_re, x_im)
        outer_products(gains, h_re, h_im, p)
    return decrease


@njit(cache=True, nogil=True)
def _free_decrease(a_re, a_im, c, use, gains, lookup, stations, out):
    n_ant, n_dir = gains.shape
    h_re, h_im, n_re, n_im, rhs = begin_normal(gains)
    full_re = np.empty((n_dir, n_dir))
    full_im = np.empty((n_dir, n_dir))
    x_re = np.empty(n_dir)
    x_im = np.empty(n_dir)
    for i in range(stations.size):
        p = stations[i]
        out[i] = 0.0
        if assemble(a_re, a_im, c, use, gains, h_re, h_im, lookup, p, n_re, n_im, rhs) > 0:
            kept = gains[p].copy()
            out[i] = _update(n_re, n_im, rhs, gains, p, full_re, full_im, x_re, x_im)
            gains[p] = kept


def free_decrease(stats: BlockStatistics, lookup: np.ndarray, gains: np.ndarray,
                  stations: np.ndarray, use: np.ndarray | None = None) -> np.ndarray:
    """By how much χ² would fall were the gains of one station free, (n,) for `stations` (n,).

    gains: (n_ant, n_dir) complex, at which all other stations stay.  The fit of one station is
    linear: nothing traps it, so this bounds what a new start can find there.
    """
    take = stats.taking_part(use)
    out = np.empty(len(stations))
    _free_decrease(stats.a_re, stats.a_im, stats.c, take,
                   np.array(gains, np.complex128, order="C"), lookup,
                   np.asarray(stations, np.int64), out)
    return out


def matched_scale(stats: BlockStatistics, use: np.ndarray | None = None) -> float:
    """Amplitude of all gains at which the model has the power of the data beyond the noise.

    A start at the right scale matters: sweeps change one station at a time and are slow to move
    the scale of all.  Directions are taken to add up incoherently.
    """
    take = stats.taking_part(use)
    diagonal = np.cumsum(np.arange(1, stats.n_dir + 1)) - 1
    expected = float(stats.a_re[take][:, diagonal].sum(dtype=np.float64))
    power = float(stats.power[take].sum())
    signal = max(power - float(stats.count[take].sum()), 0.05 * power)
    return (signal / expected) ** 0.25 if expected > 0 and signal > 0 else 1.0


def solve_complex(stats: BlockStatistics, lookup: np.ndarray, start: np.ndarray, *,
                  max_sweeps: int = 12, tolerance: float = 0.1,
                  use: np.ndarray | None = None) -> tuple[np.ndarray, int]:
    """Maximum-likelihood complex gains of one block: (gains (n_ant, n_dir) complex128, sweeps).

    start: (n_ant, n_dir) first gains; stations or directions without data keep theirs.
    tolerance: stop when a sweep lowers χ² by less than this times the square root of twice the
        number of real parameters, the scatter that noise gives to the fitted χ²; steps of nearly
        empty stations then do not keep the sweeps going.
    use: (n_bl,) bool, baselines that take part (None: those with samples).
    """
    gains = np.array(start, np.complex128, order="C")
    take = stats.taking_part(use)
    sweeps = _solve(stats.a_re, stats.a_im, stats.c, take, gains, lookup, max_sweeps,
                    tolerance * np.sqrt(4.0 * gains.size))
    return gains, sweeps


@njit(cache=True, nogil=True)
def _solve(a_re, a_im, c, use, gains, lookup, max_sweeps, enough):
    """Sweeps and extrapolations, gains (n_ant, n_dir) in place; returns the number of sweeps."""
    n_ant, n_dir = gains.shape
    information = np.zeros((n_ant, n_dir))
    before = np.empty((MEMORY, 2 * gains.size))
    after = np.empty((MEMORY, 2 * gains.size))
    scale = np.empty(2 * gains.size)
    state = gains.reshape(-1).view(np.float64)
    kept = 0
    last = np.inf
    for sweep in range(1, max_sweeps + 1):
        old = state.copy()
        decrease = _sweep(a_re, a_im, c, use, gains, lookup, information)
        if decrease < enough or sweep == max_sweeps:
            return sweep
        if sweep <= PLAIN_SWEEPS:  # far away the map is not smooth enough to extrapolate
            last = decrease
            continue
        if sweep == PLAIN_SWEEPS + 1:
            for p in range(n_ant):
                for d in range(n_dir):
                    scale[2 * (p * n_dir + d)] = np.sqrt(information[p, d])
                    scale[2 * (p * n_dir + d) + 1] = scale[2 * (p * n_dir + d)]
        if decrease > 2 * last:
            kept = 0
        last = decrease
        kept = remember(before, after, kept, old, state)
        mix(before, after, kept, scale, state)
    return max_sweeps
