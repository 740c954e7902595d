"""Where solution sets live and under which names.

    SOLSDIR/<ms>/killMS.<name>.sols.npz      killMS layout, what extraction and VLBI tools read
    SOLSDIR/<ms>/<name>.h5                   the same as h5parm
    <name>_<start>_merged.npz, _smoothed.npz files for all measurement sets of an observation, with
                                             relative links to them in each SOLSDIR/<ms>/

`<start>` is the observation's first time in seconds with two decimals.
"""

from __future__ import annotations

import os
from copy import deepcopy
from functools import lru_cache
from pathlib import Path
from types import ModuleType

import numpy as np

from ddfpipe import naming
from ddfpipe.calibration.gains import GainTable
from ddfpipe.data.atomic import replace, temporary_name
from ddfpipe.data.killms import read_killms, write_killms
from ddfpipe.errors import SolveError

SMALL_BYTES = 4 << 20
"""Tables of files up to this size are kept in memory, a few at a time."""


def _h5parm() -> ModuleType:
    """The module of that format; without it an image needs no h5py, which is slow to import."""
    from ddfpipe.data import h5parm

    return h5parm


def save_table(table: GainTable, path: str | Path) -> None:
    """Write a table as h5parm (.h5, .h5parm) or in killMS's layout (.npz), by the suffix."""
    path = Path(path)
    if path.suffix in (".h5", ".h5parm"):
        _h5parm().write_h5parm(table, path)
    elif path.suffix == ".npz":
        write_killms(table, path)
    else:
        raise SolveError(f"{path}: solutions are written as .h5 or .npz")


@lru_cache(maxsize=8)
def _small_table(path: Path, inode: int, mtime_ns: int) -> GainTable:
    """A table as it was at a time: sets of an observation have links to one file of solutions.

    h5py takes 7 ms for the smallest file, and stages read one again and again.
    """
    return _h5parm().read_h5parm(path)


def load_table(path: str | Path) -> GainTable:
    """Read a table; the format follows from the suffix.  Raises SolveError."""
    path = Path(path)
    if not path.exists():
        raise SolveError(f"{path}: no such solution file; run the solve that makes it")
    if path.suffix in (".h5", ".h5parm"):
        state = path.stat()
        if state.st_size > SMALL_BYTES:
            return _h5parm().read_h5parm(path)
        return deepcopy(_small_table(path.resolve(), state.st_ino, state.st_mtime_ns))
    if path.suffix == ".npz":
        return read_killms(path)
    raise SolveError(f"{path}: solutions are read from .h5 or .npz")


def solution_path(solsdir: str | Path, ms: str | Path, name: str) -> Path:
    """SOLSDIR/<ms>/killMS.<name>.sols.npz."""
    return naming.solution_file(Path(solsdir), ms, name)


def h5parm_path(solsdir: str | Path, ms: str | Path, name: str) -> Path:
    """SOLSDIR/<ms>/<name>.h5."""
    return naming.solution_h5parm(Path(solsdir), ms, name)


def merged_path(directory: str | Path, name: str, start: float, kind: str) -> Path:
    """<directory>/<name>_<start>_<kind>.npz with kind "merged" or "smoothed"."""
    return Path(directory) / naming.merged_file(name, start, smooth=kind == "smoothed")


def save_solution(table: GainTable, solsdir: str | Path, ms: str | Path, name: str) -> list[Path]:
    """Write the two files of solution set `name` of one measurement set; returns their paths.

    The npz is written last: its presence means that the solve is complete.
    """
    npz, h5 = solution_path(solsdir, ms, name), h5parm_path(solsdir, ms, name)
    npz.parent.mkdir(parents=True, exist_ok=True)
    _h5parm().write_h5parm(table, h5)
    write_killms(table, npz)
    return [npz, h5]


def load_solution(solsdir: str | Path, ms: str | Path, name: str) -> GainTable:
    """Solution set `name` of one measurement set: the h5parm, or else the killMS file.

    Raises SolveError when neither is there or it cannot be read.
    """
    h5 = h5parm_path(solsdir, ms, name)
    return load_table(h5 if h5.exists() else solution_path(solsdir, ms, name))


def link_solution(target: str | Path, solsdir: str | Path, ms: str | Path, name: str) -> Path:
    """Relative link SOLSDIR/<ms>/killMS.<name>.sols.npz -> target, replacing an older one.

    An h5parm beside the target is linked as SOLSDIR/<ms>/<name>.h5.  Returns the npz link.
    """
    target = Path(target)
    pairs = [(target, solution_path(solsdir, ms, name))]
    h5 = target.with_suffix(".h5")
    if h5.exists():
        pairs.append((h5, h5parm_path(solsdir, ms, name)))
    for source, link in pairs:
        link.parent.mkdir(parents=True, exist_ok=True)
        link_to(source, link)
    return pairs[0][1]


def link_to(target: Path, link: Path) -> None:
    """Make `link` a relative link to `target`, in place of what is there."""
    relative = os.path.relpath(target.resolve(), link.parent.resolve())
    temporary = temporary_name(link)
    temporary.symlink_to(relative)
    replace(temporary, link)


def observation_start(table: GainTable) -> float:
    """First time of a table in seconds, as used in the names of merged files."""
    return float(np.min(table.time_edges[:, 0]))
