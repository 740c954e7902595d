"""A facet's uv grid that stays open while chunks of samples stream through.

The w-gridder of Arras et al. 2021 (A&A 646, A58), arranged for averaged samples of one facet:
turned to the facet's centre and with the linear part of n - 1 folded into (u, v), what is left of
the w term is so small that a handful of w planes holds it; all of them are kept, every chunk is
added, and the Fourier transforms are done once, at the end.  Kernel: exponential of semicircle
(Barnett, Magland & af Klinteberg 2019, SIAM J. Sci. Comput. 41, C479).

Phase of a sample (u, v, w) at offset (dl, dm) from the centre (l0, m0), with a = -l0/n0,
b = -m0/n0 and n - n0 = a dl + b dm + q:

    u l + v m + w (n - 1) = [u l0 + v m0 + w (n0 - 1)] + (u + a w) dl + (v + b w) dm + w q.

Single precision throughout, but for positions and phases; `gridding` is its reference.
"""

from __future__ import annotations

import numpy as np
from ducc0.fft import c2c, good_size
from numba import njit

from ddfpipe.errors import ImagingError
from ddfpipe.imaging.facets import Facet
from ddfpipe.imaging.phasor import FASTMATH, reduce_turns, sincos_turns
from ddfpipe.imaging.sky import n_minus_one, pixel_to_lm

TAPS = 8
"""Support of the kernel in u and v: with real and imaginary parts one 512-bit vector."""
W_TAPS = 6
"""Support of the kernel in w."""
OVERSAMPLING = 1.5
W_OVERSAMPLING = 2.0
_DEGREE = 11
"""Degree of the polynomials that stand for the kernel: good to 1e-6 of its peak."""
_BLOCK = 256
"""Samples whose positions and taps are worked out together."""


def _kernel(z: np.ndarray, taps: int, sigma: float) -> np.ndarray:
    """Exponential of semicircle at -1 <= z <= 1, zero beyond."""
    beta = np.pi * taps * (1.0 - 0.5 / sigma) * 0.98
    inside = np.maximum(1.0 - z * z, 0.0)
    return np.where(np.abs(z) <= 1.0, np.exp(beta * (np.sqrt(inside) - 1.0)), 0.0)


def _kernel_transform(nu: np.ndarray, taps: int, sigma: float) -> np.ndarray:
    """Fourier transform of the kernel at nu cycles a cell (Gauss-Legendre quadrature)."""
    x, weight = np.polynomial.legendre.leggauss(80)
    values = weight * _kernel(x, taps, sigma) * (taps / 2.0)
    return np.cos(np.pi * taps * np.multiply.outer(nu, x)) @ values


def _tap_polynomials(taps: int, sigma: float) -> np.ndarray:
    """(degree + 1, taps) float32: each tap's kernel value as a polynomial, highest power first.

    The variable is s = 2 t - 1, where t in [0, 1) is how far the first tap lies inside the support.
    """
    s = np.cos(np.pi * (np.arange(200) + 0.5) / 200)
    z = 2.0 * ((s[:, None] + 1.0) / 2.0 - taps / 2.0 + np.arange(taps)) / taps
    coefficients = np.polynomial.chebyshev.chebfit(s, _kernel(z, taps, sigma), _DEGREE)
    power = np.stack([np.polynomial.chebyshev.cheb2poly(c) for c in coefficients.T], axis=1)
    return np.ascontiguousarray(power[::-1], np.float32)


@njit(cache=True, nogil=True, fastmath=FASTMATH)
def _taps(s, p, out):
    """Kernel values out (tap, sample) at positions s (sample,) in [-1, 1)."""
    for k in range(out.shape[0]):
        c0, c1, c2, c3, c4, c5 = p[0, k], p[1, k], p[2, k], p[3, k], p[4, k], p[5, k]
        c6, c7, c8, c9, c10, c11 = p[6, k], p[7, k], p[8, k], p[9, k], p[10, k], p[11, k]
        row = out[k]
        for i in range(s.size):
            x = s[i]
            y = ((((((((((c0 * x + c1) * x + c2) * x + c3) * x + c4) * x + c5) * x + c6) * x
                    + c7) * x + c8) * x + c9) * x + c10) * x + c11
            row[i] = y


