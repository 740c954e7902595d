"""Convolution by FFT in boxes (PSFs, scale kernels, restoring beams), and work in boxes.

Every transform runs on one thread, so results do not depend on how many boxes are in work at once.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor

import ducc0
import numpy as np

from ddfpipe.units import FWHM_TO_SIGMA


def fft_convolve_full(image: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    """Full convolution of (h, w) with (kh, kw), float32, shape (h + kh - 1, w + kw - 1).

    Pixel (i, j) of the result lies at (i - kh // 2, j - kw // 2) of `image` when the kernel is
    centred on its pixel (kh // 2, kw // 2).
    """
    shape = tuple(a + b - 1 for a, b in zip(image.shape, kernel.shape))
    padded = tuple(ducc0.fft.good_size(n, True) for n in shape)
    first = _transform(image, padded)
    first *= _transform(kernel, padded)
    out = ducc0.fft.c2r(first, axes=(0, 1), lastsize=padded[1], forward=False, inorm=2, nthreads=1)
    return out[:shape[0], :shape[1]]


def _transform(array: np.ndarray, padded: tuple[int, int]) -> np.ndarray:
    box = np.zeros(padded, np.float32)
    box[:array.shape[0], :array.shape[1]] = array
    return ducc0.fft.r2c(box, axes=(0, 1), forward=True, inorm=0, nthreads=1)


def fft_convolve_same(image: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    """Part of the full convolution that lies on `image`, float32."""
    full = fft_convolve_full(image, kernel)
    y, x = kernel.shape[0] // 2, kernel.shape[1] // 2
    return full[y:y + image.shape[0], x:x + image.shape[1]]


def ordered_map(work: Callable, items: Iterable, threads: int) -> Iterator:
    """Results of `work(item)` in the order of `items`, at most `threads` of them in the making.

    Unlike ThreadPoolExecutor.map it does not run ahead of the consumer, so memory is bounded.
    """
    items = list(items)
    if threads <= 1 or len(items) <= 1:
        yield from map(work, items)
        return
    with ThreadPoolExecutor(threads) as pool:
        waiting = []
        for item in items:
            waiting.append(pool.submit(work, item))
            if len(waiting) >= threads:
                yield waiting.pop(0).result()
        for future in waiting:
            yield future.result()


def gaussian_kernel(
    major: float, minor: float, angle: float, reach: float = 4.5, norm: str = "peak"
) -> np.ndarray:
    """Sampled elliptical Gaussian, float32, square with an odd side, out to `reach` sigma.

    major, minor: FWHM in pixels; angle: radians from north (+y) to east (-x).
    norm: "peak" for a centre of one (a restoring beam), "sum" for unit sum.
    """
    radius = max(1, math.ceil(reach * major * FWHM_TO_SIGMA))
    y, x = np.mgrid[-radius:radius + 1, -radius:radius + 1].astype(float)
    along = y * math.cos(angle) - x * math.sin(angle)
    across = y * math.sin(angle) + x * math.cos(angle)
    sigma_a, sigma_b = major * FWHM_TO_SIGMA, minor * FWHM_TO_SIGMA
    kernel = np.exp(-0.5 * ((along / sigma_a) ** 2 + (across / sigma_b) ** 2))
    if norm == "sum":
        kernel /= kernel.sum()
    return kernel.astype(np.float32)


def add_box(target: np.ndarray, y0: int, x0: int, box: np.ndarray, sign: float = 1.0) -> None:
    """target[y0:, x0:] += sign * box, clipped to the target (ny, nx); offsets may be negative."""
    ny, nx = target.shape
    top, left = max(0, -y0), max(0, -x0)
    bottom, right = min(box.shape[0], ny - y0), min(box.shape[1], nx - x0)
    if top >= bottom or left >= right:
        return
    view = target[y0 + top:y0 + bottom, x0 + left:x0 + right]
    if sign == 1.0:
        view += box[top:bottom, left:right]
    elif sign == -1.0:
        view -= box[top:bottom, left:right]
    else:
        view += np.float32(sign) * box[top:bottom, left:right]


def band_mean_rows(
    residual: np.ndarray, weight: np.ndarray, most: int = 4_000_000
) -> np.ndarray:
    """Weighted band mean of evenly spaced rows, at most about `most` pixels."""
    stride = max(1, math.ceil(residual[0].size / most))
    mean = np.zeros(residual[0, ::stride].shape, np.float32)
    for w, plane in zip(weight, residual):
        mean += np.float32(w) * plane[::stride]
    return mean


def split(length: int, limit: int) -> list[tuple[int, int]]:
    """Cut 0..length into equal pieces (start, stop) of at most `limit`."""
    count = max(1, math.ceil(length / limit))
    edges = np.rint(np.linspace(0, length, count + 1)).astype(int)
    return list(zip(edges[:-1].tolist(), edges[1:].tolist()))
