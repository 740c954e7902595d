"""Masks that are not the threshold of an image: known sources, unions, extended emission."""

from __future__ import annotations

from ddfpipe.pipeline.context import Context
from ddfpipe.pipeline.jobs import ExtendedMaskJob, ExternalMaskJob, MergeMasksJob
from ddfpipe.pipeline.stage import StageResult
from ddfpipe.pipeline.verbs import masked_fraction


def draw(context: Context, job: ExternalMaskJob) -> StageResult:
    """Draw catalogue, regions and the user's mask on the grid of an image."""
    from ddfpipe.data import masks

    home = context.workdir
    grid = masks.grid_of(home / job.grid)
    parts = []
    if job.tgss:
        parts.append(masks.catalogue_mask(
            home / job.tgss, grid, min_flux_mjy=job.tgss_flux, radius_pixels=job.tgss_radius,
            extended=job.tgss_extended, pointlike_arcsec=job.tgss_pointlike,
        ))
    if job.region:
        parts.append(masks.region_mask(home / job.region, grid))
    if job.fits_mask:
        parts.append(masks.read_mask(home / job.fits_mask, grid))
    masks.write_mask(home / job.output, masks.union(grid, parts), grid)
    return _result(context, job.output)


def merge(context: Context, job: MergeMasksJob) -> StageResult:
    """OR masks that lie on one grid."""
    from ddfpipe.data import masks

    home = context.workdir
    grid = masks.grid_of(home / job.masks[0])
    parts = [masks.read_mask(home / path, grid) for path in job.masks]
    masks.write_mask(home / job.output, masks.union(grid, parts), grid)
    return _result(context, job.output)


def extended(context: Context, job: ExtendedMaskJob) -> StageResult:
    """Find islands of extended emission and put them on the grid of the template too."""
    from ddfpipe.data import masks

    home = context.workdir
    grid, template = masks.grid_of(home / job.image), masks.grid_of(home / job.template)
    low = masks.extended_mask(
        home / job.image, sigma=job.sigma, min_pixels=job.min_pixels, max_pixels=job.max_pixels,
        facets=home / job.facets if job.facets else None,
    )
    masks.write_mask(home / job.low, low, grid)
    masks.write_mask(home / job.high, masks.regrid_mask(low, grid, template), template)
    return _result(context, job.low, job.high)


def _result(context: Context, *paths) -> StageResult:
    fraction = masked_fraction(context.workdir / paths[0])
    return StageResult({"masked_fraction": fraction}, context.relative(paths))
