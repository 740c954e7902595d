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
from ddfpipe.imaging.phasor import FASTMATH, reduce_turns, sinc, sincos_turns
from ddfpipe.imaging.sky import n_minus_one
from ddfpipe.units import SPEED_OF_LIGHT

_ROWS = 128
"""Baselines and times treated at once: their phasors and sums fit the first-level cache."""

_CHANNELS = 24
"""Longest run of channels between two exact phases."""


@njit(cache=True, nogil=True)
def _run_edges(freq, longest, edges):
    """Fill edges with those of evenly spaced runs; how many there are."""
    edges[0] = 0
    n = 1
    for c in range(1, freq.size):
        first = edges[n - 1]
        k = c - first
        even = freq[first] + k * (freq[first + 1] - freq[first]) if k > 1 else freq[c]
        if k >= longest or abs(freq[c] - even) > 1e-10 * freq[c]:
            edges[n] = c
            n += 1
    edges[n] = freq.size
    return n + 1


def channel_blocks(freq: np.ndarray, longest: int = _CHANNELS) -> np.ndarray:
    """(n + 1,) int64 edges of runs of evenly spaced channels, none longer than `longest`.

    freq: (chan,) Hz.  Within a run no channel is further than 1e-10 of its frequency from even
    spacing, so that a delay of 1e-4 s (30 km of path) is wrong by less than 1e-5 rad.
    """
    edges = np.empty(freq.size + 2, np.int64)
    return edges[:_run_edges(freq, longest, edges)]


@njit(cache=True, nogil=True, fastmath=FASTMATH, inline="always")
def _start_phasors(tau, n, nu, dnu, cr, ci, dr, di):
    """Phasors (cr, ci) at nu of n components with delays tau, and their step (dr, di) by dnu."""
    for s in range(n):
        c, sn = sincos_turns(reduce_turns(tau[s] * nu))
        cr[s] = c
        ci[s] = sn
        c, sn = sincos_turns(reduce_turns(tau[s] * dnu))
        dr[s] = c
        di[s] = sn


@njit(cache=True, nogil=True, fastmath=FASTMATH, inline="always")
def _start_smearing(tau, slip, n, nu, last_nu, width, a, da):
    """Smearing a at nu and its change da up to last_nu, by time (slip) and bandwidth (width)."""
    for s in range(n):
        band = sinc(tau[s] * width)
        first = band * sinc(slip[s] * nu)
        # the time smearing changes by a per cent over a block: linear in frequency is exact to
        # its square
        a[s] = first
        da[s] = band * sinc(slip[s] * last_nu) - first


@njit(cache=True, nogil=True, fastmath=FASTMATH, inline="always")
def _add_channels(flux, s, c0, n_chan, n, smear, cr, ci, dr, di, a, da, sum_re, sum_im):
    """Add component s to the sums of n rows in channels c0 <= c < c0 + n_chan."""
    for c in range(n_chan):
        f = flux[c0 + c, s]
        if smear:
            step = np.float32(c / (n_chan - 1.0)) if n_chan > 1 else np.float32(0)
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


@njit(cache=True, nogil=True, fastmath=FASTMATH)
def _predict(l, m, n1, flux, uvw, rate, freq, edges, width, span, smear, add, out):
    """Direct sum; uvw and rate (row, 3) in m and m/s, flux (chan, src), out (row, chan, 2).

    The processor's lanes hold rows, not components: facets and groups that share a beam often hold
    a handful of components, too few to fill them.  Plain loops over scratch arrays: views made in
    the inner loops would cost more than the sums.
    """
    u = np.empty((6, _ROWS))
    tau, slip = np.empty(_ROWS), np.empty(_ROWS)
    cr, ci = np.empty(_ROWS, np.float32), np.empty(_ROWS, np.float32)
    dr, di = np.empty(_ROWS, np.float32), np.empty(_ROWS, np.float32)
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
            dnu = freq[c0 + 1] - freq[c0] if n_chan > 1 else 0.0
            for c in range(n_chan):
                for i in range(n):
                    sum_re[c, i] = 0
                    sum_im[c, i] = 0
            for s in range(l.size):
                for i in range(n):
                    tau[i] = u[0, i] * l[s] + u[1, i] * m[s] + u[2, i] * n1[s]
                _start_phasors(tau, n, freq[c0], dnu, cr, ci, dr, di)
                if smear:
                    for i in range(n):
                        slip[i] = u[3, i] * l[s] + u[4, i] * m[s] + u[5, i] * n1[s]
                    _start_smearing(tau, slip, n, freq[c0], freq[c0] + (n_chan - 1) * dnu, width,
                                    a, da)
                _add_channels(flux, s, c0, n_chan, n, smear, cr, ci, dr, di, a, da, sum_re,
                              sum_im)
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


def predict_components(*, l, m, flux, uvw, freq, out=None, smear=None, add=True) -> np.ndarray:
    """Visibilities of point components: sum of S exp(+2 pi i nu/c (u l + v m + w (n - 1))).

    l, m: (src,) direction cosines in rad.  flux: (src, chan) or (src,) Jy.
    uvw: (time, bl, 3) float64 metres.  freq: (chan,) Hz, evenly spaced or not.
    smear: None, or (chan_width Hz, interval s, uvw_rate (time, bl, 3) m/s): each component is
        multiplied by sinc(chan_width tau) sinc(nu interval dtau/dt), with tau its delay
        (Bridle & Schwab 1999, ASP Conf. 180, 371); see `smearing.smearing_factor`.
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
    _predict(l, m, n_minus_one(l, m), np.ascontiguousarray(flux.T), uvw.reshape(-1, 3),
             rate.reshape(-1, 3), freq, channel_blocks(freq), float(width), float(span),
             smear is not None, add, out.view(np.float32).reshape(-1, freq.size, 2))
    return out
