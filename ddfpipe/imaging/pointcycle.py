"""Points in a minor cycle: when to try one, and what to take out of the pixels' model for it."""

from __future__ import annotations

import weakref
from dataclasses import dataclass

import numpy as np

from ddfpipe.imaging.convolve import band_mean_rows, split
from ddfpipe.imaging.footprint import HALF, spread
from ddfpipe.imaging.noise import robust_noise
from ddfpipe.imaging.points import PointFitter, Points, spaced

LEAST_SIGMA = 10.0
"""Fainter sources stay on pixels: the noise hides whether they are points."""

PEAK_LEFT, RING_LEFT, MOST_LEFT = 0.03, 0.02, 0.15
"""What a point may leave at most, of its flux: at any pixel, in the mean of its outer half, and
with noise allowed for.  A Gaussian of 0.3 beams leaves 0.03."""

PEAK_SIGMA, RING_SIGMA = 3.5, 1.5
"""The same in units of the noise."""

AGAIN = 0.9
"""What a point may leave in place of pixels, in units of the level that is cleaned to."""

NOISE_PIXELS = 200_000
"""Pixels that tell the noise before each trial."""

LEAST_CHANGE = 0.05
"""Smaller changes of a point, in units of the noise, are not worth a correction of the residual."""


@dataclass(frozen=True)
class Change:
    """What a search changed: earlier points, pixels taken out (flat index, (band, n)), boxes."""

    points: Points
    index: np.ndarray
    flux: np.ndarray
    boxes: list


