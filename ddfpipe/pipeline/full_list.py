"""The full bandwidth: last calibration, the low-resolution image and the final one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from ddfpipe.engines.base import MaskJob
from ddfpipe.naming import (
    EXTERNAL_MASK_DEEP, FINAL_IMAGE, FINAL_MASK, LOW_IMAGE, extended_masks, image_product,
)
from ddfpipe.pipeline.builder import Builder, Data
from ddfpipe.pipeline.jobs import ExtendedMaskJob, MaskModelJob, MergeMasksJob
from ddfpipe.pipeline.parameters import (
    dd_solve, di_solve, full_image, gains, low_image, smoothed, tied,
)
from ddfpipe.pipeline.small_list import Sky, masked

FIRST_MASK_SIGMA = 10.0
"""Threshold of the mask made from the first full-bandwidth image."""
VERY_SLOW_ITERATIONS = 6
LOW_AUTO_MASK_SIGMA, LOW_FINAL_AUTO_MASK_SIGMA = 5.0, 4.0
LOW_ISLAND_PIXELS = 1500
"""Smallest island of extended emission in the low-resolution image."""


def masked_small_list_model(b: Builder, sky: Sky) -> Sky:
    """Mask and model of the last image of the small list."""
    mask = masked(b, sky.image, b.settings.masking.thresholds[1], sky.external)
    model = b.mask_model(MaskModelJob(sky.image, mask, f"{sky.image}_masked"))
    return replace(sky, model=model, mask=mask)


def full_bandwidth_calibration(
    b: Builder, data: Data, sky: Sky, base_image: Path | None
) -> tuple[Data, str]:
    """Direction-dependent gains of all the data, then (unless skip_di) full-Jones ones.

    base_image: image that comes with the user's own model, if that is where the run starts.
    """
    s = b.settings
    solved = b.solve(dd_solve(
        s, "DDS2_full", data, sky.model, sky.clusters, n_iter=s.solutions.NIterKF[4],
        dt_min=s.solutions.dt_slow, n_chan_sols=s.solutions.NChanSols or 1,
    ), files=[base_image] if base_image else [])
    data = data.weighted(solved)
    solutions = smoothed(b, solved, data)
    if not s.control.skip_di:
        corrected = b.solve(di_solve(
            s, "DIS2_full", data, sky.model, n_iter=s.solutions.NIterKF[5],
            model_gains=gains(s, (solutions,), apply=4, normalize=0), update_weights=False,
            clusters=sky.clusters,
        ))
        data = data.corrected(tied(b, corrected, data))
    return data, solutions


def full_bandwidth_images(b: Builder, data: Data, sky: Sky, solutions: str) -> Sky:
    """Image all the data twice, the second time under a mask of the first."""
    s = b.settings
    name = "image_full_ampphase" if s.control.skip_di else "image_full_ampphase_di"
    shared = dict(
        start_model=sky.model, clusters=sky.clusters,
        gains=gains(s, (solutions,), apply=5, normalize=1),
    )
    if s.control.msss_mode:
        shared |= dict(cubes=("int_restored",), band_mode="frequency")
    first = b.image(
        full_image(s, name, data, major_cycles=0, external_mask=sky.mask, **shared)
    )
    b.exit_point("fullampphase")
    mask = masked(b, first, FIRST_MASK_SIGMA, sky.external)
    image = b.image(full_image(
        s, f"{name}_m", data, major_cycles=1, external_mask=mask, reuse=first,
        reuse_what="dirty", **shared,
    ))
    mask = masked(b, image, s.masking.thresholds[2], sky.external)
    model = b.mask_model(MaskModelJob(image, mask, f"{image}_masked"))
    return replace(
        sky, image=image, model=model, mask=mask, template=sky.template or first,
        facets=sky.facets or first,
    )


def last_calibration(b: Builder, data: Data, sky: Sky) -> tuple[Data, tuple[str, ...]]:
    """Fast gains, and very slow ones on top of them; the names of what is applied from now on."""
    s = b.settings
    fast = b.solve(dd_solve(
        s, "DDS3_full", data, sky.model, sky.clusters, n_iter=s.solutions.NIterKF[6],
        dt_min=s.solutions.dt_fast, n_chan_sols=1,
    ))
    data = data.weighted(fast)
    fast = smoothed(b, fast, data)
    if not s.solutions.do_very_slow:
        return data, (fast,)
    slow = b.solve(dd_solve(
        s, "DDS3_full_slow", data, sky.model, sky.clusters, n_iter=VERY_SLOW_ITERATIONS,
        dt_min=s.solutions.dt_very_slow, n_chan_sols=1, uvmin=s.solutions.uvmin_very_slow,
        pre_apply=(fast,),
    ))
    data = data.weighted(slow)
    return data, (fast, tied(b, slow, data, s.solutions.sigma_clip))


def low_resolution(b: Builder, data: Data, sky: Sky, solutions: tuple[str, ...]) -> Path:
    """The low-resolution image, cleaned under a mask of extended emission.

    Returns a mask of known sources and that emission for the full resolution.
    """
    s = b.settings
    known = (sky.low_mask,) if sky.low_mask else ()
    shared = dict(clusters=sky.clusters, gains=gains(s, solutions, apply=6, normalize=2))
    first = b.image(low_image(
        s, "image_full_low", data, major_cycles=2, auto_mask_sigma=LOW_AUTO_MASK_SIGMA,
        external_mask=sky.low_mask, **shared,
    ))
    mask = _low_mask(b, first, known)
    second = b.image(low_image(
        s, "image_full_low_im", data, major_cycles=1, auto_mask_sigma=LOW_AUTO_MASK_SIGMA,
        external_mask=mask, start_model=first, reuse=first, reuse_what="residual", **shared,
    ))
    low, high = (Path(name) for name in extended_masks("full"))
    b.extended_mask("full_extended_mask", ExtendedMaskJob(
        Path(image_product(second, "app_restored")),
        Path(image_product(sky.template, "app_restored")), low, high, s.masking.extended_rms,
        LOW_ISLAND_PIXELS,
        facets=Path(image_product(sky.facets, "tessel")) if s.masking.rmsfacet else None,
    ))
    mask = _low_mask(b, second, (low,))
    b.image(low_image(
        s, LOW_IMAGE, data, major_cycles=1, auto_mask_sigma=LOW_FINAL_AUTO_MASK_SIGMA,
        rms_factor=s.image.final_rmsfactor, external_mask=mask, start_model=second,
        reuse=second, reuse_what="residual", **shared,
    ))
    deep = b.merge_masks(MergeMasksJob(Path(EXTERNAL_MASK_DEEP), (sky.external, high)))
    b.exit_point("fulllow")
    return deep


def _low_mask(b: Builder, image: str, external: tuple[Path, ...]) -> Path:
    restored = Path(image_product(image, "app_restored"))
    return b.mask(f"{image}_mask", MaskJob(restored, b.settings.masking.low_threshold, external))


def final_image(b: Builder, data: Data, sky: Sky, solutions: tuple[str, ...],
                deep: Path | None = None) -> str:
    """The image that all this was for; `deep` is a mask of what only low resolution shows."""
    mask = sky.mask if deep is None else \
        b.merge_masks(MergeMasksJob(Path(FINAL_MASK), (sky.mask, deep)))
    return b.image(full_image(
        b.settings, FINAL_IMAGE, data, major_cycles=1, external_mask=mask,
        start_model=sky.model, clusters=sky.clusters,
        gains=gains(b.settings, solutions, apply=6, normalize=1),
    ))
