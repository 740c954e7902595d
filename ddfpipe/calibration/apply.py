"""Apply full-Jones corrections to visibilities.

The measurement equation of one direction-independent Jones matrix a station is
`V_pq = J_p B_pq J_q^H` (Hamaker, Bregman & Sault 1996, A&AS 117, 137; Smirnov 2011, A&A 527, A106),
so that `B_pq = J_p^-1 V_pq J_q^-H`.
"""

from __future__ import annotations

import numpy as np
from numba import njit


def invert_jones(jones: np.ndarray) -> np.ndarray:
    """Inverse of 2 x 2 matrices stored as (..., 4) = XX, XY, YX, YY.

    Singular or non-finite matrices give zeros: what they touch must be flagged.

    Parameters
    ----------
    jones : (..., 4) complex
    """
    a, b, c, d = np.moveaxis(np.asarray(jones, np.complex128), -1, 0)
    det = a * d - b * c
    good = np.isfinite(det) & (np.abs(det) > 0)
    scale = np.where(good, 1.0 / np.where(good, det, 1.0), 0.0)
    inverse = np.stack([d, -b, -c, a], axis=-1) * scale[..., None]
    return np.where(good[..., None], inverse, 0).astype(np.complex64)


@njit(cache=True, nogil=True)
def correct(vis, inverse, time_index, chan_index, ant1, ant2, out):
    """Corrected visibilities `J_p^-1 V J_q^-H`.

    Parameters
    ----------
    vis, out : (time, bl, chan, 4) complex64
    inverse : (n_time_block, n_chan_block, n_ant, 4) complex64, from `invert_jones`
    time_index : (time,) int, block of each time
    chan_index : (chan,) int, block of each channel
    ant1, ant2 : (bl,) int
    """
    n_time, n_bl, n_chan, _ = vis.shape
    for t in range(n_time):
        for b in range(n_bl):
            for c in range(n_chan):
                p = inverse[time_index[t], chan_index[c], ant1[b]]
                q = inverse[time_index[t], chan_index[c], ant2[b]]
                xx, xy, yx, yy = vis[t, b, c]
                left0 = p[0] * xx + p[1] * yx
                left1 = p[0] * xy + p[1] * yy
                left2 = p[2] * xx + p[3] * yx
                left3 = p[2] * xy + p[3] * yy
                out[t, b, c, 0] = left0 * np.conj(q[0]) + left1 * np.conj(q[1])
                out[t, b, c, 1] = left0 * np.conj(q[2]) + left1 * np.conj(q[3])
                out[t, b, c, 2] = left2 * np.conj(q[0]) + left3 * np.conj(q[1])
                out[t, b, c, 3] = left2 * np.conj(q[2]) + left3 * np.conj(q[3])

