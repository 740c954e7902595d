"""Facets: the pieces of the image that share one set of direction-dependent gains.

All facets are boxes of pixels of the one common tangent plane, so no re-projection is ever
needed; the pixels of a box that the facet owns are a run of columns in each row, because Voronoi
cells and squares are convex.  Runs are kept instead of masks: a 20,000 x 20,000 image costs
160 kB a facet column instead of gigabytes.

Facets from Voronoi cells of the calibration directions: van Weeren et al. 2016, ApJS 223, 2;
Tasse et al. 2018, A&A 611, A87.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit

from ddfpipe.errors import ImagingError
from ddfpipe.imaging.sky import lm_to_pixel, pixel_to_lm

MIN_BOX = 32
"""Smallest side of a box in pixels (a limit of the gridder)."""


@dataclass(frozen=True, eq=False)
class Facet:
    """A box of pixels and the part of it that belongs to one calibration direction.

    index: number of the facet; dir_index: number of its calibration direction.
    y0, x0: image pixel of the box's pixel (0, 0); may be negative, the box may reach beyond the
        image.  ny, nx: size of the box, even and at least MIN_BOX.
    npix: size of the (square) image.
    l0, m0: direction cosines of box pixel (ny/2, nx/2), rad.
    l_dir, m_dir: direction cosines of the calibration direction, rad.
    start, stop: (ny,) int32; the facet owns box columns start <= x < stop of each row.
    """

    index: int
    dir_index: int
    y0: int
    x0: int
    ny: int
    nx: int
    npix: int
    l0: float
    m0: float
    l_dir: float
    m_dir: float
    start: np.ndarray
    stop: np.ndarray

    @property
    def mask(self) -> np.ndarray:
        """(ny, nx) bool: pixels of the box that belong to the facet (made anew at each call)."""
        x = np.arange(self.nx, dtype=np.int32)
        return (x >= self.start[:, None]) & (x < self.stop[:, None])

    @property
    def n_pixels(self) -> int:
        """Number of pixels that the facet owns."""
        return int(np.maximum(self.stop - self.start, 0).sum())

    @property
    def slices(self) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
        """((y, x) of the image, (y, x) of the box): the part of the box inside the image."""
        ya, yb = max(self.y0, 0), min(self.y0 + self.ny, self.npix)
        xa, xb = max(self.x0, 0), min(self.x0 + self.nx, self.npix)
        image = (slice(ya, yb), slice(xa, xb))
        return image, (slice(ya - self.y0, yb - self.y0), slice(xa - self.x0, xb - self.x0))

    def cut(self, image: np.ndarray, owned: bool = False) -> np.ndarray:
        """Copy the box (..., ny, nx) out of image (..., npix, npix), zero beyond its edge.

        owned: also zero the pixels that belong to other facets.
        """
        box = np.zeros(image.shape[:-2] + (self.ny, self.nx), image.dtype)
        inside, part = self.slices
        box[(..., *part)] = image[(..., *inside)]
        if owned:
            box *= self.mask
        return box

    def paste(self, box: np.ndarray, image: np.ndarray) -> None:
        """Write the owned pixels of box (..., ny, nx) into image (..., npix, npix)."""
        for y in np.flatnonzero(self.stop > self.start):
            a, b = int(self.start[y]), int(self.stop[y])
            image[..., self.y0 + y, self.x0 + a : self.x0 + b] = box[..., y, a:b]

    def radius(self, cell: float) -> float:
        """Largest distance in rad of an owned pixel's far corner from (l0, m0)."""
        y = np.flatnonzero(self.stop > self.start)
        dx = np.maximum(np.abs(self.start[y] - self.nx / 2), np.abs(self.stop[y] - self.nx / 2))
        return float(cell * np.hypot(np.abs(y - self.ny / 2) + 0.5, dx + 0.5).max())


@dataclass(frozen=True, eq=False)
class FacetSet:
    """Facets that own every pixel of an npix x npix image exactly once.

    cell: rad a pixel.  facets: in order of their index.
    polygons: for each direction the (n, 2) vertices (l, m) in rad of its cell clipped to the
        image, in order round the cell; (0, 2) where a direction owns nothing.
    """

    npix: int
    cell: float
    facets: tuple[Facet, ...]
    polygons: tuple[np.ndarray, ...]

    def facet_map(self) -> np.ndarray:
        """(npix, npix) int16: index of the facet that owns each pixel."""
        if len(self.facets) > np.iinfo(np.int16).max:
            raise ImagingError(f"{len(self.facets)} facets are too many for a facet map; "
                               "make the facets larger")
        out = np.full((self.npix, self.npix), -1, np.int16)
        for facet in self.facets:
            for y in np.flatnonzero(facet.stop > facet.start):
                row = out[facet.y0 + y]
                row[facet.x0 + facet.start[y] : facet.x0 + facet.stop[y]] = facet.index
        return out


