"""How each kind of job is carried out: ask the engine, return figures and products."""

from __future__ import annotations

from pathlib import Path

from ddfpipe.engines.base import (
    ClusterJob, ColumnsJob, ImageJob, MaskJob, SmoothJob, SolveJob, SolveResult,
)
from ddfpipe.naming import DIFFUSE_MASK, NOISE_MAP, NOISE_MEAN, compressed, image_product
from ddfpipe.pipeline.context import Context
from ddfpipe.pipeline.jobs import (
    CompressJob, DownloadModelJob, MaskModelJob, OutsideModelJob, RemoveColumnsJob, StartModelJob,
)
from ddfpipe.pipeline.stage import StageResult


def image(context: Context, job: ImageJob) -> StageResult:
    """Make an image; its figures are noise, peak, dynamic range, model flux and beam."""
    result = context.engine.image(job, context.monitor)
    figures = {
        "noise": result.noise,
        "peak": result.peak,
        "dynamic_range": result.dynamic_range,
        "model_flux": result.model_flux,
        "beam_arcsec": list(result.beam_arcsec),
    } | result.details
    return StageResult(figures, context.relative(result.products))


def solve(context: Context, job: SolveJob) -> StageResult:
    """Find gains of every measurement set."""
    return _solutions(context, context.engine.solve(job, context.monitor))


def smooth(context: Context, job: SmoothJob) -> StageResult:
    """Merge gains over the measurement sets of an observation, and smooth them."""
    return _solutions(context, context.engine.smooth(job, context.monitor))


def _solutions(context: Context, result: SolveResult) -> StageResult:
    return StageResult(dict(result.details), context.relative(result.products))


def mask(context: Context, job: MaskJob) -> StageResult:
    """Threshold an image; the figure is the fraction of it that is masked."""
    made = [context.engine.mask(job, context.monitor)]
    if job.diffuse:
        made += [context.workdir / name for name in (DIFFUSE_MASK, NOISE_MAP, NOISE_MEAN)]
    return StageResult({"masked_fraction": masked_fraction(made[0])}, context.relative(made))


def mask_model(context: Context, job: MaskModelJob) -> StageResult:
    """Keep the model under a mask."""
    made = context.engine.mask_model(job.image, job.mask, job.output, context.monitor)
    return StageResult({}, context.relative([made]))


def outside_model(context: Context, job: OutsideModelJob) -> StageResult:
    """Keep the model outside a square; the figures are its flux and number of pixels."""
    from ddfpipe.data.model import load_model, save_model

    model = load_model(context.workdir / image_product(job.image, "model"))
    y, x = model.yx()
    y, x = y - model.grid.ny // 2, x - model.grid.nx // 2
    # of an even number of pixels one more lies below the middle pixel than above it
    low, high = -(job.pixels // 2), job.pixels - job.pixels // 2
    kept = model.select(~((y >= low) & (y < high) & (x >= low) & (x < high)))
    path = save_model(context.workdir / image_product(job.output, "model"), kept)
    figures = {"model_flux": float(kept.total_flux.mean()), "model_pixels": kept.size}
    return StageResult(figures, context.relative([path]))


def download_model(context: Context, job: DownloadModelJob) -> StageResult:
    """Download a sky model; the figure is how many components it has."""
    from ddfpipe.data.ms import read_metadata
    from ddfpipe.data.skyserver import download_skymodel
    from ddfpipe.units import DEGREE

    centre = read_metadata(job.ms[0]).phase_centre
    size = download_skymodel(
        job.source, centre, job.radius_deg * DEGREE, context.workdir / job.output
    )
    return StageResult({"components": size}, context.relative([job.output]))


def cluster(context: Context, job: ClusterJob) -> StageResult:
    """Find the calibration directions; the figure is how many."""
    from ddfpipe.data.clusters import read_clusters

    made = context.engine.cluster(job, context.monitor)
    return StageResult({"directions": read_clusters(made).size}, context.relative([made]))


def start_model(context: Context, job: StartModelJob) -> StageResult:
    """Turn a list of components into a model."""
    made = context.engine.start_model(job.skymodel, job.like, job.output, context.monitor)
    return StageResult({}, context.relative([made]))


def compress(context: Context, job: CompressJob) -> StageResult:
    """Compress files, and remove them if so asked; figures are the sizes before and after."""
    from ddfpipe.data.sizes import size_text
    from ddfpipe.products.compression import compress as pack

    before, made, program = 0, [], ""
    for number, name in enumerate(job.files):
        source, target = context.workdir / name, context.workdir / compressed(name)
        before += source.stat().st_size
        program = pack(source, target, job.quantisation, context.monitor.check)
        made.append(target)
        context.monitor.progress("compressing", number + 1, len(job.files))
    after = sum(path.stat().st_size for path in made)
    if job.delete:
        for name in job.files:
            (context.workdir / name).unlink()
    figures = {
        "size": size_text(before), "compressed": size_text(after),
        "ratio": round(before / after, 2), "program": program,
    }
    return StageResult(figures, context.relative(made))


def columns(context: Context, job: ColumnsJob) -> StageResult:
    """Write columns into the measurement sets; the figure is how many rows were filled."""
    return StageResult({"rows": context.engine.export_columns(job, context.monitor)})


def remove_columns(context: Context, job: RemoveColumnsJob) -> StageResult:
    """Remove columns of earlier runs; figures are how many and their size."""
    from ddfpipe.data.oldcolumns import find_columns, remove_columns
    from ddfpipe.data.sizes import size_text

    found = find_columns(job.ms, job.keep)
    removed = remove_columns(found, context.monitor.message)
    size = size_text(sum(removal.size for removal in found))
    return StageResult({"removed": removed, "sets": len(found), "size": size})


def archives(context: Context, job: ColumnsJob) -> StageResult:
    """Compressed copies of the measurement sets; figures are sizes and the largest error."""
    from ddfpipe.data.sizes import size_text

    made = context.engine.archive(job, context.monitor)
    before, size = sum(one.before for one in made), sum(one.size for one in made)
    figures = {
        "archives": len(made), "kept": sum(not one.made for one in made),
        "size": size_text(size), "size_ratio": size / before if before else float("nan"),
        "largest_error": max((one.error for one in made), default=float("nan")),
    }
    return StageResult(figures, context.relative([one.path for one in made]))


def masked_fraction(path: Path) -> float:
    """Fraction of the pixels of a FITS mask that are not zero, read in blocks of rows."""
    import numpy as np
    from astropy.io import fits

    with fits.open(path, memmap=True) as hdus:
        data = hdus[0].data
        plane = data.reshape(-1, data.shape[-1])
        count = sum(
            int(np.count_nonzero(plane[first:first + 1024]))
            for first in range(0, plane.shape[0], 1024)
        )
    return count / plane.size


def image_marker_files(job: ImageJob) -> tuple[str, ...]:
    """Files without which the image of `job` is not made.

    A dirty image needs only itself; an image with a model is also restored.  Of other Stokes
    parameters there are only the cubes, or without any the dirty images.
    """
    kinds = ["app_restored", "int_restored", "model"]
    if job.major_cycles == 0:
        kinds = ["dirty"] + (kinds if job.start_model else [])
    cubes = [f"cube_{kind}" for kind in job.cubes]
    if job.stokes != "I":
        kinds = cubes or ["dirty", "dirty_corr"]
    else:
        kinds += cubes
    return tuple(image_product(job.name, kind) for kind in kinds)
