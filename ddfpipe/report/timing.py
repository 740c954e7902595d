"""Where the time of a run went, from its records and logs, whole or broken.

Reads the records and logs of this program, and the logs of ddf-pipeline (one a call of a program,
every line with date and time in front).
"""

from __future__ import annotations

import csv
import json
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from ddfpipe.errors import DataError
from ddfpipe.naming import STATE_FOLDER, parse_log_name
from ddfpipe.report.progress import duration
from ddfpipe.report.table import table

HEAD_BYTES = 1 << 16
SAME_S = 30.0
"""A log that ends this near to the end of a record is that of the record."""
_STAMP = re.compile(rb"^(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d): ", re.MULTILINE)
_PROGRAM = re.compile(r"^(DDF|KillMS|ClipCal|MM|MakeCatalog|MakeCluster|MaskDicoModel)-")
_SOLVE = re.compile(r"(D[DI]S\d(?:_full)?(?:_slow)?)")

KINDS = {
    "DDF": "image", "KillMS": "solve", "ClipCal": "solve", "MM": "mask", "MaskDicoModel": "mask",
    "MakeCatalog": "directions", "MakeCluster": "directions",
}
"""Program in front of the name of a log -> what it does."""
FRAGMENTS = (
    ("preflight", "checks"), ("remove_columns", "preliminaries"), ("write_columns", "columns"),
    ("archive_ms", "archive"), ("quality_", "quality"),
    ("bootstrap", "flux scale"), ("crossmatch", "flux scale"), ("_shift", "astrometry"),
    ("offset", "astrometry"), ("astrom", "astrometry"), ("ms2dynspec", "dynamic spectra"),
    ("dynspec", "dynamic spectra"), ("stokesV", "Stokes V"), ("_IQU_", "Q and U cubes"),
    ("_QU", "Q and U cubes"), ("_vlow", "Q and U cubes"), ("Band", "bands"),
    ("image_full_low", "low resolution"), ("image_full_wide", "wide field"), ("wide", "wide field"),
    ("full_extended", "low resolution"), ("mask-low", "low resolution"),
    ("ext-deep", "low resolution"), ("_m.NS", "final image"),
    ("final_", "final image"), ("DDS3_full", "last calibration"),
    ("DDS2_full", "full bandwidth"), ("DIS2_full", "full bandwidth"),
    ("image_full", "full bandwidth"), ("PredictDI", "full bandwidth"),
    ("ampphase1_di", "direction-independent calibration 2"),
    ("DIS1", "direction-independent calibration 2"), ("ampphase1", "amplitudes and phases"),
    ("DDS1", "amplitudes and phases"), ("phase1", "phases"), ("DDS0", "phases"),
    ("_c_di", "direction-independent calibration 1"),
    ("DIS0", "direction-independent calibration 1"), ("dirin", "direction-independent start"),
    ("cluster", "direction-independent start"), ("external_mask", "direction-independent start"),
    ("diffuse_mask", "direction-independent start"), ("start_model", "direction-independent start"),
)
"""Part of a name -> part of the run; the first that fits counts."""
OTHER = "other"


@dataclass(frozen=True)
class Span:
    """Time that went into something.

    name: stage, or name of the log; part: part of the run; kind: "stage", or what a program of
    ddf-pipeline did; start, end: seconds since 1970; seconds: time at work, with `end - start`
    for logs; outcome: "done", "running", "ended early" or "unknown".
    """

    name: str
    part: str
    kind: str
    start: float
    end: float
    seconds: float
    outcome: str


def part_of(name: str) -> str:
    """Part of the run that a stage or log belongs to."""
    return next((part for fragment, part in FRAGMENTS if fragment.lower() in name.lower()), OTHER)


