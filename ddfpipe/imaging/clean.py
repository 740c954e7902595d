"""Deconvolution: multi-scale, wide-band CLEAN with a PSF for every facet and band.

One call is the minor cycle of a major cycle.  Rounds of three steps:

1. the residual, convolved with each scale, is gathered at the pixels of the mask that can hold it;
2. at the scale with the best score the sub-minor loop (`minorcycle`) finds components;
3. they are painted, cut to the mask, kept from making the model negative, and the residual is
   corrected exactly by FFT, facet by facet, each with its own PSF.

Then the flux on the pixels of every island is solved for together, see `islandfit`.

Sources: Clark 1980, A&A 89, 377 (list and patch); Cornwell 2008, IEEE JSTSP 2, 793 (scales);
Offringa & Smirnov 2017, MNRAS 471, 301 (sub-minor loops at one scale, joined bands with a spectral
fit); Tasse et al. 2018, A&A 611, A87 (PSF per facet, spectra in intrinsic flux).

Instead of allowing only positive components, the *model* is kept from going negative: a component
may take away what an earlier one (or `start_model`) put there.  So the errors of a first guess are
corrected without negative bowls being cleaned.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from ddfpipe.errors import ImagingError
from ddfpipe.imaging.cleanoptions import CleanOptions, CleanResult
from ddfpipe.imaging.convolve import (
    band_mean_rows,
    fft_convolve_same,
    ordered_map,
    split,
)
from ddfpipe.imaging.islandfit import IslandFit
from ddfpipe.imaging.minorcycle import clean_list
from ddfpipe.imaging.multiscale import Scale, gather, make_scale, restricted
from ddfpipe.imaging.noise import robust_noise
from ddfpipe.imaging.pointcycle import PointCycle
from ddfpipe.imaging.points import Points
from ddfpipe.imaging.subtraction import subtract_boxes

__all__ = ["CleanOptions", "CleanResult", "deconvolve"]

_ROUND_COMPONENTS = 500_000
_STALL_ROUNDS = 5
_GIVE_UPS = 20
_STUBBORN = 0.7
_FINAL_ROUNDS = 20
_GROWTH = 1.1


def deconvolve(
    *,
    residual: np.ndarray,
    psf: np.ndarray,
    facet_map: np.ndarray,
    mask: np.ndarray | None,
    norm: np.ndarray | None,
    band_freq: np.ndarray,
    band_weight: np.ndarray,
    options: CleanOptions,
    start_model: np.ndarray | None = None,
    start_points: Points | None = None,
    noise: float | None = None,
    threads: int = 1,
    model: np.ndarray | None = None,
    progress: Callable[[int, float, float], None] | None = None,
) -> CleanResult:
    """Find model components in a residual image and subtract them.

    residual    (band, ny, nx) float32, apparent Jy/beam; updated in place
    psf         (facet, band, n, n) float32, peak at n // 2, of a source of unit apparent flux at a
                typical place of the facet; its centre is below 1 where smearing lowers peaks
    facet_map   (ny, nx) int16: which PSF serves a pixel; negative: pixel is not cleaned
    mask        (ny, nx), true where components may lie; None: everywhere
    norm        (band, ny, nx) apparent over intrinsic flux, sqrt(N) of docs/conventions.md, or
                None for ones; spectra are fitted to intrinsic flux
    band_freq   (band,) Hz; band_weight (band,) sums of visibility weights
    start_model (band, ny, nx) apparent flux already subtracted from the residual; it limits what
                may be taken away
    start_points components between pixels, also subtracted already; they are fitted again
    noise       noise of the weighted band mean, Jy/beam; None: measured
    model       (band, ny, nx) float32 zeros to put the model into; None: made here
    progress    called after each round with (components, peak, threshold); it may raise

    The result does not depend on `threads`.  Raises ImagingError when shapes disagree.
    """
    _check_shapes(residual, psf, facet_map, mask, norm, band_freq, band_weight, start_model)
    weight = np.asarray(band_weight, float) / np.sum(band_weight)
    if mask is None:
        mask = np.ones(residual.shape[1:], bool)
    if noise is None:
        noise = robust_noise(band_mean_rows(residual, weight))
        noise = 0.0 if math.isnan(noise) else noise
    scales = [
        made for size in sorted(set(options.scales))
        if (made := make_scale(size, psf, mask, facet_map, norm, weight, options.patch_half,
                               threads)) is not None
    ]
    cycle = _Cycle(residual, psf, facet_map, mask, norm, weight, _slopes(band_freq, weight),
                   options, start_model, start_points, noise, threads, scales, model)
    return cycle.run(progress)


class _Cycle:
    """State of one minor cycle."""

    def __init__(self, residual, psf, facet_map, mask, norm, weight, slope, options, start_model,
                 start_points, noise, threads, scales: list[Scale], model=None):
        self.residual, self.psf, self.mask = residual, psf, mask
        self.facet_map, self.norm = facet_map, norm
        self.weight, self.slope, self.options = weight, slope, options
        self.start_model, self.noise, self.threads = start_model, noise, threads
        self.scales = scales
        self.model = np.zeros_like(residual) if model is None else model
        self.n_components = 0
        self.n_rounds = 0
        self.given_up = 0
        self.used: dict[float, list[np.ndarray]] = {scale.size: [] for scale in scales}
        self.scale_flux = {scale.size: 0.0 for scale in scales}
        self.points = PointCycle(self, start_points) if options.free_points else None
        self.sidelobe = scales[0].outside if scales else 0.0

    def run(self, progress) -> CleanResult:
        opt = self.options
        self.level = self._levels(self._survey()[2])
        if self.points is not None:
            self.points.refine()
        first_peak = self._survey()[2]
        threshold = self.level = self._levels(first_peak)
        if first_peak < threshold or first_peak == 0.0:
            reason, peak = "nothing to clean", first_peak
        else:
            reason, peak = self._loop(threshold, opt.max_rounds, progress)
        level = max(opt.final_depth * threshold, self.noise)
        if reason == "threshold" and level < threshold:
            whole, self.scales = self.scales, self._used_pixels()
            self._loop(level, _FINAL_ROUNDS, progress)
            self.scales = whole
        if opt.fit_islands and reason != "nothing to clean":
            IslandFit(self).run()
        if self.points is not None:
            self.points.finish()
        points = self.points.points if self.points else Points.none(self.weight.size)
        return CleanResult(
            self.model, points, self.residual, self.n_components, self.n_rounds, reason,
            threshold, first_peak, peak, self.noise, self.sidelobe, self.scale_flux)

    def _levels(self, peak: float) -> float:
        """The largest of the four levels, for a first peak."""
        opt = self.options
        return max(opt.threshold, opt.rms_factor * self.noise, opt.peak_factor * peak,
                   opt.cycle_factor * self.sidelobe * peak)

    def _loop(self, level: float, max_rounds: int, progress) -> tuple[str, float]:
        """Rounds until `level` is reached; (why it ended, best score left)."""
        best, gathered, peak = self._survey()
        lowest, since, caution, rounds = peak, 0, 1.0, 0
        while best is not None and peak >= level:
            if rounds >= max_rounds or self.n_components >= self.options.max_components:
                return "rounds" if rounds >= max_rounds else "components", peak
            rounds += 1
            self.n_rounds += 1
            boxes, where, flux = self._round(best, gathered, level, caution)
            change = None
            if best.size == 0.0 and self.points is not None and where.size:
                change = self.points.harvest(best.pixels, where)
            cleaned = best
            best, gathered, new_peak = self._survey()
            if new_peak > _GROWTH * peak:
                # Take the round back; shallower rounds are exact more nearly.
                self._take_back(boxes, change)
                best, gathered, peak = self._survey()
                caution *= 0.5
                if caution < 0.05:
                    return "diverging", peak
                continue
            peak = new_peak
            self.n_components += where.size
            self.scale_flux[cleaned.size] += flux
            self.used[cleaned.size].append(np.unique(where))
            since = 0 if peak < 0.99 * lowest else since + 1
            lowest = min(lowest, peak)
            if progress is not None:
                progress(self.n_components, peak, level)
            if since >= _STALL_ROUNDS:
                if self.given_up >= _GIVE_UPS:
                    return "stalled", peak
                self._give_up(peak)
                best, gathered, peak = self._survey()
                lowest, since = peak, 0
        return "threshold", peak

    def _take_back(self, boxes, change) -> None:
        """Undo a round and the points that were found after it."""
        if change is not None:
            self.points.undo(change)
        self.apply(boxes, -1.0)

    def _give_up(self, peak: float) -> None:
        """Leave alone the pixels that a dozen rounds could not bring down.

        An artefact that no component describes would otherwise end the cleaning of everything else.
        """
        self.given_up += 1
        for scale in self.scales:
            score = gather(scale, self.residual, self.threads)[1]
            scale.coef[:, np.abs(score) > _STUBBORN * peak] = 0.0

    def _used_pixels(self) -> list[Scale]:
        """Scales cut down to the pixels that hold a component of that scale."""
        out = []
        for scale in self.scales:
            if self.used[scale.size]:
                keep = np.zeros(scale.pixels.size, bool)
                keep[np.concatenate(self.used[scale.size])] = True
                out.append(restricted(scale, keep))
        self.used = {scale.size: [] for scale in out}
        return out

    def _survey(self):
        """(scale to clean, its gathered values and headroom, best score of any scale)."""
        chosen, kept, top, favour = None, None, 0.0, -1.0
        for step, scale in enumerate(self.scales):
            vals, score = gather(scale, self.residual, self.threads)
            headroom = self._headroom(scale)
            usable = score if self.options.allow_negative else np.where(
                (score > 0.0) | (headroom > 0.0), score, 0.0)
            peak = float(np.abs(usable).max(initial=0.0))
            top = max(top, peak)
            if peak * self.options.scale_bias ** step > favour:
                favour = peak * self.options.scale_bias ** step
                chosen, kept = scale, (vals, score, headroom, peak)
        return chosen, kept, top

    def _headroom(self, scale: Scale) -> np.ndarray:
        """(n,) float32: band-mean apparent flux that a component of `scale` may take away."""
        out = np.zeros(scale.pixels.size, np.float32)
        if self.options.allow_negative:
            return out
        radius = scale.kernel.shape[0] // 2
        share = np.float32(1.0 / scale.kernel[radius, radius])

        def work(tile) -> None:
            y0, y1, x0, x1, part = tile
            top, left = max(0, y0 - radius), max(0, x0 - radius)
            box = self.total_mean(slice(top, y1 + radius), slice(left, x1 + radius))
            if box.any():
                if radius:
                    box = fft_convolve_same(box, scale.kernel)
                    box[box < 1e-6 * box.max()] = 0.0  # rounding of the transform
                rows, cols = scale.pixels.rows[part] - top, scale.pixels.cols[part] - left
                out[part] = np.maximum(box[rows, cols] * share, 0.0)

        for _ in ordered_map(work, scale.tiles, self.threads):
            pass
        return out

    def total_mean(self, rows: slice, cols: slice) -> np.ndarray:
        """Band mean of the whole model in a box, float32."""
        mean = np.zeros(self.model[0, rows, cols].shape, np.float32)
        for b, w in enumerate(self.weight):
            mean += np.float32(w) * self.model[b, rows, cols]
            if self.start_model is not None:
                mean += np.float32(w) * self.start_model[b, rows, cols]
        return mean

    def _round(self, scale: Scale, gathered, threshold, caution):
        """Clean at one scale and correct the residual; (boxes, positions in the list, flux)."""
        opt = self.options
        vals, score, headroom, peak = gathered
        depth = opt.extended_depth
        if scale.size == 0.0:
            depth = max(opt.depth, min(2 * scale.outside, 0.7))
        # caution 1 goes to `depth`; smaller values go less deep and with a smaller gain.
        # A little below the level spares rounds that would each find a handful of components.
        stop = max(0.9 * threshold, peak * (1.0 - caution * (1.0 - depth)))
        stop = min(stop, 0.999 * peak)
        limit = min(_ROUND_COMPONENTS, opt.max_components - self.n_components)
        pixels = scale.pixels
        where, flux, _ = clean_list(
            vals, score, scale.coef, pixels.rows, pixels.cols, pixels.row_start, pixels.facet,
            pixels.norm, headroom, scale.patch, scale.centre, self.weight, self.slope,
            opt.n_terms, opt.gain * caution, stop, opt.allow_negative, limit,
        )
        boxes = self._paint(scale, where, flux)
        self.apply(boxes, 1.0)
        return boxes, where, float((flux @ self.weight).sum())

    def _paint(self, scale: Scale, where: np.ndarray, flux: np.ndarray) -> list:
        """Components as boxes (facet, y0, x0, (band, h, w)), cut to the mask; model not touched."""
        n_psf, n_band = self.psf.shape[-1], self.psf.shape[1]
        limit = max(1024, 2 * n_psf)
        pixels = scale.pixels
        rows, cols, facets = pixels.rows[where], pixels.cols[where], pixels.facet[where]
        radius = scale.kernel.shape[0] // 2
        ny, nx = self.mask.shape
        boxes = []
        for facet in np.unique(facets):
            mine = np.flatnonzero(facets == facet)
            y_low, x_low = int(rows[mine].min()), int(cols[mine].min())
            for ya, yb in split(int(rows[mine].max()) + 1 - y_low, limit):
                for xa, xb in split(int(cols[mine].max()) + 1 - x_low, limit):
                    part = mine[(rows[mine] >= y_low + ya) & (rows[mine] < y_low + yb)
                                & (cols[mine] >= x_low + xa) & (cols[mine] < x_low + xb)]
                    if part.size == 0:
                        continue
                    y0, y1 = int(rows[part].min()) - radius, int(rows[part].max()) + radius + 1
                    x0, x1 = int(cols[part].min()) - radius, int(cols[part].max()) + radius + 1
                    box = np.zeros((n_band, y1 - y0, x1 - x0), np.float32)
                    for b in range(n_band):
                        np.add.at(box[b], (rows[part] - y0, cols[part] - x0), flux[part, b])
                        if radius:
                            box[b] = fft_convolve_same(box[b], scale.kernel)
                    # cut to the image and the mask
                    cy, cx = max(0, -y0), max(0, -x0)
                    box = box[:, cy:cy + min(y1, ny) - max(y0, 0), cx:cx + min(x1, nx) - max(x0, 0)]
                    y0, x0 = max(y0, 0), max(x0, 0)
                    box *= self.mask[y0:y0 + box.shape[1], x0:x0 + box.shape[2]] != 0
                    boxes.append((int(facet), y0, x0, np.ascontiguousarray(box)))
        return boxes

    def apply(self, boxes: list, sign: float) -> None:
        """Add boxes to the model (or take them back) and correct the residual.

        Going forward each box is first limited so that the model stays positive, in place, so the
        same boxes with sign -1 undo the step.
        """
        for _, y0, x0, box in boxes:
            rows, cols = slice(y0, y0 + box.shape[1]), slice(x0, x0 + box.shape[2])
            if sign > 0 and not self.options.allow_negative:
                self._limit(box, rows, cols)
            view = self.model[:, rows, cols]
            view += np.float32(sign) * box
        self.correct(boxes, sign)

    def correct(self, boxes: list, sign: float) -> None:
        """Take what boxes look like through the PSF out of the residual (put it back)."""
        subtract_boxes(self.residual, self.psf, boxes, sign, self.threads)

    def _limit(self, box: np.ndarray, rows: slice, cols: slice) -> None:
        """Where box would make the model's band mean negative, take away just what is there."""
        total = self.total_mean(rows, cols)
        new = total + np.tensordot(self.weight.astype(np.float32), box, axes=1)
        bad = new < np.minimum(total, 0.0)
        if not bad.any():
            return
        for b in range(box.shape[0]):
            there = self.model[b, rows, cols][bad]
            if self.start_model is not None:
                there = there + self.start_model[b, rows, cols][bad]
            # A pixel that is negative from the start is not made more so.
            box[b][bad] = np.where(total[bad] > 0.0, -there, 0.0)


