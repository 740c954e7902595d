"""Imaging weights from the residuals of a solve.

Where calibration failed, residuals are large; such data should count less in the image
(Bonnassieux et al. 2018, A&A 615, A66).  The residual variance of a baseline is taken to be the sum
of the variances of its stations, for each interval: v_pq = a_p + a_q, and w_pq = 1 / (a_p + a_q).
"""

from __future__ import annotations

import numpy as np

FLOOR = 0.05
"""Least station variance relative to the usual one: no station counts without limit."""


def station_variances(variance: np.ndarray, count: np.ndarray, ant1: np.ndarray,
                      ant2: np.ndarray, n_ant: int) -> np.ndarray:
    """(n_time, n_ant) float64 least-squares station variances, NaN for stations without data.

    variance: (n_time, n_bl), mean |residual|² of each baseline in whatever unit the weights are to
    have the inverse of; count: (n_time, n_bl) samples, zero where flagged.  The error of a measured
    variance is itself proportional to it, so a second pass weights by the first.
    """
    out = np.full((len(variance), n_ant), np.nan)
    cross = ant1 != ant2
    for t in range(len(variance)):
        good = cross & (count[t] > 0) & np.isfinite(variance[t])
        if not good.any():
            continue
        usual = max(float(np.median(variance[t, good])), 1e-300)
        fit = np.full(good.sum(), usual)
        p, q, v = ant1[good], ant2[good], variance[t, good]
        for _ in range(2):
            weight = count[t, good] / np.maximum(fit, 0.1 * usual) ** 2 * usual**2
            normal, right = np.zeros((n_ant, n_ant)), np.zeros(n_ant)
            for a, b in ((p, q), (q, p)):
                np.add.at(normal, (a, a), weight)
                np.add.at(normal, (a, b), weight)
                np.add.at(right, a, weight * v)
            normal[np.diag_indices(n_ant)] += 1e-6 * max(np.trace(normal) / n_ant, 1e-300)
            right += 1e-6 * np.trace(normal) / n_ant * usual / 2
            station = np.maximum(np.linalg.solve(normal, right), FLOOR * usual / 2)
            fit = station[p] + station[q]
        seen = np.zeros(n_ant, bool)
        seen[p] = seen[q] = True
        out[t, seen] = station[seen]
    return out


def clip_outliers(station: np.ndarray, sigma: float = 5.0) -> np.ndarray:
    """Station variances (n_time, n_ant) with bad ones infinite: weight zero.

    Bad is a variance whose logarithm lies more than `sigma` robust standard deviations above the
    median over time of its station; unusually small ones are raised to that many below.
    """
    log = np.log(station)
    out = station.copy()
    for p in range(station.shape[1]):
        good = np.isfinite(log[:, p])
        if good.sum() < 5:
            continue
        middle = np.median(log[good, p])
        spread = 1.4826 * np.median(np.abs(log[good, p] - middle))
        reach = sigma * max(spread, 0.02)
        out[good & (log[:, p] > middle + reach), p] = np.inf
        low = good & (log[:, p] < middle - reach)
        out[low, p] = np.exp(middle - reach)
    return out


def imaging_weights(variance: np.ndarray, count: np.ndarray, ant1: np.ndarray, ant2: np.ndarray,
                    n_ant: int, sigma_clip: float | None = 5.0) -> np.ndarray:
    """Weights (n_time, n_bl) float32 with median one over unflagged data, zero where unknown.

    variance, count: see `station_variances`; a solver's diagnostics "baseline_chi2" divided by
    "baseline_count" serve: they are variances in units of the noise, and the result is then a
    factor on the weights of the solve.  sigma_clip: None does not clip.
    """
    ant1, ant2 = np.asarray(ant1), np.asarray(ant2)
    station = station_variances(variance, count, ant1, ant2, n_ant)
    if sigma_clip is not None:
        station = clip_outliers(station, sigma_clip)
    total = station[:, ant1] + station[:, ant2]
    good = np.isfinite(total) & (total > 0) & (count > 0)
    weight = np.where(good, 1.0 / np.where(good, total, 1.0), 0.0)
    if good.any():
        weight /= np.median(weight[good])
    return weight.astype(np.float32)
