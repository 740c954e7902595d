"""A solve by a program of others, a measurement set at a time: what is the same for any of them.

What depends on the flux scale is treated as in our own engine: the mean amplitude of all stations,
and its trend with the distance from the core, are divided out.
"""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np

from ...calibration.gains import GainTable
from ...calibration.intervals import automatic_intervals
from ...calibration.jones import natural_unitary
from ...calibration.priors import amplitude_trend, station_factor
from ...data import solutions
from ...data.atomic import atomic_write_json
from ...data.clusters import read_clusters
from ...data.model import load_model
from ...errors import SolveError
from ...naming import image_product
from ...units import MINUTE
from ..base import SolveJob, SolveResult
from ..native.modelsky import sky_facets
from ..native.solveweights import SolverWeights, save_weights
from ..native.solving import solve_note
from ..native.state import digest
from ..native.visibilities import MSData, Scratch
from .runner import Runner
from .view import PREDICT, View, open_view


class SetwiseSolve:
    """One solving job with another program.

    A subclass says in `solve_set` how one measurement set is solved, and names its program.
    """

    program = ""
    """Name of the solver in the keys of what is kept."""

    def __init__(self, engine, job: SolveJob, monitor):
        self.engine, self.job, self.monitor = engine, job, monitor
        self.native, self.runner = engine.native, Runner(monitor)

    def run(self) -> SolveResult:
        """Solve every measurement set that has no solution yet; returns what was made.

        Raises SolveError, SkyModelError, DataError, StageFailed and ResourceError (see `Runner`).
        """
        job = self.job
        self.engine.require(job)
        self.model = load_model(self.native.workdir / image_product(job.model, "model"))
        if self.model.size == 0:
            raise SolveError(f"the model of {job.model} is empty: nothing to calibrate on. Look at "
                             "its mask and at option masking.thresholds")
        with Scratch(self.native.cache_dir / f"ddfpipe.scratch.{job.name}") as scratch:
            self.folder = scratch.folder.absolute()
            view = open_view(self.native, job, self.monitor, scratch, "spectrum",
                             uv_down_weight=job.uv_down_weight)
            self.find_directions(view)
            figures, products = [], []
            for part in self.parts(view):
                self.monitor.check()
                for figure, made in self.solve_part(part):
                    figures.append(figure)
                    products += made
                self.monitor.progress(f"solving {job.name}", len(figures), len(view.sets))
        return SolveResult(job.name, tuple(products), summary(figures))

    def parts(self, view: View) -> list[View]:
        """The measurement sets of a job, as they are solved: here one by one."""
        return [View(replace(view.data, sets=[s]), [copy])
                for s, copy in zip(view.sets, view.copies)]

    def solve_part(self, part: View) -> list:
        """Gains of the sets of one of `parts`: (figures, paths) of each."""
        return [self.solve_set(part)]

    def solve_set(self, one: View):
        """Gains of one measurement set, whose view holds no other: (figures, paths)."""
        raise NotImplementedError

    def find_directions(self, view: View) -> None:
        """Directions (n, 2) in rad, facets, and the direction of every component."""
        job, grid = self.job, self.model.grid
        clusters = self.native.workdir / job.clusters if job.clusters else None
        centre = view.data.phase_centre
        self.facets = sky_facets(grid.nx, grid.cell, clusters, centre)
        if job.kind == "DI":
            self.directions = np.array([centre])
            return
        catalogue = read_clusters(clusters)
        self.directions = np.stack([catalogue.ra, catalogue.dec], axis=1)
        owner = self.facets.facet_map().ravel()[self.model.index]
        self.part = np.array([f.dir_index for f in self.facets.facets])[owner]

    def interval(self, one: View) -> tuple[int, int]:
        """(slots, channels) of a solution interval."""
        job, s = self.job, one.sets[0]
        cache = s.cache
        dt, blocks = job.dt_min, job.n_chan_sols
        chans = int(np.ceil(cache.n_chan / (blocks or 1)))
        if job.kind == "DI" and (dt is None or blocks is None):
            slots, found = self.automatic(one)
            chans = chans if blocks else found
            dt = dt if dt is not None else slots * cache.interval / MINUTE
        slots = max(1, round(dt * MINUTE / cache.interval))
        return slots, chans

    def automatic(self, one: View) -> tuple[int, int]:
        """(slots, channels) from the signal of the model against the noise of the data.

        The noise is the scatter of the cross hands, where the sky is all but empty.
        """
        s, copy = one.sets[0], one.copies[0]
        middle = s.shape[0] // 2
        part = slice(middle, middle + 1)
        used = s.weight[part] > 0
        if not used.any():
            return 1, s.cache.n_chan
        data, model = copy.read("DATA", part)[used], copy.read(PREDICT, part)[used]
        noise = 1.4826 * np.sqrt(2) * np.median(np.abs(data[:, 1].real))
        return automatic_intervals(
            float(np.abs(model[:, 0]).mean()), float(noise), s.cache.n_chan, s.shape[0]
        )

    def gauge(self, table: GainTable) -> GainTable:
        """Natural unitary of full Jones matrices; amplitudes flat over the stations."""
        job = self.job
        gains = table.gains.copy()
        factor = station_factor(np.asarray(table.ant_pos))
        unitary = [np.eye(2, dtype=complex)] * gains.shape[1]
        for t in range(gains.shape[0]):
            for block in range(gains.shape[1]):
                cell, flag = gains[t, block], table.flag[t, block].any(axis=-1)
                if job.kind == "DI":
                    good = ~flag[:, 0]
                    unitary[block] = natural_unitary(cell[:, 0], good * 1.0, unitary[block])
                    turned = cell[:, 0].reshape(-1, 2, 2) @ unitary[block]
                    cell[good, 0] = turned.reshape(-1, 4)[good]
                if job.kind == "DD" or job.tie_amplitudes:
                    _flatten(cell, flag, factor)
        return replace(table, gains=gains)

    # -- results ---------------------------------------------------------------------------------

    def key(self, s: MSData) -> str:
        """Key of everything that decides this measurement set's gains."""
        job, native = self.job, self.native
        names = [*job.pre_apply, *(job.model_gains.names if job.model_gains else ())]
        used = [solutions.load_solution(native.solsdir, s.cache.name, n).gains for n in names]
        clusters = [native.workdir / job.clusters] if job.clusters else []
        values = asdict(job) | {"clusters": None}
        values["vis"]["ms"] = [Path(ms).name for ms in job.vis.ms]
        versions = {name: tool.version for name, tool in self.engine.tools.items()}
        return digest(self.program, versions, values, s.reader.content_key(),
                      *self.model.arrays, *used, *clusters)

    def kept(self, s: MSData, key: str):
        """What an earlier, interrupted solve left for this measurement set, if it still fits."""
        note = solve_note(self.native.solsdir, s.cache.name, self.job.name)
        try:
            record = json.loads(note.read_text())
        except (OSError, ValueError):
            return None
        paths = [note.parent / name for name in record["files"]]
        if record["key"] != key or not all(path.exists() for path in paths):
            return None
        return record["figures"], paths

    def save(self, s: MSData, table: GainTable, key: str, weights: SolverWeights | None,
             more: dict):
        """Write solutions, weights and a note of them: (figures, paths).

        more : figures besides the share of flagged gains
        """
        job, cache, solsdir = self.job, s.cache, self.native.solsdir
        paths = solutions.save_solution(table, solsdir, cache.name, job.name)
        figures = {"flagged": float(table.flag.mean())} | more
        if weights is not None:
            paths.append(save_weights(solsdir, cache.name, job.name, weights))
        note = solve_note(solsdir, cache.name, job.name)
        record = {"key": key, "figures": figures, "files": [path.name for path in paths]}
        atomic_write_json(note, record)
        share = figures.get("residual_share")
        left = f", residual {share:.3g} of the data" if share is not None else ""
        self.monitor.message(
            f"{job.name} {cache.name}: {table.gains.shape[0]} x {table.gains.shape[1]} intervals "
            f"of {len(self.directions)} direction(s){left}"
        )
        return figures, paths


def _flatten(cell: np.ndarray, flag: np.ndarray, factor: np.ndarray) -> None:
    """Divide mean amplitude and trend over the stations out of gains (ant, dir, corr), in place."""
    size = np.sqrt((np.abs(cell) ** 2).sum(axis=-1) / (2 if cell.shape[-1] == 4 else 1))
    for d in range(cell.shape[1]):
        good = ~flag[:, d] & (size[:, d] > 0)
        if good.any():
            log = np.log(np.maximum(size[:, d], 1e-300))[:, None]
            cell[good, d] /= np.exp(amplitude_trend(log, factor, good))[good]


def summary(figures: list[dict]) -> dict:
    """Figures of all measurement sets together: means."""
    names = {name for figure in figures for name in figure}
    means = {n: float(np.mean([f[n] for f in figures if n in f])) for n in sorted(names)}
    return means | {"sets": len(figures)}
