"""Repair the links from SOLSDIR/<ms>/ to the solutions of a whole observation.

Archives of ddf-pipeline hold links with the full path of the machine on which they were made, and a
directory that was copied file by file has none; programs for extraction and VLBI follow them.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ddfpipe import naming
from ddfpipe.data.solutions import link_to
from ddfpipe.errors import DataError

TOLERANCE_S = 3600.0
"""Starts of a measurement set's solutions and of merged ones may differ by so much."""


@dataclass(frozen=True)
class Repair:
    """What is wrong with a link, and what it should lead to (None if nothing fits: see `why`)."""

    link: Path
    target: Path | None
    why: str


@dataclass(frozen=True)
class _Merged:
    path: Path
    name: str
    start: float
    smooth: bool


def find_repairs(workdir: str | Path, solsdir: str | Path | None = None,
                 tolerance: float = TOLERANCE_S) -> list[Repair]:
    """Links that are broken, absolute or absent.  Changes nothing.

    A link leads to the file of its old name if that is in `workdir`, else to the merged solutions
    of the same set that start nearest to those of the measurement set, within `tolerance` seconds.
    solsdir: by default workdir/SOLSDIR.  Raises DataError when there is none.
    """
    workdir = Path(workdir)
    solsdir = workdir / "SOLSDIR" if solsdir is None else Path(solsdir)
    if not solsdir.is_dir():
        raise DataError(f"{solsdir}: there are no solutions; name their folder with --solsdir")
    merged = list(_merged_files(workdir))
    found: list[Repair] = []
    for folder in sorted(path for path in solsdir.iterdir() if path.is_dir()):
        links = {path for path in folder.iterdir() if path.is_symlink()}
        expected = {naming.solution_file(solsdir, folder.name, _set_name(one)): one.name
                    for one in merged}
        absent = {link for link, name in expected.items() if not os.path.lexists(link)
                  and naming.solution_file(solsdir, folder.name, name).is_file()}
        for link in sorted(links | absent):
            repair = _judge(link, workdir, merged, tolerance)
            if repair is not None:
                found.append(repair)
    return found


def repair_links(repairs: list[Repair]) -> int:
    """Write the links for which there is a target, relative ones; how many were written."""
    written = [repair for repair in repairs if repair.target is not None]
    for repair in written:
        link_to(repair.target, repair.link)
    return len(written)


def _merged_files(workdir: Path) -> Iterator[_Merged]:
    for path in sorted(workdir.glob("*.npz")):
        parsed = naming.parse_merged_file(path)
        if parsed is not None and path.is_file():
            yield _Merged(path, *parsed)


def _set_name(one: _Merged) -> str:
    return naming.solution_name(one.name, one.smooth)


def _judge(link: Path, workdir: Path, merged: list[_Merged], tolerance: float) -> Repair | None:
    """What is to be done about a link; None if it is well."""
    why = "absent"
    if link.is_symlink():
        target = Path(os.readlink(link))
        if link.exists() and not target.is_absolute():
            return None
        why = "absolute" if link.exists() else "broken"
        same = workdir / target.name
        if same.is_file():
            return Repair(link, same, why)
        if link.exists():
            return Repair(link, link.resolve(), why)
    found = _by_time(link, merged, tolerance)
    return Repair(link, found, why) if isinstance(found, Path) else Repair(link, None, found)


def _by_time(link: Path, merged: list[_Merged], tolerance: float) -> Path | str:
    """The merged solutions that a link stands for, or why none fit."""
    # The h5parm of a set is linked as <set>.h5, its npz as killMS.<set>.sols.npz.
    parsed = naming.parse_solution_file(link)
    wanted = parsed[1] if parsed else link.stem
    candidates = [one for one in merged if _set_name(one) == wanted]
    if not candidates:
        return f"there is no merged file of {wanted}"
    own = naming.solution_file(link.parent.parent, link.parent.name, candidates[0].name)
    start = first_time(own)
    if start is None:
        return f"{own.name}, which tells the time of the measurement set, cannot be read"
    nearest = min(candidates, key=lambda one: abs(one.start - start))
    apart = abs(nearest.start - start)
    if apart > tolerance:
        return f"the nearest merged file of {wanted} starts {apart:.0f} s away"
    target = nearest.path.with_suffix(".h5") if link.suffix == ".h5" else nearest.path
    return target if target.is_file() else f"{target.name} is missing"


def first_time(path: Path) -> float | None:
    """First time (MJD seconds) of a solution file in killMS's layout; None if it has none."""
    if path.is_symlink():
        return None
    try:
        with np.load(path, allow_pickle=False) as file:
            # Our own files stretch the first interval in "Sols" and keep its true edges beside.
            starts = file["TimeEdges"][:, 0] if "TimeEdges" in file else file["Sols"]["t0"]
            return float(np.min(starts))
    except (OSError, ValueError, KeyError, IndexError):
        return None
