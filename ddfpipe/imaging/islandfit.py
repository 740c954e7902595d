"""Joint fit of the flux in islands of the mask, after CLEAN has found where it is.

CLEAN takes out components one after another, and what is left of extended emission is a pattern of
some sigma that no single component brings down: 0.5 to 1 % of a halo or a double stays in the
residual.  Here all pixels of an island are solved for together.  With the residual d, of which the
noise has the covariance sigma² H, H being what PSF and weights make of a change of the model, the
change x is the one that makes

    ½ x' H x - d' x + ½ sigma² x' T⁻² x

small: the most probable one if the errors of CLEAN's model are T beforehand (the regularised least
squares of Tikhonov & Arsenin 1977; a Gaussian prior about a known model, Tarantola 2005, chapter
3).  T² is `PRIOR`² sigma m, where m is the model's brightness, smoothed: as in maximum entropy
(Cornwell & Evans 1985, A&A 143, 77) bright emission may change more than faint, and dark pixels
keep from fitting noise.  The spectrum's second term is solved for as well.

Where the model must stay positive, noise about a source can only be added to it: the model holds up
to 1 % too much, and the residual too little.  Images for which negative components are allowed have
no such bias.  The others, of the first rounds of a calibration, keep the limit, as it holds
artefacts off the models that gains are found with.

Solved by conjugate gradients in x / T (Hestenes & Stiefel 1952, J. Res. NBS 49, 409) on Fourier
transforms of the island alone, with one PSF, and kept from making the model negative unless that is
allowed.  Then the residual is corrected exactly, through every facet's own PSF, and the change is
shortened if that tells that islands disturb one another.
"""

from __future__ import annotations

from dataclasses import dataclass

import ducc0
import numpy as np

from ddfpipe.errors import ImagingError
from ddfpipe.imaging.convolve import ordered_map
from ddfpipe.imaging.mask import find_islands
from ddfpipe.imaging.psf import fit_beam
from ddfpipe.units import FWHM_TO_SIGMA

PRIOR, INDEX_ERROR = 0.3, 3.3
"""Error of the model before the fit, see above, and that of the spectral index."""

SMOOTH, SMOOTH_SIGNED = 0.5, 1.5
"""Width (FWHM) in beams of the smoothing of the model whose brightness the prior takes, where it
stays positive and where it may be negative."""

ROUNDS, STEPS = 2, 15
"""Fits with an exact correction of the residual after each, and steps of one."""

ENOUGH = 0.03
"""A step that gains less, in chi²/2 a beam, is the last."""

LEAST_SIGMA = 20.0
"""Islands that hold less flux on pixels, in units of its noise, are left as CLEAN made them."""

TILE = 256
"""Largest side in pixels of what is solved together."""

_SHORTEN = 0.98


@dataclass(frozen=True)
class Island:
    """Pixels that are solved together: (rows, cols) slices of their box, support (h, w) bool."""

    box: tuple[slice, slice]
    support: np.ndarray


