"""Point sources between pixels: where a residual holds one, where it lies and how bright it is.

Pixels of positive flux cannot shift a source by part of a pixel without widening it, so what is
left of a source between pixels is a ring of some per cent of it (Cotton & Uson 2008, A&A 490, 455;
Yatawatta 2010, arXiv:1008.1892).  Where the image is that of a point, one free component takes the
place of the pixels.  Its place is the maximum of the band-limited image and its flux the value
there, the least-squares solution under the imaging weights.  Whether the source is a point is
decided by what that component would leave.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit

from ddfpipe.imaging.convolve import ordered_map
from ddfpipe.imaging.footprint import HALF, WIDTH, footprint, sample
from ddfpipe.imaging.minorcycle import fit_spectrum

NEWTON_STEPS = 20
STEP = 0.5
"""Most iterations, and longest step in pixels, of the search for a maximum."""

_BATCH = 64


@dataclass(frozen=True)
class Points:
    """Free point components.  y, x (n,) f8 fractional pixels; flux (band, n) f8 apparent Jy."""

    y: np.ndarray
    x: np.ndarray
    flux: np.ndarray

    @classmethod
    def none(cls, n_band: int) -> Points:
        """No components."""
        return cls(np.zeros(0), np.zeros(0), np.zeros((n_band, 0)))

    @property
    def size(self) -> int:
        """Number of components."""
        return self.y.size

    def pixels(self) -> tuple[np.ndarray, np.ndarray]:
        """Nearest pixels (rows, columns)."""
        return np.rint(self.y).astype(np.int64), np.rint(self.x).astype(np.int64)

    def select(self, keep: np.ndarray) -> Points:
        """Components where `keep` (n,) is true, or listed."""
        return Points(self.y[keep], self.x[keep], self.flux[:, keep])

    def joined(self, other: Points) -> Points:
        """These components and those of `other`."""
        return Points(np.append(self.y, other.y), np.append(self.x, other.x),
                      np.concatenate([self.flux, other.flux], axis=1))


@njit(cache=True, nogil=True)
def curvature(core):
    """Peak and second derivatives (yy, xx, yx) of a PSF (n, n) at its middle pixel."""
    h = 0.2
    w = np.empty((3, WIDTH))
    unused = np.empty(WIDTH)
    for k in range(3):
        footprint((k - 1) * h, w[k], unused)
    c = core.shape[0] // 2
    v = np.empty((3, 3))
    for a in range(3):
        for b in range(3):
            v[a, b] = sample(core, c, c, w[a], w[b])
    return (v[1, 1], (v[2, 1] + v[0, 1] - 2 * v[1, 1]) / h**2,
            (v[1, 2] + v[1, 0] - 2 * v[1, 1]) / h**2,
            (v[2, 2] - v[2, 0] - v[0, 2] + v[0, 0]) / (4 * h**2))


@njit(cache=True, nogil=True, forceinline=True)
def _add_source(box, core, y, x, flux, sign):
    """Add a source at (y, x), counted from the middle of box (band, k, k), seen with the PSF."""
    reach, middle = box.shape[1] // 2, core.shape[1] // 2
    cy, cx = round(y), round(x)
    if y == cy and x == cx:
        for b in range(box.shape[0]):
            f = sign * flux[b]
            for i in range(box.shape[1]):
                for j in range(box.shape[2]):
                    box[b, i, j] += f * core[b, middle + i - reach - cy, middle + j - reach - cx]
        return
    wy, wx, unused = np.empty(WIDTH), np.empty(WIDTH), np.empty(WIDTH)
    footprint(y - cy, wy, unused)
    footprint(x - cx, wx, unused)
    size = box.shape[1]
    rows = np.empty((size + 2 * HALF, size))
    for b in range(box.shape[0]):
        f = sign * flux[b]
        for i in range(size + 2 * HALF):
            for j in range(size):
                total = 0.0
                for k in range(WIDTH):
                    total += wx[k] * core[b, middle + i - HALF - reach - cy,
                                          middle + j - reach - cx + HALF - k]
                rows[i, j] = total
        for i in range(size):
            for j in range(size):
                total = 0.0
                for k in range(WIDTH):
                    total += wy[k] * rows[i + 2 * HALF - k, j]
                box[b, i, j] += f * total


@njit(cache=True, nogil=True, forceinline=True)
def _climb(box, y, x, drift, peak, bend, norm, weight, slope, n_terms, flux):
    """Newton's way to the maximum of the bands' common image; (found, y, x), fluxes in `flux`.

    peak (band,), bend (band, 3): see `curvature`.
    """
    n_band, reach = box.shape[0], box.shape[1] // 2
    wy, dy, wx, dx = np.empty(WIDTH), np.empty(WIDTH), np.empty(WIDTH), np.empty(WIDTH)
    value = np.empty(n_band)
    y0, x0 = y, x
    for step in range(NEWTON_STEPS):
        cy, cx = round(y), round(x)
        footprint(y - cy, wy, dy)
        footprint(x - cx, wx, dx)
        for b in range(n_band):
            value[b] = sample(box[b], reach + cy, reach + cx, wy, wx)
        fit_spectrum(value, peak, norm, weight, slope, n_terms, flux)
        mean = gy = gx = hyy = hxx = hyx = 0.0
        for b in range(n_band):
            flux[b] *= norm[b]
            mean += weight[b] * flux[b]
            f = weight[b] * flux[b]
            gy += f * sample(box[b], reach + cy, reach + cx, dy, wx)
            gx += f * sample(box[b], reach + cy, reach + cx, wy, dx)
            hyy -= f * flux[b] * bend[b, 0]
            hxx -= f * flux[b] * bend[b, 1]
            hyx -= f * flux[b] * bend[b, 2]
        det = hyy * hxx - hyx * hyx
        if not (mean > 0.0 and det > 0.0):
            return False, y, x
        sy, sx = (hxx * gy - hyx * gx) / det, (hyy * gx - hyx * gy) / det
        length = np.sqrt(sy * sy + sx * sx)
        if length < 1e-5:
            return True, y, x
        if length > STEP:
            sy, sx = sy * STEP / length, sx * STEP / length
        y, x = y + sy, x + sx
        if (y - y0) ** 2 + (x - x0) ** 2 > drift * drift:
            return False, y, x
    return length < 1e-3, y, x


@njit(cache=True, nogil=True, forceinline=True)
def _left(box, y, x, lobe, weight):
    """Largest absolute value of the band mean near (y, x), and its mean in the outer half."""
    reach = box.shape[1] // 2
    worst = ring = 0.0
    count = 0
    for i in range(box.shape[1]):
        for j in range(box.shape[2]):
            distance = (i - reach - y) ** 2 + (j - reach - x) ** 2
            if distance > lobe * lobe:
                continue
            value = 0.0
            for b in range(box.shape[0]):
                value += weight[b] * box[b, i, j]
            worst = max(worst, abs(value))
            if distance > 0.16 * lobe * lobe:
                ring += value
                count += 1
    return worst, ring / max(count, 1)


@njit(cache=True, nogil=True, forceinline=True)
def _cut(image, row, col, box):
    """Copy the surroundings of a pixel of image (band, ny, nx) to box, zeros beyond the border.

    False where the border is too near for a footprint, or a pixel is not finite.
    """
    reach = box.shape[1] // 2
    edge = min(min(row, col), min(image.shape[1] - 1 - row, image.shape[2] - 1 - col))
    if edge <= HALF:
        return False
    finite = True
    for b in range(box.shape[0]):
        for i in range(box.shape[1]):
            for j in range(box.shape[2]):
                y, x = row + i - reach, col + j - reach
                box[b, i, j] = 0.0
                if 0 <= y < image.shape[1] and 0 <= x < image.shape[2]:
                    box[b, i, j] = image[b, y, x]
                    finite = finite and np.isfinite(box[b, i, j])
    return finite


@njit(cache=True, nogil=True)
def _fit(residual, model, start, core, number, row, col, old_y, old_x, old_flux, norm, peak, bend,
         lobe, weight, slope, n_terms, out):
    """Fit candidates; rows of out (n, 6 + band): found, y, x, worst, ring, before, fluxes.

    row, col (n,) nearest pixels; number (n,) index of core, peak and bend; old_* (n,), (n, band):
    a component that is already there, of zero flux if there is none; start: (band, ny, nx) or
    (band, 0, 0).  Pixels of model and start within `lobe` are put back before the fit.
    """
    n_band = residual.shape[0]
    reach = int(np.ceil(1.5 * lobe)) + HALF + 1
    box = np.empty((n_band, 2 * reach + 1, 2 * reach + 1))
    flux = np.empty(n_band)
    radius = int(lobe)
    for s in range(row.size):
        out[s] = 0.0
        if not _cut(residual, row[s], col[s], box):
            continue
        f = number[s]
        y, x = old_y[s] - row[s], old_x[s] - col[s]
        out[s, 5] = _left(box, y, x, lobe, weight)[0]
        if np.any(old_flux[s] != 0.0):
            _add_source(box, core[f], y, x, old_flux[s], 1.0)
        for i in range(-radius, radius + 1):
            for j in range(-radius, radius + 1):
                if i * i + j * j > lobe * lobe or not (0 <= row[s] + i < model.shape[1]
                                                       and 0 <= col[s] + j < model.shape[2]):
                    continue
                some = False
                for b in range(n_band):
                    flux[b] = model[b, row[s] + i, col[s] + j]
                    if start.shape[1] > 0:
                        flux[b] += start[b, row[s] + i, col[s] + j]
                    some = some or flux[b] != 0.0
                if some:
                    _add_source(box, core[f], float(i), float(j), flux, 1.0)
        found, y, x = _climb(box, y, x, 0.5 * lobe, peak[f], bend[f], norm[s], weight, slope,
                             n_terms, flux)
        if not found:
            continue
        _add_source(box, core[f], y, x, flux, -1.0)
        out[s, 0], out[s, 1], out[s, 2] = 1.0, y + row[s], x + col[s]
        out[s, 3], out[s, 4] = _left(box, y, x, lobe, weight)
        out[s, 6:] = flux


class PointFitter:
    """Fits points into residuals that are seen with one set of PSFs.

    psf (facet, band, n, n); facet_map (ny, nx); norm (band, ny, nx) or None; weight (band,), sum 1;
    slope (band,) spectral basis; n_terms: as of `clean.deconvolve`.
    """

    def __init__(self, psf, facet_map, norm, weight, slope, n_terms: int):
        self.facet_map, self.norm = facet_map, norm
        self.weight, self.slope, self.n_terms = weight, slope, n_terms
        shape = psf.shape[:2]
        self.peak, self.bend = np.zeros(shape), np.zeros((*shape, 3))
        middle = psf.shape[-1] // 2
        for f in range(shape[0]):
            for b in range(shape[1]):
                core = _padded(psf[f, b], HALF + 1)
                self.peak[f, b], *self.bend[f, b] = curvature(core)
        self.lobe = self._beam()
        self.usable = bool(np.isfinite(self.lobe)) and 1.5 <= self.lobe <= 0.5 * middle
        reach = int(np.ceil(1.5 * self.lobe)) + 2 * HALF + 1 + int(np.ceil(1.5 * self.lobe)) + 2 \
            if self.usable else 1
        self._psf, self._reach, self._core = psf, reach, {}

    def _beam(self) -> float:
        """Width (FWHM, pixels) of the Gaussian of the PSFs' mean curvature; NaN without one."""
        share = self.weight / self.weight.sum()
        peak, bend = self.peak @ share, np.einsum("fbk,b->fk", self.bend, share)
        det = bend[:, 0] * bend[:, 1] - bend[:, 2] ** 2
        good = (peak > 0) & (bend[:, 0] < 0) & (det > 0)
        if not good.any():
            return float("nan")
        return float(np.median(np.sqrt(8 * np.log(2) * peak[good] / np.sqrt(det[good]))))

    def cores(self, facets: np.ndarray) -> np.ndarray:
        """(n, band, c, c) float32 middles of the PSFs of some facets, with zeros beyond them."""
        for f in facets:
            if f not in self._core:
                self._core[f] = np.stack([_padded(p, self._reach) for p in self._psf[f]])
        return np.stack([self._core[f] for f in facets])

    def norm_at(self, rows, cols) -> np.ndarray:
        """(n, band) apparent over intrinsic flux at pixels."""
        if self.norm is None:
            return np.ones((len(rows), self.weight.size))
        return np.ascontiguousarray(self.norm[:, rows, cols].T, np.float64)

    def fit(self, residual, model, start, y, x, flux, threads: int) -> np.ndarray:
        """(n, 6 + band) found, y, x, worst, ring, before, fluxes of candidates.

        y, x (n,), flux (band, n): what free component of flux (zero: none) is there now.
        worst, ring: largest absolute value and mean of the outer part of what the new component
        leaves of the band mean within a beam; before: the former now.
        """
        rows, cols = np.rint(y).astype(np.int64), np.rint(x).astype(np.int64)
        facets, number = np.unique(self.facet_map[rows, cols], return_inverse=True)
        core, number = self.cores(facets), number.reshape(-1)
        peak, bend = self.peak[facets], self.bend[facets]
        norm, old = self.norm_at(rows, cols), np.ascontiguousarray(flux.T, np.float64)
        if start is None:
            start = np.zeros((residual.shape[0], 0, 0), np.float32)
        out = np.empty((y.size, 6 + residual.shape[0]))
        y, x = np.asarray(y, np.float64), np.asarray(x, np.float64)

        def work(part: slice) -> None:
            _fit(residual, model, start, core, number[part], rows[part], cols[part], y[part],
                 x[part], old[part], norm[part], peak, bend, self.lobe, self.weight, self.slope,
                 self.n_terms, out[part])

        parts = [slice(k, k + _BATCH) for k in range(0, y.size, _BATCH)]
        for _ in ordered_map(work, parts, threads):
            pass
        return out


