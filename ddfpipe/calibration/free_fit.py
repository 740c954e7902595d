"""The noise of a baseline from what the model cannot explain of it, whatever the gains.

Differences of neighbouring samples (noise_scale.py) hold what is left of the sky between them: far
from the centre, on long baselines, nearly all of a source.  With gains of its own towards each
direction, free for each interval, a baseline b is fitted by least squares (notation of
statistics.py):

    N σ²_b = E - c^H A⁻¹ c        over N - n degrees of freedom

What that leaves holds no source of the model, but all that is missing from it.  Neither measurement
can be too small but by chance, so the lesser of the two counts.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numba import njit

from ddfpipe.calibration.linalg import hermitian_solve
from ddfpipe.calibration.noise_scale import combine
from ddfpipe.calibration.statistics import BlockStatistics

INTERVALS = 3
"""First intervals that are looked at, where not more of them wait anyway."""

SAMPLES, DIRECTIONS = 4, 16
"""Least samples for each gain that is fitted, and most gains: the brightest directions."""


@njit(cache=True, nogil=True)
def _fitted(a_re, a_im, c, power, count, left, free):
    """Add to left (n_bl,) what free gains leave of E, to free (n_bl,) the degrees of freedom."""
    n_bl, n_dir = c.shape
    re, im = np.empty((n_dir, n_dir)), np.empty((n_dir, n_dir))
    x_re, x_im = np.empty(n_dir), np.empty(n_dir)
    bright = np.empty(n_dir)
    for b in range(n_bl):
        n = min(n_dir, DIRECTIONS, count[b] // SAMPLES)
        if n == 0:
            continue
        for d in range(n_dir):
            bright[d] = -a_re[b, d * (d + 3) // 2]
        order = np.sort(np.argsort(bright)[:n])
        for i in range(n):
            d = order[i]
            x_re[i], x_im[i] = c[b, d].real, c[b, d].imag
            for j in range(i + 1):
                k = d * (d + 1) // 2 + order[j]
                re[i, j], im[i, j] = a_re[b, k], a_im[b, k]
        ridge = 0.0
        for i in range(n):
            ridge = max(ridge, 1e-6 * re[i, i])
        for i in range(n):
            re[i, i] += ridge
        if not hermitian_solve(re, im, x_re, x_im, n):
            continue
        explained = 0.0
        for i in range(n):
            z = c[b, order[i]]
            explained += z.real * x_re[i] + z.imag * x_im[i]
        left[b] += power[b] - explained
        free[b] += count[b] - n


def free_variance(blocks: Sequence[BlockStatistics]) -> tuple[np.ndarray, np.ndarray]:
    """Variance of each baseline's noise in that of its weights, and its degrees of freedom.

    Both (n_bl,) float64; NaN and zero where there are too few samples.
    """
    left, free = (np.zeros(len(blocks[0].count)) for _ in range(2))
    for s in blocks:
        _fitted(s.a_re, s.a_im, s.c, s.power, s.count, left, free)
    return np.where(free > 0, left / np.where(free > 0, free, 1), np.nan), free


def weight_factor(blocks: Sequence[BlockStatistics], weight: np.ndarray, ant1: np.ndarray,
                  ant2: np.ndarray, n_ant: int) -> np.ndarray:
    """Factor >= 1 on the weights of each baseline, (n_bl,), where they are too small.

    blocks: statistics of some intervals with the weights as they are; weight: (n_bl,), sums of
    those.  As in noise_scale.py a baseline's own variance counts as much as its degrees of freedom,
    the product of station noises that fits all baselines as much as 30.  One without samples.
    """
    variance, free = free_variance(blocks)
    count = np.sum([s.count for s in blocks], axis=0)
    known = (free > 0) & (variance > 0) & (weight > 0)
    mean = np.where(known, weight / np.maximum(count, 1), 1.0)
    least = np.minimum(np.where(known, variance, 1.0), 1.0) / mean
    combined = combine(np.where(known, least, np.nan), np.where(known, free, 0), ant1, ant2, n_ant)
    return np.where(known, np.maximum(1.0, 1.0 / np.where(known, combined * mean, 1.0)), 1.0)
