"""killMS on a field: sky model, command, cost, gains."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from programcost import Cost, ProgramFailed, run

from ddfpipe.data.killms import read_killms
from ddfpipe.simulate.sky import radec_of

from .field import Field

SOLVERS = {
    "KAFCA": ["--NIterKF=6", "--CovQ=0.1", "--LambdaKF=0.5", "--PowerSmooth=0.0"],
    "CohJones": ["--NIterLM=7", "--LambdaLM=1"],
}
"""Options that ddf-pipeline gives to each."""

COLUMNS = [
    ("Name", "S200"), ("ra", "f8"), ("dec", "f8"), ("Sref", "f8"), ("I", "f8"), ("Q", "f8"),
    ("U", "f8"), ("V", "f8"), ("RefFreq", "f8"), ("alpha", "f8"), ("ESref", "f8"),
    ("Ealpha", "f8"), ("kill", "i8"), ("Cluster", "i8"), ("Type", "i8"), ("Gmin", "f8"),
    ("Gmaj", "f8"), ("Gangle", "f8"), ("Select", "i8"), ("l", "f8"), ("m", "f8"), ("Exclude", "?"),
]
"""Columns of the list of sources that killMS reads, in its order."""


def write_sky(field: Field, owner: np.ndarray, path: Path) -> Path:
    """Known sources with their directions `owner` as killMS's recarray."""
    sky, lay = field.sky, field.layout
    known = np.flatnonzero(~sky.missing)
    out = np.zeros(len(known), COLUMNS)
    out["Name"] = [f"c{d}s{s}".encode() for s, d in zip(known, owner, strict=True)]
    out["ra"], out["dec"] = radec_of(sky.l[known], sky.m[known], lay.ra0, lay.dec0)
    out["I"] = out["Sref"] = sky.flux[known]
    out["RefFreq"] = 144e6
    out["Cluster"], out["kill"], out["Select"] = owner, 1, 1
    out["l"], out["m"] = sky.l[known], sky.m[known]
    np.save(path, out)
    return path


@dataclass(frozen=True)
class KillMS:
    """program: path of kMS.py.  folder: for logs and solutions."""

    program: Path
    folder: Path

    def solve(self, ms: Path, sky: Path, solver: str, minutes: float) -> tuple[Cost, Path]:
        """Solve on one thread with one of SOLVERS; (cost, solutions)."""
        made = self.folder / "solsdir"
        shutil.rmtree(made, ignore_errors=True)
        made.mkdir()
        words = [
            f"--MSName={ms}", f"--SkyModel={sky}", f"--OutSolsName={solver}",
            f"--SolverType={solver}", f"--dt={minutes}", "--PolMode=Scalar", "--NCPU=1",
            "--NChanSols=1", "--InCol=DATA", "--OutCol=DATA", "--UVMinMax=0.01,1000",
            f"--SolsDir={made}", "--DebugPdb=0", "--DoBar=0", *SOLVERS[solver],
        ]
        cost = run([self.program, *words], self.folder / f"killms_{solver}.log", self.folder,
                   {"PATH": f"{self.program.parent}:/usr/bin:/bin"})
        path = made / ms.name / f"killMS.{solver}.sols.npz"
        if not path.exists():  # it ends with 0 whatever happens
            raise ProgramFailed(f"killMS made no solutions; see {self.folder}/killms_{solver}.log")
        return cost, path


def read_gains(path: Path, times: np.ndarray) -> np.ndarray:
    """(time, chan, ant, dir, 1) of the intervals whose centres are `times` (MJD s)."""
    table = read_killms(path)
    index = [int(np.argmin(np.abs(table.times - t))) for t in times]
    return np.asarray(table.gains, np.complex128)[index][..., :1]