class PointCycle:
    """Finds and improves the points of a minor cycle.

    cycle: `clean._Cycle`, whose model and residual are updated; start: Points or None
    """

    def __init__(self, cycle, start: Points | None):
        # which owns this one: a circle would keep its images until Python looks for circles
        self.cycle = weakref.proxy(cycle)
        n_band = cycle.residual.shape[0]
        self.points = start if start is not None else Points.none(n_band)
        self.fitter = PointFitter(
            cycle.psf, cycle.facet_map, cycle.norm, cycle.weight, cycle.slope,
            cycle.options.n_terms,
        )

    def refine(self) -> None:
        """Fit all points anew to what is there now, and to what pixels about them hold."""
        if self.points.size and self.fitter.usable:
            self._try(*self._known(), alone=False)

    def finish(self) -> None:
        """A last look at all points and at all pixels that hold flux."""
        if not self.fitter.usable:
            return
        for _ in range(2):
            index = np.flatnonzero(self._total_anywhere())
            rows, cols = np.divmod(index, self.cycle.mask.shape[1])
            self._search(rows, cols, np.arange(self.points.size), alone=False)

    def harvest(self, pixels, where: np.ndarray) -> Change | None:
        """Look at the pixels of a round's components."""
        from scipy.spatial import cKDTree

        if not self.fitter.usable:
            return None
        where = np.unique(where)
        rows, cols = pixels.rows[where], pixels.cols[where]
        near = np.zeros(0, np.int64)
        if self.points.size:
            place = np.stack([self.points.y, self.points.x], axis=1)
            touched = cKDTree(np.stack([rows, cols], axis=1))
            near = np.flatnonzero(touched.query(place)[0] <= self.fitter.lobe)
        return self._search(rows, cols, near)

    def undo(self, change: Change) -> None:
        """Take a search back."""
        self.cycle.correct(change.boxes, -1.0)
        for plane, flux in zip(self.cycle.model, change.flux):
            plane.ravel()[change.index] += flux
        self.points = change.points

    # -- candidates ------------------------------------------------------------------------------

    def _total_anywhere(self) -> np.ndarray:
        cycle = self.cycle
        out = np.zeros(cycle.mask.shape, bool)
        for b in range(cycle.model.shape[0]):
            out |= self._total(b) != 0
        return out & (cycle.facet_map >= 0)

    def _total(self, band: int) -> np.ndarray:
        """(ny, nx) flux of all pixels in a band."""
        cycle = self.cycle
        if cycle.start_model is None:
            return cycle.model[band]
        return cycle.model[band] + cycle.start_model[band]

    def _flux_at(self, rows, cols) -> np.ndarray:
        """(band, n) flux of pixels."""
        cycle = self.cycle
        flux = cycle.model[:, rows, cols].astype(float)
        return flux if cycle.start_model is None else flux + cycle.start_model[:, rows, cols]

    def _known(self):
        """The points as candidates (y, x, flux, number)."""
        points = self.points
        return points.y, points.x, points.flux, np.arange(points.size)

    def _search(self, rows, cols, near, alone: bool = True) -> Change | None:
        """Try points at pixels that hold flux, and those that are there again, listed in `near`."""
        flux = self.cycle.weight @ self._flux_at(rows, cols)
        some = flux > 0
        rows, cols, flux = rows[some], cols[some], flux[some]
        known = self.points.select(near)
        y, x = np.append(known.y, rows), np.append(known.x, cols)
        number = np.append(near, np.full(rows.size, -1))
        importance = np.append(self.cycle.weight @ known.flux, flux)
        if y.size == 0:
            return None
        chosen = spaced(y, x, importance, self.fitter.lobe)
        there = np.zeros((self.cycle.weight.size, chosen.size))
        own = number[chosen] >= 0
        there[:, own] = self.points.flux[:, number[chosen][own]]
        return self._try(y[chosen], x[chosen], there, number[chosen], alone)

    # -- trial -----------------------------------------------------------------------------------

    def _try(self, y, x, flux, number, alone: bool = True) -> Change | None:
        """Fit candidates, keep the good ones.

        number (n,): which point each is, -1 a new one.  alone: points that are there leave the
        pixels about them as they are.
        """
        cycle, fitter = self.cycle, self.fitter
        inside = self._allowed(y, x)
        y, x, flux, number = y[inside], x[inside], flux[:, inside], number[inside]
        if y.size == 0:
            return None
        noise = self._noise()
        fit = fitter.fit(cycle.residual, cycle.model, cycle.start_model, y, x, flux, cycle.threads)
        good = self._good(fit, number, noise)
        alone = (number >= 0) & (alone | ~good)
        if alone.any():
            # Pixels about it stay, and it follows what is left.
            empty = np.zeros((flux.shape[0], 1, 1), np.float32)
            empty = np.broadcast_to(empty, cycle.model.shape)
            again = fitter.fit(cycle.residual, empty, None, y[alone], x[alone], flux[:, alone],
                               cycle.threads)
            fit[alone] = again
            good[alone] = (again[:, 0] > 0) & (again[:, 3] < again[:, 5])
        good &= self._allowed(fit[:, 1], fit[:, 2]) & self._news(fit, y, x, flux, number, noise)
        if not good.any():
            return None
        return self._replace(fit[good], y[good], x[good], flux[:, good], number[good],
                             ~alone[good])

    def _noise(self) -> float:
        """Noise of the band mean as it is now, within half a per cent."""
        sample = band_mean_rows(self.cycle.residual, self.cycle.weight, NOISE_PIXELS)
        noise = robust_noise(sample)
        return noise if np.isfinite(noise) else 0.0

    def _allowed(self, y, x) -> np.ndarray:
        """Whether places lie in the mask and a facet."""
        shape = self.cycle.mask.shape
        rows, cols = np.rint(y).astype(np.int64), np.rint(x).astype(np.int64)
        ok = (rows >= 0) & (rows < shape[0]) & (cols >= 0) & (cols < shape[1])
        rows, cols = np.where(ok, rows, 0), np.where(ok, cols, 0)
        return ok & (self.cycle.mask[rows, cols] != 0) & (self.cycle.facet_map[rows, cols] >= 0)

    def _good(self, fit: np.ndarray, number: np.ndarray, noise: float) -> np.ndarray:
        """Whether candidates are points, by what they leave.

        Pixels about a point that is there already describe what the point does not, such as errors
        of the PSF.  They go only where nothing is lost that would be cleaned again.
        """
        found, worst, ring, before = fit[:, 0] > 0, fit[:, 3], np.abs(fit[:, 4]), fit[:, 5]
        flux = fit[:, 6:] @ self.cycle.weight
        peak = np.minimum(np.maximum(PEAK_LEFT * flux, PEAK_SIGMA * noise), MOST_LEFT * flux)
        mean = np.minimum(np.maximum(RING_LEFT * flux, RING_SIGMA * noise), MOST_LEFT * flux)
        again = min(PEAK_SIGMA * noise, AGAIN * self.cycle.level)
        better = worst <= np.maximum(before, np.where(number < 0, PEAK_SIGMA * noise, again))
        return found & (flux > LEAST_SIGMA * noise) & (worst < peak) & (ring < mean) & better

    def _news(self, fit, y, x, flux, number, noise) -> np.ndarray:
        """Whether fits change what is there by anything that could be seen."""
        weight, lobe = self.cycle.weight, self.fitter.lobe
        moved = np.hypot(fit[:, 1] - y, fit[:, 2] - x) / lobe * (weight @ flux)
        change = np.abs(fit[:, 6:].T - flux).max(axis=0)
        return (number < 0) | (np.maximum(moved, change) > LEAST_CHANGE * noise)

    def _replace(self, fit, y, x, flux, number, clear) -> Change:
        """Put fitted points in the place of old ones and, where `clear`, of pixels about them."""
        cycle = self.cycle
        rows, cols = self._near(y[clear], x[clear])
        taken = self._flux_at(rows, cols)
        index = rows * cycle.mask.shape[1] + cols
        keep = np.ones(self.points.size, bool)
        keep[number[number >= 0]] = False
        before = self.points
        new = Points(fit[:, 1], fit[:, 2], np.ascontiguousarray(fit[:, 6:].T))
        self.points = before.select(keep).joined(new)
        old = Points(y, x, -flux).select(number >= 0)
        pixels = Points(rows.astype(float), cols.astype(float), -taken)
        boxes = self._boxes(new.joined(old).joined(pixels))
        cycle.correct(boxes, 1.0)
        for plane, row in zip(cycle.model, taken):
            plane.ravel()[index] -= row.astype(np.float32)
        return Change(before, index, taken.astype(np.float32), boxes)

    def _near(self, y, x) -> tuple[np.ndarray, np.ndarray]:
        """Pixels (rows, cols) with flux within a beam of places, each once."""
        lobe, shape = self.fitter.lobe, self.cycle.mask.shape
        step = np.arange(-int(lobe), int(lobe) + 1)
        dy, dx = (a.ravel() for a in np.meshgrid(step, step, indexing="ij"))
        disc = dy * dy + dx * dx <= lobe * lobe
        rows = (np.rint(y).astype(np.int64)[:, None] + dy[disc]).ravel()
        cols = (np.rint(x).astype(np.int64)[:, None] + dx[disc]).ravel()
        ok = (rows >= 0) & (rows < shape[0]) & (cols >= 0) & (cols < shape[1])
        rows, cols = np.divmod(np.unique(rows[ok] * shape[1] + cols[ok]), shape[1])
        some = (self._flux_at(rows, cols) != 0).any(axis=0)
        return rows[some], cols[some]

    def _boxes(self, sources: Points) -> list:
        """Boxes (facet, y0, x0, (band, h, w)) that hold the footprints of sources."""
        cycle = self.cycle
        limit = max(1024, 2 * cycle.psf.shape[-1])
        rows, cols = sources.pixels()
        facets = cycle.facet_map[rows, cols]
        boxes = []
        for facet in np.unique(facets):
            mine = np.flatnonzero(facets == facet)
            top, left = int(rows[mine].min()), int(cols[mine].min())
            for ya, yb in split(int(rows[mine].max()) + 1 - top, limit):
                for xa, xb in split(int(cols[mine].max()) + 1 - left, limit):
                    part = mine[(rows[mine] >= top + ya) & (rows[mine] < top + yb)
                                & (cols[mine] >= left + xa) & (cols[mine] < left + xb)]
                    if part.size:
                        boxes.append((int(facet), *self._box(sources.select(part))))
        return boxes

    def _box(self, sources: Points):
        """(y0, x0, (band, h, w)) with the footprints of sources."""
        rows, cols = sources.pixels()
        y0, x0 = int(rows.min()) - HALF, int(cols.min()) - HALF
        shape = (int(rows.max()) + HALF + 1 - y0, int(cols.max()) + HALF + 1 - x0)
        box = np.zeros((sources.flux.shape[0], *shape), np.float32)
        return y0, x0, spread(sources.y - y0, sources.x - x0, sources.flux, box)
