"""Visibilities of a facet from few of them: nodes in time and frequency, and what lies between.

Seen from a facet's centre, what lies within R of it turns a baseline's phase between the ends of a
block of times or channels by no more than 2 kappa,

    kappa = pi nu/c (R |d(u, v)| + N |dw|),    N: largest |n - n0|,

d being the change over the block.  As a function of time or frequency such a visibility is band
limited, and some kappa + 5 samples, the nodes, say all that there is to say: of the 60 % of LOFAR's
baselines that are shorter than 4 km, some 20 of 640.  Nodes are samples themselves, chosen one
after the other where the others say least (pivoted Cholesky factors of the covariance; Harbrecht,
Peters & Schneider 2012, Appl. Numer. Math. 62, 428).  What lies between follows from them by the
linear estimate of least mean square error for a signal that fills the band evenly.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numba import njit

from ddfpipe.imaging.components import channel_runs
from ddfpipe.imaging.gains import StationGains, times_conjugate
from ddfpipe.imaging.lanes import LANES, fma, fnma, load, mul, splat, spread, store
from ddfpipe.imaging.phasor import BORROW, FASTMATH, reduce_turns, sincos_turns
from ddfpipe.imaging.smearing import uvw_rate
from ddfpipe.units import SPEED_OF_LIGHT

SLOTS = 32
"""Most times of a block."""

ACCURACY = 1e-4
"""Rms error of what lies between nodes, for a source at the distance R."""

MOST = 0.6
"""Part of the samples from which on all of them are worked out."""

FEW = 20_000
"""Visibilities of a class of baselines below which it joins the next."""

_ROWS = 128
"""Baselines treated at once: their sums over all channels fit the first-level cache."""


@lru_cache(1024)
def _between(places: tuple[float, ...], kappa: float) -> tuple[np.ndarray, np.ndarray]:
    """Nodes (m,) among samples at `places` from -1 to 1, and weights (sample, m) float32 with
    which they give all samples of a signal of half-band `kappa` rad."""
    x = np.array(places)
    covariance = np.sinc(np.subtract.outer(x, x) * (kappa / np.pi))
    left, columns, nodes = np.ones(x.size), np.zeros((x.size, x.size)), []
    while len(nodes) < x.size and (not nodes or left.max() > ACCURACY**2):
        k, n = int(np.argmax(left)), len(nodes)
        columns[:, n] = (covariance[:, k] - columns[:, :n] @ columns[k, :n]) / np.sqrt(left[k])
        left = np.maximum(left - columns[:, n] ** 2, 0.0)
        nodes.append(k)
        left[nodes] = 0.0
    nodes = np.sort(np.array(nodes, np.int64))
    inner = covariance[np.ix_(nodes, nodes)] + 1e-13 * np.eye(nodes.size)
    return nodes, np.linalg.solve(inner, covariance[nodes]).T.astype(np.float32)


@dataclass(frozen=True, eq=False)
class Axis:
    """Nodes of an axis of n samples.

    nodes (m,) int64, ascending; first (n,) int64, count (n,) int64: the nodes that give a sample;
    weight (n, most) float32.
    """

    nodes: np.ndarray
    first: np.ndarray
    count: np.ndarray
    weight: np.ndarray

    @classmethod
    def of(cls, blocks: list[np.ndarray], values: np.ndarray, kappa: float, span: float) -> Axis:
        """Nodes of blocks (samples that follow each other) of an axis of ascending or descending
        `values` (n,); kappa: rad, that of a block whose ends are `span` apart."""
        nodes, first, count, rows = [], [], [], []
        for block in blocks:
            x = values[block]
            middle, half = 0.5 * (x[0] + x[-1]), max(0.5 * abs(x[-1] - x[0]), 1e-300)
            places = tuple(np.round((x - middle) / half, 6))
            here, weight = _between(places, _rounded(kappa * 2 * half / span))
            first += [sum(map(len, nodes))] * len(block)
            count += [len(here)] * len(block)
            nodes.append(block[here])
            rows += list(weight)
        weight = np.zeros((values.size, max(count)), np.float32)
        for row, values_of in zip(weight, rows):
            row[:values_of.size] = values_of
        return cls(np.concatenate(nodes), np.array(first), np.array(count), weight)

    def arrays(self) -> tuple:
        """(first, count, flat weight, weights of a sample), what the compiled kernel takes."""
        return self.first, self.count, self.weight.ravel(), self.weight.shape[1]


def _rounded(kappa: float) -> float:
    """The next larger power of the fourth root of two, 0.1 at least: so that few are needed."""
    return float(2.0 ** (np.ceil(4 * np.log2(max(kappa, 0.1))) / 4))


@dataclass(frozen=True, eq=False)
class BaselineClass:
    """Baselines (n,) int64 with the same nodes in time and frequency; None, None: all samples."""

    baselines: np.ndarray
    time: Axis | None = None
    chan: Axis | None = None


def time_blocks(time: np.ndarray, interval: float) -> list[np.ndarray]:
    """Slots of each block: at most SLOTS, none across a gap.  time (n,) and interval in s."""
    gaps = np.flatnonzero(np.abs(np.diff(time)) > 1.5 * interval) + 1
    out = []
    for run in np.split(np.arange(time.size), gaps):
        out += np.array_split(run, -(-run.size // SLOTS))
    return out


@dataclass(frozen=True, eq=False)
class Chunk:
    """A chunk of visibilities, and how far its baselines reach.

    uvw (time, bl, 3) m; freq (chan,) Hz; time (time,) s; times, chans: samples of each block;
    uv, w: (bl,) m, largest; uv_rate, w_rate: (bl,) m/s, largest.  known (bl,) bool: coordinates are
    there at all times (zeros stand for unknown ones).
    """

    uvw: np.ndarray
    freq: np.ndarray
    time: np.ndarray
    times: list[np.ndarray]
    chans: list[np.ndarray]
    uv: np.ndarray
    w: np.ndarray
    uv_rate: np.ndarray
    w_rate: np.ndarray
    known: np.ndarray

    @classmethod
    def of(cls, uvw, freq, time, interval: float, dec0: float, bands: np.ndarray) -> Chunk:
        """interval s; dec0: declination of the phase centre, rad; bands (chan,): sub-band of each
        channel, across which a model may jump."""
        times = time_blocks(time, interval)
        ends = np.unique([i for block in times for i in (block[0], block[-1])])
        some = uvw[ends]
        rate = uvw_rate(some, dec0)
        edges = np.flatnonzero(np.diff(bands)) + 1
        return cls(
            uvw, freq, time, times, np.split(np.arange(freq.size), edges),
            np.hypot(some[..., 0], some[..., 1]).max(axis=0), np.abs(some[..., 2]).max(axis=0),
            np.hypot(rate[..., 0], rate[..., 1]).max(axis=0), np.abs(rate[..., 2]).max(axis=0),
            (uvw[..., 0] != 0).all(axis=0),
        )

    @property
    def size(self) -> int:
        """Visibilities."""
        return self.time.size * self.freq.size * self.uv.size

    def classes(self, radius: float, depth: float) -> list[BaselineClass]:
        """Baselines by the nodes that sources within `radius` (rad, in l and m) and `depth` (in n)
        of a facet's centre need."""
        span = max((abs(self.time[b[-1]] - self.time[b[0]]) for b in self.times), default=0.0)
        width = max((abs(self.freq[b[-1]] - self.freq[b[0]]) for b in self.chans), default=0.0)
        slow = np.pi / SPEED_OF_LIGHT * span * self.freq.max()
        kappa = np.stack([slow * (radius * self.uv_rate + depth * self.w_rate),
                          np.pi / SPEED_OF_LIGHT * width * (radius * self.uv + depth * self.w)])
        level = np.ceil(np.log2(np.maximum(kappa.max(axis=0), 0.25)))
        out, waiting = [], np.zeros(0, np.int64)
        if not self.known.all():
            out.append(BaselineClass(np.flatnonzero(~self.known)))
        levels = np.unique(level[self.known])
        for k in levels:
            waiting = np.append(waiting, np.flatnonzero((level == k) & self.known))
            if waiting.size * self.time.size * self.freq.size < FEW and k < levels[-1]:
                continue
            out.append(self._class(np.sort(waiting), kappa, span, width))
            waiting = waiting[:0]
        return out

    def _class(self, baselines, kappa, span: float, width: float) -> BaselineClass:
        most = kappa[:, baselines].max(axis=1)
        time = Axis.of(self.times, self.time, most[0], max(span, 1e-300))
        chan = Axis.of(self.chans, self.freq, most[1], max(width, 1e-300))
        if time.nodes.size * chan.nodes.size > MOST * self.time.size * self.freq.size:
            return BaselineClass(baselines)
        return BaselineClass(baselines, time, chan)

    def share(self, classes: list[BaselineClass]) -> float:
        """Part of the visibilities that are worked out."""
        parts = [c.baselines.size * (1.0 if c.time is None else
                                     c.time.nodes.size * c.chan.nodes.size
                                     / (self.time.size * self.freq.size)) for c in classes]
        return sum(parts) / max(self.uv.size, 1)


