"""Vectors of sixteen numbers against numpy."""

from __future__ import annotations

import numpy as np
from numba import njit

from ddfpipe.imaging.lanes import (
    LANES, alternate, fma, fnma, halves, load, mul, pairs, splat, spread, store, sum_pairs,
)


@njit
def everything(a, b, out):
    x, y = load(a, 1), load(b, 2)
    store(out, 0, mul(x, y))
    store(out, LANES, fma(x, y, x))
    store(out, 2 * LANES, fnma(x, y, x))
    store(out, 3 * LANES, pairs(a, 3))
    store(out, 4 * LANES, spread(a, 5))
    store(out, 5 * LANES, splat(a[6]))
    store(out, 6 * LANES, alternate(a[0], a[1]))
    store(out, 7 * LANES, halves(a[0], a[1]))
    total = splat(np.float32(0))
    for i in range(5):
        total = fma(load(a, i), load(b, i), total)
    store(out, 8 * LANES, total)
    return sum_pairs(x)


def test_against_numpy():
    a, b = np.random.default_rng(0).normal(size=(2, 40)).astype("f4")
    out = np.empty(9 * LANES, "f4")
    even, odd = everything(a, b, out)
    x, y = a[1:17], b[2:18]
    want = [
        x * y, x * y + x, x - x * y, np.repeat(a[3:11], 2), np.repeat(a[5], 16),
        np.repeat(a[6], 16), np.tile(a[:2], 8), np.repeat(a[:2], 8),
        sum(a[i:i + 16] * b[i:i + 16] for i in range(5)),
    ]
    np.testing.assert_allclose(out.reshape(9, LANES), want, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose([even, odd], [x[::2].sum(), x[1::2].sum()], rtol=1e-5)
