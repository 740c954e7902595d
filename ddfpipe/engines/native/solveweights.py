"""Imaging weights from the residuals of a solve, kept beside its solutions."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ...calibration.gains import nearest_interval
from ...calibration.weights import imaging_weights
from ...data.atomic import atomic_write_npz
from ...errors import SolveError


@dataclass(frozen=True)
class SolverWeights:
    """Factors on WEIGHT_SPECTRUM that make it the inverse variance of the residuals.

    time_edges : (n_time, 2) s; freq_edges : (n_chan, 2) Hz
    factor : (n_time, n_chan, n_bl) float32, baselines as in the visibility cache
    """

    time_edges: np.ndarray
    freq_edges: np.ndarray
    factor: np.ndarray

    def on_grid(self, time: np.ndarray, freq: np.ndarray) -> np.ndarray:
        """(time, bl, chan) float32 factors of the nearest intervals."""
        t = nearest_interval(self.time_edges, time)
        f = nearest_interval(self.freq_edges, freq)
        return np.moveaxis(self.factor[t[:, None], f[None, :]], 1, 2)


def residual_weights(cache, facts: dict, freq_edges, sigma) -> SolverWeights:
    """Weights from a solver's χ² of every baseline.

    facts : diagnostics with "baseline_chi2", "baseline_count" (n_time, n_chan, n_bl[, hand]) and
        "time_edges"
    sigma : (bl,) noise of a sample of weight one, Jy
    """
    chi2, count = facts["baseline_chi2"], facts["baseline_count"]
    if chi2.ndim == 4:  # both hands of diagonal gains
        chi2, count = chi2.sum(axis=-1), count.sum(axis=-1)
    scale = np.where(np.isfinite(sigma) & (sigma > 0), sigma, np.inf) ** -2.0
    scale /= max(np.median(scale[scale > 0]), 1e-300)
    factor = np.empty(chi2.shape, np.float32)
    for block in range(chi2.shape[1]):
        variance = chi2[:, block] / np.maximum(count[:, block], 1)
        share = imaging_weights(variance, count[:, block], cache.ant1, cache.ant2, cache.n_ant)
        factor[:, block] = share * scale
    return SolverWeights(facts["time_edges"], np.asarray(freq_edges), factor)


def weights_path(solsdir: Path, ms: str, name: str) -> Path:
    """<solsdir>/<ms>/ddfpipe.<name>.weights.npz."""
    return Path(solsdir) / ms / f"ddfpipe.{name}.weights.npz"


def save_weights(solsdir: Path, ms: str, name: str, weights: SolverWeights) -> Path:
    """Write the weights of one measurement set."""
    path = weights_path(solsdir, ms, name)
    atomic_write_npz(
        path, time_edges=weights.time_edges, freq_edges=weights.freq_edges, factor=weights.factor
    )
    return path


def load_weights(solsdir: Path, ms: str, name: str) -> SolverWeights:
    """Read the weights that solve `name` left for a measurement set.

    Raises SolveError when there are none.
    """
    path = weights_path(solsdir, ms, name)
    try:
        with np.load(path) as z:
            return SolverWeights(z["time_edges"], z["freq_edges"], z["factor"])
    except (OSError, ValueError, KeyError) as error:
        raise SolveError(f"{path}: no imaging weights there ({error}); "
                         f"redo the solve {name}") from None
