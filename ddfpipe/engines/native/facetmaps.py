"""What changes inside a facet: the beam and the smearing relative to the facet's centre.

Both are smooth, so they are evaluated on a few nodes and interpolated by splines.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from ...beam import UnitBeam
from ...imaging.facets import Facet, FacetSet
from ...imaging.response import facet_response, response_nodes
from ...imaging.sky import lm_to_radec
from ...imaging.smearing import mean_smearing, uvw_rate
from .gainfield import beam_ratio, facet_radec
from .stationbeams import StationBeams

if TYPE_CHECKING:
    from .visibilities import Data

NODES = 5
"""Nodes along each side of a facet."""

SMEARING_TIMES = 8
"""Times of each measurement set from which mean smearing and mean weights are taken."""


@dataclass
class FacetMaps:
    """Smooth maps of every facet of an image, evaluated when they are first asked for: a dirty
    image and its PSFs need none.

    data : Data, weighted; facets : FacetSet
    decorrelation : whether there is smearing
    stations : beams of single stations anywhere in the image, None without a beam
    """

    data: Data
    facets: FacetSet
    decorrelation: bool
    stations: StationBeams | None = None

    @cached_property
    def beam(self) -> np.ndarray:
        """(facet, band, NODES, NODES) flux seen with the gain of the centre over the true flux."""
        data = self.data
        out = np.ones((len(self.facets.facets), data.n_bands, NODES, NODES))
        if self.stations is None:
            return out
        weights, freqs = pair_weights(data.sets, data.n_bands), band_quadrature(data)
        for facet, l, m, inside in self._nodes():
            ra, dec = lm_to_radec(l[inside], m[inside], *data.phase_centre)
            out[facet.index][:, inside] = beam_ratio(
                self.stations.beams[0], self.stations.caches, freqs, weights,
                facet_radec(facet, data.phase_centre), np.stack([ra, dec], axis=1),
            )
        return out

    @cached_property
    def smear(self) -> np.ndarray:
        """(facet, NODES, NODES) mean decorrelation over that at the centre."""
        out = np.ones((len(self.facets.facets), NODES, NODES))
        if self.decorrelation:
            for facet, l, m, inside in self._nodes():
                out[facet.index][inside] = smearing_ratio(
                    self.data.sets, facet, l[inside], m[inside]
                )
        return out

    def _nodes(self) -> Iterator[tuple[Facet, np.ndarray, np.ndarray, np.ndarray]]:
        """Every facet with its nodes l, m (NODES, NODES) and which of them are far from the
        horizon."""
        for facet in self.facets.facets:
            l, m = response_nodes(facet, self.facets.cell, NODES, NODES)
            yield facet, l, m, l**2 + m**2 < 0.25

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
    """The maps of `facets`.

    beam : None, the Beam of all measurement sets, or a list with one for each of them
    """
    return FacetMaps(data, facets, decorrelation, _station_beams(data, facets, beam))


def _station_beams(data, facets: FacetSet, beam) -> StationBeams | None:
    """Beams of the measurement sets of `data`; None where there is nothing to follow."""
    caches = [s.cache for s in data.sets]
    beams = list(beam) if isinstance(beam, (list, tuple)) else [beam] * len(caches)
    if all(b is None or isinstance(b, UnitBeam) for b in beams):
        return None
    return StationBeams(beams, caches, facets.npix * facets.cell)


def pair_weights(sets, n_bands: int) -> np.ndarray:
    """(band, ant, ant) weights of the pairs of stations, from a few times of every set.

    Stations are those of the first set; sets of other stations do not count.
    """
    names = list(sets[0].cache.ant_names)
    out = np.zeros((n_bands, len(names), len(names)))
    for s in sets:
        if list(s.cache.ant_names) != names:
            continue
        for t in sample_times(s.shape[0]):
            for band in np.unique(s.band):
                row = s.weight[t][:, s.band == band].sum(axis=-1)
                np.add.at(out[band], (s.cache.ant1, s.cache.ant2), row)
    out += np.swapaxes(out, 1, 2)
    empty = out.sum(axis=(1, 2)) == 0
    out[empty] = 1.0
    return out


def band_quadrature(data) -> np.ndarray:
    """(band, 2) frequencies in Hz whose mean stands for a sub-band: its mean -+ its rms width."""
    moments = np.zeros((3, data.n_bands))
    for s in data.sets:
        weight = sum(
            s.weight[t].sum(axis=0, dtype=np.float64) for t in sample_times(s.shape[0])
        )
        offset = s.cache.freq - data.band_freq[s.band]
        for k in range(3):
            np.add.at(moments[k], s.band, weight * offset**k)
    total = np.maximum(moments[0], 1e-300)
    rms = np.sqrt(np.maximum(moments[2] / total - (moments[1] / total) ** 2, 0))
    return np.stack([data.band_freq - rms, data.band_freq + rms], axis=1)


def sample_times(n_time: int) -> np.ndarray:
    """Up to SMEARING_TIMES slots, evenly spread."""
    return np.unique(np.linspace(0, n_time - 1, SMEARING_TIMES).astype(int))


def smearing_ratio(sets, facet, l, m) -> np.ndarray:
    """Mean decorrelation at directions l, m (n,) over that at a facet's centre."""
    where_l, where_m = np.append(facet.l0, l), np.append(facet.m0, m)
    total = np.zeros(len(where_l))
    for s in sets[:: max(1, len(sets) // 4)]:
        times = sample_times(s.shape[0])
        uvw = np.ascontiguousarray(s.cache.uvw[times])
        part, _ = mean_smearing(
            uvw=uvw, rate=uvw_rate(uvw, s.cache.phase_centre[1]), freq=s.cache.freq,
            weight=s.weight[times], chan_width=float(s.cache.chan_width.mean()),
            interval=s.cache.interval, l=where_l, m=where_m,
        )
        total += part
    return total[1:] / total[0] if total[0] > 0 else np.ones(len(l))
