"""One pass over a chunk of visibilities for several facets: turn, gain, average, grid.

For each facet a visibility is turned to the facet's centre, multiplied with K* and its weight,
averaged with its neighbours in time and channel as far as the facet's edge loses no more than is
allowed (`averaging`, whose plan and centroids these are), and put on the facet's open grid
(`facetgrid`).  No intermediate array leaves the processor's cache: a block of times of a few
baselines is laid out channel by channel once and serves all facets.

The phasor of a channel is that of the one before times one that is the same for all channels;
loops run over times, sixteen at once.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from ddfpipe.errors import ImagingError
from ddfpipe.imaging.averaging import _channel_groups
from ddfpipe.imaging.facetgrid import FacetGrid, tap_polynomials
from ddfpipe.imaging.gains import StationGains
from ddfpipe.imaging.gridkernels import BLOCK, make_taps, place, put
from ddfpipe.imaging.lanes import LANES, fma, fnma, load, mul, splat, store
from ddfpipe.imaging.phasor import BORROW, FASTMATH, reduce_turns, sinc, sincos_turns
from ddfpipe.imaging.smearing import EARTH_RATE
from ddfpipe.imaging.sky import n_minus_one
from ddfpipe.imaging.timemeans import mean_times
from ddfpipe.units import SPEED_OF_LIGHT

TIMES = 128
"""Times of a baseline that are handled together; a multiple of LANES, at most BLOCK."""

ROWS = 4
"""Baselines that are laid out together: they follow each other in memory, times do not."""

_STEPS = 32
"""Most channels whose phasors follow from one another."""


@njit(**BORROW, forceinline=True)
def _lay_out(vis, weight, t0, n, b0, some, re, im, wt):
    """wt, w Re V and w Im V, each (baseline, chan, TIMES) flat, of times t0 ... t0 + n and of
    baselines from b0 on; some (ROWS,): sums of their weights."""
    zero = np.float32(0)
    psf = vis.size == 0
    n_c = weight.shape[2]
    for k in range(ROWS):
        some[k] = zero
    for i in range(n):
        for k in range(min(ROWS, weight.shape[1] - b0)):
            for c in range(n_c):
                w = weight[t0 + i, b0 + k, c]
                good = w > zero
                w = w if good else zero
                some[k] += w
                o = (k * n_c + c) * TIMES + i
                wt[o] = w
                if not psf:
                    v = vis[t0 + i, b0 + k, c]
                    re[o] = w * v.real if good else zero
                    im[o] = w * v.imag if good else zero


@njit(**BORROW, forceinline=True)
def _choose(uvw, n, facet, rates, steps, dec, sizes, n_groups, n_chan):
    """(times, channels) to average of one baseline and block, as `averaging.plan_averaging`.

    uvw (3, TIMES) s; rates: sine and cosine of the declination times the Earth's rate;
    steps: interval s, channel width Hz, highest frequency Hz.
    """
    a, b = facet[0], facet[1]
    sine, cosine = rates
    length = speed = 0.0
    for i in range(n):
        u, v, w = uvw[0, i], uvw[1, i], uvw[2, i]
        x, y = u + a * w, v + b * w
        length = max(length, x * x + y * y)
        x = cosine * w - sine * v - a * cosine * u
        y = sine * u - b * cosine * u
        speed = max(speed, x * x + y * y)
    turn = 2.0 * np.pi * facet[9]
    per_time = max(turn * turn * speed * (steps[0] * steps[2]) ** 2, 1e-18) / 24.0
    per_chan = turn * turn * length * steps[1] ** 2 / 24.0
    best, times, chans = n * n_chan + 1.0, 1, 1
    for size in sizes:
        left = dec - (size * size - 1.0) * per_chan
        if left < 0.0:
            break
        most = min(np.int64(np.sqrt(left / per_time + 1.0)), n)
        cost = n_groups[size] * np.ceil(n / most)
        if cost < best:
            best, times, chans = cost, most, size
    return times, chans


@njit(**BORROW, forceinline=True)
def _start(n, psf, delay, nu, step, gain, p, q, pr, pi, sr, si, kn):
    """Phasors of a channel times K, of the step to the next channel, and |K|², for n times.

    delay (n,) s of the facet's centre; nu and step Hz; gain (2, ...) flat planes from p and q on.
    psf: |K|² alone.
    """
    if psf:
        if gain.shape[1] > 0:
            for i in range(n):
                a, b, c, d = gain[0, p + i], gain[1, p + i], gain[0, q + i], gain[1, q + i]
                kn[i] = (a * a + b * b) * (c * c + d * d)
        return
    for i in range(n):
        pr[i] = reduce_turns(delay[i] * nu)
        sr[i] = reduce_turns(delay[i] * step)
    for i in range(n):
        c, s = sincos_turns(pr[i])
        pr[i], pi[i] = c, s
    for i in range(n):
        c, s = sincos_turns(sr[i])
        sr[i], si[i] = c, s
    if gain.shape[1] > 0:
        for i in range(n):
            a, b, c, d = gain[0, p + i], gain[1, p + i], gain[0, q + i], gain[1, q + i]
            x, y = a * c + b * d, b * c - a * d
            kn[i] = x * x + y * y
            pr[i], pi[i] = pr[i] * x - pi[i] * y, pr[i] * y + pi[i] * x


@njit(**BORROW, forceinline=True)
def _add_channels(n, base, first, last, offset, re, im, wt, pr, pi, sr, si, kn, ar, ai, an, ax):
    """Add channels first ... last - 1 to the sums of each time, and step the phasors on.

    ar + i ai: w K* V, turned; an: w|K|²; ax: w|K|² (nu/nu_0 - 1).
    """
    for t in range(0, n, LANES):
        a, d, e, f = load(pr, t), load(pi, t), load(sr, t), load(si, t)
        k, s_re, s_im = load(kn, t), load(ar, t), load(ai, t)
        s_n, s_x = load(an, t), load(ax, t)
        for c in range(first, last):
            o = base + c * TIMES + t
            x, y, w = load(re, o), load(im, o), mul(load(wt, o), k)
            s_re = fma(x, a, fma(y, d, s_re))
            s_im = fma(y, a, fnma(x, d, s_im))
            s_n = fma(load(wt, o), k, s_n)
            s_x = fma(w, splat(offset[c]), s_x)
            a, d = fnma(d, f, mul(a, e)), fma(a, f, mul(d, e))
        store(pr, t, a)
        store(pi, t, d)
        store(ar, t, s_re)
        store(ai, t, s_im)
        store(an, t, s_n)
        store(ax, t, s_x)


@njit(**BORROW, forceinline=True)
def _add_weights(n, base, first, last, offset, wt, kn, an, ax):
    """As `_add_channels`, of the weights alone."""
    for t in range(0, n, LANES):
        k, s_n, s_x = load(kn, t), load(an, t), load(ax, t)
        for c in range(first, last):
            w = mul(load(wt, base + c * TIMES + t), k)
            s_n = fma(load(wt, base + c * TIMES + t), k, s_n)
            s_x = fma(w, splat(offset[c]), s_x)
        store(an, t, s_n)
        store(ax, t, s_x)


@njit(**BORROW, forceinline=True)
def _smear(n, uvw, centre, rates, steps, nu, ar, an):
    """ar = an times what a source at the facet's centre keeps of itself (see `smearing`)."""
    l, m, n1 = centre
    sine, cosine = rates
    for i in range(n):
        u, v, w = uvw[0, i], uvw[1, i], uvw[2, i]
        slip = (cosine * w - sine * v) * l + sine * u * m - cosine * u * n1
        factor = sinc(steps[1] * (u * l + v * m + w * n1)) * sinc(steps[0] * slip * nu)
        ar[i] = an[i] * factor