@njit(cache=True, nogil=True, fastmath=FASTMATH)
def _place(uvw, geometry, shape, at, phasor, where):
    """First cell `at` (flat), phasor (cos, sin, fold) and kernel positions `where` of samples."""
    a, b, u_scale, v_scale, dw, l0, m0, n1 = geometry
    n_grid, side = shape
    TAPS / 2
    for i in range(uvw.shape[0]):
        u, v, w = uvw[i, 0], uvw[i, 1], uvw[i, 2]
        phasor[0, i] = reduce_turns(u * l0 + v * m0 + w * n1)
        fold = -1.0 if w < 0 else 1.0
        x = fold * (u + a * w) * u_scale
        y = fold * (v + b * w) * v_scale
        z = fold * w / dw
        x = (x - np.floor(x)) * n_grid
        y = (y - np.floor(y)) * n_grid
        # taps lie at column ... column + TAPS - 1 of a grid padded by TAPS
        column = np.ceil(x)
        row = np.ceil(y)
        plane = np.ceil(z)
        where[0, i] = 2.0 * (column - x) - 1.0
        where[1, i] = 2.0 * (row - y) - 1.0
        where[2, i] = 2.0 * (plane - z) - 1.0
        at[i] = np.uint64(2 * (column + side * (row + side * plane)))
        phasor[2, i] = fold
    for i in range(uvw.shape[0]):
        c, s = sincos_turns(phasor[0, i])
        phasor[0, i] = c
        phasor[1, i] = s


# In `_put` and `_get` the length of a row of taps comes as an argument: loops of a length known to
# the compiler are unrolled before they can be vectorised, and take three times as long.


@njit(cache=True, nogil=True, fastmath=FASTMATH)
def _put(grid, at, line, sheet, ku, kv, kw, i, x, y, values, length):
    """Add sample i, x + i y, to the flat grid; values (2 TAPS,) is work space."""
    for n in range(TAPS):
        values[2 * n] = x * ku[n, i]
        values[2 * n + 1] = y * ku[n, i]
    for k in range(W_TAPS):
        o = at
        for j in range(TAPS):
            f = kw[k, i] * kv[j, i]
            row = grid[o:o + np.uint64(2 * TAPS)]
            for n in range(length):
                row[n] += f * values[n]
            o += line
        at += sheet


@njit(cache=True, nogil=True, fastmath=FASTMATH)
def _get(grid, at, line, sheet, ku, kv, kw, i, values, length):
    """Sample i, (x, y), from the flat grid: the transpose of `_put`."""
    width = np.uint64(2 * TAPS)
    for n in range(length):
        values[n] = 0
    for k in range(W_TAPS):
        f = kw[k, i]
        for j in range(0, TAPS, 4):
            # four rows at once: values travel through memory a quarter as often
            f0, f1, f2, f3 = f * kv[j, i], f * kv[j + 1, i], f * kv[j + 2, i], f * kv[j + 3, i]
            o = at + np.uint64(j) * line
            r0 = grid[o:o + width]
            o += line
            r1 = grid[o:o + width]
            o += line
            r2 = grid[o:o + width]
            o += line
            r3 = grid[o:o + width]
            for n in range(length):
                values[n] += f0 * r0[n] + f1 * r1[n] + f2 * r2[n] + f3 * r3[n]
        at += sheet
    x = y = np.float32(0)
    for n in range(TAPS):
        x += ku[n, i] * values[2 * n]
        y += ku[n, i] * values[2 * n + 1]
    return x, y


@njit(cache=True, nogil=True, fastmath=FASTMATH)
def _run(forward, uvw, vis, weight, geometry, shape, poly, w_poly, grid, length):
    """Grid w V (forward False) or fill vis from the grid (True), in blocks of samples."""
    ku, kv = np.empty((TAPS, _BLOCK), np.float32), np.empty((TAPS, _BLOCK), np.float32)
    kw = np.empty((W_TAPS, _BLOCK), np.float32)
    at = np.empty(_BLOCK, np.uint64)
    phasor, where = np.empty((3, _BLOCK), np.float32), np.empty((3, _BLOCK), np.float32)
    values = np.empty(2 * TAPS, np.float32)
    line, sheet = np.uint64(2 * shape[1]), np.uint64(2 * shape[1] * shape[1])
    for first in range(0, vis.size, _BLOCK):
        n = min(_BLOCK, vis.size - first)
        _place(uvw[first:first + n], geometry, shape, at, phasor, where)
        _taps(where[0, :n], poly, ku)
        _taps(where[1, :n], poly, kv)
        _taps(where[2, :n], w_poly, kw)
        for i in range(n):
            c, s, fold = phasor[0, i], phasor[1, i], phasor[2, i]
            if forward:
                x, y = _get(grid, at[i], line, sheet, ku, kv, kw, i, values, length)
                y *= fold
                vis[first + i] = complex(x * c - y * s, x * s + y * c)
            else:
                v, w = vis[first + i], weight[first + i]
                if w != 0:
                    x, y = w * (v.real * c + v.imag * s), w * (v.imag * c - v.real * s) * fold
                    _put(grid, at[i], line, sheet, ku, kv, kw, i, x, y, values, length)


