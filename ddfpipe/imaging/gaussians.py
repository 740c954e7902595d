"""Visibilities of Gaussian components by direct summation; see `components` for points.

A Gaussian of standard deviations s1, s2 along its axes is a point times

    exp(-2 pi² (nu/c)² ((s1 u1)² + (s2 u2)²)),

with u1, u2 the baseline along these axes.  Components that a baseline resolves out are passed over.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from ddfpipe.errors import ImagingError
from ddfpipe.imaging.phasor import FASTMATH, reduce_turns, sinc, sincos_turns
from ddfpipe.imaging.sky import n_minus_one
from ddfpipe.units import SPEED_OF_LIGHT

_FAINT = 20.0
"""Exponent beyond which nothing is left of a component."""


@njit(cache=True, nogil=True, fastmath=FASTMATH)
def _predict(l, m, n1, flux, shape, uvw, rate, freq, width, span, smear, out):
    """uvw and rate in seconds and 1, shape (src, 3), flux (src, chan), out (time, bl, chan, 2)."""
    lowest = freq.min() ** 2
    for t in range(uvw.shape[0]):
        for b in range(uvw.shape[1]):
            u, v, w = uvw[t, b, 0], uvw[t, b, 1], uvw[t, b, 2]
            for s in range(l.size):
                decay = shape[s, 0] * u * u + 2.0 * shape[s, 1] * u * v + shape[s, 2] * v * v
                if decay * lowest > _FAINT:
                    continue
                tau = u * l[s] + v * m[s] + w * n1[s]
                slip = span * (
                    rate[t, b, 0] * l[s] + rate[t, b, 1] * m[s] + rate[t, b, 2] * n1[s]
                )
                band = sinc(width * tau) if smear else np.float32(1)
                for c in range(freq.size):
                    x, y = sincos_turns(reduce_turns(tau * freq[c]))
                    a = flux[s, c] * band * np.float32(np.exp(-decay * freq[c] * freq[c]))
                    if smear:
                        a *= sinc(slip * freq[c])
                    out[t, b, c, 0] += a * x
                    out[t, b, c, 1] += a * y


def shape_matrix(major, minor, angle) -> np.ndarray:
    """(src, 3) elements uu, uv, vv of the exponent of Gaussians, in rad².

    major, minor: (src,) standard deviations in rad; angle: of the major axis, from +m towards +l.
    """
    sin, cos = np.sin(angle), np.cos(angle)
    along, across = np.asarray(major) ** 2, np.asarray(minor) ** 2
    # along the major axis the baseline is u sin + v cos, across it u cos - v sin
    uu = along * sin**2 + across * cos**2
    vv = along * cos**2 + across * sin**2
    uv = (along - across) * sin * cos
    return 2 * np.pi**2 * np.stack([uu, uv, vv], axis=-1)


def predict_gaussians(*, l, m, flux, major, minor, angle, uvw, freq, smear=None, out=None):
    """Visibilities of Gaussian components; adds to `out` where it is given.

    l, m: (src,) rad; flux: (src, chan) Jy; major, minor, angle: see `shape_matrix`;
    uvw, freq, smear, out: as for `components.predict_components`.
    Returns (time, bl, chan) complex64.  Raises ImagingError when shapes disagree.
    """
    l, m = np.asarray(l, np.float64), np.asarray(m, np.float64)
    freq, flux = np.asarray(freq, np.float64), np.ascontiguousarray(flux, np.float32)
    uvw = np.ascontiguousarray(uvw, np.float64)
    size = uvw.shape[:2] + (freq.size,)
    if out is None:
        out = np.zeros(size, np.complex64)
    if uvw.ndim != 3 or flux.shape != (l.size, freq.size) or out.shape != size \
            or out.dtype != np.complex64 or not out.flags.c_contiguous:
        raise ImagingError(f"prediction: {l.size} Gaussians, flux {flux.shape}, uvw {uvw.shape}, "
                           f"{freq.size} channels and an output {out.shape} do not fit together")
    width, span, rate = (0.0, 0.0, np.zeros((1, 1, 3))) if smear is None else smear
    rate = np.broadcast_to(np.asarray(rate, np.float64) / SPEED_OF_LIGHT, uvw.shape)
    _predict(l, m, n_minus_one(l, m), flux, np.ascontiguousarray(shape_matrix(major, minor, angle)),
             uvw / SPEED_OF_LIGHT, np.ascontiguousarray(rate), freq, float(width), float(span),
             smear is not None, out.view(np.float32).reshape(size + (2,)))
    return out
