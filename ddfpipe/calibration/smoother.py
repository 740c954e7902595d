"""Rauch-Tung-Striebel smoother of the station phases (Rauch, Tung & Striebel 1965, AIAA J. 3)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numba import njit

from ddfpipe.calibration.linalg import cholesky, cholesky_inverse, multiply


@njit(cache=True, nogil=True, forceinline=True)
def _predict_one(covariance, alpha, noise, out):
    """out = Φ P Φᵀ + Q of one station, Φ = α I + (1 - α) 11ᵀ/n."""
    n = covariance.shape[0]
    column = np.zeros(n)
    total = 0.0
    for i in range(n):
        for j in range(n):
            column[j] += covariance[i, j] / n
    for j in range(n):
        total += column[j] / n
    beta = 1.0 - alpha
    for i in range(n):
        for j in range(n):
            out[i, j] = (alpha * alpha * covariance[i, j]
                         + alpha * beta * (column[i] + column[j])
                         + beta * beta * total + noise[i, j])


@njit(cache=True, nogil=True)
def _predict_each(covariance, alpha, noise, out):
    for p in range(covariance.shape[0]):
        _predict_one(covariance[p], alpha, noise[p], out[p])


def predict_covariance(covariance: np.ndarray, alpha: float, noise: np.ndarray) -> np.ndarray:
    """Φ P Φᵀ + Q of each station, (n_ant, n_dir, n_dir) float64."""
    out = np.empty(covariance.shape)
    _predict_each(np.ascontiguousarray(covariance, np.float64), alpha, noise, out)
    return out


@njit(cache=True, nogil=True)
def _smooth_step(x, covariance, next_x, next_covariance, alpha, noise):
    """Smooth one interval in place from the smoothed next one; x (n_ant, n_dir)."""
    n_ant, n = x.shape
    predicted = np.empty((n, n))
    inverse = np.empty((n, n))
    work = np.empty((n, n))
    gain = np.empty((n, n))
    transposed = np.empty((n, n))
    for p in range(n_ant):
        _predict_one(covariance[p], alpha, noise[p], predicted)
        factor = predicted.copy()
        if not cholesky(factor, n):
            continue
        cholesky_inverse(factor, work, inverse, n)
        # P Φᵀ: rows of P keep α of themselves and spread the rest over the mean.
        for i in range(n):
            mean = 0.0
            for j in range(n):
                mean += covariance[p, i, j] / n
            for j in range(n):
                work[i, j] = alpha * covariance[p, i, j] + (1.0 - alpha) * mean
        multiply(work, inverse, gain, n)
        average = 0.0
        for d in range(n):
            average += x[p, d] / n
        for d in range(n):
            shift = 0.0
            for e in range(n):
                expected = alpha * x[p, e] + (1.0 - alpha) * average
                shift += gain[d, e] * (next_x[p, e] - expected)
            work[0, d] = shift
        for d in range(n):
            x[p, d] += work[0, d]
        for i in range(n):
            for j in range(n):
                predicted[i, j] = next_covariance[p, i, j] - predicted[i, j]
                transposed[i, j] = gain[j, i]
        multiply(gain, predicted, work, n)
        multiply(work, transposed, inverse, n)
        for i in range(n):
            for j in range(n):
                covariance[p, i, j] += 0.5 * (inverse[i, j] + inverse[j, i])


def backward_pass(phases: np.ndarray, covariances: Sequence[np.ndarray],
                  steps: Sequence[tuple[float, np.ndarray]]) -> np.ndarray:
    """Smooth phases (n_time, n_ant, n_dir) in place; returns their standard deviations.

    covariances: filtered P of each interval, (n_ant, n_dir, n_dir).  steps: (α, Q) from each
    interval to the next, n_time - 1 of them.
    """
    errors = np.empty(phases.shape)
    after = np.ascontiguousarray(covariances[-1], np.float64)
    errors[-1] = np.sqrt(np.einsum("pdd->pd", after))
    for t in range(len(phases) - 2, -1, -1):
        alpha, noise = steps[t]
        covariance = np.array(covariances[t], np.float64)
        _smooth_step(phases[t], covariance, phases[t + 1], after, alpha, noise)
        errors[t] = np.sqrt(np.maximum(np.einsum("pdd->pd", covariance), 0.0))
        after = covariance
    return errors