def islands_of(mask: np.ndarray) -> list[Island]:
    """Connected pixels of a mask (ny, nx), cut into tiles of `TILE`."""
    found = find_islands(mask)
    rows, cols = np.divmod(found.index, mask.shape[1])
    order = np.lexsort((cols // TILE, rows // TILE, found.label))
    rows, cols = rows[order], cols[order]
    key = np.stack([found.label[order], rows // TILE, cols // TILE])
    cuts = np.flatnonzero((np.diff(key, axis=1) != 0).any(axis=0)) + 1
    out = []
    for y, x in zip(np.split(rows, cuts), np.split(cols, cuts)):
        if y.size:
            box = slice(y.min(), y.max() + 1), slice(x.min(), x.max() + 1)
            support = np.zeros((box[0].stop - box[0].start, box[1].stop - box[1].start), bool)
            support[y - box[0].start, x - box[1].start] = True
            out.append(Island(box, support))
    return out


class Normal:
    """H of an island and the prior's T, for unknowns c (term, h, w) in units of T.

    psf (band, n, n); tau (term, h, w): T of the terms, Jy, zero outside the support; norm (band, h,
    w): apparent over intrinsic flux; weight (band,), sum 1; slope (band,).
    """

    def __init__(self, psf, tau, norm, weight, slope):
        self.shape, self.weight = tau.shape[1:], weight
        mean = np.tensordot(weight, norm, 1)
        share = np.where(mean > 0, norm / np.where(mean > 0, mean, 1.0), 0.0)
        power = np.stack([slope**t for t in range(len(tau))])
        self.basis = tau[:, None] * power[:, :, None, None] * share
        self.padded = tuple(ducc0.fft.good_size(2 * n - 1, True) for n in self.shape)
        self.seen_as = self._transform(self._kernel(psf))

    def _kernel(self, psf) -> np.ndarray:
        """(band, *padded) PSF as far as it reaches from pixel to pixel, its peak at (0, 0)."""
        middle = psf.shape[-1] // 2
        reach = [min(n - 1, psf.shape[-1] - middle - 1) for n in self.shape]
        rows, cols = (np.arange(-r, r + 1) for r in reach)
        out = np.zeros((len(psf), *self.padded))
        out[:, rows[:, None] % self.padded[0], cols % self.padded[1]] = psf[
            :, middle + rows[:, None], middle + cols]
        return out

    def _transform(self, planes) -> np.ndarray:
        return ducc0.fft.r2c(planes, axes=(1, 2), nthreads=1)

    def flux(self, c: np.ndarray) -> np.ndarray:
        """(band, h, w) Jy of unknowns."""
        return np.einsum("tyx,tbyx->byx", c, self.basis)

    def mean_flux(self, c: np.ndarray) -> np.ndarray:
        """(h, w) Jy, the band mean of `flux`."""
        return np.tensordot(self.weight, self.flux(c), 1)

    def seen(self, flux: np.ndarray) -> np.ndarray:
        """(band, h, w) flux through the PSF, Jy/beam."""
        h, w = self.shape
        planes = np.zeros((len(flux), *self.padded))
        planes[:, :h, :w] = flux
        planes = ducc0.fft.c2r(self._transform(planes) * self.seen_as, axes=(1, 2),
                               lastsize=self.padded[1], forward=False, inorm=2, nthreads=1)
        return planes[:, :h, :w]

    def gathered(self, residual: np.ndarray) -> np.ndarray:
        """(term, h, w) what a residual (band, h, w) asks of the unknowns."""
        return np.einsum("b,tbyx,byx->tyx", self.weight, self.basis, residual)

    def product(self, one: np.ndarray, other: np.ndarray) -> float:
        """Sum over bands and pixels with the bands' weights."""
        return float(np.einsum("b,byx,byx->", self.weight, one, other))


def solve(normal: Normal, residual: np.ndarray, held: np.ndarray | None, noise: float,
          least: float) -> np.ndarray:
    """(band, h, w) Jy to add to the model of an island.

    residual (band, h, w) Jy/beam; held (h, w) Jy: band mean of the model, which stays positive, or
    None where it may be negative; noise: of the band mean, Jy/beam; least: gain of a step, in
    units of chi²/2, under which it is the last one.
    """
    left, c = residual.astype(float), np.zeros((len(normal.basis), *normal.shape))
    to_mean = np.einsum("b,tbyx->tyx", normal.weight, normal.basis)
    step, last = None, 0.0
    for _ in range(STEPS):
        down = normal.gathered(left) - noise**2 * c
        free = 1.0 if held is None else (held > 0) | ((down * to_mean).sum(axis=0) > 0)
        down_free = down * free
        steep = float((down_free**2).sum())
        if steep <= 0.0:
            break
        step = down_free if step is None else (down_free + steep / last * step) * free
        change, seen, gain = _along(normal, step, down, noise)
        if held is not None:
            more = normal.mean_flux(change)
            if (held + more < 0).any():
                change *= np.where(held + more < 0, held / np.where(more < 0, -more, 1.0), 1.0)
                change, seen, gain = _along(normal, change, down, noise, most=1.0)
                step, more = None, normal.mean_flux(change)
            held = np.maximum(held + more, 0.0)
        if gain <= 0.0:
            break
        last = steep
        c += change
        left -= seen
        if gain < least * noise**2:
            break
    return normal.flux(c)


def _along(normal: Normal, step, down, noise: float, most: float = np.inf):
    """(change, how it is seen, gain) of the best length of a step, at most `most` of it."""
    flux = normal.flux(step)
    seen = normal.seen(flux)
    slope = float((down * step).sum())
    bend = normal.product(flux, seen) + noise**2 * float((step**2).sum())
    length = min(slope / bend, most) if slope > 0.0 and bend > 0.0 else 0.0
    return length * step, length * seen, length * (slope - 0.5 * length * bend)


class IslandFit:
    """The fits of a minor cycle.

    cycle: `clean._Cycle`, whose model and residual are updated by `run`.
    """

    def __init__(self, cycle):
        self.cycle = cycle
        middle = cycle.facet_map[tuple(n // 2 for n in cycle.facet_map.shape)]
        try:
            psf = np.tensordot(cycle.weight, cycle.psf[max(middle, 0)], 1)
            major, minor, _ = fit_beam(psf, 1.0)
        except ImagingError:  # nothing that could be fitted with
            major = minor = 0.0
        self.beam = float(np.sqrt(major * minor))

    def run(self) -> None:
        """Fit all islands that hold enough flux, `ROUNDS` times."""
        if self.beam == 0.0 or not self.cycle.noise > 0.0:
            return
        cycle = self.cycle
        islands = [i for i in islands_of((cycle.mask != 0) & (cycle.facet_map >= 0))
                   if self._worth(i)]
        for _ in range(ROUNDS if islands else 0):
            boxes = [box for part in ordered_map(self._fit, islands, cycle.threads)
                     for box in part]
            self._add(boxes)

    def _beams(self, island: Island) -> float:
        """Size of an island in beams, at least one."""
        return max(1.0, island.support.sum() / (1.1331 * self.beam**2))

    def _worth(self, island: Island) -> bool:
        flux = float(self.cycle.total_mean(*island.box)[island.support].sum())
        return abs(flux) > LEAST_SIGMA * self.cycle.noise * np.sqrt(self._beams(island))

    def _fit(self, island: Island) -> list:
        """Boxes (facet, y0, x0, (band, h, w)) of an island's change."""
        cycle, (rows, cols) = self.cycle, island.box
        residual = cycle.residual[:, rows, cols]
        support = island.support & np.isfinite(residual).all(axis=0)
        norm = np.ones(residual.shape) if cycle.norm is None else np.nan_to_num(
            cycle.norm[:, rows, cols].astype(float), posinf=0.0, neginf=0.0)
        held = cycle.total_mean(rows, cols).astype(float)
        facets = cycle.facet_map[rows, cols]
        chief = int(np.bincount(facets[support], np.abs(held[support])).argmax()) \
            if support.any() else 0
        normal = Normal(cycle.psf[chief], self._prior(island) * support, norm, cycle.weight,
                        cycle.slope)
        change = solve(normal, np.where(support, residual, 0.0),
                       None if cycle.options.allow_negative else np.maximum(held, 0.0),
                       cycle.noise, ENOUGH * self._beams(island)).astype(np.float32)
        return [(int(f), rows.start, cols.start, np.ascontiguousarray(change * (facets == f)))
                for f in np.unique(facets[support]) if (change * (facets == f)).any()]

    def _prior(self, island: Island) -> np.ndarray:
        """(term, h, w) error in Jy of the model before the fit."""
        from scipy.ndimage import gaussian_filter

        cycle = self.cycle
        smooth = SMOOTH_SIGNED if cycle.options.allow_negative else SMOOTH
        width = smooth * self.beam * FWHM_TO_SIGMA
        margin, corner = int(np.ceil(4 * width)), [s.start for s in island.box]
        top, left = (max(0, start - margin) for start in corner)
        wide = slice(top, island.box[0].stop + margin), slice(left, island.box[1].stop + margin)
        bright = gaussian_filter(np.abs(cycle.total_mean(*wide).astype(float)), width)
        bright = bright[corner[0] - top:, corner[1] - left:]
        bright = bright[:island.support.shape[0], :island.support.shape[1]]
        flux = PRIOR * np.sqrt(cycle.noise * bright)
        return np.stack([flux, INDEX_ERROR * flux][:cycle.options.n_terms])

    def _add(self, boxes: list) -> None:
        """Add boxes to the model; less of them where the exact residual says so."""
        cycle = self.cycle
        before = [self._under(box).copy() for box in boxes]
        cycle.apply(boxes, 1.0)
        asked = used = 0.0
        for box, old in zip(boxes, before):
            seen = old - self._under(box)
            some = np.isfinite(old)
            asked += float(np.einsum("b,byx->", cycle.weight, np.where(some, box[3] * old, 0.0)))
            used += float(np.einsum("b,byx->", cycle.weight, np.where(some, box[3] * seen, 0.0)))
        length = max(asked / used, 0.0) if used > 0.0 else 0.0
        if length < _SHORTEN:
            cycle.apply([(*place, box * np.float32(length - 1)) for *place, box in boxes], 1.0)

    def _under(self, box) -> np.ndarray:
        """The residual at a box."""
        _, y0, x0, flux = box
        return self.cycle.residual[:, y0:y0 + flux.shape[1], x0:x0 + flux.shape[2]]
