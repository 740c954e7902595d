"""The sub-minor loop of the deconvolution: CLEAN on a list of pixels.

Clark (1980, A&A 89, 377) searches components among the few pixels above a level with a patch of the
PSF; Offringa & Smirnov (2017, MNRAS 471, 301) do so at one scale at a time.  The image itself is
corrected afterwards by one convolution, see `clean`.
"""

from __future__ import annotations


import numpy as np
from numba import njit

BLOCK = 256
"""Pixels of the list whose maximum is kept; the search looks at one value a block."""


@njit(cache=True, nogil=True, forceinline=True)
def _refresh(block, score, headroom, allow_negative, best, where):
    """Largest usable score of a block of the pixel list, and its position."""
    top = -1.0
    place = block * BLOCK
    for i in range(block * BLOCK, min((block + 1) * BLOCK, score.size)):
        value = score[i]
        if value < 0.0:
            if not allow_negative and headroom[i] <= 0.0:
                continue
            value = -value
        if value > top:
            top = value
            place = i
    best[block] = top
    where[block] = place


@njit(cache=True, nogil=True, forceinline=True)
def fit_spectrum(values, centre, norm, weight, slope, n_terms, out):
    """Fit band values r_b by centre_b norm_b (a + c slope_b), inverse variances weight/centre.

    All arguments (band,).  out_b = a + c slope_b, the intrinsic flux.  With n_terms 1 only `a` is
    fitted; with as many terms as bands the fit is exact.
    """
    s0 = s1 = s2 = t0 = t1 = 0.0
    for b in range(values.size):
        w = weight[b] * norm[b]
        r = centre[b] * norm[b]
        s0 += w * r
        s1 += w * r * slope[b]
        s2 += w * r * slope[b] * slope[b]
        t0 += w * values[b]
        t1 += w * values[b] * slope[b]
    a = t0 / s0 if s0 > 0.0 else 0.0
    c = 0.0
    if n_terms > 1:
        det = s0 * s2 - s1 * s1
        if det > 1e-9 * s0 * s2:
            a = (t0 * s2 - t1 * s1) / det
            c = (t1 * s0 - t0 * s1) / det
    for b in range(values.size):
        out[b] = a + c * slope[b]


@njit(cache=True, nogil=True, forceinline=True)
def _subtract(score, coef, vals, cols, row_start, row, col, flux, patch, stamp, mark, touched):
    """Subtract one component from the listed pixels; returns how many blocks it touched."""
    half = patch.shape[1] // 2
    n_touched = 0
    for y in range(max(0, row - half), min(row_start.size - 1, row + half + 1)):
        first, last = row_start[y], row_start[y + 1]
        if first == last:
            continue
        lo = first + np.searchsorted(cols[first:last], col - half)
        hi = first + np.searchsorted(cols[first:last], col + half + 1)
        if lo == hi:
            continue
        dy = half + y - row
        shift = half - col
        for b in range(flux.size):
            f = np.float32(flux[b])
            for i in range(lo, hi):
                change = f * patch[b, dy, cols[i] + shift]
                vals[b, i] -= change
                score[i] -= coef[b, i] * change
        for block in range(lo // BLOCK, (hi - 1) // BLOCK + 1):
            if stamp[block] != mark:
                stamp[block] = mark
                touched[n_touched] = block
                n_touched += 1
    return n_touched


@njit(cache=True, nogil=True)
def clean_list(vals, score, coef, rows, cols, row_start, facet, norm, headroom, patch, centre,
               weight, slope, n_terms, gain, stop, allow_negative, max_components):
    """CLEAN the listed pixels down to the score `stop`.

    vals     (band, n) f4  convolved residual at the pixels; updated
    score    (n,) f4       sum over bands of coef * vals; updated
    rows, cols (n,) i4     pixels in row-major order; row_start (ny + 1,) i8 bounds of each row
    facet    (n,) i2       PSF of each pixel; norm (band, n) f4 apparent over intrinsic flux
    headroom (n,) f4       how much apparent flux may be taken away again; updated
    patch    (facet, band, p, p) f4   PSF of a component in the convolved residual, p odd
    centre   (facet, band) f8   its central value
    weight   (band,) f8, sum 1; slope (band,) f8 spectral basis of the second term

    Returns positions (k,) i8 in the list, apparent fluxes (k, band) f8 and the last best score.
    """
    n_band, n = vals.shape
    n_block = (n + BLOCK - 1) // BLOCK
    best = np.empty(n_block, np.float64)
    where = np.empty(n_block, np.int64)
    stamp = np.full(n_block, -1, np.int64)
    touched = np.empty(n_block, np.int64)
    for block in range(n_block):
        _refresh(block, score, headroom, allow_negative, best, where)
    positions = np.empty(max_components, np.int64)
    fluxes = np.empty((max_components, n_band), np.float64)
    flux = np.empty(n_band)
    count = 0
    top = 0.0
    highest = 2.0 * best.max() if n_block > 0 else 0.0  # beyond it the loop diverges
    while n_block > 0:
        block = np.argmax(best)
        top = best[block]
        if top > highest:
            break
        if top < stop or top <= 0.0 or count == max_components:
            break
        i = where[block]
        f = facet[i]
        fit_spectrum(vals[:, i], centre[f], norm[:, i], weight, slope, n_terms, flux)
        total = 0.0
        for b in range(n_band):
            flux[b] *= gain * norm[b, i]
            total += weight[b] * flux[b]
        if total < 0.0 and not allow_negative and -total >= headroom[i]:
            share = headroom[i] / -total
            for b in range(n_band):
                flux[b] *= share
            headroom[i] = 0.0
        else:
            headroom[i] += total
        positions[count] = i
        fluxes[count] = flux
        n_touched = _subtract(score, coef, vals, cols, row_start, rows[i], cols[i], flux,
                              patch[f], stamp, count, touched)
        count += 1
        for k in range(n_touched):
            _refresh(touched[k], score, headroom, allow_negative, best, where)
    return positions[:count].copy(), fluxes[:count].copy(), top
