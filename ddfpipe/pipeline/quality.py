"""quality_pipeline.py: the recipe, and the run."""

from __future__ import annotations

import signal
import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from ddfpipe.config.quality import CatalogueChoice, QualityConfig, catalogue_choices, load_quality
from ddfpipe.errors import ImagingError
from ddfpipe.log import StageLog
from ddfpipe.naming import catalogue_product, image_product, quality_report
from ddfpipe.pipeline import quality_stages as stages
from ddfpipe.pipeline.context import Context
from ddfpipe.pipeline.decisions import Judge
from ddfpipe.pipeline.housekeeping import remove_leftovers
from ddfpipe.pipeline.quality_match import MatchJob, compare_catalogue
from ddfpipe.pipeline.quality_stages import ImageFiles, MeasureJob, SourcesJob, part_name
from ddfpipe.pipeline.runner import Runner
from ddfpipe.pipeline.signals import StopFlag
from ddfpipe.pipeline.stage import Recipe, Stage
from ddfpipe.pipeline.state import Record, RunState
from ddfpipe.pipeline.status import plan_text
from ddfpipe.report.figures import figure_text
from ddfpipe.report.monitor import RunMonitor
from ddfpipe.report.progress import Progress, duration

EXIT_BELOW_LIMITS = 6
"""Exit code when the image does not keep the limits that the user set."""
SIZES_SNR = 20.0
"""Least signal to noise of sources of which total over peak flux is taken."""


class QualityState(RunState):
    """Records of a quality run; they lie in the folder of its report."""

    def __init__(self, workdir: Path, report: str) -> None:
        super().__init__(workdir)
        self.folder = workdir / quality_report(report)[2] / "state"


def execute_quality(words: Sequence[str]) -> int:
    """Look at the image that the words of a command line name; the exit code.

    Raises the errors of ddfpipe.
    """
    warnings: list[str] = []
    config = load_quality(words, warnings=warnings)
    for line in warnings:
        print(f"warning: {line}", file=sys.stderr)
    workdir = Path.cwd()
    recipe, problems = build_quality_recipe(config, workdir)
    state = QualityState(workdir, config.control.report)
    if config.control.dryrun:
        print(plan_text(Judge(state, workdir).decide(recipe, config.control.restart), recipe))
        return 0
    check_image(config, workdir)
    run_quality(config, workdir, recipe, StopFlag())
    return conclude(config, workdir, recipe, problems)


def check_image(config: QualityConfig, workdir: Path) -> None:
    """Refuse images that cannot be used before anything is computed.

    Raises ImagingError naming file and option.
    """
    from ddfpipe.data.images import read_image

    found = {}
    for option in ("pbimage", "nonpbimage"):
        name = getattr(config.image, option)
        if not (workdir / name).exists():
            raise ImagingError(f"{name}: there is no such image; name it in [image] {option}")
        found[option] = read_image(workdir / name)
        if found[option].beam is None:
            raise ImagingError(f"{name}: the header has no beam (BMAJ, BMIN); a restored image is "
                               f"needed in [image] {option}")
    if not found["pbimage"].grid.same(found["nonpbimage"].grid, tolerance=0.01):
        raise ImagingError(f"{config.image.pbimage} and {config.image.nonpbimage} do not have the "
                           "same pixels; name two versions of one image")
    if config.image.facets and not (workdir / config.image.facets).exists():
        raise ImagingError(f"{config.image.facets}: there is no such file; correct [image] facets")


# ---------------------------------------------------------------------- recipe


def build_quality_recipe(config: QualityConfig, workdir: Path
                         ) -> tuple[Recipe, dict[str, str]]:
    """(stages, what is left out and why by the name of the stage)."""
    image = _image_files(config, workdir)
    folder = quality_report(config.control.report)[2]
    made = [_sources_stage(config, image, folder)]
    made += [_measure(workdir, image, folder, name, run, values)
             for name, run, values in _measures(config)]
    problems = {}
    for choice in catalogue_choices(config):
        if (workdir / choice.path).exists():
            made.append(_match_stage(config, image, folder, choice))
        else:
            problems[f"match_{choice.name}"] = f"the catalogue {choice.path} does not exist"
    return Recipe(tuple(made), {}), problems


