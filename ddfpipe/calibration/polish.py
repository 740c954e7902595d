"""Gauss-Newton on logarithmic gains with Gaussian priors, antenna by antenna.

State of station p: log-amplitudes a_p and phases φ_p of all directions, g = exp(a + i φ).  With N_p
and r_p of the complex sweeps (als.py), T = 2 conj(g_p) ∘ N_p ∘ g_pᵀ and y = 2 conj(g_p) ∘ (r_p -
N_p g_p), both divided by the temper F, a step solves

    [[Re T + Λ_a,  -Im T        ],  [da]     [Re y + Λ_a (m - a)      ]
     [Im T,         Re T + P⁻¹  ]]  [dφ]  =  [Im y + P⁻¹ (μ - φ)      ]

where a_pd ~ N(m_d, 1/Λ_a) and φ_p ~ N(μ_p, P_p).  The mean log-amplitude m_d of a direction has a
flat prior: it takes up a wrong flux of the model, in closed form after every sweep (a Newton step
along it, then m_d = mean of a_pd), and is divided out of the result unless asked otherwise.

Gauss-Newton on phases is trapped when they are wrong by more than a radian or so: start it from
the complex sweeps or from the interval before.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit

from ddfpipe.calibration.als import assemble, outer_products
from ddfpipe.calibration.linalg import cholesky, cholesky_solve
from ddfpipe.calibration.statistics import BlockStatistics

AMPLITUDE_STEP = 0.7
PHASE_STEP = 1.5
"""Longest steps in ln|g| and rad; a longer one would leave the region of the linearisation."""


@dataclass
class LogGains:
    """log_amp, phase: (n_ant, n_dir) float64; amp_mean: (n_dir,) float64.

    precision: (n_ant, n_dir, n_dir), inverse posterior covariance of the phases of each station
    given the other stations, Re T + P⁻¹.
    """

    log_amp: np.ndarray
    phase: np.ndarray
    amp_mean: np.ndarray
    precision: np.ndarray

    @property
    def gains(self) -> np.ndarray:
        """(n_ant, n_dir) complex128."""
        return np.exp(self.log_amp + 1j * self.phase)


@njit(cache=True, nogil=True)
def _system(n_re, n_im, rhs, g, temper, log_amp, phase, mean, amp_precision, prior, prior_mean,
            matrix, vector, information, precision):
    """Normal equations of one station; see the module's text.  information: diagonal of Re T."""
    n_dir = g.size
    full = np.empty((n_dir, n_dir), np.complex128)
    k = 0
    for d in range(n_dir):
        for e in range(d + 1):
            full[d, e] = complex(n_re[k], n_im[k])
            full[e, d] = complex(n_re[k], -n_im[k])
            k += 1
    scale = 2.0 / temper
    for d in range(n_dir):
        s = rhs[d]
        pull = 0.0
        for e in range(n_dir):
            s -= full[d, e] * g[e]
            pull += prior[d, e] * (prior_mean[e] - phase[e])
        s = scale * np.conj(g[d]) * s
        vector[d] = s.real + amp_precision * (mean[d] - log_amp[d])
        vector[n_dir + d] = s.imag + pull
        for e in range(n_dir):
            z = scale * np.conj(g[d]) * full[d, e] * g[e]
            information[d, e] = z.real
            precision[d, e] = z.real + prior[d, e]
            matrix[d, e] = z.real
            matrix[n_dir + d, n_dir + e] = precision[d, e]
            matrix[n_dir + d, e] = z.imag
            matrix[d, n_dir + e] = -z.imag
        matrix[d, d] += amp_precision
    # Numerical floor of float32 statistics beside a very bright direction.
    largest = 0.0
    for d in range(2 * n_dir):
        largest = max(largest, matrix[d, d])
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
def _shift_mean(log_amp, mean, seen, information, amp_precision):
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
                step[d] += amp_precision * (log_amp[p, d] - mean[d])
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
        for p in range(n_ant):
            if seen[p]:
                total += log_amp[p, d]
        mean[d] = total / n_seen
        for p in range(n_ant):
            if not seen[p]:
                log_amp[p, d] = mean[d]


