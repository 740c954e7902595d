"""Which state a measurement set is in, apart from the columns that were written into it here.

What was computed from a measurement set stays valid when a column of ours is added to it.  A note
in the measurement set's folder therefore keeps its fingerprint from before our change next to the
state that the change left; it is written first with the state open, so a kill in the middle of a
column is recognised too.  The note travels with copies of the set and serves all runs on it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ddfpipe.data.atomic import atomic_write_json

NOTE = "ddfpipe.columns.json"
"""The note, in the measurement set's folder."""

TABLES = ("", "SPECTRAL_WINDOW", "ANTENNA", "FIELD", "POLARIZATION", "DATA_DESCRIPTION")
"""The main table and the subtables that a visibility cache depends on."""

DESCRIPTION = "table.dat"
"""File of the main table that lists its columns: the only old one that a new column changes."""

States = dict[str, list[int]]


def fingerprint(ms: str | Path) -> States:
    """Size and time of change (ns) of every file of `ms` that a visibility cache depends on.

    As it was before our own columns, if nothing but them has changed since.
    """
    ms = Path(ms)
    now, note = _states(ms), _note(ms)
    if note is None:
        return now
    before, after = note
    if after is not None:
        return before if now == after else now
    observed = {name: state for name, state in before.items() if name != DESCRIPTION}
    return before if observed == {name: now.get(name) for name in observed} else now


@contextmanager
def own_change(ms: str | Path) -> Iterator[None]:
    """The block may add or rewrite a column of ours; the fingerprint stays as it is.

    Raises OSError when the folder of `ms` cannot be written, before the block is entered.
    """
    ms = Path(ms)
    before = fingerprint(ms)
    atomic_write_json(ms / NOTE, {"before": before, "after": None})
    try:
        yield
    finally:
        after = _states(ms)
        if after == before:
            (ms / NOTE).unlink()
        else:
            atomic_write_json(ms / NOTE, {"before": before, "after": after})


def _states(ms: Path) -> States:
    found = {}
    for table in TABLES:
        for file in sorted((ms / table).glob("table.*")):
            if file.name == DESCRIPTION or file.name.startswith("table.f"):
                stat = file.stat()
                found[str(file.relative_to(ms))] = [stat.st_size, stat.st_mtime_ns]
    return found


def _note(ms: Path) -> tuple[States, States | None] | None:
    """(before, after; None while a column is being written), or None without a readable note."""
    try:
        note = json.loads((ms / NOTE).read_text(encoding="utf-8"))
        before, after = note["before"], note["after"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    whole = isinstance(before, dict) and (after is None or isinstance(after, dict))
    return (before, after) if whole else None
