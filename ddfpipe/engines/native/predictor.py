"""Predict the visibilities of a sky model, facet by facet.

The brightest components of a facet are summed directly, each smeared exactly and seen through the
beams of the stations at its place; the others, degridded or summed, whichever is cheaper, have the
facet's mean response and the smearing of its centre.  Neither averages: what a solver compares with
data must hold inside every cell.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ...data.model import PixelModel
from ...imaging.components import predict_components
from ...imaging.facetpredict import LoadedFacet, facet_to_chunk, grid_pays, reach
from ...imaging.facets import Facet, FacetSet
from ...imaging.footprint import HALF, spread
from ...imaging.gains import corrupt
from ...imaging.smearing import smearing_factor, uvw_rate
from ...units import DEGREE
from .stationbeams import StationBeams

DIRECT_LIMIT = 120
"""Components of a facet up to which all are summed with their own beams and smearing."""

DIRECT_BRIGHT = 40
"""Components of a more crowded facet that are summed directly, the brightest ones."""

EPSILON = 1e-5
"""Accuracy of degridding."""

USUAL_SLOTS = 60
"""Slots of a measurement set that are predicted at a time, about, where no grid is kept."""

GROUP = 0.1 * DEGREE
"""Components summed directly share a beam within squares of this size."""


@dataclass
class FacetModel:
    """The components of a sky model that one facet owns.

    y, x : (n,) box pixels, fractional; l, m : (n,) direction cosines
    response : (band, n) flux seen through the gain of the facet's centre, over the true one
    smear : (n,) smearing at the component over that at the facet's centre
    stations : StationBeams, or None without a beam
    bright : (n,) bool, components to be summed directly
    """

    facet: Facet
    model: PixelModel
    y: np.ndarray
    x: np.ndarray
    l: np.ndarray
    m: np.ndarray
    response: np.ndarray
    smear: np.ndarray
    stations: StationBeams | None = None

    def __post_init__(self):
        self.bright = np.ones(self.size, bool)
        if self.size > DIRECT_LIMIT:
            flux = np.abs((self.model.flux * self.response).mean(axis=0))
            self.bright[np.argsort(-flux, kind="stable")[DIRECT_BRIGHT:]] = False
            # the box must hold the whole footprint of a point between pixels
            low = np.minimum(self.y, self.x) < HALF
            high = (self.y >= self.facet.ny - HALF - 0.5) | (self.x >= self.facet.nx - HALF - 0.5)
            self.bright |= self.model.free & (low | high)

    @property
    def size(self) -> int:
        return self.model.size

    def groups(self) -> list[np.ndarray]:
        """Indices of the bright components, those near to each other together."""
        index = np.flatnonzero(self.bright)
        if self.stations is None:
            return [index] if index.size else []
        squares = np.floor(np.stack([self.l[index], self.m[index]], axis=1) / GROUP)
        _, number = np.unique(squares, axis=0, return_inverse=True)
        number = number.reshape(-1)
        return [index[number == k] for k in range(number.max(initial=-1) + 1)]


def split_model(model: PixelModel, facets: FacetSet, maps) -> list[FacetModel]:
    """Share out a model among facets.

    maps : FacetMaps
    """
    owner = facets.facet_map().ravel()[model.index]
    out = []
    for facet in facets.facets:
        part = model.select(owner == facet.index)
        row, col = part.yx()
        response, smear = maps.at(facet.index, row - facet.y0, col - facet.x0)
        y, x = part.place()
        y, x = y - facet.y0, x - facet.x0
        l, m = part.lm()
        out.append(FacetModel(facet, part, y, x, l, m, response, smear, maps.stations))
    return out


def _mean_spectrum(piece: FacetModel, flux: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean (n,) over the channels of the faint components' flux (chan, all), and (chan,) factors
    by which it comes nearest to all of them in a channel."""
    flux = flux[:, ~piece.bright]
    mean = flux.mean(axis=0)
    power = float((mean**2).sum(dtype=np.float64))
    shares = flux @ mean / power if power > 0 else np.ones(len(flux))
    return mean, shares.astype(np.float32)


def _faint_image(piece: FacetModel, flux: np.ndarray) -> np.ndarray:
    """(ny, nx) float32 image of a facet's faint components, flux (n,), smeared relative to the
    facet's centre."""
    which = ~piece.bright
    image = np.zeros((piece.facet.ny, piece.facet.nx), np.float32)
    spread(piece.y[which], piece.x[which], (flux * piece.smear[which])[None], image[None])
    return image


