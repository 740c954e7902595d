"""Direction-dependent scalar or diagonal gains, interval after interval.

The parts: statistics.py (what the data say), als.py (cold start), polish.py (fit with priors),
filter.py and smoother.py (time), tuning.py (hyper-parameters), unwrap.py (branches).  The equations
are in docs/solver.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Executor

import numpy as np

from ddfpipe.calibration import priors, tuning
from ddfpipe.calibration.als import baseline_lookup
from ddfpipe.calibration.filter import Array, FilterChain, IntervalResult
from ddfpipe.calibration.free_fit import INTERVALS, weight_factor
from ddfpipe.calibration.gains import GainTable, nearest_interval
from ddfpipe.calibration.options import SolverOptions
from ddfpipe.calibration.shortening import Length, Samples, fitting_length
from ddfpipe.calibration.statistics import BlockStatistics, block_statistics
from ddfpipe.errors import SolveError

REFERENCE_TIME = 30.0
"""Correlation time in s times cov_q at which the choice of the correlation time begins."""


class DirectionalSolver:
    """Gains of all directions, fed one time interval after another, in time order.

    ant1, ant2: (n_bl,) station indices; autocorrelations are passed over.
    n_ant: number of stations.  ant_pos: (n_ant, 3) m.
    directions: (n_dir, 2) l, m in rad.  freq_edges: (n_blocks, 2) Hz.
    start: None, a GainTable (its last interval's phases before the first data, errors if known),
        or complex gains (n_ant, n_dir) or (n_blocks, n_ant, n_dir): starting point and prior mean.
    executor: thread pool; the results are the same to the bit with and without.
    Raises SolveError for shapes that disagree.
    """

    def __init__(self, *, ant1: np.ndarray, ant2: np.ndarray, n_ant: int, ant_pos: np.ndarray,
                 directions: np.ndarray, freq_edges: np.ndarray,
                 options: SolverOptions | None = None,
                 start: GainTable | np.ndarray | None = None,
                 executor: Executor | None = None) -> None:
        self.options = options or SolverOptions()
        ant1, ant2 = np.asarray(ant1, np.int64), np.asarray(ant2, np.int64)
        directions = np.asarray(directions, np.float64).reshape(-1, 2)
        if np.shape(ant_pos) != (n_ant, 3):
            raise SolveError(f"solver: positions have shape {np.shape(ant_pos)}, but there are "
                             f"{n_ant} stations")
        self.array = Array(ant1, ant2, baseline_lookup(ant1, ant2, n_ant),
                           priors.station_factor(np.asarray(ant_pos)), directions, ant1 != ant2)
        self.freq_edges = np.asarray(freq_edges, np.float64).reshape(-1, 2)
        self.n_hand = 2 if self.options.mode == "Diag" else 1
        self.executor = executor
        self._start = self._starts(start)
        self._waiting: list[tuple[list[BlockStatistics], np.ndarray]] = []
        self._chains: list[FilterChain] | None = None
        self._tuned: list[tuning.Tuned] = []
        self._last_edge: float | None = None
        self._factor: list[np.ndarray] | None = None
        self._given = np.zeros((len(self._start), len(ant1)))  # Σ w of what waits

    def _starts(self, start: GainTable | np.ndarray | None) -> list:
        """(phases, errors) of each chain (block-major, then hand), or Nones."""
        n_block = len(self.freq_edges)
        if start is None:
            return [None] * (n_block * self.n_hand)
        shape = (n_block, self.array.n_ant, len(self.array.directions), self.n_hand)
        if isinstance(start, GainTable):
            chan = nearest_interval(start.freq_edges, self.freq_edges.mean(axis=1))
            gains, flag = start.gains[0, chan], start.flag[0, chan]
            hands = [0, -1][:self.n_hand]
            error = np.zeros(gains.shape) if start.error is None else start.error[0, chan]
            error = np.where(flag, np.nan, error / np.maximum(np.abs(gains), 1e-6))
            gains, error = gains[..., hands], error[..., hands]
        else:
            gains = np.asarray(start)
            gains = np.broadcast_to(gains[..., None], shape)
            error = np.zeros(shape)
        if gains.shape != shape:
            raise SolveError(f"solver: starting gains have shape {gains.shape}, needed is {shape} "
                             "(chan, ant, dir, hand); they belong to other stations or directions")
        return [(np.angle(gains[b, ..., h]), error[b, ..., h])
                for b in range(n_block) for h in range(self.n_hand)]

    def add_interval(self, *, time_edge: Sequence[float], model: np.ndarray, data: np.ndarray,
                     weight: np.ndarray, chan_block: np.ndarray) -> None:
        """Build the statistics of one interval and filter it.

        time_edge: (start, end) in s; intervals come in time order.
        model: (n_dir, nt, n_bl, n_chan) complex64, the predicted visibilities of each direction
            with everything known in them (mode "Diag": may have a last axis of 2 hands).
        data, weight: (nt, n_bl, n_chan) complex64 and float32; mode "Diag": (..., 2), XX and YY.
            Weights are inverse variances 1 / <|noise|²> on an absolute scale, zero where flagged.
        chan_block: (n_chan,) int, frequency block of each channel; negative: channel not used.
        A sample belongs to the interval that holds its centre, so nt may differ between intervals.
        The first `tune_intervals` (three with known hyper-parameters) wait for the choice of
        hyper-parameters, and for what they tell of the weights (free_fit.py).
        """
        edge = np.asarray(time_edge, np.float64)
        if edge.shape != (2,) or (self._last_edge is not None and edge[0] < self._last_edge):
            raise SolveError(f"solver: interval {edge} does not follow the one before; intervals "
                             "must be given in time order")
        if len(model) != len(self.array.directions):
            raise SolveError(f"solver: the model has {len(model)} directions, the solver "
                             f"{len(self.array.directions)}")
        self._last_edge = edge[0]
        stats = []
        for block in range(len(self.freq_edges)):
            channels = np.flatnonzero(np.asarray(chan_block) == block)
            for hand in range(self.n_hand):
                stats.append(self._statistics(model, data, weight, channels, hand, len(stats)))
        if self._chains is None:
            self._waiting.append((stats, edge))
            if len(self._waiting) >= self._needed():
                self._begin()
        else:
            self._step(stats, edge)

    def _statistics(self, model: np.ndarray, data: np.ndarray, weight: np.ndarray,
                    channels: np.ndarray, hand: int, number: int) -> BlockStatistics:
        """Of chain `number`, with the factors on its weights once they are known."""
        if self.n_hand == 2:
            model = model[..., hand] if model.ndim == 5 else model
            data = data[..., hand]
            weight = weight[..., hand] if weight.ndim == 4 else weight
        if self._factor is None:
            self._given[number] += weight[:, :, channels].sum(axis=(0, 2))
        else:
            weight = weight * self._factor[number].astype(np.float32)[None, :, None]
        return block_statistics(model, data, weight, channels, self.executor)

    def _needed(self) -> int:
        tune = self.options.tune_intervals if self.options.hyper is None else 0
        return max(tune, INTERVALS)

    def fitting_length(self, samples: Samples, dt: float) -> Length:
        """Length of intervals, s, up to dt, that suits some first samples; see shortening.py.

        samples: of the frequency block in the middle of the band and one hand alone.
        """
        start = self._start[(len(self.freq_edges) // 2) * self.n_hand]
        return fitting_length(samples, dt, self.array, self.options,
                              self.options.hyper or self._default_hyper(), start)

    def _default_hyper(self) -> priors.Hyperparameters:
        return priors.Hyperparameters(correlation_time=REFERENCE_TIME / self.options.cov_q)

    def _begin(self) -> None:
        """Weigh baselines, choose the hyper-parameters, make the chains, filter what waits.

        One choice serves all blocks and hands: it is made on the block in the middle of the band.
        """
        self._factor = [
            weight_factor([stats[k] for stats, _ in self._waiting], self._given[k],
                          self.array.ant1, self.array.ant2, self.array.n_ant)
            for k in range(len(self._start))]
        self._waiting = [([s.scaled(f) for s, f in zip(stats, self._factor, strict=True)], edge)
                         for stats, edge in self._waiting]
        hyper = self.options.hyper
        if hyper is None:
            hyper = self._default_hyper()
            if self.options.tune_intervals > 0:
                middle = (len(self.freq_edges) // 2) * self.n_hand
                blocks = [(stats[middle], edge) for stats, edge in self._waiting]
                self._tuned.append(tuning.choose(blocks, self.array, self.options, hyper,
                                                 self.executor))
                hyper = self._tuned[0].hyper
        self.hyper = hyper
        self._chains = [FilterChain(self.array, self.options, hyper, start=start)
                        for start in self._start]
        for stats, edge in self._waiting:
            self._step(stats, edge)
        self._waiting = []

    def _step(self, stats: list[BlockStatistics], edge: np.ndarray) -> None:
        run = map if self.executor is None else self.executor.map
        list(run(lambda pair: pair[0].step(pair[1], edge),
                 list(zip(self._chains, stats, strict=True))))

    def finish(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, dict]:
        """(gains, error, flag, diagnostics) after the backward pass.

        gains: (n_time, n_chan, n_ant, n_dir, n_hand) complex128; error: `GainTable.error`; flag:
        True for stations without data in that interval, whose gains are the filter's prediction.
        diagnostics: "time_edges" (n_time, 2); "chi2", "count", "sweeps", "restarted" (n_time,
        n_chan, n_hand), χ² before smoothing, in the weights as given; "baseline_chi2",
        "baseline_count" (n_time, n_chan, n_bl, n_hand), the same by baseline, for imaging weights;
        "weight_factor" (n_chan, n_bl, n_hand), what the weights were multiplied by (free_fit.py);
        "flux_factor" (n_time, n_chan, n_dir, n_hand), the square of the mean amplitude divided
        out (1: the model had the right flux); "hyperparameters",
        `Hyperparameters`; "tuning", trials and held-out χ² per sample.
        Raises SolveError when no interval was given.
        """
        if self._chains is None:
            if not self._waiting:
                raise SolveError("no interval was given to the solver; check that the measurement "
                                 "set holds data in the selected uv and time range")
            self._begin()
        results = [chain.results() for chain in self._chains]
        n_block, n_hand = len(self.freq_edges), self.n_hand

        def collect(value) -> np.ndarray:
            """(time, block, hand, ...) of one figure of every interval."""
            rows = np.array([[value(r) for r in chain] for chain in results])
            rows = rows.reshape((n_block, n_hand) + rows.shape[1:])
            return np.moveaxis(rows, 2, 0)

        gains = np.moveaxis(collect(self._gain), 2, -1)
        error = np.moveaxis(collect(lambda r: r.error), 2, -1) * np.abs(gains)
        flag = np.moveaxis(collect(lambda r: r.flag), 2, -1)[:, :, :, None, :]
        factor = np.moveaxis(np.reshape(self._factor, (n_block, n_hand, -1)), 1, -1)
        baseline_chi2 = np.moveaxis(collect(lambda r: r.baseline_chi2), 2, -1) / factor
        tuned = self._tuned[0] if self._tuned else None
        diagnostics = {
            "time_edges": np.array([r.edge for r in results[0]]),
            "chi2": baseline_chi2.sum(axis=2), "count": collect(lambda r: r.count),
            "sweeps": collect(lambda r: r.sweeps), "restarted": collect(lambda r: r.restarted),
            "baseline_chi2": baseline_chi2.astype(np.float32), "weight_factor": factor,
            "baseline_count": np.moveaxis(collect(lambda r: r.baseline_count), 2, -1),
            "flux_factor": np.moveaxis(np.exp(2 * collect(lambda r: r.amp_mean)), 2, -1),
            "hyperparameters": self.hyper,
            "tuning": {"trials": tuned.trials, "held_out_chi2": tuned.score} if tuned else None}
        return gains, error, np.broadcast_to(flag, gains.shape).copy(), diagnostics

    def _gain(self, result: IntervalResult) -> np.ndarray:
        """Complex gains of one interval, (n_ant, n_dir), under the amplitude options."""
        log_amp = result.log_amp
        if self.options.amplitude_mean == "one":
            log_amp = log_amp - result.amp_mean
        elif self.options.amplitude_mean == "flat":
            log_amp = log_amp - priors.amplitude_trend(log_amp, self.array.factor, ~result.flag)
        if self.options.phase_only:
            log_amp = np.zeros(log_amp.shape)
        return np.exp(log_amp + 1j * result.phase)
