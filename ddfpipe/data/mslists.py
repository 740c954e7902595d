"""Make the lists of measurement sets: all of them, and a few for the first self-calibration."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from ddfpipe.data.atomic import atomic_write_text
from ddfpipe.data.ms import MSInfo, read_metadata
from ddfpipe.data.mschecks import MAX_FLAGGED, group_observations
from ddfpipe.errors import DataError

FULL_LIST = "big-mslist.txt"
SMALL_LIST = "mslist.txt"
FEWEST = 18
USUAL = 24


@dataclass(frozen=True)
class ListEntry:
    """One measurement set found: why it was dropped, or None if it was kept."""

    path: Path
    n_chan: int | None
    flagged: float | None
    dropped: str | None


@dataclass(frozen=True)
class MSLists:
    """What `make_mslists` wrote: names in the two lists, entries of the table, warnings."""

    full: tuple[str, ...]
    small: tuple[str, ...]
    entries: tuple[ListEntry, ...]
    warnings: tuple[str, ...]

    def table(self) -> str:
        """Table for people: one line a measurement set."""
        width = max((len(e.path.name) for e in self.entries), default=0)
        lines = [f"{'measurement set':{width}}  channels  flagged  list"]
        for entry in self.entries:
            chan = "-" if entry.n_chan is None else str(entry.n_chan)
            flagged = "-" if entry.flagged is None else f"{entry.flagged:.1%}"
            what = entry.dropped or ("full and small" if entry.path.name in self.small else "full")
            lines.append(f"{entry.path.name:{width}}  {chan:>8}  {flagged:>7}  {what}")
        lines += [f"warning: {w}" for w in self.warnings]
        return "\n".join(lines)


def make_mslists(folder: str | Path = ".", force: bool = False) -> MSLists:
    """Write `big-mslist.txt` and `mslist.txt` for the `*.ms` in `folder`.

    Kept are sets less than 80 % flagged with as many channels as the first one kept.  The small
    list takes every fourth from the third on, by frequency, of each observation (at least one).
    Raises DataError, and writes nothing, when there are no usable sets, or fewer than 18 without
    `force`; fewer than 24 give a warning.
    """
    folder = Path(folder)
    paths = sorted(p for p in folder.glob("*.ms") if p.is_dir())
    if not paths:
        raise DataError(f"{folder.resolve()}: there are no measurement sets (*.ms); unpack them "
                        "first (unpack.py) or change to their directory")
    entries, kept = _select(paths)
    result = MSLists((), (), tuple(entries), ())
    if not kept or (len(kept) < FEWEST and not force):
        raise DataError(f"{result.table()}\n{folder.resolve()}: only {len(kept)} of {len(paths)} "
                        f"measurement sets are usable and {FEWEST} are wanted"
                        + ("; get more, or run again with 'force'" if kept else ""))
    full, small = _choose(kept)
    result = MSLists(full, small, tuple(entries), tuple(_warnings(entries, kept)))
    atomic_write_text(folder / FULL_LIST, "".join(f"{n}\n" for n in full))
    atomic_write_text(folder / SMALL_LIST, "".join(f"{n}\n" for n in small))
    return result


def _select(paths: list[Path]) -> tuple[list[ListEntry], list[MSInfo]]:
    entries: list[ListEntry] = []
    kept: list[MSInfo] = []
    for path in paths:
        try:
            info = read_metadata(path)
            flagged = info.flagged_fraction
        except DataError as error:
            reason = str(error).removeprefix(f"{path}: ")
            entries.append(ListEntry(path, None, None, f"dropped: {reason}"))
            continue
        dropped = None
        if flagged >= MAX_FLAGGED:
            dropped = f"dropped: at least {MAX_FLAGGED:.0%} flagged"
        elif kept and info.n_chan != kept[0].n_chan:
            dropped = f"dropped: not {kept[0].n_chan} channels like {kept[0].name}"
        else:
            kept.append(info)
        entries.append(ListEntry(path, info.n_chan, flagged, dropped))
    return entries, kept


def _choose(kept: list[MSInfo]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    full: list[str] = []
    small: list[str] = []
    for group in group_observations(kept):
        names = [info.name for info in group]
        full += names
        small += names[2::4] or [names[len(names) // 2]]
    return tuple(full), tuple(small)


def _warnings(entries: list[ListEntry], kept: list[MSInfo]) -> list[str]:
    found = []
    if len(kept) < USUAL:
        found.append(f"{len(kept)} usable measurement sets; an observation usually has {USUAL}")
    counts = Counter(e.n_chan for e in entries if e.n_chan is not None)
    usual, number = counts.most_common(1)[0]
    if usual != kept[0].n_chan and number > len(kept):
        found.append(f"most sets have {usual} channels but the first kept, {kept[0].name}, has "
                     f"{kept[0].n_chan}: move it away if it is the odd one")
    return found
