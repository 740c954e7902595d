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

from ddfpipe.calibration.accelerate import Anderson
from ddfpipe.calibration.als import assemble, outer_products
from ddfpipe.calibration.linalg import cholesky, cholesky_solve
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


@njit(cache=True, nogil=True)
def _gradient(n_re, n_im, rhs, g, temper, log_amp, phase, mean, amp_precision, amp_shift, prior,
              prior_mean, vector):
    """Right-hand side of one station's step; see the module's text."""
    n_dir = g.size
    for d in range(n_dir):
        vector[d] = 0.0
        vector[n_dir + d] = 0.0
    k = 0
    for d in range(n_dir):  # N g, accumulated in vector as (real, imaginary)
        for e in range(d):
            z = complex(n_re[k], n_im[k])
            u = z * g[e]
            v = np.conj(z) * g[d]
            vector[d] += u.real
            vector[n_dir + d] += u.imag
            vector[e] += v.real
            vector[n_dir + e] += v.imag
            k += 1
        vector[d] += n_re[k] * g[d].real
        vector[n_dir + d] += n_re[k] * g[d].imag
        k += 1
    for d in range(n_dir):
        pull = 0.0
        for e in range(n_dir):
            pull += prior[d, e] * (prior_mean[e] - phase[e])
        s = 2.0 / temper * np.conj(g[d]) * (rhs[d] - complex(vector[d], vector[n_dir + d]))
        vector[d] = s.real + amp_precision[d] * (mean[d] + amp_shift[d] - log_amp[d])
        vector[n_dir + d] = s.imag + pull


@njit(cache=True, nogil=True)
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


@njit(cache=True, nogil=True)
def _take_step(vector, log_amp, phase, g):
    """Apply a capped step to one station."""
    n_dir = g.size
    for d in range(n_dir):
        log_amp[d] += min(AMPLITUDE_STEP, max(-AMPLITUDE_STEP, vector[d]))
        phase[d] += min(PHASE_STEP, max(-PHASE_STEP, vector[n_dir + d]))
        r = np.exp(log_amp[d])
        g[d] = complex(r * np.cos(phase[d]), r * np.sin(phase[d]))


@njit(cache=True, nogil=True)
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
    for d in range(n_dir):
        total = 0.0
        weight = 0.0
        for p in range(n_ant):
            if seen[p]:
                total += amp_precision[p, d] * (log_amp[p, d] - amp_shift[p, d])
                weight += amp_precision[p, d]
        mean[d] = total / weight
        for p in range(n_ant):
            if not seen[p]:
                log_amp[p, d] = mean[d] + amp_shift[p, d]


@njit(cache=True, nogil=True)
def _sweep(a_re, a_im, c, use, lookup, temper, log_amp, phase, mean, amp_precision, amp_shift,
           prior, prior_mean, factors, refactor, seen, total):
    """One Gauss-Seidel sweep: (predicted fall of χ² + priors, longest step).

    factors: (n_ant, 2 n_dir, 2 n_dir) Cholesky factors, made anew if refactor; the curvature
    changes little between sweeps while the gradient is always exact.  total: Σ_p Re T.
    """
    n_ant, n_dir = log_amp.shape
    n_pair = a_re.shape[1]
    g = np.exp(log_amp) * (np.cos(phase) + 1j * np.sin(phase))
    h_re = np.empty((n_ant, n_pair), np.float32)
    h_im = np.empty((n_ant, n_pair), np.float32)
    n_re = np.empty(n_pair, np.float32)
    n_im = np.empty(n_pair, np.float32)
    rhs = np.empty(n_dir, np.complex128)
    vector = np.empty(2 * n_dir)
    force = np.empty(2 * n_dir)
    information = np.empty((n_dir, n_dir))
    decrease = 0.0
    longest = 0.0
    if refactor:
        total[:] = 0.0
    for q in range(n_ant):
        outer_products(g, h_re, h_im, q)
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
    n_pair = a_re.shape[1]
    h_re = np.empty((n_ant, n_pair), np.float32)
    h_im = np.empty((n_ant, n_pair), np.float32)
    n_re = np.empty(n_pair, np.float32)
    n_im = np.empty(n_pair, np.float32)
    rhs = np.empty(n_dir, np.complex128)
    for q in range(n_ant):
        outer_products(g, h_re, h_im, q)
    for p in range(n_ant):
        assemble(a_re, a_im, c, use, g, h_re, h_im, lookup, p, n_re, n_im, rhs)
        k = 0
        for d in range(n_dir):
            for e in range(d + 1):
                z = 2.0 / temper * np.conj(g[p, d]) * complex(n_re[k], n_im[k]) * g[p, e]
                k += 1
                precision[p, d, e] = z.real + prior[p, d, e]
                precision[p, e, d] = precision[p, d, e]


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
    take = stats.count > 0 if use is None else use & (stats.count > 0)
    log_amp, phase, mean = start.log_amp.copy(), start.phase.copy(), start.amp_mean.copy()
    n_ant, n_dir = phase.shape
    prior, prior_mean = np.ascontiguousarray(prior), np.ascontiguousarray(prior_mean)
    amp_precision, amp_shift = 1.0 / amp_variance, np.ascontiguousarray(amp_shift)
    factors = np.zeros((n_ant, 2 * n_dir, 2 * n_dir))
    seen = np.zeros(n_ant, bool)
    total = np.zeros((n_dir, n_dir))
    enough = tolerance * np.sqrt(4.0 * phase.size)
    mixer: Anderson | None = None
    last, longest, sweeps = np.inf, np.inf, 0
    for sweeps in range(1, max_sweeps + 1):
        before = np.concatenate([log_amp.ravel(), phase.ravel()])
        decrease, longest = _sweep(stats.a_re, stats.a_im, stats.c, take, lookup, temper, log_amp,
                                   phase, mean, amp_precision, amp_shift, prior, prior_mean,
                                   factors, longest > REFACTOR_STEP, seen, total)
        if decrease < enough or sweeps == max_sweeps:
            break
        if mixer is None:
            mixer = Anderson(_scale(factors, n_dir))
        if decrease > 2 * last or longest > REFACTOR_STEP:
            mixer.forget()
        last = decrease
        mixed = mixer.mix(before, np.concatenate([log_amp.ravel(), phase.ravel()]))
        log_amp, phase = mixed.reshape(2, n_ant, n_dir).copy()
        if seen.any():
            mean = np.average((log_amp - amp_shift)[seen], axis=0, weights=amp_precision[seen])
    result = LogGains(log_amp, phase, mean, np.empty(prior.shape))
    result.amp_variance = 1.0 / _amp_diagonal(factors)
    _posterior(stats.a_re, stats.a_im, stats.c, take, lookup, temper, result.gains, prior,
               result.precision)
    return result, sweeps


def _amp_diagonal(factors: np.ndarray) -> np.ndarray:
    """(n_ant, n_dir) information on the amplitudes, the prior's included."""
    n_dir = factors.shape[1] // 2
    lower = np.tril(factors[:, :n_dir, :n_dir])
    return np.einsum("pij,pij->pi", lower, lower)


def _scale(factors: np.ndarray, n_dir: int) -> np.ndarray:
    """Square root of the diagonal of each station's matrix, as (2 n_ant n_dir,): amplitudes, then
    phases, from its Cholesky factors."""
    lower = np.tril(factors)
    diagonal = np.einsum("pij,pij->pi", lower, lower)
    return np.sqrt(np.concatenate([diagonal[:, :n_dir].ravel(), diagonal[:, n_dir:].ravel()]))
