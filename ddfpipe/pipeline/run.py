"""From a configuration to a run: checks, folders, engine, lock; and what comes after."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ddfpipe.errors import ConfigError, DataError, NoFullList, StopRequested
from ddfpipe.log import StageLog
from ddfpipe.naming import FINAL_IMAGE, STATE_FOLDER, SUMMARY
from ddfpipe.pipeline import astrometry, engines, fluxscale, userchecks
from ddfpipe.pipeline.audience import Narrator
from ddfpipe.pipeline.context import Context
from ddfpipe.pipeline.decisions import Decision, Judge
from ddfpipe.pipeline.end_products import problems
from ddfpipe.pipeline.housekeeping import archive, remove_leftovers
from ddfpipe.pipeline.points import CLEANUP, check_points
from ddfpipe.pipeline.runner import Runner
from ddfpipe.pipeline.selfcal import build_recipe
from ddfpipe.pipeline.signals import StopFlag
from ddfpipe.pipeline.stage import Recipe, Stage
from ddfpipe.pipeline.state import RunState
from ddfpipe.pipeline.status import plan_text, status_text
from ddfpipe.pipeline.sets import sets_written
from ddfpipe.pipeline.usage import versions
from ddfpipe.report.monitor import RunMonitor
from ddfpipe.report.progress import Progress
from ddfpipe.report.summary import write_summary

EngineMaker = Callable[["Field"], Any]
Checker = Callable[["Field", list[Decision]], None]


@dataclass(frozen=True)
class Field:
    """A configuration together with the directory and the lists that it speaks of."""

    config: Any
    workdir: Path
    small: tuple[Path, ...] = ()
    full: tuple[Path, ...] = ()

    @property
    def recipe(self) -> Recipe:
        """The stages of this field."""
        return build_recipe(self.config, self.small, self.full)

    @property
    def cache_dir(self) -> Path:
        """Folder of caches: as given, or the working directory."""
        return self.workdir / (self.config.control.cache_dir or ".")

    @property
    def solsdir(self) -> Path:
        """Folder of solutions."""
        return self.workdir / self.config.solutions.SolsDir

    @property
    def logs(self) -> Path | None:
        """Folder of logs, None for no logs."""
        name = self.config.control.logging
        return self.workdir / name if name else None


def execute(command: str, words: Sequence[str], stop: StopFlag | None = None,
            estimated: bool = False) -> int:
    """Carry out `run`, `plan` or `status` with the words of a command line; the exit code.

    estimated: `plan` also tells what the run will take.
    Raises the errors of ddfpipe; their classes know the exit code.
    """
    from ddfpipe.config import load_config

    warnings: list[str] = []
    config = load_config(words, warnings=warnings, check=command != "status",
                         files=command == "run")
    if command == "status" and config.data.mslist is None:
        raise ConfigError("status compares what is done with a configuration: give that of the "
                          "run, pipeline.py status FILE...")
    for line in warnings:
        print(f"warning: {line}", file=sys.stderr)
    if command == "status":
        print(show_status(open_field(config, Path.cwd(), need_lists=False)))
        return 0
    if estimated:
        print(show_estimate(open_field(config, Path.cwd())))
        return 0
    if command == "plan" or config.control.dryrun:
        field = open_field(config, Path.cwd(), need_lists=command == "run")
        print(show_plan(field))
        if command == "run":
            for line in show_commands(field):
                print(line)
        return 0
    run(open_field(config, Path.cwd()), stop or StopFlag())
    return 0


def open_field(config: Any, workdir: Path, need_lists: bool = True) -> Field:
    """Read the lists of measurement sets; without `need_lists` they may be absent.

    Raises DataError for a list that is needed and cannot be read.
    """
    small = _read_list(config.data.mslist, need_lists)
    full = _read_list(config.data.full_mslist, need_lists)
    return Field(config, workdir, small, full)


def _read_list(name: str | None, needed: bool) -> tuple[Path, ...]:
    from ddfpipe.data.ms import read_list

    if name is None:
        return ()
    try:
        return tuple(read_list(name))
    except DataError:
        if needed:
            raise
        return ()


# ---------------------------------------------------------------------- showing


def decide(field: Field, recipe: Recipe) -> list[Decision]:
    """What would be done now, `redofrom` included.  Changes nothing."""
    end, begin = check_points(recipe, field.config.control)
    judge = Judge(RunState(field.workdir), field.workdir)
    decisions = judge.decide(recipe, field.config.control.restart)
    if begin is None:
        return decisions
    first = recipe.index(begin)
    why = f"redofrom={field.config.control.redofrom}"
    return [
        replace(decision, why=why) if number >= first else decision
        for number, decision in enumerate(decisions)
    ]


def show_plan(field: Field) -> str:
    """What would be done and why, as text.  Touches nothing."""
    recipe = field.recipe
    end, _ = check_points(recipe, field.config.control)
    return plan_text(decide(field, recipe), recipe, end)


def show_estimate(field: Field) -> str:
    """What would be done, and what that takes, as text.  Touches nothing.

    Raises ConfigError and DataError where the size of the data cannot be found.
    """
    from ddfpipe.pipeline import estimate, resources

    recipe, memory = field.recipe, memory_limit(field.config)
    end, _ = check_points(recipe, field.config.control)
    decisions = decide(field, recipe)
    found = estimate.estimate(
        field.config, decisions, estimate.world_of(field, memory),
        estimate.measured_cpu(field.workdir, decisions), end)
    return "\n".join([
        estimate.estimate_text(found),
        *estimate.shortages(found, memory, resources.disk_needed(field, found))])


def show_commands(field: Field) -> list[str]:
    """The commands of other programs that would be run.  Touches nothing."""
    if engines.engine_names(field.config.machine) == (engines.NATIVE, engines.NATIVE):
        return []
    return engines.commands(field.config, native_engine(field), decide(field, field.recipe))


def show_status(field: Field) -> str:
    """How far the run is, as text.  Touches nothing; a run may be at work."""
    judge = Judge(RunState(field.workdir), field.workdir)
    return status_text(judge.decide(field.recipe), RunState(field.workdir), field.workdir)


# ---------------------------------------------------------------------- running


def run(field: Field, stop: StopFlag, make_engine: EngineMaker | None = None,
        check: Checker | None = None, pictures: bool = True) -> None:
    """Do everything that is to do.

    make_engine, check: the engine and the checks of the data, by default those of the
    configuration.  pictures: draw quick-look pictures.
    Raises StopRequested (exitafter, signals), NoFullList at the end of the small list, LockError,
    StageFailed, ConfigError, DataError, ResourceError.
    """
    control = field.config.control
    stop.install(control.catch_signal)
    recipe = field.recipe
    end, begin = check_points(recipe, control)
    state = RunState(field.workdir)
    with state.locked():
        remove_leftovers(field.workdir, field.solsdir)
        if begin is not None:
            archive(recipe.from_stage(begin), state, field.workdir,
                    field.workdir / control.archive_dir, field.logs)
        decisions = Judge(state, field.workdir).decide(recipe, control.restart)
        if end == CLEANUP:
            raise StopRequested("ended after cleanup, as exitafter asks")
        wanted = decisions[: recipe.index(end) + 1] if end else decisions
        if all(decision.done for decision in wanted):
            print(f"all {len(wanted)} stages are done already")
            if end:
                raise StopRequested(f"ended after {end}, as exitafter asks")
        else:
            (check or check_data)(field, wanted)
            _run_stages(field, recipe, decisions, end, state, stop,
                        make_engine or configured_engine, pictures)
        _finish(field, recipe, end)


def check_data(field: Field, decisions: list[Decision]) -> None:
    """Look at all measurement sets before anything is computed; tell what is worth knowing."""
    from ddfpipe.data.preflight import preflight
    from ddfpipe.pipeline import estimate, resources

    memory = memory_limit(field.config)
    world = estimate.world_of(field, memory, lenient=True)
    found = estimate.estimate(field.config, decisions, world)
    report = preflight(
        list(field.small), list(field.full) or None, field.config.data.colname,
        drop_international=field.config.data.drop_international,
        disk_needed=resources.disk_needed(field, found), memory_needed=found.neediest,
        memory_available=memory, written=sets_written(decisions),
    )
    wrong = problems(field.config, full_infos(field, report), memory)
    wrong += userchecks.problems(field.config, field.workdir, report.infos, world.sets.values())
    wrong += astrometry.problems(field.config, field.workdir, report.infos, decisions)
    more, notes = fluxscale.problems(field.config, field.small, report.infos, decisions)
    barred, programs = engines.problems(field.config, decisions)
    report = replace(report, problems=(*report.problems, *wrong, *more, *barred),
                     notes=(*notes, *programs))
    log = StageLog(field.logs, "preflight")
    log.line(report.text())
    log.close()
    report.raise_if_errors()
    print(report.text())


def full_infos(field: Field, report: Any) -> list[Any]:
    """Metadata of the measurement sets of the full list that could be read."""
    full = {path.resolve() for path in field.full}
    return [info for info in report.infos if Path(info.path).resolve() in full]


def memory_limit(config) -> int:
    """Bytes that the engine may use."""
    from ddfpipe.config import available_memory

    limit = config.machine.memory_limit_gb
    return int(limit * 1e9) if limit else available_memory()


def native_engine(field: Field) -> Any:
    """Our own engine with the settings of a field."""
    from ddfpipe.engines.native import NativeEngine

    machine = field.config.machine
    return NativeEngine(
        workdir=field.workdir, cache_dir=field.cache_dir, solsdir=field.solsdir,
        threads=machine.NCPU_DDF, solve_threads=machine.NCPU_killms,
        memory_limit=memory_limit(field.config),
        beam_model=field.config.image.beam_model,
        drop_international=field.config.data.drop_international,
    )


def configured_engine(field: Field) -> Any:
    """The engine that the configuration names."""
    config = field.config
    return engines.choose(config.machine, native_engine(field), config.control.beam_at)


def _run_stages(field: Field, recipe: Recipe, decisions: list[Decision], end: str | None,
                state: RunState, stop: StopFlag, make_engine: EngineMaker, pictures: bool) -> None:
    control = field.config.control
    progress = Progress(bars=not control.nobar, quiet=control.quiet)
    monitor = RunMonitor(progress, stop.check, control.quiet, note=_note_progress(state))
    field.cache_dir.mkdir(parents=True, exist_ok=True)
    engine = make_engine(field)
    context = Context(field.config, field.workdir, field.cache_dir, engine, monitor,
                      field.small, field.full)
    narrator = Narrator(recipe, field.workdir, field.logs, monitor, progress, control.quiet,
                        pictures)
    if control.clearcache:
        engine.clear_cache(field.small + field.full)
    runner = Runner(recipe, context, state, narrator, stop.check)
    try:
        runner.run(decisions, end, after=_cache_cleaner(field, recipe, engine))
    finally:
        progress.close()


def _note_progress(state: RunState) -> Callable[[Any], None]:
    """Keep the progress of loops for `status`; a full disk must not end a stage by that."""

    def note(loops: Any) -> None:
        current = state.current()
        if current is not None:
            try:
                state.set_current(replace(current, progress=dict(loops)))
            except OSError:
                return

    return note


def _cache_cleaner(field: Field, recipe: Recipe, engine: Any) -> Callable[[Stage], None]:
    """Drops caches that are not needed any more: after the small list, and at the end."""
    only_small = tuple(sorted(set(field.small) - set(field.full)))
    last = next((s.name for s in reversed(recipe.stages) if s.ms and s.ms == field.small), None)

    def clean(stage: Stage) -> None:
        if stage.name == recipe.stages[-1].name:
            engine.clear_cache(field.small + field.full)
        elif stage.name == last and only_small:
            engine.clear_cache(only_small)

    return clean if field.config.control.clearcache_end else lambda stage: None


def _finish(field: Field, recipe: Recipe, end: str | None) -> None:
    """Summary and caches at the end of a run; NoFullList if that is how it ends."""
    from ddfpipe.config import effective

    ended = "ended after the small list" if recipe.no_full_list else "completed"
    write_summary(field.workdir / SUMMARY, versions(), effective(field.config), ended)
    if recipe.no_full_list:
        raise NoFullList(
            "the small list is done; give [data] full_mslist to go on with all the data"
        )
    print(f"completed: {FINAL_IMAGE}.app.restored.fits, {SUMMARY}, records in {STATE_FOLDER}/")
