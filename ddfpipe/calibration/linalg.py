"""Small dense linear algebra inside compiled loops: Cholesky factors, solutions, inverses.

Plain loops rather than LAPACK: the matrices are small (tens of rows), the calls come from threads
that hold no lock, and the result must not depend on how many threads a library feels like using.
"""

from __future__ import annotations

import numpy as np
from numba import njit

FAST = {"reassoc", "contract", "arcp", "nsz"}
"""Reorderings that vectorise sums; NaN and infinity keep their meaning."""


@njit(cache=True, nogil=True, fastmath=FAST, forceinline=True)
def cholesky(matrix, n):
    """Lower Cholesky factor in place of the lower triangle of (n, n) float64; False if it fails.

    Column by column, four rows at a time: their sums do not wait for each other.
    """
    for k in range(n):
        total = matrix[k, k]
        for i in range(k):
            total -= matrix[k, i] * matrix[k, i]
        if not total > 0.0:
            return False
        root = np.sqrt(total)
        matrix[k, k] = root
        inverse = 1.0 / root
        j = k + 1
        while j + 3 < n:
            a, b, c, d = matrix[j, k], matrix[j + 1, k], matrix[j + 2, k], matrix[j + 3, k]
            for i in range(k):
                x = matrix[k, i]
                a -= matrix[j, i] * x
                b -= matrix[j + 1, i] * x
                c -= matrix[j + 2, i] * x
                d -= matrix[j + 3, i] * x
            matrix[j, k], matrix[j + 1, k] = a * inverse, b * inverse
            matrix[j + 2, k], matrix[j + 3, k] = c * inverse, d * inverse
            j += 4
        while j < n:
            a = matrix[j, k]
            for i in range(k):
                a -= matrix[j, i] * matrix[k, i]
            matrix[j, k] = a * inverse
            j += 1
    return True


@njit(cache=True, nogil=True, fastmath=FAST, forceinline=True)
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


@njit(cache=True, nogil=True, fastmath=FAST, forceinline=True)
def cholesky_inverse(factor, work, out, n):
    """out = (L Lᵀ)⁻¹, full symmetric (n, n) float64; work (n, n) scratch.

    Four rows are added at a time, so that sums stay in registers for longer.
    """
    for i in range(n):  # work = L⁻¹ by rows, zero above the diagonal
        for j in range(n):
            work[i, j] = 0.0
            out[i, j] = 0.0
        work[i, i] = 1.0
        k = 0
        while k + 3 < i:
            a, b, c, d = factor[i, k], factor[i, k + 1], factor[i, k + 2], factor[i, k + 3]
            for j in range(k + 4):
                work[i, j] -= (a * work[k, j] + b * work[k + 1, j] + c * work[k + 2, j]
                               + d * work[k + 3, j])
            k += 4
        while k < i:
            a = factor[i, k]
            for j in range(k + 1):
                work[i, j] -= a * work[k, j]
            k += 1
        a = 1.0 / factor[i, i]
        for j in range(i + 1):
            work[i, j] *= a
    _gram(work, out, n)


@njit(cache=True, nogil=True, fastmath=FAST, forceinline=True)
def _gram(lower, out, n):
    """Add Lᵀ L of a lower triangle, full symmetric, to zeros in out (n, n)."""
    k = 0
    while k + 3 < n:
        for i in range(k + 4):
            a, b, c, d = lower[k, i], lower[k + 1, i], lower[k + 2, i], lower[k + 3, i]
            for j in range(i + 1):
                out[i, j] += (a * lower[k, j] + b * lower[k + 1, j] + c * lower[k + 2, j]
                              + d * lower[k + 3, j])
        k += 4
    while k < n:
        for i in range(k + 1):
            a = lower[k, i]
            for j in range(i + 1):
                out[i, j] += a * lower[k, j]
        k += 1
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


@njit(cache=True, nogil=True, fastmath=FAST, forceinline=True)
def hermitian_factor(re, im, n):
    """Cholesky factor of a Hermitian matrix in place of its lower triangle; False if it fails."""
    for k in range(n):
        total = re[k, k]
        for i in range(k):
            total -= re[k, i] * re[k, i] + im[k, i] * im[k, i]
        if not total > 0.0:
            return False
        root = np.sqrt(total)
        re[k, k] = root
        inverse = 1.0 / root
        j = k + 1
        while j + 1 < n:
            a, b, c, d = re[j, k], im[j, k], re[j + 1, k], im[j + 1, k]
            for i in range(k):
                x, y = re[k, i], im[k, i]
                a -= re[j, i] * x + im[j, i] * y
                b -= im[j, i] * x - re[j, i] * y
                c -= re[j + 1, i] * x + im[j + 1, i] * y
                d -= im[j + 1, i] * x - re[j + 1, i] * y
            re[j, k], im[j, k] = a * inverse, b * inverse
            re[j + 1, k], im[j + 1, k] = c * inverse, d * inverse
            j += 2
        if j < n:
            a, b = re[j, k], im[j, k]
            for i in range(k):
                a -= re[j, i] * re[k, i] + im[j, i] * im[k, i]
                b -= im[j, i] * re[k, i] - re[j, i] * im[k, i]
            re[j, k], im[j, k] = a * inverse, b * inverse
    return True


@njit(cache=True, nogil=True, fastmath=FAST, forceinline=True)
def hermitian_solve(re, im, x_re, x_im, n):
    """Solve a Hermitian positive system in place by Cholesky; False when it is not positive.

    re, im: (n, n) float64, lower triangle used and overwritten; x_re, x_im: (n,) right-hand side
    and, on return, solution.
    """
    if not hermitian_factor(re, im, n):
        return False
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


@njit(cache=True, nogil=True, fastmath=FAST, forceinline=True)
def multiply(a, b, out, n):
    """out = a b for (n, n) float64 matrices; four rows of b at a time, as above."""
    for i in range(n):
        for j in range(n):
            out[i, j] = 0.0
        k = 0
        while k + 3 < n:
            w, x, y, z = a[i, k], a[i, k + 1], a[i, k + 2], a[i, k + 3]
            for j in range(n):
                out[i, j] += w * b[k, j] + x * b[k + 1, j] + y * b[k + 2, j] + z * b[k + 3, j]
            k += 4
        while k < n:
            w = a[i, k]
            for j in range(n):
                out[i, j] += w * b[k, j]
            k += 1
