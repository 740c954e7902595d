"""Visibilities of a sky model through facets and gains, written into the copies by DDFacet."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ...data.model import PixelModel
from ...units import ARCSEC
from ..external.runner import Runner
from ..external.view import View
from .commands import predict_command
from .inputs import imaging_of, predicting_grid, write_gains, write_model


def predict(engine, runner: Runner, view: View, model: PixelModel, folder: Path, column: str, *,
            gains=None, clusters: Path | None = None, decorrelation: bool = True) -> None:
    """Fill `column` of the copies with the visibilities of a model, seen through `gains`.

    gains : GainChoice or None; clusters : catalogue that shapes the facets, absolute
    folder : scratch folder, where DDFacet's files lie
    """
    wide = predicting_grid(model.grid, view)
    dico = write_model(folder / "predict.DicoModel", model.on_grid(wide),
                       float(np.mean(view.data.band_freq)))
    names = write_gains(folder / "gains", gains, view, engine.native.solsdir)
    imaging = imaging_of(
        engine, wide.nx, wide.cell / ARCSEC, folder, view, prefix="predict", solutions=names,
        mode=gains.mode if gains else "AP", nodes=clusters, model=dico,
        decorrelation=decorrelation,
    )
    for copy in view.copies:
        copy.forget(column)
        copy.add_column(column)
    runner.run(engine.call(predict_command(imaging, "DATA", column), folder))
