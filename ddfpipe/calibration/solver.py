"""Direction-dependent scalar gains, interval after interval."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Executor

import numpy as np

from ddfpipe.calibration.als import baseline_lookup, solve_complex
from ddfpipe.calibration.gains import GainTable, nearest_interval
from ddfpipe.calibration.options import SolverOptions
from ddfpipe.calibration.statistics import block_statistics, chi_squared
from ddfpipe.errors import SolveError


class DirectionalSolver:
    """Streaming solver: complex Gauss-Seidel sweeps, cold first and warm afterwards."""

    def __init__(self, *, ant1: np.ndarray, ant2: np.ndarray, n_ant: int, ant_pos: np.ndarray,
                 directions: np.ndarray, freq_edges: np.ndarray,
                 options: SolverOptions | None = None,
                 start: GainTable | np.ndarray | None = None,
                 executor: Executor | None = None) -> None:
        self.options = options or SolverOptions()
        self.ant1, self.ant2 = np.asarray(ant1, np.int64), np.asarray(ant2, np.int64)
        self.lookup = baseline_lookup(self.ant1, self.ant2, n_ant)
        self.cross = self.ant1 != self.ant2
        self.n_ant, self.n_dir = n_ant, len(directions)
        self.freq_edges = np.asarray(freq_edges, np.float64).reshape(-1, 2)
        self.executor = executor
        n_block = len(self.freq_edges)
        self.state = np.ones((n_block, n_ant, self.n_dir), np.complex128)
        self.cold = start is None
        if isinstance(start, GainTable):
            chan = nearest_interval(start.freq_edges, self.freq_edges.mean(axis=1))
            self.state = start.gains[0, chan, :, :, 0].astype(np.complex128)
        elif start is not None:
            self.state = np.array(np.broadcast_to(start, self.state.shape), np.complex128)
        self.rows: list[dict] = []

    def add_interval(self, *, time_edge: Sequence[float], model: np.ndarray, data: np.ndarray,
                     weight: np.ndarray, chan_block: np.ndarray) -> None:
        """Build the statistics of one interval and solve it."""
        n_block = len(self.freq_edges)
        row = {"edge": np.asarray(time_edge, float), "gains": self.state.copy(),
               "flag": np.zeros((n_block, self.n_ant), bool), "chi2": np.zeros(n_block),
               "count": np.zeros(n_block, int), "sweeps": np.zeros(n_block, int)}
        for block in range(n_block):
            stats = block_statistics(model, data, weight, np.flatnonzero(chan_block == block),
                                     self.executor)
            limit = self.options.max_sweeps if self.cold else self.options.n_iter
            gains, row["sweeps"][block] = solve_complex(stats, self.lookup, self.state[block],
                                                        max_sweeps=limit,
                                                        tolerance=self.options.tolerance)
            seen = np.zeros(self.n_ant, np.int64)
            np.add.at(seen, self.ant1[self.cross], stats.count[self.cross])
            np.add.at(seen, self.ant2[self.cross], stats.count[self.cross])
            row["flag"][block] = seen == 0
            row["chi2"][block] = chi_squared(stats, gains, self.ant1, self.ant2)[self.cross].sum()
            row["count"][block] = stats.count[self.cross].sum()
            row["gains"][block] = self.state[block] = gains
        self.cold = self.cold and not row["count"].any()
        self.rows.append(row)

    def finish(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, dict]:
        """(gains (n_time, n_chan, n_ant, n_dir, 1), error, flag, diagnostics)."""
        if not self.rows:
            raise SolveError("no interval was given to the solver")
        stack = {key: np.stack([row[key] for row in self.rows]) for key in self.rows[0]}
        gains = stack["gains"][..., None]
        flag = np.broadcast_to(stack["flag"][..., None, None], gains.shape).copy()
        error = np.full(gains.shape, np.nan)
        return gains, error, flag, {"time_edges": stack["edge"], "chi2": stack["chi2"],
                                    "count": stack["count"], "sweeps": stack["sweeps"]}
