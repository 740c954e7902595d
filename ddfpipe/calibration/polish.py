"""Gauss-Newton on logarithmic gains with Gaussian priors, antenna by antenna.

State of station p: log-amplitudes a_p and phases φ_p of all directions, g = exp(a + i φ).  With N_p
and r_p of the complex sweeps (als.py), T = 2 conj(g_p) ∘ N_p ∘ g_pᵀ and y = 2 conj(g_p) ∘ (r_p -
N_p g_p), both divided by the temper F, a step solves

    [[Re T + Λ_a,  -Im T        ],  [da]     [Re y + Λ_a (m - a)      ]
     [Im T,         Re T + P⁻¹  ]]  [dφ]  =  [Im y + P⁻¹ (μ - φ)      ]

where a_pd ~ N(m_d + s_pd, 1/Λ_pd) (written above with s = 0) and φ_p ~ N(μ_p, P_p).  The mean
log-amplitude m_d of a direction has a flat prior: it takes up a wrong flux of the model, in closed
form after every sweep (a Newton step along it, then m_d = mean of a_pd - s_pd), and is divided out
of the result unless asked otherwise.

Gauss-Newton on phases is trapped when they are wrong by more than a radian or so: start it from
the complex sweeps or from the interval before.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit

from ddfpipe.calibration.accelerate import MEMORY, mix, remember
from ddfpipe.calibration.als import assemble, begin_normal, outer_products
from ddfpipe.calibration.linalg import FAST, cholesky, cholesky_solve
from ddfpipe.calibration.statistics import BlockStatistics

AMPLITUDE_STEP = 0.7
PHASE_STEP = 1.5
"""Longest steps in ln|g| and rad; a longer one would leave the region of the linearisation."""

REFACTOR_STEP = 0.3
"""The curvature is computed anew while the longest step (ln|g| or rad) is above this."""


@dataclass
class LogGains:
    """log_amp, phase: (n_ant, n_dir) float64; amp_mean: (n_dir,) float64.

    precision: (n_ant, n_dir, n_dir), inverse posterior covariance of the phases of each station
    given the other stations, Re T + P⁻¹.
    amp_variance: (n_ant, n_dir), posterior variance of ln|g|, other directions held; None before
    a fit.
    """

    log_amp: np.ndarray
    phase: np.ndarray
    amp_mean: np.ndarray
    precision: np.ndarray
    amp_variance: np.ndarray | None = None

    @property
    def gains(self) -> np.ndarray:
        """(n_ant, n_dir) complex128."""
        return np.exp(self.log_amp + 1j * self.phase)


@njit(cache=True, nogil=True, fastmath=FAST, forceinline=True)
def _times(n_re, n_im, g_re, g_im, out_re, out_im):
    """out (n_dir,) = N g of a packed Hermitian matrix."""
    k = 0
    for d in range(g_re.size):
        x, y = g_re[d], g_im[d]
        re = n_re[k + d] * x
        im = n_re[k + d] * y
        for e in range(d):
            u, v = np.float64(n_re[k + e]), np.float64(n_im[k + e])
            re += u * g_re[e] - v * g_im[e]
            im += u * g_im[e] + v * g_re[e]
            out_re[e] += u * x + v * y
            out_im[e] += u * y - v * x
        out_re[d] = re
        out_im[d] = im
        k += d + 1


@njit(cache=True, nogil=True, fastmath=FAST, forceinline=True)
def _gradient(n_re, n_im, rhs, g, temper, log_amp, phase, mean, amp_precision, amp_shift, prior,
              prior_mean, vector):
    """Right-hand side of one station's step; see the module's text."""
    n_dir = g.size
    g_re, g_im = np.empty(n_dir), np.empty(n_dir)
    fit_re, fit_im, miss = np.empty(n_dir), np.empty(n_dir), np.empty(n_dir)
    for d in range(n_dir):
        g_re[d], g_im[d] = g[d].real, g[d].imag
        miss[d] = prior_mean[d] - phase[d]
    _times(n_re, n_im, g_re, g_im, fit_re, fit_im)
    for d in range(n_dir):
        pull = 0.0
        for e in range(n_dir):
            pull += prior[d, e] * miss[e]
        s = 2.0 / temper * np.conj(g[d]) * (rhs[d] - complex(fit_re[d], fit_im[d]))
        vector[d] = s.real + amp_precision[d] * (mean[d] + amp_shift[d] - log_amp[d])
        vector[n_dir + d] = s.imag + pull


@njit(cache=True, nogil=True, forceinline=True)
def _curvature(n_re, n_im, g, temper, amp_precision, prior, matrix, information):
    """Lower triangle of one station's (2 n_dir)² matrix; information gets Re T (n_dir, n_dir)."""
    n_dir = g.size
    largest = 0.0
    k = 0
    for d in range(n_dir):
        for e in range(d + 1):
            z = 2.0 / temper * np.conj(g[d]) * complex(n_re[k], n_im[k]) * g[e]
            k += 1
            information[d, e] = z.real
            information[e, d] = z.real
            matrix[d, e] = z.real
            matrix[n_dir + d, n_dir + e] = z.real + prior[d, e]
            matrix[n_dir + d, e] = z.imag
            matrix[n_dir + e, d] = -z.imag
        matrix[d, d] += amp_precision[d]
        largest = max(largest, matrix[d, d], matrix[n_dir + d, n_dir + d])
    # Numerical floor of float32 statistics beside a very bright direction.
    for d in range(2 * n_dir):
        matrix[d, d] += 1e-7 * largest


