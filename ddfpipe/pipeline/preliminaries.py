"""What may come before the self-calibration: phases from a catalogue, the sky far outside.

Neither changes a measurement set: all later stages read the data through what is found here.
"""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

from ddfpipe.engines.base import MaskJob, SolveJob, VisSelection
from ddfpipe.naming import (
    WIDE_EXTERNAL_MASK, WIDE_IMAGE, WIDE_OUTSIDE, catalogue_model, image_product,
)
from ddfpipe.pipeline.builder import Builder, Data
from ddfpipe.pipeline.jobs import DownloadModelJob, OutsideModelJob
from ddfpipe.pipeline.parameters import LONGEST_BASELINE_KM, known_sources, wide_image

PHASES = "redo_DI"
"""Name of the solution set of phases."""
PHASES_UVMIN_KM = 0.15
"""Shorter baselines see much that is in no catalogue."""
CATALOGUE_RADIUS_DEG = 5.0
MAIN_SHARE = 0.95
"""Side of the square that is not subtracted, over that of the main image."""


def preliminaries(b: Builder) -> tuple[Data, Data]:
    """The data of the small and of the full list, as the rest of the recipe is to read them."""
    s = b.settings
    small, full = Data(b.small, s.data.colname), Data(b.full, s.data.colname)
    if s.control.redo_DI:
        with b.part("phases from a catalogue"):
            phases = catalogue_phases(b, full if s.data.full_mslist else small)
        small, full = replace(small, pre_di=phases), replace(full, pre_di=phases)
    if s.image.do_wide:
        with b.part("wide field"):
            outside, mask = far_sources(b, small)
            small, full = replace(small, minus=outside), replace(full, minus=outside)
            b.image(wide_image(
                s, f"{WIDE_IMAGE}_im_sub", small, major_cycles=1, external_mask=mask
            ))
    return small, full


def catalogue_phases(b: Builder, data: Data) -> str:
    """Phases of the stations, every time slot, against a list of components; their name."""
    s = b.settings
    if s.control.redo_DI_model:
        model = Path(s.control.redo_DI_model)
    else:
        source = s.control.redo_DI_type
        model = b.download_model(DownloadModelJob(
            source, data.ms[:1], CATALOGUE_RADIUS_DEG, Path(catalogue_model(source))
        ))
    return b.solve(SolveJob(
        name=PHASES,
        vis=VisSelection(data.ms, data.column, uv_km=(PHASES_UVMIN_KM, LONGEST_BASELINE_KM)),
        kind="phase", model=str(model), dt_min=0.0, n_chan_sols=1, update_weights=False,
        decorrelation=s.image.do_decorr,
    ))


def far_sources(b: Builder, data: Data) -> tuple[str, Path]:
    """Image the sky far around: root of the model of what lies outside the main field, and mask."""
    s = b.settings
    first = b.image(wide_image(s, WIDE_IMAGE, data, major_cycles=2))
    known = b.external_mask(
        known_sources(s, WIDE_EXTERNAL_MASK, Path(image_product(first, "dirty")))
    )
    restored = Path(image_product(first, "app_restored"))
    mask = b.mask(f"{first}_mask", MaskJob(restored, s.masking.wide_threshold, (known,)))
    deeper = b.image(wide_image(
        s, f"{WIDE_IMAGE}_im", data, major_cycles=1, external_mask=mask, start_model=first,
        reuse=first, reuse_what="residual",
    ))
    outside = b.outside_model(OutsideModelJob(deeper, main_square(s.image), WIDE_OUTSIDE))
    return outside, mask


def main_square(image) -> int:
    """Side in wide pixels of the square whose sources stay in the data."""
    return math.floor(MAIN_SHARE * image.imsize * image.cellsize / image.wide_cell)
