"""The flux of the field towards single directions, sample of time and frequency by sample.

A source of flux S(t, ν) at (l, m) gives V_pq = s K_pq S exp(2 pi i ν τ), with the gain K, the
smearing s and the delay τ of docs/conventions.md.  Least squares over the baselines of one time
and channel, with weights w, is

    S = Σ w s Re(K* V exp(-2 pi i ν τ)) / Σ w s² |K|²,

of variance 1/(2 Σ w s² |K|²) where the weights are inverse variances <|n|²>^-1.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from ddfpipe.errors import ImagingError
from ddfpipe.imaging.phasor import FASTMATH, reduce_turns, sinc, sincos_turns
from ddfpipe.imaging.sky import n_minus_one
from ddfpipe.units import SPEED_OF_LIGHT


@njit(cache=True, nogil=True, fastmath=FASTMATH)
def _sum(first, second, weight, uvw, rate, freq, l, m, n1, gain, chan_index, ant1, ant2,
         width, span, smear, out, norm):
    """Add numerators to out (2, pos, time, chan) and denominators to norm (pos, time, chan).

    uvw and rate in seconds and 1; gain (pos, time, channel block, ant).
    """
    for t in range(weight.shape[0]):
        for b in range(weight.shape[1]):
            row = np.float32(0)
            for c in range(freq.size):
                row += weight[t, b, c]
            if not row > 0:
                continue
            u, v, w = uvw[t, b, 0], uvw[t, b, 1], uvw[t, b, 2]
            p, q = ant1[b], ant2[b]
            for k in range(l.size):
                tau = u * l[k] + v * m[k] + w * n1[k]
                slip = span * (
                    rate[t, b, 0] * l[k] + rate[t, b, 1] * m[k] + rate[t, b, 2] * n1[k]
                )
                band = sinc(width * tau) if smear else np.float32(1)
                for c in range(freq.size):
                    share = weight[t, b, c]
                    if not share > 0:
                        continue
                    g = gain[k, t, chan_index[c], p]
                    h = gain[k, t, chan_index[c], q]
                    s = band * sinc(slip * freq[c]) if smear else band
                    re = s * (g.real * h.real + g.imag * h.imag)
                    im = s * (g.imag * h.real - g.real * h.imag)
                    x, y = sincos_turns(reduce_turns(tau * freq[c]))
                    # s K exp(2 pi i ν τ); what follows multiplies by its conjugate
                    a, d = re * x - im * y, re * y + im * x
                    one, two = first[t, b, c], second[t, b, c]
                    out[0, k, t, c] += share * (a * one.real + d * one.imag)
                    out[1, k, t, c] += share * (a * two.real + d * two.imag)
                    norm[k, t, c] += share * (re * re + im * im)


def beamform(*, first, second, weight, uvw, rate, freq, l, m, gain, chan_index, ant1, ant2,
             smear=None) -> tuple[np.ndarray, np.ndarray]:
    """Flux towards directions in two sets of visibilities that share weights and gains.

    first, second: (time, bl, chan) complex64, such as Stokes I and V; weight: the same, float32.
    uvw: (time, bl, 3) m; rate: (time, bl, 3) m/s, `smearing.uvw_rate`; freq: (chan,) Hz.
    l, m: (pos,) rad.  gain: (pos, time, channel block, ant) complex64 voltage gains, zero for
    stations that are to be left out; chan_index: (chan,) block of each channel; ant1, ant2: (bl,).
    smear: None, or (channel width Hz, interval s).

    Returns ((2, pos, time, chan) float32 Jy, (pos, time, chan) float32 Σ w s² |K|²); flux is NaN
    where that weight is zero.  Raises ImagingError when shapes disagree.
    """
    l, m = np.asarray(l, np.float64), np.asarray(m, np.float64)
    freq = np.asarray(freq, np.float64)
    shape = (uvw.shape[0], uvw.shape[1], freq.size)
    if not (first.shape == second.shape == weight.shape == shape) or l.shape != m.shape \
            or gain.shape[:2] != (l.size, shape[0]) or len(chan_index) != freq.size:
        raise ImagingError(f"spectra: visibilities {first.shape}, weights {weight.shape}, uvw "
                           f"{uvw.shape}, {l.size} directions and gains {gain.shape} do not fit")
    out = np.zeros((2, l.size, shape[0], shape[2]))
    norm = np.zeros(out.shape[1:])
    width, span = smear or (0.0, 0.0)
    _sum(
        np.ascontiguousarray(first, np.complex64), np.ascontiguousarray(second, np.complex64),
        np.ascontiguousarray(weight, np.float32),
        np.ascontiguousarray(uvw, np.float64) / SPEED_OF_LIGHT,
        np.ascontiguousarray(rate, np.float64) / SPEED_OF_LIGHT, freq, l, m, n_minus_one(l, m),
        np.ascontiguousarray(gain, np.complex64), np.asarray(chan_index, np.int64),
        np.asarray(ant1, np.int64), np.asarray(ant2, np.int64), float(width), float(span),
        smear is not None, out, norm,
    )
    with np.errstate(invalid="ignore", divide="ignore"):
        flux = np.where(norm > 0, out / norm, np.nan).astype(np.float32)
    return flux, norm.astype(np.float32)
