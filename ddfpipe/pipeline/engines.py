"""Which engine does what, whether it can, and what it needs; the engine of a run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ddfpipe.engines.base import ImageJob, SolveJob
from ddfpipe.engines.external.ours import is_ours
from ddfpipe.errors import ConfigError, DdfpipeError

if TYPE_CHECKING:
    from ddfpipe.data.mschecks import Problem

NATIVE, DDFACET = "native", "ddfacet"


def engine_names(machine: Any) -> tuple[str, str]:
    """(engine of images, engine of solves) that section [machine] asks for."""
    return machine.image_engine or machine.engine, machine.solve_engine or machine.engine


def engine_of(config: Any, job: Any) -> str:
    """Name of the engine that carries a job out."""
    image, solve = engine_names(config.machine)
    wanted = image if isinstance(job, ImageJob) else solve if isinstance(job, SolveJob) else NATIVE
    return NATIVE if is_ours(job) else wanted


def _external(config_machine: Any) -> list[str]:
    """Names of the engines in use that are programs of others."""
    names = dict.fromkeys(engine_names(config_machine))
    return [name for name in names if name != NATIVE]


def choose(machine: Any, native: Any, beam_at: str = "facet") -> Any:
    """The engine of a run: `native` (NativeEngine) itself, or others around it.

    beam_at: option of section [control], which DDFacet and killMS know.  Raises ConfigError when a
    program that is needed is missing.
    """
    image, solve = engine_names(machine)
    if (image, solve) == (NATIVE, NATIVE):
        return native
    from ddfpipe.engines.mixed import MixedEngine

    made = {NATIVE: native}
    for name in _external(machine):
        made[name] = _make(name, native, _tools(machine, name), beam_at)
    if image == solve:
        return made[image]
    return MixedEngine(made[image], made[solve], native)


def _make(name: str, native: Any, tools: dict, beam_at: str) -> Any:
    """An engine of other programs around `native`."""
    if name == DDFACET:
        from ddfpipe.engines.ddfacet import DDFacetEngine

        return DDFacetEngine(native, tools, beam_at)
    from ddfpipe.engines.wsclean import WSCleanEngine

    return WSCleanEngine(native, tools)


def _tools(machine: Any, name: str) -> dict:
    """The programs of an engine, for what it is wanted for."""
    image, solve = (engine == name for engine in engine_names(machine))
    if name == DDFACET:
        from ddfpipe.engines.ddfacet.tools import find_tools

        return find_tools(machine.ddfacet, machine.killms, image=image, solve=solve)
    from ddfpipe.engines.wsclean.engine import find_tools as find_lofar_tools

    return find_lofar_tools(machine.wsclean, machine.dp3, image=image, solve=solve)


def _refusals(name: str, jobs: list[Any], beam_model: str, tools: dict | None) -> list[str]:
    if name == DDFACET:
        from ddfpipe.engines.ddfacet.engine import refusals

        return [text for job in jobs for text in refusals(job, beam_model, tools)]
    from ddfpipe.engines.wsclean.engine import refusals as wsclean_refusals

    return [text for job in jobs for text in wsclean_refusals(job, beam_model)]


def problems(config: Any, decisions: list[Any]) -> tuple[list[Problem], list[str]]:
    """(what stands against the stages still to do, notes on the programs that will be used)."""
    from ddfpipe.data.mschecks import Problem

    jobs = [d.stage.job for d in decisions if not d.done]
    found, notes = [], []
    for name in _external(config.machine):
        tools, missing = None, []
        try:
            tools = _tools(config.machine, name)
        except ConfigError as error:
            missing = [Problem("tool", str(error))]
        theirs = [job for job in jobs if engine_of(config, job) == name]
        told = _refusals(name, theirs, config.image.beam_model, tools)
        found += [Problem("engine", text) for text in dict.fromkeys(told)] + missing
        notes += [f"{program} {tool.text()}" for program, tool in (tools or {}).items()]
    return found, notes


def commands(config: Any, native: Any, decisions: list[Any]) -> list[str]:
    """The command lines of other programs in the stages still to do, each under its stage's name.

    native: NativeEngine.  What cannot be told yet, for want of programs or measurement sets, is
    said in place of them.
    """
    lines: list[str] = []
    try:
        engines = {
            name: _make(name, native, _tools(config.machine, name), config.control.beam_at)
            for name in _external(config.machine)
        }
        for stage in (d.stage for d in decisions if not d.done):
            name = engine_of(config, stage.job)
            if name in engines and isinstance(stage.job, (ImageJob, SolveJob)):
                lines += ["", f"# {stage.name}", *_preview(name)(engines[name], stage.job)]
    except DdfpipeError as error:
        lines += ["", f"commands cannot be told: {error}"]
    return lines


def _preview(name: str) -> Any:
    if name == DDFACET:
        from ddfpipe.engines.ddfacet.preview import preview

        return preview
    from ddfpipe.engines.wsclean.preview import preview as wsclean_preview

    return wsclean_preview
