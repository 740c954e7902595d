"""Runs the stages of a recipe that are to run, and keeps the records."""

from __future__ import annotations

import errno
import os
import re
import socket
import time
import traceback
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Protocol

from ddfpipe.errors import DdfpipeError, ResourceError, StageFailed, StopRequested
from ddfpipe.naming import in_archive
from ddfpipe.pipeline.context import Context
from ddfpipe.pipeline.decisions import Decision, Judge
from ddfpipe.pipeline.housekeeping import set_aside
from ddfpipe.pipeline.stage import Recipe, Stage, StageResult
from ddfpipe.pipeline.state import Current, FileState, Record, RunState, file_states, key_of
from ddfpipe.pipeline.usage import Usage, versions

_SHORT_WRITE = re.compile(r"\b\d+ requested and \d+ written|Not enough free space to write")


class Audience(Protocol):
    """Who is told what happens (the report)."""

    def begin(self, stage: Stage, number: int, total: int, why: str) -> None: ...

    def finish(self, stage: Stage, record: Record) -> None: ...

    def skip(self, stage: Stage, number: int, total: int) -> None: ...

    def fail(self, stage: Stage, error: BaseException, details: str) -> None: ...


class Runner:
    """Goes through a recipe in one working directory.

    stop: raises StopRequested when a stop was asked for (between stages; within them the
    engine asks the monitor).
    """

    def __init__(self, recipe: Recipe, context: Context, state: RunState, audience: Audience,
                 stop: Callable[[], None]) -> None:
        self.recipe = recipe
        self.context = context
        self.state = state
        self.audience = audience
        self.stop = stop
        self.judge = Judge(state, context.workdir)
        self._records: dict[str, Record] = {}

    def run(self, decisions: list[Decision], exit_after: str | None = None,
            after: Callable[[Stage], None] = lambda stage: None) -> None:
        """Run every stage that is to run.

        exit_after: name of the stage after which StopRequested is raised.  after: called when a
        stage is done, whether now or earlier.  Raises StageFailed and, for what is not the
        stage's fault, ConfigError, DataError or ResourceError.
        """
        total = len(decisions)
        self.judge.find_replaced(self.recipe)
        for number, decision in enumerate(decisions, 1):
            self.stop()
            stage = decision.stage
            if decision.done or decision.waits and not self.judge.why(stage, self._records):
                self._records[stage.name] = self.state.read(stage.name)
                self.audience.skip(stage, number, total)
            else:
                self.audience.begin(stage, number, total, decision.why)
                self._records[stage.name] = self._carry_out(stage)
                self.audience.finish(stage, self._records[stage.name])
            after(stage)
            if stage.name == exit_after:
                raise StopRequested(f"ended after {stage.name}, as exitafter asks")
        self.state.clear_current()

    def _carry_out(self, stage: Stage) -> Record:
        """Run one stage; whatever happens is noted and told."""
        current = Current(stage.name, time.time(), os.getpid(), socket.gethostname())
        before = self.state.read(stage.name)
        try:
            # A record vouches for products as they were, so it holds until they are touched; of
            # what a stage without products changes, in data, nothing would tell.
            if before is not None and not before.outputs:
                self.state.forget(stage.name)
            self.state.set_current(current)
            if before is not None and stage.resumes:
                self._remove(before, keep=())
            usage = Usage()
            fingerprints = self.judge.fingerprints(stage)
            result = stage.run(self.context, stage.job)
            record = self._record(stage, result, usage, fingerprints)
            self.state.write(record)
        except BaseException as error:
            raise self._failure(stage, current, error) from error
        if before is not None:
            self._remove(before, keep=record.outputs)
        return record

    def _record(self, stage: Stage, result: StageResult, usage: Usage,
                fingerprints: dict[str, str]) -> Record:
        missing = [name for name in stage.makes if not (self.context.workdir / name).exists()]
        if missing:
            raise StageFailed(f"it ended well but did not make {', '.join(missing)}")
        home = self.context.workdir
        outputs = file_states((*stage.makes, *result.products), home)
        return Record(
            stage=stage.name,
            key=key_of(outputs, home),
            identity=stage.identity(),
            options=dict(stage.options),
            inputs={need: self._records[need].key for need in stage.needs},
            files=file_states(stage.files, home),
            ms=fingerprints,
            outputs=outputs,
            figures=dict(result.figures),
            versions=versions(self.context.engine),
            finished=datetime.now().astimezone().isoformat(timespec="seconds"),
            seconds=round(usage.seconds, 3),
            cpu_seconds=round(usage.cpu_seconds, 3),
            peak_memory_bytes=usage.peak_memory_bytes,
        )

    def _failure(self, stage: Stage, current: Current, error: BaseException) -> BaseException:
        """Note a failure, put partial products aside; the error to raise."""
        details = "".join(traceback.format_exception(error))
        told = explain(stage, error)
        current.outcome = "stopped" if isinstance(told, StopRequested) else "failed"
        current.error = str(told)
        if current.outcome == "failed" and not stage.resumes:
            try:
                set_aside(stage, current.started, self.context.workdir)
            except OSError as trouble:
                details += f"\npartial products could not be put aside: {trouble}\n"
        try:
            self.state.set_current(current)
        except OSError as trouble:
            details += f"\nthe failure could not be noted for 'status': {trouble}\n"
        self.audience.fail(stage, told, details)
        return told

    def _remove(self, before: Record, keep: tuple[FileState, ...]) -> None:
        """Remove what the earlier run of a stage made, apart from what this one made again."""
        kept = {state.path for state in keep}
        for state in before.outputs:
            # Archives may be all that is left of the data.
            if state.path not in kept and not in_archive(state.path):
                (self.context.workdir / state.path).unlink(missing_ok=True)


def explain(stage: Stage, error: BaseException) -> BaseException:
    """The error to raise for what went wrong in a stage, with the stage's name in it."""
    if isinstance(error, (StopRequested, KeyboardInterrupt, SystemExit)):
        return error
    if any(_no_room(cause) for cause in _causes(error)):
        return ResourceError(
            f"stage {stage.name}: the disk is full ({error}); make room and start again: all "
            "finished stages are kept"
        )
    if any(isinstance(cause, MemoryError) for cause in _causes(error)):
        return ResourceError(
            f"stage {stage.name}: not enough memory; lower [machine] memory_limit_gb or "
            "NCPU_DDF and start again: all finished stages are kept"
        )
    if isinstance(error, DdfpipeError):
        return type(error)(f"stage {stage.name}: {error}")
    return StageFailed(
        f"stage {stage.name}: {type(error).__name__}: {error} (the log of the stage has the "
        "details); start again to retry from here"
    )


def _causes(error: BaseException) -> Iterator[BaseException]:
    """An error and those that it was raised from."""
    seen: BaseException | None = error
    while seen is not None:
        yield seen
        seen = seen.__cause__


def _no_room(error: BaseException) -> bool:
    """Whether the disk, a quota or the limit on the size of files is exhausted."""
    if not isinstance(error, OSError):
        return False
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return True
    # numpy and astropy tell of it in words only.
    return error.errno is None and _SHORT_WRITE.search(str(error)) is not None
