"""Time and bandwidth smearing: rates of the baselines, and what a direction loses.

A sample integrates over `interval` seconds and `chan_width` hertz.  At direction (l, m), with
delay tau = (u l + v m + w (n - 1))/c,

    s = sinc(chan_width tau) sinc(nu interval dtau/dt),     sinc x = sin(pi x)/(pi x)

(Bridle & Schwab 1999, ASP Conf. 180, 371; the product neglects the change of the rate over the
channel and of the delay over the interval, both of second order in small numbers).
"""

from __future__ import annotations

import numpy as np
from numba import njit

from ddfpipe.errors import ImagingError
from ddfpipe.imaging.phasor import FASTMATH, sinc
from ddfpipe.imaging.sky import n_minus_one
from ddfpipe.units import EARTH_RATE, SPEED_OF_LIGHT

BLOCK = 0.01
"""Relative width of channels that are smeared in time as their mean frequency is: an error of 4e-7
times the square of the phase's change over the interval."""


def uvw_rate(uvw, dec0: float) -> np.ndarray:
    """d(u, v, w)/dt in m/s of uvw (..., 3) in metres, phase centre at declination dec0 (rad).

    The hour angle H advances at EARTH_RATE, and the projection of a baseline fixed to the Earth
    (Thompson, Moran & Swenson 2017, equation 4.1) gives

        du/dH = w cos dec0 - v sin dec0,   dv/dH = u sin dec0,   dw/dH = -u cos dec0,

    whichever way the baseline points.  Needs no neighbours in time, so gaps do not matter.
    """
    uvw = np.asarray(uvw, np.float64)
    sin, cos = EARTH_RATE * np.sin(dec0), EARTH_RATE * np.cos(dec0)
    out = np.empty_like(uvw)
    out[..., 0] = cos * uvw[..., 2] - sin * uvw[..., 1]
    out[..., 1] = sin * uvw[..., 0]
    out[..., 2] = -cos * uvw[..., 0]
    return out


@njit(cache=True, nogil=True, fastmath=FASTMATH)
def _factor(uvw, rate, freq, width, span, l, m, n1, out):
    for t in range(uvw.shape[0]):
        for b in range(uvw.shape[1]):
            tau = uvw[t, b, 0] * l + uvw[t, b, 1] * m + uvw[t, b, 2] * n1
            slip = span * (rate[t, b, 0] * l + rate[t, b, 1] * m + rate[t, b, 2] * n1)
            band = sinc(width * tau)
            for c in range(freq.size):
                out[t, b, c] = band * sinc(slip * freq[c])


def _blocks(freq: np.ndarray) -> np.ndarray:
    """(block + 1,) int64: first channels of blocks of at most BLOCK of their frequency."""
    edges = [0]
    for c in range(1, freq.size):
        if abs(freq[c] - freq[edges[-1]]) > BLOCK * freq[edges[-1]]:
            edges.append(c)
    return np.array([*edges, freq.size], np.int64)


@njit(cache=True, nogil=True, fastmath=FASTMATH)
def _mean(uvw, rate, freq, weight, edges, width, span, l, m, n1, step, out):
    """out (node,) = sum w s over every step-th time; returns sum w.

    The channels of a block lose in time what its mean frequency loses.
    """
    total = 0.0
    n_blocks = edges.size - 1
    part, at = np.zeros(n_blocks, np.float32), np.zeros(n_blocks)
    for t in range(0, uvw.shape[0], step):
        for b in range(uvw.shape[1]):
            row = np.float32(0)
            for i in range(n_blocks):
                total_i, moment = np.float32(0), 0.0
                for c in range(edges[i], edges[i + 1]):
                    total_i += weight[t, b, c]
                    moment += weight[t, b, c] * freq[c]
                part[i] = total_i
                at[i] = moment / total_i if total_i > 0 else 0.0
                row += total_i
            if row > 0:
                total += row
                for k in range(l.size):
                    tau = uvw[t, b, 0] * l[k] + uvw[t, b, 1] * m[k] + uvw[t, b, 2] * n1[k]
                    slip = rate[t, b, 0] * l[k] + rate[t, b, 1] * m[k] + rate[t, b, 2] * n1[k]
                    slip *= span
                    a = np.float32(0)
                    for i in range(n_blocks):
                        a += part[i] * sinc(slip * at[i])
                    out[k] += a * sinc(width * tau)
    return total


def _seconds(uvw, rate):
    """uvw and rate (time, bl, 3) over the speed of light, contiguous."""
    uvw = np.ascontiguousarray(uvw, np.float64) / SPEED_OF_LIGHT
    rate = np.ascontiguousarray(rate, np.float64) / SPEED_OF_LIGHT
    if uvw.ndim != 3 or uvw.shape != rate.shape:
        raise ImagingError(f"smearing: uvw {uvw.shape} and their rates {rate.shape} must both be "
                           "(time, bl, 3)")
    return uvw, rate


def smearing_factor(*, uvw, rate, freq, chan_width: float, interval: float, l: float,
                    m: float) -> np.ndarray:
    """Factor s (time, bl, chan) float32 of each sample for a source at (l, m).

    uvw (time, bl, 3) m; rate (time, bl, 3) m/s from `uvw_rate`; freq (chan,) Hz; chan_width Hz;
    interval s; l, m rad.  Raises ImagingError when the shapes disagree.
    """
    freq = np.atleast_1d(np.asarray(freq, np.float64))
    uvw, rate = _seconds(uvw, rate)
    out = np.empty(uvw.shape[:2] + (freq.size,), np.float32)
    _factor(uvw, rate, freq, float(chan_width), float(interval), float(l), float(m),
            float(n_minus_one(l, m)), out)
    return out


def mean_smearing(*, uvw, rate, freq, weight, chan_width: float, interval: float, l, m,
                  step: int = 1) -> tuple[np.ndarray, float]:
    """Weighted sums that give the mean smearing at nodes (l, m): sum w s (shaped like l), sum w.

    Arguments as for `smearing_factor`; weight (time, bl, chan) float32; l, m rad of any shape.
    Only every `step`-th time is used.  Divide the sums of all chunks: mean = sum w s / sum w.
    """
    l, m = np.broadcast_arrays(np.asarray(l, np.float64), np.asarray(m, np.float64))
    freq = np.atleast_1d(np.asarray(freq, np.float64))
    uvw, rate = _seconds(uvw, rate)
    weight = np.ascontiguousarray(weight, np.float32).reshape(uvw.shape[:2] + (freq.size,))
    out = np.zeros(l.size)
    total = _mean(uvw, rate, freq, weight, _blocks(freq), float(chan_width), float(interval),
                  l.ravel(), m.ravel(), n_minus_one(l, m).ravel(), int(step), out)
    return out.reshape(l.shape), total
