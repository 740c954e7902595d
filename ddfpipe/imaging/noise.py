"""Robust noise of an image, as one number and as a map.

All estimates leave out pixels that are not finite or exactly zero (blanked or outside the image).
"""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numba import njit

from ddfpipe.errors import ImagingError

MAD_TO_SIGMA = 1.4826
"""Standard deviation of a Gaussian over its median absolute deviation."""

_MAX_SAMPLE = 4_000_000
_MIN_VALID = 0.1


def robust_noise(image: np.ndarray, clip: float = 4.0, iterations: int = 10) -> float:
    """Standard deviation of the source-free part of `image`, any shape, same unit.

    Median absolute deviation first, then standard deviations of what lies within `clip` sigma of
    the median until it settles, corrected for the clipped tails.  Large images are sampled at
    evenly spaced rows.  NaN when nothing is valid.
    """
    values = _sample(image)
    if values.size == 0:
        return math.nan
    centre = _median(values)
    sigma = MAD_TO_SIGMA * _median(np.abs(values - centre))
    if sigma == 0.0:
        return 0.0
    # A Gaussian cut at +-c sigma has variance 1 - 2 c phi(c) / (2 Phi(c) - 1).
    density = math.exp(-0.5 * clip * clip) / math.sqrt(2.0 * math.pi)
    kept = math.sqrt(1.0 - 2.0 * clip * density / math.erf(clip / math.sqrt(2.0)))
    for _ in range(iterations):
        inside = values[np.abs(values - centre) < clip * sigma]
        new = float(inside.std(dtype=np.float64)) / kept
        if new >= sigma or inside.size < 2:
            break
        centre, done = _median(inside), abs(new - sigma) < 1e-4 * sigma
        sigma = new
        if done:
            break
    return sigma


def _median(values: np.ndarray) -> float:
    """Median of values (n,) that are all finite, n > 0, as numpy's.

    numpy.median asks for both values in the middle at once, which its fast partition cannot do:
    8.1 instead of 1.2 ms for 512² values.
    """
    half = values.size // 2
    part = np.partition(values, half)
    return float(part[half] if values.size % 2 else (part[:half].max() + part[half]) / 2)


def _sample(image: np.ndarray) -> np.ndarray:
    """Valid pixels of at most about 4 million, as float32."""
    image = np.asarray(image)
    rows = image.reshape(-1, image.shape[-1]) if image.ndim else image.reshape(1, 1)
    stride = max(1, math.ceil(rows.size / _MAX_SAMPLE))
    values = np.ascontiguousarray(rows[::stride], dtype=np.float32).ravel()
    return values[np.isfinite(values) & (values != 0.0)]


def local_noise(
    image: np.ndarray, box: tuple[int, int] = (50, 2), threads: int = 1
) -> tuple[np.ndarray, np.ndarray]:
    """Maps (noise, mean) of `image` (ny, nx), both float32 and free of NaN.

    box = (size, step): windows of size x size pixels, `step` of them to a window's length along
    each axis; in each the median and 1.4826 times the median absolute deviation.  A 3 x 3 median
    over windows takes out those that a bright source fills; windows with under 10 % valid pixels
    take their value from the nearest valid one; between window centres the maps are bilinear.
    Raises ImagingError for a bad box or when no window is valid.
    """
    size, step = int(box[0]), int(box[1])
    if size < 8 or step < 1 or image.ndim != 2:
        raise ImagingError(f"noise box {box}: the size must be 8 or more, the step 1 or more.")
    ny, nx = image.shape
    size = min(size, ny, nx)
    rows, cols = (_window_starts(n, size, step) for n in (ny, nx))
    sigma = np.empty((rows.size, cols.size))
    mean = np.empty_like(sigma)

    def work(part: np.ndarray) -> None:
        for i in part:
            strip = np.ascontiguousarray(image[rows[i]:rows[i] + size], dtype=np.float32)
            _window_statistics(strip, cols, size, sigma[i], mean[i])

    parts = [np.arange(k, rows.size, threads) for k in range(threads)]
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(work, parts))
    _fill_invalid(sigma, mean)
    centre_y, centre_x = rows + 0.5 * (size - 1), cols + 0.5 * (size - 1)
    return tuple(
        _bilinear(_median3(grid), centre_y, centre_x, ny, nx).astype(np.float32, copy=False)
        for grid in (sigma, mean)
    )


def _window_starts(n: int, size: int, step: int) -> np.ndarray:
    """First pixels of windows that cover 0..n-1, the last one flush with the end."""
    count = max(1, math.ceil((n - size) / (size / step)) + 1)
    return np.unique(np.rint(np.linspace(0, n - size, count)).astype(np.int64))


@njit(cache=True, nogil=True)
def _window_statistics(strip, cols, size, sigma, mean):
    """Median and scaled MAD of windows of a strip (size, nx); NaN where too few are valid."""
    values = np.empty(size * strip.shape[0], np.float32)
    for k in range(cols.size):
        count = 0
        for y in range(strip.shape[0]):
            for x in range(cols[k], cols[k] + size):
                value = strip[y, x]
                if math.isfinite(value) and value != 0.0:
                    values[count] = value
                    count += 1
        if count < max(16.0, 0.1 * values.size):
            sigma[k] = math.nan
            mean[k] = math.nan
            continue
        valid = values[:count]
        centre = np.median(valid)
        for i in range(count):
            valid[i] = abs(valid[i] - centre)
        sigma[k] = 1.4826 * np.median(valid)
        mean[k] = centre


def _fill_invalid(sigma: np.ndarray, mean: np.ndarray) -> None:
    """Give windows without enough pixels the values of the nearest valid window, in place."""
    from scipy.ndimage import distance_transform_edt

    bad = ~np.isfinite(sigma)
    if bad.all():
        raise ImagingError("the image holds no valid pixels to take the noise from.")
    if bad.any():
        near = tuple(distance_transform_edt(bad, return_distances=False, return_indices=True))
        sigma[...] = sigma[near]
        mean[...] = mean[near]


def _median3(grid: np.ndarray) -> np.ndarray:
    from scipy.ndimage import median_filter

    return median_filter(grid, size=3, mode="nearest")


def _bilinear(grid, centre_y, centre_x, ny, nx) -> np.ndarray:
    """Interpolate `grid` at its window centres to (ny, nx) float32, constant beyond the outer."""
    along_x = np.empty((centre_y.size, nx), np.float32)
    x = np.arange(nx)
    for i, row in enumerate(grid):
        along_x[i] = np.interp(x, centre_x, row)
    out = np.empty((ny, nx), np.float32)
    upper = np.clip(np.searchsorted(centre_y, np.arange(ny)), 1, max(centre_y.size - 1, 1))
    for y in range(ny):
        if centre_y.size == 1:
            out[y] = along_x[0]
            continue
        k = upper[y]
        t = np.clip((y - centre_y[k - 1]) / (centre_y[k] - centre_y[k - 1]), 0.0, 1.0)
        out[y] = (1.0 - t) * along_x[k - 1] + t * along_x[k]
    return out
