"""Look at everything a run will read and write before the first long computation."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ddfpipe.data.mschecks import MSFacts, Problem, check_together, examine, group_observations
from ddfpipe.data.ms import MSInfo
from ddfpipe.data.mscolumn import column_outlook
from ddfpipe.data.sizes import existing_folder, rounded_size, short_disks, size_text
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
              disk_needed: Mapping[str | Path, float] | None = None,
              memory_needed: tuple[str, float] | None = None,
              memory_available: int | None = None,
              written: Mapping[Path, tuple[str, ...]] | None = None) -> PreflightReport:
    """Check the measurement sets of both lists and the resources of a run.

    small, full: paths of the two lists (full None when there is none); column: the data column to
    read.  disk_needed: bytes that will be written under each directory.  memory_needed: stage that
    needs most memory, and bytes; memory_available: bytes, None asks the machine.  written: the
    measurement sets that will be changed, with the columns to write.  Never raises for what it
    finds: see `PreflightReport`.
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
    problems += check_folders(disk_needed or {}) + check_disks(disk_needed or {})
    if memory_needed is not None:
        problems += check_memory(*memory_needed, memory_available)
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


def check_folders(folders: Iterable[str | Path]) -> list[Problem]:
    """Directories that cannot be written."""
    places = {folder: existing_folder(folder) for folder in folders}
    return [Problem("not-writable", f"{folder}: cannot be written; change its permissions or "
                    "choose another directory", resource=True)
            for folder, place in places.items()
            if not place.is_dir() or not os.access(place, os.W_OK | os.X_OK)]


def check_disks(needed: Mapping[str | Path, float]) -> list[Problem]:
    """Disks that are too small for what goes there (bytes by folder)."""
    return [Problem("disk", f"{', '.join(map(str, short.folders))}: the run will write some "
                    f"{rounded_size(short.needed)}, {size_text(short.free)} are free; free space, "
                    "set [control] cache_dir to a larger disk, or run in a directory on one",
                    resource=True)
            for short in short_disks(needed)]


def check_memory(stage: str, needed: float, available: int | None) -> list[Problem]:
    """A stage that needs more bytes of memory than there are; available None asks the machine."""
    if available is None:
        import psutil

        available = psutil.virtual_memory().available
    if needed <= available:
        return []
    return [Problem("memory", f"{stage} will need some {rounded_size(needed)} of memory, "
                    f"{size_text(available)} can be had: make [image] imsize or nband smaller, "
                    "raise [machine] memory_limit_gb if more may be used than that, or take a "
                    "machine with more memory", resource=True)]