def _image_files(config: QualityConfig, workdir: Path) -> ImageFiles:
    names = config.image
    facets = names.facets
    if facets is None:
        usual = image_product(names.catprefix, "tessel")
        facets = usual if (workdir / usual).exists() else None
    return ImageFiles(names.nonpbimage, names.pbimage, names.catprefix, facets)


def _finder(config: QualityConfig) -> Any:
    from ddfpipe.products.sourcefinding import QUALITY

    pybdsm = config.pybdsm
    return replace(
        QUALITY, thresh_isl=pybdsm.thresh_isl, thresh_pix=pybdsm.thresh_pix,
        rms_box=pybdsm.rms_box[:2], rms_box_bright=pybdsm.rms_box_bright[:2],
        adaptive_thresh=pybdsm.adaptive_thresh, atrous_do=pybdsm.atrous,
    )


def _sources_stage(config: QualityConfig, image: ImageFiles, folder: str) -> Stage:
    from ddfpipe.products.quality.tiers import Tiers

    tiers = Tiers(_finder(config), config.pybdsm.extended_beams,
                  config.control.sfind_pixel_fraction)
    files = [image.app, image.intrinsic, *([image.facets] if image.facets else [])]
    makes = (part_name(folder, "sources"), catalogue_product(image.prefix, "catalogue"),
             catalogue_product(image.prefix, "rms"))
    return Stage("sources", SourcesJob(image, folder, tiers), stages.sources, makes,
                 files=tuple(Path(name) for name in files), group="quality")


def _measures(config: QualityConfig) -> list[tuple[str, Any, dict[str, Any]]]:
    """(name, function, values) of the measures that are asked for."""
    measures, control, cats = config.measures, config.control, config.comparison_cats
    search = {"settings": _finder(config), "fraction": control.sfind_pixel_fraction}
    found = [
        ("noise", stages.noise, {"central_pixels": measures.central_pixels,
                                 "noise_box": measures.noise_box}),
        ("dynamic_range", stages.dynamic_range, {
            "bright_jy": measures.bright_jy, "bright_box": measures.bright_box,
            "isolation": cats.isolation}),
        ("sizes", stages.sizes, {"isolation": cats.isolation, "min_snr": SIZES_SNR}),
        ("counts", stages.counts, {
            "counts": measures.counts, "counts_snr": measures.counts_snr,
            "counts_bins": measures.counts_bins, "spectral_index": cats.spectral_index,
            "fit": control.fit_sourcecounts}),
    ]
    if control.completeness:
        found.append(("completeness", stages.completeness, {
            **search, "inject": measures.inject, **_residual_names(config)}))
    if control.false_detections:
        found.append(("false_detections", stages.false_detections, search))
    return found


def _residual_names(config: QualityConfig) -> dict[str, str]:
    image = config.image
    return {
        "app_residual": image.nonpbresidual or image.nonpbimage.replace("restored", "residual"),
        "int_residual": image.pbresidual or image.pbimage.replace("restored", "residual"),
    }


def _measure(workdir: Path, image: ImageFiles, folder: str, name: str, run: Any,
             values: dict[str, Any]) -> Stage:
    files = [image.app, image.intrinsic]
    files += [values[key] for key in ("app_residual", "int_residual") if key in values]
    present = [Path(file) for file in files if (workdir / file).exists()]
    return Stage(name, MeasureJob(image, folder, values), run, (part_name(folder, name),),
                 needs=("sources",), files=tuple(present), group="quality")


def _match_stage(config: QualityConfig, image: ImageFiles, folder: str,
                 choice: CatalogueChoice) -> Stage:
    cats = config.comparison_cats
    values = {name: getattr(cats, name) for name in (
        "spectral_index", "isolation", "field_radius", "compact", "min_matches")}
    values["bootstrap_samples"] = config.measures.bootstrap_samples
    name = f"match_{choice.name}"
    return Stage(name, MatchJob(image, folder, choice, values), compare_catalogue,
                 (part_name(folder, name),), needs=("sources",),
                 files=(Path(image.intrinsic), choice.path), group="catalogues")


