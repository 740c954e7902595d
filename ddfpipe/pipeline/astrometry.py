"""Astrometry of the final image: the last stages of a recipe, if they are asked for.

Sources are found on the final image, compared with a reference catalogue facet by facet, and the
image is restored again with every facet where the reference has it (Shimwell et al. 2019, A&A 622,
A1, section 3.6).  The stages come last of all: when the reference catalogue cannot be fetched,
nothing else is missing.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count, takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ddfpipe import naming
from ddfpipe.naming import image_product, offset_sources, offsets_file, reference_label
from ddfpipe.pipeline.astrometry_jobs import (
    MOVED, RESTORED, AstrometryJob, OffsetSourcesJob, OffsetsJob, ReferenceJob, ShiftJob,
)
from ddfpipe.pipeline.builder import Builder
from ddfpipe.pipeline.context import Context
from ddfpipe.pipeline.stage import StageResult

if TYPE_CHECKING:
    from ddfpipe.data.images import SkyGrid
    from ddfpipe.data.mschecks import Problem
    from ddfpipe.pipeline.decisions import Decision

CATALOGUE_STAGE = "reference_catalogue"
LEAST_COVERAGE, USUAL_COVERAGE = 0.05, 0.9
"""Part of the image on which a reference must have objects, and below which a warning is due."""


def astrometry(b: Builder, image: str) -> None:
    """Add the stages for image root `image`; band images that were made are moved with it."""
    # Options are read from `s` where they count, so that each stage knows its own.
    s, given = b.settings, b.settings.config.offsets
    if given.method is None:
        return
    label = reference_label(given.method)
    facets = Path(image_product(image, "tessel"))
    b.astrometry("offset_sources", OffsetSourcesJob(image), sources,
                 (offset_sources(image, "catalogue"),))
    b.astrometry(CATALOGUE_STAGE, ReferenceJob(
        image, s.offsets.method, s.offsets.catalogue_dir, s.offsets.server,
        single_file(given.method, given.catalogue_dir),
    ), reference, (offsets_file(label, "reference"),))
    b.astrometry("offsets", OffsetsJob(
        image, s.offsets.method, s.offsets.fit, facets, label=label,
    ), offsets, (offsets_file(label, "offsets"), naming.SHIFT_LIST, naming.ASTROMETRY_MAP))
    table = Path(offsets_file(label, "offsets"))
    made = b.recipe().names()
    bands = takewhile(lambda root: root in made, map(naming.band_image, count()))
    for root in (image, *bands):
        moved = naming.shifted_image(root)
        b.astrometry(moved, ShiftJob(root, facets, table), shift,
                     tuple(image_product(moved, kind) for kind in MOVED))
    if given.mode == "test":
        _test_stages(b, naming.shifted_image(image), facets, f"{label}-test")


def _test_stages(b: Builder, moved: str, facets: Path, label: str) -> None:
    """Stages that measure what is left on the moved image."""
    s = b.settings
    b.astrometry("offset_sources_test", OffsetSourcesJob(moved, MOVED), sources,
                 (offset_sources(moved, "catalogue"),))
    b.astrometry("offsets_test", OffsetsJob(
        moved, s.offsets.method, s.offsets.fit, facets, MOVED, label, correct=False,
    ), offsets, (offsets_file(label, "offsets"),))


def single_file(method: str, folder: str | None) -> Path | None:
    """The one file of the user's that holds the reference catalogue, if there is such."""
    from ddfpipe.config.sections_control import REFERENCE_CATALOGUES

    if method not in REFERENCE_CATALOGUES:
        return Path(method)
    path = Path(folder or "") / f"{method}.fits"
    return path if folder is not None and path.is_file() else None


# ---------------------------------------------------------------------- the stages


def sources(context: Context, job: OffsetSourcesJob) -> StageResult:
    """Find the sources of an image; the figure is how many."""
    from ddfpipe.data.images import read_image
    from ddfpipe.products.sourcefinding import OFFSETS, find_sources, scaled_boxes

    home = context.workdir
    detection, flux = (home / path for path in job.reads)
    target = {kind: home / offset_sources(job.image, kind) for kind in naming.OFFSET_SUFFIXES}
    grid = read_image(detection).grid
    table = find_sources(
        detection, flux, scaled_boxes(OFFSETS, grid.nx, grid.ny),
        threads=context.config.machine.NCPU_DDF, output=target["catalogue"],
        monitor=context.monitor,
        exports={kind: target[kind] for kind in ("gaussians", "rms", "residual", "mask",
                                                 "regions")},
    )
    target.pop("used")
    made = [path for path in target.values() if path.exists()]
    return StageResult({"sources": len(table)}, context.relative(made))