class FacetGrid:
    """The open uv grid of one facet.

    facet, cell: the facet and its cell in rad.
    w_max: largest |w| in wavelengths among the samples to come; larger ones raise ImagingError.

    Imaging: `add` every chunk's samples, then `image`.  Prediction: `load` a model, then `predict`
    every chunk's samples; the two are adjoint.  An object holds one or the other at a time.
    Memory: 8 bytes for each cell of n_planes grids, about 1.5 times as wide as the facet.
    """

    def __init__(self, facet: Facet, cell: float, w_max: float):
        self.facet, self.cell = facet, cell
        n_grid = int(np.ceil(max(facet.ny, facet.nx) * OVERSAMPLING / 2)) * 2
        while good_size(n_grid) != n_grid or n_grid % 2:
            n_grid = good_size(n_grid + 1)
        self.n_grid = n_grid
        y, x = np.arange(facet.ny)[:, None], np.arange(facet.nx)[None, :]
        l, m = pixel_to_lm(facet.y0 + y, facet.x0 + x, facet.npix, cell)
        n1_0 = float(n_minus_one(facet.l0, facet.m0))
        a, b = -facet.l0 / (1 + n1_0), -facet.m0 / (1 + n1_0)
        q = n_minus_one(l, m) - n1_0 - a * (l - facet.l0) - b * (m - facet.m0)
        middle = 0.5 * (q.min() + q.max())
        self._q = (q - middle).astype(np.float32)
        self.w_max = float(w_max)
        self._dw = 0.5 / (W_OVERSAMPLING * max(float(abs(self._q).max()), 1e-12))
        self.n_planes = int(np.ceil(self.w_max / self._dw)) + W_TAPS + 1
        self._geometry = (a, b, -cell, cell, self._dw, facet.l0, facet.m0, n1_0 + middle)
        self._poly = _tap_polynomials(TAPS, OVERSAMPLING)
        self._w_poly = _tap_polynomials(W_TAPS, W_OVERSAMPLING)
        self._grid = None

    @property
    def _padded(self) -> tuple[int, int, int]:
        side = self.n_grid + 2 * TAPS
        return self.n_planes, side, 2 * side

    def _samples(self, uvw) -> np.ndarray:
        uvw = np.ascontiguousarray(uvw, np.float64)
        if len(uvw) and np.abs(uvw[:, 2]).max() > self.w_max * (1 + 1e-9):
            raise ImagingError(f"facet {self.facet.index}: |w| of {np.abs(uvw[:, 2]).max():.0f} "
                               f"wavelengths exceeds the {self.w_max:.0f} planned for")
        return uvw

    def _arguments(self) -> tuple:
        shape = self.n_grid, self.n_grid + 2 * TAPS
        return self._geometry, shape, self._poly, self._w_poly, self._grid.reshape(-1), 2 * TAPS

    def add(self, uvw, vis, weight=None) -> None:
        """Grid samples: uvw (n, 3) wavelengths, vis (n,) complex64, weight (n,) float32 or one.

        Adds sum of w Re(V exp(-2 pi i (u l + v m + w (n - 1)))) to the coming image.  Samples of
        weight zero are skipped, whatever vis holds there.
        """
        if self._grid is None:
            self._grid = np.zeros(self._padded, np.float32)
        vis = np.ascontiguousarray(vis, np.complex64)
        weight = np.ones(vis.size, np.float32) if weight is None else weight
        _run(False, self._samples(uvw), vis, np.ascontiguousarray(weight, np.float32),
             *self._arguments())

    def _w_phases(self):
        """exp(-2 pi i w_p q), (ny, nx) complex64, of one plane after the other.

        One array is turned from plane to plane: use it before asking for the next.
        """
        step = np.exp(np.complex64(-2j * np.pi * self._dw) * self._q)
        phase = np.exp(np.complex64(2j * np.pi * self._dw * (W_TAPS / 2)) * self._q)
        for _ in range(self.n_planes):
            yield phase
            phase *= step

    def _correction(self) -> np.ndarray:
        """1 over the kernel's transform at every pixel, (ny, nx) float32."""
        y, x = (_kernel_transform((np.arange(n) - n // 2) / self.n_grid, TAPS, OVERSAMPLING)
                for n in (self.facet.ny, self.facet.nx))
        nodes = np.linspace(-0.5, 0.5, 513) / W_OVERSAMPLING
        values = _kernel_transform(nodes, W_TAPS, W_OVERSAMPLING)
        # the transform in w is smooth: a table spares a quadrature for every pixel
        z = np.interp((self._q * self._dw).ravel(), nodes, values).reshape(self._q.shape)
        return (1.0 / (y[:, None] * x[None, :] * z)).astype(np.float32)

    def _fold(self, plane: int) -> np.ndarray:
        """(n_grid, n_grid) complex64 grid of a plane, the padding added where it belongs."""
        n, half, rest = self.n_grid, TAPS // 2, TAPS + TAPS // 2
        full = self._grid[plane].view(np.complex64)
        # padded cell k stands for uv cell k - half
        rows = full[half:half + n].copy()
        rows[n - half:] += full[:half]
        rows[:rest] += full[n + half:]
        out = rows[:, half:half + n].copy()
        out[:, n - half:] += rows[:, :half]
        out[:, :rest] += rows[:, n + half:]
        return out

    def image(self, n_threads: int = 1) -> np.ndarray:
        """(ny, nx) float32 image of all samples added so far, unnormalised."""
        n, f = self.n_grid, self.facet
        total = np.zeros((f.ny, f.nx), np.float32)
        if self._grid is None:
            return total
        y, x = ((np.arange(k) - k // 2) % n for k in (f.ny, f.nx))
        for plane, phase in enumerate(self._w_phases()):
            part = self._fold(plane)
            part = c2c(part, axes=(1,), nthreads=n_threads, out=part)[:, x]
            part = c2c(part, axes=(0,), nthreads=n_threads, out=part)[y]
            total += part.real * phase.real - part.imag * phase.imag
        return total * self._correction()

    def load(self, image, n_threads: int = 1) -> None:
        """Prepare to predict the visibilities of image (ny, nx), flux a pixel."""
        n, f, half, rest = self.n_grid, self.facet, TAPS // 2, TAPS + TAPS // 2
        if np.shape(image) != (f.ny, f.nx):
            raise ImagingError(f"facet {f.index}: image {np.shape(image)} is not the facet's box "
                               f"{(f.ny, f.nx)}")
        self._grid = np.empty(self._padded, np.float32)
        model = np.asarray(image, np.float32) * self._correction()
        y, x = ((np.arange(k) - k // 2) % n for k in (f.ny, f.nx))
        for plane, phase in enumerate(self._w_phases()):
            # columns with flux first: the transform of the others is nought
            part = np.zeros((n, f.nx), np.complex64)
            part[y] = model * phase.conj()
            wide = np.zeros((n, n), np.complex64)
            wide[:, x] = c2c(part, axes=(0,), forward=False, nthreads=n_threads, out=part)
            wide = c2c(wide, axes=(1,), forward=False, nthreads=n_threads, out=wide)
            full = self._grid[plane].view(np.complex64)
            inner = full[half:half + n]
            inner[:, half:half + n] = wide
            inner[:, :half], inner[:, n + half:] = wide[:, n - half:], wide[:, :rest]
            full[:half], full[n + half:] = inner[n - half:], inner[:rest]

    def predict(self, uvw) -> np.ndarray:
        """Visibilities (n,) complex64 of the loaded model at uvw (n, 3) in wavelengths."""
        if self._grid is None:
            raise ImagingError("prediction: load() a model first")
        uvw = self._samples(uvw)
        vis = np.empty(len(uvw), np.complex64)
        _run(True, uvw, vis, np.empty(0, np.float32), *self._arguments())
        return vis