@njit(cache=True, nogil=True, fastmath=FASTMATH)
def _centred(vis, uvw, freq, centre, out):
    """out (2, time, chan, row) = vis (time, bl, chan) seen from the facet's centre."""
    l0, m0, n1 = centre
    for t in range(vis.shape[0]):
        for b in range(vis.shape[1]):
            tau = (uvw[t, b, 0] * l0 + uvw[t, b, 1] * m0 + uvw[t, b, 2] * n1) / SPEED_OF_LIGHT
            for c in range(vis.shape[2]):
                x, y = sincos_turns(reduce_turns(tau * freq[c]))
                v = vis[t, b, c]
                out[0, t, c, b] = v.real * x + v.imag * y
                out[1, t, c, b] = v.imag * x - v.real * y


@njit(**BORROW, forceinline=True)
def _combine(n, values, at, step, weight, first, count, out, to):
    """out[to + i] = sum over k < count of weight[first + k] values[at + k step + i], i < n."""
    for i in range(0, n, LANES):
        total = splat(np.float32(0))
        o = at + i
        for k in range(count):
            total = fma(spread(weight, first + k), load(values, o), total)
            o += step
        store(out, to + i, total)


@njit(**BORROW, forceinline=True)
def _rotate(n, phasor, out, at):
    """Turn out[at + i] + j out[at + i + half] by phasors [cos, sin, their step's cos, sin], which
    go on to the next channel."""
    half = out.size // 2
    for i in range(0, n, LANES):
        re, im = load(out, at + i), load(out, half + at + i)
        x, y = load(phasor, i), load(phasor, _ROWS + i)
        store(out, at + i, fnma(im, y, mul(re, x)))
        store(out, half + at + i, fma(im, x, mul(re, y)))
        p, q = load(phasor, 2 * _ROWS + i), load(phasor, 3 * _ROWS + i)
        store(phasor, i, fnma(y, q, mul(x, p)))
        store(phasor, _ROWS + i, fma(y, p, mul(x, q)))


