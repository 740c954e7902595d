"""What DDFacet's images hold that is not plain to see."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import maximum_filter

from ...errors import ImagingError

PATCH = 256
"""Largest half of a PSF patch, pixels."""

NEAR_ONE, NEIGHBOURS = 0.9, 9
"""A PSF's peak over the flux seen there, at least; pixels within which it is the largest."""


def middle_psf(plane: np.ndarray, attenuation: np.ndarray) -> np.ndarray:
    """(n, n) float32 PSF with its peak, one, at (n // 2, n // 2), n odd.

    plane : (y, x) image of PSFs as DDFacet writes it: each facet shows its own, about its own
        centre, as bright as what is seen there; attenuation : (y, x) apparent over intrinsic flux

    The PSF of the facet whose centre is nearest to the middle.  Raises ImagingError when none is
    there.
    """
    scaled = plane / np.where(attenuation > 0, attenuation, 1)
    peak = (maximum_filter(scaled, NEIGHBOURS) == scaled) & (scaled > NEAR_ONE)
    places = np.argwhere(peak)
    if not len(places):
        raise ImagingError("DDFacet's image of the PSF holds none; this version cannot be used")
    middle = np.array(plane.shape) // 2
    y, x = places[np.argmin(((places - middle) ** 2).sum(axis=1))]
    ny, nx = plane.shape
    half = int(min(PATCH, y, x, ny - 1 - y, nx - 1 - x))
    patch = scaled[y - half : y + half + 1, x - half : x + half + 1]
    return (patch / scaled[y, x]).astype(np.float32)
