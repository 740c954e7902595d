"""Puts a recipe together: turns settings into jobs and finds out what each stage needs.

Nothing is computed and no file is opened here, so a recipe can be built, printed and compared
without data.  What a stage needs is derived from its job: a root, file or solution set that an
earlier stage makes is a dependency, another existing file belongs to the user.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ddfpipe import naming
from ddfpipe.engines.base import (
    ClusterJob, ColumnsJob, GainChoice, ImageJob, MaskJob, SmoothJob, SolveJob, VisSelection,
)
from ddfpipe.errors import ConfigError
from ddfpipe.pipeline import external_masks, fluxscale, verbs
from ddfpipe.pipeline.astrometry_jobs import AstrometryJob
from ddfpipe.pipeline.engines import NATIVE, engine_of
from ddfpipe.pipeline.jobs import (
    CompressJob, DownloadModelJob, DynspecJob, ExtendedMaskJob, ExternalMaskJob, FluxScaleJob,
    MaskModelJob, MeanImageJob, MergeMasksJob, OutsideModelJob, RemoveColumnsJob, StartModelJob,
)
from ddfpipe.pipeline.settings import Settings
from ddfpipe.pipeline.stage import Recipe, Stage

ENGINE_SETTINGS = ("machine.engine", "image.beam_model", "data.drop_international")
"""Options that the engine knows from its construction and that change what it makes."""
EXTERNAL_SETTINGS = ("control.beam_at",)
"""More of them, which the native engine has no use for."""


@dataclass(frozen=True)
class Data:
    """Visibilities as a part of the recipe sees them.

    di: direction-independent solutions applied while reading.  weights_from: the latest solve
    that estimated imaging weights.  pre_di, minus: what the preliminaries have left to be applied
    to all data, see `VisSelection`.  mhz: range of frequency, None for all.  scale: root of the
    flux-scale factors that data are multiplied with.
    """

    ms: tuple[Path, ...]
    column: str
    di: str | None = None
    weights_from: str | None = None
    pre_di: str | None = None
    minus: str | None = None
    mhz: tuple[float, float] | None = None
    scale: str | None = None

    def select(self, uv_km: tuple[float, float]) -> VisSelection:
        """The visibilities within a range of baselines."""
        return VisSelection(
            self.ms, self.column, self.di, uv_km, self.pre_di, self.minus, mhz=self.mhz,
            scale=self.scale,
        )

    def band(self, mhz: tuple[float, float]) -> "Data":
        """The measurement sets of a range of frequency in MHz."""
        return replace(self, mhz=mhz)

    def of(self, ms: tuple[Path, ...]) -> "Data":
        """Only some of the measurement sets."""
        return replace(self, ms=ms)

    def corrected(self, di: str) -> "Data":
        """The same data through direction-independent solutions."""
        return replace(self, di=di)

    def uncorrected(self) -> "Data":
        """The same data as the preliminaries left them."""
        return replace(self, di=None)

    def scaled(self, root: str | None) -> "Data":
        """The same data on a flux scale; None changes nothing."""
        return replace(self, scale=root or self.scale)

    def weighted(self, solve: str) -> "Data":
        """The same data with imaging weights from a solve."""
        return replace(self, weights_from=solve)


class Builder:
    """Collects stages.  Each method adds one and returns what later ones refer to."""

    def __init__(self, settings: Settings, small: tuple[Path, ...], full: tuple[Path, ...]) -> None:
        self.settings = settings
        self.small = small
        self.full = full
        self.group = ""
        self._stages: list[Stage] = []
        self._makers: dict[str, str] = {}
        self._exits: dict[str, str] = {}
        self._absent: dict[str, str] = {}

    # ------------------------------------------------------------------ the kinds of stages

    def image(self, job: ImageJob, also: Iterable[str] = ()) -> str:
        """Stage that makes an image; `also` names products that later stages read too."""
        makes = verbs.image_marker_files(job) + tuple(also)
        self._add(job.name, job, verbs.image, makes, provides=[job.name])
        return job.name

    def solve(self, job: SolveJob, files: Iterable[Path] = ()) -> str:
        """Stage that finds gains; `files` are more files of the user that it depends on."""
        makes = self._solution_files(job.name, job.vis.ms)
        self._add(job.name, job, verbs.solve, makes, provides=[job.name], files=files,
                  resumes=True)
        return job.name

    def smooth(self, job: SmoothJob) -> str:
        """Stage that merges and smooths the solutions of a solve."""
        name = naming.solution_name(job.name, job.smooth is not None)
        self._add(name, job, verbs.smooth, self._solution_files(name, job.ms), provides=[name])
        return name

    def mask(self, name: str, job: MaskJob) -> Path:
        """Stage that thresholds an image."""
        made = naming.mask_of(job.image)
        diffuse = (naming.DIFFUSE_MASK, naming.NOISE_MAP, naming.NOISE_MEAN) if job.diffuse else ()
        self._add(name, job, verbs.mask, (made, *diffuse))
        return Path(made)

    def mask_model(self, job: MaskModelJob) -> str:
        """Stage that keeps the model under a mask."""
        makes = (naming.image_product(job.output, "model"),)
        self._add(job.output, job, verbs.mask_model, makes, provides=[job.output])
        return job.output

    def start_model(self, job: StartModelJob) -> str:
        """Stage that makes a model from a list of components."""
        makes = (naming.image_product(job.output, "model"),)
        self._add("start_model", job, verbs.start_model, makes, provides=[job.output])
        return job.output

    def outside_model(self, job: OutsideModelJob) -> str:
        """Stage that keeps the model outside a square."""
        makes = (naming.image_product(job.output, "model"),)
        self._add(job.output, job, verbs.outside_model, makes, provides=[job.output])
        return job.output

    def download_model(self, job: DownloadModelJob) -> Path:
        """Stage that asks a server for a list of components."""
        self._add(Path(job.output).stem, job, verbs.download_model, (str(job.output),))
        return job.output

    def cluster(self, job: ClusterJob) -> Path:
        """Stage that finds the calibration directions."""
        self._add("clusters", job, verbs.cluster, (str(job.output),))
        return job.output

    def external_mask(self, job: ExternalMaskJob) -> Path:
        """Stage that draws the mask of known sources."""
        self._add(Path(job.output).stem, job, external_masks.draw, (str(job.output),))
        return job.output

    def merge_masks(self, job: MergeMasksJob) -> Path:
        """Stage that ORs masks together."""
        self._add(Path(job.output).stem, job, external_masks.merge, (str(job.output),))
        return job.output

    def extended_mask(self, name: str, job: ExtendedMaskJob) -> tuple[Path, Path]:
        """Stage that finds islands of extended emission; (low, high) resolution masks."""
        self._add(name, job, external_masks.extended, (str(job.low), str(job.high)))
        return job.low, job.high

    def spectra(self, name: str, job: DynspecJob, run: Callable) -> None:
        """Stage that makes the dynamic spectra of an observation."""
        self._add(name, job, run, (naming.spectra_archive(job.observation),))

    def astrometry(self, name: str, job: AstrometryJob, run: Callable,
                   makes: tuple[str, ...]) -> None:
        """Stage of the astrometry of a finished image; its job says what it reads."""
        self._add(name, job, run, makes)

    def compress(self, name: str, job: CompressJob) -> None:
        """Stage that packs files; it may take their place."""
        packed = {str(path): naming.compressed(path) for path in job.files}
        self._add(name, job, verbs.compress, tuple(packed.values()),
                  replaces=packed if job.delete else {})

    def columns(self, name: str, job: ColumnsJob) -> None:
        """Stage that writes columns into the measurement sets."""
        removed = [s.name for s in self._stages if isinstance(s.job, RemoveColumnsJob)]
        self._add(name, job, verbs.columns, (), after=removed)

    def remove_columns(self, name: str, job: RemoveColumnsJob) -> None:
        """Stage that removes columns of earlier runs from the measurement sets."""
        self._add(name, job, verbs.remove_columns, ())

    def archives(self, name: str, job: ColumnsJob) -> None:
        """Stage that makes compressed copies of the measurement sets."""
        self._add(name, job, verbs.archives, tuple(naming.archive_name(ms) for ms in job.ms))

    def flux_scale(self, job: FluxScaleJob) -> Path:
        """Stage that finds the flux-scale factors of an observation."""
        made = naming.factors_file(naming.FLUX_SCALE, job.observation)
        self._add(f"{naming.FLUX_SCALE}_{job.observation}", job, fluxscale.find_factors, (made,))
        return Path(made)

    def mean_image(self, name: str, job: MeanImageJob) -> Path:
        """Stage that averages images."""
        self._add(name, job, fluxscale.mean_image, (str(job.output),))
        return job.output

    # ------------------------------------------------------------------ ends and parts

    def job(self, name: str) -> Any:
        """The job of the stage called `name`."""
        return next(stage.job for stage in self._stages if stage.name == name)

    @contextmanager
    def part(self, title: str):
        """The stages added in the block belong to the part called `title`."""
        self.group = title
        yield
        self.group = ""

    def exit_point(self, name: str) -> None:
        """`exitafter=name` ends the run after the latest stage."""
        self._exits[name] = self._stages[-1].name

    def no_exit_point(self, name: str, why: str) -> None:
        """This configuration never comes to `name`."""
        self._absent[name] = why

    def recipe(self, no_full_list: bool = False) -> Recipe:
        """The finished recipe."""
        return Recipe(tuple(self._stages), dict(self._exits), dict(self._absent), no_full_list)

    # ------------------------------------------------------------------ inner works

    def _solution_files(self, name: str, ms: tuple[Path, ...]) -> tuple[str, ...]:
        folder = Path(self.settings.config.solutions.SolsDir)
        return tuple(str(naming.solution_file(folder, path, name)) for path in ms)

    def _add(self, name: str, job: Any, run: Callable, makes: tuple[str, ...],
             provides: Iterable[str] = (), files: Iterable[Path] = (),
             resumes: bool = False, after: Iterable[str] = (),
             replaces: Mapping[str, str] | None = None) -> None:
        """Add a stage; it needs the stages `after` besides those whose products it reads."""
        if name in self._makers.values():
            raise AssertionError(f"recipe has two stages called {name}")
        read = references_of(job)
        needs, users = self._resolve(read)
        config = self.settings.config
        engine = engine_of(config, job)
        keys = ENGINE_SETTINGS + (() if engine == NATIVE else EXTERNAL_SETTINGS)
        settings = {key: _option(config, key) for key in keys} if read.data else {}
        if settings:
            settings["machine.engine"] = engine
        self._stages.append(Stage(
            name=name, job=job, run=run, makes=makes, needs=(*needs, *after),
            options=self.settings.take(),
            settings=settings, files=(*users, *files), ms=read.ms, group=self.group,
            resumes=resumes, replaces=replaces or {},
        ))
        for item in (*makes, *provides):
            self._makers[item] = name

    def _resolve(self, read: "References") -> tuple[tuple[str, ...], tuple[Path, ...]]:
        """Stages that make what a job refers to, and the files that are the user's."""
        needs: dict[str, None] = {}
        files: dict[Path, None] = {}
        for root in read.roots:
            if root in self._makers:
                needs[self._makers[root]] = None
            else:
                files[Path(naming.image_product(root, "model"))] = None
        for name in read.solutions:
            needs[self._makers[name]] = None
        for path in read.files:
            parsed = naming.parse_image_product(path)
            maker = self._makers.get(str(path)) or (parsed and self._makers.get(parsed.root))
            if maker:
                needs[maker] = None
            else:
                files[path] = None
        return tuple(needs), tuple(files)