# ---------------------------------------------------------------------- running


def run_quality(config: QualityConfig, workdir: Path, recipe: Recipe, stop: StopFlag) -> None:
    """Run the stages that are to run.  Raises StopRequested, LockError, StageFailed."""
    control = config.control
    stop.install()
    # `pkill -USR1 -f pipeline.py` is meant for pipeline.py, but finds our name too.
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    state = QualityState(workdir, control.report)
    with state.locked():
        remove_leftovers(workdir, workdir / quality_report(control.report)[2])
        decisions = Judge(state, workdir).decide(recipe, control.restart)
        progress = Progress(bars=not control.nobar, quiet=control.quiet)
        monitor = RunMonitor(progress, stop.check, control.quiet)
        context = Context(config, workdir, workdir, None, monitor)
        teller = Teller(workdir / control.logging if control.logging else None, monitor, progress)
        try:
            Runner(recipe, context, state, teller, stop.check).run(decisions)
        finally:
            progress.close()


class Teller:
    """Audience of a quality run: log, and a line a stage on the screen."""

    def __init__(self, logs: Path | None, monitor: RunMonitor, progress: Progress) -> None:
        self._logs = logs
        self._monitor = monitor
        self._progress = progress
        self._log = StageLog(None, "")

    def begin(self, stage: Stage, number: int, total: int, why: str) -> None:
        """A stage starts."""
        self._log = StageLog(self._logs, f"quality_{stage.name}")
        self._monitor.new_stage(self._log)
        self._log.line(f"{stage.name} ({why})")
        for name, value in stage.identity()["job"].items():
            self._log.line(f"    {name} = {value}")

    def finish(self, stage: Stage, record: Record) -> None:
        """A stage is done."""
        text = figure_text(record.figures)
        self._log.line(text)
        self._log.line(f"done in {record.seconds:.1f} s")
        self._log.close()
        self._progress.close()
        self._progress.text(f"{stage.name:<18} {duration(record.seconds):>10}  {text}")

    def skip(self, stage: Stage, number: int, total: int) -> None:
        """A stage was done before."""
        self._progress.text(f"{stage.name:<18} {'done before':>10}")

    def fail(self, stage: Stage, error: BaseException, details: str) -> None:
        """A stage ended without a result."""
        self._log.line(details)
        self._log.line(f"ended: {error}")
        self._log.close()
        self._progress.close()


# ---------------------------------------------------------------------- conclusion


def conclude(config: QualityConfig, workdir: Path, recipe: Recipe, problems: dict[str, str]
             ) -> int:
    """Write figures and page, print the table; the exit code."""
    from ddfpipe.data.atomic import atomic_write_json
    from ddfpipe.pipeline.usage import versions
    from ddfpipe.products.quality.verdict import judge
    from ddfpipe.report.quality import write_quality_page
    from ddfpipe.report.quality_table import quality_rows, quality_text

    figures_file, page, folder = quality_report(config.control.report)
    context = Context(config, workdir, workdir, None, None)
    parts = {stage.name: stages.read_part(context, folder, stage.name) for stage in recipe.stages}
    parts.update({name: {"problem": why} for name, why in problems.items()})
    verdicts = judge(parts, asdict(config.limits))
    atomic_write_json(workdir / figures_file, {
        "image": config.image.pbimage, "versions": versions(), "figures": parts,
        "limits": [asdict(verdict) for verdict in verdicts],
        "passed": all(verdict.good for verdict in verdicts),
    })
    rows = quality_rows(parts)
    pictures = {name: workdir / part_name(folder, name, "png") for name in parts}
    write_quality_page(workdir / page, config.image.pbimage, rows,
                       [asdict(verdict) for verdict in verdicts], pictures)
    print(quality_text(rows, [asdict(verdict) for verdict in verdicts]))
    print(f"figures: {figures_file}; report: {page}; catalogue: "
          f"{catalogue_product(config.image.catprefix, 'catalogue')}")
    return 0 if all(verdict.good for verdict in verdicts) else EXIT_BELOW_LIMITS
