"""Small dense linear algebra inside compiled loops: Cholesky factors, solutions, inverses.

Plain loops rather than LAPACK: the matrices are small (tens of rows), the calls come from threads
that hold no lock, and the result must not depend on how many threads a library feels like using.
"""

from __future__ import annotations

import numpy as np
from numba import njit

FAST = {"reassoc", "contract", "arcp", "nsz"}
"""Reorderings that vectorise sums; NaN and infinity keep their meaning."""


@njit(cache=True, nogil=True, fastmath=FAST)
def cholesky(matrix, n):
    """Lower Cholesky factor in place of the lower triangle of (n, n) float64; False if it fails."""
    for j in range(n):
        for k in range(j + 1):
            total = matrix[j, k]
            for i in range(k):
                total -= matrix[j, i] * matrix[k, i]
            if k < j:
                matrix[j, k] = total / matrix[k, k]
            else:
                if not total > 0.0:
                    return False
                matrix[j, j] = np.sqrt(total)
    return True


@njit(cache=True, nogil=True, fastmath=FAST)
def cholesky_solve(factor, vector, n):
    """Solve L Lᵀ x = vector in place; factor (n, n) from `cholesky`, vector (n,) float64."""
    for i in range(n):
        total = vector[i]
        for k in range(i):
            total -= factor[i, k] * vector[k]
        vector[i] = total / factor[i, i]
    for i in range(n - 1, -1, -1):
        x = vector[i] / factor[i, i]
        vector[i] = x
        for k in range(i):
            vector[k] -= factor[i, k] * x


@njit(cache=True, nogil=True, fastmath=FAST)
def cholesky_inverse(factor, work, out, n):
    """out = (L Lᵀ)⁻¹, full symmetric (n, n) float64; work (n, n) scratch."""
    for i in range(n):  # work = L⁻¹ by rows
        for j in range(n):
            work[i, j] = 0.0
        work[i, i] = 1.0
        for k in range(i):
            f = factor[i, k]
            for j in range(k + 1):
                work[i, j] -= f * work[k, j]
        f = 1.0 / factor[i, i]
        for j in range(i + 1):
            work[i, j] *= f
    for i in range(n):
        for j in range(n):
            out[i, j] = 0.0
    for k in range(n):
        for i in range(k + 1):
            f = work[k, i]
            for j in range(i + 1):
                out[i, j] += f * work[k, j]
    for i in range(n):
        for j in range(i):
            out[j, i] = out[i, j]


@njit(cache=True, nogil=True)
def invert_each(matrices, out):
    """Inverses of symmetric positive matrices (m, n, n) float64 into out; ok (m,) bool returned."""
    m, n = matrices.shape[0], matrices.shape[1]
    ok = np.empty(m, np.bool_)
    factor = np.empty((n, n))
    work = np.empty((n, n))
    for p in range(m):
        factor[:] = matrices[p]
        ok[p] = cholesky(factor, n)
        if ok[p]:
            cholesky_inverse(factor, work, out[p], n)
    return ok


@njit(cache=True, nogil=True, fastmath=FAST)
def hermitian_solve(re, im, x_re, x_im, n):
    """Solve a Hermitian positive system in place by Cholesky; False when it is not positive.

    re, im: (n, n) float64, lower triangle used and overwritten; x_re, x_im: (n,) right-hand side
    and, on return, solution.
    """
    for j in range(n):
        for k in range(j + 1):
            a, b = re[j, k], im[j, k]
            for i in range(k):
                a -= re[j, i] * re[k, i] + im[j, i] * im[k, i]
                b -= im[j, i] * re[k, i] - re[j, i] * im[k, i]
            if k < j:
                re[j, k] = a / re[k, k]
                im[j, k] = b / re[k, k]
            else:
                if not a > 0.0:
                    return False
                re[j, j] = np.sqrt(a)
    for i in range(n):
        a, b = x_re[i], x_im[i]
        for k in range(i):
            a -= re[i, k] * x_re[k] - im[i, k] * x_im[k]
            b -= re[i, k] * x_im[k] + im[i, k] * x_re[k]
        x_re[i] = a / re[i, i]
        x_im[i] = b / re[i, i]
    for i in range(n - 1, -1, -1):
        a = x_re[i] / re[i, i]
        b = x_im[i] / re[i, i]
        x_re[i] = a
        x_im[i] = b
        for k in range(i):
            x_re[k] -= re[i, k] * a + im[i, k] * b
            x_im[k] -= re[i, k] * b - im[i, k] * a
    return True


@njit(cache=True, nogil=True, fastmath=FAST)
def multiply(a, b, out, n):
    """out = a b for (n, n) float64 matrices."""
    for i in range(n):
        for j in range(n):
            out[i, j] = 0.0
        for k in range(n):
            f = a[i, k]
            for j in range(n):
                out[i, j] += f * b[k, j]
