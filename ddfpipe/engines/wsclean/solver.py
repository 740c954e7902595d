"""Find gains with DP3's ddecal: gains towards directions, or one full Jones matrix.

DP3 has no prior: a complex gain that is free in every interval takes up whatever the model lacks
(measured on a field without amplitude errors: amplitudes scatter by 0.45 towards the fainter
directions, and the noise of the image doubles).  So it is used as it is by others (de Gasperin et
al. 2019, A&A 622, A5; van Weeren et al. 2021, A&A 651, A115): the sets of an observation are
solved together, fast gains are phases, a TEC and a constant over the whole band, and only the very
slow ones have amplitudes too, smooth in frequency.

The model of a solve of directions reaches DP3 as a text sky model with a patch a direction where
it is small, which is exact, and else as columns of visibilities that WSClean predicts; these DP3
reads from single sets alone.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from ...calibration.gains import concatenate
from ...data.h5parm import write_h5parm
from ...data.killms import NAMES
from ...data.model import PixelModel
from ...data.skymodel import from_pixels, write_skymodel
from ...units import ARCSEC
from ..base import GainChoice
from ..external.runner import Call
from ..external.solving import SetwiseSolve
from ..external.tools import tool_environment
from ..external.view import PREDICT, View
from ..native.gainfield import load_gains
from ..native.solveweights import residual_weights
from ..native.state import digest
from .commands import Gridding, Solving, solve_command
from .facets import gains_towards, write_gains
from .predicting import predict
from .results import Run, match_table, residual_facts, time_runs

TEXT_LIMIT = 5000
"""Components up to which a model is handed over as text and summed directly."""

TEC_SETS, TEC_BAND = 3, 1.1
"""Fewest measurement sets, and least ratio of their highest to their lowest frequency, that tell a
TEC from a constant phase."""

SMOOTH_HZ = 30e6
"""Reach of the kernel that smooths slow gains in frequency: a standard deviation of 10 MHz."""

MEMORY_SHARE = 0.5
"""Share of the memory for the model visibilities of an interval that DP3 holds."""


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

    def _is_text(self) -> bool:
        """Whether the model is handed over as text."""
        return self.job.kind != "DI" and self.model.size <= TEXT_LIMIT

    def _model_words(self, part: View) -> dict:
        """How the model reaches DP3: arguments of `Solving`."""
        job = self.job
        if self._is_text():
            freq = np.mean([s.cache.freq.mean() for s in part.sets])
            path = self.folder / "model.skymodel"
            sky = from_pixels(self.model, float(freq))
            patches = tuple(patch_name(k) for k in self.part)
            write_skymodel(path, replace(sky, patch=patches))
            words = {"sky": str(path), "smearing": job.decorrelation}
            return words | ({"known": str(self._known(part))} if job.pre_apply else {})
        freq = [float(part.sets[0].cache.freq.mean())]
        if job.kind == "DI":
            gridding = self._gridding(part, job.model_gains)
            predict(self.runner, gridding, part, self.model.on_bands(freq), self.folder, PREDICT)
            return {"columns": (PREDICT,)}
        used = np.unique(self.part)
        choice = GainChoice(job.pre_apply, "AP") if job.pre_apply else None
        gridding = self._gridding(part, choice)
        for k in used:
            model: PixelModel = self.model.select(self.part == k).on_bands(freq)
            predict(self.runner, gridding, part, model, self.folder, patch_name(k).upper())
        return {"columns": tuple(patch_name(k).upper() for k in used)}

    def _known(self, part: View) -> Path:
        """h5parm of the gains that the model is seen through already."""
        choice = GainChoice(self.job.pre_apply, "AP")
        caches = [s.cache for s in part.sets]
        loaded = [load_gains(choice, cache, self.native.solsdir) for cache in caches]
        table = gains_towards(loaded, caches, self.directions)
        names = ",".join(f"[{patch_name(k)}]" for k in range(len(self.directions)))
        path = self.folder / "known.h5"
        write_h5parm(replace(table, meta=table.meta | {NAMES: names}), path)
        return path

    # -- measurement sets ------------------------------------------------------------------------

    def parts(self, view: View) -> list[View]:
        """Sets of the same times and stations together, as many as the memory allows; each part
        has the whole band.  Columns of models and full Jones matrices are solved one by one."""
        if not self._is_text():
            return super().parts(view)
        groups: dict = {}
        for number in np.argsort([s.cache.freq[0] for s in view.sets], kind="stable"):
            c = view.sets[number].cache
            like = (c.time.tobytes(), tuple(c.ant_names), c.n_bl, c.freq.shape, c.interval)
            groups.setdefault(like, []).append(int(number))
        out = []
        for numbers in groups.values():
            step = -(-len(numbers) // self._most_sets(view, numbers[0]))
            for first in range(step):
                mine = numbers[first::step]
                out.append(View(replace(view.data, sets=[view.sets[k] for k in mine]),
                                [view.copies[k] for k in mine]))
        return out

    def _most_sets(self, view: View, number: int) -> int:
        """Measurement sets whose model visibilities of an interval fit into the memory."""
        cache = view.sets[number].cache
        one = View(replace(view.data, sets=[view.sets[number]]), [view.copies[number]])
        slots = min(self.interval(one)[0], cache.n_time)
        held = 32.0 * (len(self.directions) + 2) * slots * cache.n_bl * cache.n_chan
        return max(1, int(MEMORY_SHARE * self.native.memory_limit / held))

    def interval(self, one: View) -> tuple[int, int]:
        """(slots, channels) of an interval, which does not reach from one set into the next."""
        slots, chans = super().interval(one)
        while one.sets[0].cache.n_chan % chans:
            chans -= 1
        return slots, chans

    def solve_part(self, part: View) -> list:
        """Gains of measurement sets solved together.  Up-to-date solutions are kept."""
        key = digest(*(self.key(s) for s in part.sets))
        kept = [self.kept(s, key) for s in part.sets]
        if all(k is not None for k in kept):
            return kept
        words = self._model_words(part)
        slots, chans = self.interval(part)
        tables, residuals = [], []
        for run in time_runs(part.sets[0].cache):
            found, residual = self._solve_run(part, run, words, slots, chans)
            tables.append(found)
            residuals += [(residual, run)] if residual else []
        for copy in part.copies:
            copy.remove_columns(words.get("columns", ()))
        return [self._finish(s, number, [t[number] for t in tables], residuals, key)
                for number, s in enumerate(part.sets)]

    def _finish(self, s, number: int, tables: list, residuals: list, key: str):
        """Solutions and weights of the set at place `number` of its part."""
        table = self.gauge(concatenate(tables))
        weights, more = None, {}
        if residuals:
            facts, more = residual_facts(residuals, s, table, number * s.cache.n_chan)
            weights = residual_weights(s.cache, facts, table.freq_edges,
                                       np.ones(len(s.cache.ant1)))
        return self.save(s, table, key, weights, more)

    def solving_mode(self, part: View) -> tuple[str, float]:
        """What DP3 solves for, and over how many Hz that is smooth."""
        if self.job.kind == "DI":
            return "fulljones", 0.0
        if self.job.pre_apply:
            return "scalar", SMOOTH_HZ if len(part.sets) > 1 else 0.0
        low, high = (part.sets[k].cache.freq.mean() for k in (0, -1))
        wide = len(part.sets) >= TEC_SETS and high > TEC_BAND * low
        return ("tecandphase" if wide else "scalarphase"), 0.0

    def _solve_run(self, part: View, run: Run, words: dict, slots: int, chans: int):
        """(tables of a run of slots, one a set; measurement set of the residuals or None)."""
        job = self.job
        slots = even_slots(run.count, slots)
        h5 = self.folder / f"gains.{run.start}.h5"
        residual = self.folder / f"residual.{run.start}.ms" if job.update_weights else None
        pieces = [
            str(copy.slots(slice(run.start, run.stop), self.folder / f"slots{k}.{run.start}.ms"))
            for k, copy in enumerate(part.copies)
        ]
        mode, smooth = self.solving_mode(part)
        solving = Solving(
            str(self.engine.tools["dp3"].path), tuple(pieces), str(h5), mode, slots, chans,
            self.native.solve_threads, residual=str(residual) if residual else None,
            smooth=smooth, **words,
        )
        self.runner.run(Call(
            tuple(solve_command(solving)), self.folder, (h5, residual) if residual else (h5,),
            environment=tool_environment(self.native.cache_dir), retries=1,
        ))
        names = [patch_name(k) for k in range(len(self.directions))]
        names = None if job.kind == "DI" else names
        tables = [
            match_table(h5, s.cache, run, slots, s.cache.n_chan // chans, number, names,
                        self.directions)
            for number, s in enumerate(part.sets)
        ]
        return tables, residual


def even_slots(count: int, slots: int) -> int:
    """Slots of an interval that cuts a run of `count` slots into pieces of about equal length,
    about `slots` long: a last piece of one slot would have gains of its own, and noisy ones."""
    return -(-count // max(1, round(count / slots)))


class PredictShape:
    """What a prediction needs of an image job."""

    robust = None

    def __init__(self, npix: int, cell_arcsec: float):
        self.npix, self.cell_arcsec = npix, cell_arcsec


def patch_name(direction: int) -> str:
    """Name of a direction in sky models and solutions."""
    return f"dir{direction:04d}"
