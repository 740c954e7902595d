"""A facet's uv grid that stays open while chunks of samples stream through.

Gridding with the exponential-of-semicircle kernel (Barnett, Magland & af Klinteberg 2019, SIAM J.
Sci. Comput. 41, C479) in u and v.  Seen from a facet's centre and with the linear part of n - 1
folded into (u, v), what is left of the w term is small.  Phase of a sample (u, v, w) at offset
(dl, dm) from the centre (l0, m0), with a = -l0/n0, b = -m0/n0 and n - n0 = a dl + b dm + q:

    u l + v m + w (n - 1) = [u l0 + v m0 + w (n0 - 1)] + (u + a w) dl + (v + b w) dm + w q.

The last term separates (Jacobi and Anger; Abramowitz & Stegun 1972, 9.1.44): with T = w/w_max,

    exp(-2 pi i w q) = sum_k c_k (-i)^k J_k(2 pi w_max q) T_k(T),    c_0 = 1, else 2,

T_k a Chebyshev polynomial, so that a few planes, one for each k, hold all w.  J_k is real, so the
image needs the real part of each plane's transform only: half a grid, half a Fourier transform.

Samples that follow one another along a track fall on the same cells many times.  They are gathered
in registers, to first order in w about their middle, and reach the grid together; a run ends where
the cell changes or the second order would be felt.

Single precision throughout, but for positions and phases; `gridding` is its reference.
"""

from __future__ import annotations

from functools import lru_cache
from math import factorial

import numpy as np
from ducc0.fft import good_size

from ddfpipe.errors import ImagingError
from ddfpipe.imaging.facets import Facet
from ddfpipe.imaging.gridimage import grid_to_image, image_to_grid, kernel
from ddfpipe.imaging.gridkernels import TAPS, grid_samples
from ddfpipe.imaging.lanes import LANES
from ddfpipe.imaging.sky import n_minus_one

OVERSAMPLING = ((2e-5, 1.25), (0.0, 1.5))
"""(accuracy from which it is used, size of the grid over the image): errors of 1.3e-5 and 5e-7."""
ACCURACY = 4e-6
"""Smallest error of the treatment of w that is worth asking for: that of the rest."""
SINGLE = 3.0
"""Largest phase of w, rad, up to which series of Bessel functions keep an error below 2e-6 in
single precision."""
_DEGREE = 11
"""Degree of the polynomials that stand for the kernel: good to 1e-6 of its peak."""


@lru_cache(4)
def tap_polynomials(sigma: float) -> np.ndarray:
    """(16 (degree + 1),) float32: a vector for each power, highest first; eight taps, twice.

    The variable is s = 2 t - 1, where t in [0, 1) is how far the first tap lies inside the support.
    """
    s = np.cos(np.pi * (np.arange(200) + 0.5) / 200)
    z = 2.0 * ((s[:, None] + 1.0) / 2.0 - TAPS / 2.0 + np.arange(TAPS)) / TAPS
    values = kernel(z, TAPS, sigma)
    coefficients = np.polynomial.chebyshev.chebfit(s, values, _DEGREE)
    power = np.stack([np.polynomial.chebyshev.cheb2poly(c) for c in coefficients.T], axis=1)
    return np.ascontiguousarray(np.tile(power[::-1], 2), np.float32).ravel()


