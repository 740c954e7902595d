"""What a run will do to measurement sets, found before it begins."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ddfpipe.errors import DataError
from ddfpipe.pipeline import columns
from ddfpipe.pipeline.decisions import Decision
from ddfpipe.pipeline.jobs import RemoveColumnsJob


def sets_written(decisions: list[Decision]) -> dict[Path, tuple[str, ...]]:
    """Measurement sets that stages still to run will change -> columns that they will write."""
    removed = {ms for job in _jobs(decisions) if isinstance(job, RemoveColumnsJob)
               for ms in job.ms}
    written: dict[Path, tuple[str, ...]] = {ms: () for ms in sorted(removed)}
    for job in _jobs(decisions, columns.STAGE):
        # A column that stands in the way now is gone by then.
        written |= {ms: () if ms in removed else job.columns for ms in job.ms}
    return written


def bytes_of_columns(decisions: list[Decision]) -> dict[Path, int]:
    """Disk that columns still to write will take in each measurement set.

    A set that cannot be read is left out; the checks name it.
    """
    from ddfpipe.data.mscolumn import column_outlook

    needed: dict[Path, int] = {}
    for job in _jobs(decisions, columns.STAGE):
        for ms in job.ms:
            try:
                needed[ms] = column_outlook(ms, job.columns)[0]
            except DataError:
                continue
    return needed


def _jobs(decisions: list[Decision], name: str | None = None) -> Iterator[Any]:
    """Jobs of the stages still to run, of all or of one name."""
    return (d.stage.job for d in decisions if not d.done and name in (None, d.stage.name))