@njit(cache=True, nogil=True, forceinline=True)
def _take_step(vector, log_amp, phase, g):
    """Apply a capped step to one station."""
    n_dir = g.size
    for d in range(n_dir):
        log_amp[d] += min(AMPLITUDE_STEP, max(-AMPLITUDE_STEP, vector[d]))
        phase[d] += min(PHASE_STEP, max(-PHASE_STEP, vector[n_dir + d]))
        r = np.exp(log_amp[d])
        g[d] = complex(r * np.cos(phase[d]), r * np.sin(phase[d]))


@njit(cache=True, nogil=True, forceinline=True)
def _mean_amplitudes(log_amp, amp_shift, amp_precision, seen, mean):
    """Mean of the amplitudes of the stations seen, weighted by their priors; kept without any."""
    n_ant, n_dir = log_amp.shape
    if not seen.any():
        return
    for d in range(n_dir):
        total = 0.0
        weight = 0.0
        for p in range(n_ant):
            if seen[p]:
                total += amp_precision[p, d] * (log_amp[p, d] - amp_shift[p, d])
                weight += amp_precision[p, d]
        mean[d] = total / weight


@njit(cache=True, nogil=True, forceinline=True)
def _shift_mean(log_amp, mean, seen, information, amp_precision, amp_shift):
    """Move all amplitudes along their mean by a Newton step, then set the mean."""
    n_ant, n_dir = log_amp.shape
    n_seen = 0
    for p in range(n_ant):
        if seen[p]:
            n_seen += 1
    if n_seen == 0:
        return
    step = np.zeros(n_dir)
    largest = 0.0
    for d in range(n_dir):
        for p in range(n_ant):
            if seen[p]:
                step[d] += amp_precision[p, d] * (log_amp[p, d] - amp_shift[p, d] - mean[d])
        for e in range(n_dir):
            information[d, e] *= 2.0
        largest = max(largest, information[d, d])
    for d in range(n_dir):
        # A flux wrong by a factor of e costs as much as a thousandth of the brightest's data:
        # only directions without any signal are held by this.
        information[d, d] += 1e-6 * largest + 1.0
    if cholesky(information, n_dir):
        cholesky_solve(information, step, n_dir)
        for d in range(n_dir):
            s = min(0.3, max(-0.3, step[d]))
            for p in range(n_ant):
                log_amp[p, d] += s
    _mean_amplitudes(log_amp, amp_shift, amp_precision, seen, mean)
    for p in range(n_ant):
        if not seen[p]:
            for d in range(n_dir):
                log_amp[p, d] = mean[d] + amp_shift[p, d]


@njit(cache=True, nogil=True, forceinline=True)
def _sweep(a_re, a_im, c, use, lookup, temper, log_amp, phase, mean, amp_precision, amp_shift,
           prior, prior_mean, factors, refactor, seen, total):
    """One Gauss-Seidel sweep: (predicted fall of χ² + priors, longest step).

    factors: (n_ant, 2 n_dir, 2 n_dir) Cholesky factors, made anew if refactor; the curvature
    changes little between sweeps while the gradient is always exact.  total: Σ_p Re T.
    """
    n_ant, n_dir = log_amp.shape
    g = np.exp(log_amp) * (np.cos(phase) + 1j * np.sin(phase))
    h_re, h_im, n_re, n_im, rhs = begin_normal(g)
    vector = np.empty(2 * n_dir)
    force = np.empty(2 * n_dir)
    information = np.empty((n_dir, n_dir))
    decrease = 0.0
    longest = 0.0
    if refactor:
        total[:] = 0.0
    for p in range(n_ant):
        used = assemble(a_re, a_im, c, use, g, h_re, h_im, lookup, p, n_re, n_im, rhs)
        seen[p] = used > 0
        if refactor:
            _curvature(n_re, n_im, g[p], temper, amp_precision[p], prior[p], factors[p],
                       information)
            total += information
            if not cholesky(factors[p], 2 * n_dir):
                factors[p, 0, 0] = -1.0
        if not factors[p, 0, 0] > 0.0:
            continue
        _gradient(n_re, n_im, rhs, g[p], temper, log_amp[p], phase[p], mean, amp_precision[p],
                  amp_shift[p], prior[p], prior_mean[p], vector)
        force[:] = vector
        cholesky_solve(factors[p], vector, 2 * n_dir)
        for d in range(2 * n_dir):
            decrease += force[d] * vector[d]
            longest = max(longest, abs(vector[d]))
        _take_step(vector, log_amp[p], phase[p], g[p])
        outer_products(g, h_re, h_im, p)
    _shift_mean(log_amp, mean, seen, total.copy(), amp_precision, amp_shift)
    return decrease, longest


