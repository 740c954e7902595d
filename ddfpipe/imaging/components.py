"""Visibilities of point components by direct summation of the measurement equation.

Cheaper than degridding below some 10,000 components an interval, exact, and able to smear every
component by its own time and bandwidth decorrelation.  Planar phasors of a component on a block of
baselines and times advance from channel to channel by a complex multiplication; every block of
channels starts from an exact phase, so the rounding error never grows beyond a few 1e-6.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from ddfpipe.errors import ImagingError
from ddfpipe.imaging.gains import GroupGains, times_conjugate
from ddfpipe.imaging.phasor import FASTMATH, reduce_turns, sinc, sincos_turns
from ddfpipe.imaging.sky import n_minus_one
from ddfpipe.units import SPEED_OF_LIGHT

_ROWS = 128
"""Baselines and times treated at once: their phasors and sums fit the first-level cache."""

_CHANNELS = 24
"""Most channels of a run between two exact phases."""

_GAP = 12
"""Widest step from one channel of a run to the next, in units of its raster."""


_SMALL = 0.25
"""Up to here the series of `_near_sinc` is good to 4e-7."""


@njit(cache=True, nogil=True)
def _runs(freq, block, widest, edges, unit, gap, at):
    """Fill edges and unit (of a run), gap and at (of a channel); how many runs there are."""
    n, c = 0, 0
    while c < freq.size:
        edges[n], first = c, c
        raster = 0.0
        for k in range(first + 1, min(first + _CHANNELS, freq.size)):
            step = freq[k] - freq[k - 1]
            if raster == 0.0 or abs(step) < abs(raster):
                raster = step
        place = 0
        c += 1
        while raster != 0 and c < freq.size and c - first < _CHANNELS and block[c] == block[first]:
            whole = round((freq[c] - freq[first]) / raster)
            off = abs(freq[first] + whole * raster - freq[c])
            if not 0 < whole - place <= widest or off > 1e-10 * freq[c]:
                break
            gap[c - 1], at[c] = whole - place, whole
            place = whole
            c += 1
        unit[n] = raster
        for k in range(first, c):
            at[k] /= max(place, 1)
        n += 1
    edges[n] = freq.size
    return n


def channel_runs(freq: np.ndarray, block: np.ndarray | None = None,
                 widest: int = _GAP) -> tuple[np.ndarray, ...]:
    """Runs of channels on an even raster, with steps of `widest` at most and none of two blocks.

    freq (chan,) Hz; block (chan,) int64, or None: all in one.  Within a run no channel is further
    than 1e-10 of its frequency from the raster, so that a delay of 1e-4 s (30 km of path) is wrong
    by less than 1e-5 rad.

    Returns edges (run + 1,) int64; unit (run,) Hz of the raster; gap (chan,) int64 steps to the
    next channel, 0 at the end of a run; at (chan,) float32, 0 at the beginning of a run to 1.
    """
    n = freq.size
    edges, unit = np.empty(n + 1, np.int64), np.empty(n)
    gap, at = np.zeros(n, np.int64), np.zeros(n, np.float32)
    block = np.zeros(n, np.int64) if block is None else np.ascontiguousarray(block, np.int64)
    runs = _runs(freq, block, widest, edges, unit, gap, at)
    return edges[:runs + 1], unit[:runs], gap, at


@njit(cache=True, nogil=True, fastmath=FASTMATH, inline="always")
def _start_phasors(tau, n, nu, dnu, most, cr, ci, dr, di, wide):
    """Phasors (cr, ci) at nu of n rows with delays tau, their step (dr, di) by dnu, and wide
    (2, _GAP - 1, row), those by 1, 2, ... (most - 1) times dnu."""
    for i in range(n):
        c, sn = sincos_turns(reduce_turns(tau[i] * nu))
        cr[i] = c
        ci[i] = sn
        c, sn = sincos_turns(reduce_turns(tau[i] * dnu))
        dr[i] = c
        di[i] = sn
    for g in range(most - 1):
        for i in range(n):
            x = wide[0, g - 1, i] if g > 0 else np.float32(1)
            y = wide[1, g - 1, i] if g > 0 else np.float32(0)
            wide[0, g, i] = x * dr[i] - y * di[i]
            wide[1, g, i] = x * di[i] + y * dr[i]


@njit(cache=True, nogil=True, fastmath=FASTMATH, inline="always")
def _turn(n, cr, ci, kr, ki):
    """Multiply phasors (cr, ci) by gains (kr, ki)."""
    for i in range(n):
        x, y = cr[i], ci[i]
        cr[i] = x * kr[i] - y * ki[i]
        ci[i] = x * ki[i] + y * kr[i]


@njit(cache=True, nogil=True, fastmath=FASTMATH, inline="always")
def _row_gains(gain, g, knot, share, block, ant1, ant2, r0, n, kr, ki):
    """Gains (kr, ki) of n rows from r0 on towards group g."""
    for i in range(n):
        t, b = divmod(r0 + i, ant1.size)
        k, x = knot[t], share[t]
        p, q = gain[g, k, block, ant1[b]], gain[g, k, block, ant2[b]]
        if x > 0:
            p = (1 - x) * p + x * gain[g, k + 1, block, ant1[b]]
            q = (1 - x) * q + x * gain[g, k + 1, block, ant2[b]]
        kr[i], ki[i] = times_conjugate(p, q)


@njit(cache=True, nogil=True, fastmath=FASTMATH, inline="always")
def _near_sinc(x):
    """sin(pi x)/(pi x) of a small float32 x."""
    q = x * x * np.float32(np.pi**2)
    return np.float32(1) - q * (np.float32(1 / 6) - q * (np.float32(1 / 120)
                                                         - q * np.float32(1 / 5040)))


@njit(cache=True, nogil=True, fastmath=FASTMATH, inline="always")
def _start_smearing(tau, slip, n, nu, last_nu, width, a, da):
    """Smearing a at nu and its change da up to last_nu, by time (slip) and bandwidth (width).

    The time smearing changes by a per cent over a run of channels: linear in frequency is exact to
    its square.
    """
    most, high = 0.0, max(abs(nu), abs(last_nu))
    for i in range(n):
        most = max(most, max(abs(tau[i]) * width, abs(slip[i]) * high))
    if most < _SMALL:
        for i in range(n):
            band = _near_sinc(np.float32(tau[i] * width))
            a[i] = band * _near_sinc(np.float32(slip[i] * nu))
            da[i] = band * _near_sinc(np.float32(slip[i] * last_nu)) - a[i]
        return
    for i in range(n):
        band = sinc(tau[i] * width)
        first = band * sinc(slip[i] * nu)
        a[i] = first
        da[i] = band * sinc(slip[i] * last_nu) - first


@njit(cache=True, nogil=True, fastmath=FASTMATH, inline="always")
def _add_channels(flux, s, c0, n_chan, n, smear, gap, at, cr, ci, dr, di, wide, a, da, sum_re,
                  sum_im):
    """Add component s to the sums of n rows in channels c0 <= c < c0 + n_chan."""
    for c in range(n_chan):
        f = flux[c0 + c, s]
        if smear:
            step = at[c0 + c]
            for i in range(n):
                g = f * (a[i] + step * da[i])
                x = cr[i]
                y = ci[i]
                sum_re[c, i] += g * x
                sum_im[c, i] += g * y
                cr[i] = x * dr[i] - y * di[i]
                ci[i] = x * di[i] + y * dr[i]
        else:
            for i in range(n):
                x = cr[i]
                y = ci[i]
                sum_re[c, i] += f * x
                sum_im[c, i] += f * y
                cr[i] = x * dr[i] - y * di[i]
                ci[i] = x * di[i] + y * dr[i]
        k = gap[c0 + c] - 2  # one step was made; the others of a wider gap
        if k >= 0:
            for i in range(n):
                x = cr[i]
                y = ci[i]
                cr[i] = x * wide[0, k, i] - y * wide[1, k, i]
                ci[i] = x * wide[1, k, i] + y * wide[0, k, i]


@njit(cache=True, nogil=True, fastmath=FASTMATH)
def _predict(l, m, n1, flux, uvw, rate, freq, runs, width, span, smear, gains, add, out):
    """Direct sum; uvw and rate (row, 3) in m and m/s, flux (chan, src), out (row, chan, 2).

    runs: of `channel_runs`; gains: of `GroupGains.arrays`, those of no group: none.

    The processor's lanes hold rows, not components: facets and groups that share a beam often hold
    a handful of components, too few to fill them.  Plain loops over scratch arrays: views made in
    the inner loops would cost more than the sums.
    """
    edges, unit, gap, at = runs
    gain, group, knot, share, block, ant1, ant2 = gains
    u = np.empty((6, _ROWS))
    tau, slip = np.empty(_ROWS), np.empty(_ROWS)
    cr, ci = np.empty(_ROWS, np.float32), np.empty(_ROWS, np.float32)
    kr, ki = np.empty(_ROWS, np.float32), np.empty(_ROWS, np.float32)
    dr, di = np.empty(_ROWS, np.float32), np.empty(_ROWS, np.float32)
    wide = np.empty((2, _GAP - 1, _ROWS), np.float32)
    a, da = np.ones(_ROWS, np.float32), np.zeros(_ROWS, np.float32)
    sum_re = np.empty((_CHANNELS, _ROWS), np.float32)
    sum_im = np.empty((_CHANNELS, _ROWS), np.float32)
    for r0 in range(0, uvw.shape[0], _ROWS):
        n = min(_ROWS, uvw.shape[0] - r0)
        for i in range(n):
            for j in range(3):
                u[j, i] = uvw[r0 + i, j] * (1.0 / SPEED_OF_LIGHT)
        if smear:
            for i in range(n):
                for j in range(3):
                    u[3 + j, i] = rate[r0 + i, j] * (span / SPEED_OF_LIGHT)
        for k in range(edges.size - 1):
            c0 = edges[k]
            n_chan = edges[k + 1] - c0
            most = 0
            for c in range(n_chan):
                most = max(most, gap[c0 + c])
                for i in range(n):
                    sum_re[c, i] = 0
                    sum_im[c, i] = 0
            last = -1
            for s in range(l.size):
                for i in range(n):
                    tau[i] = u[0, i] * l[s] + u[1, i] * m[s] + u[2, i] * n1[s]
                _start_phasors(tau, n, freq[c0], unit[k], most, cr, ci, dr, di, wide)
                if smear:
                    for i in range(n):
                        slip[i] = u[3, i] * l[s] + u[4, i] * m[s] + u[5, i] * n1[s]
                    _start_smearing(tau, slip, n, freq[c0], freq[c0 + n_chan - 1], width, a, da)
                if gain.shape[0] > 0:
                    if group[s] != last:
                        last = group[s]
                        _row_gains(gain, last, knot, share, block[c0], ant1, ant2, r0, n, kr,
                                   ki)
                    _turn(n, cr, ci, kr, ki)
                _add_channels(flux, s, c0, n_chan, n, smear, gap, at, cr, ci, dr, di, wide, a,
                              da, sum_re, sum_im)
            if add:
                for i in range(n):
                    for c in range(n_chan):
                        out[r0 + i, c0 + c, 0] += sum_re[c, i]
                        out[r0 + i, c0 + c, 1] += sum_im[c, i]
            else:
                for i in range(n):
                    for c in range(n_chan):
                        out[r0 + i, c0 + c, 0] = sum_re[c, i]
                        out[r0 + i, c0 + c, 1] = sum_im[c, i]


def predict_components(*, l, m, flux, uvw, freq, out=None, smear=None, add=True,
                       gains: GroupGains | None = None) -> np.ndarray:
    """Visibilities of point components: sum of S exp(+2 pi i nu/c (u l + v m + w (n - 1))).

    l, m: (src,) direction cosines in rad.  flux: (src, chan) or (src,) Jy.
    uvw: (time, bl, 3) float64 metres.  freq: (chan,) Hz, evenly spaced or not.
    smear: None, or (chan_width Hz, interval s, uvw_rate (time, bl, 3) m/s): each component is
        multiplied by sinc(chan_width tau) sinc(nu interval dtau/dt), with tau its delay
        (Bridle & Schwab 1999, ASP Conf. 180, 371); see `smearing.smearing_factor`.
    gains: seen through these, towards groups of components; those of a group one after the other.
    out: (time, bl, chan) complex64 to *add* to, or to overwrite without `add`; made when None.
    Returns (time, bl, chan) complex64.  Raises ImagingError when shapes disagree.
    """
    l, m = np.atleast_1d(np.asarray(l, np.float64)), np.atleast_1d(np.asarray(m, np.float64))
    freq = np.atleast_1d(np.asarray(freq, np.float64))
    flux = np.asarray(flux, np.float32)
    if flux.ndim < 2:
        flux = np.repeat(np.atleast_1d(flux)[:, None], freq.size, axis=1)
    uvw = np.ascontiguousarray(uvw, np.float64)
    shape = uvw.shape[:2] + (freq.size,)
    if out is None:
        out, add = np.empty(shape, np.complex64), False
    if uvw.ndim != 3 or l.shape != m.shape or flux.shape != (l.size, freq.size) \
            or out.shape != shape or out.dtype != np.complex64 or not out.flags.c_contiguous:
        raise ImagingError(f"prediction: l {l.shape}, m {m.shape}, flux {flux.shape}, uvw "
                           f"{uvw.shape}, {freq.size} channels and a contiguous complex64 output "
                           f"{out.shape} do not fit together")
    width, span, rate = 0.0, 0.0, uvw  # a rate is not looked at without smearing
    if smear is not None:
        width, span, rate = smear
        rate = np.ascontiguousarray(np.broadcast_to(np.asarray(rate, np.float64), uvw.shape))
    gains = GroupGains.none() if gains is None else gains.check(l.size, shape)
    _predict(l, m, n_minus_one(l, m), np.ascontiguousarray(flux.T), uvw.reshape(-1, 3),
             rate.reshape(-1, 3), freq,
             channel_runs(freq, gains.chan_index if len(gains.gain) else None), float(width),
             float(span), smear is not None, gains.arrays(), add,
             out.view(np.float32).reshape(-1, freq.size, 2))
    return out
