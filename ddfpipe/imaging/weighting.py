"""Imaging weights: natural, uniform and Briggs, uv range, taper.

Briggs' robust weights (Briggs 1995, PhD thesis, New Mexico Tech, section 3.5): with W_k the sum of
the natural weights in uv cell k, V(u,v) and its conjugate both counted,

    w' = w / (1 + W_k f²),      f² = (5 10^-R)² / (sum_k W_k² / sum_i w_i).

The cell of the uv grid is 1/(npix cell), the resolution of the image.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from ddfpipe.errors import ImagingError
from ddfpipe.units import SPEED_OF_LIGHT

UNIFORM = -2.0
"""Robustness at and below which weights are plainly uniform."""


@njit(cache=True, nogil=True, forceinline=True)
def _cell(u, v, half):
    """(row, column) in the half plane v >= 0 of a uv position in cells; (-1, -1) off the grid."""
    iu = int(np.rint(u))
    iv = int(np.rint(v))
    if iv < 0:
        iu = -iu
        iv = -iv
    if iu < -half or iu > half or iv > half:
        return -1, -1
    return iv, iu + half


@njit(cache=True, nogil=True)
def _add(uvw, freq, weight, scale, grid):
    half = grid.shape[0] - 1
    for t in range(uvw.shape[0]):
        for b in range(uvw.shape[1]):
            for c in range(freq.size):
                w = weight[t, b, c]
                if w > 0:
                    f = freq[c] * scale
                    iv, iu = _cell(uvw[t, b, 0] * f, uvw[t, b, 1] * f, half)
                    if iv >= 0:
                        grid[iv, iu] += w
                        if iv == 0:
                            # the conjugate lies in the stored half plane too
                            grid[0, 2 * half - iu] += w


@njit(cache=True, nogil=True)
def _apply(uvw, freq, weight, scale, grid, one, f2, out):
    half = grid.shape[0] - 1
    for t in range(uvw.shape[0]):
        for b in range(uvw.shape[1]):
            for c in range(freq.size):
                w = weight[t, b, c]
                x = 0.0
                if w > 0:
                    f = freq[c] * scale
                    iv, iu = _cell(uvw[t, b, 0] * f, uvw[t, b, 1] * f, half)
                    if iv >= 0:
                        d = one + grid[iv, iu] * f2
                        x = w / d if d > 0 else 0.0
                out[t, b, c] = x


class DensityGrid:
    """Density of the natural weights over the uv plane, in two steps over chunks of data.

    `add` every chunk, `finalize(robust)` once, then `apply` to every chunk.  Grids filled apart
    (by threads, say) are joined by `merge`.

    npix, cell: size of the image that sets the uv cell 1/(npix cell); cell in rad.
    uv_max: largest |u| or |v| in wavelengths that occurs, to keep the grid small; by default, and
        at most, npix/2 cells, the shortest spacing that the image's pixels resolve.  Samples
        beyond the grid get weight zero.
    Memory: 8 bytes for each of (2 h + 1)(h + 1) cells, h = min(npix/2, uv_max npix cell + 1).
    """

    def __init__(self, npix: int, cell: float, uv_max: float | None = None):
        if npix < 1 or not cell > 0:
            raise ImagingError(f"weights need a positive image size ({npix}) and cell ({cell} rad)")
        half = npix // 2
        if uv_max is not None:
            half = min(half, math.ceil(uv_max * npix * cell) + 1)
        self.npix, self.cell = npix, cell
        self.grid = np.zeros((half + 1, 2 * half + 1))
        self._one, self._f2 = 1.0, None

    @property
    def _scale(self) -> float:
        """Cells a metre and hertz."""
        return self.npix * self.cell / SPEED_OF_LIGHT

    def add(self, uvw, freq, weight) -> None:
        """Count uvw (time, bl, 3) m or (row, 3), freq (chan,) Hz, weight (time, bl, chan)."""
        _add(*_shaped(uvw, freq, weight), self._scale, self.grid)

    def merge(self, other: DensityGrid) -> None:
        """Add the counts of another grid of the same image."""
        if (self.npix, self.cell, self.grid.shape) != (other.npix, other.cell, other.grid.shape):
            raise ImagingError("weights: grids of different images cannot be merged")
        self.grid += other.grid

    def finalize(self, robust: float | None) -> None:
        """Choose the weighting: None natural, robust <= -2 uniform, otherwise Briggs."""
        if robust is None:
            self._one, self._f2 = 1.0, 0.0
        elif robust <= UNIFORM:
            self._one, self._f2 = 0.0, 1.0
        else:
            # the row v = 0 holds both halves of the plane, every other row stands for two
            total = 2.0 * self.grid[1:].sum() + self.grid[0].sum()
            square = 2.0 * np.vdot(self.grid[1:], self.grid[1:])
            square += np.vdot(self.grid[0], self.grid[0])
            f2 = (5.0 * 10.0 ** -robust) ** 2 * total / square if square > 0 else 0.0
            self._one, self._f2 = 1.0, float(f2)

    def apply(self, uvw, freq, weight) -> np.ndarray:
        """Weights w' (float32, shaped like weight) of a chunk; arguments as for `add`."""
        if self._f2 is None:
            raise ImagingError("weights: finalize() must come before apply()")
        out = np.zeros(np.shape(weight), np.float32)
        if self._f2 == 0.0:
            np.maximum(weight, 0.0, out=out, casting="same_kind")
            return out
        uvw, freq, weight = _shaped(uvw, freq, weight)
        _apply(uvw, freq, weight, self._scale, self.grid, self._one, self._f2,
               out.reshape(weight.shape))
        return out


def _shaped(uvw, freq, weight):
    """uvw (time, bl, 3) float64, freq (chan,), weight (time, bl, chan) float32, contiguous."""
    uvw = np.ascontiguousarray(uvw, np.float64)
    freq = np.atleast_1d(np.asarray(freq, np.float64))
    weight = np.ascontiguousarray(weight, np.float32)
    if uvw.ndim == 2:
        uvw = uvw[None]
    shape = uvw.shape[:2] + (freq.size,)
    if weight.size != np.prod(shape):
        raise ImagingError(f"weights {weight.shape} do not fit uvw {uvw.shape} and {freq.size} "
                           "channels")
    return uvw, freq, weight.reshape(shape)


def uv_mask(uvw, lo: float, hi: float) -> np.ndarray:
    """True where lo <= sqrt(u² + v²) <= hi; uvw (..., 3), lo and hi in metres."""
    uv = np.hypot(uvw[..., 0], uvw[..., 1])
    return (uv >= lo) & (uv <= hi)


def gaussian_taper(uvw, freq, fwhm: float) -> np.ndarray:
    """Factor (..., chan) float32 on the weights that convolves the image with a Gaussian.

    uvw (..., 3) m, freq (chan,) Hz, fwhm in rad: exp(-pi² fwhm² (u² + v²) / (4 ln 2)).
    """
    wave = np.asarray(freq, np.float64) / SPEED_OF_LIGHT
    uv2 = (uvw[..., 0] ** 2 + uvw[..., 1] ** 2)[..., None] * wave**2
    return np.exp(-(math.pi**2) * fwhm**2 / (4.0 * math.log(2.0)) * uv2).astype(np.float32)
