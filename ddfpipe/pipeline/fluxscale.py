"""Stages of the flux scale, and what is checked of it before a run begins."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ddfpipe.errors import DataError, DdfpipeError, StageFailed
from ddfpipe.naming import (
    BOOTSTRAP_SUFFIXES, FLUX_SCALE, bootstrap_image, bootstrap_product, catalogue_product,
    factors_file, parse_factors_file, preview_name,
)
from ddfpipe.pipeline.context import Context
from ddfpipe.pipeline.jobs import FluxScaleJob, MeanImageJob
from ddfpipe.pipeline.stage import StageResult
from ddfpipe.units import ARCSEC

if TYPE_CHECKING:
    from ddfpipe.data.mschecks import Problem
    from ddfpipe.data.scales import FactorTable
    from ddfpipe.products.fluxscale.matching import Reference

UNSCALED = "unscaled"
FEWEST_FREQUENCIES = 4
"""Bands of an observation from which a scale that varies with frequency can be told."""


def find_factors(context: Context, job: FluxScaleJob) -> StageResult:
    """Measure, match and fit; figures are sources, factors, their errors and spectral index.

    With `on_failure` "unscaled" whatever stands against it is told and all factors are one.
    """
    from ddfpipe.products.fluxscale.run import measure_scale

    home = context.workdir
    files = scale_files(home, job.observation)
    for path in (*files.values(), files["factors"].with_suffix(".txt")):
        path.unlink(missing_ok=True)  # of an earlier run with other catalogues
    try:
        table = measure_scale(
            home / job.cube, home / job.detection, home / job.flux, references_of(job, home),
            job.observation, files, least=job.min_sources, monitor=context.monitor,
            threads=context.config.machine.NCPU_DDF, model=home / job.model, psf=home / job.psf,
        )
    except StageFailed as error:
        if job.on_failure != UNSCALED:
            raise
        context.monitor.message(f"WARNING: {job.observation}: not scaled: {error}")
        table = _not_scaled(home / job.cube, job, str(error), files["factors"])
    _draw(context, files, home / preview_name(files["factors"]))
    made = [path for path in (*files.values(), files["factors"].with_suffix(".txt"))
            if path.exists()]
    return StageResult(_figures(table), context.relative(made))


def scale_files(home: Path, observation: str) -> dict[str, Path]:
    """Products of the flux scale of an observation by kind."""
    files = {kind: home / bootstrap_product(observation, kind) for kind in BOOTSTRAP_SUFFIXES}
    files["catalogue"] = home / catalogue_product(bootstrap_image(observation), "catalogue")
    files["factors"] = home / factors_file(FLUX_SCALE, observation)
    return files


def scaled_observations(home: Path) -> list[str]:
    """Observations whose factors lie in a folder.  Raises DataError if there are none."""
    names = [name for path in sorted(home.glob(factors_file(FLUX_SCALE, "*")))
             if (name := parse_factors_file(path, FLUX_SCALE))]
    if not names:
        raise DataError(f"{home.absolute()}: no flux-scale factors "
                        f"({factors_file(FLUX_SCALE, '<observation>')}) lie here; was the "
                        "pipeline run with [control] bootstrap=True?")
    return names


def references_of(job: FluxScaleJob, home: Path = Path()) -> "list[Reference]":
    """The catalogues of a job."""
    from ddfpipe.products.fluxscale.matching import Reference

    entries = zip(job.catalogues, job.names, job.frequencies, job.radii, job.groups)
    return [Reference(home / path, *rest) for path, *rest in entries]


def _not_scaled(cube: Path, job: FluxScaleJob, why: str, path: Path) -> "FactorTable":
    from ddfpipe.data.images import read_image
    from ddfpipe.data.scales import save_factors, unity

    table = unity(job.observation, read_image(cube).freq, why)
    save_factors(path, table)
    return table


def _figures(table: "FactorTable") -> dict[str, Any]:
    figures: dict[str, Any] = {"scaled": table.scaled, "sources": table.sources}
    if table.scaled:
        figures |= {
            "lowest_factor": min(table.factor), "highest_factor": max(table.factor),
            "factor_error": sum(table.error) / len(table.error),
            "spectral_index": table.spectral_index,
            "factors": {f"{freq / 1e6:.3f} MHz": [value, error] for freq, value, error
                        in zip(table.frequency, table.factor, table.error)},
        }
    if table.note:
        figures["note"] = table.note
    return figures


def _draw(context: Context, files: dict[str, Path], target: Path) -> None:
    """The picture of the report; it is not worth a stage."""
    try:
        from ddfpipe.products.fluxscale.plots import draw_scale

        draw_scale(files, target)
    except (OSError, ValueError, DdfpipeError) as error:
        context.monitor.message(f"no picture of the flux scale: {error}")


def mean_image(context: Context, job: MeanImageJob) -> StageResult:
    """Mean of images where they are not blank; figures are noise and peak."""
    import numpy as np

    from ddfpipe.data.images import read_image, write_image
    from ddfpipe.errors import ImagingError
    from ddfpipe.imaging.noise import robust_noise

    images = [read_image(context.workdir / path) for path in job.images]
    first = images[0]
    total = np.zeros(first.grid.shape)
    count = np.zeros(first.grid.shape, np.int32)
    for image in images:
        if not image.grid.same(first.grid):
            raise ImagingError(f"{image.path} and {first.path} are not on one grid: the "
                               "observations must have one phase centre")
        plane = image.plane()
        good = np.isfinite(plane)
        total[good] += plane[good]
        count += good
    mean = np.where(count > 0, total / np.maximum(count, 1), np.nan).astype(np.float32)
    write_image(context.workdir / job.output, mean, first.grid, freq=float(first.freq.mean()),
                beam=first.beam, unit=first.unit,
                history=[f"mean of {', '.join(path.name for path in job.images)}"])
    figures = {"images": len(images), "noise": robust_noise(mean), "peak": float(np.nanmax(mean))}
    return StageResult(figures, context.relative([job.output]))


# ---------------------------------------------------------------------- checks before the run


def problems(config: Any, small: Sequence[Path], infos: Sequence[Any],
             decisions: Sequence[Any]) -> "tuple[list[Problem], list[str]]":
    """What stands against the bootstrap: bands, observations, coverage of the catalogues.

    small: measurement sets of the small list.  infos: MSInfo of all.  decisions: what is to be
    done; nothing is checked once all factors are there.
    Returns problems, and what is worth knowing besides.
    """
    jobs = [d.stage.job for d in decisions
            if not d.done and isinstance(d.stage.job, FluxScaleJob)]
    if not jobs:
        return [], []
    chosen = {Path(path).resolve() for path in small}
    mine = [info for info in infos if Path(info.path).resolve() in chosen]
    found = _few_frequencies(mine)
    lost = sorted({info.observation for info in infos} - {info.observation for info in mine})
    if lost:
        found.append(_problem(
            f"[control] bootstrap: the observations {', '.join(lost)} of full_mslist have no "
            "measurement set in mslist, so no factors are found for them; name at least "
            f"{FEWEST_FREQUENCIES} sets of each in mslist, or leave them out"
        ))
    notes: list[str] = []
    if mine:
        more, notes = _coverage(jobs[0], config, mine[0].phase_centre)
        found += more
    return found, notes


def _problem(text: str, fatal: bool = True) -> "Problem":
    from ddfpipe.data.mschecks import Problem

    return Problem("bootstrap", text, fatal=fatal)


def _few_frequencies(infos: Sequence[Any]) -> "list[Problem]":
    bands: dict[str, set[int]] = {}
    for info in infos:
        bands.setdefault(info.observation, set()).add(round(float(info.freqs.mean()) / 1e5))
    few = {name: len(found) for name, found in bands.items() if len(found) < FEWEST_FREQUENCIES}
    if not few:
        return []
    words = ", ".join(f"{name} has {count}" for name, count in few.items())
    hint = ""
    if len(bands) > 1 and len(bands) == len(infos):
        hint = (" Every set counts as an observation of its own: what comes before the first "
                "underscore of a name tells the observation, so rename them (or link them under "
                "other names).")
    return [_problem(
        f"[control] bootstrap needs measurement sets at {FEWEST_FREQUENCIES} frequencies or more "
        f"of every observation in mslist, but {words}: add sets, or switch bootstrap off.{hint}"
    )]


def _coverage(job: FluxScaleJob, config: Any,
              centre: tuple[float, float]) -> "tuple[list[Problem], list[str]]":
    """What the catalogues hold here; a warning where the run may go on unscaled."""
    from ddfpipe.pipeline.parameters import low_imsize
    from ddfpipe.products.fluxscale.matching import coverage

    radius = 0.5 * low_imsize(config) * config.image.low_cell * ARCSEC
    try:
        seen = coverage(references_of(job), centre, radius)
    except DdfpipeError as error:
        return [_problem(f"[bootstrap] catalogues: {error}")], []
    trouble = seen.trouble(job.min_sources)
    if not trouble:
        return [], [f"bootstrap: {seen.text()}"]
    return [_problem(trouble, fatal=job.on_failure != UNSCALED)], []
