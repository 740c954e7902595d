"""What a run will take before it is started: `pipeline.py plan --estimate`, and the first checks.

Costs are those of our own engine (`ddfpipe.pipeline.costs`); of stages of other programs memory and
disk are guessed and the time is not (`ddfpipe.pipeline.externalcosts`).  Figures are those of the
machine of docs/performance.md: another may take half or twice as much, which the finished stages of
the directory tell.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ddfpipe.engines.base import SolveJob
from ddfpipe.errors import ConfigError, DataError
from ddfpipe.naming import CLUSTERS
from ddfpipe.pipeline.costs import Cost, World
from ddfpipe.pipeline.decisions import Decision
from ddfpipe.pipeline.engines import NATIVE, engine_of
from ddfpipe.pipeline.jobcosts import costs_of
from ddfpipe.pipeline.state import RunState
from ddfpipe.report.progress import duration
from ddfpipe.report.table import table

HOUR = 3600.0
FACTORS = (0.3, 3.0)
"""Least and largest factor that finished stages give."""
DOUBT_S = 30.0
"""CPU seconds that have to be measured before they count as much as the unit costs: a first stage
also compiles."""
GUESS = ("figures are those of the machine of docs/performance.md; another may take half or twice "
         "as much")


@dataclass(frozen=True)
class Row:
    """A stage of the plan.

    cost: None for what is not to do.  ours: whether our own engine does it; else the cost has no
    time.
    """

    decision: Decision
    cost: Cost | None
    threads: int
    beyond: bool = False
    ours: bool = True

    @property
    def to_do(self) -> bool:
        """Whether the next start runs it."""
        return not (self.decision.done or self.beyond)

    @property
    def wall_s(self) -> float:
        """Seconds on the threads that are configured."""
        return self.cost.wall_s(self.threads) if self.cost else 0.0


@dataclass(frozen=True)
class Estimate:
    """Costs of the stages of a plan.

    factor: that of the CPU time of finished stages over their estimate; None without any.
    measured: number of these stages.
    """

    rows: tuple[Row, ...]
    factor: float | None = None
    measured: int = 0

    @property
    def to_do(self) -> list[Row]:
        """Rows to do."""
        return [row for row in self.rows if row.to_do]

    @property
    def counted(self) -> list[Row]:
        """Rows to do whose time is known."""
        return [row for row in self.to_do if row.ours]

    @property
    def cpu_s(self) -> float:
        """CPU seconds of all that is to do."""
        return sum(row.cost.cpu_s for row in self.counted)

    @property
    def wall_s(self) -> float:
        """Seconds of all that is to do, one stage after another."""
        return sum(row.wall_s for row in self.counted)

    @property
    def largest(self) -> Row | None:
        """The stage that takes the most memory where there is room."""
        return max(self.to_do, key=lambda row: row.cost.memory_bytes, default=None)

    @property
    def neediest(self) -> tuple[str, float] | None:
        """The stage that cannot do without the most memory, and bytes; None where nothing is to do.
        """
        row = max(self.to_do, key=lambda row: row.cost.held_bytes, default=None)
        return None if row is None else (row.decision.stage.name, row.cost.held_bytes)

    @property
    def product_bytes(self) -> float:
        """Disk below the working directory."""
        return sum(row.cost.product_bytes for row in self.to_do)

    @property
    def cache_bytes(self) -> float:
        """Disk below the cache directory: caches, and the largest scratch."""
        return sum(row.cost.cache_bytes for row in self.to_do) + max(
            (row.cost.scratch_bytes for row in self.to_do), default=0.0)


def estimate(config: Any, decisions: Sequence[Decision], world: World,
             measured: Mapping[str, float] | None = None, end: str | None = None) -> Estimate:
    """Costs of what `decisions` leave to do.

    measured: CPU seconds of finished stages by name.  end: stage after which the run ends.
    """
    stages = [decision.stage for decision in decisions]
    engines = {s.name: engine_of(config, s.job) for s in stages}
    others = {name: engine for name, engine in engines.items() if engine != NATIVE}
    ours = engines.keys() - others
    done = {d.stage.name for d in decisions if d.done}
    known = {name: cpu for name, cpu in (measured or {}).items() if name in done & ours}
    factor = _factor(costs_of(stages, world, others=others), known) if known else None
    # caches of an earlier start are deleted at the beginning of the next one
    gone = done if config.control.clearcache else set()
    fresh = costs_of(stages, world, gone, others)
    rows, beyond = [], False
    for decision in decisions:
        name, job = decision.stage.name, decision.stage.job
        cost = fresh[name].scaled(factor or 1.0)
        threads = world.solve_threads if isinstance(job, SolveJob) else world.threads
        to_do = not (decision.done or beyond)
        rows.append(Row(decision, cost if to_do else None, max(1, threads), beyond, name in ours))
        beyond = beyond or name == end
    return Estimate(tuple(rows), factor, len(known))


def _factor(costs: Mapping[str, Cost], measured: Mapping[str, float]) -> float:
    expected = sum(costs[name].cpu_s for name in measured)
    ratio = (sum(measured.values()) + DOUBT_S) / (expected + DOUBT_S)
    return min(max(ratio, FACTORS[0]), FACTORS[1])


# ---------------------------------------------------------------------- facts


def world_of(field: Any, memory: float, lenient: bool = False) -> World:
    """Facts of a field (`ddfpipe.pipeline.run.Field`), from a few rows of its measurement sets.

    memory: bytes that the engine may use.  lenient: leave out what cannot be read, for others to
    tell.
    Raises ConfigError without a list of measurement sets, DataError for files that cannot be read;
    neither if lenient.
    """
    from ddfpipe.data.setsize import read_set_size

    config, sets = field.config, {}
    paths = dict.fromkeys(field.small + field.full)
    if not (paths or lenient):
        raise ConfigError("plan --estimate: [data] mslist names no measurement sets, and what a "
                          "run takes depends on their size; give the list")
    for path in paths:
        try:
            sets[path] = read_set_size(field.workdir / path, config.data.drop_international)
        except DataError:
            if not lenient:
                raise
    machine = config.machine
    return World(sets, _directions(field, lenient), machine.NCPU_DDF, machine.NCPU_killms, memory,
                 config.image.imsize, config.image.cellsize)


def _directions(field: Any, lenient: bool) -> int:
    """Directions that were chosen or given; before that, as many as are asked for."""
    name = field.config.image.clusterfile or CLUSTERS
    if (field.workdir / name).exists():
        from ddfpipe.data.clusters import read_clusters

        try:
            return max(1, read_clusters(field.workdir / name).size)
        except DataError:
            if not lenient:
                raise
    return field.config.solutions.ndir


def measured_cpu(workdir: Path, decisions: Sequence[Decision]) -> dict[str, float]:
    """CPU seconds of the stages that are done, from their records."""
    state = RunState(workdir)
    records = (state.read(d.stage.name) for d in decisions if d.done)
    return {record.stage: record.cpu_seconds for record in records if record is not None}


# ---------------------------------------------------------------------- text


def estimate_text(found: Estimate) -> str:
    """Every stage with what it takes and what becomes of it, and the totals."""
    rows, group = [], None
    for row in found.rows:
        stage = row.decision.stage
        part = "" if stage.group == group else stage.group
        group = stage.group
        plan = "after exitafter" if row.beyond else \
            "done" if row.decision.done else f"to do: {row.decision.why}"
        rows.append((part, stage.name, *_cells(row), plan))
    heads = ("part", "stage", "CPU", "wall", "memory", "disk", "plan")
    return "\n".join([table(rows, heads, right=(2, 3, 4, 5)), "", *totals(found)])


def _cells(row: Row) -> tuple[str, str, str, str]:
    if not row.to_do:
        return ("", "", "", "")
    times = (duration(row.cost.cpu_s), duration(row.wall_s)) if row.ours else ("-", "-")
    return (*times, _size(row.cost.memory_bytes), _size(row.cost.disk_bytes))


def _size(size: float) -> str:
    from ddfpipe.data.sizes import rounded_size

    return rounded_size(size)


def totals(found: Estimate) -> list[str]:
    """Sentences of what all stages to do take together."""
    lines = [f"{len(found.to_do)} of {len(found.rows)} stages to do"]
    largest = found.largest
    if largest is not None:
        disk = found.product_bytes + found.cache_bytes
        lines.append(
            f"{found.cpu_s / HOUR:.2g} core-hours, {duration(found.wall_s)} on "
            f"{_threads(found.counted)}; memory up to {_size(largest.cost.memory_bytes)} "
            f"({largest.decision.stage.name}); disk {_size(disk)}: products "
            f"{_size(found.product_bytes)}, caches and scratch {_size(found.cache_bytes)}")
    if len(found.counted) < len(found.to_do):
        lines.append("stages with - are done by other programs ([machine] engine, image_engine, "
                     "solve_engine); their time is not estimated and is in no total, their memory "
                     "and disk are guesses")
    if found.factor is not None:
        lines.append(f"CPU times are {found.factor:.2g} times those of the machine of "
                     f"docs/performance.md, as the {found.measured} finished stages say")
    elif found.counted:
        lines.append(GUESS)
    return lines


def _threads(rows: Sequence[Row]) -> str:
    numbers = sorted({row.threads for row in rows})
    if numbers == [1]:
        return "1 thread"
    return f"{' and '.join(str(number) for number in numbers)} threads"


# ---------------------------------------------------------------------- what is short


def shortages(found: Estimate, memory: int, needed: Mapping[Path, float]) -> list[str]:
    """Sentences on memory and disk that would not suffice, with what to do.

    memory: bytes that can be had.  needed: bytes that go below each folder, see
    `ddfpipe.pipeline.resources`.
    """
    from ddfpipe.data.preflight import check_disks, check_memory

    short = check_memory(*found.neediest, memory) if found.neediest else []
    return [f"WARNING: {problem.text}" for problem in short + check_disks(needed)]
