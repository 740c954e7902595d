"""Series of solutions over time and band, smoothed as far as their own noise asks for.

Each solution is a true value plus noise of a known standard deviation.  True values of neighbouring
times and measurement sets belong together, but how closely is for the data to say.  The spectrum of
each time is written in orthonormal polynomials of frequency; each coefficient is a constant plus
an Ornstein-Uhlenbeck process (standard deviation s, correlation time τ) over time.  τ and s are
those of greatest restricted likelihood (REML), s of a station drawn towards that of all; the values
are then the means given all times (Kalman filter and Rauch-Tung-Striebel smoother; Gelb 1974,
Applied Optimal Estimation).  A coefficient that shows nothing but noise becomes its mean over time;
one that changes from solution to solution stays as it is.

Every gain that is free to move takes some flux of sources that no model holds.  Fewer freedoms take
less.
"""

from __future__ import annotations

import numpy as np
from numba import njit

TRIES = 400
"""Most series from which the parameters of all are found."""

TAU_STEPS = 6
"""Correlation times tried, from the length of an interval to some observations."""

LOG_RATIOS = np.arange(-4.0, 3.1, 0.5) * np.log(10.0)
"""Logarithms of the ratios s² / noise variance that are tried."""

STATION_FREEDOM = 1.0
"""Standard deviation of the logarithm of a station's s² about that of all."""

PASSES = 2
"""Times that a series is smoothed: what is missing and what lies far out follow the
smooth values."""

OUTLIER = 4.0
"""Departures from the smooth values beyond this many standard deviations are cut back to it."""


@njit(cache=True, nogil=True, forceinline=True)
def _deviance(value, variance, decay, s2):
    """-2 log restricted likelihood and the mean of one series: value, variance, decay (n_time,).

    decay[i]: correlation between times i - 1 and i.  Infinite variance: no value.
    """
    x, unit, p = 0.0, 0.0, s2
    ones, cross, square, logs, used = 0.0, 0.0, 0.0, 0.0, 0
    for i in range(value.size):
        a = decay[i]
        x, unit, p = a * x, a * unit, a * a * p + (1.0 - a * a) * s2
        if not np.isfinite(variance[i]):
            continue
        total = p + variance[i]
        e, u = value[i] - x, 1.0 - unit
        ones += u * u / total
        cross += u * e / total
        square += e * e / total
        logs += np.log(total)
        gain = p / total
        x, unit, p = x + gain * e, unit + gain * u, (1.0 - gain) * p
        used += 1
    if used < 2:
        return 0.0, cross / ones if used else 0.0
    return square - cross * cross / ones + logs + np.log(ones), cross / ones


@njit(cache=True, nogil=True, forceinline=True)
def _smooth(value, variance, decay, s2, mean, out):
    """Means of a series given all times, into out (n_time,)."""
    n = value.size
    before, after = np.empty(n), np.empty(n)
    p_before, p_after = np.empty(n), np.empty(n)
    x, p = 0.0, s2
    for i in range(n):
        a = decay[i]
        x, p = a * x, a * a * p + (1.0 - a * a) * s2
        before[i], p_before[i] = x, p
        if np.isfinite(variance[i]) and p > 0.0:
            gain = p / (p + variance[i])
            x, p = x + gain * (value[i] - mean - x), (1.0 - gain) * p
        after[i], p_after[i] = x, p
    out[n - 1] = mean + x
    for i in range(n - 2, -1, -1):
        back = p_after[i] * decay[i + 1] / p_before[i + 1] if p_before[i + 1] > 0.0 else 0.0
        x = after[i] + back * (x - before[i + 1])
        out[i] = mean + x


@njit(cache=True, nogil=True)
def _deviances(value, variance, decay, ratios, noise, out):
    """Deviance of each series (n_series, n_time) for each ratio s² / noise: out (series, ratio)."""
    for k in range(value.shape[0]):
        for r in range(ratios.size):
            out[k, r] = _deviance(value[k], variance[k], decay, ratios[r] * noise)[0]


@njit(cache=True, nogil=True)
def _smooth_all(value, variance, decay, s2, out):
    """Each series (n_series, n_time) with its own s2 (n_series,)."""
    for k in range(value.shape[0]):
        mean = _deviance(value[k], variance[k], decay, s2[k])[1]
        _smooth(value[k], variance[k], decay, s2[k], mean, out[k])


def _decays(times: np.ndarray, tau: float) -> np.ndarray:
    return np.exp(-np.diff(times, prepend=times[0]) / tau)


def smooth_component(value: np.ndarray, variance: np.ndarray, times: np.ndarray,
                     group: np.ndarray) -> np.ndarray:
    """Smooth values of series that share their statistics, (n_series, n_time).

    value, variance: (n_series, n_time), variance infinite where there is no value.  times:
    (n_time,) s, ascending.  group: (n_series,) int, series with one s² (a station's).
    """
    known = np.isfinite(variance)
    several = np.flatnonzero(known.sum(axis=1) > 1)
    if not len(several):
        return value.copy()
    noise = float(np.median(variance[known]))
    step = float(np.median(np.diff(times)))
    ratios = np.exp(LOG_RATIOS)
    some = several[np.unique(np.linspace(0, len(several) - 1, TRIES).astype(int))]
    best = (np.inf, step, 0)
    table = np.empty((len(some), len(ratios)))
    for tau in np.geomspace(step, 4 * max(times[-1] - times[0], step), TAU_STEPS):
        _deviances(value[some], variance[some], _decays(times, tau), ratios, noise, table)
        total = table.sum(axis=0)
        best = min(best, (float(total.min()), float(tau), int(np.argmin(total))))
    decay = _decays(times, best[1])
    table = np.empty((len(value), len(ratios)))
    _deviances(value, variance, decay, ratios, noise, table)
    s2 = np.empty(len(value))
    for g in np.unique(group):
        mine = group == g
        pull = ((LOG_RATIOS - LOG_RATIOS[best[2]]) / STATION_FREEDOM) ** 2
        s2[mine] = ratios[np.argmin(table[mine].sum(axis=0) + pull)] * noise
    out = np.empty_like(value)
    _smooth_all(value, variance, decay, s2, out)
    return np.where(known.any(axis=1)[:, None], out, value)


