"""The absolute noise of visibilities.

Weights of LOFAR data are relative.  The noise itself is measured where the sky drops out: in
differences of neighbouring samples, in time and in frequency at once,

    D = V(t, ν) - V(t+1, ν) - V(t, ν+1) + V(t+1, ν+1),

whose variance is s² Σ 1/w over the four.  A median resists interference; per baseline it is
combined with the product of station noises that fits all baselines.
"""

from __future__ import annotations

import numpy as np

from ddfpipe.errors import SolveError

PRIOR_SAMPLES = 30
"""Differences worth of trust in the station model beside a baseline's own."""


CLIP = 8.0
"""Multiple of the mean of |D|² above which it is interference: noise gets there 3 times in 10⁴."""


def _differences(values: np.ndarray, axis: int) -> np.ndarray:
    return np.diff(values, axis=axis) if values.shape[axis] > 1 else values


def normalized_differences(data: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """|D|² / Σ(1/w), (nt', n_bl, nc') float64, NaN where a sample is flagged.

    data: (nt, n_bl, n_chan) complex; weight: same shape, relative, zero where flagged.  Axes of
    length one are not differenced.
    """
    good = (weight > 0) & np.isfinite(data)
    inverse = np.where(good, 1.0 / np.where(good, weight, 1.0), np.nan).astype(np.float64)
    difference = np.where(good, data, np.nan)
    for axis in (0, 2):
        difference = _differences(difference, axis)
        if inverse.shape[axis] > 1:
            first = np.take(inverse, range(inverse.shape[axis] - 1), axis=axis)
            inverse = first + np.take(inverse, range(1, inverse.shape[axis]), axis=axis)
    return np.abs(difference) ** 2 / inverse


def estimate_sigma(data: np.ndarray, weight: np.ndarray, ant1: np.ndarray, ant2: np.ndarray,
                   n_ant: int, chan_block: np.ndarray | None = None) -> np.ndarray:
    """Scale s of the noise of each baseline and channel block, (n_block, n_bl) float64.

    The noise of a sample has <|n|²> = s² / w, so that w / s² is the absolute weight 1 / <|n|²>.
    data: (nt, n_bl, n_chan) complex, best with the model subtracted; weight: same shape;
    chan_block: (n_chan,) int (None: one block; negative: not used).
    Raises SolveError when there are no two neighbouring samples to subtract.
    """
    if data.shape[0] < 2 and data.shape[2] < 2:
        raise SolveError("the noise cannot be measured from a single time and channel; give more "
                         "data at once")
    block = np.zeros(data.shape[2], int) if chan_block is None else np.asarray(chan_block)
    out = []
    for number in range(int(block.max()) + 1):
        channels = np.flatnonzero(block == number)
        if not len(channels):
            out.append(np.full(data.shape[1], np.nan))
            continue
        power = normalized_differences(data[:, :, channels], weight[:, :, channels])
        power = np.moveaxis(power, 1, 0).reshape(data.shape[1], -1)
        variance, count = _robust_mean(power)
        out.append(combine(variance, count, ant1, ant2, n_ant))
    return np.sqrt(np.array(out))


def _robust_mean(power: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean of exponentially distributed rows by their median, and the number of values, (n,).

    |D|² of complex Gaussian noise is exponential: its median is ln 2 of its mean.  Values above
    CLIP times the estimate are interference, and left out of a second round.
    """
    mean = np.full(len(power), np.nan)
    limit = np.inf
    count = np.zeros(len(power), int)
    for _ in range(3):
        power = np.where(power > limit, np.nan, power)
        count = np.isfinite(power).sum(axis=1)
        known = count > 0
        mean[known] = np.nanmedian(power[known], axis=1) / np.log(2.0)
        limit = CLIP * np.where(known, mean, np.inf)[:, None]
    return mean, count


def combine(variance: np.ndarray, count: np.ndarray, ant1: np.ndarray, ant2: np.ndarray,
            n_ant: int) -> np.ndarray:
    """Variances per baseline pulled towards the product of station noises, (n_bl,).

    variance, count: (n_bl,), each a mean over `count` samples; NaN for all where none is known.
    """
    known = (count > 0) & np.isfinite(variance) & (variance > 0)
    if not known.any():
        return np.full(len(variance), np.nan)
    log = np.log(np.where(known, variance, 1.0))
    fit = _station_fit(log, np.where(known, count, 0), ant1, ant2, n_ant)
    own = np.where(known, count, 0)
    return np.exp((own * log + PRIOR_SAMPLES * fit) / (own + PRIOR_SAMPLES))


def _station_fit(log: np.ndarray, count: np.ndarray, ant1: np.ndarray, ant2: np.ndarray,
                 n_ant: int) -> np.ndarray:
    """log s²_pq = x_p + x_q by least squares, reweighted twice against outliers, (n_bl,)."""
    weight = np.minimum(count, 10 * PRIOR_SAMPLES).astype(np.float64)
    design = np.zeros((len(log), n_ant))
    design[np.arange(len(log)), ant1] += 1
    design[np.arange(len(log)), ant2] += 1
    usual = np.median(log[count > 0])
    fit = np.zeros(len(log))
    robust = np.ones(len(log))
    for _ in range(3):
        root = np.sqrt(weight * robust)[:, None]
        # A weak pull to the usual value serves stations without a measurement.
        rows = np.concatenate([design * root, 1e-3 * np.eye(n_ant)])
        target = np.concatenate([log * root[:, 0], np.full(n_ant, 1e-3 * usual / 2)])
        fit = design @ np.linalg.lstsq(rows, target, rcond=None)[0]
        residual = log - fit
        spread = 1.4826 * np.median(np.abs(residual[count > 0])) + 1e-6
        robust = 1.0 / np.maximum(1.0, np.abs(residual) / (2 * spread))
    return fit


def absolute_weights(weight: np.ndarray, sigma: np.ndarray,
                     chan_block: np.ndarray | None = None) -> np.ndarray:
    """Weights 1 / <|noise|²>, float32, from relative ones (nt, n_bl, n_chan) and `estimate_sigma`;
    baselines of unknown noise and channels of no block get zero."""
    n_chan = weight.shape[2]
    block = np.zeros(n_chan, int) if chan_block is None else np.asarray(chan_block)
    scale = np.where(np.isfinite(sigma) & (sigma > 0), sigma, np.inf) ** -2.0
    factor = np.where(block[:, None] >= 0, scale[block], 0.0).T
    return (weight * factor[None]).astype(np.float32)
