"""Baseline-dependent averaging towards a facet, fused with rotation, gains and weights.

A visibility turned to the facet's centre varies slowly, the slower the shorter its baseline, and
can be averaged over several times and channels before it is gridded.  The loss of a mean of N
samples with phase step theta at the facet's edge is (N² - 1) theta²/24 to second order
(Cotton 1999, ASP Conf. 180, 357; Wijnholds et al. 2018, MNRAS 476, 2029).

Each mean belongs to the w|K|²-weighted centroid of its uvw in wavelengths: that is where it puts
a source without an error of first order, also where samples are flagged or gains change.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numba import njit

from ddfpipe.errors import ImagingError
from ddfpipe.imaging.facets import Facet
from ddfpipe.imaging.gains import StationGains, baseline_gain
from ddfpipe.imaging.phasor import FASTMATH, reduce_turns, sincos_turns
from ddfpipe.imaging.sky import n_minus_one
from ddfpipe.units import SPEED_OF_LIGHT


class Samples(NamedTuple):
    """Averaged visibilities of one chunk as seen by one facet.

    uvw: (n, 3) float64, wavelengths.  vis: (n,) complex64, mean of w K* V over the mean of w, with
    the phase that the facet's centre has at uvw.  weight: (n,) float32, sum of w.  norm: (n,)
    float32, sum of w|K|².  Grid `vis` with `weight`, and a unit source with `norm` for the PSF.
    sum_weight, sum_norm: totals of w and w|K|² over the chunk, float64.
    """

    uvw: np.ndarray
    vis: np.ndarray
    weight: np.ndarray
    norm: np.ndarray
    sum_weight: float
    sum_norm: float


@dataclass(frozen=True, eq=False)
class AveragingPlan:
    """How many times and channels of each baseline of a chunk become one sample.

    n_time, n_chan: (bl,) int64, largest number of times and channels averaged.
    last: (time,) bool, True where a run of times without gap ends.
    edges: (chan + 1, chan + 1) int64; row F holds the edges of the channel groups of at most F
        channels, none across a gap in frequency; n_groups: (chan + 1,) int64 their number.
    """

    n_time: np.ndarray
    n_chan: np.ndarray
    last: np.ndarray
    edges: np.ndarray
    n_groups: np.ndarray

    @property
    def n_samples(self) -> int:
        """Upper bound of the number of samples of a chunk."""
        runs = np.diff(np.flatnonzero(np.r_[True, self.last]))
        cells = sum(-(-int(r) // self.n_time) for r in runs)
        return int((cells * self.n_groups[self.n_chan]).sum())


def _channel_groups(freq: np.ndarray, chan_width: float) -> tuple[np.ndarray, np.ndarray]:
    """(edges, n_groups) of AveragingPlan: runs without gap, split into even groups."""
    gaps = np.flatnonzero(np.abs(np.diff(freq)) > 1.5 * chan_width) + 1
    runs = np.r_[0, gaps, freq.size]
    edges = np.zeros((freq.size + 1, freq.size + 1), np.int64)
    n_groups = np.zeros(freq.size + 1, np.int64)
    for size in range(1, freq.size + 1):
        row = [0]
        for a, b in zip(runs[:-1], runs[1:]):
            parts = -(-(b - a) // size)
            row += [a + (b - a) * (k + 1) // parts for k in range(parts)]
        edges[size, : len(row)] = row
        n_groups[size] = len(row) - 1
    return edges, n_groups


def plan_averaging(*, uvw, rate, freq, chan_width: float, interval: float, facet: Facet,
                   cell: float, dec: float, times=None) -> AveragingPlan:
    """Choose n_time and n_chan of each baseline so that the facet's edge loses at most `dec`.

    uvw (time, bl, 3) m and rate (time, bl, 3) m/s of the chunk; freq (chan,) and chan_width Hz;
    interval s between samples; times (time,) s tells gaps (more than 1.5 intervals), None means
    there are none.  dec: relative loss of amplitude of time and frequency together, for even
    weights (very uneven ones can lose up to three times that); 0 averages nothing.
    """
    freq = np.atleast_1d(np.asarray(freq, np.float64))
    n_t, n_bl = uvw.shape[:2]
    last = np.ones(n_t, bool)
    if n_t > 1:
        last[:-1] = False if times is None else np.diff(times) > 1.5 * interval
    edges, n_groups = _channel_groups(freq, chan_width)
    n_time, n_chan = np.ones(n_bl, np.int64), np.ones(n_bl, np.int64)
    if dec > 0 and n_t * n_bl:
        # near the centre (l0, m0) the phase grows like u - w l0/n0 and v - w m0/n0
        tilt = np.array([facet.l0, facet.m0]) / (1.0 + n_minus_one(facet.l0, facet.m0))
        turn = 2.0 * np.pi * facet.radius(cell) / SPEED_OF_LIGHT
        length, speed = (turn * np.hypot(x[..., 0] - x[..., 2] * tilt[0],
                                         x[..., 1] - x[..., 2] * tilt[1]).max(0)
                         for x in (np.asarray(uvw), np.asarray(rate)))
        per_time = np.maximum(speed * interval * freq.max(), 1e-9) ** 2 / 24.0
        for size in range(1, freq.size + 1):
            left = dec - (size**2 - 1) * (length * chan_width) ** 2 / 24.0
            n = np.sqrt(np.maximum(left, 0.0) / per_time + 1.0).astype(np.int64).clip(1, n_t)
            better = (left >= 0) & (n * size > n_time * n_chan)
            n_time[better], n_chan[better] = n[better], size
    return AveragingPlan(n_time, n_chan, last, edges, n_groups)


@njit(cache=True, nogil=True, fastmath=FASTMATH, forceinline=True)
def _turn(uvw, nu, centre, pc, ps):
    """Cosine and sine of the phase of the facet's centre for rows uvw (row, 3) s, chan nu Hz."""
    n = nu.size
    for r in range(uvw.shape[0]):
        tau = uvw[r, 0] * centre[0] + uvw[r, 1] * centre[1] + uvw[r, 2] * centre[2]
        for c in range(n):
            pc[r * n + c] = reduce_turns(tau * nu[c])
    for i in range(uvw.shape[0] * n):
        pc[i], ps[i] = sincos_turns(pc[i])


