"""Predict the visibilities of a sky model, facet by facet.

Facets with few components are summed directly (exact smearing of every component); facets with many
are degridded.  Neither averages: what a solver compares with data must hold inside every cell.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ...data.model import PixelModel
from ...imaging.components import predict_components
from ...imaging.facets import Facet, FacetSet
from ...imaging.gains import corrupt
from ...imaging.gridding import facet_to_vis
from ...imaging.smearing import smearing_factor, uvw_rate

DIRECT_LIMIT = 400
"""Components of a facet up to which a direct sum is cheaper than degridding."""

EPSILON = 1e-5
"""Accuracy of degridding."""


@dataclass
class FacetModel:
    """The components of a sky model that one facet owns.

    y, x : (n,) box pixels; l, m : (n,) direction cosines
    response : (band, n) flux seen through the gain of the facet's centre, over the true one
    smear : (n,) smearing at the component over that at the facet's centre
    """

    facet: Facet
    model: PixelModel
    y: np.ndarray
    x: np.ndarray
    l: np.ndarray
    m: np.ndarray
    response: np.ndarray
    smear: np.ndarray

    @property
    def size(self) -> int:
        return self.model.size


def split_model(model: PixelModel, facets: FacetSet, maps) -> list[FacetModel]:
    """Share out a model among facets.

    maps : FacetMaps-like with `response(f)` (band, ny, nx) and `smear(f)` (ny, nx)
    """
    owner = facets.facet_map().ravel()[model.index]
    out = []
    for facet in facets.facets:
        part = model.select(owner == facet.index)
        y, x = part.yx()
        y, x = y - facet.y0, x - facet.x0
        l, m = part.lm()
        response, smear = maps.at(facet.index, y, x)
        out.append(FacetModel(facet, part, y, x, l, m, response, smear))
    return out


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

    def occupied(self) -> list[int]:
        """Facets that hold any component."""
        return [i for i, part in enumerate(self.parts) if part.size]

    def facet(self, cache, part: slice, index: int, bands: np.ndarray) -> np.ndarray:
        """Visibilities of one facet, smeared, before gains.

        cache : VisCache; part : slice of time; bands : (chan,) sub-band of each channel

        Returns
        -------
        (time, bl, chan) complex64 Jy
        """
        piece = self.parts[index]
        uvw = np.ascontiguousarray(cache.uvw[part])
        flux = piece.model.at(cache.freq) * piece.response[bands]
        smear = None
        if self.decorrelation:
            rate = uvw_rate(uvw, cache.phase_centre[1])
            smear = (float(cache.chan_width.mean()), cache.interval, rate)
        if piece.size <= DIRECT_LIMIT:
            return predict_components(
                l=piece.l, m=piece.m, flux=flux.T, uvw=uvw, freq=cache.freq, smear=smear
            )
        vis = self._degrid(piece, flux, uvw, cache.freq)
        if smear is not None:
            vis *= smearing_factor(
                uvw=uvw, rate=smear[2], freq=cache.freq, chan_width=smear[0], interval=smear[1],
                l=piece.facet.l0, m=piece.facet.m0,
            )
        return vis

    def _degrid(self, piece, flux, uvw, freq):
        """Degrid the mean spectrum; each channel is then scaled to its share of the total flux."""
        facet, cell = piece.facet, self.facets.cell
        image = np.zeros((facet.ny, facet.nx), np.float32)
        image[piece.y, piece.x] = flux.mean(axis=0) * piece.smear
        vis = facet_to_vis(
            image=image, uvw=uvw, freq=freq, facet=facet, cell=cell, epsilon=EPSILON
        )
        total = flux.sum(axis=1)
        if total.mean() != 0:
            vis *= (total / total.mean()).astype(np.float32)
        return vis

    def subtract(self, cache, part: slice, bands, gains, out: np.ndarray) -> None:
        """Take the whole model, corrupted by `gains` (GainField), out of `out` (time, bl, chan)."""
        for index in self.occupied():
            vis = self.facet(cache, part, index, bands)
            corrupt(vis, gains.stations(index, part), scale=-1.0, out=out)