@njit(cache=True, nogil=True)
def _sweeps(a_re, a_im, c, use, lookup, temper, log_amp, phase, mean, amp_precision, prior,
            prior_mean, precision, max_sweeps, enough):
    n_ant, n_dir = log_amp.shape
    n_pair = a_re.shape[1]
    g = np.exp(log_amp) * (np.cos(phase) + 1j * np.sin(phase))
    h_re = np.empty((n_ant, n_pair), np.float32)
    h_im = np.empty((n_ant, n_pair), np.float32)
    n_re = np.empty(n_pair, np.float32)
    n_im = np.empty(n_pair, np.float32)
    rhs = np.empty(n_dir, np.complex128)
    matrix = np.empty((2 * n_dir, 2 * n_dir))
    vector = np.empty(2 * n_dir)
    force = np.empty(2 * n_dir)
    information = np.empty((n_dir, n_dir))
    total = np.empty((n_dir, n_dir))
    seen = np.zeros(n_ant, np.bool_)
    for sweep in range(max_sweeps):
        decrease = 0.0
        total[:] = 0.0
        for q in range(n_ant):
            outer_products(g, h_re, h_im, q)
        for p in range(n_ant):
            used = assemble(a_re, a_im, c, use, g, h_re, h_im, lookup, p, n_re, n_im, rhs)
            _system(n_re, n_im, rhs, g[p], temper, log_amp[p], phase[p], mean, amp_precision,
                    prior[p], prior_mean[p], matrix, vector, information, precision[p])
            seen[p] = used > 0
            if not cholesky(matrix, 2 * n_dir):
                continue
            force[:] = vector
            cholesky_solve(matrix, vector, 2 * n_dir)
            for d in range(2 * n_dir):
                decrease += force[d] * vector[d]
            total += information
            _take_step(vector, log_amp[p], phase[p], g[p])
            outer_products(g, h_re, h_im, p)
        _shift_mean(log_amp, mean, seen, total, amp_precision)
        for p in range(n_ant):
            for d in range(n_dir):
                r = np.exp(log_amp[p, d])
                g[p, d] = complex(r * np.cos(phase[p, d]), r * np.sin(phase[p, d]))
        # decrease is twice the fall of χ²/2 + priors that the quadratic model promises.
        if decrease < enough:
            return sweep + 1
    return max_sweeps


def polish(stats: BlockStatistics, lookup: np.ndarray, start: LogGains, *,
           amplitude_sigma: float, prior: np.ndarray, prior_mean: np.ndarray, temper: float = 1.0,
           max_sweeps: int = 4, tolerance: float = 0.1,
           use: np.ndarray | None = None) -> tuple[LogGains, int]:
    """Maximum a posteriori log-gains of one block from a start near enough: (result, sweeps).

    amplitude_sigma: standard deviation of ln|g| about the mean of its direction.
    prior: (n_ant, n_dir, n_dir) float64, P⁻¹; prior_mean: (n_ant, n_dir), μ in rad.
    temper: F; use: (n_bl,) bool, baselines that take part.  tolerance as in `solve_complex`.
    Stations without data end at their prior mean and mean amplitude.
    """
    take = stats.count > 0 if use is None else use & (stats.count > 0)
    result = LogGains(start.log_amp.copy(), start.phase.copy(), start.amp_mean.copy(),
                      np.empty(prior.shape))
    enough = tolerance * np.sqrt(max(int(stats.count[take].sum()), 1))
    sweeps = _sweeps(stats.a_re, stats.a_im, stats.c, take, lookup, temper, result.log_amp,
                     result.phase, result.amp_mean, amplitude_sigma**-2,
                     np.ascontiguousarray(prior), np.ascontiguousarray(prior_mean),
                     result.precision, max_sweeps, enough)
    return result, sweeps
