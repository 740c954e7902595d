"""Dynamic spectra of single sources, one stage an observation, after the final image."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from ddfpipe.engines.base import SpectraJob
from ddfpipe.naming import image_product, observation_of, spectra_archive, spectra_folder
from ddfpipe.pipeline.builder import Builder
from ddfpipe.pipeline.context import Context
from ddfpipe.pipeline.jobs import DynspecJob
from ddfpipe.pipeline.stage import StageResult


def dynamic_spectra(b: Builder, image: str) -> None:
    """Add the stages: spectra of the residuals of `image`, through the gains that made it."""
    s, last = b.settings, b.job(image)
    for observation, ms in observations(last.vis.ms).items():
        folder = spectra_folder(observation)
        b.spectra(folder, DynspecJob(
            SpectraJob(
                name=folder, vis=replace(last.vis, ms=ms), positions=Path(f"{folder}.positions"),
                output=Path(f"{folder}.spectra"), model=image, gains=last.gains,
                clusters=last.clusters, weights=last.weights, weights_from=last.weights_from,
                decorrelation=last.decorrelation,
            ),
            observation, Path(s.spectra.catalogue) if s.spectra.catalogue else None,
            s.spectra.bright_threshold, s.spectra.radius,
        ), run)


def observations(ms: tuple[Path, ...]) -> dict[str, tuple[Path, ...]]:
    """Measurement sets by observation; without any, one observation without a name."""
    found: dict[str, tuple[Path, ...]] = {} if ms else {"": ()}
    for path in ms:
        found[observation_of(path)] = (*found.get(observation_of(path), ()), path)
    return found


def run(context: Context, job: DynspecJob) -> StageResult:
    """Choose positions, let the engine make their spectra, write what users get.

    The figures are how many targets and off positions there are, and the noise of a cell.
    """
    from ddfpipe.data.atomic import remove
    from ddfpipe.data.spectra import Spectra, read_pieces
    from ddfpipe.data.targets import write_positions
    from ddfpipe.products import dynspec
    from ddfpipe.products.dynspec_plots import draw_spectrum

    positions = _positions(context, job)
    given = context.cache_dir.absolute() / job.spectra.positions.name
    output = context.cache_dir.absolute() / job.spectra.output.name
    remove(output)
    try:
        write_positions(given, positions)
        context.engine.spectra(
            replace(job.spectra, positions=given, output=output), context.monitor
        )
        spectra = Spectra.of(read_pieces(output))
        made, figures = dynspec.write_products(
            context.workdir / spectra_folder(job.observation),
            context.workdir / spectra_archive(job.observation), spectra, positions,
            observation=job.observation, draw=draw_spectrum, check=context.monitor.check,
        )
    finally:
        remove(output)
        remove(given)
    return StageResult(figures, context.relative(made))


def _positions(context: Context, job: DynspecJob) -> list[Any]:
    from ddfpipe.data.targets import read_targets
    from ddfpipe.products import dynspec
    from ddfpipe.units import DEGREE

    home, image = context.workdir, job.spectra.model
    field = dynspec.open_field(
        home / image_product(image, "app_restored"), home / image_product(image, "int_restored"),
        job.radius_deg * DEGREE,
    )
    listed = read_targets(home / job.catalogue) if job.catalogue else []
    return dynspec.choose_positions(
        field, dynspec.Facets(home / image_product(image, "tessel"), field.grid), listed,
        job.bright_jy, threads=context.config.machine.NCPU_DDF, tell=context.monitor.message,
    )
