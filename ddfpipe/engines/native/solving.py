"""Find gains: predict the model direction by direction, stream it through a solver, save tables."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from ...calibration.gains import GainTable
from ...calibration.intervals import solution_intervals
from ...calibration.jones import JonesSolver
from ...calibration.noise_scale import estimate_sigma
from ...calibration.options import SolverOptions
from ...calibration.priors import Hyperparameters
from ...calibration.solver import DirectionalSolver
from ...data import solutions
from ...data.atomic import atomic_write_json
from ...data.clusters import read_clusters
from ...data.model import load_model
from ...errors import SolveError
from ...naming import image_product
from ..base import GainChoice, SolveJob, SolveResult
from .gainfield import GainField, load_gains
from .modelsky import model_predictor
from .operators import briggs
from .parallel import in_threads
from .predictor import Predictor
from .solveintervals import blocks_and_length, chunks, shortened
from .solveweights import residual_weights, save_weights
from .state import digest
from .subtraction import subtractor
from .visibilities import Data, MSData, Scratch, open_data

SUSPICIOUS_CHI2 = 4.0
"""Above this the user is told that the model does not explain the data."""

NOISE_SLOTS, NOISE_RUN = 12, 8
"""Pieces of the observation, and slots a piece, in which the noise is measured."""


@dataclass
class Sky:
    """The model as a solver sees it: facets, and what each holds."""

    predictor: Predictor
    n_dir: int
    directions: np.ndarray
    lm: np.ndarray


class Solve:
    """One solving job on the native engine.

    suspects : what to ask when the model does not explain the data
    """

    suspects = (
        "Do bright sources lie outside the image (imsize)? Is its mask too small (thresholds)?"
    )

    def __init__(self, engine, job: SolveJob, monitor):
        self.engine, self.job, self.monitor = engine, job, monitor

    def run(self) -> SolveResult:
        """Solve every measurement set that has no solution yet; returns what was made."""
        job, engine = self.job, self.engine
        with Scratch(engine.cache_dir / f"ddfpipe.scratch.{job.name}") as scratch:
            data = open_data(
                job.vis, cache_dir=engine.cache_dir, solsdir=engine.solsdir, scratch=scratch,
                weights="spectrum", drop_international=engine.drop_international,
                monitor=self.monitor, uv_down_weight=job.uv_down_weight, n_bands=self._bands(),
                subtractor=subtractor(engine, job.vis.minus, job.decorrelation, self.monitor),
                workdir=engine.workdir,
            )
            self._apply_robust(data)
            sky = self._sky(data)
            figures, products = [], []
            for figure, made in self._solve_all(data, sky):
                figures.append(figure)
                products += made
        summary = _summary(figures)
        if summary["chi2"] > SUSPICIOUS_CHI2:
            self.monitor.message(
                f"{job.name}: WARNING: chi2 is {summary['chi2']:.3g} a sample where 1 is expected: "
                f"the model of {job.model} lacks much of the sky. {self.suspects}"
            )
        return SolveResult(job.name, tuple(products), summary)

    def _solve_all(self, data: Data, sky: Sky):
        """Solve the measurement set in the middle of the band first; its prior and the length of
        its intervals serve the others.

        What is known of the ionosphere beforehand does not depend on the measurement set but for
        the scaling of phases with frequency, and finding it costs more than a solve.
        """
        order = sorted(data.sets, key=lambda s: s.cache.freq.mean())
        first = order[len(order) // 2]
        yield (done := self._solve_set(first, sky, None))
        hyper, length = done[0]["prior"], done[0]["interval_s"]
        if hyper is not None:
            hyper = dict(hyper, freq=float(first.cache.freq.mean()))
        yield from in_threads(
            lambda s: self._solve_set(s, sky, hyper, length), [s for s in order if s is not first],
            threads=self.engine.solve_threads, monitor=self.monitor,
            what=f"solving {self.job.name}",
        )

    # -- model -----------------------------------------------------------------------------------

    def _bands(self) -> int:
        """Bands of the model, so that its spectrum is kept."""
        model = load_model(self.engine.workdir / image_product(self.job.model, "model"))
        return len(model.freq)

    def _sky(self, data: Data) -> Sky:
        job, engine = self.job, self.engine
        predictor = model_predictor(engine, data, job.model, job.clusters, job.decorrelation)
        if not predictor.occupied():
            raise SolveError(
                f"the model of {job.model} is empty: nothing to calibrate on. Look at its mask and "
                "at option masking.thresholds"
            )
        if job.kind == "DI":
            return Sky(predictor, 1, np.array([data.phase_centre]), np.zeros((1, 2)))
        catalogue = read_clusters(engine.workdir / job.clusters)
        directions = np.stack([catalogue.ra, catalogue.dec], axis=1)
        lm = np.stack(catalogue.lm(*data.phase_centre), axis=1)
        return Sky(predictor, len(directions), directions, lm)

    def _apply_robust(self, data: Data) -> None:
        """Briggs weights for the solve, if asked for, scaled to the natural sum of weights."""
        if self.job.robust is None:
            return
        model = load_model(self.engine.workdir / image_product(self.job.model, "model"))
        before = sum(float(s.weight.sum(dtype=np.float64)) for s in data.sets)
        briggs(data, model.grid.nx, model.grid.cell, self.job.robust, self.monitor)
        after = sum(float(s.weight.sum(dtype=np.float64)) for s in data.sets)
        for s in data.sets:
            for part in s.chunks():
                s.weight[part] *= np.float32(before / max(after, 1e-300))

    # -- one measurement set ---------------------------------------------------------------------

    def _solve_set(self, s: MSData, sky: Sky, prior: dict | None, length: float | None = None):
        """Gains of one measurement set: (figures, paths).  An up-to-date solution is kept.

        prior : what another set's figures say of it, with "freq" in Hz; None finds it anew
        length : s, of intervals that may be shortened, as another set has them; None finds it
        """
        job = self.job
        key = self._key(s)
        kept = self._kept(s, key)
        if kept is not None:
            return kept
        gains = self._gain_field(s, sky)
        weights, sigma = self._absolute_weights(s)
        freq_edges, block, dt = blocks_and_length(self, s, sky, gains, sigma)
        solver = self._solver(s, sky, freq_edges, prior)
        if job.shorten:
            dt = length or shortened(self, s, sky, gains, weights, solver, block, dt)
        edges, number = solution_intervals(s.cache.time, s.cache.interval, dt)
        for part, inside in chunks(self, s, sky, number):
            self.monitor.check()
            model = self._model(s, part, sky, gains)
            vis = np.array(s.reader(part) if job.kind != "DD" else s.vis[part])
            weight = weights(part)
            for k in inside:
                slots = np.flatnonzero(number[part] == k)
                rows = slice(slots[0], slots[-1] + 1)
                solver.add_interval(
                    time_edge=edges[k], data=vis[rows], weight=weight[rows], chan_block=block,
                    model=model[:, rows] if job.kind == "DD" else model[0, rows],
                )
        return self._save(s, solver, sky, freq_edges, sigma, key, dt)

    def _key(self, s: MSData) -> str:
        """Key of everything that decides this measurement set's gains."""
        job, engine = self.job, self.engine
        model = load_model(engine.workdir / image_product(job.model, "model"))
        names = [job.evolve_from, *job.pre_apply]
        names += job.model_gains.names if job.model_gains else ()
        used = [
            solutions.load_solution(engine.solsdir, s.cache.name, name).gains
            for name in names if name
        ]
        clusters = [engine.workdir / job.clusters] if job.clusters else []
        # Where things lie must not matter: a directory may be moved between two starts.
        values = asdict(job) | {"clusters": None}
        values["vis"]["ms"] = [Path(ms).name for ms in job.vis.ms]
        return digest(
            values, s.reader.content_key(), *model.arrays, engine.beam_model,
            *used, *clusters,
        )

    def _kept(self, s: MSData, key: str):
        """What an earlier, interrupted solve left for this measurement set, if it still fits."""
        job, solsdir = self.job, self.engine.solsdir
        note = solve_note(solsdir, s.cache.name, job.name)
        try:
            record = json.loads(note.read_text())
        except (OSError, ValueError):
            return None
        paths = [note.parent / name for name in record["files"]]
        if record["key"] != key or not all(p.exists() for p in paths):
            return None
        return record["figures"], paths

    def _gain_field(self, s: MSData, sky: Sky) -> GainField:
        """What corrupts the model before the gains that are solved for: beam and known gains."""
        job, engine = self.job, self.engine
        choice = job.model_gains
        if job.pre_apply:
            choice = GainChoice(job.pre_apply, "AP")
        loaded = load_gains(choice, s.cache, engine.solsdir)
        return GainField(s.cache, sky.predictor.facets, loaded, engine.beam(s.cache.ms_path))

    def _absolute_weights(self, s: MSData):
        """Function of a slice of time to inverse variances, and the noise scale (bl,) behind it.

        Stokes I has half the noise variance of one correlation.
        """
        times = sample_runs(s.cache.time, s.cache.interval, NOISE_SLOTS)
        sigma2, count = np.zeros(s.shape[1]), np.zeros(s.shape[1])
        for part in times:
            weight = np.array(s.weight[part])
            if weight.shape[0] < 2 and weight.shape[2] < 2:
                continue
            sigma = estimate_sigma(
                np.array(s.vis[part]), weight, s.cache.ant1, s.cache.ant2, s.cache.n_ant
            )[0]
            good = np.isfinite(sigma)
            sigma2[good] += sigma[good] ** 2
            count += good
        if not count.any():
            raise SolveError(
                f"{s.cache.name}: the noise cannot be measured, since no two neighbouring samples "
                "are unflagged: check the flags and the uv range"
            )
        sigma2 = np.where(count > 0, sigma2 / np.maximum(count, 1), np.inf)
        factor = 1.0 if self.job.kind == "DD" else 0.5
        scale = (factor / sigma2).astype(np.float32)[None, :, None]
        return (lambda part: s.weight[part] * scale), np.sqrt(sigma2)

    def _solver(self, s: MSData, sky: Sky, freq_edges, prior: dict | None):
        job, cache = self.job, s.cache
        if job.kind == "DI":
            options = SolverOptions(
                solver="CohJones", n_iter=max(job.n_iter, 1),
                amplitude_mean="flat" if job.tie_amplitudes else "free",
            )
            return JonesSolver(
                ant1=cache.ant1, ant2=cache.ant2, n_ant=cache.n_ant, freq_edges=freq_edges,
                options=options, ant_pos=cache.ant_pos,
            )
        options = SolverOptions(
            solver="KAFCA", n_iter=max(job.n_iter, 1), cov_q=job.cov_q, lambda_kf=job.lambda_kf,
            amplitude_mean="flat", hyper=scaled_prior(prior, float(cache.freq.mean())),
        )
        start = None
        if job.evolve_from:
            start = solutions.load_solution(self.engine.solsdir, cache.name, job.evolve_from)
        return DirectionalSolver(
            ant1=cache.ant1, ant2=cache.ant2, n_ant=cache.n_ant, ant_pos=cache.ant_pos,
            directions=sky.lm, freq_edges=freq_edges, options=options, start=start,
        )

    def _model(self, s: MSData, part: slice, sky: Sky, gains: GainField) -> np.ndarray:
        """(dir, time, bl, chan) complex64 visibilities of every direction, known gains applied."""
        predictor = sky.predictor
        out = np.zeros((sky.n_dir, part.stop - part.start, *s.shape[1:]), np.complex64)
        for index in predictor.occupied():
            direction = predictor.facets.facets[index].dir_index if sky.n_dir > 1 else 0
            predictor.add_facet(s.cache, part, index, s.band, gains.stations(index, part),
                                out[direction])
        return out

    # -- results ---------------------------------------------------------------------------------

    def _save(self, s: MSData, solver, sky: Sky, freq_edges, sigma, key: str, dt: float):
        job, cache, solsdir = self.job, s.cache, self.engine.solsdir
        gains, error, flag, facts = solver.finish()
        table = GainTable(
            facts["time_edges"], freq_edges, gains.astype(np.complex64), cache.ant_names,
            sky.directions, error=error.astype(np.float32), flag=flag, ant_pos=cache.ant_pos,
        )
        paths = solutions.save_solution(table, solsdir, cache.name, job.name)
        if job.update_weights:
            weights = residual_weights(cache, facts, freq_edges, sigma)
            paths.append(save_weights(solsdir, cache.name, job.name, weights))
        figures = _figures(facts, flag) | {"interval_s": dt}
        note = solve_note(solsdir, cache.name, job.name)
        record = {"key": key, "figures": figures, "files": [path.name for path in paths]}
        atomic_write_json(note, record)
        self.monitor.message(
            f"{job.name} {cache.name}: {gains.shape[0]} x {gains.shape[1]} intervals of "
            f"{sky.n_dir} direction(s), chi2 {figures['chi2']:.4f} a sample"
        )
        return figures, paths


