"""Scalar station gains towards every facet: solutions times beam, and how the beam bends inside.

A facet is gridded and degridded with the gain of its centre.  What changes inside it (the beam and
the smearing) enters as a smooth map, so that fluxes stay right up to the facet's edge.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ...calibration.gains import GainTable, interpolate_index, normalize, phases_only
from ...data import solutions
from ...errors import SolveError
from ...imaging.facets import Facet, FacetSet
from ...imaging.gains import StationGains
from ...imaging.sky import lm_to_radec
from .stationbeams import beam_times, frequency_blocks, interpolate_times

BEAM_INTERVAL = 300.0
"""Seconds between evaluations of the beam; it is interpolated linearly between them."""

RESPONSE_TIMES = 16
"""Times over the observation at which the beam inside a facet is averaged."""


@dataclass(frozen=True)
class LoadedGains:
    """Solution tables of one measurement set with the blocks of its times and channels."""

    tables: tuple[GainTable, ...]
    time_index: tuple[np.ndarray, ...]
    chan_index: tuple[np.ndarray, ...]


def load_gains(choice, cache, solsdir) -> LoadedGains:
    """Tables of a `GainChoice` for one measurement set, normalised, phases only if so chosen.

    Raises
    ------
    SolveError : a table is missing or is of other stations
    """
    tables, times, chans = [], [], []
    for name in choice.names if choice else ():
        table = solutions.load_solution(solsdir, cache.name, name)
        if list(table.ant_names) != list(cache.ant_names):
            raise SolveError(
                f"solutions {name} of {cache.name} are for other stations than the measurement "
                "set holds: redo the solve"
            )
        table = phases_only(table) if choice.mode == "P" else normalize(table, choice.normalize)
        time_index, chan_index = interpolate_index(table, cache.time, cache.freq)
        tables.append(table)
        times.append(time_index)
        chans.append(chan_index)
    return LoadedGains(tuple(tables), tuple(times), tuple(chans))


class GainField:
    """Gains of one measurement set towards the facets of an image.

    Parameters
    ----------
    cache : VisCache
    facets : FacetSet
    loaded : LoadedGains, direction-dependent solutions (may be empty)
    beam : Beam of this measurement set
    """

    def __init__(self, cache, facets: FacetSet, loaded: LoadedGains, beam):
        self.cache = cache
        self.loaded = loaded
        self.chan_index, self._first_chan = self._frequency_blocks()
        self._beam_grid = beam_times(cache.time, BEAM_INTERVAL)
        centres = [facet_radec(f, cache.phase_centre) for f in facets.facets]
        self._beam = self._evaluate_beam(beam, np.array(centres))
        self._dirs = [self._nearest_directions(f, cache.phase_centre) for f in facets.facets]

    def _frequency_blocks(self):
        keys = np.stack([frequency_blocks(self.cache.freq), *self.loaded.chan_index], axis=1)
        _, first, index = np.unique(keys, axis=0, return_index=True, return_inverse=True)
        return index.reshape(-1).astype(np.int64), first

    def _evaluate_beam(self, beam, centres):
        freqs = np.array(
            [self.cache.freq[self.chan_index == k].mean() for k in range(len(self._first_chan))]
        )
        return beam.response(
            times=self._beam_grid, freqs=freqs, ra=centres[:, 0], dec=centres[:, 1]
        )

    def _nearest_directions(self, facet: Facet, phase_centre):
        ra, dec = lm_to_radec(facet.l_dir, facet.m_dir, *phase_centre)
        return [nearest_direction(t.directions, ra, dec) for t in self.loaded.tables]

    def beam(self, facet_index: int, part: slice = slice(None)) -> np.ndarray:
        """(time, chan_block, ant) complex64 beam at the centre of a facet, for a slice of time."""
        values = np.swapaxes(self._beam[..., facet_index], 1, 2)  # (grid, ant, chan_block)
        out = interpolate_times(self._beam_grid, values, self.cache.time[part])
        return np.ascontiguousarray(np.swapaxes(out, 1, 2)).astype(np.complex64)

    def solution(self, facet_index: int, part: slice = slice(None)) -> np.ndarray:
        """(time, chan_block, ant) complex64 product of the solutions towards a facet."""
        shape = (len(self.cache.time[part]), len(self._first_chan), self.cache.n_ant)
        out = np.ones(shape, np.complex64)
        loaded = self.loaded
        for i, table in enumerate(loaded.tables):
            direction = self._dirs[facet_index][i]
            chan = loaded.chan_index[i][self._first_chan]
            values = table.gains[..., direction, 0]
            values = np.where(table.flag[..., direction, 0], 1, values)
            out *= values[loaded.time_index[i][part][:, None], chan[None, :]]
        return out

    def gain(self, facet_index: int, part: slice = slice(None)) -> np.ndarray:
        """(time, chan_block, ant) complex64 voltage gain towards a facet's centre."""
        return self.beam(facet_index, part) * self.solution(facet_index, part)

    def stations(self, facet_index: int, part: slice, chans=slice(None)) -> StationGains:
        """The gains towards a facet for a slice of time and channels, as the kernels take them."""
        gain = self.gain(facet_index, part)
        cache = self.cache
        return StationGains(
            gain, np.arange(len(gain)), self.chan_index[chans], cache.ant1, cache.ant2
        )


def facet_radec(facet: Facet, phase_centre) -> tuple[float, float]:
    """Right ascension and declination (rad) of a facet's centre."""
    return lm_to_radec(facet.l0, facet.m0, *phase_centre)


def nearest_direction(directions: np.ndarray, ra: float, dec: float) -> int:
    """Index of the direction (n, 2) in rad that lies nearest to (ra, dec)."""
    d_ra = np.angle(np.exp(1j * (directions[:, 0] - ra))) * np.cos(dec)
    return int(np.argmin(d_ra**2 + (directions[:, 1] - dec) ** 2))


def beam_ratio(beam, caches, freqs, pair_weight, centre, nodes) -> np.ndarray:
    """Mean apparent response at `nodes` over that at a facet's centre, for one sub-band.

    A visibility gridded with the beam of the centre sees a source at x through
    `Re sum w K_c* K_x / sum w |K_c|²`.

    Parameters
    ----------
    beam : Beam
    caches : VisCache of the measurement sets (their times are used)
    freqs : (band, k) Hz, frequencies over which the mean of each sub-band is taken
    pair_weight : (band, ant, ant) sum of the weights of each pair of stations
    centre : (2,) ra, dec rad
    nodes : (n, 2) ra, dec rad

    Returns
    -------
    (band, n) float64
    """
    time = np.unique(np.concatenate([c.time for c in caches]))
    times = time[np.unique(np.linspace(0, len(time) - 1, RESPONSE_TIMES).astype(int))]
    where = np.concatenate([np.asarray(centre)[None], nodes])
    freqs = np.asarray(freqs)
    response = beam.response(times=times, freqs=freqs.ravel(), ra=where[:, 0], dec=where[:, 1])
    inner = response * np.conj(response[..., :1])
    inner = inner.reshape(len(times), *freqs.shape, *inner.shape[2:])
    power = np.einsum("tbkpd,bpq,tbkqd->bd", inner, pair_weight, np.conj(inner), optimize=True)
    power = power.real
    return power[:, 1:] / np.where(power[:, :1] > 0, power[:, :1], 1)
