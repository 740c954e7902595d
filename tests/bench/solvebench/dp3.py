"""DP3's ddecal on a field: command, cost, gains."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from programcost import Cost, run

from ddfpipe.data.h5parm import read_h5parm
from ddfpipe.data.killms import NAMES

ALGORITHMS = ("directioniterative", "hybrid", "lbfgs", "directionsolve")


@dataclass(frozen=True)
class Dp3:
    """program: path of DP3.py.  folder: for logs and solutions."""

    program: Path
    folder: Path

    def start_up(self, ms: Path) -> float:
        """CPU s of a run that reads one time and does nothing with it."""
        words = [f"msin={ms}", "msin.ntimes=1", "msout=", "steps=[]", "numthreads=1"]
        return run([self.program, *words], self.folder / "dp3_start.log", self.folder).cpu

    def solve(self, ms: Path, skymodel: Path, algorithm: str, mode: str, slots: int,
              max_iterations: int = 50) -> tuple[Cost, Path]:
        """Solve with one of ALGORITHMS; mode: scalarphase, scalar or diagonal.

        slots: times of an interval; all channels share their gains.
        """
        h5 = self.folder / f"dp3_{algorithm}_{mode}_{max_iterations}.h5"
        h5.unlink(missing_ok=True)
        settings = {
            "msin": ms, "msout": "", "steps": "[ddecal]", "ddecal.sourcedb": skymodel,
            "ddecal.h5parm": h5, "ddecal.mode": mode, "ddecal.solveralgorithm": algorithm,
            "ddecal.solint": slots, "ddecal.nchan": 0, "ddecal.maxiter": max_iterations,
            "numthreads": 1,
        }
        words = [f"{key}={value}" for key, value in settings.items()]
        cost = run([self.program, *words], h5.with_suffix(".log"), self.folder)
        return cost, h5


def read_gains(path: Path, n_dir: int) -> np.ndarray:
    """(time, chan, ant, dir, hand) from DP3's h5parm, directions in the order of their names."""
    table = read_h5parm(path)
    if table.gains.shape[3] != n_dir:
        raise ValueError(f"{path}: {table.gains.shape[3]} directions, {n_dir} expected")
    names = str(table.meta.get(NAMES, "")).split(",")
    order = np.argsort(names) if len(names) == n_dir else np.arange(n_dir)
    return np.asarray(table.gains, np.complex128)[:, :, :, order]
