"""Predict the visibilities of a sky model, facet by facet.

The brightest components of a facet are summed directly, each smeared exactly and seen through the
beams of the stations at its place; the others, degridded or summed, whichever is cheaper, have the
facet's mean response and the smearing of its centre.  Neither averages: what a solver compares with
data must hold inside every cell.  But seen from the facet's centre visibilities change slowly, so
of large chunks only nodes are worked out, and the samples between them follow (`imaging.nodes`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from ...imaging.components import predict_components
from ...imaging.facetpredict import (
    DIRECT, LoadedFacet, degrid_ns, grid_pays, load_facet, reach,
)
from ...imaging.facets import FacetSet
from ...imaging.gains import GroupGains, StationGains, corrupt
from ...imaging.nodes import BaselineClass, Chunk, spread_nodes
from ...imaging.sky import n_minus_one
from ...imaging.smearing import smearing_factor, uvw_rate
from .facetmodel import FacetModel, faint_image, mean_spectrum

EPSILON = 1e-5
"""Accuracy of degridding."""

USUAL_SLOTS = 60
"""Slots of a measurement set that are predicted at a time, about, where no grid is kept."""

SMEARED, GROUPED, SPREAD = 0.4, 1.0, 6.0
"""CPU time in ns of a visibility: a component summed with its smearing, the beams of a group of
components, the way from nodes to it."""

NODES = 3e6
"""CPU time in ns that it takes to look for the nodes of a chunk and to handle its classes."""


@dataclass
class _Samples:
    """Samples of a class of baselines at which a model is worked out.

    uvw (time, bl, 3) m; freq (chan,) Hz; time (time,) s; chans: which channels of the set;
    ant1, ant2 (bl,).
    """

    uvw: np.ndarray
    freq: np.ndarray
    time: np.ndarray
    chans: np.ndarray
    ant1: np.ndarray
    ant2: np.ndarray

    @classmethod
    def of(cls, cache, chunk: Chunk, kind: BaselineClass) -> _Samples:
        """Nodes of a class, or all samples of its baselines."""
        uvw, every = chunk.uvw, kind.baselines.size == chunk.uv.size
        some = slice(None) if every else kind.baselines
        ant1, ant2 = cache.ant1[some], cache.ant2[some]
        if kind.time is None:
            return cls(uvw if every else uvw[:, some], chunk.freq, chunk.time,
                       np.arange(chunk.freq.size), ant1, ant2)
        slots, chans = kind.time.nodes, kind.chan.nodes
        return cls(uvw[np.ix_(slots, kind.baselines)], chunk.freq[chans], chunk.time[slots], chans,
                   ant1, ant2)


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
        self._shares: dict[tuple[str, int], float] = {}
        self._costs: dict[tuple[str, int], float] = {}

    def occupied(self) -> list[int]:
        """Facets that hold any component."""
        return [i for i, part in enumerate(self.parts) if part.size]

    # -- what is cheaper -------------------------------------------------------------------------

    def crowded(self, cache) -> list[int]:
        """Facets whose faint components are cheaper to take from a grid that serves a whole
        measurement set."""
        return [i for i, piece in enumerate(self.parts)
                if not piece.bright.all() and self._grid_pays(cache, i, len(cache.time))]

    def _grid_pays(self, cache, index: int, slots: int) -> bool:
        """Whether that is so of a facet whose grid serves so many slots.

        Depends on the model and the measurement set alone, not on how many slots there are at a
        time, which the memory and the threads decide.
        """
        key = cache.name, index, slots
        if key not in self._pays:
            piece = self.parts[index]
            nodes = self._share(cache, index) * slots * cache.n_bl * cache.n_chan
            self._pays[key] = grid_pays(piece.facet, self.facets.cell, self.limits(cache),
                                        int((~piece.bright).sum()), nodes)
        return self._pays[key]

    def _share(self, cache, index: int) -> float:
        """Part of the visibilities, about, that are worked out."""
        key = cache.name, index
        if key not in self._shares:
            middle = max(0, (len(cache.time) - USUAL_SLOTS) // 2)
            chunk = _chunk(cache, slice(middle, middle + USUAL_SLOTS), np.zeros(cache.n_chan))
            self._shares[key] = chunk.share(self._classes(cache, index, chunk))
        return self._shares[key]

    def _sample_ns(self, cache, index: int) -> float:
        """CPU time of a visibility that is worked out."""
        key = cache.name, index
        if key not in self._costs:
            self._costs[key] = self._sample_cost(cache, self.parts[index])
        return self._costs[key]

    def _sample_cost(self, cache, piece: FacetModel) -> float:
        bright = int(piece.bright.sum())
        cost = bright * SMEARED + (GROUPED * len(piece.groups()) if piece.stations else 0.0)
        if bright == piece.size:
            return cost
        return cost + min(DIRECT * (piece.size - bright), degrid_ns(
            piece.facet, self.facets.cell, self.limits(cache)))

    def _classes(self, cache, index: int, chunk: Chunk) -> list[BaselineClass]:
        """Classes of baselines: all in one with all their samples, unless nodes are cheaper."""
        every, cost = [BaselineClass(np.arange(chunk.uv.size))], self._sample_ns(cache, index)
        if (cost - SPREAD) * chunk.size < NODES:
            return every
        classes = chunk.classes(*self.parts[index].extent)
        saved = (1.0 - chunk.share(classes)) * cost - SPREAD
        return classes if saved * chunk.size > NODES else every

    def limits(self, cache) -> tuple[float, float]:
        """Reach (`facetpredict.reach`) of all visibilities of a measurement set."""
        if cache.name not in self._limits:
            found = [reach(cache.uvw[t:t + USUAL_SLOTS], cache.freq)
                     for t in range(0, len(cache.time), USUAL_SLOTS)]
            self._limits[cache.name] = tuple(float(most) for most in np.max(found, axis=0))
        return self._limits[cache.name]

    # -- visibilities ----------------------------------------------------------------------------

    def load(self, cache, index: int, bands: np.ndarray,
             buffer: np.ndarray | None = None) -> LoadedFacet:
        """The grid of a crowded facet for all of a measurement set, laid in `buffer` if given."""
        piece = self.parts[index]
        mean, _ = mean_spectrum(piece, piece.model.at(cache.freq) * piece.response[bands])
        return LoadedFacet(faint_image(piece, mean), piece.facet, self.facets.cell,
                           *self.limits(cache), buffer)

    def add(self, cache, part: slice, bands, gains, out: np.ndarray, scale: float = 1.0,
            only: list[int] | None = None, loaded: dict[int, LoadedFacet] | None = None) -> None:
        """Add the model, corrupted by `gains` (GainField), to `out` (time, bl, chan).

        only : facets, all by default; loaded : what `load` made of some of them
        """
        for index in self.occupied() if only is None else only:
            self.add_facet(cache, part, index, bands, gains.stations(index, part), out, scale,
                           (loaded or {}).get(index))

    def subtract(self, cache, part: slice, bands, gains, out: np.ndarray, **some) -> None:
        """Take the model out of `out`, as `add` puts it in."""
        self.add(cache, part, bands, gains, out, scale=-1.0, **some)

    def add_facet(self, cache, part: slice, index: int, bands: np.ndarray, gains: StationGains,
                  out: np.ndarray, scale: float = 1.0, loaded: LoadedFacet | None = None) -> None:
        """Add what the components of one facet give, smeared and corrupted, to `out`.

        cache : VisCache; part : slice of time; bands : (chan,) sub-band of each channel
        gains : towards the facet's centre; out : (time, bl, chan) complex64 Jy
        loaded : what `load` made of the facet for this measurement set, None: made here
        """
        chunk = _chunk(cache, part, bands)
        facet = self.parts[index].facet
        sky = _FacetSky(self, cache, index, bands, chunk, loaded)
        for kind in self._classes(cache, index, chunk):
            vis = sky.at(_Samples.of(cache, chunk, kind))
            if kind.time is not None:
                centre = facet.l0, facet.m0, float(n_minus_one(facet.l0, facet.m0))
                spread_nodes(vis, chunk, kind, centre, gains, scale, out)
            elif kind.baselines.size == chunk.uv.size:
                corrupt(vis, gains, scale=scale, out=out)
            else:
                some = replace(gains, ant1=gains.ant1[kind.baselines],
                               ant2=gains.ant2[kind.baselines])
                out[:, kind.baselines] += corrupt(vis, some, scale=scale)


def _chunk(cache, part: slice, bands) -> Chunk:
    return Chunk.of(np.ascontiguousarray(cache.uvw[part]), cache.freq, cache.time[part],
                    cache.interval, cache.phase_centre[1], bands)


class _FacetSky:
    """The components of a facet, ready to be seen at any samples of a chunk."""

    def __init__(self, predictor: Predictor, cache, index: int, bands, chunk: Chunk, loaded):
        self.piece, self.cache = predictor.parts[index], cache
        piece = self.piece
        flux, response = piece.model.at(cache.freq), piece.response[bands]
        self.smear = (float(cache.chan_width.mean()), cache.interval) \
            if predictor.decorrelation else None
        self._bright(flux, response)
        self.faint = None if piece.bright.all() else ~piece.bright
        if self.faint is None:
            return
        self.flux, self.loaded = flux * response, loaded
        own = loaded is None and predictor._grid_pays(
            cache, index, min(len(cache.time), USUAL_SLOTS))
        if own or loaded is not None:
            mean, self.shares = mean_spectrum(piece, self.flux)
        if own:
            self.loaded = load_facet(
                faint_image(piece, mean), piece.facet, predictor.facets.cell,
                reach(chunk.uvw, cache.freq), EPSILON)

    def _bright(self, flux, response) -> None:
        """Lay out what is summed directly, group by group: the beams are those of the middle of a
        group's flux; inside it the mean response goes on."""
        piece, groups = self.piece, self.piece.groups()
        self.order = np.concatenate(groups) if groups else np.zeros(0, np.int64)
        flux, response = flux[:, self.order], response[:, self.order]
        self.beams = None
        if piece.stations is None or not groups:
            self.direct = flux * response
            return
        self.group = np.repeat(np.arange(len(groups)), [len(group) for group in groups])
        power = np.abs(flux).sum(axis=0, dtype=np.float64)
        total = np.bincount(self.group, power)[self.group]
        share = np.where(total > 0, power / np.where(total > 0, total, 1),
                         1 / np.bincount(self.group)[self.group])
        l, m = (np.bincount(self.group, share * x[self.order]) for x in (piece.l, piece.m))
        mean = np.stack([np.bincount(self.group, share * row) for row in response])[:, self.group]
        inside = np.where(mean > 0, response / np.where(mean > 0, mean, 1), 1)
        self.direct = (flux * inside).astype(np.float32)
        self.beams = piece.stations.towards(self.cache, piece.facet, l, m)

    def at(self, samples: _Samples) -> np.ndarray:
        """(time, bl, chan) complex64 Jy, smeared, over the gains towards the facet's centre."""
        shape = (*samples.uvw.shape[:2], samples.freq.size)
        smear = None
        if self.smear is not None:
            smear = (*self.smear, uvw_rate(samples.uvw, self.cache.phase_centre[1]))
        vis = np.zeros(shape, np.complex64)
        if self.order.size:
            predict_components(
                l=self.piece.l[self.order], m=self.piece.m[self.order], uvw=samples.uvw,
                flux=self.direct[samples.chans].T, freq=samples.freq, smear=smear, out=vis,
                gains=self._group_gains(samples),
            )
        if self.faint is not None:
            vis += self._faint(samples, smear)
        return vis

    def _group_gains(self, samples: _Samples) -> GroupGains | None:
        if self.beams is None:
            return None
        stations = self.piece.stations
        return GroupGains(
            self.beams, self.group, *stations.knots(self.cache, samples.time),
            stations.blocks(self.cache)[samples.chans], samples.ant1, samples.ant2)

    def _faint(self, samples: _Samples, smear) -> np.ndarray:
        """The faint components with the facet's mean response, smeared as its centre is: from a
        grid with their mean spectrum, scaled in every channel to theirs; or from the sum."""
        piece, which, chans = self.piece, self.faint, samples.chans
        if self.loaded is not None:
            vis = self.loaded.chunk(samples.uvw, samples.freq)
            vis *= self.shares[chans]
        else:
            vis = predict_components(
                l=piece.l[which], m=piece.m[which], uvw=samples.uvw, freq=samples.freq,
                flux=(self.flux[chans][:, which] * piece.smear[which]).T,
            )
        if smear is not None:
            vis *= smearing_factor(
                uvw=samples.uvw, rate=smear[2], freq=samples.freq, chan_width=smear[0],
                interval=smear[1], l=piece.facet.l0, m=piece.facet.m0,
            )
        return vis
