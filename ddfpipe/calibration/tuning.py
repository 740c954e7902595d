"""Choice of the prior's hyper-parameters from the first intervals.

A share of the baselines takes no part in the fits; χ² on them, from their own statistics, says how
well a prior predicts data it has not seen.  One parameter after another is varied over a short
grid: length and strength of the differential phase together, then the correlation time and the
width of the amplitudes; of the widths the narrowest within one standard error of the best is taken.
Moment estimates from the solutions themselves fail, since noise, unmodelled flux and phase errors
all look like process noise.

The temper is measured first: held-out data hardly notice absorbed flux, since baselines of a dense
core see nearly the same of what the model lacks.  It is at least the ratio of the variance of the
baselines' pulls on the gains to that which noise explains (`statistics.gradient_excess`), and
larger as long as held-out data are predicted no worse: what the noise hides can still be absorbed.
Under a temper the strength of the phases is looked at once more: a prior that is narrow enough for
data at full weight may hold gains back that now weigh a fifth.  It stays unless held-out data
reject it.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, replace

import numpy as np

from ddfpipe.calibration.filter import Array, FilterChain
from ddfpipe.calibration.options import SolverOptions
from ddfpipe.calibration.priors import Hyperparameters
from ddfpipe.calibration.statistics import BlockStatistics, chi_squared, gradient_excess

LENGTHS = (0.02, 0.04, 0.08)
VARIANCES = (0.25, 1.0, 4.0, 16.0)
TIME_FACTORS = (0.25, 1.0, 4.0)
AMPLITUDE_FACTORS = (1.0, 0.4, 0.2)
TEMPERS = (2.0, 4.0, 8.0, 16.0, 32.0, 64.0)
LARGEST_TEMPER = 1000.0
TEMPER_ROUNDS = 2
"""Fits under one temper absorb less than under the one before, so it is measured again."""

TAKEN_UP = 0.2
"""Share of what the model lacks that fits take up, and that their residuals no longer show."""

MIN_ANTENNAS = 10
"""With fewer stations a tenth of the baselines is too few to hold out."""

Block = tuple[BlockStatistics, np.ndarray]
"""Statistics of an interval and its edges (2,) in s."""


@dataclass(frozen=True)
class Tuned:
    """hyper: what was chosen.  score: held-out χ² per sample there.  trials: number of trials."""

    hyper: Hyperparameters
    score: float
    trials: int


def held_out(array: Array, share: float) -> np.ndarray:
    """(n_bl,) bool, the same baselines every time: about `share` of each station's baselines.

    The random choice has a fixed seed; a station's share never exceeds a quarter of its baselines.
    """
    order = np.random.default_rng(20).permutation(np.flatnonzero(array.cross))
    wanted = int(round(share * len(order)))
    limit = np.full(array.n_ant, max(1, (array.n_ant - 1) // 4))
    out = np.zeros(len(array.ant1), bool)
    taken = np.zeros(array.n_ant, int)
    for b in order:
        p, q = array.ant1[b], array.ant2[b]
        if out.sum() < wanted and taken[p] < limit[p] and taken[q] < limit[q]:
            out[b] = True
            taken[p] += 1
            taken[q] += 1
    return out


@dataclass(frozen=True)
class Trial:
    """hyper; held: held-out χ² (interval, held-out baseline); excess: the temper that residuals of
    the other baselines ask for."""

    hyper: Hyperparameters
    held: np.ndarray
    excess: float


def _try(blocks: Sequence[Block], array: Array, options: SolverOptions, hyper: Hyperparameters,
         hold: np.ndarray) -> Trial:
    """Filter the intervals under one choice."""
    chain = FilterChain(array, replace(options, smooth=False), hyper, use=~hold)
    rows, found, expected = [], 0.0, 0.0
    for stats, edge in blocks:
        result = chain.step(stats, edge)
        gains = np.exp(result.log_amp + 1j * result.phase)
        rows.append(chi_squared(stats, gains, array.ant1, array.ant2)[hold])
        pulls = gradient_excess(stats, gains, array.ant1, array.ant2, array.cross & ~hold)
        found, expected = found + pulls[0], expected + pulls[1]
    excess = found / expected if expected > 0 else 1.0
    excess = 1.0 + (excess - 1.0) / (1.0 - TAKEN_UP) ** 2
    # The first intervals know no past; they say nothing of the correlation time.
    return Trial(hyper, np.array(rows[min(2, len(rows) - 1):]),
                 float(np.clip(excess, 1.0, LARGEST_TEMPER)))


def choose(blocks: Sequence[Block], array: Array, options: SolverOptions,
           start: Hyperparameters, executor: Executor | None = None) -> Tuned:
    """Hyper-parameters for these intervals; `start` where there is too little to learn from.

    blocks: the first intervals of one frequency block.  executor: threads for the trials.
    """
    blocks = [block for block in blocks if block[0].count.any()]
    hold = held_out(array, options.hold_out)
    if len(blocks) < 3 or array.n_ant < MIN_ANTENNAS or not hold.any():
        return Tuned(start, float("nan"), 0)
    trials = 0

    def tried(candidates: Sequence[Hyperparameters]) -> list[Trial]:
        nonlocal trials
        trials += len(candidates)
        run = map if executor is None else executor.map
        return list(run(lambda h: _try(blocks, array, options, h, hold), candidates))

    def best(found: list[Trial]) -> Trial:
        return min(found, key=lambda t: t.held.sum())

    now = best(tried([replace(start, length=x, variance=v) for x in LENGTHS for v in VARIANCES]))
    if options.solver == "KAFCA":
        times = [start.correlation_time * f for f in TIME_FACTORS]
        now = best([now, *tried([replace(now.hyper, correlation_time=t) for t in times
                                 if t != now.hyper.correlation_time])])
    if not options.phase_only:
        others = tried([replace(now.hyper, amplitude=f) for f in AMPLITUDE_FACTORS
                        if f != now.hyper.amplitude])
        widths = sorted([now, *others], key=lambda t: -t.hyper.amplitude)
        now = widths[_last_within_error([t.held for t in widths])]
    for _ in range(TEMPER_ROUNDS):
        now = tried([replace(now.hyper, temper=now.excess)])[0]
    stricter = [now, *tried([replace(now.hyper, temper=f) for f in TEMPERS
                             if f > now.hyper.temper])]
    now = stricter[_last_within_error([t.held for t in stricter])]
    now = _kept_or_narrowest(now, tried([replace(now.hyper, variance=v) for v in VARIANCES
                                         if v != now.hyper.variance]))
    samples = sum(int(stats.count[hold].sum()) for stats, _ in blocks[min(2, len(blocks) - 1):])
    return Tuned(now.hyper, float(now.held.sum()) / max(samples, 1), trials)


def _kept_or_narrowest(now: Trial, others: Sequence[Trial]) -> Trial:
    """`now` where the best of all trials is within one standard error of it, else the one of least
    variance of the phases that is."""
    widths = sorted([now, *others], key=lambda t: -t.hyper.variance)
    if _within_error(now.held, min(widths, key=lambda t: t.held.sum()).held):
        return now
    return widths[_last_within_error([t.held for t in widths])]


def _within_error(held: np.ndarray, least: np.ndarray) -> bool:
    """Whether a trial is within one standard error of the one with the least held-out χ².

    The error is that of the difference of the two, from its scatter over baselines: samples of one
    baseline share their model error and do not count as independent.
    """
    difference = (held - least).sum(axis=0)
    return bool(difference.sum() <= difference.std(ddof=1) * np.sqrt(difference.size))


def _last_within_error(table: Sequence[np.ndarray]) -> int:
    """Index of the last trial, from the best on, that is within one standard error of it."""
    least = int(np.argmin([held.sum() for held in table]))
    return max(i for i in range(least, len(table)) if _within_error(table[i], table[least]))