@dataclass(frozen=True)
class References:
    """What a job reads: image roots, solution sets, files, measurement sets."""

    roots: tuple[str, ...] = ()
    solutions: tuple[str, ...] = ()
    files: tuple[Path, ...] = ()
    ms: tuple[Path, ...] = ()
    data: bool = False


def references_of(job: Any) -> References:
    """What a job reads, whoever made it."""
    if isinstance(job, ImageJob):
        return References(
            _given(job.start_model, job.reuse, job.vis.minus),
            _given(job.vis.pre_di, job.vis.di, job.weights_from, *_gains(job.gains)),
            (*_given(job.clusters, job.external_mask), *_factors(job.vis)), job.vis.ms, data=True,
        )
    if isinstance(job, SolveJob):
        sets = (
            job.vis.pre_di, job.vis.di, *_gains(job.model_gains), *job.pre_apply, job.evolve_from
        )
        listed = job.kind == "phase"
        return References(
            _given(None if listed else job.model, job.vis.minus), _given(*sets),
            (*_given(Path(job.model) if listed else None, job.clusters), *_factors(job.vis)),
            job.vis.ms, data=True,
        )
    if isinstance(job, ColumnsJob):
        return References(
            _given(job.model, job.minus),
            _given(job.pre_di, job.di, job.weights_from, *_gains(job.gains)),
            (*_given(job.clusters), *_factors(job)), job.ms, data=True,
        )
    if isinstance(job, DynspecJob):
        want = job.spectra
        vis = want.vis
        return References(
            _given(want.model, vis.minus),
            _given(vis.pre_di, vis.di, want.weights_from, *_gains(want.gains)),
            (*_given(want.clusters, job.catalogue), *_factors(vis)), vis.ms, data=True,
        )
    if isinstance(job, RemoveColumnsJob):
        return References(ms=job.ms)
    if isinstance(job, SmoothJob):
        return References(solutions=(job.name,), ms=job.ms, data=True)
    if isinstance(job, MaskJob):
        return References(files=(Path(job.image), *job.external))
    if isinstance(job, ClusterJob):
        return References((job.image,), files=_given(job.avoid_mask))
    if isinstance(job, MaskModelJob):
        return References((job.image,), files=(job.mask,))
    if isinstance(job, OutsideModelJob):
        return References((job.image,))
    if isinstance(job, DownloadModelJob):
        return References(ms=job.ms)
    if isinstance(job, StartModelJob):
        return References(files=(job.skymodel,), ms=job.like.vis.ms, data=True)
    if isinstance(job, ExternalMaskJob):
        return References(files=_given(job.grid, job.tgss, job.region, job.fits_mask))
    if isinstance(job, CompressJob):
        return References(files=job.files)
    if isinstance(job, MergeMasksJob):
        return References(files=job.masks)
    if isinstance(job, ExtendedMaskJob):
        return References(files=_given(job.image, job.template, job.facets))
    if isinstance(job, AstrometryJob):
        return References(files=job.reads)
    if isinstance(job, FluxScaleJob):
        return References(files=(job.cube, job.detection, job.flux, job.model, job.psf,
                                 *job.catalogues))
    if isinstance(job, MeanImageJob):
        return References(files=job.images)
    raise AssertionError(f"no such kind of job: {type(job).__name__}")


def _factors(vis: Any) -> tuple[Path, ...]:
    """Tables of the factors that the data of a selection (or a ColumnsJob) are multiplied with."""
    if vis.scale is None:
        return ()
    names = dict.fromkeys(naming.observation_of(ms) for ms in vis.ms)
    return tuple(Path(naming.factors_file(vis.scale, name)) for name in names)


def _given(*items: Any) -> tuple:
    return tuple(item for item in items if item is not None)


def _gains(choice: GainChoice | None) -> tuple[str, ...]:
    return choice.names if choice else ()


def _option(config: Any, key: str) -> Any:
    section, name = key.split(".")
    return getattr(getattr(config, section), name)


def restoring_beam(settings: Settings) -> tuple[float, float, float]:
    """Beam of the final images: circular unless a minor axis and a position angle are given."""
    major = settings.image.final_psf_arcsec
    minor = settings.image.final_psf_minor_arcsec
    angle = settings.image.final_psf_pa_deg
    if minor is None:
        return (major, major, 0.0)
    if angle is None:
        raise ConfigError(
            "[image] final_psf_minor_arcsec is set: [image] final_psf_pa_deg must be given too"
        )
    return (major, minor, angle)