def _padded(psf: np.ndarray, reach: int) -> np.ndarray:
    """Middle (2 reach + 1)² of a PSF whose peak is at n // 2, with zeros where it ends."""
    out = np.zeros((2 * reach + 1, 2 * reach + 1), np.float32)
    middle = psf.shape[0] // 2
    low, high = max(0, middle - reach), min(psf.shape[0], middle + reach + 1)
    put = slice(low - middle + reach, high - middle + reach)
    out[put, put] = psf[low:high, low:high]
    return out


def spaced(y, x, importance, distance: float) -> np.ndarray:
    """Indices of places no two of which are within `distance`, the most important ones first."""
    from scipy.spatial import cKDTree

    order = np.argsort(-np.asarray(importance), kind="stable")
    # one place a cell first: components of an extended source are many and close
    cell = max(distance / 2.0, 1.0)
    key = np.stack([np.floor(y[order] / cell), np.floor(x[order] / cell)])
    order = order[np.sort(np.unique(key, axis=1, return_index=True)[1])]
    place = np.stack([y[order], x[order]], axis=1)
    near = cKDTree(place).query_ball_point(place, distance)
    taken = np.zeros(order.size, bool)
    chosen = []
    for k in range(order.size):
        if not taken[k]:
            chosen.append(order[k])
            taken[near[k]] = True
    return np.array(chosen, np.int64)
