"""What changes inside a facet: the beam and the smearing relative to the facet's centre.

Both are smooth, so they are evaluated on a few nodes and interpolated by splines.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ...imaging.facets import FacetSet
from ...imaging.response import facet_response, response_nodes
from ...imaging.sky import lm_to_radec
from ...imaging.smearing import mean_smearing, uvw_rate
from .gainfield import beam_ratio, facet_radec

NODES = 5
"""Nodes along each side of a facet."""

SMEARING_TIMES = 8
"""Times of each measurement set used for the mean smearing."""


@dataclass
class FacetMaps:
    """Smooth maps of every facet of an image.

    beam : (facet, band, NODES, NODES) flux seen with the gain of the centre over the true flux
    smear : (facet, NODES, NODES) mean decorrelation over that at the centre
    """

    facets: FacetSet
    beam: np.ndarray
    smear: np.ndarray

    def box(self, index: int):
        """(band, ny, nx) response and (ny, nx) smearing of a facet's box, float32."""
        facet = self.facets.facets[index]
        beam = np.stack([facet_response(b, facet) for b in self.beam[index]])
        return beam, facet_response(self.smear[index], facet)

    def at(self, index: int, y: np.ndarray, x: np.ndarray):
        """(band, n) response and (n,) smearing at box pixels of a facet."""
        beam, smear = self.box(index)
        return beam[:, y, x], smear[y, x]


def make_maps(data, facets: FacetSet, beam, decorrelation: bool) -> FacetMaps:
    """Evaluate beam and smearing at the nodes of every facet."""
    n_facets = len(facets.facets)
    beams = np.ones((n_facets, data.n_bands, NODES, NODES))
    smears = np.ones((n_facets, NODES, NODES))
    weights = station_weights(data.sets)
    for facet in facets.facets:
        l, m = response_nodes(facet, facets.cell, NODES, NODES)
        inside = l**2 + m**2 < 0.25
        if beam is not None:
            ra, dec = lm_to_radec(l[inside], m[inside], *data.phase_centre)
            beams[facet.index][:, inside] = beam_ratio(
                beam, [s.cache for s in data.sets], data.band_freq, weights,
                facet_radec(facet, data.phase_centre), np.stack([ra, dec], axis=1),
            )
        if decorrelation:
            smears[facet.index][inside] = smearing_ratio(
                data.sets, facet, l[inside], m[inside]
            )
    return FacetMaps(facets, beams, smears)


def station_weights(sets) -> np.ndarray:
    """(ant,) sum of the weights of each station's baselines, from a few times of the first set."""
    first = sets[0]
    times = np.unique(np.linspace(0, first.shape[0] - 1, SMEARING_TIMES).astype(int))
    row = np.zeros(first.shape[1])
    for t in times:
        row += first.weight[t].sum(axis=-1)
    out = np.bincount(first.cache.ant1, row, first.cache.n_ant)
    out += np.bincount(first.cache.ant2, row, first.cache.n_ant)
    return out if out.sum() > 0 else np.ones_like(out)


def smearing_ratio(sets, facet, l, m) -> np.ndarray:
    """Mean decorrelation at directions l, m (n,) over that at a facet's centre."""
    where_l, where_m = np.append(facet.l0, l), np.append(facet.m0, m)
    total = np.zeros(len(where_l))
    for s in sets[:: max(1, len(sets) // 4)]:
        times = np.unique(np.linspace(0, s.shape[0] - 1, SMEARING_TIMES).astype(int))
        uvw = np.ascontiguousarray(s.cache.uvw[times])
        part, _ = mean_smearing(
            uvw=uvw, rate=uvw_rate(uvw, s.cache.phase_centre[1]), freq=s.cache.freq,
            weight=s.weight[times], chan_width=float(s.cache.chan_width.mean()),
            interval=s.cache.interval, l=where_l, m=where_m,
        )
        total += part
    return total[1:] / total[0] if total[0] > 0 else np.ones(len(l))
