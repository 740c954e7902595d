"""The noise beside bright sources, from residuals.

Differences of neighbouring samples (noise_scale.py) hold what is left of the sky between them: on
long baselines, far from the centre, nearly all of a source.  Beside bright sources the noise of
those baselines is overestimated and they count too little.  Once gains are known roughly the sky
can be taken out first, and then hardly anything of it is left in the differences.
"""

from __future__ import annotations

import numpy as np

from ddfpipe.calibration.noise_scale import estimate_sigma

FEWEST = 8
"""Double differences of a baseline below which they are not trusted."""


def differences(n_time: int, n_chan: int) -> int:
    """Number of double differences that so many times and channels make."""
    return max(n_time - 1, 1) * max(n_chan - 1, 1) if max(n_time, n_chan) > 1 else 0


def residual(model: np.ndarray, data: np.ndarray, gains: np.ndarray, ant1: np.ndarray,
             ant2: np.ndarray) -> np.ndarray:
    """Data less the model seen through gains, (n_time, n_bl, n_chan) complex64.

    model: (n_dir, n_time, n_bl, n_chan); gains: (n_ant, n_dir) complex.
    """
    pair = (gains[ant1] * np.conj(gains[ant2])).astype(np.complex64)
    out = np.array(data, np.complex64)
    for d in range(len(model)):
        out -= pair[None, :, d, None] * model[d]
    return out


def overestimated(model: np.ndarray, data: np.ndarray, weight: np.ndarray, gains: np.ndarray,
                  ant1: np.ndarray, ant2: np.ndarray) -> np.ndarray:
    """Factor on the weights of each baseline, (n_bl,) float64, one or more.

    weight: (n_time, n_bl, n_chan) inverse variances; the factor is how much smaller the variance of
    the residual's differences is than they say.  A larger one changes nothing: that is the model's
    error, of which the first estimate knows nothing either.
    """
    n_time, _, n_chan = data.shape
    if differences(n_time, n_chan) < FEWEST:
        return np.ones(data.shape[1])
    left = residual(model, data, gains, ant1, ant2)
    sigma = estimate_sigma(left, weight, ant1, ant2, len(gains))[0]
    known = np.isfinite(sigma) & (sigma > 0)
    return np.where(known, np.maximum(1.0, 1.0 / np.where(known, sigma, 1.0) ** 2), 1.0)