def _slopes(band_freq: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """(band,) second spectral basis function, (nu - nu0) / nu0."""
    freq = np.asarray(band_freq, float)
    reference = float(np.sum(weight * freq))
    return (freq - reference) / reference


def _check_shapes(residual, psf, facet_map, mask, norm, freq, weight, start_model) -> None:
    """Raise ImagingError unless all arrays fit."""
    if residual.ndim != 3 or residual.dtype != np.float32:
        raise ImagingError("deconvolution: residual must be float32 (band, ny, nx).")
    n_band, shape = residual.shape[0], residual.shape[1:]
    if psf.ndim != 4 or psf.shape[1] != n_band or psf.shape[2] != psf.shape[3]:
        raise ImagingError(f"deconvolution: psf {psf.shape} must be (facet, {n_band}, n, n).")
    named = (("facet_map", facet_map, shape), ("mask", mask, shape), ("norm", norm, residual.shape),
             ("start_model", start_model, residual.shape))
    for name, array, expected in named:
        if array is not None and array.shape != expected:
            raise ImagingError(f"deconvolution: {name} {array.shape} must be {expected}.")
    if len(freq) != n_band or len(weight) != n_band or not np.sum(weight) > 0.0:
        raise ImagingError(f"deconvolution: {n_band} band frequencies and positive weights needed.")
    if facet_map.size and int(facet_map.max()) >= psf.shape[0]:
        raise ImagingError(f"deconvolution: facet_map names facet {int(facet_map.max())}, "
                           f"but there are only {psf.shape[0]} PSFs.")
