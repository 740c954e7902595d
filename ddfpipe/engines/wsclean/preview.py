"""The commands of WSClean and DP3 that a job will run, told before anything is read or written.

What only the data and the stages before decide stands in angle brackets.  Commands that are run
again for every cycle of a recipe are told once.
"""

from __future__ import annotations

import shlex
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np

from ...data.ms import MSInfo, read_metadata
from ...data.viscache import cache_path
from ..base import ImageJob, SolveJob
from ..external.copies import copy_path
from ..external.ours import is_ours
from ..external.view import PREDICT, RESIDUAL, View
from ..native.visibilities import Data, in_band
from .commands import (
    MAJORS,
    Cleaning,
    Solving,
    clean_command,
    dirty_command,
    predict_command,
    psf_command,
    solve_command,
)
from .facets import FacetGains
from .imager import NOISE_FLOOR, WIDEST_BAND
from .predicting import channel_count
from .results import time_runs
from .solver import DP3Solve, even_slots


def preview(engine, job) -> list[str]:
    """Command lines of an `ImageJob` or `SolveJob`; none for a job that our own engine does.

    engine : WSCleanEngine.  Raises DataError when a measurement set cannot be read.
    """
    if is_ours(job):
        return []
    if isinstance(job, ImageJob):
        commands = _image(engine, job)
    elif isinstance(job, SolveJob):
        commands = _solve(engine, job)
    else:
        return []
    return [shlex.join(words) for words in commands]


def _view(native, job) -> View:
    """Stand-in for a view: measurement sets with what commands depend on."""
    infos = [read_metadata(ms) for ms in job.vis.ms]
    caches = in_band([_Like(info, native, job.vis.column) for info in infos], job.vis.mhz)
    copies = [SimpleNamespace(path=copy_path(cache, native.cache_dir)) for cache in caches]
    sets = [SimpleNamespace(cache=cache) for cache in caches]
    return View(Data(sets, infos[0].phase_centre, np.zeros(0), np.zeros(0)), copies)


class _Like:
    """What a visibility cache will tell of a measurement set that has none yet."""

    def __init__(self, info: MSInfo, native, column: str):
        used = info.stations_used
        self.name, self.interval = info.name, info.interval
        self.path = cache_path(info.path, column, native.cache_dir, native.drop_international)
        self.time, self.freq = info.times, np.sort(info.freqs)
        self.ant_names = [name for name, there in zip(info.ant_names, used) if there]
        self.n_time, self.n_chan = info.n_time, info.n_chan
        self.n_bl = len(self.ant_names) * (len(self.ant_names) - 1) // 2


def _folder(native, job) -> Path:
    return (native.cache_dir / f"ddfpipe.scratch.{job.name}").absolute()


def _image(engine, job: ImageJob) -> list[list[str]]:
    native, view = engine.native, _view(engine.native, job)
    folder, gains = _folder(native, job), None
    if job.gains is not None and job.gains.names:
        tables = ("phase000",) if job.gains.mode == "P" else ("amplitude000", "phase000")
        gains = FacetGains(folder / "facets.reg", tuple(
            folder / f"gains{k}.h5" for k in range(len(view.sets))), tables)
    channels = channel_count(view, job.n_bands, WIDEST_BAND)
    grid = engine.gridding(job, folder, channels, gains)
    commands = [psf_command(grid, view.paths, "DATA")]
    later = job.start_model is not None or job.major_cycles > 1
    column = RESIDUAL if job.start_model is not None else "DATA"
    if later:
        here = replace(grid, prefix=str(folder / "predict"))
        commands.append(predict_command(here, view.paths))
    commands.append(dirty_command(grid, view.paths, column))
    if job.major_cycles:
        cleaning = Cleaning(0.0, max(job.rms_factor, NOISE_FLOOR), MAJORS,
                            str(folder / "mask.fits"), min(2, job.n_bands),
                            job.allow_negative or job.start_model is not None)
        words = clean_command(grid, cleaning, view.paths, column)
        words[words.index("-threshold") + 1] = f"<{job.peak_factor:g} of the peak>"
        commands.append(words)
    return commands


def _solve(engine, job: SolveJob) -> list[list[str]]:
    """DP3's commands, for a model that is handed over as text (columns: full Jones matrices)."""
    solver = DP3Solve(engine, job, None)
    solver.folder, solver.model = _folder(engine.native, job), SimpleNamespace(size=0)
    solver.directions = np.zeros((1, 2))
    return [words for part in solver.parts(_view(engine.native, job))
            for words in _part_commands(engine, job, solver, part)]


def _part_commands(engine, job: SolveJob, solver: DP3Solve, part: View) -> list[list[str]]:
    folder, (mode, smooth) = solver.folder, solver.solving_mode(part)
    cache = part.sets[0].cache
    if job.kind == "DI" and (job.dt_min is None or job.n_chan_sols is None):
        slots = chans = None
    else:
        slots, chans = solver.interval(part)
    model: dict = {"columns": (PREDICT,)} if job.kind == "DI" else {
        "sky": str(folder / "model.skymodel"), "smearing": job.decorrelation,
        "known": str(folder / "known.h5") if job.pre_apply else None}
    out = []
    for run in time_runs(cache):
        pieces = tuple(str(folder / f"slots{k}.{run.start}.ms") for k in range(len(part.sets)))
        out.append(solve_command(Solving(
            str(engine.tools["dp3"].path), pieces, str(folder / f"gains.{run.start}.h5"), mode,
            "<slots>" if slots is None else even_slots(run.count, slots),
            "<channels>" if chans is None else chans, engine.native.solve_threads,
            residual=str(folder / f"residual.{run.start}.ms") if job.update_weights else None,
            smooth=smooth, **model,
        )))
    return out