@njit(cache=True, nogil=True)
def _voronoi_runs(npix, y, x, start, stop):
    """Fill start, stop (n_dir, npix) with the run of columns that each direction owns in each row.

    Along a row the owner changes only to directions of larger x, so one walk from left to right
    hands every pixel to exactly one direction, whatever the rounding.
    """
    n = y.size
    for row in range(npix):
        owner = 0
        best = np.inf
        for i in range(n):
            d = x[i] * x[i] + (row - y[i]) ** 2
            if d < best or (d == best and x[i] > x[owner]):
                best = d
                owner = i
        at = 0
        while at < npix:
            change = float(npix)
            heir = -1
            for j in range(n):
                if x[j] > x[owner]:
                    edge = (x[j] ** 2 - x[owner] ** 2 + (row - y[j]) ** 2 - (row - y[owner]) ** 2)
                    edge /= 2.0 * (x[j] - x[owner])
                    if edge < change or (edge == change and heir >= 0 and x[j] > x[heir]):
                        change = edge
                        heir = j
            until = npix if heir < 0 else min(npix, max(at, int(np.ceil(change))))
            start[owner, row] = at
            stop[owner, row] = until
            at = until
            if heir < 0:
                break
            owner = heir


def _clip(polygon: np.ndarray, normal: np.ndarray, offset: float) -> np.ndarray:
    """Part of a convex polygon (n, 2) where normal . p <= offset (Sutherland & Hodgman 1974)."""
    side = polygon @ normal - offset
    out = []
    for k in range(len(polygon)):
        a, b, sa, sb = polygon[k - 1], polygon[k], side[k - 1], side[k]
        if (sa <= 0) != (sb <= 0):
            out.append(a + (b - a) * (sa / (sa - sb)))
        if sb <= 0:
            out.append(b)
    return np.array(out).reshape(-1, 2)


def _polygon(i: int, l: np.ndarray, m: np.ndarray, npix: int, cell: float) -> np.ndarray:
    """Vertices (n, 2) of the Voronoi cell of direction i, clipped to the image's outer edge."""
    lo, hi = -0.5, npix - 0.5
    pl, pm = pixel_to_lm(np.array([lo, lo, hi, hi]), np.array([lo, hi, hi, lo]), npix, cell)
    cell_i = np.stack([pl, pm], axis=1)
    for j in range(len(l)):
        if len(cell_i) and (l[j] != l[i] or m[j] != m[i]):
            normal = 2.0 * np.array([l[j] - l[i], m[j] - m[i]])
            cell_i = _clip(cell_i, normal, l[j] ** 2 - l[i] ** 2 + m[j] ** 2 - m[i] ** 2)
    return cell_i


def _even_box(lo: int, hi: int) -> tuple[int, int]:
    """(first pixel, size) of an even box of at least MIN_BOX that holds lo <= pixel < hi."""
    size = max(MIN_BOX, hi - lo + (hi - lo) % 2)
    return lo - (size - (hi - lo)) // 2, size