def scaled_prior(prior: dict | None, freq: float) -> Hyperparameters | None:
    """Hyper-parameters found at prior["freq"] Hz for use at `freq` Hz: phases go with 1/freq."""
    if prior is None:
        return None
    values = {name: value for name, value in prior.items() if name != "freq"}
    values["variance"] *= (prior["freq"] / freq) ** 2
    return Hyperparameters(**values)


def solve_note(solsdir: Path, ms: str, name: str) -> Path:
    """Small record beside a solution that lets an interrupted solve go on with the next set."""
    return Path(solsdir) / ms / f"ddfpipe.{name}.json"


def sample_runs(time: np.ndarray, interval: float, slots: int) -> list[slice]:
    """Up to `slots` slices of neighbouring times, spread over the observation."""
    breaks = np.flatnonzero(np.diff(time) > 1.5 * interval) + 1
    runs = [slice(a, b) for a, b in zip(np.r_[0, breaks], np.r_[breaks, len(time)])]
    pieces = [
        slice(a, min(a + NOISE_RUN, run.stop)) for run in runs
        for a in range(run.start, run.stop, NOISE_RUN)
    ]
    return [pieces[i] for i in np.unique(np.linspace(0, len(pieces) - 1, slots).astype(int))]


def _figures(facts: dict, flag: np.ndarray) -> dict:
    count = np.sum(facts["count"])
    return {
        "chi2": float(np.nansum(facts["chi2"]) / max(count, 1)), "samples": int(count),
        "flagged": float(flag.mean()),
        "prior": asdict(facts["hyperparameters"]) if "hyperparameters" in facts else None,
    }


def _summary(figures: list[dict]) -> dict:
    """Figures of all measurement sets together."""
    samples = sum(f["samples"] for f in figures)
    chi2 = sum(f["chi2"] * f["samples"] for f in figures) / max(samples, 1)
    return {
        "chi2": chi2, "samples": samples,
        "flagged": float(np.mean([f["flagged"] for f in figures])), "sets": len(figures),
        "interval_s": min(f["interval_s"] for f in figures),
    }
