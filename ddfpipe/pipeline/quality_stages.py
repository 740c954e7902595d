"""The stages of quality_pipeline.py: each leaves its figures as JSON, most also a picture."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import Any

from ddfpipe.errors import DdfpipeError, StopRequested
from ddfpipe.naming import catalogue_product
from ddfpipe.pipeline.context import Context
from ddfpipe.pipeline.stage import StageResult

PRODUCTS = ("rms", "residual", "mask", "regions")
FOR_PICTURES = ("points", "map_jy", "facet_centres_deg")
"""Figures that only the picture needs; they are not kept."""


@dataclass(frozen=True)
class ImageFiles:
    """The image and what belongs to it, names relative to the working directory."""

    app: str
    intrinsic: str
    prefix: str
    facets: str | None

    def product(self, context: Context, kind: str) -> Path:
        """Catalogue or one of its companions."""
        return context.workdir / catalogue_product(self.prefix, kind)


@dataclass(frozen=True)
class SourcesJob:
    """Make the catalogue; tiers: `ddfpipe.products.quality.tiers.Tiers`."""

    image: ImageFiles
    folder: str
    tiers: Any


@dataclass(frozen=True)
class MeasureJob:
    """Measure one thing; values: what it is measured with."""

    image: ImageFiles
    folder: str
    values: Mapping[str, Any]


def part_name(folder: str, stage: str, suffix: str = "json") -> str:
    """File of a stage's figures, or picture."""
    return f"{folder}/{stage}.{suffix}"


def read_part(context: Context, folder: str, stage: str) -> dict:
    """Figures of an earlier stage."""
    return json.loads((context.workdir / part_name(folder, stage)).read_text(encoding="utf-8"))


Measure = Callable[[Context, Any], tuple[dict, dict[str, Any]]]


def part_stage(name: str, draws: str | None = None) -> Callable[[Measure], Callable]:
    """Make a stage of a function that returns (figures, figures of the status line).

    draws: function of ddfpipe.report.quality that draws the figures.  What can go wrong with this
    very part (a catalogue that cannot be read) is told in place of figures and fails nothing.
    """

    def decorate(measure: Measure) -> Callable[[Context, Any], StageResult]:
        @wraps(measure)
        def run(context: Context, job: Any) -> StageResult:
            stage = name.format(job=job)
            try:
                figures, line = measure(context, job)
            except StopRequested:
                raise
            except DdfpipeError as problem:
                context.monitor.message(f"{stage}: {problem}")
                figures, line = {"problem": str(problem)}, {"problem": str(problem)}
            return _keep(context, job.folder, stage, figures, line, draws)

        return run

    return decorate


def _keep(context: Context, folder: str, stage: str, figures: dict, line: dict[str, Any],
          draws: str | None) -> StageResult:
    from ddfpipe.data.atomic import atomic_write_json
    from ddfpipe.report import quality

    kept = {key: value for key, value in figures.items() if key not in FOR_PICTURES}
    atomic_write_json(context.workdir / part_name(folder, stage), kept)
    products = [part_name(folder, stage)]
    picture = part_name(folder, stage, "png")
    if draws is not None and "problem" not in figures and _drawn(
            context, getattr(quality, draws), figures, context.workdir / picture):
        products.append(picture)
    return StageResult(line, tuple(products))


def _drawn(context: Context, draw: Callable, *arguments: Any) -> bool:
    """Draw a picture; whether it worked, since a picture is not worth a stage."""
    try:
        draw(*arguments)
    except Exception as error:
        context.monitor.message(f"no picture: {type(error).__name__}: {error}")
        return False
    return True


def facets_of(context: Context, image: ImageFiles) -> list:
    """Outlines of the facets, none without a layout."""
    from ddfpipe.products.quality.facets import read_facets

    return read_facets(context.workdir / image.facets if image.facets else None)


def read_catalogue(context: Context, image: ImageFiles):
    """The source catalogue as a table."""
    from astropy.table import Table

    return Table.read(image.product(context, "catalogue"), format="fits", hdu=1,
                      character_as_bytes=False)


def centre_of(image) -> tuple[float, float]:
    """(ra, dec) of the middle of an open image, radians."""
    return image.grid.ra, image.grid.dec


def _threads(context: Context) -> int:
    return context.config.machine.NCPU


# ---------------------------------------------------------------------- sources


def sources(context: Context, job: SourcesJob) -> StageResult:
    """Catalogue with its companions.  A failure here ends the run: all else needs it."""
    from ddfpipe.data.images import read_image
    from ddfpipe.products.quality.facets import facet_numbers
    from ddfpipe.products.quality.tiers import make_catalogue, positions, write_catalogue
    from ddfpipe.report import quality

    image = job.image
    app, intrinsic = (context.workdir / name for name in (image.app, image.intrinsic))
    products = {kind: image.product(context, kind) for kind in PRODUCTS}
    table = make_catalogue(app, intrinsic, job.tiers, products, threads=_threads(context),
                           monitor=context.monitor)
    facets = facets_of(context, image)
    table["Facet"] = facet_numbers(*positions(table), facets, read_image(intrinsic).grid)
    write_catalogue(table, image.product(context, "catalogue"))
    figures = {"sources": len(table), "facets": len(facets),
               "second_pass": int((table["Pass"] == 2).sum()),
               "total_flux_jy": float(table["Total_flux"].sum())}
    result = _keep(context, job.folder, "sources", figures,
                   {"sources": len(table), "of_second_pass": figures["second_pass"]}, None)
    picture = part_name(job.folder, "sources", "png")
    drawn = _drawn(context, quality.draw_field, app, context.workdir / picture,
                   context.workdir / image.facets if image.facets else None)
    made = [str(path.relative_to(context.workdir)) for path in products.values() if path.exists()]
    return StageResult(result.figures, (*result.products, *([picture] if drawn else []), *made))