class Predictor:
    """Visibilities of a sky model for the measurement sets of a job.

    Parameters
    ----------
    facets : FacetSet
    parts : list of FacetModel, one a facet
    decorrelation : smear the model in time and frequency
    """

    def __init__(self, facets: FacetSet, parts: list[FacetModel], decorrelation: bool = True):
        self.facets = facets
        self.parts = parts
        self.decorrelation = decorrelation
        self._limits: dict[str, tuple[float, float]] = {}
        self._pays: dict[tuple[str, int, int], bool] = {}

    def occupied(self) -> list[int]:
        """Facets that hold any component."""
        return [i for i, part in enumerate(self.parts) if part.size]

    def crowded(self, cache) -> list[int]:
        """Facets whose faint components are cheaper to take from a grid that serves a whole
        measurement set."""
        return [i for i, piece in enumerate(self.parts)
                if not piece.bright.all() and self._grid_pays(cache, i, len(cache.time))]

    def _grid_pays(self, cache, index: int, slots: int) -> bool:
        """Whether that is so of a facet whose grid serves so many slots."""
        key = cache.name, index, slots
        if key not in self._pays:
            piece = self.parts[index]
            self._pays[key] = grid_pays(
                piece.facet, self.facets.cell, self.limits(cache), int((~piece.bright).sum()),
                slots * cache.n_bl * cache.n_chan)
        return self._pays[key]

    def limits(self, cache) -> tuple[float, float]:
        """Reach (`facetpredict.reach`) of all visibilities of a measurement set."""
        if cache.name not in self._limits:
            found = [reach(cache.uvw[t:t + USUAL_SLOTS], cache.freq)
                     for t in range(0, len(cache.time), USUAL_SLOTS)]
            self._limits[cache.name] = tuple(float(most) for most in np.max(found, axis=0))
        return self._limits[cache.name]

    def load(self, cache, index: int, bands: np.ndarray) -> LoadedFacet:
        """The grid of a crowded facet for all of a measurement set."""
        piece = self.parts[index]
        mean, _ = _mean_spectrum(piece, piece.model.at(cache.freq) * piece.response[bands])
        return LoadedFacet(_faint_image(piece, mean), piece.facet, self.facets.cell,
                           *self.limits(cache))

    def facet(self, cache, part: slice, index: int, bands: np.ndarray,
              loaded: LoadedFacet | None = None) -> np.ndarray:
        """Visibilities of one facet, smeared, over the gains towards the facet's centre.

        cache : VisCache; part : slice of time; bands : (chan,) sub-band of each channel
        loaded : what `load` made of the facet for this measurement set, None: made here

        Returns
        -------
        (time, bl, chan) complex64 Jy
        """
        piece = self.parts[index]
        uvw = np.ascontiguousarray(cache.uvw[part])
        flux = piece.model.at(cache.freq)
        response = piece.response[bands]
        smear = None
        if self.decorrelation:
            rate = uvw_rate(uvw, cache.phase_centre[1])
            smear = (float(cache.chan_width.mean()), cache.interval, rate)
        vis = np.zeros((*uvw.shape[:2], cache.n_chan), np.complex64)
        for group in piece.groups():
            self._sum(piece, group, flux, response, uvw, cache, part, smear, vis)
        if not piece.bright.all():
            vis += self._faint(index, flux * response, uvw, cache, smear, loaded)
        return vis

    def _sum(self, piece, group, flux, response, uvw, cache, part, smear, out) -> None:
        """Add the direct sum of some components, seen through the beams at their place."""
        l, m, flux, response = piece.l[group], piece.m[group], flux[:, group], response[:, group]
        if piece.stations is None:
            predict_components(
                l=l, m=m, flux=(flux * response).T, uvw=uvw, freq=cache.freq, smear=smear, out=out
            )
            return
        share = np.abs(flux).sum(axis=0, dtype=np.float64)
        share = share / share.sum() if share.sum() > 0 else np.full(len(l), 1 / len(l))
        # the beams are those of the middle of the group's flux; inside it the mean response goes on
        mean = response @ share
        inside = np.where(mean[:, None] > 0, response / np.where(mean > 0, mean, 1)[:, None], 1)
        vis = predict_components(
            l=l, m=m, flux=(flux * inside).T, uvw=uvw, freq=cache.freq, smear=smear
        )
        beams = piece.stations.ratio(cache, part, piece.facet, float(l @ share), float(m @ share))
        corrupt(vis, beams, out=out)

    def _faint(self, index, flux, uvw, cache, smear, loaded):
        """The faint components with the facet's mean response, smeared as its centre is.

        From a grid with their mean spectrum, scaled in every channel to theirs; or from the sum
        over all.  Which of them depends on the model and the measurement set alone, not on how many
        slots there are at a time, which the memory and the threads decide.
        """
        piece = self.parts[index]
        facet = piece.facet
        if loaded is not None or self._grid_pays(cache, index, min(len(cache.time), USUAL_SLOTS)):
            mean, shares = _mean_spectrum(piece, flux)
            vis = loaded.chunk(uvw, cache.freq) if loaded is not None else facet_to_chunk(
                image=_faint_image(piece, mean), uvw=uvw, freq=cache.freq, facet=facet,
                cell=self.facets.cell, epsilon=EPSILON,
            )
            vis *= shares
        else:
            which = ~piece.bright
            vis = predict_components(
                l=piece.l[which], m=piece.m[which], uvw=uvw, freq=cache.freq,
                flux=(flux[:, which] * piece.smear[which]).T,
            )
        if smear is not None:
            vis *= smearing_factor(
                uvw=uvw, rate=smear[2], freq=cache.freq, chan_width=smear[0], interval=smear[1],
                l=facet.l0, m=facet.m0,
            )
        return vis

    def add(self, cache, part: slice, bands, gains, out: np.ndarray, scale: float = 1.0,
            only: list[int] | None = None, loaded: dict[int, LoadedFacet] | None = None) -> None:
        """Add the model, corrupted by `gains` (GainField), to `out` (time, bl, chan).

        only : facets, all by default; loaded : what `load` made of some of them
        """
        for index in self.occupied() if only is None else only:
            vis = self.facet(cache, part, index, bands, (loaded or {}).get(index))
            corrupt(vis, gains.stations(index, part), scale=scale, out=out)

    def subtract(self, cache, part: slice, bands, gains, out: np.ndarray, **some) -> None:
        """Take the model out of `out`, as `add` puts it in."""
        self.add(cache, part, bands, gains, out, scale=-1.0, **some)
