"""offsets.py, rerun_offsets.py, apply-astrometric-shifts.py: astrometry of finished images."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ddfpipe import naming
from ddfpipe.errors import ConfigError, DataError
from ddfpipe.log import StageLog
from ddfpipe.naming import image_product, offset_sources, offsets_file, reference_label
from ddfpipe.pipeline import astrometry
from ddfpipe.pipeline.astrometry_jobs import (
    MOVED, RESTORED, OffsetSourcesJob, OffsetsJob, ReferenceJob, ShiftJob,
)
from ddfpipe.pipeline.context import Context
from ddfpipe.pipeline.signals import StopFlag
from ddfpipe.report.figures import figure_text
from ddfpipe.report.monitor import RunMonitor
from ddfpipe.report.progress import Progress

if TYPE_CHECKING:
    from ddfpipe.products.astrometry import FacetOffsets

NEW_SHIFT = "_newshift"
"""What follows the root of an image that apply-astrometric-shifts.py has moved."""


def measure_again(config: Any, image: str, stop: StopFlag, *, correct: bool, move: bool = False,
                  log: str = "offsets") -> list[str]:
    """Measure the offsets of image root `image` in this directory as [offsets] says.

    correct: also write the list and the map that belong to a correction (not with mode=test, which
    measures `image` after it was moved).  move: also write the moved image.  What was found, in
    lines.  Raises the errors of the stages, and LockError while a run is at work here.
    """
    from ddfpipe.pipeline.state import RunState

    chosen = config.offsets
    if chosen.method is None:
        raise ConfigError("[offsets] method says with what to compare; give it, for instance "
                          "--offsets-method=pslocal")
    test = chosen.mode == "test"
    root, kinds = (naming.shifted_image(image), MOVED) if test else (image, RESTORED)
    label = reference_label(chosen.method) + ("-test" if test else "")
    home = Path.cwd()
    monitor = RunMonitor(Progress(), stop.check)
    stage_log = StageLog(Path(config.control.logging) if config.control.logging else None, log)
    monitor.new_stage(stage_log)
    context = Context(config, home, home, None, monitor)  # no engine: nothing is imaged
    facets = Path(image_product(image, "tessel"))
    told, start = [], time.monotonic()
    try:
        with RunState(home).locked():
            search = OffsetSourcesJob(root, kinds)
            if not up_to_date(home, search):
                told.append(_line("sources", astrometry.sources(context, search)))
            told.append(_line("reference", astrometry.reference(context, ReferenceJob(
                root, chosen.method, chosen.catalogue_dir, chosen.server, kind=kinds[0]))))
            told.append(_line("offsets", astrometry.offsets(context, OffsetsJob(
                root, chosen.method, chosen.fit, facets, kinds, label, correct and not test))))
            if move and not test:
                table = Path(offsets_file(label, "offsets"))
                told.append(_line("shift", astrometry.shift(
                    context, ShiftJob(image, facets, table))))
        for line in told:
            stage_log.line(line)
        stage_log.line(f"done in {time.monotonic() - start:.1f} s")
    finally:
        stage_log.close()
    return [*told, f"{offsets_file(label, 'offsets')} has the offsets of all facets"]


def up_to_date(home: Path, job: OffsetSourcesJob) -> bool:
    """Whether the catalogue of a search is there and newer than the images."""
    made = home / offset_sources(job.image, "catalogue")
    images = [home / path for path in job.reads]
    if not made.exists() or not all(path.exists() for path in images):
        return False
    return made.stat().st_mtime > max(path.stat().st_mtime for path in images)


def _line(name: str, result: Any) -> str:
    return f"{name}: {figure_text(result.figures)}"


def apply_shifts(images: Sequence[Path], table: Path, facets: Path, *, every: bool,
                 check: Any = lambda: None) -> list[str]:
    """Write images moved facet by facet as `<root>_newshift...`; what was done, in lines.

    every: move all facets; else only those whose offset is larger than its error.  Where an
    image's components lie beside it (`.model.fits`), they are drawn anew.  Raises DataError and
    ImagingError for files that cannot be used.
    """
    from ddfpipe.products.astrometry import read_facet_offsets
    from ddfpipe.products.astrometry.files import shift_files

    offsets = read_facet_offsets(table)
    chosen = None if every else offsets.significant()
    told = []
    for image in images:
        if not image.exists():
            raise DataError(f"{image}: there is no such image.")
        target = moved_name(image)
        model = image.with_name(image.name.replace(".restored.fits", ".model.fits"))
        used = model if model != image and model.exists() else None
        shift_files(image, target, facets, offsets, model=used, chosen=chosen, check=check)
        how = "components drawn anew" if used else "interpolated"
        told.append(f"{target}: {_moved(offsets, chosen)} facets moved, {how}")
    return told


def moved_name(image: Path) -> Path:
    """Name for the moved copy of an image."""
    parsed = naming.parse_image_product(image)
    if parsed is None or parsed.cycle is not None:
        return image.with_name(f"{image.stem}{NEW_SHIFT}{image.suffix}")
    return image.with_name(image_product(parsed.root + NEW_SHIFT, parsed.kind))


def _moved(offsets: FacetOffsets, chosen: Any) -> str:
    count = offsets.size if chosen is None else int(chosen.sum())
    return f"{count} of {offsets.size}"


def with_offsets(config: Any, **values: Any) -> Any:
    """A configuration with other values in [offsets]; None leaves a value alone."""
    given = {name: value for name, value in values.items() if value is not None}
    return replace(config, offsets=replace(config.offsets, **given))
