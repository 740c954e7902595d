"""The way from the planes of a facet's grid to its image and back: what `facetgrid` does once for
all samples.

Every plane is transformed by itself, in buffers that a thread keeps, and enters the image with its
Bessel function of the distance from the tangent plane.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from ducc0.fft import c2c, c2r, r2c
from numba import njit

from ddfpipe.imaging.gridkernels import TAPS
from ddfpipe.imaging.phasor import FASTMATH
from ddfpipe.imaging.workspace import workspace


TRANSFORM_BYTES = 18
"""Bytes of a facet's pixel in the buffers of a thread's transforms, about."""


def kernel(z: np.ndarray, taps: int, sigma: float) -> np.ndarray:
    """Exponential of semicircle at -1 <= z <= 1, zero beyond."""
    beta = np.pi * taps * (1.0 - 0.5 / sigma) * 0.98
    inside = np.maximum(1.0 - z * z, 0.0)
    return np.where(np.abs(z) <= 1.0, np.exp(beta * (np.sqrt(inside) - 1.0)), 0.0)


@lru_cache(64)
def _correction(n: int, n_grid: int, sigma: float) -> np.ndarray:
    """(n,) float32: one over the kernel's Fourier transform at the pixels of an axis."""
    x, weight = np.polynomial.legendre.leggauss(80)
    values = weight * kernel(x, TAPS, sigma) * (TAPS / 2.0)
    nu = (np.arange(n) - n // 2) / n_grid
    return (1.0 / (np.cos(np.pi * TAPS * np.multiply.outer(nu, x)) @ values)).astype(np.float32)


@njit(cache=True, nogil=True, fastmath=FASTMATH)
def _depth(where, spacing, z):
    """Fill z (ny, nx) float32 with spacing q, q the distance of a pixel from the tangent plane.

    where: y0 - npix // 2, x0 - npix // 2, cell, a, b, l0, m0, n1; spacing: 2 pi w_max.
    """
    first_y, first_x, cell, a, b, l0, m0, n1 = where
    for y in range(z.shape[0]):
        m = (y + first_y) * cell
        for x in range(z.shape[1]):
            l = -(x + first_x) * cell  # noqa: E741
            r2 = l * l + m * m
            q = -r2 / (np.sqrt(1.0 - r2) + 1.0) - n1 - a * (l - l0) - b * (m - m0)
            z[y, x] = spacing * q


@njit(cache=True, nogil=True, fastmath=FASTMATH)
def _through(forward, z, image, series, odd, plane):
    """Fill plane (ny, n) from image (ny, nx) times a plane's Bessel function of z (forward), or
    add what the plane holds, times that function, to the image.

    series: (terms,) of the function, see `facetgrid.FacetGrid.series`.  Columns of the plane begin
    with the facet's middle.
    """
    ny, nx = image.shape
    half, n = nx // 2, plane.shape[1]
    square, value = np.empty(nx, series.dtype), np.empty(nx, series.dtype)
    for y in range(ny):
        for x in range(nx):
            square[x] = z[y, x] * z[y, x]
            value[x] = series[0]
        for i in range(1, series.size):
            c = series[i]
            for x in range(nx):
                value[x] = value[x] * square[x] + c
        if odd:
            for x in range(nx):
                value[x] *= z[y, x]
        if forward:
            for x in range(half):
                plane[y, n - half + x] = image[y, x] * value[x]
            for x in range(half, nx):
                plane[y, x - half] = image[y, x] * value[x]
        else:
            for x in range(half):
                image[y, x] += plane[y, n - half + x] * value[x]
            for x in range(half, nx):
                image[y, x] += plane[y, x - half] * value[x]


@njit(cache=True, nogil=True, fastmath=FASTMATH)
def _fold(grid, odd, row0, n, out):
    """Make the Hermitian half-grid out (n, columns) complex64 of one plane, zero at first.

    grid (rows, line) complex64: column c stands for u = c - TAPS/2, row r for v = r - row0; odd:
    multiply by -i.  Columns of negative u go to the conjugate place.
    """
    half = TAPS // 2
    columns = out.shape[1]
    for r in range(grid.shape[0]):
        v = (r - row0 + n) % n
        mirror = (n - v) % n
        for c in range(half, min(grid.shape[1], columns + half)):
            g = np.complex64(0.5) * grid[r, c]
            out[v, c - half] += complex(g.imag, -g.real) if odd else g
        for c in range(half + 1):
            g = np.complex64(0.5) * grid[r, c]
            g = complex(g.imag, -g.real) if odd else g
            out[mirror, half - c] += complex(g.real, -g.imag)
        # beyond the Nyquist frequency: columns that stand for negative u on the other side
        for c in range(n // 2 + half, grid.shape[1]):
            u = c - half
            g = np.complex64(0.5) * grid[r, c]
            g = complex(g.imag, -g.real) if odd else g
            out[mirror, n - u] += complex(g.real, -g.imag)


@njit(cache=True, nogil=True, fastmath=FASTMATH)
def _unfold(half_grid, odd, row0, n, grid):
    """The transpose of `_fold`: fill a padded plane from the half-grid of a real image."""
    half = TAPS // 2
    for r in range(grid.shape[0]):
        v = (r - row0 + n) % n
        mirror = (n - v) % n
        for c in range(grid.shape[1]):
            u = c - half
            if 0 <= u <= n // 2:
                g = half_grid[v, u]
            elif u < 0:
                g = half_grid[mirror, -u]
                g = complex(g.real, -g.imag)
            else:
                g = half_grid[mirror, n - u]
                g = complex(g.real, -g.imag)
            grid[r, c] = complex(-g.imag, g.real) if odd else g


def _wrapped(size: int, n: int) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
    """Where the two halves of an axis of `size` pixels lie on one of n cells that begins with the
    middle pixel: pairs of slices."""
    below = size // 2
    return ((slice(0, below), slice(n - below, n)), (slice(below, size), slice(0, size - below)))


def grid_to_image(grid, n_threads: int) -> np.ndarray:
    """(ny, nx) float32 image of the planes of a FacetGrid."""
    n, f = grid.n_grid, grid.facet
    image = np.zeros((f.ny, f.nx), np.float32)
    columns = min(grid.line - TAPS // 2, n // 2 + 1)
    plane, wide, part, z = _buffers(grid, columns)
    wide[:, columns:] = 0
    for k in range(grid.n_planes):
        part.fill(0)
        _fold(grid.plane(k), bool(k % 2), grid.row0, n, part)
        c2c(part, axes=(0,), nthreads=n_threads, out=part)
        for here, there in _wrapped(f.ny, n):
            wide[here, :columns] = part[there]
        c2r(wide, axes=(1,), lastsize=n, nthreads=n_threads, out=plane)
        _through(False, z, image, grid.series(k), bool(k % 2), plane)
    for size, axis in ((f.ny, (slice(None), None)), (f.nx, (None, slice(None)))):
        image *= _correction(size, n, grid.sigma)[axis]
    return image


def image_to_grid(grid, image: np.ndarray, n_threads: int) -> None:
    """Fill the planes of a FacetGrid with the transforms of image (ny, nx)."""
    n, f = grid.n_grid, grid.facet
    columns = min(grid.line - TAPS // 2, n // 2 + 1)
    plane, wide, part, z = _buffers(grid, columns)
    image = image * _correction(f.ny, n, grid.sigma)[:, None] * _correction(f.nx, n, grid.sigma)
    image = image.astype(np.float32, copy=False)
    plane[:, f.nx - f.nx // 2:n - f.nx // 2] = 0
    for k in range(grid.n_planes):
        _through(True, z, image, grid.series(k), bool(k % 2), plane)
        r2c(plane, axes=(1,), forward=False, nthreads=n_threads, out=wide)
        part.fill(0)
        for here, there in _wrapped(f.ny, n):
            part[there] = wide[here, :columns]
        c2c(part, axes=(0,), forward=False, nthreads=n_threads, out=part)
        _unfold(part, bool(k % 2), grid.row0, n, grid.plane(k))


def transform_bytes(facet) -> int:
    """Memory of the buffers of a facet's transforms."""
    return TRANSFORM_BYTES * facet.ny * facet.nx


def _buffers(grid, columns: int) -> tuple[np.ndarray, ...]:
    """(plane, its transform along x, the columns of that which matter, z of `_depth`)."""
    n, f = grid.n_grid, grid.facet
    z = workspace("z", (f.ny, f.nx), np.float32)
    _depth(*grid.curvature(), z)
    return (workspace("plane", (f.ny, n), np.float32),
            workspace("wide", (f.ny, n // 2 + 1), np.complex64),
            workspace("part", (n, columns), np.complex64), z)
