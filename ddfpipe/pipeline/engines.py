"""Which engine does what, whether it can, and what it needs; the engine of a run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from ddfpipe.engines.base import ImageJob, SolveJob
from ddfpipe.errors import ConfigError

if TYPE_CHECKING:
    from ddfpipe.data.mschecks import Problem

NATIVE, WSCLEAN = "native", "wsclean"
COPY_COLUMNS = 4
"""Columns of visibilities in a working copy: data, model, residual, and a solve's output."""


def engine_names(machine: Any) -> tuple[str, str]:
    """(engine of images, engine of solves) that section [machine] asks for."""
    return machine.image_engine or machine.engine, machine.solve_engine or machine.engine


def engine_of(config: Any, job: Any) -> str:
    """Name of the engine that carries a job out."""
    image, solve = engine_names(config.machine)
    if isinstance(job, ImageJob):
        return image
    return solve if isinstance(job, SolveJob) else NATIVE


def choose(machine: Any, native: Any) -> Any:
    """The engine of a run: `native` (NativeEngine) itself, or others around it.

    Raises ConfigError when a program that is needed is missing.
    """
    image, solve = engine_names(machine)
    if (image, solve) == (NATIVE, NATIVE):
        return native
    from ddfpipe.engines.mixed import MixedEngine
    from ddfpipe.engines.wsclean import WSCleanEngine

    other = WSCleanEngine(native, _tools(machine))
    if image == solve:
        return other
    return MixedEngine(*(other if name == WSCLEAN else native for name in (image, solve)), native)


def _tools(machine: Any) -> dict:
    from ddfpipe.engines.wsclean.engine import find_tools

    image, solve = engine_names(machine)
    return find_tools(machine.wsclean, machine.dp3, image=image == WSCLEAN, solve=solve == WSCLEAN)


def problems(config: Any, decisions: list[Any]) -> tuple[list[Problem], list[str]]:
    """(what stands against the stages still to do, notes on the programs that will be used)."""
    from ddfpipe.data.mschecks import Problem

    jobs = [d.stage.job for d in decisions if not d.done]
    theirs = [job for job in jobs if engine_of(config, job) == WSCLEAN]
    if WSCLEAN not in engine_names(config.machine):
        return [], []
    from ddfpipe.engines.wsclean.engine import SPECTRA, refusals

    told = [text for job in theirs for text in refusals(job, config.image.beam_model)]
    if engine_names(config.machine) == (WSCLEAN, WSCLEAN) and config.spectra.do_dynspec:
        told.append(SPECTRA)
    found = [Problem("engine", text) for text in dict.fromkeys(told)]
    try:
        tools = _tools(config.machine)
    except ConfigError as error:
        return [*found, Problem("tool", str(error))], []
    return found, [f"{name} {tool.text()}" for name, tool in tools.items()]


def disk_of_copies(config: Any, infos: dict[Path, Any]) -> int:
    """Bytes below the cache directory for working copies of measurement sets.

    infos: MSInfo by path.  While a set is solved it also holds a column a direction.
    """
    if WSCLEAN not in engine_names(config.machine) or not infos:
        return 0
    from ddfpipe.engines.external.copies import copy_bytes

    sizes = []
    for info in infos.values():
        n_ant = int(info.stations_used.sum())
        shape = info.n_time, n_ant * (n_ant - 1) // 2, info.n_chan
        more = copy_bytes(*shape, config.solutions.ndir) - copy_bytes(*shape, 0)
        sizes.append((copy_bytes(*shape, COPY_COLUMNS), more))
    return sum(size for size, _ in sizes) + max(more for _, more in sizes)
