"""Find gains with DP3's ddecal: a scalar gain towards each direction, or one full Jones matrix.

The model of a solve of directions reaches DP3 as a text sky model with a patch a direction where
it is small, which is exact, and else as columns of visibilities that WSClean predicts.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ...calibration.gains import concatenate
from ...data.model import PixelModel
from ...data.skymodel import from_pixels, write_skymodel
from ...units import ARCSEC
from ..base import GainChoice
from ..external.runner import Call
from ..external.solving import SetwiseSolve
from ..external.tools import tool_environment
from ..external.view import PREDICT, View
from ..native.solveweights import residual_weights
from .commands import Gridding, Solving, solve_command
from .facets import write_gains
from .predicting import predict
from .results import Run, match_table, residual_facts, time_runs

TEXT_LIMIT = 5000
"""Components up to which a model is handed over as text and summed directly."""


class DP3Solve(SetwiseSolve):
    """One solving job with DP3."""

    program = "dp3"

    # -- model -----------------------------------------------------------------------------------

    def _gridding(self, one: View, choice) -> Gridding:
        """WSClean for predictions of one measurement set through known gains."""
        grid = self.model.grid
        gains = write_gains(self.folder, choice, one, self.facets, self.native.solsdir)
        shape = PredictShape(grid.nx, grid.cell / ARCSEC)
        return self.engine.gridding(shape, self.folder, 1, gains)

    def _model_words(self, one: View) -> dict:
        """How the model reaches DP3: arguments of `Solving`."""
        job, s = self.job, one.sets[0]
        freq = [float(s.cache.freq.mean())]
        if job.kind == "DI":
            gridding = self._gridding(one, job.model_gains)
            predict(self.runner, gridding, one, self.model.on_bands(freq), self.folder, PREDICT)
            return {"columns": (PREDICT,)}
        used = np.unique(self.part)
        if self.model.size <= TEXT_LIMIT and not job.pre_apply:
            path = self.folder / "model.skymodel"
            sky = from_pixels(self.model, freq[0])
            patches = tuple(patch_name(k) for k in self.part)
            write_skymodel(path, replace(sky, patch=patches))
            return {"sky": str(path), "smearing": job.decorrelation}
        choice = GainChoice(job.pre_apply, "AP") if job.pre_apply else None
        gridding = self._gridding(one, choice)
        for k in used:
            part: PixelModel = self.model.select(self.part == k).on_bands(freq)
            predict(self.runner, gridding, one, part, self.folder, patch_name(k).upper())
        return {"columns": tuple(patch_name(k).upper() for k in used)}

    # -- one measurement set ---------------------------------------------------------------------

    def solve_set(self, one: View):
        """Gains of one measurement set: (figures, paths).  An up-to-date solution is kept."""
        s, copy = one.sets[0], one.copies[0]
        key = self.key(s)
        kept = self.kept(s, key)
        if kept is not None:
            return kept
        words = self._model_words(one)
        slots, chans = self.interval(one)
        tables, parts = [], []
        for run in time_runs(s.cache):
            table, part = self._solve_run(one, run, words, slots, chans)
            tables.append(table)
            parts += [(part, run)] if part else []
        copy.remove_columns(words.get("columns", ()))
        table = self.gauge(concatenate(tables))
        weights, more = None, {}
        if parts:
            facts, more = residual_facts(parts, s, table)
            weights = residual_weights(s.cache, facts, table.freq_edges,
                                       np.ones(len(s.cache.ant1)))
        return self.save(s, table, key, weights, more)

    def _solve_run(self, one: View, run: Run, words: dict, slots: int, chans: int):
        """(table of a run of slots, measurement set of its residuals or None)."""
        job, s, copy = self.job, one.sets[0], one.copies[0]
        h5 = self.folder / f"{s.cache.name}.{run.start}.h5"
        residual = self.folder / f"residual.{run.start}.ms" if job.update_weights else None
        piece = copy.slots(slice(run.start, run.stop), self.folder / f"slots.{run.start}.ms")
        solving = Solving(
            str(self.engine.tools["dp3"].path), str(piece), str(h5),
            "fulljones" if job.kind == "DI" else "scalar", slots, chans,
            self.native.solve_threads,
            residual=str(residual) if residual else None, **words,
        )
        self.runner.run(Call(
            tuple(solve_command(solving)), self.folder, (h5, residual) if residual else (h5,),
            environment=tool_environment(self.native.cache_dir), retries=1,
        ))
        names = [patch_name(k) for k in range(len(self.directions))]
        names = None if job.kind == "DI" else names
        return match_table(h5, s.cache, run, slots, names, self.directions), residual

class PredictShape:
    """What a prediction needs of an image job."""

    robust = None

    def __init__(self, npix: int, cell_arcsec: float):
        self.npix, self.cell_arcsec = npix, cell_arcsec


def patch_name(direction: int) -> str:
    """Name of a direction in sky models and solutions."""
    return f"dir{direction:04d}"
