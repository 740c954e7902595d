"""One case of the benchmark: all programs in turn on the same measurement set."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
from checkout import own_modules
from programcost import run

from ddfpipe.data.h5parm import read_h5parm

from . import dp3, skyfiles
from .compare import Quality, judge
from .field import Case, Field, make_field, write_ms

HANDS = {"scalarphase": "Scalar", "scalar": "Scalar", "diagonal": "Diag"}
"""DP3's name of the kind of gains, ours."""


@dataclass
class Row:
    """What a program needed and reached.

    start: CPU s of start-up (ours: imports and loading compiled code; DP3: a run over one time
    that does nothing).  whole: all CPU s but the start.  solve: without reading and predicting.
    predict: CPU s, where the program tells.  memory: bytes.  runs: CPU s of every run, whole.
    """

    program: str
    start: float
    whole: float
    solve: float
    predict: float
    memory: float
    quality: Quality
    runs: list[float] = field(default_factory=list)
    notes: dict = field(default_factory=dict)

    def plain(self) -> dict:
        """As numbers and lists."""
        out = asdict(self)
        out["quality"]["phase"] = self.quality.phase.tolist()
        return out


@dataclass(frozen=True)
class Task:
    """A field, how it is to be solved, and by which algorithms of DP3.

    mode: scalarphase, scalar or diagonal.  slots: times of an interval.
    """

    name: str
    case: Case
    mode: str = "scalar"
    slots: int = 8
    algorithms: tuple[str, ...] = ("directioniterative",)


@dataclass
class Prepared:
    """A simulated field on disk."""

    task: Task
    field: Field
    ms: Path
    folder: Path

    @property
    def slots(self) -> list[slice]:
        """Times of each interval."""
        n = self.task.case.slots
        return [slice(k, min(k + self.task.slots, n)) for k in range(0, n, self.task.slots)]

    @property
    def channels(self) -> list[slice]:
        """All channels share their gains."""
        return [slice(0, self.task.case.channels)]

    def judge(self, gains: np.ndarray) -> Quality:
        """Quality of gains (time, chan, ant, dir, hand)."""
        return judge(self.field, gains, self.slots, self.channels)


def prepare(task: Task, folder: Path) -> Prepared:
    """Simulate the field of a task into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    made = make_field(task.case)
    ms = write_ms(made, folder / "field.ms")
    skyfiles.write_arrays(made, folder / "sky.npz")
    skyfiles.write_skymodel(made, folder / "sky.skymodel")
    return Prepared(task, made, ms, folder)


def our_job(prepared: Prepared, hyper: dict | None, sky: Path | None = None, **options) -> dict:
    """Job file contents for ours.py, with the settings of the native engine."""
    task = prepared.task
    return {
        "ms": str(prepared.ms), "sky": str(sky or prepared.folder / "sky.npz"),
        "out": str(prepared.folder / "ours.h5"), "slots": task.slots,
        "interval": task.case.interval, "channel_hz": task.case.channel_khz * 1e3, "hyper": hyper,
        "options": {"mode": HANDS[task.mode], "phase_only": task.mode == "scalarphase",
                    "amplitude_mean": "flat", **options},
    }


def run_ours(job: dict, folder: Path):
    """(Cost of the process, its record, gains)."""
    file = folder / "job.json"
    file.write_text(json.dumps(job))
    cost = run([sys.executable, "-m", "solvebench.ours", str(file)], folder / "ours.log", folder,
               own_modules())
    record = json.loads(Path(job["out"]).with_suffix(".json").read_text())
    return cost, record, np.asarray(read_h5parm(job["out"]).gains, np.complex128)


class Ours:
    """ddfpipe's rows: the prior is chosen once, then serves every run, as for an observation."""

    name = "ddfpipe"

    def __init__(self, prepared: Prepared, **options) -> None:
        self.prepared, self.options = prepared, options
        cost, record, _ = run_ours(our_job(prepared, None, **options), prepared.folder)
        self.hyper, self.first = record["hyper"], record["cpu"]["solve"]

    def __call__(self) -> Row:
        """One run."""
        job = our_job(self.prepared, self.hyper, **self.options)
        cost, record, gains = run_ours(job, self.prepared.folder)
        start = record["cpu"]["start"] + cost.cpu - sum(record["cpu"].values())
        whole = cost.cpu - start
        part = record["cpu"]
        notes = {"hyper": self.hyper, "choice of the prior": self.first - part["solve"],
                 "sweeps": record["sweeps"], "restarted": record["restarted"], "cpu": part}
        return Row(self.name, start, whole, part["solve"], part["predict"], cost.largest,
                   self.prepared.judge(gains), [whole], notes)


class Peer:
    """Rows of one of DP3's algorithms."""

    def __init__(self, prepared: Prepared, program: dp3.Dp3, algorithm: str) -> None:
        self.prepared, self.program, self.algorithm = prepared, program, algorithm
        self.name = f"DP3 {algorithm}"
        self.start = program.start_up(prepared.ms)
        self.base = self._run(1)[0].cpu  # start, reading, predicting, one iteration

    def _run(self, iterations: int):
        task = self.prepared.task
        return self.program.solve(self.prepared.ms, self.prepared.folder / "sky.skymodel",
                                  self.algorithm, task.mode, task.slots, iterations)

    def __call__(self) -> Row:
        """One run."""
        cost, path = self._run(50)
        gains = dp3.read_gains(path, self.prepared.task.case.n_dir)
        return Row(self.name, self.start, cost.cpu - self.start, cost.cpu - self.base,
                   self.base - self.start, cost.largest, self.prepared.judge(gains),
                   [cost.cpu - self.start], {"one iteration, whole": self.base})


def alternate(programs: list, repeats: int) -> list[Row]:
    """Run the programs in turn, `repeats` times; of each the run with the least CPU time.

    Other work on a machine only ever adds to CPU time, so the least is nearest to the truth.
    """
    best: dict[str, Row] = {}
    runs: dict[str, list[float]] = {}
    for _ in range(repeats):
        for program in programs:
            row = program()
            runs.setdefault(row.program, []).append(row.whole)
            if row.program not in best or row.whole < best[row.program].whole:
                best[row.program] = row
    for name, row in best.items():
        row.runs = runs[name]
    return list(best.values())
