"""From complex gains to continuous phases: gauge and wraps chosen by the prior.

Complex sweeps leave one phase per direction free and know phases only modulo 2π.  Both are chosen
so that the phases agree with their Gaussian prior N(μ_p, P_p), direction after direction in the
order of falling information: each phase is put on the branch nearest to its expectation given the
directions before it (sequential kriging).
"""

from __future__ import annotations

import numpy as np
from numba import njit


@njit(cache=True, nogil=True, forceinline=True)
def _krige(residual, variance, covariance, order, mean, cond):
    """Conditional mean (n_dir,) of one station's phases given wrapped residuals."""
    n_dir = residual.size
    mean[:] = 0.0
    cond[:] = covariance
    column = np.empty(n_dir)
    for d in order:
        total = cond[d, d] + variance[d]
        if not np.isfinite(total) or not total > 0.0:
            continue
        turns = np.round((mean[d] - residual[d]) / (2 * np.pi))
        miss = residual[d] + 2 * np.pi * turns - mean[d]
        for e in range(n_dir):
            column[e] = cond[e, d]
        for e in range(n_dir):
            gain = column[e] / total
            mean[e] += gain * miss
            for f in range(n_dir):
                cond[e, f] -= gain * column[f]


@njit(cache=True, nogil=True)
def _krige_all(residual, variance, covariance, out):
    n_ant, n_dir = residual.shape
    cond = np.empty((n_dir, n_dir))
    for p in range(n_ant):
        order = np.argsort(variance[p])
        _krige(residual[p], variance[p], covariance[p], order, out[p], cond)


def remove_direction_phases(gains: np.ndarray, information: np.ndarray,
                            station_weight: np.ndarray) -> np.ndarray:
    """Turn the phase of each direction so that directions and stations agree best.

    gains: (n_ant, n_dir) complex, already divided by the expected phases.  information: (n_ant,
    n_dir), inverse phase variances.  station_weight: (n_ant,), how little the phase of a station
    may differ from direction to direction.  The direction with most information is the reference;
    every other one is turned to agree with it over the stations, then all together to zero.
    """
    weight = np.minimum(information, 1e6) * station_weight[:, None]
    reference = int(np.argmax(weight.sum(axis=0)))
    unit = np.exp(1j * np.angle(gains))
    common = unit[:, reference]
    turn = np.sum(weight * np.conj(unit) * common[:, None], axis=0)
    overall = np.sum(weight[:, reference] * common)
    return gains * np.exp(1j * (np.angle(turn) - np.angle(overall)))


def continuous_phases(gains: np.ndarray, information: np.ndarray, mean: np.ndarray,
                      covariance: np.ndarray, station_weight: np.ndarray) -> np.ndarray:
    """Phases (n_ant, n_dir) in rad on the branches that the prior prefers, shrunk to it by their
    noise: the conditional mean of the phases given the complex gains.

    gains, information, station_weight: see `remove_direction_phases`.  mean: (n_ant, n_dir), μ;
    covariance: (n_ant, n_dir, n_dir), P.
    """
    relative = remove_direction_phases(gains * np.exp(-1j * mean), information, station_weight)
    variance = 1.0 / np.maximum(information, 1e-12)
    out = np.empty(mean.shape)
    _krige_all(np.angle(relative), variance, np.ascontiguousarray(covariance), out)
    return mean + out
