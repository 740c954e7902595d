"""What every stage of a recipe costs, in order: who reads data first, whose grid a mask is on."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ddfpipe import naming
from ddfpipe.engines.base import (
    ClusterJob, ColumnsJob, ImageJob, MaskJob, SmoothJob, SolveJob, VisSelection,
)
from ddfpipe.pipeline import costs, externalcosts, imagecosts, solvecosts
from ddfpipe.pipeline.archive import STAGE as ARCHIVE_STAGE
from ddfpipe.pipeline.astrometry_jobs import AstrometryJob, OffsetSourcesJob, ShiftJob
from ddfpipe.pipeline.costs import BASE_MEMORY, FLOAT, NS, Cost, World
from ddfpipe.pipeline.jobs import (
    CompressJob, DownloadModelJob, DynspecJob, ExtendedMaskJob, ExternalMaskJob, FluxScaleJob,
    MaskModelJob, MeanImageJob, MergeMasksJob, OutsideModelJob, RemoveColumnsJob, StartModelJob,
)
from ddfpipe.pipeline.engines import DDFACET
from ddfpipe.pipeline.stage import Stage
from ddfpipe.pipeline.solvecosts import GAIN_BYTES
from ddfpipe.units import ARCSEC

MASK, DIFFUSE, DRAWN, MERGED, CLUSTERED = 120 * NS, 150 * NS, 12 * NS, 7 * NS, 100 * NS
"""A pixel: thresholded, with maps of the noise too, drawn on, joined with other masks, searched."""
PACKED, MOVED, SEARCHED = 50 * NS, 200 * NS, 1500 * NS
"""A pixel: compressed, moved by the offset of its facet, searched for sources by fits."""
SMOOTHED, SMOOTH_SET = 12e-6, 0.02
"""Seconds of a gain, and of a measurement set, while solutions are merged and smoothed."""
SMOOTH_BYTES = 150
"""Memory of a gain meanwhile: itself, errors, flags and weights in double precision, twice."""
WRITTEN = 250 * NS
"""A visibility of four correlations put into a column or a compressed copy."""
TARGETS = 30
"""Positions of dynamic spectra where bright sources and a catalogue give them."""
DOWNLOAD, SMALL = 10.0, 0.01
"""Seconds of waiting for a server and reading what it sends; of any small stage."""
MASK_PLANES, DIFFUSE_FILES = 6, 4
"""Arrays of a mask in the making, and files of it where noise maps are written."""
ARCHIVED_BYTES, ARCHIVED_ROW = 16, 200
"""Most bytes of a visibility of four correlations in a compressed copy (data, flags, weights), and
of a row, as data/archive.py has them."""


@dataclass
class Walk:
    """What earlier stages of a recipe have left.

    world: see `costs.World`.  read: measurement sets in the cache.  corrected: copies there, by
    set, corrections and Stokes parameter.  copied: sets with a working copy for programs of others.
    grids: root of an image or model -> (pixels, cell in arcsec).  solves: name of a solve -> its
    job.
    """

    world: World
    read: set[Path] = field(default_factory=set)
    corrected: set[tuple[Any, ...]] = field(default_factory=set)
    copied: set[Path] = field(default_factory=set)
    grids: dict[str, tuple[int, float]] = field(default_factory=dict)
    solves: dict[str, SolveJob] = field(default_factory=dict)

    def cost(self, stage: Stage) -> Cost:
        """Cost of the next stage.

        A job of a kind that is not known here is an AssertionError: new kinds need their costs.
        """
        job = stage.job
        for kind, find in _KINDS.items():
            if isinstance(job, kind):
                return find(self, job) if kind is not ColumnsJob else \
                    _columns(self, job, stage.name == ARCHIVE_STAGE)
        raise AssertionError(f"no cost of a {type(job).__name__}")

    def cost_of_others(self, stage: Stage, engine: str) -> Cost:
        """The same of an image or a solve that the programs of `engine` do; without their time."""
        job = stage.job
        if isinstance(job, ImageJob):
            self.grids[job.name] = (job.npix, job.cell_arcsec)
            cost = externalcosts.image_cost(job, engine == DDFACET)
        else:
            self.solves[job.name] = job
            cost = externalcosts.solve_cost(job, self.world.of(job.vis.ms, job.vis.mhz),
                                            self.world.n_dir, _gains(self, job) * GAIN_BYTES)
        fresh = [path for path in job.vis.ms
                 if path not in self.copied and path in self.world.sets]
        self.copied.update(fresh)
        copies = sum(externalcosts.working_copy(self.world.sets[path]) for path in fresh)
        opened = self.opened(job.vis)
        return cost.plus(cache_bytes=copies + opened.cache_bytes)

    def forget(self) -> None:
        """The caches are deleted."""
        self.read.clear()
        self.corrected.clear()
        self.copied.clear()

    def pixels(self, name: str | Path) -> float:
        """Pixels of an image, named by its root or one of its files; else of the main images."""
        parsed = naming.parse_image_product(name)
        text = str(name).removesuffix(naming.MASK_SUFFIX)
        for root in (str(name), parsed.root if parsed else text, text):
            if root in self.grids:
                return float(self.grids[root][0]) ** 2
        return float(self.world.npix) ** 2

    def opened(self, vis: VisSelection, stokes: str = "I") -> Cost:
        """Cost of the caches of a selection of data that are not there yet."""
        total = Cost()
        inside = self.world.of(vis.ms, vis.mhz)
        for path in vis.ms:
            size = self.world.sets.get(path)
            if not any(size is one for one in inside):
                continue
            if path not in self.read:
                self.read.add(path)
                total = _sum(total, costs.first_reading([size]))
            corrections = (path, vis.column, vis.pre_di, vis.minus, vis.di, vis.scale)
            for key in ((*corrections, parameter) for parameter in stokes):
                if key not in self.corrected:
                    self.corrected.add(key)
                    total = _sum(total, costs.stokes_copy([size]))
        return total


def _sum(one: Cost, other: Cost) -> Cost:
    return one.plus(**vars(other))


def _simple(seconds: float, files: float = 0.0, memory: float = 0.0) -> Cost:
    """Cost of a stage of one thread.  files, memory: bytes."""
    return Cost(0.0, SMALL + seconds, BASE_MEMORY + memory, product_bytes=files)


# ---------------------------------------------------------------------- images and solves


def _image(walk: Walk, job: ImageJob) -> Cost:
    walk.grids[job.name] = (job.npix, job.cell_arcsec)
    return _sum(imagecosts.image_cost(job, walk.world), walk.opened(job.vis, job.stokes))


def _solve(walk: Walk, job: SolveJob) -> Cost:
    walk.solves[job.name] = job
    npix, cell = walk.grids.get(job.model, (walk.world.npix, walk.world.cell_arcsec))
    cost = solvecosts.solve_cost(job, walk.world, npix, cell * ARCSEC)
    return _sum(cost, walk.opened(job.vis))


def _smooth(walk: Walk, job: SmoothJob) -> Cost:
    solve, sets = walk.solves.get(job.name), walk.world.of(job.ms)
    if solve is None:
        return _simple(SMOOTH_SET * len(sets))
    gains = _gains(walk, solve, job.ms)
    files = GAIN_BYTES * gains * (2 if job.smooth else 1)
    return _simple(SMOOTH_SET * len(sets) + SMOOTHED * gains, files, SMOOTH_BYTES * gains)


def _gains(walk: Walk, solve: SolveJob, ms: Iterable[Path] | None = None) -> float:
    """Gains that a solve finds in its measurement sets, or in `ms`."""
    sets = walk.world.of(solve.vis.ms, solve.vis.mhz) if ms is None else walk.world.of(ms)
    n_dir, corrs = (walk.world.n_dir, 1) if solve.kind == "DD" else (1, 4)
    return sum(solvecosts.fits_of(solve, s)[0] * s.n_ant * n_dir * corrs for s in sets)


def _columns(walk: Walk, job: ColumnsJob, archive: bool) -> Cost:
    """Columns grow the measurement sets themselves, but their disk is counted as products."""
    sets = walk.world.of(job.ms)
    amount = costs.visibilities(sets)
    if archive:
        rows = sum(s.n_time * (s.n_bl + s.n_ant) for s in sets)
        files = ARCHIVED_BYTES * amount + ARCHIVED_ROW * rows
    else:
        files = amount * sum(4 if name == "IMAGING_WEIGHT" else 32 for name in job.columns)
    cost = _simple(WRITTEN * amount * (1 if archive else len(job.columns)), files)
    if job.model is not None:
        cost = cost.plus(parallel_s=_predicted(walk, sets, job.clusters))
    vis = VisSelection(job.ms, job.column, pre_di=job.pre_di, minus=job.minus, scale=job.scale)
    return _sum(cost, walk.opened(vis))


def _predicted(walk: Walk, sets: list[Any], clusters: Path | None) -> float:
    """CPU seconds of predicting the model of the main image."""
    cell = walk.world.cell_arcsec * ARCSEC
    facets = imagecosts.facets_of(walk.world.npix, cell, walk.world.n_dir if clusters else None)
    slots = min(map(imagecosts.chunk_slots, sets), default=1.0)
    return imagecosts.predict_s(sets, facets, cell, walk.world.memory, slots)


def _spectra(walk: Walk, job: DynspecJob) -> Cost:
    vis = job.spectra.vis
    sets = walk.world.of(vis.ms)
    amount = costs.visibilities(sets)
    cells = sum(s.n_time * s.n_chan for s in sets)
    work = _predicted(walk, sets, job.spectra.clusters) + amount * TARGETS * imagecosts.GRID
    pages = costs.mapped(sets, 20)
    cost = Cost(work, 1.0, BASE_MEMORY + pages, pages,
                product_bytes=2 * FLOAT * cells * TARGETS, scratch_bytes=12 * amount)
    return _sum(cost, walk.opened(vis))


# ---------------------------------------------------------------------- masks, models, files


def _plane(walk: Walk, name: str | Path, seconds: float, files: float = 1,
           planes: float = MASK_PLANES) -> Cost:
    pixels = walk.pixels(name)
    return _simple(seconds * pixels, files * FLOAT * pixels, planes * FLOAT * pixels)


def _mask(walk: Walk, job: MaskJob) -> Cost:
    if job.diffuse:
        return _plane(walk, job.image, DIFFUSE, DIFFUSE_FILES)
    return _plane(walk, job.image, MASK)


def _extended(walk: Walk, job: ExtendedMaskJob) -> Cost:
    low, high = walk.pixels(job.image), walk.pixels(job.template)
    return _simple(MASK * low + DRAWN * high, FLOAT * (low + high), MASK_PLANES * FLOAT * high)


def _external(walk: Walk, job: ExternalMaskJob) -> Cost:
    return _plane(walk, job.grid, DRAWN)


def _merged(walk: Walk, job: MergeMasksJob) -> Cost:
    return _plane(walk, job.masks[0], MERGED * len(job.masks))


def _model(walk: Walk, job: MaskModelJob | OutsideModelJob | StartModelJob) -> Cost:
    """Models take the grid of the image that they come from, and hardly any room."""
    source = job.like.name if isinstance(job, StartModelJob) else job.image
    grid = (job.like.npix, job.like.cell_arcsec) if isinstance(job, StartModelJob) \
        else walk.grids.get(source)
    if grid is not None:
        walk.grids[job.output] = grid
    return _plane(walk, source, MERGED if isinstance(job, MaskModelJob) else 0.0, 0, 2)


def _cluster(walk: Walk, job: ClusterJob) -> Cost:
    return _plane(walk, job.image, CLUSTERED, 0)


def _scale(walk: Walk, job: FluxScaleJob) -> Cost:
    """Sources of a detection image, measured in every plane of a cube."""
    return _plane(walk, job.detection, SEARCHED)


def _mean(walk: Walk, job: MeanImageJob) -> Cost:
    return _plane(walk, job.images[0], MERGED * len(job.images), planes=2)


def _astrometry(walk: Walk, job: AstrometryJob) -> Cost:
    """Finding sources and moving the image cost by the pixel; catalogues wait for servers."""
    if isinstance(job, OffsetSourcesJob):
        return _plane(walk, job.image, SEARCHED)
    if isinstance(job, ShiftJob):
        return _plane(walk, job.image, MOVED, files=2)
    return _simple(DOWNLOAD)


def _compress(walk: Walk, job: CompressJob) -> Cost:
    pixels = sum(walk.pixels(path) for path in job.files)
    return _simple(PACKED * pixels, FLOAT * pixels / 4)


def _nothing(walk: Walk, job: RemoveColumnsJob) -> Cost:
    return _simple(0.0)


def _download(walk: Walk, job: DownloadModelJob) -> Cost:
    return _simple(DOWNLOAD)


_KINDS = {
    ImageJob: _image, SolveJob: _solve, SmoothJob: _smooth, ColumnsJob: _columns,
    DynspecJob: _spectra, MaskJob: _mask, ExtendedMaskJob: _extended, ExternalMaskJob: _external,
    MergeMasksJob: _merged, MaskModelJob: _model, OutsideModelJob: _model, StartModelJob: _model,
    ClusterJob: _cluster, FluxScaleJob: _scale, MeanImageJob: _mean, AstrometryJob: _astrometry,
    CompressJob: _compress, RemoveColumnsJob: _nothing, DownloadModelJob: _download,
}
"""Kind of job -> its cost."""


def costs_of(stages: Iterable[Stage], world: World, gone: Collection[str] = (),
             others: Mapping[str, str] | None = None) -> dict[str, Cost]:
    """Costs by name of stages that run one after another, with nothing in the caches before.

    gone: names of stages that ran earlier and whose caches are deleted.  others: name of a stage
    that programs of others do -> their engine; its cost is without their time.
    """
    walk, found, started, others = Walk(world), {}, False, others or {}
    for stage in stages:
        name = stage.name
        found[name] = walk.cost_of_others(stage, others[name]) if name in others \
            else walk.cost(stage)
        if name not in gone and name not in others and not started:
            found[name] = found[name].plus(serial_s=costs.START)
            started = True
        if name in gone:
            walk.forget()
    return found
