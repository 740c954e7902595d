"""killMS against ddfpipe: every source behind its own ionosphere, few or more directions.

Forty sources of one field are shared out among 9 directions (both programs) or 25 (ddfpipe, under
its prior over directions).  The error is that of each *source*: facets that are too coarse count.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from . import killms, skyfiles
from .field import Case, Field
from .work import Prepared, Task, our_job, prepare, run_ours

NAME = "killMS"

TASK = Task(
    "killMS", Case(core=24, remote=14, n_dir=40, sources=1, slots=80, channels=10, noise=1.0,
                   brightest=5.0, faintest=0.15, ionosphere_km=15.0, wind=15.0),
    "scalar", slots=4,
)

FEW, MORE = 9, 25

SKIPPED = 8
"""First intervals left out of the errors, in which a filter finds its way."""

GROUPS = (("> 0.8 Jy", 0.8, 99.0), ("0.4-0.8 Jy", 0.4, 0.8), ("0.2-0.4 Jy", 0.2, 0.4))


def share_out(field: Field, count: int) -> tuple[np.ndarray, np.ndarray]:
    """(direction of each source, places (count, 2)): each joins the nearest of the brightest that
    are not too near to each other."""
    sky = field.sky
    lm = np.stack([sky.l, sky.m], axis=1)
    apart = 0.5 * field.case.radius_deg * np.sqrt(np.pi / count) * np.pi / 180
    seeds: list[int] = []
    while len(seeds) < count:
        for s in np.argsort(-sky.flux):
            far = all(np.hypot(*(lm[s] - lm[t])) > apart for t in seeds)
            if far and len(seeds) < count:
                seeds.append(int(s))
        apart *= 0.8
    owner = np.argmin(np.hypot(*(lm[:, None] - lm[seeds]).transpose(2, 0, 1)), axis=1)
    weight = np.bincount(owner, sky.flux, count)
    places = np.stack([np.bincount(owner, sky.flux * x, count) / weight for x in (sky.l, sky.m)],
                      axis=1)
    return owner, places


def source_errors(prepared: Prepared, gains: np.ndarray, owner: np.ndarray) -> dict[str, list]:
    """rms phase error (core, remote) of the sources in each group of flux."""
    field = prepared.field
    truth = field.true_gains(prepared.slots, prepared.channels)[SKIPPED:, ..., 0]
    found = gains[SKIPPED:, ..., 0][:, :, :, owner]
    product = np.exp(1j * np.angle(found * np.conj(truth)))
    turn = product.mean(axis=2, keepdims=True)
    error = np.angle(product * np.conj(turn))
    core = np.arange(error.shape[2]) < field.case.core
    out = {}
    for name, low, high in GROUPS:
        some = (field.sky.flux > low) & (field.sky.flux <= high)
        out[name] = [float(np.sqrt(np.mean(error[:, :, part][:, :, :, some] ** 2)))
                     for part in (core, ~core)]
    return out


def our_name(count: int) -> str:
    """What ddfpipe's rows are called."""
    return f"ddfpipe, {count} directions"


class OurDirections:
    """ddfpipe through `count` directions."""

    def __init__(self, prepared: Prepared, count: int) -> None:
        self.prepared, self.name = prepared, our_name(count)
        self.owner, places = share_out(prepared.field, count)
        self.sky = skyfiles.write_arrays(prepared.field, prepared.folder / f"sky{count}.npz",
                                         places, self.owner)
        job = our_job(prepared, None, self.sky)
        self.first = run_ours(job, prepared.folder)[1]

    def __call__(self) -> dict:
        job = our_job(self.prepared, self.first["hyper"], self.sky)
        cost, record, gains = run_ours(job, self.prepared.folder)
        part = record["cpu"]
        start = part["start"] + cost.cpu - sum(part.values())
        return {"program": self.name, "start": start, "whole": cost.cpu - start,
                "memory": cost.largest, "prior": self.first["cpu"]["solve"] - part["solve"],
                "errors": source_errors(self.prepared, gains, self.owner), "cpu": part,
                "hyper": self.first["hyper"]}


class KillMS:
    """killMS through `FEW` directions."""

    def __init__(self, prepared: Prepared, program: Path, solver: str) -> None:
        self.prepared, self.solver = prepared, solver
        self.name = f"killMS {solver}, {FEW} directions"
        self.program = killms.KillMS(program, prepared.folder)
        self.owner, _ = share_out(prepared.field, FEW)
        self.sky = killms.write_sky(prepared.field, self.owner, prepared.folder / "killms.npy")
        short = replace(prepared.task.case, slots=2 * prepared.task.slots)
        small = prepare(replace(prepared.task, case=short), prepared.folder / "start")
        sky = killms.write_sky(small.field, self.owner, small.folder / "killms.npy")
        self.start = killms.KillMS(program, small.folder).solve(
            small.ms, sky, solver, self._minutes())[0].cpu

    def _minutes(self) -> float:
        task = self.prepared.task
        return task.slots * task.case.interval / 60.0

    def __call__(self) -> dict:
        prepared = self.prepared
        cost, path = self.program.solve(prepared.ms, self.sky, self.solver, self._minutes())
        times = np.array([prepared.field.layout.times[s].mean() for s in prepared.slots])
        gains = killms.read_gains(path, times)
        return {"program": self.name, "start": self.start, "whole": cost.cpu - self.start,
                "memory": cost.largest,
                "errors": source_errors(prepared, gains, self.owner)}


def measure(folder: Path, program: Path, repeats: int) -> list[dict]:
    """Rows of killMS's two solvers and of ddfpipe, in turn; of each the cheapest run.

    killMS's start is a run over two intervals (it fails with one).
    """
    prepared = prepare(TASK, folder)
    runs = [OurDirections(prepared, FEW), OurDirections(prepared, MORE)]
    runs += [KillMS(prepared, program, solver) for solver in killms.SOLVERS]
    rows: dict[str, dict] = {}
    for _ in range(repeats):
        for one in runs:
            row = one()
            if row["program"] not in rows or row["whole"] < rows[row["program"]]["whole"]:
                rows[row["program"]] = row
    unity = np.ones((len(prepared.slots), 1, prepared.field.layout.n_ant, FEW, 1))
    nothing = {"program": "no gains", "start": 0.0, "whole": 0.0, "memory": 0.0,
               "errors": source_errors(prepared, unity, runs[0].owner)}
    return [*rows.values(), nothing]
