"""Medians, their errors, and medians in bins."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

SEED = 20261121
"""Of the resampling: the same data give the same errors."""
MIN_BIN = 5
"""Fewest values whose median counts in a bin."""
_CHUNK = 2_000_000


@dataclass(frozen=True)
class Estimate:
    """A median and its standard error; NaN without enough values.  n: number of values."""

    value: float
    error: float
    n: int

    def plain(self) -> dict[str, float | int | None]:
        """As JSON values; what is not known is None."""
        return {"value": finite(self.value), "error": finite(self.error), "n": self.n}


def finite(value: float) -> float | None:
    """A float for JSON, None unless it is finite."""
    value = float(value)
    return value if math.isfinite(value) else None


def bootstrap_median(values: np.ndarray, samples: int = 1000, seed: int = SEED) -> Estimate:
    """Median of the finite values (n,), its error by resampling (Efron 1979, Ann. Stat. 7, 1).

    The error is the standard deviation of the medians of `samples` samples drawn with
    replacement; NaN for fewer than 3 values.
    """
    values = np.asarray(values, float)
    values = values[np.isfinite(values)]
    n = values.size
    if n == 0:
        return Estimate(math.nan, math.nan, 0)
    if n < 3:
        return Estimate(float(np.median(values)), math.nan, n)
    rng = np.random.default_rng(seed)
    step = max(1, _CHUNK // n)
    medians = [
        np.median(values[rng.integers(0, n, (min(step, samples - start), n))], axis=1)
        for start in range(0, samples, step)
    ]
    return Estimate(float(np.median(values)), float(np.concatenate(medians).std()), n)


def spread(values: np.ndarray) -> float:
    """Robust standard deviation: 1.4826 times the median absolute deviation; NaN if empty."""
    values = np.asarray(values, float)
    values = values[np.isfinite(values)]
    if values.size == 0:
        return math.nan
    return 1.4826 * float(np.median(np.abs(values - np.median(values))))


def binned_medians(x: np.ndarray, y: np.ndarray, edges: np.ndarray, samples: int = 300
                   ) -> list[dict]:
    """Median of y and its error in bins of x: [{low, high, value, error, n}], bins with few left
    out.
    """
    rows = []
    for low, high in zip(edges[:-1], edges[1:]):
        inside = (x >= low) & (x < high) & np.isfinite(y)
        if inside.sum() >= MIN_BIN:
            found = bootstrap_median(y[inside], samples)
            rows.append({"low": float(low), "high": float(high), **found.plain()})
    return rows
