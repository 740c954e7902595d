"""Columns that runs of this and of other pipelines put into measurement sets, and their removal."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ddfpipe.data.fingerprint import own_change
from ddfpipe.data.ms import open_table, read_list
from ddfpipe.errors import ConfigError, DataError, ResourceError

MADE_COLUMNS = (
    "SCALED_DATA", "PREDICT_DATA", "DD_PREDICT", "DATA_DI_CORRECTED", "DATA_DI_CORRECTED_SCALED",
    "DATA_SCALED", "CORRECTED_SCALED", "CORRECTED_DATA_SCALED", "DATA_SUB", "IMAGING_WEIGHT",
)
"""Names of such columns; no observed data have them."""


@dataclass(frozen=True)
class Removal:
    """What is to go from one measurement set.  size: bytes of the columns' cells."""

    ms: Path
    columns: tuple[str, ...]
    size: int


def measurement_sets(words: Iterable[str]) -> list[Path]:
    """Measurement sets that words of a command line name: directories, or lists of sets.

    Raises DataError for a word that is neither.
    """
    found: dict[Path, None] = {}
    for word in words:
        path = Path(word)
        for ms in [path] if path.is_dir() else read_list(path):
            found[ms] = None
    return list(found)


def find_columns(sets: Sequence[Path], keep: Sequence[str] = (),
                 names: Sequence[str] = MADE_COLUMNS) -> list[Removal]:
    """What is to go from each measurement set (those with nothing to remove are left out).

    keep: columns that stay, such as the input of a run.  Raises ConfigError for names that are not
    in MADE_COLUMNS, DataError for sets that cannot be read or would be left without visibilities.
    """
    foreign = sorted(set(names) - set(MADE_COLUMNS))
    if foreign:
        raise ConfigError(f"{', '.join(foreign)}: only columns that a pipeline made are removed: "
                          f"{', '.join(MADE_COLUMNS)}")
    found, troubles = [], []
    for ms in sets:
        try:
            removal = _find(Path(ms), [name for name in names if name not in keep])
        except DataError as error:
            troubles.append(str(error))
            continue
        if removal.columns:
            found.append(removal)
    if troubles:
        raise DataError("; ".join(troubles))
    return found


def _find(ms: Path, names: Sequence[str]) -> Removal:
    with open_table(ms) as main:
        there = main.colnames()
        columns = tuple(name for name in names if name in there)
        visibilities = [name for name in there if main.getcoldesc(name)["valueType"] in
                        ("complex", "dcomplex")]
        if visibilities and set(visibilities) <= set(columns):
            raise DataError(f"{ms}: {', '.join(visibilities)} are all the visibilities that it "
                            "has; nothing is removed")
        size = sum(_cell_bytes(main, name) for name in columns) * main.nrows()
    return Removal(ms, columns, size)


def _cell_bytes(main, name: str) -> int:
    if main.nrows() == 0 or not main.iscelldefined(name, 0):
        return 0
    return int(np.asarray(main.getcell(name, 0)).nbytes)


def remove_columns(removals: Iterable[Removal],
                   say: Callable[[str], None] = lambda text: None) -> int:
    """Remove the columns found; the number of columns removed.

    A set's fingerprint stays, so what was computed from it stays valid.  Raises ResourceError when
    a set cannot be written.
    """
    removed = 0
    for removal in removals:
        try:
            with own_change(removal.ms), open_table(removal.ms, readonly=False) as main:
                for name in removal.columns:
                    main.removecols(name)
        except OSError as error:
            raise ResourceError(f"{removal.ms}: cannot be written ({error.strerror or error}); "
                                "mend its permissions") from error
        except DataError as error:
            raise ResourceError(f"{removal.ms}: {', '.join(removal.columns)} cannot be removed "
                                f"({error.__cause__}); mend its permissions") from error
        removed += len(removal.columns)
        say(f"{removal.ms}: {', '.join(removal.columns)} removed")
    return removed
