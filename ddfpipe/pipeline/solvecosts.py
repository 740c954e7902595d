"""What solves of our own engine cost: prediction, fits, the choice of a prior.

Fits grow as measured in docs/performance.md; see `ddfpipe.pipeline.costs`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ddfpipe.engines.base import SolveJob
from ddfpipe.pipeline.costs import (
    BASE_MEMORY, FLOAT, WEIGHT, Cost, World, mapped, visibilities,
)
from ddfpipe.pipeline.imagecosts import facets_of, predict_s
from ddfpipe.units import MINUTE

if TYPE_CHECKING:
    from ddfpipe.data.setsize import SetSize

FIT, FIT_STATIONS, FIT_DIRECTIONS, FIT_SAMPLES = 0.086, 1.72, 1.15, 0.63
"""Seconds of fitting 62 stations, 45 directions and 160 samples; exponents of growth."""
PRIOR, PRIOR_INTERVALS = 50, 10
"""Fits of an interval while the prior is chosen, and most intervals that it is chosen on."""
JONES, JONES_SAMPLES = 0.03, 0.3
"""Seconds of fitting full Jones matrices of 62 stations to 160 samples, and its growth."""
AUTOMATIC_SAMPLES = 24
"""Samples of an interval whose length the signal to noise decides, typical of LOFAR's HBA."""
SOLVE, SOLVE_SET = 0.06, 0.04
"""Seconds of any solve, and of each measurement set."""
GAIN_BYTES = 80
"""Bytes of a gain in both files of a solution."""
MODEL_SHARE, MODEL_BYTES = 0.3, 4e9
"""Part of the memory, and most bytes, that model visibilities may take."""


def intervals_of(size: "SetSize", minutes: float) -> int:
    """Intervals of a solve of `minutes` in a measurement set."""
    from ddfpipe.calibration.intervals import solution_intervals

    if size.n_time == 0:
        return 0
    return len(solution_intervals(size.times, size.interval, minutes * MINUTE)[0])


def fits_of(job: SolveJob, size: "SetSize") -> tuple[float, float]:
    """(intervals in time and frequency, samples of a baseline in each) of a measurement set."""
    all_samples = size.n_time * size.n_chan
    if job.kind == "DI" and job.dt_min is None:
        samples = min(AUTOMATIC_SAMPLES, all_samples)
        return all_samples / max(samples, 1), samples
    fits = intervals_of(size, job.dt_min or 1.0) * min(job.n_chan_sols or 1, size.n_chan)
    return fits, all_samples / max(fits, 1)


def solve_cost(job: SolveJob, world: World, npix: int, cell: float) -> Cost:
    """Cost of a solve against the model of an image of `npix` pixels of `cell` rad."""
    sets = world.of(job.vis.ms, job.vis.mhz)
    directional = job.kind == "DD"
    n_dir = world.n_dir if directional else 1
    facets = facets_of(npix, cell, world.n_dir if job.clusters else None)
    every = visibilities(sets)
    fit = prior = gains = 0.0
    for number, size in enumerate(sets):
        fits, samples = fits_of(job, size)
        one = _fit_s(directional, size.n_ant, n_dir, samples)
        fit += fits * one
        gains += fits * size.n_ant * n_dir * (1 if directional else 4)
        if directional and number == 0:
            prior = PRIOR * min(fits, PRIOR_INTERVALS) * one
    room = min(MODEL_SHARE * world.memory, MODEL_BYTES)
    a_slot = max((8.0 * n_dir * s.n_bl * s.n_chan for s in sets), default=1.0)
    model = predict_s(sets, facets, cell, world.memory,
                      room / world.solve_threads // max(a_slot, 1.0))
    # the first set, which finds the prior, is solved alone
    alone = prior + (fit + model) / max(len(sets), 1)
    shared = model + fit + prior - alone
    largest = max((s.visibilities for s in sets), default=0)
    chunk = min(2 * 8.0 * n_dir * largest * world.solve_threads, room)
    pages = mapped(sets, 20 if directional else 52)
    return Cost(
        shared, alone + WEIGHT * every + SOLVE + SOLVE_SET * len(sets),
        BASE_MEMORY + chunk + pages, pages,
        product_bytes=GAIN_BYTES * gains, scratch_bytes=FLOAT * every,
    )


def _fit_s(directional: bool, n_ant: int, n_dir: int, samples: float) -> float:
    stations, amount = (n_ant / 62) ** FIT_STATIONS, max(samples, 1.0) / 160
    if not directional:
        return JONES * stations * amount**JONES_SAMPLES
    return FIT * stations * (n_dir / 45) ** FIT_DIRECTIONS * amount**FIT_SAMPLES