def smooth_series(value: np.ndarray, weight: np.ndarray, times: np.ndarray, freqs: np.ndarray,
                  group: np.ndarray, order: int | None = None) -> np.ndarray:
    """Smooth real values over time and frequency; like value.

    value: (n_time, n_chan, n_series) float64.  weight: inverse variances, same shape, zero where
    there is no value.  times: (n_time,) s; freqs: (n_chan,) Hz, both ascending.  group: (n_series,)
    int, which series share the size of their changes.  order: highest power of frequency that is
    kept; None keeps whatever shape the band has.
    Values where a whole series is unknown come back as they are.
    """
    n_time, n_chan, n_series = value.shape
    known = weight > 0
    u = (freqs - freqs.mean()) / max(np.ptp(freqs) / 2, 1.0)
    last = n_chan - 1 if order is None else min(order, n_chan - 1)
    basis = np.linalg.qr(np.polynomial.chebyshev.chebvander(u, last))[0]
    count = known.sum(axis=1)
    variance = np.where(known, 1.0 / np.where(known, weight, 1.0), 0.0)
    # The basis is orthonormal: every coefficient has the mean variance of a channel.
    noise = np.where(count > 0, variance.sum(axis=1) * n_chan / np.maximum(count, 1) ** 2, np.inf)
    smooth = _first_guess(value, weight)
    sigma = np.sqrt(variance + np.where(count > 0, noise / n_chan, 0)[:, None])
    apart = np.ma.array(np.abs(value - smooth), mask=~known)
    usual = 1.4826 * np.ma.median(apart, axis=0).filled(0)
    for step in range(PASSES):
        # Before anything is smooth, what is far out is so by the series' own measure.
        limit = OUTLIER * (sigma + usual if step == 0 else sigma)
        filled = np.where(known, smooth + np.clip(value - smooth, -limit, limit), smooth)
        parts = np.einsum("fi,tfk->ikt", basis, filled)
        spread = np.ascontiguousarray(noise.T)
        parts = np.stack([
            smooth_component(np.ascontiguousarray(part), spread, times, group) for part in parts
        ])
        smooth = np.einsum("fi,ikt->tfk", basis, parts)
    return np.where(known.any(axis=(0, 1)), smooth, value)


def _first_guess(value: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """The mean over time of each channel, moved at each time as the other channels say."""
    mean = (weight * value).sum(axis=0) / np.maximum(weight.sum(axis=0), 1e-300)
    move = (weight * (value - mean)).sum(axis=1) / np.maximum(weight.sum(axis=1), 1e-300)
    return mean + move[:, None]


def smooth_gains(gains: np.ndarray, weight: np.ndarray, times: np.ndarray,
                 freqs: np.ndarray) -> np.ndarray:
    """Complex gains or Jones matrices smoothed over time and frequency; like gains.

    gains: (n_time, n_chan, n_ant, n_dir, n_corr) complex128.  weight: inverse variances of real and
    of imaginary part, same shape, zero where flagged.  The phase of the mean over time of each
    station, direction and channel is taken out first, so that it may turn over the band as it
    likes; what is left is smoothed along and at right angles to it, which are amplitude and phase
    as long as they are small.  Diagonal and other elements have statistics of their own.
    """
    n_time, n_chan, n_ant, n_dir, n_corr = gains.shape
    turn = _mean_phase(gains, weight)
    turned = gains * np.conj(turn)
    out = np.empty_like(gains)
    corrs = {1: ((0,),), 2: ((0, 1),), 4: ((0, 3), (1, 2))}[n_corr]
    for some in (list(c) for c in corrs):
        shape = (n_time, n_chan, n_ant * n_dir * len(some))
        group = np.repeat(np.arange(n_ant), n_dir * len(some))
        w = np.ascontiguousarray(weight[..., some].reshape(shape))
        real, imag = (
            smooth_series(part[..., some].reshape(shape), w, times, freqs, group)
            for part in (turned.real, turned.imag)
        )
        out[..., some] = (real + 1j * imag).reshape(n_time, n_chan, n_ant, n_dir, len(some))
    return out * turn


def _mean_phase(gains: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Unit phasors of the mean over time of the trace (or the only hand) of each channel, station
    and direction, (1, n_chan, n_ant, n_dir, 1); 1 where phases turn so much that there is none."""
    hands = [0, -1] if gains.shape[-1] > 1 else [0]
    trace = (gains * (weight > 0))[..., hands].sum(axis=-1, keepdims=True)
    mean, size = trace.sum(axis=0, keepdims=True), np.abs(trace).sum(axis=0, keepdims=True)
    steady = np.abs(mean) > 0.5 * size
    return np.where(steady, mean / np.where(steady, np.abs(mean), 1.0), 1.0)
