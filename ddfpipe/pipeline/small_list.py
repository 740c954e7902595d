"""Self-calibration on the small list: from first dirty image to a model worth all the data."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from ddfpipe.engines.base import ClusterJob, MaskJob
from ddfpipe.naming import (
    CLUSTERS, DIFFUSE_MASK, EXTERNAL_MASK, EXTERNAL_MASK_DIFFUSE, image_product,
)
from ddfpipe.pipeline.builder import Builder, Data
from ddfpipe.pipeline.jobs import MaskModelJob, MergeMasksJob, StartModelJob
from ddfpipe.pipeline.parameters import (
    dd_solve, di_solve, gains, known_sources, selfcal_image, smoothed, tied,
)


@dataclass(frozen=True)
class Sky:
    """What is known of the sky so far.

    image: root of the latest image.  model: root of the model to go on from.  mask: where that
    was found.  external: mask of what is known beforehand.  clusters: calibration directions.
    template: full-resolution image on whose grid masks are put; facets: image whose facets count.
    low_mask: extended emission on the grid of low-resolution images, None if it was not looked for.
    """

    image: str
    model: str
    mask: Path
    external: Path
    clusters: Path
    template: str
    facets: str
    low_mask: Path | None = None


def masked(b: Builder, image: str, sigma: float, external: Path) -> Path:
    """Mask of the apparent restored image."""
    restored = Path(image_product(image, "app_restored"))
    return b.mask(f"{image}_mask", MaskJob(restored, sigma, (external,)))


def image_without_solutions(b: Builder, data: Data) -> Sky:
    """First images, masks and calibration directions (manual: direction-independent start)."""
    s = b.settings
    first = selfcal_image(
        s, "image_dirin_SSD_init", data, s.image.apply_weights[0], major_cycles=0,
        peak_factor=0.05,
    )
    start = None
    if s.inputmodel.skymodel:
        start = b.start_model(StartModelJob(Path(s.inputmodel.skymodel), first, "image_start"))
    init = b.image(first)
    external = b.external_mask(
        known_sources(s, EXTERNAL_MASK, Path(image_product(init, "dirty")))
    )
    # A start model leaves a residual of its own, so the dirty image cannot open the first cycle.
    opening = {"start_model": start} if start else {"reuse_what": "dirty"}
    dirin = b.image(selfcal_image(
        s, "image_dirin_SSD", data, s.image.apply_weights[0], major_cycles=1, peak_factor=0.01,
        auto_mask_sigma=s.masking.thresholds[0], external_mask=external, reuse=init, **opening,
    ), also=[image_product("image_dirin_SSD", "residual", 1)])
    avoid = None
    if s.masking.use_maskdiffuse:
        residual = Path(image_product(dirin, "residual", 1))
        b.mask("diffuse_mask",
               MaskJob(residual, s.masking.thres_outmaskextended, diffuse=True))
        avoid = Path(DIFFUSE_MASK)
        external = b.merge_masks(MergeMasksJob(Path(EXTERNAL_MASK_DIFFUSE), (external, avoid)))
    mask = masked(b, dirin, s.masking.thresholds[0], external)
    deeper = b.image(selfcal_image(
        s, "image_dirin_SSD_m", data, s.image.apply_weights[0], major_cycles=2,
        peak_factor=0.001, rms_factor=0.0, auto_mask_sigma=s.masking.thresholds[0],
        external_mask=mask, start_model=dirin, reuse=dirin, reuse_what="residual",
    ))
    b.exit_point("initial")
    return find_directions(b, data, Sky(
        deeper, deeper, mask, external, Path(s.image.clusterfile or CLUSTERS), template=dirin,
        facets="",
    ), avoid)


def find_directions(b: Builder, data: Data, sky: Sky, avoid: Path | None) -> Sky:
    """Calibration directions, unless they are given, and an image with their facets."""
    s = b.settings
    if not s.image.clusterfile:
        b.cluster(ClusterJob(sky.image, sky.clusters, s.solutions.ndir, avoid))
    faceted = b.image(selfcal_image(
        s, "image_dirin_SSD_m_c", data, s.image.apply_weights[0], major_cycles=1,
        peak_factor=0.001, rms_factor=0.0, auto_mask_sigma=s.masking.thresholds[0],
        external_mask=sky.mask, start_model=sky.model, clusters=sky.clusters,
    ))
    b.exit_point("dirin")
    return replace(sky, image=faceted, model=faceted, facets=faceted)


def first_di_calibration(b: Builder, data: Data, sky: Sky) -> tuple[Data, Sky]:
    """Full-Jones gains of the whole field, and an image through them."""
    s = b.settings
    solved = b.solve(di_solve(s, "DIS0", data, sky.model, n_iter=s.solutions.NIterKF[0]))
    data = data.corrected(tied(b, solved, data)).weighted(solved)
    shared = dict(
        peak_factor=0.001, rms_factor=0.0, auto_mask_sigma=s.masking.thresholds[0],
        external_mask=sky.mask, start_model=sky.model, clusters=sky.clusters,
    )
    dirty = b.image(selfcal_image(
        s, "image_dirin_SSD_m_c_di", data, True, major_cycles=0, **shared
    ))
    image = b.image(selfcal_image(
        s, "image_dirin_SSD_m_c_di_m", data, True, major_cycles=1, reuse=dirty,
        reuse_what="dirty", **shared,
    ))
    mask = masked(b, image, s.masking.thresholds[1], sky.external)
    b.exit_point("dirin_di")
    return data, replace(sky, image=image, model=image, mask=mask)


def first_gains(b: Builder, data: Data, sky: Sky) -> tuple[Data, str]:
    """First direction-dependent gains; also returns their name."""
    s = b.settings
    solved = b.solve(dd_solve(
        s, "DDS0", data, sky.model, sky.clusters, cov_q=0.02, n_iter=s.solutions.NIterKF[1],
        dt_min=s.solutions.dt_slow, n_chan_sols=s.solutions.NChanSols or 1,
    ))
    data = data.weighted(solved)
    return data, smoothed(b, solved, data)


def phase_only(b: Builder, data: Data, sky: Sky, solutions: str) -> Sky:
    """Image and model with the first gains applied as phases."""
    s = b.settings
    image = b.image(selfcal_image(
        s, "image_phase1", data, s.image.apply_weights[1], major_cycles=2, peak_factor=0.001,
        auto_mask_sigma=s.masking.thresholds[1], external_mask=sky.mask, start_model=sky.model,
        gains=gains(s, (solutions,), apply=0, normalize=0), clusters=sky.clusters,
    ))
    b.exit_point("phase")
    mask = masked(b, image, s.masking.thresholds[1], sky.external)
    model = b.mask_model(MaskModelJob(image, mask, "image_phase1_masked"))
    return replace(sky, image=image, model=model, mask=mask)


def amplitude_and_phase(
    b: Builder, data: Data, sky: Sky, before: str
) -> tuple[Data, Sky, str]:
    """Second direction-dependent gains, which start from the set `before`."""
    s = b.settings
    solved = b.solve(dd_solve(
        s, "DDS1", data, sky.model, sky.clusters, cov_q=0.02, n_iter=s.solutions.NIterKF[2],
        dt_min=s.solutions.dt_slow, n_chan_sols=s.solutions.NChanSols or 1, evolve_from=before,
    ))
    data = data.weighted(solved)
    solutions = smoothed(b, solved, data)
    image = b.image(selfcal_image(
        s, "image_ampphase1", data, s.image.apply_weights[1], major_cycles=1, peak_factor=0.001,
        auto_mask_sigma=s.masking.thresholds[1], external_mask=sky.mask, start_model=sky.model,
        gains=gains(s, (solutions,), apply=1, normalize=0), clusters=sky.clusters,
    ))
    b.exit_point("ampphase")
    mask = masked(b, image, s.masking.thresholds[1], sky.external)
    model = b.mask_model(MaskModelJob(image, mask, "image_ampphase1m_masked"))
    return data, replace(sky, image=image, model=model, mask=mask), solutions


def second_di_calibration(
    b: Builder, data: Data, sky: Sky, solutions: str
) -> tuple[Data, Sky]:
    """Full-Jones gains again, on uncorrected data, against the sky seen through `solutions`."""
    s = b.settings
    solved = b.solve(di_solve(
        s, "DIS1", data.uncorrected(), sky.model, n_iter=s.solutions.NIterKF[3],
        model_gains=gains(s, (solutions,), apply=2, normalize=0), update_weights=False,
        clusters=sky.clusters,
    ))
    data = data.corrected(tied(b, solved, data))
    image = b.image(selfcal_image(
        s, "image_ampphase1_di", data, s.image.apply_weights[1], major_cycles=1,
        peak_factor=0.001, auto_mask_sigma=s.masking.thresholds[1], external_mask=sky.mask,
        start_model=sky.model, gains=gains(s, (solutions,), apply=3, normalize=0),
        clusters=sky.clusters,
    ))
    b.exit_point("ampphase_di")
    return data, replace(sky, image=image)