@njit(cache=True, nogil=True, fastmath=FASTMATH, forceinline=True)
def _weigh(vis, weight, kr, ki, chan_index, pc, ps, wr, wi, wn):
    """wr + i wi = w K* V exp(-i phase) and wn = w|K|² of one row; zero where w is not positive."""
    zero = np.float32(0)
    for c in range(vis.size):
        f = chan_index[c]
        w = weight[c]
        good = w > zero
        w = w if good else zero
        x = vis[c].real if good else zero
        y = vis[c].imag if good else zero
        # K* exp(-i phase) = conj(K exp(i phase))
        a = w * (kr[f] * pc[c] - ki[f] * ps[c])
        b = w * (kr[f] * ps[c] + ki[f] * pc[c])
        wr[c] = x * a + y * b
        wi[c] = y * a - x * b
        wn[c] = w * (kr[f] * kr[f] + ki[f] * ki[f])


@njit(cache=True, nogil=True, fastmath=FASTMATH, forceinline=True)
def _gather(uvw, nu, offset, weight, wr, wi, wn, edges, n_groups, small, large):
    """Add one row to its cells: small (3, group) re, im, w; large (4, group) w|K|² u, v, w, 1.

    offset: (chan,) float32, nu/nu[0] - 1: sums in single precision stay exact enough so.
    """
    zero = np.float32(0)
    for g in range(n_groups):
        re = im = ws = ns = xs = zero
        for c in range(edges[g], edges[g + 1]):
            re += wr[c]
            im += wi[c]
            ws += max(weight[c], zero)
            ns += wn[c]
            xs += wn[c] * offset[c]
        small[0, g] += re
        small[1, g] += im
        small[2, g] += ws
        nf = nu[0] * (np.float64(ns) + np.float64(xs))
        large[0, g] += nf * uvw[0]
        large[1, g] += nf * uvw[1]
        large[2, g] += nf * uvw[2]
        large[3, g] += ns


@njit(cache=True, nogil=True, fastmath=FASTMATH, forceinline=True)
def _emit(n_groups, centre, small, large, at, out, totals):
    """Turn the cells of one baseline into samples from position `at` on and clear them."""
    uvw, vis, weight, norm = out
    for g in range(n_groups):
        ws = small[2, g]
        ns = large[3, g]
        totals[0] += ws
        totals[1] += ns
        if ns > 0:
            u = large[0, g] / ns
            v = large[1, g] / ns
            w = large[2, g] / ns
            c, s = sincos_turns(reduce_turns(u * centre[0] + v * centre[1] + w * centre[2]))
            re = small[0, g] / ws
            im = small[1, g] / ws
            uvw[at, 0] = u
            uvw[at, 1] = v
            uvw[at, 2] = w
            vis[at] = complex(re * c - im * s, re * s + im * c)
            weight[at] = ws
            norm[at] = ns
            at += 1
        small[:, g] = 0
        large[:, g] = 0
    return at


@njit(cache=True, nogil=True, fastmath=FASTMATH, forceinline=True)
def _emit_row(coord, nu, vis, weight, kr, ki, chan_index, at, out, totals):
    """Samples of a row that is not averaged: K* V as it is, no turning there and back."""
    uvw, out_vis, out_weight, norm = out
    for c in range(nu.size):
        w = weight[c]
        f = chan_index[c]
        k2 = kr[f] * kr[f] + ki[f] * ki[f]
        if w > 0:
            totals[0] += w
            totals[1] += w * k2
            if k2 > 0:
                x = vis[c].real
                y = vis[c].imag
                uvw[at, 0] = coord[0] * nu[c]
                uvw[at, 1] = coord[1] * nu[c]
                uvw[at, 2] = coord[2] * nu[c]
                out_vis[at] = complex(x * kr[f] + y * ki[f], y * kr[f] - x * ki[f])
                out_weight[at] = w
                norm[at] = w * k2
                at += 1
    return at


