"""Direct Fourier sums.  Slow by design, exact, and shared with nothing that makes images.

V_pq(t, nu) = sum_s S_s(nu) K_ps K_qs* E_s(u, v) <exp(2 pi i nu tau_s)>,
tau_s = (u l + v m + w (n - 1)) / c, where <> is the mean over the cell of time and channel.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from ddfpipe.units import SPEED_OF_LIGHT

TWO_PI = 2.0 * math.pi
EARTH_RATE = 7.292115e-5
"""Rotation of the Earth, rad/s."""


@njit(cache=True, nogil=True, forceinline=True)
def _sinc(x):
    """sin(x)/x."""
    if abs(x) < 1e-4:
        return 1.0 - x * x / 6.0
    return math.sin(x) / x


@njit(cache=True, nogil=True, forceinline=True)
def _turned(uvw, pole, angle, out):
    """Baseline `uvw` after the Earth turned by `angle` about `pole` (Rodrigues); into `out`."""
    s = math.sin(angle)
    c = math.cos(angle)
    dot = (uvw[0] * pole[0] + uvw[1] * pole[1] + uvw[2] * pole[2]) * (1.0 - c)
    out[0] = uvw[0] * c + (pole[1] * uvw[2] - pole[2] * uvw[1]) * s + pole[0] * dot
    out[1] = uvw[1] * c + (pole[2] * uvw[0] - pole[0] * uvw[2]) * s + pole[1] * dot
    out[2] = uvw[2] * c + (pole[0] * uvw[1] - pole[1] * uvw[0]) * s + pole[2] * dot


@njit(cache=True, nogil=True, forceinline=True)
def coherencies(uvw, pole, lmn, shape, flux, freq, interval, width, nsub, out):
    """Smeared coherency of each source on one baseline at one time.

    uvw (3,) m, pole (3,) unit vector of the Earth's axis in the uvw frame; lmn (src, 3) with n - 1
    last; shape (src, 3): a, b, c of exp(-(a u^2 + 2 b u v + c v^2)), u and v in wavelengths;
    flux (src, chan) Jy; freq (chan,) Hz, evenly spaced; interval s, width Hz (both 0: the cell's
    centre only).  Adds nothing: fills out (src, chan) complex128.
    """
    nsrc, nchan = flux.shape
    here = np.empty(3)
    step = freq[1] - freq[0] if nchan > 1 else 0.0
    for s in range(nsrc):
        for c in range(nchan):
            out[s, c] = 0.0
    for k in range(nsub):
        _turned(uvw, pole, EARTH_RATE * interval * ((k + 0.5) / nsub - 0.5), here)
        u, v, w = here[0], here[1], here[2]
        du = EARTH_RATE * (pole[1] * w - pole[2] * v)
        dv = EARTH_RATE * (pole[2] * u - pole[0] * w)
        dw = EARTH_RATE * (pole[0] * v - pole[1] * u)
        for s in range(nsrc):
            l, m, n1 = lmn[s, 0], lmn[s, 1], lmn[s, 2]
            tau = (u * l + v * m + w * n1) / SPEED_OF_LIGHT
            rate = (du * l + dv * m + dw * n1) / SPEED_OF_LIGHT
            gauss = shape[s, 0] * u * u + 2.0 * shape[s, 1] * u * v + shape[s, 2] * v * v
            gauss /= SPEED_OF_LIGHT * SPEED_OF_LIGHT
            band = _sinc(math.pi * tau * width) / nsub
            phase = tau * freq[0]
            phase = TWO_PI * (phase - math.floor(phase))
            phasor = complex(math.cos(phase), math.sin(phase)) * band
            turn = complex(math.cos(TWO_PI * tau * step), math.sin(TWO_PI * tau * step))
            slew = math.pi * rate * interval / nsub
            for c in range(nchan):
                value = flux[s, c] * phasor * _sinc(slew * freq[c])
                if gauss > 0.0:
                    value *= math.exp(-gauss * freq[c] * freq[c])
                out[s, c] += value
                phasor *= turn


@njit(cache=True, nogil=True)
def predict_scalar(uvw, pole, ant1, ant2, gain, lmn, shape, flux, freq, interval, width, nsub, out):
    """Sum over sources with scalar gains.

    uvw (time, bl, 3), pole (time, 3), ant1 and ant2 (bl,), gain (time, ant, src, chan) complex64;
    the rest as in `coherencies`.  Fills out (time, bl, chan) complex128.
    """
    nsrc, nchan = flux.shape
    coh = np.empty((nsrc, nchan), np.complex128)
    for t in range(uvw.shape[0]):
        for b in range(uvw.shape[1]):
            coherencies(uvw[t, b], pole[t], lmn, shape, flux, freq, interval, width, nsub, coh)
            gp = gain[t, ant1[b]]
            gq = gain[t, ant2[b]]
            for c in range(nchan):
                total = complex(0.0, 0.0)
                for s in range(nsrc):
                    total += coh[s, c] * gp[s, c] * np.conj(gq[s, c])
                out[t, b, c] = total


@njit(cache=True, nogil=True)
def predict_jones(uvw, pole, ant1, ant2, gain, lmn, shape, flux, freq, interval, width, nsub, out):
    """Sum over sources with 2 x 2 gains: V = sum_s coherency J_p J_q^H.

    The gains of a polarised source hold the root of its brightness matrix, see `sky`.

    gain (time, ant, src, chan, 2, 2) complex64; fills out (time, bl, chan, 4) complex128, in the
    order XX, XY, YX, YY; the rest as in `predict_scalar`.
    """
    nsrc, nchan = flux.shape
    coh = np.empty((nsrc, nchan), np.complex128)
    for t in range(uvw.shape[0]):
        for b in range(uvw.shape[1]):
            coherencies(uvw[t, b], pole[t], lmn, shape, flux, freq, interval, width, nsub, coh)
            jp = gain[t, ant1[b]]
            jq = gain[t, ant2[b]]
            for c in range(nchan):
                for i in range(2):
                    for j in range(2):
                        total = complex(0.0, 0.0)
                        for s in range(nsrc):
                            x = jp[s, c, i, 0] * np.conj(jq[s, c, j, 0])
                            x += jp[s, c, i, 1] * np.conj(jq[s, c, j, 1])
                            total += coh[s, c] * x
                        out[t, b, c, 2 * i + j] = total


@njit(cache=True, nogil=True)
def apply_stations(ant1, ant2, jones, vis, out):
    """Direction-independent errors: out = J_p V J_q^H.

    jones (time, ant, chan, 2, 2), vis (time, bl, chan, 4) complex128 -> out, same shape.
    """
    for t in range(vis.shape[0]):
        for b in range(vis.shape[1]):
            jp = jones[t, ant1[b]]
            jq = jones[t, ant2[b]]
            for c in range(vis.shape[2]):
                for i in range(2):
                    x = jp[c, i, 0] * vis[t, b, c, 0] + jp[c, i, 1] * vis[t, b, c, 2]
                    y = jp[c, i, 0] * vis[t, b, c, 1] + jp[c, i, 1] * vis[t, b, c, 3]
                    for j in range(2):
                        out[t, b, c, 2 * i + j] = x * np.conj(jq[c, j, 0]) + y * np.conj(
                            jq[c, j, 1]
                        )