def read_spans(folder: str | Path, now: float | None = None) -> list[Span]:
    """Everything that took time in a run, in order of its start.

    folder: working directory of a run, or a folder of logs.  now: the present, for a stage at
    work.  Logs without a time in them are left out.  Raises DataError for a folder with neither
    records nor logs.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise DataError(f"{folder}: is no folder of a run or of logs")
    records = _read_records(folder / STATE_FOLDER)
    current = _read_current(folder / STATE_FOLDER, now)
    places = [folder / "logs", folder]
    logs = [path for place in places if place.is_dir() for path in sorted(place.iterdir())
            if path.is_file() and parse_log_name(path) is not None]
    if not (records or current or logs):
        raise DataError(f"{folder}: holds neither records ({STATE_FOLDER}) nor logs (logs/*.log) "
                        "of a run")
    spans = [*records, *current]
    ours = bool(spans)
    for path in logs:
        span = _read_log(path, ours)
        if span is not None and not _is_known(span, spans[:len(records) + len(current)]):
            spans.append(span)
    return sorted(spans, key=lambda span: (span.start, span.name))


def _read_records(folder: Path) -> list[Span]:
    """Finished stages.  A record that cannot be understood is left out; its log still counts."""
    found = []
    for path in sorted(folder.glob("[!_.]*.json")):
        try:
            record = json.loads(path.read_text(encoding="utf-8"))
            end = datetime.fromisoformat(record["finished"]).timestamp()
            seconds = max(0.0, float(record["seconds"]))
            name = str(record["stage"])
        except (OSError, ValueError, KeyError, TypeError):
            continue
        found.append(Span(name, part_of(name), "stage", end - seconds, end, seconds, "done"))
    return found


def _read_current(folder: Path, now: float | None) -> list[Span]:
    """The stage at work, if its process lives on this machine."""
    try:
        note = json.loads((folder / "_current.json").read_text(encoding="utf-8"))
        name, start = str(note["stage"]), float(note["started"])
        if note["outcome"] != "running" or note["host"] != os.uname().nodename:
            return []
        os.kill(int(note["pid"]), 0)
    except PermissionError:
        pass
    except (OSError, ValueError, KeyError, TypeError):
        return []
    end = datetime.now().timestamp() if now is None else now
    end = max(end, start)
    return [Span(name, part_of(name), "stage", start, end, end - start, "running")]


def _read_log(path: Path, ours: bool) -> Span | None:
    """What a log tells; None for one without times."""
    try:
        times, tail = _times(path)
    except OSError:
        return None
    if not times:
        return None
    name = parse_log_name(path) or path.name
    program = _PROGRAM.match(name)
    kind = KINDS[program[1]] if program else "stage" if ours else "other"
    if re.search(rb": done in [\d.]+ s", tail) or ours and name == "preflight":
        outcome = "done"
    else:
        outcome = "ended early" if ours else "unknown"
    start, end = min(times), max(times)
    return Span(name, part_of(name), kind, start, end, end - start, outcome)


def _times(path: Path) -> tuple[list[float], bytes]:
    """(first and last times of a log in local time, its last bytes); logs may be very large."""
    with open(path, "rb") as stream:
        head = stream.read(HEAD_BYTES)
        size = os.fstat(stream.fileno()).st_size
        stream.seek(max(0, size - HEAD_BYTES))
        tail = stream.read(HEAD_BYTES)
    found = []
    for text, pick in ((head, 0), (tail, -1)):
        stamps = _STAMP.findall(text)
        if stamps:
            try:
                found.append(datetime.fromisoformat(stamps[pick].decode()).timestamp())
            except ValueError:
                continue
    return found, tail


def _is_known(span: Span, known: Iterable[Span]) -> bool:
    """Whether a log belongs to a record or to the stage at work."""
    for other in known:
        if other.name != span.name:
            continue
        of_now = other.outcome == "running" and span.start >= other.start - SAME_S
        if of_now or abs(other.end - span.end) < SAME_S:
            return True
    return False


@dataclass(frozen=True)
class Total:
    """Time by name.  share: of the time at work; times: how often it was done or begun."""

    name: str
    part: str
    seconds: float
    share: float
    times: int
    outcome: str


def totals(spans: Iterable[Span], by: str = "name") -> list[Total]:
    """Time by "name", "part" or "kind", in the order in which they first came.

    The logs of a solve, one a measurement set, are one name.
    """
    groups: dict[str, list[Span]] = {}
    spans = [replace(span, name=_group_name(span)) for span in spans]
    for span in spans:
        groups.setdefault(getattr(span, by), []).append(span)
    whole = sum(span.seconds for span in spans)
    found = []
    for key, group in groups.items():
        seconds = sum(span.seconds for span in group)
        parts = list(dict.fromkeys(span.part for span in group))
        found.append(Total(
            key, parts[0] if len(parts) == 1 else "", seconds, seconds / whole if whole else 0.0,
            len(group), group[-1].outcome,
        ))
    return found


def _group_name(span: Span) -> str:
    solve = _SOLVE.search(span.name) if span.name.startswith(("KillMS-", "ClipCal-")) else None
    return f"{span.name.split('-')[0]} {solve[1]}" if solve else span.name


def at_work(spans: Iterable[Span]) -> tuple[float, float]:
    """(seconds from the first start to the last end, seconds of it in which nothing was done)."""
    ordered = sorted(spans, key=lambda span: span.start)
    if not ordered:
        return 0.0, 0.0
    idle, end = 0.0, ordered[0].start
    for span in ordered:
        idle += max(0.0, span.start - end)
        end = max(end, span.end)
    return end - ordered[0].start, idle


def time_table(spans: list[Span]) -> str:
    """Table by stage, table by part, and the sums, for the screen."""
    rows = [(t.part, t.name, str(t.times), f"{100 * t.share:.1f}", duration(t.seconds), t.outcome)
            for t in totals(spans)]
    parts = [(t.name, f"{100 * t.share:.1f}", duration(t.seconds)) for t in totals(spans, "part")]
    elapsed, idle = at_work(spans)
    spent = sum(span.seconds for span in spans)
    return "\n".join([
        table(rows, ("part", "stage", "times", "%", "time", "outcome"), right=(2, 3, 4)), "",
        table(parts, ("part", "%", "time"), right=(1,)), "",
        f"total {duration(spent)} ({spent:.0f} s, {spent / 86400:.2f} days) at work; "
        f"{duration(elapsed)} from first to last, {duration(idle)} of it idle",
    ])


def write_csv(spans: Iterable[Span], path: str | Path) -> None:
    """Every span as a line: stage, part, kind, start and end (local time), seconds, outcome."""
    from ddfpipe.data.atomic import atomic_path

    with atomic_path(path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as out:
        writer = csv.writer(out)
        writer.writerow(("stage", "part", "kind", "start", "end", "seconds", "outcome"))
        for span in spans:
            start, end = (datetime.fromtimestamp(t).isoformat(" ", "seconds")
                          for t in (span.start, span.end))
            writer.writerow((span.name, span.part, span.kind, start, end, f"{span.seconds:.1f}",
                             span.outcome))


def draw_times(spans: list[Span], path: str | Path) -> None:
    """Picture (PNG): bars of the time by stage, and when each part was at work."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    from ddfpipe.data.atomic import atomic_path

    rows, parts = totals(spans), [t.name for t in totals(spans, "part")]
    colours = {part: f"C{number % 10}" for number, part in enumerate(parts)}
    figure = Figure(figsize=(9, 2.2 + 0.19 * len(rows) + 0.3 * len(parts)), layout="constrained")
    FigureCanvasAgg(figure)
    bars, line = figure.subplots(2, 1, height_ratios=(max(2, len(rows)), max(2, 1.6 * len(parts))))
    longest = max((t.seconds for t in rows), default=0.0)
    unit, name = next(((u, n) for u, n in ((86400, "days"), (3600, "hours"), (60, "minutes"))
                       if longest >= 2 * u), (1, "seconds"))
    bars.barh([t.name for t in rows], [t.seconds / unit for t in rows],
              color=[colours.get(t.part, "0.6") for t in rows])
    bars.margins(y=0.01)
    bars.invert_yaxis()
    bars.tick_params(axis="y", labelsize=6)
    bars.set_xlabel(name)
    begin = min((span.start for span in spans), default=0.0)
    for number, part in enumerate(parts):
        own = [span for span in spans if span.part == part]
        line.broken_barh([((s.start - begin) / 3600, max(s.end - s.start, 1.0) / 3600)
                          for s in own], (number - 0.4, 0.8), color=colours[part])
    line.set_yticks(range(len(parts)), parts, fontsize=7)
    line.invert_yaxis()
    line.set_xlabel("hours since the beginning")
    with atomic_path(Path(path)) as temporary:
        figure.savefig(temporary, dpi=120, format="png")