@njit(**BORROW, forceinline=True)
def _deliver(n, psf, middle, x, y, tau, vis, facet, shape, at, first, taps, poly, offset, grid):
    """Put n samples on a facet's grid.

    middle: n - 1 that the grid refers to over that of the facet's centre, by which the
    visibilities of a source there are turned.
    """
    if psf:
        for i in range(n):
            c, s = sincos_turns(reduce_turns(-middle * tau[i] / facet[4]))
            vis[2 * i], vis[2 * i + 1] = vis[2 * i] * c, vis[2 * i] * s
    place(n, x, y, tau, vis, shape, at, first)
    make_taps(n, first, poly, taps)
    put(n, at, tau, taps, vis, offset, shape, facet[8], grid)


@njit(cache=True, nogil=True, fastmath=FASTMATH)
def _pass(vis, weight, uvw, ends, nu, centres, stations, gain, blocks, groups, rates, steps, dec,
          smear, facets, shapes, offsets, poly, grid, totals):
    """All baselines, blocks of times and facets of a chunk; see `grid_chunk`.

    gain: (2, facet, block, ant, time + LANES) flattened to (2, ...), or (2, 0); blocks: (chan,)
    block of gains, first channels of segments of even phasor steps, their steps Hz, lengths of
    facets and of blocks in `gain`.  groups: sizes, edges, number of groups.
    """
    sizes, edges, n_groups = groups
    chan_block, segment, nu_step, per_facet, per_block, per_ant = blocks
    n_t, n_bl, n_c = weight.shape
    psf = vis.size == 0
    length = ROWS * n_c * TIMES + LANES
    re, im, wt = (np.zeros(length, np.float32), np.zeros(length, np.float32),
                  np.zeros(length, np.float32))
    some = np.zeros(ROWS, np.float32)
    place_uvw, delay = np.zeros((3, TIMES)), np.zeros(TIMES)
    pr, pi, sr, si = (np.zeros(TIMES, np.float32), np.zeros(TIMES, np.float32),
                      np.zeros(TIMES, np.float32), np.zeros(TIMES, np.float32))
    ar, ai, an, ax = (np.zeros(TIMES, np.float32), np.zeros(TIMES, np.float32),
                      np.zeros(TIMES, np.float32), np.zeros(TIMES, np.float32))
    kn = np.ones(TIMES, np.float32)
    x, y, tau = np.empty(BLOCK), np.empty(BLOCK), np.empty(BLOCK, np.float32)
    at, value = np.empty(BLOCK, np.int64), np.zeros(2 * BLOCK, np.float32)
    first, taps = np.empty(3 * BLOCK, np.float32), np.empty(LANES * BLOCK, np.float32)
    end = np.empty(TIMES, np.int64)
    offset = (nu / nu[0] - 1.0).astype(np.float32)
    n_blocks = (n_t + TIMES - 1) // TIMES
    per = (n_t + n_blocks - 1) // max(n_blocks, 1)
    for t0 in range(0, n_t, per):
        n = min(per, n_t - t0)
        for b in range(n_bl):
            row = b % ROWS
            if row == 0:
                _lay_out(vis, weight, t0, n, b, some, re, im, wt)
            if not some[row] > np.float32(0):
                continue
            base = row * n_c * TIMES
            for i in range(n):
                place_uvw[0, i] = uvw[t0 + i, b, 0] / SPEED_OF_LIGHT
                place_uvw[1, i] = uvw[t0 + i, b, 1] / SPEED_OF_LIGHT
                place_uvw[2, i] = uvw[t0 + i, b, 2] / SPEED_OF_LIGHT
                end[i] = min(ends[t0 + i] - t0, n)
            for g in range(facets.shape[0]):
                facet, shape = facets[g], shapes[g]
                times, size = _choose(place_uvw, n, facet, rates, steps, dec, sizes, n_groups,
                                      n_c)
                for i in range(n):
                    delay[i] = place_uvw[0, i] * facet[5] + place_uvw[1, i] * facet[6] \
                        + place_uvw[2, i] * facet[7]
                count = 0
                for k in range(n_groups[size]):
                    c0, c1 = edges[size, k], edges[size, k + 1]
                    ar[:], ai[:], an[:], ax[:] = 0, 0, 0, 0
                    c = c0
                    while c < c1:
                        stop = c + 1
                        while stop < c1 and not segment[stop]:
                            stop += 1
                        if segment[c]:
                            o = g * per_facet + chan_block[c] * per_block + t0
                            _start(n, psf, delay, nu[c], nu_step[c], gain,
                                   o + stations[b, 0] * per_ant, o + stations[b, 1] * per_ant,
                                   pr, pi, sr, si, kn)
                        if psf:
                            _add_weights(n, base, c, stop, offset, wt, kn, an, ax)
                        else:
                            _add_channels(n, base, c, stop, offset, re, im, wt, pr, pi, sr, si, kn,
                                          ar, ai, an, ax)
                        c = stop
                    if psf:
                        ar[:n] = an[:n]
                        if smear:
                            _smear(n, place_uvw, centres[g], rates, steps,
                                   0.5 * (nu[c0] + nu[c1 - 1]), ar, an)
                    if count + n > BLOCK:
                        _deliver(count, psf, facet[7] - centres[g, 2], x, y, tau, value, facet,
                                 shape, at, first, taps, poly, offsets[g], grid)
                        count = 0
                    count, total = mean_times(n, times, end, nu[0], place_uvw, facet, ar, ai, an,
                                              ax, x, y, tau, value, at, count)
                    totals[g] += total
                _deliver(count, psf, facet[7] - centres[g, 2], x, y, tau, value, facet, shape, at,
                         first, taps, poly, offsets[g], grid)


