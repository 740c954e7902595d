"""Find gains with killMS: KAFCA towards directions, CohJones for one full Jones matrix.

KAFCA: Tasse 2014, arXiv:1410.8706; CohJones: Tasse 2014, A&A 566, A127.  The model of a solve of
directions reaches killMS as a DicoModel, that of a full Jones matrix as a column that DDFacet
predicts.  Imaging weights are killMS's own.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ...calibration.gains import GainTable, nearest_interval
from ...data import solutions
from ...data.killms import read_killms, write_killms
from ...data.ms import open_table
from ...errors import SolveError
from ...naming import solution_file
from ...units import ARCSEC, MINUTE
from ..base import SolveJob
from ..external.copies import WorkingCopy
from ..external.solving import SetwiseSolve
from ..external.view import PREDICT, View
from ..native.solveweights import SolverWeights
from ..native.solveintervals import frequency_blocks
from ..native.visibilities import MSData
from .commands import (
    LARGEST_FACET_DEG, SMALLEST_FACET_DEG, WORKER_DIED, Solving, clip_command, facet_count,
    filter_steps, solve_command, w_planes,
)
from .inputs import largest_w, predicting_grid, write_model, write_nodes
from .predicting import predict
from .tools import default_options

IMAGING_WEIGHT = "IMAGING_WEIGHT"


class KillMSSolve(SetwiseSolve):
    """One solving job with killMS."""

    program = "killms"

    def find_directions(self, view: View) -> None:
        """As for any program; also how far the data reach in w."""
        super().find_directions(view)
        self._w_max, self._all, self._predicted = largest_w(view), view, False

    def _predict(self) -> None:
        """The model's visibilities for all measurement sets at once: DDFacet is slow to start."""
        if self._predicted:
            return
        job = self.job
        clusters = self.native.workdir.absolute() / job.clusters if job.clusters else None
        predict(self.engine, self.runner, self._all, self.model, self.folder, PREDICT,
                gains=job.model_gains, clusters=clusters, decorrelation=job.decorrelation)
        self._predicted = True

    def solve_set(self, one: View):
        """Gains of one measurement set: (figures, paths).  An up-to-date solution is kept."""
        job, s, copy = self.job, one.sets[0], one.copies[0]
        key = self.key(s)
        kept = self.kept(s, key)
        if kept is not None:
            return kept
        if job.kind == "DI":
            self._predict()
        slots, chans = self.interval(one)
        made = self._run(one, slots, chans)
        table = self.gauge(match_table(made, s, self.directions, chans))
        weights = self._weights(s, copy, table) if job.update_weights else None
        copy.remove_columns([PREDICT, IMAGING_WEIGHT])
        return self.save(s, table, key, weights, {})

    def _run(self, one: View, slots: int, chans: int) -> Path:
        """The solution file that killMS makes of a measurement set."""
        job, s, copy = self.job, one.sets[0], one.copies[0]
        solsdir, cache = self.folder / "solutions", self.folder / "cache"
        cache.mkdir(exist_ok=True)
        minutes = slots * s.cache.interval / MINUTE
        solving = Solving(
            str(self.engine.tools["killms"].path), str(copy.path.absolute()), job.name,
            str(solsdir), str(cache), minutes, -(-s.cache.n_chan // chans),
            self.native.solve_threads, steps(job, s.cache.time, minutes),
            uv_km=job.vis.uv_km, down_weight=job.uv_down_weight, cov_q=job.cov_q,
            lambda_kf=job.lambda_kf, robust=job.robust, update_weights=job.update_weights,
            pre_apply=self._give(job.pre_apply, one, solsdir),
            evolve=next(iter(self._give((job.evolve_from,), one, solsdir)), None),
            beam=self.engine.beam, **self._model_words(),
        )
        made = solution_file(solsdir, copy.path, job.name)
        self.runner.run(self.engine.call(
            solve_command(solving), self.folder, (made,), fatal=WORKER_DIED,
        ))
        if job.update_weights:
            clip = self.engine.tools["killms"].path.with_name("ClipCal.py")
            words = clip_command(str(clip), solving.ms, "DATA")
            self.runner.run(self.engine.call(words, self.folder))
        return made

    def _model_words(self) -> dict:
        """How the model reaches killMS: arguments of `Solving`."""
        if self.job.kind == "DI":
            return {"model_column": PREDICT}
        base = self.folder / "model"
        path = Path(f"{base}.DicoModel")
        nodes = write_nodes(self.folder, self.native.workdir / self.job.clusters)
        if not path.exists():
            wide = predicting_grid(self.model.grid, self._all)
            options = model_options(
                default_options(self.engine.tools["killms"]), str(base), wide.nx,
                wide.cell / ARCSEC, nodes, self.native.solve_threads, self.job.decorrelation,
                self._w_max,
            )
            write_model(path, self.model.on_grid(wide), float(np.mean(self.model.freq)), options,
                        self.monitor)
        return {"base": str(base), "model": str(path), "nodes": nodes}

    def _give(self, names, one: View, solsdir: Path) -> tuple[str, ...]:
        """Put solution sets where killMS looks for them; their names, less those that are None."""
        s, copy = one.sets[0], one.copies[0]
        names = tuple(name for name in names if name is not None)
        for name in names:
            path = solution_file(solsdir, copy.path, name)
            path.parent.mkdir(parents=True, exist_ok=True)
            table = solutions.load_solution(self.native.solsdir, s.cache.name, name)
            write_killms(table, path, centre=one.data.phase_centre)
        return names

    def _weights(self, s: MSData, copy: WorkingCopy, table: GainTable) -> SolverWeights:
        """killMS's imaging weights as factors on those of the data, means over the intervals."""
        with open_table(copy.path) as main:
            found = main.getcol(IMAGING_WEIGHT).reshape(s.cache.weight.shape)
        return interval_weights(found, s, table)


def steps(job: SolveJob, times: np.ndarray, minutes: float) -> int:
    """Steps of killMS an interval: those of the job where its filter has time to learn."""
    return job.n_iter if job.kind == "DI" else filter_steps(job.n_iter, times, minutes)


def model_options(options: dict, name: str, npix: int, cell_arcsec: float, nodes: str,
                  threads: int, decorrelation: bool, w_max: float) -> dict:
    """Options of DDFacet that killMS looks for in a DicoModel, from the defaults `options`."""
    limit, planes = w_planes(w_max, npix, cell_arcsec)
    changes = {
        "Output": {"Name": name, "Mode": "Predict"}, "Image": {"NPix": npix, "Cell": cell_arcsec},
        "Data": {"ColName": "DATA"}, "Parallel": {"NCPU": threads, "Affinity": "disable"},
        "Facets": {"NFacets": facet_count(npix, cell_arcsec), "CatNodes": nodes,
                   "DiamMax": LARGEST_FACET_DEG, "DiamMin": SMALLEST_FACET_DEG},
        "CF": {"wmax": limit, "Nw": planes},
        "RIME": {"DecorrMode": "FT" if decorrelation else ""},
        "Freq": {"NBand": 1, "NDegridBand": 1},
        "Log": {"Boring": True}, "Debug": {"Pdb": "never"}, "Deconv": {"Mode": "SSD2"},
    }
    return {section: part | changes.get(section, {}) for section, part in options.items()}


def match_table(path: Path, s: MSData, directions: np.ndarray, chans: int) -> GainTable:
    """killMS's solutions of a measurement set on the intervals that hold its data.

    directions : (n, 2) rad, in the order of the catalogue that killMS was given
    chans : channels of an interval

    killMS goes through gaps interval by interval; intervals without data are left out.  Raises
    SolveError when stations or directions are not those asked for.
    """
    raw, cache = read_killms(path), s.cache
    n_dir = raw.gains.shape[3]
    same = list(raw.ant_names) == list(cache.ant_names) and n_dir == len(directions)
    if not same or not np.isfinite(raw.gains).all():
        raise SolveError(f"{path}: killMS gives {raw.gains.shape[2]} stations and {n_dir} "
                         f"directions, {cache.n_ant} and {len(directions)} were asked for")
    held = np.unique(nearest_interval(raw.time_edges, cache.time))
    edges, _ = frequency_blocks(cache.freq, cache.chan_width, raw.gains.shape[1])
    return GainTable(raw.time_edges[held], edges, raw.gains[held], cache.ant_names, directions,
                     flag=raw.flag[held], ant_pos=cache.ant_pos)


def interval_weights(found: np.ndarray, s: MSData, table: GainTable) -> SolverWeights:
    """Weights (time, bl, chan) as factors on those of the data for intervals of `table`."""
    cache = s.cache
    time = nearest_interval(table.time_edges, cache.time)
    chan = nearest_interval(table.freq_edges, cache.freq)
    shape = (len(table.time_edges), len(table.freq_edges), cache.n_bl)
    above, below = np.zeros(shape), np.zeros(shape)
    for t, values in enumerate(found):
        weight = np.asarray(cache.weight[t], np.float64)
        used = (weight > 0) & np.isfinite(values) & (values >= 0)
        for block in range(shape[1]):
            here = chan == block
            above[time[t], block] += np.where(used, values, 0)[:, here].sum(axis=1)
            below[time[t], block] += np.where(used, weight, 0)[:, here].sum(axis=1)
    factor = above / np.where(below > 0, below, 1)
    return SolverWeights(table.time_edges, table.freq_edges, factor.astype(np.float32))


