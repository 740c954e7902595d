"""The data of a job as programs of others get them: in working copies, ready to use.

A copy's DATA are what the job selects: after earlier phases, a subtraction, the flux scale and
direction-independent gains, with flags where any of them is unknown; its WEIGHT_SPECTRUM holds the
weights that the job asks for, zero outside its range of baselines.  Both are made by the same code
as for our own engine, so all engines see the same visibilities.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ...units import ARCSEC
from ..native.solveweights import load_weights
from ..native.state import digest
from ..native.subtraction import subtractor
from ..native.visibilities import Data, MSData, Scratch, open_data
from .copies import WorkingCopy, open_copy

MODEL, RESIDUAL, PREDICT = "MODEL_DATA", "RESIDUAL_DATA", "DD_PREDICT"
"""Columns: what WSClean writes when it predicts, data without a model, a model to solve with."""


@dataclass
class View:
    """The measurement sets of a job and their working copies, in the same order."""

    data: Data
    copies: list[WorkingCopy]

    @property
    def paths(self) -> list[Path]:
        """Folders of the copies."""
        return [copy.path for copy in self.copies]

    @property
    def sets(self) -> list[MSData]:
        return self.data.sets


def open_view(native, job, monitor, scratch: Scratch, weights: str, *,
              weights_from: str | None = None, uv_down_weight: float | None = None,
              n_bands: int = 1) -> View:
    """Working copies with the data and weights of a job.

    native : NativeEngine, for folders and for subtractions; job : ImageJob or SolveJob
    weights, weights_from : as for `ImageJob`

    Raises
    ------
    DataError : measurement sets cannot be used together; SolveError : solutions are missing
    """
    data = open_data(
        job.vis, cache_dir=native.cache_dir, solsdir=native.solsdir, scratch=scratch,
        weights=weights, weights_from=weights_from, n_bands=n_bands,
        uv_down_weight=uv_down_weight, drop_international=native.drop_international,
        monitor=monitor, workdir=native.workdir,
        subtractor=subtractor(native, job.vis.minus, job.decorrelation, monitor),
    )
    copies = []
    for s in data.sets:
        copy = open_copy(s.cache, native.cache_dir)
        key = s.reader.key()
        if copy.note("DATA") != key:
            monitor.message(f"{s.cache.name}: working copy {copy.path.name}")
            with copy.making("DATA", key):
                copy.write("DATA", s.reader, monitor.check)
        factor = []
        if weights == "imaging":
            factor = [load_weights(native.solsdir, s.cache.name, weights_from).factor]
        key = digest(key, weights, job.vis.uv_km, uv_down_weight, *factor)
        if copy.note("WEIGHT_SPECTRUM") != key:
            with copy.making("WEIGHT_SPECTRUM", key):
                copy.write("WEIGHT_SPECTRUM", lambda part, s=s: np.array(s.weight[part]),
                           monitor.check)
        copies.append(copy)
    return View(data, copies)


def subtract_model(view: View, monitor) -> None:
    """Fill RESIDUAL_DATA with DATA less MODEL_DATA."""
    for copy in view.copies:
        copy.forget(RESIDUAL)
        copy.write(
            RESIDUAL, lambda part, c=copy: c.read("DATA", part) - c.read(MODEL, part),
            monitor.check,
        )


def cell_rad(cell_arcsec: float) -> float:
    """Cell of an image in rad."""
    return cell_arcsec * ARCSEC
