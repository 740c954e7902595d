"""Solution intervals that are short enough for what the gains do within them.

Gains are constant within an interval.  Where a bright source turns by more than its signal to
noise hides, each visibility keeps flux times (change of phase), and no iteration of model and gains
removes it.  What that costs is in the data: a share of the baselines takes no part in fits of
the first intervals, once with intervals as asked for and once with halves of them, and χ² on the
held-out baselines says which predicts them better.  Noise that shorter intervals take up raises it.
Halves are taken as long as they lower it by `WORTH` of itself, and significantly.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from ddfpipe.calibration.filter import Array, FilterChain
from ddfpipe.calibration.intervals import solution_intervals
from ddfpipe.calibration.options import SolverOptions
from ddfpipe.calibration.priors import Hyperparameters
from ddfpipe.calibration.statistics import block_statistics, chi_squared
from ddfpipe.calibration.tuning import MIN_ANTENNAS, held_out

WORTH = 0.1
"""Least relative fall of held-out χ² for which intervals are halved: what the model lacks is taken
up a little better by shorter intervals too, and that is no reason."""

SIGNIFICANT = 3.0
"""Standard errors by which it must fall; samples of one baseline do not count as independent."""

LEAST_CHANGE = 1.3
"""Intervals shorter than this many exposures are left as they are."""

FIRST = 2
"""Intervals (as asked for) at the beginning that do not count: they know no past."""


@dataclass(frozen=True)
class Samples:
    """A piece of the data and its model.

    model: (n_dir, n_time, n_bl, n_chan) complex64; data, weight: (n_time, n_bl, n_chan) complex64
    and float32, weights on an absolute scale; times: (n_time,) centres, s; exposure: s.
    """

    model: np.ndarray
    data: np.ndarray
    weight: np.ndarray
    times: np.ndarray
    exposure: float


@dataclass(frozen=True)
class Length:
    """dt: interval in s.  chi2: χ² a held-out sample of each length tried, dt first asked for."""

    dt: float
    chi2: dict[float, float]


def fitting_length(samples: Samples, dt: float, array: Array, options: SolverOptions,
                   hyper: Hyperparameters, start=None) -> Length:
    """Length of the solution intervals: dt, or a half, a quarter... of it, at least the exposure.

    dt: length asked for, s.  start: as of `FilterChain`.  With fewer than MIN_ANTENNAS stations or
    FIRST + 1 intervals there is too little to choose by, and dt it is.
    """
    hold = held_out(array, options.hold_out)
    edges = solution_intervals(samples.times, samples.exposure, dt)[0]
    if array.n_ant < MIN_ANTENNAS or not hold.any() or len(edges) <= FIRST:
        return Length(dt, {})
    options = replace(options, smooth=False)
    begin = float(edges[FIRST, 0])
    found = _held_chi2(samples, dt, array, options, hyper, hold, begin, start)
    tried = {dt: float(found.sum())}
    while found.any() and dt > LEAST_CHANGE * samples.exposure:
        shorter = max(dt / 2, samples.exposure)
        other = _held_chi2(samples, shorter, array, options, hyper, hold, begin, start)
        tried[shorter] = float(other.sum())
        fall = found - other
        error = fall.std(ddof=1) * np.sqrt(fall.size)
        if fall.sum() < max(WORTH * found.sum(), SIGNIFICANT * error):
            break
        dt, found = shorter, other
    return Length(dt, tried)


def _held_chi2(samples: Samples, dt: float, array: Array, options: SolverOptions,
               hyper: Hyperparameters, hold: np.ndarray, begin: float, start):
    """Shares of held-out baselines in χ² a held-out sample, of intervals after `begin` (s)."""
    edges, number = solution_intervals(samples.times, samples.exposure, dt)
    chain = FilterChain(array, options, hyper, use=~hold, start=start)
    total, count = np.zeros(int(hold.sum())), 0
    for k, edge in enumerate(edges):
        slots = np.flatnonzero(number == k)
        rows = slice(slots[0], slots[-1] + 1)
        stats = block_statistics(samples.model[:, rows], samples.data[rows], samples.weight[rows])
        result = chain.step(stats, edge)
        if edge.mean() >= begin:
            gains = np.exp(result.log_amp + 1j * result.phase)
            total += chi_squared(stats, gains, array.ant1, array.ant2)[hold]
            count += int(stats.count[hold].sum())
    return total / max(count, 1)
