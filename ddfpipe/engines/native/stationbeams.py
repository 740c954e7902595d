"""Station beams anywhere in an image, relative to a facet's centre.

Over a facet of a degree and more stations of different sizes lose different parts of the flux, so
no single number a component is right for all baselines.  The beams of all stations are evaluated on
nodes over the whole image, once a measurement set, and carried to any direction by splines.  Over a
field so wide that it has more nodes than sources, they are evaluated towards the sources instead.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field

import numpy as np

from ...imaging.gains import StationGains
from ...imaging.sky import lm_to_radec
from ...units import DEGREE, MHZ

NODE_STEP = 0.5 * DEGREE
"""Distance of the nodes, a tenth of the width of a station's beam."""

MOST_NODES = 625
"""Fields of more nodes (12 degrees) are wide ones, in which sources are few; 0.4 ms a node and time
for 62 stations of LOFAR would be minutes a measurement set."""

BEAM_INTERVAL = 900.0
"""Seconds between evaluations: the field turns by at most 3.75 degrees in between."""

BEAM_CHANNEL = 1.0 * MHZ
"""Widest range of frequency over which one beam is used."""


def beam_times(time: np.ndarray, interval: float) -> np.ndarray:
    """Times (n,) that cover `time` (time,) at most `interval` seconds apart."""
    span = time[-1] - time[0]
    n = int(np.ceil(span / interval)) + 1 if span > 0 else 1
    return np.linspace(time[0], time[-1], n) if n > 1 else np.array([time.mean()])


def between(grid: np.ndarray, time: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(n,) int64 knot of a grid (grid,) before each of the times (n,), and (n,) float32 share of
    the next; outside the grid the nearest knot's value holds."""
    if len(grid) == 1:
        return np.zeros(len(time), np.int64), np.zeros(len(time), np.float32)
    left = np.clip(np.searchsorted(grid, time), 1, len(grid) - 1) - 1
    share = (time - grid[left]) / (grid[left + 1] - grid[left])
    return left, np.clip(share, 0, 1).astype(np.float32)


def interpolate_times(grid: np.ndarray, values: np.ndarray, time: np.ndarray) -> np.ndarray:
    """Linear interpolation of `values` (grid, ...) to `time` (time,)."""
    if len(grid) == 1:
        return np.broadcast_to(values, (len(time),) + values.shape[1:])
    left, share = between(grid, time)
    x = share.reshape((-1,) + (1,) * (values.ndim - 1))
    return (1 - x) * values[left] + x * values[left + 1]


def frequency_blocks(freq: np.ndarray) -> np.ndarray:
    """(chan,) number of the block of at most BEAM_CHANNEL that holds each channel."""
    n = max(1, int(np.ceil((freq.max() - freq.min()) / BEAM_CHANNEL)))
    edges = np.linspace(freq.min(), freq.max() + 1, n + 1)
    return np.searchsorted(edges, freq, side="right") - 1


class _Nodes:
    """Beams of one measurement set on the nodes, or for a wide field at the places asked for."""

    def __init__(self, beam, cache, axis: np.ndarray):
        self.grid = beam_times(cache.time, BEAM_INTERVAL)
        blocks = frequency_blocks(cache.freq)
        names, self.chan_index = np.unique(blocks, return_inverse=True)
        self._beam, self._centre = beam, cache.phase_centre
        self._freqs = np.array([cache.freq[blocks == k].mean() for k in names])
        self._axis, self._spline, self._seen = axis, None, {}
        self._lock = threading.Lock()
        if axis.size**2 <= MOST_NODES:
            from scipy.interpolate import BSpline, make_interp_spline

            m, l = np.meshgrid(axis, axis, indexing="ij")
            values = self._response(l.ravel(), m.ravel())
            values = values.reshape(*values.shape[:3], axis.size, axis.size)
            for _ in range(2):  # coefficients of cubic splines along m, then along l
                values = np.moveaxis(values, 3, 0)
                spline = make_interp_spline(axis, values, k=3)
                values = np.moveaxis(spline.c, 0, -1)
            self._values = np.ascontiguousarray(values, np.complex64)
            self._spline = BSpline(spline.t, np.eye(axis.size), 3)

    def _response(self, l, m) -> np.ndarray:
        """(grid, block, ant, n) complex64 towards direction cosines (n,)."""
        ra, dec = lm_to_radec(l, m, *self._centre)
        return self._beam.response(times=self.grid, freqs=self._freqs, ra=ra, dec=dec)

    def at(self, l: float, m: float) -> np.ndarray:
        """(grid, block, ant) complex64 beam at direction cosines l, m."""
        half = self._axis[-1]
        l, m = np.clip([l, m], -half, half)
        if self._spline is None:
            return self._towards(float(l), float(m))
        along = self._spline([m, l]).astype(np.float32)
        y, x = (np.flatnonzero(weight) for weight in along)  # four of each at most
        near = self._values[..., y[0]:y[-1] + 1, x[0]:x[-1] + 1]
        # a plain sum: too little work for the threads that BLAS would start
        return np.einsum("tfpyx,y,x->tfp", near, along[0, y[0]:y[-1] + 1],
                         along[1, x[0]:x[-1] + 1])

    def _towards(self, l: float, m: float) -> np.ndarray:
        with self._lock:  # threads that work on other times ask for the same places
            if (l, m) not in self._seen:
                self._seen[l, m] = self._response(np.array([l]), np.array([m]))[..., 0]
            return self._seen[l, m]


@dataclass
class StationBeams:
    """Beams of the stations of every measurement set of a job.

    beams : list of Beam, one a set; caches : list of VisCache; width : rad, of the image
    """

    beams: list
    caches: list
    width: float
    _nodes: dict = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self):
        n = max(4, int(np.ceil(self.width / NODE_STEP)) + 1)
        # the corners of a very large image lie behind the horizon
        half = min(self.width / 2, 0.7)
        self.axis = np.linspace(-half, half, n)

    def _of(self, cache) -> _Nodes:
        with self._lock:  # evaluated once, by whoever needs it first
            if cache.path not in self._nodes:
                beam = self.beams[[c.path for c in self.caches].index(cache.path)]
                self._nodes[cache.path] = _Nodes(beam, cache, self.axis)
            return self._nodes[cache.path]

    def towards(self, cache, facet, l, m) -> np.ndarray:
        """(n, knot, block, ant) complex64 voltage gains towards places l, m (n,) over those towards
        a facet's centre, at the times between which `knots` tells where others lie.

        Stations blind towards the centre have a ratio of zero.
        """
        nodes = self._of(cache)
        centre = nodes.at(facet.l0, facet.m0)
        seen = np.abs(centre) > 0
        over = np.where(seen, 1 / np.where(seen, centre, 1), 0)
        return np.stack([nodes.at(*place) * over for place in zip(l, m)])

    def knots(self, cache, time: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(n,) int64 knot before each of the times (n,), and (n,) float32 share of the next."""
        return between(self._of(cache).grid, time)

    def blocks(self, cache) -> np.ndarray:
        """(chan,) block of every channel of a measurement set."""
        return self._of(cache).chan_index

    def ratio(self, cache, part: slice, facet, l: float, m: float) -> StationGains:
        """The gains of `towards` towards one place for a slice of time."""
        values = self.towards(cache, facet, [l], [m])[0]
        gain = interpolate_times(self._of(cache).grid, values, cache.time[part])
        return StationGains(
            gain, np.arange(len(gain)), self.blocks(cache), cache.ant1, cache.ant2
        )