@njit(cache=True, nogil=True, fastmath=FASTMATH)
def _pass(uvw, vis, weight, nu, centre, gains, plan, out, totals):
    """The fused pass, a block of baselines after the other; returns the number of samples."""
    gain, time_index, chan_index, ant1, ant2 = gains
    n_time, n_chan, last, edges, n_groups = plan
    n_t, n_bl, n_c = vis.shape
    rows = max(1, 512 // n_c)
    small, large = np.zeros((rows, 3, n_c), np.float32), np.zeros((rows, 4, n_c))
    count = np.zeros(n_bl, np.int64)
    pc, ps = np.empty(rows * n_c, np.float32), np.empty(rows * n_c, np.float32)
    wr, wi, wn = np.empty(n_c, np.float32), np.empty(n_c, np.float32), np.empty(n_c, np.float32)
    kr, ki = np.empty(gain.shape[1], np.float32), np.empty(gain.shape[1], np.float32)
    offset = (nu / nu[0] - 1.0).astype(np.float32)
    at = 0
    for b0 in range(0, n_bl, rows):
        b1 = min(b0 + rows, n_bl)
        for t in range(n_t):
            _turn(uvw[t, b0:b1], nu, centre, pc, ps)
            for b in range(b0, b1):
                r = b - b0
                i, size = r * n_c, n_chan[b]
                baseline_gain(gain, time_index[t], ant1[b], ant2[b], kr, ki)
                if n_time[b] * size == 1:
                    at = _emit_row(uvw[t, b], nu, vis[t, b], weight[t, b], kr, ki, chan_index, at,
                                   out, totals)
                    continue
                _weigh(vis[t, b], weight[t, b], kr, ki, chan_index, pc[i:i + n_c], ps[i:i + n_c],
                       wr, wi, wn)
                _gather(uvw[t, b], nu, offset, weight[t, b], wr, wi, wn, edges[size],
                        n_groups[size], small[r], large[r])
                count[b] += 1
                if count[b] == n_time[b] or last[t]:
                    at = _emit(n_groups[size], centre, small[r], large[r], at, out, totals)
                    count[b] = 0
    return at


def unit_gains(shape: tuple[int, int, int]) -> StationGains:
    """Gains of one for visibilities of shape (time, bl, chan)."""
    n_t, n_bl, n_c = shape
    return StationGains(np.ones((1, 1, 1), np.complex64), np.zeros(n_t, int), np.zeros(n_c, int),
                        np.zeros(n_bl, int), np.zeros(n_bl, int))


def average_to_facet(*, uvw, vis, weight, freq, facet: Facet, plan: AveragingPlan,
                     gains: StationGains | None = None) -> Samples:
    """Turn a chunk to the facet's centre, apply K* and weights, and average as planned.

    uvw (time, bl, 3) float64 m; vis (time, bl, chan) complex64; weight (time, bl, chan) float32,
    zero for flagged data (vis may hold anything there); freq (chan,) Hz.  gains: None is one.
    Returns Samples; cells without weight or gain make none.  Raises ImagingError when shapes
    disagree.
    """
    freq = np.atleast_1d(np.asarray(freq, np.float64))
    vis, weight = np.ascontiguousarray(vis, np.complex64), np.ascontiguousarray(weight, np.float32)
    if vis.ndim != 3 or vis.shape != weight.shape or vis.shape[2] != freq.size \
            or np.shape(uvw) != vis.shape[:2] + (3,) \
            or (plan.last.size, plan.n_time.size, plan.n_groups.size - 1) != vis.shape:
        raise ImagingError(f"averaging: uvw {np.shape(uvw)}, vis {vis.shape}, weight "
                           f"{weight.shape}, {freq.size} channels and the plan do not fit")
    gains = unit_gains(vis.shape) if gains is None else gains
    gains.check(vis.shape)
    centre = np.array([facet.l0, facet.m0, n_minus_one(facet.l0, facet.m0)])
    most = plan.n_samples
    out = (np.empty((most, 3)), np.empty(most, np.complex64), np.empty(most, np.float32),
           np.empty(most, np.float32))
    totals = np.zeros(2)
    n = _pass(np.asarray(uvw, np.float64) / SPEED_OF_LIGHT, vis, weight, freq, centre,
              gains.arrays(), (plan.n_time, plan.n_chan, plan.last, plan.edges, plan.n_groups),
              out, totals)
    return Samples(*(a[:n] for a in out), float(totals[0]), float(totals[1]))
