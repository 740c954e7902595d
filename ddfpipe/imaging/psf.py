"""The point spread function: visibilities that make it, and the Gaussian that restores it.

Position angles run from north (y grows) through east (x falls).
"""

from __future__ import annotations

import numpy as np

from ddfpipe.errors import ImagingError
from ddfpipe.imaging.sky import n_minus_one
from ddfpipe.units import FWHM_TO_SIGMA, SPEED_OF_LIGHT


def psf_vis(uvw, freq, l0: float, m0: float, dtype=np.complex64) -> np.ndarray:
    """Visibilities (..., chan) of a source of 1 Jy at (l0, m0); uvw (..., 3) m, freq (chan,) Hz."""
    wave = np.atleast_1d(np.asarray(freq, np.float64)) / SPEED_OF_LIGHT
    path = np.asarray(uvw, np.float64) @ np.array([l0, m0, n_minus_one(l0, m0)])
    turns = path[..., None] * wave
    return np.exp(2j * np.pi * (turns - np.rint(turns))).astype(dtype)


def psf_samples(uvw, l0: float, m0: float, dtype=np.complex64) -> np.ndarray:
    """`psf_vis` of samples whose uvw (n, 3) are in wavelengths; returns (n,)."""
    return psf_vis(uvw, [SPEED_OF_LIGHT], l0, m0, dtype)[..., 0]


def _offsets(shape, cell):
    """East and north offsets in rad of the pixels from pixel (ny/2, nx/2)."""
    east = -(np.arange(shape[1]) - shape[1] // 2) * cell
    north = (np.arange(shape[0]) - shape[0] // 2) * cell
    return east[None, :], north[:, None]


def _quadratic(major: float, minor: float, pa: float) -> np.ndarray:
    """(ee, en, nn) of the exponent -(ee e² + 2 en e n + nn n²) of a Gaussian of these FWHM."""
    a, b = (0.5 / (fwhm * FWHM_TO_SIGMA) ** 2 for fwhm in (major, minor))
    s, c = np.sin(pa), np.cos(pa)
    return np.array([a * s * s + b * c * c, (a - b) * s * c, a * c * c + b * s * s])


def gaussian_beam(shape: tuple[int, int], cell: float, major: float, minor: float, pa: float,
                  dtype=np.float64) -> np.ndarray:
    """Gaussian of peak 1 at pixel (ny/2, nx/2); FWHM major and minor and pa in rad."""
    east, north = _offsets(shape, cell)
    ee, en, nn = _quadratic(major, minor, pa)
    return np.exp(-(ee * east**2 + 2.0 * en * east * north + nn * north**2)).astype(dtype)


def _main_lobe(psf: np.ndarray, level: float) -> tuple[np.ndarray, np.ndarray]:
    """Rows and columns, from the centre, of the pixels above `level` connected to the peak."""
    from scipy.ndimage import label

    cy, cx = psf.shape[0] // 2, psf.shape[1] // 2
    peak = psf[cy, cx]
    if not (np.isfinite(peak) and peak > 0):
        raise ImagingError(f"restoring beam: the PSF's centre is {peak}, not positive; is there "
                           "any unflagged data?")
    half = 8
    while True:
        box = (slice(max(0, cy - half), cy + half + 1), slice(max(0, cx - half), cx + half + 1))
        part = psf[box] / peak
        names, _ = label(part >= level)
        lobe = names == names[cy - box[0].start, cx - box[1].start]
        ys, xs = np.nonzero(lobe)
        touches = ys.min() == 0 or xs.min() == 0 or ys.max() == part.shape[0] - 1 \
            or xs.max() == part.shape[1] - 1
        if not touches or half >= max(psf.shape) // 2:
            return ys + box[0].start - cy, xs + box[1].start - cx
        half *= 2


def fit_beam(psf: np.ndarray, cell: float, level: float = 0.4) -> tuple[float, float, float]:
    """Least-squares elliptical Gaussian of the PSF's main lobe: FWHM (major, minor) and pa, rad.

    psf: (ny, nx), its peak at pixel (ny/2, nx/2), of any normalisation.  cell in rad.  Only pixels
    above `level` of the peak and connected to it count, and the eight neighbours of the centre,
    which a narrow lobe does not hold.  The peak is fixed to one, as the restoring beam's is.
    0 <= pa < pi.  Raises ImagingError when no Gaussian fits.
    """
    from scipy.optimize import least_squares

    psf = np.asarray(psf, np.float64)
    y, x = _main_lobe(psf, level)
    # pixels of a lobe as narrow as these may lie on a line, which says nothing of its width
    y, x = np.unique(np.append(np.stack([y, x]), np.mgrid[-1:2, -1:2].reshape(2, -1), 1), axis=1)
    cy, cx = psf.shape[0] // 2, psf.shape[1] // 2
    value = psf[cy + y, cx + x] / psf[cy, cx]
    east, north = -x.astype(float), y.astype(float)
    # start from the linear fit of the logarithm; the centre itself says nothing about the width
    use = (value > 0.05) & ((x != 0) | (y != 0))
    basis = np.stack([east**2, 2.0 * east * north, north**2], axis=1)
    start = np.linalg.lstsq(basis[use] * value[use, None], -np.log(value[use]) * value[use],
                            rcond=None)[0]

    def miss(q):
        return np.exp(np.minimum(-(basis @ q), 50.0)) - value

    q = least_squares(miss, start, method="lm", xtol=1e-12, ftol=1e-12).x
    power, axes = np.linalg.eigh(np.array([[q[0], q[1]], [q[1], q[2]]]))
    if not power[0] > 0:
        raise ImagingError("restoring beam: the PSF's main lobe is not a Gaussian "
                           f"({y.size} pixels above {level:g} of the peak); use a smaller cell, a "
                           "larger image, or set the restoring beam")
    fwhm = np.sqrt(0.5 / power) / FWHM_TO_SIGMA * cell
    # the smallest curvature is along the major axis
    pa = float(np.arctan2(axes[0, 0], axes[1, 0]) % np.pi)
    return float(fwhm[0]), float(fwhm[1]), pa
