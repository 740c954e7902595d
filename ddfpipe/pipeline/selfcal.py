"""The recipe `strategy=classic`: the sequence of LoTSS-DR2, read from top to bottom.

Sequence and parameters: Tasse et al. 2021, A&A 648, A1, section 4, and the manual of
ddf-pipeline.  The visible difference: what is predicted there into a column for a solve is
predicted here inside the solve, so no Predict step appears.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ddfpipe.errors import ConfigError, InputModelError
from ddfpipe.naming import image_product
from ddfpipe.pipeline.archive import archive_sets
from ddfpipe.pipeline.astrometry import astrometry
from ddfpipe.pipeline.bootstrap import extended_emission, flux_scale
from ddfpipe.pipeline.builder import Builder
from ddfpipe.pipeline.columns import check_columns, write_columns
from ddfpipe.pipeline.dynspec import dynamic_spectra
from ddfpipe.pipeline.end_products import end_products
from ddfpipe.pipeline.full_list import (
    final_image, full_bandwidth_calibration, full_bandwidth_images, last_calibration,
    low_resolution, masked_small_list_model,
)
from ddfpipe.pipeline.preliminaries import preliminaries
from ddfpipe.pipeline.removal import remove_old_columns
from ddfpipe.pipeline.settings import Settings
from ddfpipe.pipeline.small_list import (
    Sky, amplitude_and_phase, first_di_calibration, first_gains, image_without_solutions,
    phase_only, second_di_calibration,
)
from ddfpipe.pipeline.stage import Recipe

EXIT_POINTS = (
    "cleanup", "initial", "dirin", "dirin_di", "bootstrap", "phase", "ampphase", "ampphase_di",
    "fullampphase", "fulllow",
)
"""Names of the classic pipeline that `exitafter` accepts, in the order of the run."""
NO_DI = "[control] skip_di leaves the direction-independent solves out"
KNOWN_MODEL = "[inputmodel] basedicomodel starts the run at DDS2_full"


def build_recipe(config: Any, small: tuple[Path, ...] = (), full: tuple[Path, ...] = ()) -> Recipe:
    """The recipe of `control.strategy`; the lists may be empty where only a plan is wanted."""
    strategies = {"classic": classic}
    strategy = strategies.get(config.control.strategy)
    if strategy is None:
        raise ConfigError(
            f"[control] strategy: there is no '{config.control.strategy}'; "
            f"choose one of {', '.join(strategies)}"
        )
    return strategy(Builder(Settings(config), small, full))


def classic(b: Builder) -> Recipe:
    """Every step of the classic sequence and its variants.

    Raises InputModelError for an incomplete [inputmodel], ConfigError for what is never reached.
    """
    s = b.settings
    skip_di = s.control.skip_di
    check_columns(s.config)
    with b.part("preliminaries"):
        remove_old_columns(b)
    data, all_data = preliminaries(b)
    if s.inputmodel.basedicomodel:
        sky, base_image = known_sky(b)
    else:
        base_image = None
        with b.part("direction-independent start"):
            sky = image_without_solutions(b, data)
        if not skip_di:
            with b.part("direction-independent calibration 1"):
                data, sky = first_di_calibration(b, data, sky)
        with b.part("phases"):
            data, solutions = first_gains(b, data, sky)
        if s.control.bootstrap:
            with b.part("flux scale"):
                scale = flux_scale(b, data, sky, solutions)
            data, all_data = data.scaled(scale), all_data.scaled(scale)
        with b.part("phases"):
            sky = phase_only(b, data, sky, solutions)
        with b.part("amplitudes and phases"):
            data, sky, solutions = amplitude_and_phase(b, data, sky, solutions)
        if not skip_di:
            with b.part("direction-independent calibration 2"):
                data, sky = second_di_calibration(b, data, sky, solutions)
    note_exit_points_left_out(b)
    if s.data.full_mslist is None:
        with b.part("columns"):
            write_columns(b, data, sky.image)
        return b.recipe(no_full_list=True)

    data = all_data
    with b.part("full bandwidth"):
        if not base_image and not skip_di:
            sky = masked_small_list_model(b, sky)
        data, solutions = full_bandwidth_calibration(b, data, sky, base_image)
        sky = extended_emission(b, sky)
        sky = full_bandwidth_images(b, data, sky, solutions)
    with b.part("last calibration"):
        data, last_solutions = last_calibration(b, data, sky)
    deep = None
    if s.image.low_psf_arcsec is not None:
        with b.part("low resolution"):
            deep = low_resolution(b, data, sky, last_solutions)
    with b.part("final image"):
        image = final_image(b, data, sky, last_solutions, deep)

    end_products(b, data, sky, last_solutions)
    if s.config.spectra.do_dynspec:
        with b.part("dynamic spectra"):
            dynamic_spectra(b, image)
    with b.part("archive"):
        archive_sets(b, data, image)
    with b.part("columns"):
        write_columns(b, data, image)
    # The last of all: a reference catalogue that cannot be fetched then keeps nothing else back.
    with b.part("astrometry"):
        astrometry(b, image)
    return b.recipe()


def known_sky(b: Builder) -> tuple[Sky, Path]:
    """Model, mask and directions that the user brings; the image that they came from."""
    s = b.settings
    model, mask = s.inputmodel.basedicomodel, s.inputmodel.basemaskname
    image, clusters = s.inputmodel.baseimagename, s.image.clusterfile
    missing = [name for name, value in (
        ("[inputmodel] basemaskname", mask), ("[inputmodel] baseimagename", image),
        ("[image] clusterfile", clusters), ("[data] full_mslist", s.data.full_mslist),
    ) if not value]
    if missing:
        raise InputModelError(
            f"[inputmodel] basedicomodel is set, so these must be too: {', '.join(missing)}"
        )
    sky = Sky(image, model, Path(mask), Path(mask), Path(clusters), template="", facets="")
    return sky, Path(image_product(image, "app_restored"))


def note_exit_points_left_out(b: Builder) -> None:
    """Say why an exit point of the classic pipeline is not reached."""
    s = b.settings
    if s.inputmodel.basedicomodel:
        for name in EXIT_POINTS[1:8]:
            b.no_exit_point(name, KNOWN_MODEL)
    elif s.control.skip_di:
        b.no_exit_point("dirin_di", NO_DI)
        b.no_exit_point("ampphase_di", NO_DI)
    if not s.control.bootstrap:
        b.no_exit_point("bootstrap", "[control] bootstrap is off")
    if s.data.full_mslist is None:
        for name in ("fullampphase", "fulllow"):
            b.no_exit_point(name, "[data] full_mslist is not given")
    elif s.image.low_psf_arcsec is None:
        b.no_exit_point("fulllow", "[image] low_psf_arcsec is not given")
