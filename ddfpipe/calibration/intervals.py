"""Solution intervals in time and frequency."""

from __future__ import annotations

import math

import numpy as np

from ddfpipe.errors import SolveError

TARGET_SNR = 10.0
"""Signal to noise wanted of one station's direction-independent solution."""


def solution_intervals(times: np.ndarray, exposure: float,
                       dt: float) -> tuple[np.ndarray, np.ndarray]:
    """Interval edges (n, 2) in s and the interval of each sample (n_times,).

    times: sample centres in s, ascending; exposure: length of a sample in s; dt: length of an
    interval in s.  Intervals of exactly dt follow each other from the start of the first sample,
    so that 30 s may hold 3 or 4 samples of 8 s; a sample belongs to the interval that holds its
    centre.  A last piece shorter than dt / 2 is joined to the interval before.  Intervals that
    hold no sample (a gap) are left out.  Raises SolveError for empty or unsorted times.
    """
    times = np.asarray(times, np.float64)
    if len(times) == 0 or np.any(np.diff(times) < 0) or not (dt > 0 and exposure > 0):
        raise SolveError("solution intervals need ascending times and positive lengths; got "
                         f"{len(times)} times, {exposure} s a sample, {dt} s an interval")
    start, end = times[0] - exposure / 2, times[-1] + exposure / 2
    # A rounding guard: MJD seconds (5e9) carry errors of a microsecond.
    number = max(1, math.floor((end - start) / dt + 0.5 + 1e-6))
    edges = start + dt * np.arange(number + 1)
    edges[-1] = max(end, edges[-1]) if number == 1 else end
    index = np.clip(np.searchsorted(edges, times + 1e-6, side="right") - 1, 0, number - 1)
    used, compact = np.unique(index, return_inverse=True)
    return np.stack([edges[used], edges[used + 1]], axis=1), compact


def automatic_intervals(model_flux: float, noise: float, n_chan: int, n_time: int,
                        target: float = TARGET_SNR) -> tuple[int, int]:
    """Interval of a direction-independent solve: (time slots, channels).

    model_flux: mean |model| of a visibility in Jy.  noise: standard deviation of a visibility,
    √<|noise|²>, in Jy.  n_chan, n_time: channels and time slots there are.  A station's solution
    reaches `target` with (target · noise / model_flux)² visibilities, shared out evenly: the
    channel step is the divisor of n_chan nearest to its square root, time takes the rest.  The
    signal is the model's: data, which contain the noise, would promise too much.
    Raises SolveError when the model or the noise is not positive.
    """
    if not (model_flux > 0 and noise > 0 and math.isfinite(model_flux + noise)):
        raise SolveError(f"automatic intervals: model flux {model_flux} and noise {noise} must be "
                         "positive; the model may be empty or all data flagged")
    wanted = (target * noise / model_flux) ** 2
    ideal = min(max(round(math.sqrt(wanted)), 1), n_chan)
    divisors = [d for d in range(1, n_chan + 1) if n_chan % d == 0]
    step = min(divisors, key=lambda d: (abs(d - ideal), d))
    return min(max(round(wanted / step), 1), max(n_time, 1)), step