def _make_facet(index, dir_index, npix, cell, l_dir, m_dir, y_lo, start, stop) -> Facet:
    """Facet from the runs (image columns) of consecutive rows that begin at image row y_lo."""
    owned = np.flatnonzero(stop > start)
    x_lo, x_hi = int(start[owned].min()), int(stop[owned].max())
    y_lo = int(y_lo)
    y0, ny = _even_box(y_lo + int(owned[0]), y_lo + int(owned[-1]) + 1)
    x0, nx = _even_box(x_lo, x_hi)
    a, b = np.zeros(ny, np.int32), np.zeros(ny, np.int32)
    rows = owned + y_lo - y0
    a[rows], b[rows] = start[owned] - x0, stop[owned] - x0
    l0, m0 = pixel_to_lm(y0 + ny // 2, x0 + nx // 2, npix, cell)
    return Facet(index, dir_index, y0, x0, ny, nx, npix, float(l0), float(m0), float(l_dir),
                 float(m_dir), a, b)


def _tiles(start, stop, max_pixels):
    """Split one cell's runs (npix,) into equal tiles; yields (first row, start, stop) of each."""
    rows = np.flatnonzero(stop > start)
    y_lo, y_hi = int(rows[0]), int(rows[-1]) + 1
    x_lo, x_hi = int(start[rows].min()), int(stop[rows].max())
    y_edges = np.linspace(y_lo, y_hi, -(-(y_hi - y_lo) // max_pixels) + 1).astype(int)
    x_edges = np.linspace(x_lo, x_hi, -(-(x_hi - x_lo) // max_pixels) + 1).astype(int)
    for ya, yb in zip(y_edges[:-1], y_edges[1:]):
        for xa, xb in zip(x_edges[:-1], x_edges[1:]):
            a, b = np.maximum(start[ya:yb], xa), np.minimum(stop[ya:yb], xb)
            if (b > a).any():
                yield ya, a, b


def _check(npix: int, cell: float, max_size_rad: float) -> int:
    """Largest side of a facet in pixels; raises ImagingError on senseless sizes."""
    if npix < 1 or not cell > 0 or not max_size_rad > 0:
        raise ImagingError(f"facets need a positive image size ({npix} pixels), cell ({cell} rad) "
                           f"and largest facet size ({max_size_rad} rad)")
    if npix * cell > np.sqrt(2.0):
        raise ImagingError(f"{npix} pixels of {cell:.3g} rad reach beyond the hemisphere; "
                           "reduce the image size or the cell")
    return max(1, int(max_size_rad / cell))


def voronoi_facets(*, npix: int, cell: float, l, m, max_size_rad: float) -> FacetSet:
    """Voronoi cells of the directions on the tangent plane, clipped to the image.

    npix, cell: image size and cell in rad; l, m: (n_dir,) direction cosines in rad, inside the
    image or not.  A cell wider or higher than max_size_rad becomes several facets of the same
    dir_index.  A pixel at equal distance from two directions goes to the one further west.
    Raises ImagingError when there is no direction, two coincide, or one is not finite.
    """
    l, m = np.atleast_1d(np.asarray(l, np.float64)), np.atleast_1d(np.asarray(m, np.float64))
    max_pixels = _check(npix, cell, max_size_rad)
    if l.shape != m.shape or l.ndim != 1 or l.size == 0 or not np.isfinite(l + m).all():
        raise ImagingError("facets need at least one direction with finite l and m; check the "
                           "cluster catalogue")
    if len(np.unique(np.stack([l, m], 1), axis=0)) != l.size:
        raise ImagingError("two calibration directions coincide; check the cluster catalogue")
    y, x = lm_to_pixel(l, m, npix, cell)
    start = np.zeros((l.size, npix), np.int32)
    stop = np.zeros((l.size, npix), np.int32)
    _voronoi_runs(npix, y, x, start, stop)
    facets: list[Facet] = []
    for i in range(l.size):
        if (stop[i] > start[i]).any():
            for y_lo, a, b in _tiles(start[i], stop[i], max_pixels):
                facets.append(_make_facet(len(facets), i, npix, cell, l[i], m[i], y_lo, a, b))
    polygons = tuple(_polygon(i, l, m, npix, cell) for i in range(l.size))
    return FacetSet(npix, cell, tuple(facets), polygons)


def regular_facets(*, npix: int, cell: float, max_size_rad: float) -> FacetSet:
    """A grid of equal squares no wider than max_size_rad, each its own direction (its centre)."""
    max_pixels = _check(npix, cell, max_size_rad)
    runs = np.zeros(npix, np.int32), np.full(npix, npix, np.int32)
    facets: list[Facet] = []
    polygons = []
    for y_lo, a, b in _tiles(*runs, max_pixels):
        ys, xs = (y_lo - 0.5, y_lo + len(a) - 0.5), (a[0] - 0.5, b[0] - 0.5)
        l_dir, m_dir = pixel_to_lm(np.mean(ys), np.mean(xs), npix, cell)
        k = len(facets)
        facets.append(_make_facet(k, k, npix, cell, l_dir, m_dir, y_lo, a, b))
        corners = pixel_to_lm(np.array([ys[0], ys[0], ys[1], ys[1]]),
                              np.array([xs[0], xs[1], xs[1], xs[0]]), npix, cell)
        polygons.append(np.stack(corners, axis=1))
    return FacetSet(npix, cell, tuple(facets), tuple(polygons))
