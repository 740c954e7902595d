"""The primary beam of a pair of images: apparent over intrinsic flux."""

from __future__ import annotations

import numpy as np

from ddfpipe.products.planes import Plane, widened

MEDIAN = 3
"""Side of the median filter, pixels: it takes out where both images are near zero."""


def primary_beam(apparent: Plane, intrinsic: Plane, rows: slice, columns: slice) -> np.ndarray:
    """Beam (y, x) of a part of an image, float32, median filtered; 0 where it cannot be told."""
    from scipy.ndimage import median_filter

    ny, nx = intrinsic.shape
    wide = widened(rows, ny, MEDIAN // 2), widened(columns, nx, MEDIAN // 2)
    beam = median_filter(_ratio(apparent.read(*wide), intrinsic.read(*wide)), MEDIAN)
    y, x = rows.start - wide[0].start, columns.start - wide[1].start
    return beam[y:y + rows.stop - rows.start, x:x + columns.stop - columns.start]


def sampled_beam(apparent: Plane, intrinsic: Plane, step: int) -> np.ndarray:
    """The same on every `step`-th pixel of the whole image."""
    from scipy.ndimage import median_filter

    return median_filter(_ratio(apparent.sample(step), intrinsic.sample(step)), MEDIAN)


def _ratio(apparent: np.ndarray, intrinsic: np.ndarray) -> np.ndarray:
    """Apparent over intrinsic flux; 0 where it cannot be told."""
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = apparent / intrinsic
    ratio[~np.isfinite(ratio)] = 0.0
    return ratio