def reference(context: Context, job: ReferenceJob) -> StageResult:
    """Reference objects within the field, from disk or from their server; figures: how many, and
    on what part of the image there are some."""
    from ddfpipe.data.images import read_image
    from ddfpipe.errors import StageFailed
    from ddfpipe.products import refcats

    home = context.workdir
    grid = read_image(home / job.reads[0]).grid
    folder = home / job.catalogue_dir if job.catalogue_dir else None
    method = job.method if job.method in refcats.SERVERS else str(home / job.method)
    files = refcats.local_files(method, folder, grid)
    if files is None:
        ra, dec = refcats.fetch_catalogue(method, grid, home / method, context.monitor,
                                          server=job.server)
    else:
        ra, dec = refcats.read_reference(files, grid)
    share = refcats.coverage(ra, dec, grid)
    if share < LEAST_COVERAGE:
        raise StageFailed(
            f"[offsets] method={job.method}: {ra.size} objects on {share:.0%} of the image; is it "
            "a catalogue of this field? Give another one, or method=None to finish without offsets"
        )
    target = home / offsets_file(reference_label(job.method), "reference")
    refcats.write_positions(target, ra, dec)
    return StageResult({"objects": int(ra.size), "coverage": round(share, 3)},
                       context.relative([target]))


def offsets(context: Context, job: OffsetsJob) -> StageResult:
    """Measure; figures are numbers of sources and facets, typical offset, scatter and error."""
    from ddfpipe.products.astrometry.files import ImageFiles, measure_image

    home = context.workdir
    image = ImageFiles(
        home / job.reads[0], home / job.facets,
        home / offset_sources(job.image, "catalogue"), home / job.reference,
    )
    measured = measure_image(
        image, job.fit,
        lambda done, total: (context.monitor.progress("fitting facets", done, total),
                             context.monitor.check()),
    )
    made = measured.write(home, job.label, used=home / offset_sources(job.image, "used"),
                          correct=job.correct)
    made += measured.draw(home, job.label,
                          home / naming.preview_name(offsets_file(job.label, "offsets")))
    return StageResult(measured.figures(), context.relative(made))


def shift(context: Context, job: ShiftJob) -> StageResult:
    """Move an image; figures are how many facets move, and how far at most."""
    import numpy as np

    from ddfpipe.products.astrometry.files import shift_files
    from ddfpipe.products.astrometry.tables import read_facet_offsets
    from ddfpipe.units import ARCSEC

    home = context.workdir
    table = read_facet_offsets(home / job.offsets)
    moved = naming.shifted_image(job.image)
    made = []
    for kind, target in zip(RESTORED, MOVED):
        model = home / image_product(job.image, kind.replace("restored", "model"))
        made.append(shift_files(
            home / image_product(job.image, kind), home / image_product(moved, target),
            home / job.facets, table, model=model if model.exists() else None,
            check=context.monitor.check,
        ))
        context.monitor.progress("moving images", len(made), len(RESTORED))
    size = np.hypot(table.east, table.north) / ARCSEC
    figures = {"moved_facets": int((size > 0).sum()), "largest_shift_arcsec": float(size.max())}
    return StageResult(figures, context.relative(made))


# ---------------------------------------------------------------------- checks before the run


def problems(config: Any, workdir: Path, infos: Sequence[Any], decisions: Sequence[Decision]
             ) -> list[Problem]:
    """What stands against the offsets that are still to be measured.

    infos: MSInfo of measurement sets; decisions: on the stages of the run.
    """
    from ddfpipe.data.images import SkyGrid
    from ddfpipe.units import ARCSEC

    still = {d.stage.name for d in decisions
             if not d.done and isinstance(d.stage.job, AstrometryJob)}
    found = _programs(config) if still else []
    if CATALOGUE_STAGE not in still or not infos:
        return found
    size = config.image.imsize
    grid = SkyGrid(*infos[0].phase_centre, size, size, config.image.cellsize * ARCSEC)
    return found + _catalogue(config, workdir, grid)


def _programs(config: Any) -> list[Problem]:
    from importlib.util import find_spec

    from ddfpipe.data.mschecks import Problem

    needed = ["bdsf"] + (["emcee"] if config.offsets.fit == "mcmc" else [])
    return [Problem("offsets", f"[offsets] method needs the Python package {name}, which is not "
                    f"installed: pip install {name}, or set method=None")
            for name in needed if find_spec(name) is None]


def _catalogue(config: Any, workdir: Path, grid: SkyGrid) -> list[Problem]:
    from ddfpipe.data.mschecks import Problem
    from ddfpipe.errors import DdfpipeError
    from ddfpipe.products import refcats

    chosen = config.offsets
    method = chosen.method if chosen.method in refcats.SERVERS else str(workdir / chosen.method)
    try:
        folder = workdir / chosen.catalogue_dir if chosen.catalogue_dir else None
        files = refcats.local_files(method, folder, grid)
        if files is None:
            return _network(chosen, method)
        share = refcats.coverage(*refcats.read_reference(files, grid), grid)
    except DdfpipeError as error:
        return [Problem("offsets", str(error))]
    if share >= USUAL_COVERAGE:
        return []
    return [Problem(
        "offsets", f"[offsets] method={chosen.method}: the catalogue on disk has objects on "
        f"{share:.0%} of the image only" + ("" if share >= LEAST_COVERAGE else
                                            "; give one of this field, or set method=None"),
        fatal=share < LEAST_COVERAGE,
    )]


def _network(chosen: Any, method: str) -> list[Problem]:
    from ddfpipe.data.mschecks import Problem
    from ddfpipe.products import refcats

    address = chosen.server or refcats.SERVERS[method].address
    if refcats.reachable(address):
        return []
    return [Problem(
        "offsets", f"[offsets] method={method}: {address} cannot be reached now. The run goes "
        "on, and its last stages will try again; to be sure set catalogue_dir, or method to a "
        "file on disk", fatal=False,
    )]
