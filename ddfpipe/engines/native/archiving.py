"""Compressed copies of the measurement sets (`[compression] compress_ms`).

They hold the data as the last image was made from: what the classic pipeline keeps in its current
column, which no column holds here.
"""

from __future__ import annotations

from pathlib import Path

from ...data.archive import Archived, archive_ms, describe
from ...data.gridrows import GridRows
from ...data.viscache import open_cache
from ...naming import archive_name
from ..base import ColumnsJob
from .columns import SCRATCH, Columns
from .solveweights import load_weights
from .state import digest
from .visibilities import Scratch


def make_archives(engine, job: ColumnsJob, monitor) -> list[Archived]:
    """An archive of each measurement set of a job in the working directory.

    Its DATA are the job's DATA_DI_CORRECTED, or the data column where nothing is applied to it; its
    IMAGING_WEIGHT is the job's.

    Raises
    ------
    SolveError : a solution set or the weights of the solve cannot be read
    DataError : a measurement set cannot be read or not be kept faithfully
    ResourceError : the disk is full
    """
    made = []
    for done, ms in enumerate(job.ms):
        monitor.check()
        made.append(_archive(engine, job, ms, monitor))
        monitor.message(describe(made[-1]))
        monitor.progress("archiving measurement sets", done + 1, len(job.ms))
    return made


def _archive(engine, job: ColumnsJob, ms: Path, monitor) -> Archived:
    columns = Columns(engine, job, monitor)
    target = engine.workdir / archive_name(ms)
    changes = any((job.pre_di, job.minus, job.scale, job.di))
    with Scratch(engine.cache_dir / SCRATCH) as scratch:
        cache = open_cache(ms, job.column, engine.cache_dir, monitor=monitor,
                           drop_international=engine.drop_international)

        def corrected(main, info):
            values = columns.corrected(cache, scratch)
            return GridRows.of(cache, main, info, values, True, unused=job.column).read

        def weights(main, info):
            values = columns.imaging_weights(cache, scratch)
            return GridRows.of(cache, main, info, values, False).read

        key = columns.reader(cache).content_key() if changes else ""
        factors = None
        if job.weights_from is not None:
            factors = load_weights(engine.solsdir, ms.name, job.weights_from).factor
        return archive_ms(
            ms, target, job.column, monitor=monitor,
            corrected=corrected if changes else None,
            corrections=key,
            imaging_weights=None if factors is None else weights,
            weights_from="" if factors is None else digest(key, factors),
            skip_imaging_weights=factors is None,
        )
