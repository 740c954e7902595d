"""Taking components out of a residual image through the PSF, exactly.

Boxes with much in them go through a Fourier transform.  Most rounds of a clean find a handful of
components, and the sum of as many shifted PSFs is cheaper by far: a pixel of it takes 0.1 ns,
one of the three transforms of a convolution together 9 ns.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from ddfpipe.imaging.convolve import add_box, fft_convolve_full, ordered_map, split

_TRANSFORM = 60
"""Pixels of sums of PSFs that are worth one of a convolution: a little below what was measured."""

_STRIP = 512
"""Rows of the image that a thread takes at once."""


def subtract_boxes(
    residual: np.ndarray, psf: np.ndarray, boxes: list, sign: float = 1.0, threads: int = 1
) -> None:
    """Take what boxes of flux look like through the PSF out of a residual, in place.

    residual : (band, ny, nx) float32, Jy/beam
    psf : (facet, band, n, n) float32, its peak at n // 2
    boxes : (facet, y0, x0, (band, h, w) float32): flux in Jy of pixels from (y0, x0), which may lie
        outside the image
    sign : 1, or -1 to put it back

    The result does not depend on `threads`.
    """
    few, many = [], []
    for box in boxes:
        (few if _few(box[3], psf.shape[-1], residual.shape[1:]) else many).append(box)
    _sum(residual, psf, few, sign, threads)
    n, image = psf.shape[-1], residual.shape[1:]

    def work(item):
        facet, y0, x0, box = item
        rows = _within_reach(y0, box.shape[1], image[0], n)
        cols = _within_reach(x0, box.shape[2], image[1], n)
        planes = [fft_convolve_full(plane, psf[facet, b, rows, cols])
                  for b, plane in enumerate(box)]
        return y0 + rows.start - n // 2, x0 + cols.start - n // 2, planes

    for y, x, planes in ordered_map(work, many, threads):
        for target, plane in zip(residual, planes):
            add_box(target, y, x, plane, -sign)


def _few(box: np.ndarray, n: int, image: tuple[int, int]) -> bool:
    """Whether sums of PSFs cost less than a convolution."""
    padded = (box.shape[1] + min(n, 2 * image[0])) * (box.shape[2] + min(n, 2 * image[1]))
    return np.count_nonzero(box[0]) * min(n, image[0]) * min(n, image[1]) < _TRANSFORM * padded


def _sum(residual, psf, boxes, sign, threads) -> None:
    """Subtract boxes as sums of shifted PSFs, in strips of the image."""
    sources = []
    for facet, y0, x0, box in boxes:
        rows, cols = np.nonzero(box.any(axis=0))
        sources += [(target, rows + y0, cols + x0, np.float32(-sign) * plane[rows, cols],
                     psf[facet, b]) for b, (target, plane) in enumerate(zip(residual, box))]

    def work(strip):
        for target, *rest in sources:
            _add_shifted(target, *strip, *rest)

    strips = split(residual.shape[1], _STRIP) if sources else []
    for _ in ordered_map(work, strips, threads):
        pass


@njit(cache=True, nogil=True)
def _add_shifted(target, first, end, rows, cols, flux, kernel):
    """Add point sources seen through a kernel to rows first..end-1 of target (ny, nx) float32.

    rows, cols (n,) int64: pixels, which may lie outside; flux (n,) float32.  kernel (k, k) float32
    with its middle at k // 2.  A row takes all sources in turn, as long as it is at hand.
    """
    size, nx = kernel.shape[0], target.shape[1]
    for y in range(first, end):
        for s in range(rows.size):
            ky, x0 = y - rows[s] + size // 2, cols[s] - size // 2
            low, high = max(0, x0), min(nx, x0 + size)
            if 0 <= ky < size and low < high:
                share, out, line = flux[s], target[y, low:high], kernel[ky, low - x0:high - x0]
                for i in range(out.size):
                    out[i] += share * line[i]


def _within_reach(start: int, length: int, image: int, n: int) -> slice:
    """Part of a PSF of n pixels that sees the image from a box's rows (columns) start, ..."""
    first = min(max(0, n // 2 - (start + length - 1)), n - 1)
    return slice(first, max(first + 1, min(n, n // 2 + image - start)))
