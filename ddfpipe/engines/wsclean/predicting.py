"""Visibilities of a sky model through facets and gains, written into the copies by WSClean."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from ...data.images import write_image
from ...data.model import PixelModel
from ..external.runner import Call, Runner
from ..external.view import MODEL, View
from .commands import Gridding, predict_command, product


def model_kind(gridding: Gridding) -> str:
    """WSClean calls intrinsic model images "model-pb" where it applies gains, else "model"."""
    return "model-pb" if gridding.solutions else "model"


def predict(runner: Runner, gridding: Gridding, view: View, model: PixelModel, folder: Path,
            column: str = MODEL) -> None:
    """Fill `column` of the copies with the visibilities of a model.

    model : on the grid of `gridding`, one band for each of its channels (lowest first)
    folder : scratch folder, where WSClean's files lie

    WSClean writes MODEL_DATA; another name is given to it afterwards, and MODEL_DATA is gone.
    """
    here = replace(gridding, prefix=str(folder / "predict"))
    images = model.cube()
    for k, image in enumerate(images):
        channel = k if gridding.channels > 1 else None
        write_image(
            product(here.prefix, model_kind(here), channel, here.channels), image, model.grid,
            freq=float(model.freq[k]), unit="Jy/pixel",
        )
    for copy in view.copies:
        copy.forget(MODEL)
        copy.remove_columns([MODEL])
    if model.size == 0:
        for copy in view.copies:
            copy.write(column, lambda part, c=copy: np.zeros(
                (part.stop - part.start, *c.shape[1:]), np.complex64))
        return
    runner.run(Call(tuple(predict_command(here, view.paths)), folder))
    if column != MODEL:
        for copy in view.copies:
            copy.forget(column)
            copy.rename_column(MODEL, column)


def channel_count(view: View, least: int, widest: float) -> int:
    """Sub-bands for WSClean, which gives a model one flux in each.

    least : number that the job asks for; widest : Hz that a sub-band may span

    At most one a measurement set, so that none is without data.
    """
    freqs = np.concatenate([s.cache.freq for s in view.sets])
    sets = len({round(float(s.cache.freq.mean())) for s in view.sets})
    wanted = max(least, int(np.ceil(np.ptp(freqs) / widest)))
    return max(1, min(wanted, sets))


def gridding_of(tools, native, job, folder: Path, channels: int, gains) -> Gridding:
    """WSClean's gridding for a job; gains : FacetGains or None."""
    plain = Gridding(
        str(tools["wsclean"].path), str(folder / "img"), job.npix, job.cell_arcsec, job.robust,
        channels, native.threads, native.memory_limit / 1e9, str(folder),
    )
    if gains is None:
        return plain
    return replace(plain, regions=str(gains.regions), tables=gains.tables,
                   solutions=tuple(map(str, gains.solutions)))
