"""Pieces of images on the grid of a mosaic.

Methods of the `reproject` package (Robitaille et al. 2020, astropy-affiliated): cubic splines or
bilinear interpolation, means over the exact overlap of pixels on the sphere, or DeForest's (2004,
Sol. Phys. 219, 3) adaptive resampling.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ddfpipe.products.mosaic.layout import Layout, cutout_of, place
from ddfpipe.products.mosaic.pointing import Pointing

if TYPE_CHECKING:
    from astropy.wcs import WCS

MARGIN = 32
"""Pixels around a cut-out: a spline's memory of its edge fades by 0.27 a pixel, below 1e-17."""
SPOILT = 2
"""Pixels around a blank one that a cubic spline cannot be trusted in."""
_WHOLE = 1.0 - 1e-3
"""Part of a pixel's neighbourhood that must be valid, but for rounding."""


def regrid_piece(pointing: Pointing, layout: Layout, rows: slice, columns: slice,
                 method: str) -> tuple[np.ndarray, np.ndarray] | None:
    """(image, weight) of a pointing on a piece of the mosaic, float64 (y, x).

    Where the weight is 0 the image is 0.  None when the pointing has no weight there.
    Facets are moved by their shift, each within its outline; what lies in no used facet has no
    weight.
    """
    plane, facets = pointing.intrinsic, pointing.facets
    margin = MARGIN + (facets.reach() if facets else 0)
    part = cutout_of(layout, rows, columns, plane.wcs(), plane.shape, margin)
    if part is None:
        return None
    cut = pointing.cutout(*part)
    if not cut[1].any():
        return None
    source = plane.wcs()
    source.wcs.crpix -= [part[1].start, part[0].start]
    shape = rows.stop - rows.start, columns.stop - columns.start
    target = layout.wcs(rows, columns)
    if facets is None:
        return _regrid(*cut, source, target, shape, method)
    y, x = np.mgrid[:shape[0], :shape[1]]
    px, py = place(target, plane.wcs(), x, y)
    label = facets.label(px, py)
    image, weight = np.zeros(shape), np.zeros(shape)
    for number in np.unique(label[label >= 0]):
        inside = label == number
        box = _box(inside)
        there = layout.wcs(slice(rows.start + box[0].start, None),
                           slice(columns.start + box[1].start, None))
        moved = source.deepcopy()
        moved.wcs.crpix += facets.shift[number]
        size = box[0].stop - box[0].start, box[1].stop - box[1].start
        one = _regrid(*cut, moved, there, size, method)
        image[box][inside[box]] = one[0][inside[box]]
        weight[box][inside[box]] = one[1][inside[box]]
    return image, weight


def _box(mask: np.ndarray) -> tuple[slice, slice]:
    """Rows and columns around the true pixels."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)


def _regrid(image: np.ndarray, weight: np.ndarray, valid: np.ndarray, source: WCS, target: WCS,
            shape: tuple[int, int], method: str) -> tuple[np.ndarray, np.ndarray]:
    from scipy.ndimage import binary_erosion

    if method == "bicubic" and not valid.all():
        valid = binary_erosion(valid, np.ones((3, 3)), iterations=SPOILT, border_value=1)
    stack = np.stack([weight, valid.astype(np.float32), image])
    if method == "bicubic":
        # Weights are never interpolated by a cubic: it would swing below zero at their edge.
        out_weight, out_valid = _reproject(stack[:2], source, target, shape, "bilinear")
        out = _reproject(stack[2:], source, target, shape, "bicubic")[0]
    else:
        out_weight, out_valid, out = _reproject(stack, source, target, shape, method)
    with np.errstate(invalid="ignore"):
        good = (out_valid >= _WHOLE) & (out_weight > 0.0) & np.isfinite(out)
    return np.where(good, out, 0.0), np.where(good, out_weight, 0.0)


def _reproject(stack: np.ndarray, source: WCS, target: WCS, shape: tuple[int, int],
               method: str) -> np.ndarray:
    """Planes (n, y, x) of one WCS on another, float64 (n, *shape); NaN outside."""
    import reproject

    arguments = (stack, source), target
    size = (len(stack), *shape)
    if method == "exact":
        return reproject.reproject_exact(*arguments, shape_out=size, return_footprint=False)
    if method == "adaptive":
        return reproject.reproject_adaptive(*arguments, shape_out=size, return_footprint=False,
                                            roundtrip_coords=False, bad_value_mode="ignore")
    return reproject.reproject_interp(*arguments, shape_out=size, order=method,
                                      return_footprint=False, roundtrip_coords=False)
