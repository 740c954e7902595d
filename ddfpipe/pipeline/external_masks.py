"""Masks that are not the threshold of an image: known sources, unions, extended emission."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from ddfpipe.pipeline.context import Context
from ddfpipe.pipeline.jobs import ExtendedMaskJob, ExternalMaskJob, MergeMasksJob
from ddfpipe.pipeline.stage import StageResult
from ddfpipe.pipeline.verbs import masked_fraction
from ddfpipe.units import ARCSEC

if TYPE_CHECKING:
    import numpy as np

MILLIJANSKY = 1e-3


def draw(context: Context, job: ExternalMaskJob) -> StageResult:
    """Draw catalogue, regions and the user's mask on the grid of an image."""
    from ddfpipe.data.images import read_image
    from ddfpipe.data.masks import external_mask

    home = context.workdir
    image = read_image(home / job.grid)
    mask = external_mask(
        image.grid, catalogue=_catalogue_mask(home, image.grid, job),
        regions=[home / job.region] if job.region else [],
        fits_masks=[home / job.fits_mask] if job.fits_mask else [],
    )
    return _write(context, job.output, mask, image)


def _catalogue_mask(home: Path, grid: Any, job: ExternalMaskJob) -> "np.ndarray | None":
    from ddfpipe.data.catalogues import read_tgss
    from ddfpipe.data.masks import catalogue_mask

    if job.tgss is None:
        return None
    return catalogue_mask(
        grid, read_tgss(home / job.tgss), min_peak=job.tgss_flux * MILLIJANSKY,
        radius=job.tgss_radius, extended=job.tgss_extended,
        pointlike=job.tgss_pointlike * ARCSEC,
    )


def merge(context: Context, job: MergeMasksJob) -> StageResult:
    """OR masks that lie on one grid."""
    from ddfpipe.data.images import read_image
    from ddfpipe.data.masks import external_mask

    paths = [context.workdir / path for path in job.masks]
    first = read_image(paths[0])
    mask = external_mask(first.grid, fits_masks=paths, reproject=False)
    return _write(context, job.output, mask, first)


def extended(context: Context, job: ExtendedMaskJob) -> StageResult:
    """Find islands of extended emission and put them on the grid of the template too.

    An outline is smoothed by a vote of each pixel's 3 x 3 neighbours.
    """
    from scipy.ndimage import uniform_filter

    from ddfpipe.data.images import read_image
    from ddfpipe.data.masks import read_mask
    from ddfpipe.imaging.mask import find_islands, threshold_mask
    from ddfpipe.products.facetnoise import central_noise, facet_noise

    home = context.workdir
    image, template = read_image(home / job.image), read_image(home / job.template)
    plane = image.plane()
    noise = facet_noise(plane, image.grid, home / job.facets) if job.facets \
        else central_noise(plane)
    islands = find_islands(threshold_mask(plane, noise, job.sigma))
    sizes = islands.sizes()
    kept = (sizes > job.min_pixels) & (sizes < job.max_pixels)
    mask = uniform_filter(islands.mask(kept).astype("float32"), 3, mode="constant") > 0.5
    low = _write(context, job.low, mask, image)
    _write(context, job.high, read_mask(home / job.low, template.grid), template)
    figures = {"islands": int(kept.sum()), **low.figures}
    return StageResult(figures, context.relative([job.low, job.high]))


def _write(context: Context, output: Path, mask: "np.ndarray", like: Any) -> StageResult:
    """Write a mask; one that covers much of the image is pointed out.  An empty one is usual."""
    from ddfpipe.data.masks import write_mask
    from ddfpipe.imaging.mask import mask_warnings

    for sentence in mask_warnings(mask) if mask.any() else ():
        context.monitor.message(f"WARNING: {output}: {sentence}")
    path = write_mask(context.workdir / output, mask, like.grid, freq=float(like.freq.mean()))
    return StageResult(
        {"masked_fraction": masked_fraction(path)}, context.relative([output])
    )
