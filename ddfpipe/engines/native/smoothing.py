"""Merge the solutions of an observation's measurement sets, smooth them, link them back."""

from __future__ import annotations

from pathlib import Path

from ...calibration.constraints import merge
from ...calibration.smooth import smooth_table, tie_table
from ...data import solutions
from ...data.mschecks import group_observations
from ...data.ms import read_metadata
from ...naming import solution_name
from ..base import SmoothJob, SolveResult


def smooth_solutions(engine, job: SmoothJob, monitor) -> SolveResult:
    """Carry out a SmoothJob; returns the files made and linked."""
    groups = group_observations([read_metadata(ms) for ms in job.ms])
    products: list[Path] = []
    for done, group in enumerate(groups):
        monitor.check()
        products += _one_observation(engine, job, [info.path.name for info in group], monitor)
        monitor.progress(f"smoothing {job.name}", done + 1, len(groups))
    return SolveResult(solution_name(job.name, bool(job.smooth)), tuple(products))


def _one_observation(engine, job: SmoothJob, names: list[str], monitor) -> list[Path]:
    tables = [solutions.load_solution(engine.solsdir, name, job.name) for name in names]
    table = merge(tables, job.sigma_clip)
    if job.tie:
        table = tie_table(table)
    start = solutions.observation_start(table)
    made = _save(table, solutions.merged_path(engine.workdir, job.name, start, "merged"))
    if job.smooth:
        table = smooth_table(table, job.smooth)
        made += _save(table, solutions.merged_path(engine.workdir, job.name, start, "smoothed"))
    monitor.message(
        f"{job.name}: {len(names)} measurement sets merged into {made[-1].name}"
    )
    name = solution_name(job.name, bool(job.smooth))
    links = [solutions.link_solution(made[-1], engine.solsdir, ms, name) for ms in names]
    return made + links


def _save(table, path: Path) -> list[Path]:
    """Write a table as h5parm and, last, in killMS's layout."""
    paths = [path.with_suffix(".h5"), path]
    for target in paths:
        solutions.save_table(table, target)
    return paths