# ---------------------------------------------------------------------- measures


@part_stage("noise", "draw_noise")
def noise(context: Context, job: MeasureJob) -> tuple[dict, dict]:
    """Noise of the apparent image: centre, facets, map."""
    from ddfpipe.data.images import read_image
    from ddfpipe.products.quality.noise import noise_figures
    from ddfpipe.units import DEGREE

    app = context.workdir / job.image.app
    figures, plane = noise_figures(
        app, facets_of(context, job.image), threads=_threads(context),
        central_pixels=job.values["central_pixels"], box=job.values["noise_box"])
    grid = read_image(app).grid
    figures["map_jy"] = plane
    figures["map_width_deg"] = grid.nx * grid.cell / DEGREE
    return figures, {"noise": figures["central_jy"] or float("nan")}


@part_stage("dynamic_range", "draw_dynamic_range")
def dynamic_range(context: Context, job: MeasureJob) -> tuple[dict, dict]:
    """Peak over artefacts near bright sources."""
    from ddfpipe.products.quality import noise as measures
    from ddfpipe.units import ARCSEC, DEGREE

    figures = measures.dynamic_range(
        context.workdir / job.image.app, read_catalogue(context, job.image),
        min_peak=job.values["bright_jy"], box_arcsec=job.values["bright_box"],
        max_size=0.003 * DEGREE, isolation=job.values["isolation"] * ARCSEC)
    line = {"sources": figures["n"]}
    if figures["median"]:
        line["dynamic_range"] = figures["median"]
    return figures, line


@part_stage("sizes", "draw_sizes")
def sizes(context: Context, job: MeasureJob) -> tuple[dict, dict]:
    """Total over peak flux against distance from the centre."""
    from ddfpipe.data.images import read_image
    from ddfpipe.products.quality.comparison import size_figures
    from ddfpipe.units import ARCSEC

    image = read_image(context.workdir / job.image.intrinsic)
    figures = size_figures(read_catalogue(context, job.image), centre_of(image),
                           job.values["isolation"] * ARCSEC, job.values["min_snr"])
    return figures, {"total_over_peak": figures["value"] or float("nan"), "sources": figures["n"]}


@part_stage("counts", "draw_counts")
def counts(context: Context, job: MeasureJob) -> tuple[dict, dict]:
    """Source counts against published ones."""
    from ddfpipe.data.images import read_image
    from ddfpipe.products.quality.counts import PUBLISHED, count_figures

    image = read_image(context.workdir / job.image.intrinsic)
    rms = _noise_plane(context, job.image)
    figures = count_figures(
        read_catalogue(context, job.image), rms, image.grid.cell ** 2,
        PUBLISHED[job.values["counts"]], frequency_of(image), job.values["spectral_index"],
        min_snr=job.values["counts_snr"], n_bins=job.values["counts_bins"],
        fit=job.values["fit"])
    line: dict[str, Any] = {"sources": figures["sources"]}
    if figures["scale"] and figures["scale"]["value"]:
        line["flux_scale"] = figures["scale"]["value"]
    return figures, line


@part_stage("completeness", "draw_completeness")
def completeness(context: Context, job: MeasureJob) -> tuple[dict, dict]:
    """Sources injected and found again."""
    from ddfpipe.products.quality.completeness import completeness_figures

    app, intrinsic = _residuals(context, job)
    figures = completeness_figures(
        app, intrinsic, _noise_plane(context, job.image), job.values["settings"],
        fraction=job.values["fraction"], sources=job.values["inject"],
        threads=_threads(context), folder=context.workdir / job.folder, monitor=context.monitor)
    figures["residual"] = app.name
    line: dict[str, Any] = {"injected": figures["injected"], "found": figures["found"]}
    if figures["flux_90_jy"]:
        line["complete_mjy"] = figures["flux_90_jy"] * 1e3
    return figures, line


@part_stage("false_detections", "draw_false")
def false_detections(context: Context, job: MeasureJob) -> tuple[dict, dict]:
    """Sources of the image turned upside down."""
    from ddfpipe.products.quality.completeness import false_figures

    figures = false_figures(
        context.workdir / job.image.app, context.workdir / job.image.intrinsic,
        read_catalogue(context, job.image), job.values["settings"], fraction=job.values["fraction"],
        threads=_threads(context), folder=context.workdir / job.folder, monitor=context.monitor)
    return figures, {"negative": figures["negative"], "positive": figures["positive"]}


def _residuals(context: Context, job: MeasureJob) -> tuple[Path, Path]:
    from ddfpipe.errors import ImagingError

    paths = [context.workdir / job.values[name] for name in ("app_residual", "int_residual")]
    for path in paths:
        if not path.exists():
            raise ImagingError(f"{path.name}: there is no such residual image; name it in [image] "
                               "pbresidual and nonpbresidual")
    return paths[0], paths[1]


def frequency_of(image) -> float:
    """Frequency of an image in Hz; ImagingError where the header does not tell."""
    from ddfpipe.errors import ImagingError

    if image.freq.size == 0 or not image.freq[0] > 0.0:
        raise ImagingError(f"{image.path}: the header tells no frequency")
    return float(image.freq.mean())


def _noise_plane(context: Context, image: ImageFiles):
    """(ny, nx) noise of the beam-corrected image, NaN where nothing was searched."""
    from ddfpipe.products.quality.tiers import on_whole_grid

    return on_whole_grid(image.product(context, "rms"), context.workdir / image.intrinsic)