@njit(cache=True, nogil=True, fastmath=FASTMATH, inline="always")
def _phasors(n, tau, nu, first, phasor):
    """phasor[first: first + n] and the next _ROWS: cosine and sine of 2 pi tau nu."""
    for i in range(n):
        x, y = sincos_turns(reduce_turns(tau[i] * nu))
        phasor[first + i], phasor[first + _ROWS + i] = x, y


@njit(cache=True, nogil=True, fastmath=FASTMATH, inline="always")
def _gains(n, gain, t, f, ant1, ant2, scale, phasor):
    """Multiply the first phasors by scale g_p g_q*."""
    for i in range(n):
        kr, ki = times_conjugate(gain[t, f, ant1[i]], gain[t, f, ant2[i]])
        kr, ki = scale * kr, scale * ki
        x, y = phasor[i], phasor[_ROWS + i]
        phasor[i], phasor[_ROWS + i] = x * kr - y * ki, x * ki + y * kr


@njit(cache=True, nogil=True, fastmath=FASTMATH)
def _spread(nodes, shape, time, chan, baselines, uvw, freq, runs, centre, gains, scale, out):
    """Add scale K V to out (time, bl, chan, 2), V from its nodes, flat (2, time, chan, row).

    shape: (node times, node channels, rows); time, chan: first, count and flat weight of each
    sample, and how many weights one has.
    """
    edges, unit = runs
    gain, time_index, chan_index, ant1, ant2 = gains
    first_t, count_t, weight_t, most_t = time
    first_c, count_c, weight_c, most_c = chan
    l0, m0, n1 = centre
    n_t, n_f, rows = shape
    n_chan, half = freq.size, n_t * n_f * rows
    part = np.empty(2 * n_f * _ROWS, np.float32)
    full = np.empty(2 * n_chan * _ROWS, np.float32)
    phasor, tau = np.zeros(4 * _ROWS, np.float32), np.empty(_ROWS)
    a, b = np.empty(_ROWS, np.int64), np.empty(_ROWS, np.int64)
    for b0 in range(0, baselines.size, _ROWS):
        n = min(_ROWS, baselines.size - b0)
        for i in range(n):
            a[i], b[i] = ant1[baselines[b0 + i]], ant2[baselines[b0 + i]]
        for t in range(out.shape[0]):
            for f in range(2 * n_f):
                at = (f // n_f) * half + (first_t[t] * n_f + f % n_f) * rows + b0
                _combine(n, nodes, at, n_f * rows, weight_t, t * most_t, count_t[t], part,
                         f * _ROWS)
            for i in range(n):
                k = baselines[b0 + i]
                tau[i] = (uvw[t, k, 0] * l0 + uvw[t, k, 1] * m0 + uvw[t, k, 2] * n1) \
                    / SPEED_OF_LIGHT
            for run in range(edges.size - 1):
                c0 = edges[run]
                _phasors(n, tau, freq[c0], 0, phasor)
                if run == 0 or unit[run] != unit[run - 1]:
                    _phasors(n, tau, unit[run], 2 * _ROWS, phasor)
                _gains(n, gain, time_index[t], chan_index[c0], a, b, scale, phasor)
                for c in range(c0, edges[run + 1]):
                    for half_of in range(2):
                        _combine(n, part, (half_of * n_f + first_c[c]) * _ROWS, _ROWS, weight_c,
                                 c * most_c, count_c[c], full, (half_of * n_chan + c) * _ROWS)
                    _rotate(n, phasor, full, c * _ROWS)
            for i in range(n):
                k = baselines[b0 + i]
                for c in range(n_chan):
                    out[t, k, c, 0] += full[c * _ROWS + i]
                    out[t, k, c, 1] += full[(n_chan + c) * _ROWS + i]


def spread_nodes(vis, chunk: Chunk, kind: BaselineClass, centre, gains: StationGains,
                 scale: float, out) -> None:
    """Add scale K V to all samples of a class of baselines.

    vis (node time, bl of the class, node channel) complex64: V at the nodes; centre: (l, m, n - 1)
    of the facet; gains of all baselines of the chunk; out (time, bl, chan) complex64.
    """
    time, chan = kind.time, kind.chan
    uvw, freq = chunk.uvw, chunk.freq
    rows = -(-kind.baselines.size // LANES) * LANES
    shape = time.nodes.size, chan.nodes.size, rows
    nodes = np.zeros((2, *shape), np.float32)
    _centred(vis, uvw[np.ix_(time.nodes, kind.baselines)], freq[chan.nodes], centre, nodes)
    edges, unit, _, _ = channel_runs(freq, gains.chan_index, 1)
    _spread(nodes.ravel(), shape, time.arrays(), chan.arrays(), kind.baselines, uvw, freq,
            (edges, unit), centre, gains.arrays(), np.float32(scale),
            out.view(np.float32).reshape(*out.shape, 2))
