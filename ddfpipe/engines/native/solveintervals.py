"""Intervals of a solve in time and frequency, and the pieces of data that hold whole intervals."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ...calibration.intervals import automatic_intervals, solution_intervals
from ...calibration.shortening import Samples
from ...units import MINUTE
from .gainfield import GainField
from .visibilities import MSData

if TYPE_CHECKING:
    from .solving import Sky, Solve

MODEL_SHARE, MODEL_BYTES = 0.3, 4e9
"""Share of the memory, and most bytes, for the model visibilities of all threads together."""


def frequency_blocks(freq: np.ndarray, width: np.ndarray, n_blocks: int):
    """(block (n_blocks, 2) edges in Hz, (chan,) block of each channel), blocks of equal count."""
    block = np.minimum(np.arange(len(freq)) * n_blocks // len(freq), n_blocks - 1)
    edges = [
        (freq[block == k].min() - width.max() / 2, freq[block == k].max() + width.max() / 2)
        for k in range(n_blocks)
    ]
    return np.array(edges), block


def blocks_and_length(solve: Solve, s: MSData, sky: Sky, gains: GainField, sigma: np.ndarray):
    """(frequency edges (n, 2), block of each channel, interval in s) that a job asks for."""
    job, cache = solve.job, s.cache
    n_blocks, dt = job.n_chan_sols or 1, job.dt_min
    if job.kind == "DI" and (dt is None or job.n_chan_sols is None):
        slots, chans = _automatic(solve, s, sky, gains, sigma)
        n_blocks = job.n_chan_sols or max(1, cache.n_chan // chans)
        dt = dt if dt is not None else slots * cache.interval / MINUTE
    edges, block = frequency_blocks(cache.freq, cache.chan_width, min(n_blocks, cache.n_chan))
    return edges, block, max(dt * MINUTE, cache.interval)


def _automatic(solve: Solve, s: MSData, sky: Sky, gains: GainField, sigma: np.ndarray):
    """(slots, channels) from the signal of the model against the noise of the data."""
    middle = s.shape[0] // 2
    part = slice(middle, middle + 1)
    model = solve._model(s, part, sky, gains)[0]
    used = s.weight[part] > 0
    if not used.any():
        return 1, s.cache.n_chan
    noise = np.broadcast_to(sigma[None, :, None], used.shape)[used]
    weight = np.array(s.weight[part])[used]
    noise = np.sqrt(2) * np.median(noise / np.sqrt(weight))
    return automatic_intervals(
        float(np.abs(model[used]).mean()), float(noise), s.cache.n_chan, s.shape[0]
    )[:2]


def shortened(solve: Solve, s: MSData, sky: Sky, gains: GainField, weights, solver,
              block: np.ndarray, dt: float) -> float:
    """Length of the intervals, s: dt, or less where bright sources turn within it.

    The first intervals of the frequency block in the middle decide; see calibration/shortening.py.
    weights: function of a slice of time to inverse variances.  block: of each channel.
    """
    number = solution_intervals(s.cache.time, s.cache.interval, dt)[1]
    part, inside = next(chunks(solve, s, sky, number))
    first = inside[: solver.options.tune_intervals]
    if not len(first):
        return dt
    part = slice(part.start, part.start + int(np.sum(number[part] <= first[-1])))
    channels = np.flatnonzero(block == (block.max() + 1) // 2)
    samples = Samples(
        np.ascontiguousarray(solve._model(s, part, sky, gains)[..., channels]),
        s.vis[part][..., channels], weights(part)[..., channels],
        s.cache.time[part], s.cache.interval,
    )
    chosen = solver.fitting_length(samples, dt)
    if chosen.dt < dt:
        solve.monitor.message(
            f"{solve.job.name}: bright sources turn within {dt:.0f} s, so intervals of "
            f"{chosen.dt:.3g} s are used: on baselines that took no part in the fits chi2 is "
            f"{chosen.chi2[chosen.dt]:.2f} instead of {chosen.chi2[dt]:.2f} a sample"
        )
    return chosen.dt


def chunks(solve: Solve, s: MSData, sky: Sky, number: np.ndarray):
    """(slice of time, intervals in it): whole intervals, as many as the memory allows.

    number: (n_times,) interval of each slot.
    """
    per_slot = 8.0 * sky.n_dir * s.shape[1] * s.shape[2]
    memory = min(MODEL_SHARE * solve.engine.memory_limit, MODEL_BYTES)
    most = max(1, int(memory / solve.engine.solve_threads / per_slot))
    names, first = np.unique(number, return_index=True)
    ends = np.append(first[1:], len(number))
    k = 0
    while k < len(names):
        last = k
        while last + 1 < len(names) and ends[last + 1] - first[k] <= most:
            last += 1
        yield slice(first[k], ends[last]), names[k : last + 1]
        k = last + 1
