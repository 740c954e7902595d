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
from ...units import MHZ

BEAM_INTERVAL = 300.0
"""Seconds between evaluations of the beam; it is interpolated linearly between them."""

BEAM_CHANNEL = 1.0 * MHZ
"""Widest range of frequency over which one beam is used."""

RESPONSE_TIMES = 16
"""Times over the observation at which the beam inside a facet is averaged."""


def beam_times(time: np.ndarray, interval: float = BEAM_INTERVAL) -> np.ndarray:
    """Times (n,) that cover `time` (time,) at most `interval` seconds apart."""
    span = time[-1] - time[0]
    n = int(np.ceil(span / interval)) + 1 if span > 0 else 1
    return np.linspace(time[0], time[-1], n) if n > 1 else np.array([time.mean()])


def interpolate_times(grid: np.ndarray, values: np.ndarray, time: np.ndarray) -> np.ndarray:
    """Linear interpolation of `values` (grid, ...) to `time` (time,)."""
    if len(grid) == 1:
        return np.broadcast_to(values, (len(time),) + values.shape[1:])
    right = np.clip(np.searchsorted(grid, time), 1, len(grid) - 1)
    x = (time - grid[right - 1]) / (grid[right] - grid[right - 1])
    x = np.clip(x, 0, 1).reshape((-1,) + (1,) * (values.ndim - 1)).astype(np.float32)
    return (1 - x) * values[right - 1] + x * values[right]


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
        self._beam_grid = beam_times(cache.time)
        centres = [facet_radec(f, cache.phase_centre) for f in facets.facets]
        self._beam = self._evaluate_beam(beam, np.array(centres))
        self._dirs = [self._nearest_directions(f, cache.phase_centre) for f in facets.facets]

    def _frequency_blocks(self):
        freq = self.cache.freq
        n_beam = max(1, int(np.ceil((freq.max() - freq.min()) / BEAM_CHANNEL)))
        edges = np.linspace(freq.min(), freq.max() + 1, n_beam + 1)
        beam_block = np.searchsorted(edges, freq, side="right") - 1
        keys = np.stack([beam_block, *self.loaded.chan_index], axis=1)
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

    def beam(self, facet_index: int) -> np.ndarray:
        """(time, chan_block, ant) complex64 beam at the centre of a facet."""
        values = np.swapaxes(self._beam[..., facet_index], 1, 2)  # (grid, ant, chan_block)
        out = interpolate_times(self._beam_grid, values, self.cache.time)
        return np.ascontiguousarray(np.swapaxes(out, 1, 2)).astype(np.complex64)

    def solution(self, facet_index: int) -> np.ndarray:
        """(time, chan_block, ant) complex64 product of the solutions towards a facet."""
        shape = (len(self.cache.time), len(self._first_chan), self.cache.n_ant)
        out = np.ones(shape, np.complex64)
        loaded = self.loaded
        for i, table in enumerate(loaded.tables):
            direction = self._dirs[facet_index][i]
            chan = loaded.chan_index[i][self._first_chan]
            values = table.gains[..., direction, 0]
            values = np.where(table.flag[..., direction, 0], 1, values)
            out *= values[loaded.time_index[i][:, None], chan[None, :]]
        return out

    def gain(self, facet_index: int) -> np.ndarray:
        """(time, chan_block, ant) complex64 voltage gain towards a facet's centre."""
        return self.beam(facet_index) * self.solution(facet_index)

    def stations(self, facet_index: int, part: slice, chans=slice(None)) -> StationGains:
        """The gains towards a facet for a slice of time and channels, as the kernels take them."""
        gain = self.gain(facet_index)[part]
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


def beam_ratio(beam, caches, freqs, station_weight, centre, nodes) -> np.ndarray:
    """Mean apparent response at `nodes` over that at a facet's centre, for one sub-band.

    A visibility gridded with the beam of the centre sees a source at x through
    `Re sum w K_c* K_x / sum w |K_c|²`; with K a product of two stations' beams the sum over
    baselines is the square of a sum over stations.

    Parameters
    ----------
    beam : Beam
    caches : VisCache of the measurement sets (their times are used)
    freqs : (band,) Hz
    station_weight : (ant,) float, weight of each station
    centre : (2,) ra, dec rad
    nodes : (n, 2) ra, dec rad

    Returns
    -------
    (band, n) float64
    """
    time = np.unique(np.concatenate([c.time for c in caches]))
    times = time[np.unique(np.linspace(0, len(time) - 1, RESPONSE_TIMES).astype(int))]
    where = np.concatenate([np.asarray(centre)[None], nodes])
    response = beam.response(times=times, freqs=np.asarray(freqs), ra=where[:, 0], dec=where[:, 1])
    weight = station_weight / station_weight.sum()
    inner = np.einsum("tfad,a,tfa->tfd", response, weight, np.conj(response[..., 0]))
    power = (np.abs(inner) ** 2).sum(axis=0)
    return power[:, 1:] / power[:, :1]