def bessel_j(n: int, z: float) -> np.ndarray:
    """(n,) float64 J_0(z) ... J_(n - 1)(z), z > 0, to an absolute error of 1e-15 or so.

    By recurrence from far above down, where J falls off fastest (Miller's algorithm; Abramowitz &
    Stegun 1972, 9.12), normalised by J_0 + 2 J_2 + 2 J_4 + ... = 1.
    """
    top = 2 * (max(n, int(z)) // 2) + 60
    out = np.zeros(top + 2)
    out[top] = 1e-290
    for k in range(top, 0, -1):
        out[k - 1] = 2.0 * k / z * out[k] - out[k + 1]
        if abs(out[k - 1]) > 1e250:
            out *= 1e-250
    return out[:n] / (2.0 * out[0:top + 1:2].sum() - out[0])


def _n_planes(h: float, accuracy: float) -> int:
    """Planes that hold exp(-i z T) for |z| <= h and |T| <= 1."""
    tail = 2.0 * np.cumsum(np.abs(bessel_j(28 + int(2 * h), h))[::-1])[::-1]
    return max(1, int(np.argmax(tail < accuracy)))


def _bessel(n_planes: int, h: float) -> np.ndarray:
    """(n_planes, terms) float64: c_k J_k(z) / z^(k odd), |z| <= h, as power series in z².

    Highest power first.  The sign that (-i)^k gives beyond -i for odd k is included.
    """
    terms = n_planes // 2 + 5 + int(2 * h)
    out = np.zeros((n_planes, terms))
    for k in range(n_planes):
        value = (1.0 if k == 0 else 2.0) * (-1.0) ** (k // 2) / (factorial(k) * 2.0**k)
        for m in range(terms - k // 2):
            out[k, terms - 1 - m - k // 2] = value
            value *= -0.25 / ((m + 1.0) * (m + 1.0 + k))
    return out


class FacetGrid:
    """The open uv grid of one facet.

    facet, cell: the facet and its cell in rad.
    w_max: largest |w| in wavelengths among the samples to come; larger ones raise ImagingError.
    uv_max: largest |u| and |v| in wavelengths; keeps the grid small.  None, or more than the cell
        can hold: the whole grid.
    accuracy: largest error, relative to a sample, that the treatment of w makes anywhere in the
        facet, ACCURACY at least.  From 2e-5 on gridding in u and v errs by as much.

    Imaging: `add` every chunk's samples, then `image`.  Prediction: `load` a model, then `predict`
    every chunk's samples; the two are adjoint.  An object holds one or the other at a time.

    parameters: (10,) float64.  a, b; cells a wavelength in u and v; 1/w_max; l0, m0 and n - 1 of
        the phase centre of the grid; spread of w/w_max in a run (its mean square
        error at the facet's corner is `accuracy`); radius of the facet in rad.
    shape: (5,) int64.  n_grid; row of v = 0; floats in a row, in a plane; planes.
    """

    def __init__(self, facet: Facet, cell: float, w_max: float, uv_max: float | None = None,
                 accuracy: float = ACCURACY):
        self.facet, self.cell, self.w_max = facet, cell, max(float(w_max), 1.0)
        accuracy = max(accuracy, ACCURACY)
        self.sigma = next(sigma for least, sigma in OVERSAMPLING if accuracy >= least)
        n_grid = int(np.ceil(max(facet.ny, facet.nx) * self.sigma / 2)) * 2
        while good_size(n_grid) != n_grid or n_grid % 2:
            n_grid = good_size(n_grid + 1)
        self.n_grid = n_grid
        n1 = float(n_minus_one(facet.l0, facet.m0))
        a, b = -facet.l0 / (1 + n1), -facet.m0 / (1 + n1)
        low, high = self._curvature(n1, a, b)
        n1 += 0.5 * (low + high)
        h = max(2.0 * np.pi * self.w_max * 0.5 * (high - low) * (1.0 + 1e-6), 1e-3)
        self.n_planes = _n_planes(h, accuracy)
        self._h, self._bessel = h, _bessel(self.n_planes, h)
        step = cell * n_grid
        reach = n_grid // 2
        if uv_max is not None:
            uv_max = uv_max + np.hypot(a, b) * self.w_max
            reach = min(reach, int(np.ceil(uv_max * step)))
        self.rows, self.line = 2 * reach + TAPS + 1, reach + TAPS + 1
        self.row0 = reach + TAPS // 2
        self.parameters = np.array([
            a, b, -step, step, 1.0 / self.w_max, facet.l0, facet.m0, n1,
            2.0 * np.sqrt(6.0 * accuracy) / h, facet.radius(cell),
        ])
        self.shape = np.array([
            n_grid, self.row0, 2 * self.line, 2 * self.line * self.rows, self.n_planes,
        ])
        self._grid = None

    def _curvature(self, n1: float, a: float, b: float) -> tuple[float, float]:
        """Smallest and largest q of the facet's box (its extremes lie on the edge and inside)."""
        f = self.facet
        y = np.unique(np.r_[np.linspace(0, f.ny - 1, 9), f.ny // 2])
        x = np.unique(np.r_[np.linspace(0, f.nx - 1, 9), f.nx // 2])
        l, m = -(f.x0 + x - f.npix // 2) * self.cell, (f.y0 + y - f.npix // 2) * self.cell
        q = n_minus_one(l[None], m[:, None]) - n1 - a * (l - f.l0)[None] - b * (m - f.m0)[:, None]
        return float(q.min()), float(q.max())

    @property
    def size(self) -> int:
        """Floats of the grid, with room for the vectors at its end."""
        return int(self.shape[3]) * self.n_planes + 2 * LANES

    @property
    def buffer(self) -> np.ndarray | None:
        """(size,) float32, the planes of the grid; None as long as it is empty."""
        return self._grid

    def use(self, buffer: np.ndarray) -> None:
        """Take a float32 array of `size` for the grid: zeros to `add` to, anything to `load`."""
        self._grid = buffer

    def _checked(self, uvw) -> np.ndarray:
        uvw = np.ascontiguousarray(uvw, np.float64)
        if len(uvw) and np.abs(uvw[:, 2]).max() > self.w_max * (1 + 1e-9):
            raise ImagingError(f"facet {self.facet.index}: |w| of {np.abs(uvw[:, 2]).max():.0f} "
                               f"wavelengths exceeds the {self.w_max:.0f} planned for")
        reach = self.row0 - TAPS // 2
        if reach < self.n_grid // 2 and len(uvw):
            a, b, scale = self.parameters[0], self.parameters[1], self.parameters[3]
            most = max(np.abs(uvw[:, 0] + a * uvw[:, 2]).max(),
                       np.abs(uvw[:, 1] + b * uvw[:, 2]).max()) * scale
            if most > reach:
                raise ImagingError(f"facet {self.facet.index}: u and v of up to {most:.0f} cells "
                                   f"exceed the {reach} planned for")
        return uvw

    def add(self, uvw, vis, weight=None) -> None:
        """Grid samples: uvw (n, 3) wavelengths, vis (n,) complex64, weight (n,) float32 or one.

        Adds sum of w Re(V exp(-2 pi i (u l + v m + w (n - 1)))) to the coming image.  Samples of
        weight zero are skipped, whatever vis holds there.
        """
        uvw = self._checked(uvw)
        if self._grid is None:
            self.use(np.zeros(self.size, np.float32))
        vis = np.ascontiguousarray(vis, np.complex64)
        weight = np.ones(vis.size, np.float32) if weight is None else weight
        grid_samples(False, uvw, vis, np.ascontiguousarray(weight, np.float32), self.parameters,
                 self.shape, tap_polynomials(self.sigma), self._grid)

    def curvature(self) -> tuple:
        """Where the facet's pixels lie, and 2 pi w_max: what `gridimage._depth` takes."""
        f, (a, b), (l0, m0, n1) = self.facet, self.parameters[:2], self.parameters[5:8]
        middle = f.npix // 2
        where = (float(f.y0 - middle), float(f.x0 - middle), self.cell, a, b, l0, m0, n1)
        return where, 2 * np.pi * self.w_max

    def series(self, k: int) -> np.ndarray:
        """(terms,) series of a plane's Bessel function: float32 while its terms, up to exp(h),
        leave that enough digits, float64 beyond."""
        return self._bessel[k].astype(np.float32 if self._h <= SINGLE else np.float64)

    def plane(self, k: int) -> np.ndarray:
        """(rows, columns) complex64 view of a plane."""
        sheet = int(self.shape[3])
        return self._grid[k * sheet:(k + 1) * sheet].view(np.complex64).reshape(self.rows, -1)

    def image(self, n_threads: int = 1) -> np.ndarray:
        """(ny, nx) float32 image of all samples added so far, unnormalised."""
        if self._grid is None:
            return np.zeros((self.facet.ny, self.facet.nx), np.float32)
        return grid_to_image(self, n_threads)

    def load(self, image, n_threads: int = 1) -> None:
        """Prepare to predict the visibilities of image (ny, nx), flux a pixel; in the array given
        to `use`, or one of its own."""
        f = self.facet
        if np.shape(image) != (f.ny, f.nx):
            raise ImagingError(f"facet {f.index}: image {np.shape(image)} is not the facet's box "
                               f"{(f.ny, f.nx)}")
        if self._grid is None:
            self.use(np.empty(self.size, np.float32))
        image_to_grid(self, np.asarray(image, np.float32), n_threads)

    def predict(self, uvw) -> np.ndarray:
        """Visibilities (n,) complex64 of the loaded model at uvw (n, 3) in wavelengths."""
        if self._grid is None:
            raise ImagingError("prediction: load() a model first")
        uvw = self._checked(uvw)
        vis = np.empty(len(uvw), np.complex64)
        grid_samples(True, uvw, vis, np.empty(0, np.float32), self.parameters, self.shape,
                 tap_polynomials(self.sigma), self._grid)
        return vis


def open_grids(grids: list[FacetGrid], buffer: np.ndarray) -> np.ndarray:
    """Lay empty grids one behind the other into a float32 array; returns the array."""
    buffer.fill(0)
    at = 0
    for grid in grids:
        grid.use(buffer[at:at + grid.size])
        at += grid.size
    return buffer
