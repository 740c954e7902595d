"""The tangent plane: SIN projection about the phase centre, and its pixels.

All angles in radians; l grows to the east, m to the north, n = sqrt(1 - l² - m²).  Pixel (y, x),
zero-based, of an image of N x N pixels with cell c lies at l = -(x - N/2) c, m = (y - N/2) c.
Source of the projection: Calabretta & Greisen 2002, A&A 395, 1077, section 5.1.5.
"""

from __future__ import annotations

import numpy as np


def n_minus_one(l, m):
    """n - 1 = sqrt(1 - l² - m²) - 1 without cancellation near the centre (float64)."""
    r2 = np.square(np.asarray(l, np.float64)) + np.square(np.asarray(m, np.float64))
    return -r2 / (np.sqrt(1.0 - r2) + 1.0)


def radec_to_lm(ra, dec, ra0: float, dec0: float):
    """Direction cosines (l, m) of positions (ra, dec) about the phase centre (ra0, dec0).

    All in radians, any shape.  Positions more than 90 degrees away have no place on the plane
    and come out as NaN.
    """
    ra, dec = np.asarray(ra, np.float64), np.asarray(dec, np.float64)
    da = ra - ra0
    l = np.cos(dec) * np.sin(da)
    # sin(dec - dec0) + ... keeps full precision near the centre, where the textbook form cancels
    m = np.sin(dec - dec0) + 2.0 * np.cos(dec) * np.sin(dec0) * np.sin(0.5 * da) ** 2
    behind = np.sin(dec) * np.sin(dec0) + np.cos(dec) * np.cos(dec0) * np.cos(da) < 0
    return np.where(behind, np.nan, l)[()], np.where(behind, np.nan, m)[()]


def lm_to_radec(l, m, ra0: float, dec0: float):
    """Position (ra in [0, 2 pi), dec) in radians of direction cosines (l, m), any shape.

    Points outside the unit circle come out as NaN.
    """
    l, m = np.asarray(l, np.float64), np.asarray(m, np.float64)
    with np.errstate(invalid="ignore"):
        n = 1.0 + n_minus_one(l, m)
    dec = np.arcsin(np.clip(m * np.cos(dec0) + n * np.sin(dec0), -1.0, 1.0))
    ra = ra0 + np.arctan2(l, n * np.cos(dec0) - m * np.sin(dec0))
    return np.mod(ra, 2.0 * np.pi)[()], dec[()]


def pixel_to_lm(y, x, npix: int, cell: float):
    """(l, m) in radians of (fractional) pixels (y, x) of an npix x npix image with cell in rad.

    The phase centre is pixel npix // 2 on both axes, of odd images too.
    """
    return -(np.asarray(x) - npix // 2) * cell, (np.asarray(y) - npix // 2) * cell


def lm_to_pixel(l, m, npix: int, cell: float):
    """Fractional pixel (y, x) of direction cosines (l, m); inverse of `pixel_to_lm`."""
    return np.asarray(m) / cell + npix // 2, npix // 2 - np.asarray(l) / cell
