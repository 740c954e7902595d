"""Anderson acceleration of fixed-point iterations (Anderson 1965, J. ACM 12, 547).

Gauss-Seidel sweeps over stations are slow along collective changes: the core moves as a body
against the remote stations, since short baselines hardly tell directions apart.  Combining the
last few sweeps so that the combined residual is least removes those modes in a handful of sweeps.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from ddfpipe.calibration.linalg import FAST, cholesky, cholesky_solve

REGULAR = 1e-10
"""Relative ridge of the small least-squares problem."""

MEMORY = 6
"""Sweeps that are kept: the latest and the five before it that it is combined with."""


@njit(cache=True, nogil=True, forceinline=True)
def remember(before, after, kept, old, new):
    """Add the latest sweep, which took the state `old` to `new` (n,).

    before, after: (MEMORY, n) float64, the first `kept` rows of which are earlier sweeps, oldest
    first; the oldest makes room where all are taken.  Returns how many rows are kept now.
    """
    if kept == len(before):
        for i in range(kept - 1):
            before[i] = before[i + 1]
            after[i] = after[i + 1]
        kept -= 1
    before[kept] = old
    after[kept] = new
    return kept + 1


@njit(cache=True, nogil=True, fastmath=FAST, forceinline=True)
def mix(before, after, kept, scale, out):
    """Next state of a map into out (n,), from the sweeps that `remember` kept.

    scale: (n,) metric of the residual, the square root of the information on each component, so
    that bright directions count for what they are worth.
    """
    n, m = scale.size, kept - 1
    out[:] = after[m]
    if m < 1:
        return
    change = np.empty((m, n))
    gram = np.empty((m, m))
    gamma = np.zeros(m)
    for i in range(m):
        for k in range(n):
            step = after[i + 1, k] - before[i + 1, k] - (after[i, k] - before[i, k])
            change[i, k] = step * scale[k]
            gamma[i] += change[i, k] * (after[m, k] - before[m, k]) * scale[k]
        for j in range(i + 1):
            total = 0.0
            for k in range(n):
                total += change[i, k] * change[j, k]
            gram[i, j] = total
    size = np.empty(m)
    for i in range(m):
        size[i] = np.sqrt(max(gram[i, i] * (1 + REGULAR), 1e-300))
        gamma[i] /= size[i]
    for i in range(m):
        for j in range(i):
            gram[i, j] /= size[i] * size[j]
        gram[i, i] = 1.0
    if not cholesky(gram, m):
        return
    cholesky_solve(gram, gamma, m)
    for i in range(m):
        share = gamma[i] / size[i]
        for k in range(n):
            out[k] -= share * (after[i + 1, k] - after[i, k])