@njit(cache=True, nogil=True)
def _posterior(a_re, a_im, c, use, lookup, temper, g, prior, precision):
    """precision (n_ant, n_dir, n_dir) = Re T + P⁻¹ at gains g (n_ant, n_dir)."""
    n_ant, n_dir = g.shape
    h_re, h_im, n_re, n_im, rhs = begin_normal(g)
    for p in range(n_ant):
        assemble(a_re, a_im, c, use, g, h_re, h_im, lookup, p, n_re, n_im, rhs)
        k = 0
        for d in range(n_dir):
            for e in range(d + 1):
                z = 2.0 / temper * np.conj(g[p, d]) * complex(n_re[k], n_im[k]) * g[p, e]
                k += 1
                precision[p, d, e] = z.real + prior[p, d, e]
                precision[p, e, d] = precision[p, d, e]


@njit(cache=True, nogil=True, forceinline=True)
def _diagonal(factors, out):
    """Diagonals of the matrices with these factors: out (2, n_ant, n_dir), amplitudes
    and phases."""
    _, n_ant, n_dir = out.shape
    for p in range(n_ant):
        for i in range(2 * n_dir):
            total = 0.0
            for k in range(i + 1):
                total += factors[p, i, k] ** 2
            out[i // n_dir, p, i % n_dir] = total


@njit(cache=True, nogil=True)
def _fit(a_re, a_im, c, use, lookup, temper, state, mean, amp_precision, amp_shift, prior,
         prior_mean, max_sweeps, enough, amp_variance):
    """Sweeps and extrapolations, state (2, n_ant, n_dir) and mean in place; the number of sweeps.

    amp_variance (n_ant, n_dir) gets the posterior variance of ln|g|, other directions held.
    """
    _, n_ant, n_dir = state.shape
    log_amp, phase, flat = state[0], state[1], state.reshape(-1)
    factors = np.zeros((n_ant, 2 * n_dir, 2 * n_dir))
    diagonal = np.empty(state.shape)
    seen = np.zeros(n_ant, np.bool_)
    total = np.zeros((n_dir, n_dir))
    before = np.empty((MEMORY, flat.size))
    after = np.empty((MEMORY, flat.size))
    scale = np.empty(flat.size)
    kept, sweep = 0, 0
    last, longest = np.inf, np.inf
    while True:
        sweep += 1
        old = flat.copy()
        decrease, longest = _sweep(a_re, a_im, c, use, lookup, temper, log_amp, phase, mean,
                                   amp_precision, amp_shift, prior, prior_mean, factors,
                                   longest > REFACTOR_STEP, seen, total)
        if sweep == 1:
            _diagonal(factors, diagonal)
            scale[:] = np.sqrt(diagonal).reshape(-1)
        if decrease < enough or sweep >= max_sweeps:
            break
        if decrease > 2 * last or longest > REFACTOR_STEP:
            kept = 0
        last = decrease
        kept = remember(before, after, kept, old, flat)
        mix(before, after, kept, scale, flat)
        _mean_amplitudes(log_amp, amp_shift, amp_precision, seen, mean)
    _diagonal(factors, diagonal)
    amp_variance[:] = 1.0 / diagonal[0]
    return sweep


def polish(stats: BlockStatistics, lookup: np.ndarray, start: LogGains, *,
           amp_variance: np.ndarray, amp_shift: np.ndarray, prior: np.ndarray,
           prior_mean: np.ndarray, temper: float = 1.0, max_sweeps: int = 24,
           tolerance: float = 0.1, use: np.ndarray | None = None) -> tuple[LogGains, int]:
    """Maximum a posteriori log-gains of one block from a start near enough: (result, sweeps).

    amp_variance, amp_shift: (n_ant, n_dir), prior variance of ln|g| and its expected departure
        from the mean of its direction.
    prior: (n_ant, n_dir, n_dir) float64, P⁻¹; prior_mean: (n_ant, n_dir), μ in rad.
    temper: F; use: (n_bl,) bool, baselines that take part.
    tolerance: ends when a sweep would lower the tempered χ² by less than this times the square
        root of twice the number of parameters.
    Stations without data end at their prior mean and mean amplitude.
    """
    take = stats.taking_part(use)
    state, mean = np.array([start.log_amp, start.phase]), start.amp_mean.copy()
    prior, prior_mean = np.ascontiguousarray(prior), np.ascontiguousarray(prior_mean)
    variance = np.empty(state.shape[1:])
    sweeps = _fit(stats.a_re, stats.a_im, stats.c, take, lookup, temper, state, mean,
                  1.0 / amp_variance, np.ascontiguousarray(amp_shift), prior, prior_mean,
                  max_sweeps, tolerance * np.sqrt(2.0 * state.size), variance)
    result = LogGains(state[0], state[1], mean, np.empty(prior.shape), variance)
    _posterior(stats.a_re, stats.a_im, stats.c, take, lookup, temper, result.gains, prior,
               result.precision)
    return result, sweeps
