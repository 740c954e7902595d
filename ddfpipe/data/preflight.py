"""Look at everything a run will read and write before the first long computation."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ddfpipe.data.mschecks import MSFacts, Problem, check_together, examine, group_observations
from ddfpipe.data.ms import MSInfo
from ddfpipe.data.mscolumn import column_outlook
from ddfpipe.data.sizes import size_text
from ddfpipe.errors import DataError, ResourceError


@dataclass(frozen=True, eq=False)
class PreflightReport:
    """What preflight found: facts by measurement set, all problems, and further notes."""

    facts: tuple[MSFacts, ...]
    problems: tuple[Problem, ...]
    column: str
    notes: tuple[str, ...] = ()

    @property
    def errors(self) -> tuple[Problem, ...]:
        """Problems that forbid the run."""
        return tuple(p for p in self.problems if p.fatal)

    @property
    def warnings(self) -> tuple[Problem, ...]:
        """Problems to know of."""
        return tuple(p for p in self.problems if not p.fatal)

    @property
    def infos(self) -> list[MSInfo]:
        """Metadata of the sets that could be read, in the order given."""
        return [f.info for f in self.facts if f.info is not None]

    @property
    def observations(self) -> list[list[MSInfo]]:
        """Those sets by observation."""
        return group_observations(self.infos)

    def raise_if_errors(self) -> None:
        """Raise DataError (ResourceError if only resources are short) with all errors listed."""
        if not self.errors:
            return
        lines = "\n".join(f"  - {p.text}" for p in self.errors)
        kind = ResourceError if all(p.resource for p in self.errors) else DataError
        raise kind(f"{len(self.errors)} problem(s) with the input:\n{lines}")

    def text(self) -> str:
        """Summary for people: observations, sets, warnings, errors."""
        lines = []
        for group in self.observations:
            low = min(i.freq_range[0] for i in group) / 1e6
            high = max(i.freq_range[1] for i in group) / 1e6
            hours = (max(i.time_range[1] for i in group)
                     - min(i.time_range[0] for i in group)) / 3600
            lines.append(f"observation {group[0].observation} ({_date(group[0].times[0])}): "
                         f"{len(group)} set(s), {low:.1f}-{high:.1f} MHz, {hours:.2f} h, "
                         f"{int(group[0].stations_used.sum())} stations")
        flagged = {f.path: f.flagged for f in self.facts}
        for info in self.infos:
            lines.append(f"  {info.name}: {info.n_time} x {info.interval:.1f} s, {info.n_chan} x "
                         f"{np.median(info.chan_width) / 1e3:.1f} kHz, "
                         f"{flagged[info.path]:.0%} flagged, column {self.column}")
        lines += self.notes
        lines += [f"warning: {p.text}" for p in self.warnings]
        lines += [f"ERROR: {p.text}" for p in self.errors]
        return "\n".join(lines)


def _date(mjd_seconds: float) -> str:
    """MJD seconds as an ISO date and time."""
    when = np.datetime64("1858-11-17T00:00:00") + np.timedelta64(int(mjd_seconds), "s")
    return str(when).replace("T", " ")


def preflight(small: list[Path], full: list[Path] | None, column: str, *,
              drop_international: bool = False,
              disk_needed: Mapping[str | Path, int] | None = None,
              memory_needed: int | None = None,
              memory_available: int | None = None,
              written: Mapping[Path, tuple[str, ...]] | None = None) -> PreflightReport:
    """Check the measurement sets of both lists and the resources of a run.

    small, full: paths of the two lists (full None when there is none); column: the data column to
    read.  disk_needed: bytes that will be written under each directory.  memory_needed and
    memory_available: bytes (available None asks the machine).  written: the measurement sets that
    will be changed, with the columns to write.  Never raises for what it finds: see
    `PreflightReport`.
    """
    paths: dict[Path, Path] = {}
    for path in [*small, *(full or [])]:
        paths.setdefault(Path(path).resolve(), Path(path))
    facts = [examine(path, column, drop_international) for path in paths.values()]
    problems = _check_subset(small, full)
    problems += [p for f in facts for p in f.problems]
    infos = [f.info for f in facts if f.info is not None]
    problems += check_together(infos)
    problems += _check_written(written or {})
    problems += _check_disk(disk_needed or {})
    problems += _check_memory(memory_needed, memory_available)
    return PreflightReport(tuple(facts), tuple(_join_alike(problems)), column)


def _join_alike(problems: list[Problem]) -> list[Problem]:
    """One problem for all measurement sets that have it, naming them."""
    alike: dict[Problem, list[str]] = {}
    for problem in problems:
        names = alike.setdefault(replace(problem, ms=None), [])
        if problem.ms is not None:
            names.append(problem.ms)
    return [replace(p, text=f"{', '.join(names)}: {p.text}") if names else p
            for p, names in alike.items()]


def _check_subset(small: list[Path], full: list[Path] | None) -> list[Problem]:
    if full is None:
        return []
    known = {Path(p).resolve() for p in full}
    extra = [str(p) for p in small if Path(p).resolve() not in known]
    if not extra:
        return []
    return [Problem("not-subset", "the small list names measurement sets that the full list "
                    f"lacks: {', '.join(extra)}; add them to the full list or remove them")]


def _check_written(written: Mapping[Path, tuple[str, ...]]) -> list[Problem]:
    """Sets that will be changed must be writable, and their columns such that they can be."""
    found = []
    for ms, columns in written.items():
        if not all(os.access(path, os.W_OK) for path in (ms, ms / "table.dat") if path.exists()):
            found.append(Problem("set-not-writable", "cannot be written, but columns are to be "
                                 "written or removed; mend the permissions, or switch [control] "
                                 "write_columns and remove_columns off", resource=True,
                                 ms=str(ms)))
        try:
            troubles = column_outlook(ms, columns)[1]
        except DataError:
            continue  # the checks of the set itself tell why
        found += [Problem("column-in-the-way", text, ms=str(ms)) for text in troubles]
    return found


def _check_disk(needed: Mapping[str | Path, int]) -> list[Problem]:
    """Directories must be writable, and each file system large enough for all that goes there."""
    found = []
    by_device: dict[int, list[tuple[Path, int]]] = {}
    for folder, size in needed.items():
        existing = Path(folder).absolute()
        while not existing.exists():
            existing = existing.parent
        if not existing.is_dir() or not os.access(existing, os.W_OK | os.X_OK):
            found.append(Problem("not-writable", f"{folder}: cannot be written; change its "
                                 "permissions or choose another directory", resource=True))
        by_device.setdefault(existing.stat().st_dev, []).append((existing, int(size)))
    for entries in by_device.values():
        total, free = sum(size for _, size in entries), shutil.disk_usage(entries[0][0]).free
        if total > free:
            where = ", ".join(str(folder) for folder, _ in entries)
            found.append(Problem("disk", f"{where}: the run will write some {size_text(total)}, "
                                 f"{size_text(free)} are free; free space or set cache_dir to a "
                                 "larger disk", resource=True))
    return found


def _check_memory(needed: int | None, available: int | None) -> list[Problem]:
    if needed is None:
        return []
    if available is None:
        import psutil

        available = psutil.virtual_memory().available
    if needed <= available:
        return []
    return [Problem("memory", f"the run needs some {size_text(needed)} of memory, "
                    f"{size_text(available)} are available; use smaller images or another "
                    "machine", resource=True)]
