"""What changes inside a facet: the beam and the smearing relative to the facet's centre.

Both are smooth, so they are evaluated on a few nodes and interpolated by splines.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ...beam import UnitBeam
from ...imaging.facets import FacetSet
from ...imaging.response import facet_response, response_nodes
from ...imaging.sky import lm_to_radec
from ...imaging.smearing import mean_smearing, uvw_rate
from .gainfield import beam_ratio, facet_radec
from .stationbeams import StationBeams

NODES = 5
"""Nodes along each side of a facet."""

SMEARING_TIMES = 8
"""Times of each measurement set from which mean smearing and mean weights are taken."""


@dataclass
class FacetMaps:
    """Smooth maps of every facet of an image.

    beam : (facet, band, NODES, NODES) flux seen with the gain of the centre over the true flux
    smear : (facet, NODES, NODES) mean decorrelation over that at the centre
    stations : beams of single stations anywhere in the image, None without a beam
    """

    facets: FacetSet
    beam: np.ndarray
    smear: np.ndarray
    stations: StationBeams | None = None

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
    """Evaluate beam and smearing at the nodes of every facet.

    beam : None, the Beam of all measurement sets, or a list with one for each of them
    """
    n_facets = len(facets.facets)
    beams = np.ones((n_facets, data.n_bands, NODES, NODES))
    smears = np.ones((n_facets, NODES, NODES))
    stations = _station_beams(data, facets, beam)
    if stations is not None:
        weights, freqs = pair_weights(data.sets, data.n_bands), band_quadrature(data)
    for facet in facets.facets:
        l, m = response_nodes(facet, facets.cell, NODES, NODES)
        inside = l**2 + m**2 < 0.25
        if stations is not None:
            ra, dec = lm_to_radec(l[inside], m[inside], *data.phase_centre)
            beams[facet.index][:, inside] = beam_ratio(
                stations.beams[0], stations.caches, freqs, weights,
                facet_radec(facet, data.phase_centre), np.stack([ra, dec], axis=1),
            )
        if decorrelation:
            smears[facet.index][inside] = smearing_ratio(
                data.sets, facet, l[inside], m[inside]
            )
    return FacetMaps(facets, beams, smears, stations)


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
