"""What a run will take before it is started: `pipeline.py plan --estimate`.

Costs are those of our own engine (`ddfpipe.pipeline.costs`); stages of other programs are not
estimated.  Figures are those of the machine of docs/performance.md: another may take half or twice
as much, which the finished stages of the directory tell.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ddfpipe.engines.base import SolveJob
from ddfpipe.errors import ConfigError
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
    """A stage of the plan.  cost: None for what other programs do and for what is not to do."""

    decision: Decision
    cost: Cost | None
    threads: int
    beyond: bool = False

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
    def counted(self) -> list[Row]:
        """Rows to do whose cost is known."""
        return [row for row in self.rows if row.to_do and row.cost is not None]

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
        """The stage that needs the most memory."""
        return max(self.counted, key=lambda row: row.cost.memory_bytes, default=None)

    @property
    def product_bytes(self) -> float:
        """Disk below the working directory."""
        return sum(row.cost.product_bytes for row in self.counted)

    @property
    def cache_bytes(self) -> float:
        """Disk below the cache directory: caches, and the largest scratch."""
        return sum(row.cost.cache_bytes for row in self.counted) + max(
            (row.cost.scratch_bytes for row in self.counted), default=0.0)


def estimate(config: Any, decisions: Sequence[Decision], world: World,
             measured: Mapping[str, float] | None = None, end: str | None = None) -> Estimate:
    """Costs of what `decisions` leave to do.

    measured: CPU seconds of finished stages by name.  end: stage after which the run ends.
    """
    stages = [decision.stage for decision in decisions]
    ours = {s.name for s in stages if engine_of(config, s.job) == NATIVE}
    done = {d.stage.name for d in decisions if d.done}
    known = {name: cpu for name, cpu in (measured or {}).items() if name in done & ours}
    factor = _factor(costs_of(stages, world), known) if known else None
    # caches of an earlier start are deleted at the beginning of the next one
    gone = done if config.control.clearcache else set()
    fresh = costs_of(stages, world, gone)
    rows, beyond = [], False
    for decision in decisions:
        name, job = decision.stage.name, decision.stage.job
        cost = fresh[name].scaled(factor or 1.0) if name in ours else None
        threads = world.solve_threads if isinstance(job, SolveJob) else world.threads
        to_do = not (decision.done or beyond)
        rows.append(Row(decision, cost if to_do else None, max(1, threads), beyond))
        beyond = beyond or name == end
    return Estimate(tuple(rows), factor, len(known))


def _factor(costs: Mapping[str, Cost], measured: Mapping[str, float]) -> float:
    expected = sum(costs[name].cpu_s for name in measured)
    ratio = (sum(measured.values()) + DOUBT_S) / (expected + DOUBT_S)
    return min(max(ratio, FACTORS[0]), FACTORS[1])


# ---------------------------------------------------------------------- facts


def world_of(field: Any, memory: float) -> World:
    """Facts of a field (`ddfpipe.pipeline.run.Field`), from a few rows of its measurement sets.

    memory: bytes that the engine may use.
    Raises ConfigError without a list of measurement sets, DataError for sets that cannot be read.
    """
    from ddfpipe.data.setsize import read_set_size

    config = field.config
    paths = dict.fromkeys(field.small + field.full)
    if not paths:
        raise ConfigError("plan --estimate: [data] mslist names no measurement sets, and what a "
                          "run takes depends on their size; give the list")
    sets = {path: read_set_size(field.workdir / path, config.data.drop_international)
            for path in paths}
    machine = config.machine
    return World(sets, _directions(field), machine.NCPU_DDF, machine.NCPU_killms, memory,
                 config.image.imsize, config.image.cellsize)


def _directions(field: Any) -> int:
    """Directions that were chosen or given; before that, as many as are asked for."""
    name = field.config.image.clusterfile or CLUSTERS
    if (field.workdir / name).exists():
        from ddfpipe.data.clusters import read_clusters

        return max(1, read_clusters(field.workdir / name).size)
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
    if row.cost is None:
        return ("-", "-", "-", "-")
    return (duration(row.cost.cpu_s), duration(row.wall_s), _size(row.cost.memory_bytes),
            _size(row.cost.disk_bytes))


def _size(size: float) -> str:
    """Bytes with two digits: more would claim too much."""
    from ddfpipe.data.sizes import size_text

    return size_text(float(f"{size:.2g}"))


def totals(found: Estimate) -> list[str]:
    """Sentences of what all stages to do take together."""
    to_do = [row for row in found.rows if row.to_do]
    lines = [f"{len(to_do)} of {len(found.rows)} stages to do"]
    largest = found.largest
    if largest is not None:
        disk = found.product_bytes + found.cache_bytes
        lines.append(
            f"{found.cpu_s / HOUR:.2g} core-hours, {duration(found.wall_s)} on "
            f"{_threads(found.counted)}; memory up to {_size(largest.cost.memory_bytes)} "
            f"({largest.decision.stage.name}); disk {_size(disk)}: products "
            f"{_size(found.product_bytes)}, caches and scratch {_size(found.cache_bytes)}")
    if len(found.counted) < len(to_do):
        lines.append("stages with - are done by other programs ([machine] engine, image_engine, "
                     "solve_engine); their cost is not estimated and is in no total")
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


def shortages(found: Estimate, memory: float, workdir: Path, cache_dir: Path) -> list[str]:
    """Sentences on memory and disk that would not suffice, with what to do.

    memory: bytes that can be had.
    """
    from ddfpipe.data.sizes import size_text

    lines, largest = [], found.largest
    if largest is not None and largest.cost.memory_bytes > memory:
        lines.append(
            f"WARNING: {largest.decision.stage.name} will need some "
            f"{_size(largest.cost.memory_bytes)} of memory, {size_text(memory)} can be "
            "had: make [image] imsize or nband smaller, raise [machine] memory_limit_gb if it is "
            "the limit, or take a machine with more memory")
    entries = [(workdir, found.product_bytes), (cache_dir, found.cache_bytes)]
    by_device: dict[int, list[tuple[Path, float]]] = {}
    for folder, size in entries:
        existing = _existing(folder)
        by_device.setdefault(existing.stat().st_dev, []).append((existing, size))
    for needs in by_device.values():
        total, free = sum(size for _, size in needs), shutil.disk_usage(needs[0][0]).free
        if total > free:
            where = " and ".join(dict.fromkeys(str(folder) for folder, _ in needs))
            lines.append(
                f"WARNING: {where}: the run will write some {_size(total)}, "
                f"{size_text(free)} are free: make room, set [control] cache_dir to a larger disk, "
                "or run in a directory on one")
    return lines


def _existing(folder: Path) -> Path:
    folder = folder.absolute()
    while not folder.exists():
        folder = folder.parent
    return folder
