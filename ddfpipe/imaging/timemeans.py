"""Means over time of sums over channels, as samples for a facet's grid: part of `facetpass`.

uvw (3, TIMES) float64 s; ar, ai, an, ax (TIMES,) float32: sums over channels of w K* V (real and
imaginary part), of w|K|² and of w|K|² (nu/nu_0 - 1).  A sample lies at its centroid.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from ddfpipe.imaging.phasor import BORROW


@njit(**BORROW, forceinline=True)
def _singles(n, nu0, uvw, facet, ar, ai, an, ax, x, y, tau, vis, at, count):
    """`mean_times` where nothing is averaged in time: a time without weight takes a place too."""
    a, b, us, vs, ws = facet[0], facet[1], facet[2], facet[3], facet[4]
    total = 0.0
    for t in range(n):
        good = an[t] > 0
        nu = nu0 * (an[t] + ax[t]) / (an[t] if good else np.float32(1))
        w = nu * uvw[2, t]
        x[count + t] = (nu * uvw[0, t] + a * w) * us
        y[count + t] = (nu * uvw[1, t] + b * w) * vs
        tau[count + t] = w * ws
        at[count + t] = 0 if good else -1
        total += an[t]
    for t in range(n):
        vis[2 * (count + t)], vis[2 * (count + t) + 1] = ar[t], ai[t]
    return count + n, total


@njit(**BORROW, forceinline=True)
def mean_times(n, times, ends, nu0, uvw, facet, ar, ai, an, ax, x, y, tau, vis, at, count):
    """Append the means of up to `times` times to the samples from `count` on.

    Returns the new count and the sum of an.

    ends (TIMES,): index behind the run of times without gap that each one belongs to.
    """
    if times == 1:
        return _singles(n, nu0, uvw, facet, ar, ai, an, ax, x, y, tau, vis, at, count)
    a, b, us, vs, ws = facet[0], facet[1], facet[2], facet[3], facet[4]
    total = 0.0
    i = 0
    while i < n:
        left = ends[i] - i
        parts = (left + times - 1) // times
        stop = i + (left + parts - 1) // parts
        s_re = s_im = s_n = np.float32(0)
        s_u = s_v = s_w = 0.0
        for t in range(i, stop):
            s_re += ar[t]
            s_im += ai[t]
            s_n += an[t]
            f = nu0 * (an[t] + ax[t])
            s_u += f * uvw[0, t]
            s_v += f * uvw[1, t]
            s_w += f * uvw[2, t]
        i = stop
        if s_n > 0:
            total += s_n
            per = 1.0 / s_n
            s_w *= per
            x[count], y[count] = (s_u * per + a * s_w) * us, (s_v * per + b * s_w) * vs
            tau[count] = s_w * ws
            vis[2 * count], vis[2 * count + 1] = s_re, s_im
            at[count] = 0
            count += 1
    return count, total
