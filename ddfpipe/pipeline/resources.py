"""Where a run will write how much, and what memory it will need: for the checks before it."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ddfpipe.engines.base import SmoothJob, SolveJob
from ddfpipe.pipeline import columns
from ddfpipe.pipeline.estimate import Estimate
from ddfpipe.pipeline.sets import bytes_of_columns

CACHE_FOLDERS = ("ddfpipe.images",)
"""Folders of caches that are deleted whole; below others only what belongs to a set is."""
SET_CACHES = ("{name}.*.ddfvis", "ddfpipe.stokes/{name}.*", "ddfpipe.copies/{stem}.????????.ms")
"""Caches of a measurement set: visibilities, corrected ones, copies for programs of others."""


def disk_needed(field: Any, found: Estimate) -> dict[Path, float]:
    """Bytes that a run will write below each folder, caches that it deletes at its start taken off.

    field: `ddfpipe.pipeline.run.Field`.  found: what is to do.  Folders of small files are named
    too, as they must be writable.
    """
    needed = dict.fromkeys((field.workdir, field.solsdir, field.cache_dir), 0.0)
    if field.logs is not None:
        needed.setdefault(field.logs, 0.0)
    for row in found.to_do:
        job = row.decision.stage.job
        if row.decision.stage.name != columns.STAGE:  # these go into the measurement sets
            folder = field.solsdir if isinstance(job, SolveJob | SmoothJob) else field.workdir
            needed[folder] += row.cost.product_bytes
    freed = 0
    if field.config.control.clearcache:
        freed = bytes_in_caches(field.cache_dir, field.small + field.full)
    needed[field.cache_dir] += max(found.cache_bytes - freed, 0.0)
    for ms, size in bytes_of_columns([row.decision for row in found.to_do]).items():
        needed[ms] = needed.get(ms, 0.0) + size
    return needed


def bytes_in_caches(cache_dir: Path, ms: Iterable[Path]) -> int:
    """Disk that the caches of measurement sets, and all cached images, take."""
    from ddfpipe.data.sizes import folder_bytes

    places = [cache_dir / name for name in CACHE_FOLDERS]
    for path in dict.fromkeys(ms):
        names = {"name": path.name, "stem": path.stem}
        places += [found for pattern in SET_CACHES for found in
                   cache_dir.glob(pattern.format(**names))]
    return sum(place.stat().st_size if place.is_file() else folder_bytes(place)
               for place in places)
