"""The bootstrap of the flux scale: images of every band, factors, masks of extended emission.

Where it stands in the sequence and what it images: Shimwell et al. 2019, A&A 622, A1, and the
manual of ddf-pipeline.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from ddfpipe.engines.base import GainChoice
from ddfpipe.naming import (
    BOOTSTRAP_MASK, BOOTSTRAP_MEAN_IMAGE, EXTERNAL_MASK_EXTENDED, FLUX_SCALE, bootstrap_image,
    extended_masks, image_product,
)
from ddfpipe.pipeline.builder import Builder, Data
from ddfpipe.pipeline.end_products import observations
from ddfpipe.pipeline.jobs import ExtendedMaskJob, FluxScaleJob, MeanImageJob, MergeMasksJob
from ddfpipe.pipeline.parameters import band_cube_image, known_sources
from ddfpipe.pipeline.settings import Settings
from ddfpipe.pipeline.small_list import Sky

AUTO_MASK_SIGMA = 15.0
MATCH_ARCSEC = 10.0
"""Radius of a match where none is given."""


def flux_scale(b: Builder, data: Data, sky: Sky, solutions: str) -> str:
    """Factors of every observation from images through `solutions`; root of their tables.

    Only their phases are applied.  Against a model that is blurred amplitudes come out high on long
    baselines and, as their mean is kept, low on short ones, and with them the fluxes.
    """
    s = b.settings
    shared = dict(clusters=sky.clusters, gains=GainChoice((solutions,), "P"))
    roots: list[str] = []
    mask: Path | None = None
    for observation, sets in observations(data.ms).items():
        mine, root = data.of(sets), bootstrap_image(observation)
        init = b.image(band_cube_image(s, f"{root}_init", mine, major_cycles=0, **shared))
        if mask is None:
            mask = b.external_mask(
                known_sources(s, BOOTSTRAP_MASK, Path(image_product(init, "dirty")))
            )
        roots.append(b.image(band_cube_image(
            s, root, mine, major_cycles=5, auto_mask_sigma=AUTO_MASK_SIGMA, external_mask=mask,
            reuse=init, reuse_what="dirty", cubes=("int_restored",), **shared,
        ), also=[image_product(root, "cube_int_restored")]))
        b.flux_scale(scale_job(s, observation, root))
    b.mean_image("bootstrap_mean", MeanImageJob(
        tuple(Path(image_product(root, "app_restored")) for root in roots),
        Path(BOOTSTRAP_MEAN_IMAGE),
    ))
    b.exit_point("bootstrap")
    return FLUX_SCALE


def scale_job(s: Settings, observation: str, root: str) -> FluxScaleJob:
    """What the options of [bootstrap] say of the fit."""
    o = s.bootstrap
    paths = tuple(Path(path) for path in o.catalogues)
    count = len(paths)
    return FluxScaleJob(
        observation, Path(image_product(root, "cube_int_restored")),
        Path(image_product(root, "app_restored")), Path(image_product(root, "int_restored")),
        Path(image_product(root, "model")), Path(image_product(root, "psf")),
        catalogues=paths, names=tuple(o.names or ()) or tuple(path.stem for path in paths),
        frequencies=tuple(float(value) for value in o.frequencies),
        radii=tuple(o.radii or ()) or (MATCH_ARCSEC,) * count,
        groups=tuple(str(group) for group in o.groups or range(count)),
        min_sources=o.min_sources, on_failure=o.on_failure,
    )


def extended_emission(b: Builder, sky: Sky) -> Sky:
    """Masks of extended emission in the mean bootstrap image, where they are asked for."""
    s = b.settings
    if not s.control.bootstrap or s.masking.extended_size is None:
        return sky
    low, high = (Path(name) for name in extended_masks(FLUX_SCALE))
    b.extended_mask("bootstrap_extended_mask", ExtendedMaskJob(
        Path(BOOTSTRAP_MEAN_IMAGE), Path(image_product(sky.template, "app_restored")), low, high,
        s.masking.extended_rms, s.masking.extended_size,
        facets=Path(image_product(sky.facets, "tessel")) if s.masking.rmsfacet else None,
    ))
    external = b.merge_masks(MergeMasksJob(Path(EXTERNAL_MASK_EXTENDED), (sky.external, high)))
    return replace(sky, external=external, low_mask=low)