def _segments(freq: np.ndarray, chan_block: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(chan,) bool: does a run of channels of even spacing and one gain begin; (chan,) step Hz."""
    start, step = np.zeros(freq.size, bool), np.zeros(freq.size)
    at = 0
    while at < freq.size:
        start[at] = True
        step[at] = freq[at + 1] - freq[at] if at + 1 < freq.size else 0.0
        stop = at + 1
        while stop < min(freq.size, at + _STEPS) and chan_block[stop] == chan_block[at] \
                and abs(freq[stop] - freq[stop - 1] - step[at]) < 1e-9 * freq[at]:
            stop += 1
        at = stop
    return start, step


def _layered(gains: list[StationGains], n_time: int) -> np.ndarray:
    """(2, facet * block * ant * (time + LANES)) float32 of the gains at every time."""
    blocks, ants = gains[0].gain.shape[1:]
    out = np.zeros((2, len(gains), blocks, ants, n_time + LANES), np.float32)
    for k, g in enumerate(gains):
        values = g.gain[g.time_index].transpose(1, 2, 0)
        out[0, k, ..., :n_time], out[1, k, ..., :n_time] = values.real, values.imag
    return out.reshape(2, -1)


def run_ends(times, n_time: int, interval: float) -> np.ndarray:
    """(time,) int64 index behind the run of times, without gap, that each time belongs to."""
    last = np.ones(n_time, bool)
    if n_time > 1:
        last[:-1] = False if times is None else np.diff(times) > 1.5 * interval
    stops = np.flatnonzero(last) + 1
    return stops[np.searchsorted(stops, np.arange(n_time), side="right")].astype(np.int64)


def grid_chunk(*, grids: list[FacetGrid], buffer: np.ndarray, uvw, vis, weight, freq,
               chan_width: float, interval: float, dec0: float, dec: float, times=None,
               gains: list[StationGains] | None = None, smear: bool = False) -> np.ndarray:
    """Add a chunk of visibilities to the grids of several facets.

    grids: all of one accuracy; they lie one behind the other, `size` floats each, in `buffer`,
        float32.
    uvw (time, bl, 3) float64 m; weight (time, bl, chan) float32, zero for flagged data; freq
        (chan,) and chan_width Hz; interval s; times (time,) s tells gaps, None means there are
        none; dec0: declination of the phase centre, rad.
    vis (time, bl, chan) complex64, which may hold anything where weight is zero; None grids
        w|K|² s instead, the source at the facet's centre whose image is the PSF, s being what time
        and bandwidth leave of it (`smear`) or one.
    dec: loss of amplitude allowed at a facet's edge; 0 averages nothing.
    gains: for each facet; None is one.
    Returns (facet,) float64, sums of w|K|².  Raises ImagingError when shapes disagree.
    """
    freq = np.atleast_1d(np.asarray(freq, np.float64))
    weight = np.ascontiguousarray(weight, np.float32)
    vis = np.empty((0, 0, 0), np.complex64) if vis is None \
        else np.ascontiguousarray(vis, np.complex64)
    n_t, n_bl, n_c = weight.shape
    if (vis.size and vis.shape != weight.shape) or n_c != freq.size \
            or np.shape(uvw) != (n_t, n_bl, 3) or (gains and len(gains) != len(grids)):
        raise ImagingError(f"gridding: uvw {np.shape(uvw)}, vis {vis.shape}, weight "
                           f"{weight.shape}, {freq.size} channels and gains do not fit")
    totals = np.zeros(len(grids))
    if weight.size == 0:
        return totals
    chan_block, stations = np.zeros(n_c, np.int64), np.zeros((n_bl, 2), np.int64)
    lengths = (0, 0, 0)
    gain = np.empty((2, 0), np.float32)
    if gains:
        for g in gains:
            g.check(weight.shape)
        chan_block, stations = gains[0].chan_index, np.stack([gains[0].ant1, gains[0].ant2], 1)
        gain = _layered(gains, n_t)
        blocks, ants = gains[0].gain.shape[1:]
        lengths = (blocks * ants * (n_t + LANES), ants * (n_t + LANES), n_t + LANES)
    edges, n_groups = _channel_groups(freq, chan_width)
    sizes = np.unique(n_groups[1:], return_index=True)[1][::-1] + 1
    offsets = np.r_[0, np.cumsum([g.size for g in grids])[:-1]].astype(np.int64)
    centres = np.array([[g.facet.l0, g.facet.m0, n_minus_one(g.facet.l0, g.facet.m0)]
                        for g in grids])
    rates = (EARTH_RATE * np.sin(dec0), EARTH_RATE * np.cos(dec0))
    _pass(vis, weight, np.ascontiguousarray(uvw, np.float64), run_ends(times, n_t, interval), freq,
          centres, stations, gain, (chan_block, *_segments(freq, chan_block), *lengths),
          (sizes.astype(np.int64), edges, n_groups), rates, (interval, chan_width, freq.max()),
          float(dec), smear, np.array([g.parameters for g in grids]),
          np.array([g.shape for g in grids]), offsets, tap_polynomials(grids[0].sigma), buffer,
          totals)
    return totals
