"""What the user's files hold and which baselines his options leave, looked at before any work.

That files exist is checked with the configuration; what is in them would otherwise be found out by
the stage that reads them, perhaps days later.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ddfpipe.errors import DdfpipeError
from ddfpipe.units import ARCSEC, KM

if TYPE_CHECKING:
    from ddfpipe.config import Config
    from ddfpipe.data.ms import MSInfo
    from ddfpipe.data.mschecks import Problem
    from ddfpipe.data.setsize import SetSize

Reader = Callable[[Path], Any]


def problems(config: Config, workdir: Path, infos: Sequence[MSInfo],
             sizes: Iterable[SetSize]) -> list[Problem]:
    """What is wrong with files and baselines; infos, sizes: of the measurement sets."""
    from ddfpipe.data.mschecks import Problem

    texts = [*_unreadable(config, workdir), *_other_grid(config, workdir, infos)]
    return [Problem("userfile", text) for text in texts] \
        + [Problem("baselines", text) for text in _no_baselines(config, sizes)]


def _unreadable(config: Config, workdir: Path) -> Iterator[str]:
    for option, name, reader in _files(config):
        if name is None:
            continue
        try:
            reader(workdir / name)
        except DdfpipeError as error:
            yield f"{option}: {error}"


def _files(config: Config) -> Iterator[tuple[str, str | None, Reader]]:
    """Options that name a file, and what reads it."""
    from ddfpipe.data.catalogues import read_tgss
    from ddfpipe.data.clusters import read_clusters
    from ddfpipe.data.images import read_image
    from ddfpipe.data.regions import read_shapes
    from ddfpipe.data.skymodel import read_skymodel
    from ddfpipe.data.targets import read_targets

    masking, model = config.masking, config.inputmodel
    yield "[image] clusterfile", config.image.clusterfile, read_clusters
    yield "[masking] tgss", masking.tgss, read_tgss
    yield "[masking] region", masking.region, read_shapes
    yield "[inputmodel] skymodel", model.skymodel, read_skymodel
    yield "[inputmodel] basemaskname", model.basemaskname, read_image
    if config.control.redo_DI:
        yield "[control] redo_DI_model", config.control.redo_DI_model, read_skymodel
    if config.spectra.do_dynspec:
        yield "[spectra] catalogue", config.spectra.catalogue, read_targets


def _other_grid(config: Config, workdir: Path, infos: Sequence[MSInfo]) -> Iterator[str]:
    """The mask of an input model is used as it is, so it must have the pixels of the images."""
    from ddfpipe.data.images import SkyGrid, read_image

    name, size, cell = config.inputmodel.basemaskname, config.image.imsize, config.image.cellsize
    if name is None or not infos:
        return
    try:
        grid = read_image(workdir / name).grid
    except DdfpipeError:
        return  # told already
    if not grid.same(SkyGrid(*infos[0].phase_centre, size, size, cell * ARCSEC)):
        yield (f"[inputmodel] basemaskname: {name} has {grid.nx} x {grid.ny} pixels of "
               f"{grid.cell / ARCSEC:g} arcsec, but [image] imsize and cellsize ask for {size} of "
               f"{cell:g} about the phase centre: make the mask again or change these")


def _no_baselines(config: Config, sizes: Iterable[SetSize]) -> Iterator[str]:
    """Shortest baselines that are longer than all that the stations have."""
    longest = max((size.lengths[-1] for size in sizes if size.n_bl), default=math.inf) / KM
    shortest = {"[image] uvmin": config.image.uvmin}
    if config.solutions.wtuv is None:
        shortest["[solutions] uvmin"] = config.solutions.uvmin or 0.0
    if config.solutions.do_very_slow and config.data.full_mslist is not None:
        shortest["[solutions] uvmin_very_slow"] = config.solutions.uvmin_very_slow
    for option, value in shortest.items():
        if value >= longest:
            yield (f"{option} is {value:g} km, but the longest baseline of the data has "
                   f"{longest:.3g} km: lower it")
