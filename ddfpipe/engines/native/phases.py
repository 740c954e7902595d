"""Phases of stations against a list of components: the calibration that redo_DI asks for.

The components are summed directly at their exact places, as far out as the list goes, each group
of neighbours seen through the beams of the stations there; no image and no facets take part.
"""

from __future__ import annotations

from dataclasses import asdict
from types import SimpleNamespace

import numpy as np

from ...beam import UnitBeam
from ...calibration.phases import PhaseSolver
from ...data.images import SkyGrid
from ...data.skymodel import TextSkyModel, read_skymodel
from ...errors import SolveError
from ...imaging.components import predict_components
from ...imaging.gains import corrupt
from ...imaging.gaussians import predict_gaussians
from ...imaging.smearing import uvw_rate
from ...units import ARCSEC, DEGREE, FWHM_TO_SIGMA
from .solving import Sky, Solve
from .state import digest
from .stationbeams import StationBeams

GROUP = 0.2 * DEGREE
"""Components share a beam within squares of this size."""

BEAM_MARGIN = 0.5 * DEGREE
"""The nodes of the beams reach so much farther than the components."""

POINT = 0.1 * ARCSEC
"""A Gaussian narrower than this (rad) is a point."""


class ListPredictor:
    """Visibilities of a list of components through the beam, without any other gain.

    Parameters
    ----------
    model : TextSkyModel; components below the horizon of the phase centre are left out
    centre : (ra, dec) rad of the phase centre
    caches, beams : VisCache and Beam of every measurement set
    decorrelation : smear the model in time and frequency
    """

    def __init__(self, model: TextSkyModel, centre, caches, beams, decorrelation: bool):
        self.model, self.decorrelation = model, decorrelation
        self.grid = SkyGrid(*centre, 2, 2, 1e-5)
        l, m = self.grid.lm_of(model.ra, model.dec)
        self.kept = np.flatnonzero(np.isfinite(l))
        self.l, self.m = l[self.kept], m[self.kept]
        self.wide = model.gaussian[self.kept] & (model.major[self.kept] > POINT)
        self.angle = model.angle_on(self.grid)[self.kept]
        squares = np.floor(np.stack([self.l, self.m], axis=1) / GROUP)
        _, self.group = np.unique(squares, axis=0, return_inverse=True)
        self.group = self.group.reshape(-1)
        self.stations = None
        if not all(isinstance(beam, UnitBeam) for beam in beams):
            half = np.abs([self.l, self.m]).max(initial=0) + BEAM_MARGIN
            self.stations = StationBeams(list(beams), list(caches), 2 * half)

    def __call__(self, cache, part: slice) -> np.ndarray:
        """(time, bl, chan) complex64 Jy of a slice of time of a measurement set."""
        uvw = np.ascontiguousarray(cache.uvw[part])
        smear = None
        if self.decorrelation:
            smear = (float(cache.chan_width.mean()), cache.interval,
                     uvw_rate(uvw, cache.phase_centre[1]))
        flux = self.model.flux(cache.freq).T[self.kept]  # (src, chan)
        out = np.zeros((*uvw.shape[:2], cache.n_chan), np.complex64)
        if self.stations is None:
            self._sum(np.arange(len(self.l)), flux, uvw, cache.freq, smear, out)
            return out
        centre = SimpleNamespace(l0=0.0, m0=0.0)
        for k in range(self.group.max(initial=-1) + 1):
            members = np.flatnonzero(self.group == k)
            vis = np.zeros_like(out)
            self._sum(members, flux, uvw, cache.freq, smear, vis)
            share = np.abs(flux[members]).sum(axis=1) + 1e-30
            share = share / share.sum()
            beams = self.stations.ratio(
                cache, part, centre, float(self.l[members] @ share), float(self.m[members] @ share)
            )
            corrupt(vis, beams, out=out)
        return out

    def _sum(self, members, flux, uvw, freq, smear, out) -> None:
        """Add some components to `out`."""
        points, wide = members[~self.wide[members]], members[self.wide[members]]
        if points.size:
            predict_components(
                l=self.l[points], m=self.m[points], flux=flux[points], uvw=uvw, freq=freq,
                smear=smear, out=out,
            )
        if wide.size:
            which = self.kept[wide]
            predict_gaussians(
                l=self.l[wide], m=self.m[wide], flux=flux[wide], angle=self.angle[wide],
                major=self.model.major[which] * FWHM_TO_SIGMA,
                minor=self.model.minor[which] * FWHM_TO_SIGMA, uvw=uvw, freq=freq, smear=smear,
                out=out,
            )


class PhaseSolve(Solve):
    """One job of kind "phase" on the native engine."""

    suspects = "Is it a sky model of this field, and deep enough? Is there a source far outside?"

    def _path(self):
        return self.engine.workdir / self.job.model

    def _bands(self) -> int:
        return 1

    def _apply_robust(self, data) -> None:
        """Nothing: a station's phase is best found with the weights of the noise."""

    def _sky(self, data) -> Sky:
        engine = self.engine
        caches = [s.cache for s in data.sets]
        predictor = ListPredictor(
            read_skymodel(self._path()), data.phase_centre, caches,
            [engine.beam(cache.ms_path) for cache in caches], self.job.decorrelation,
        )
        if predictor.l.size == 0:
            raise SolveError(f"{self.job.model}: no component lies within 90 degrees of the phase "
                             "centre; give a sky model of this field")
        return Sky(predictor, 1, np.array([data.phase_centre]), np.zeros((1, 2)))

    def _key(self, s) -> str:
        return digest(asdict(self.job), s.reader.key(), self._path(), self.engine.beam_model)

    def _gain_field(self, s, sky) -> None:
        """The predictor sees to the beam; nothing else is known."""

    def _model(self, s, part: slice, sky: Sky, gains) -> np.ndarray:
        return sky.predictor(s.cache, part)[None]

    def _solver(self, s, sky: Sky, freq_edges, prior) -> PhaseSolver:
        cache = s.cache
        return PhaseSolver(
            ant1=cache.ant1, ant2=cache.ant2, n_ant=cache.n_ant, freq_edges=freq_edges
        )
