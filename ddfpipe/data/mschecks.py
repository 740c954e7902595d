"""Checks of measurement sets: each alone by samples of its rows, and all against each other."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from ddfpipe.data.ms import MSInfo, open_table, read_metadata
from ddfpipe.data.stations import is_international
from ddfpipe.data.visgrid import correlation_matrix
from ddfpipe.errors import DataError
from ddfpipe.units import ARCSEC

SAMPLES = 12
SAMPLE_BYTES = 4 << 20
WELL_AVERAGED_HZ = 97656.25
WELL_AVERAGED_S = 8.0
SLACK = 1.5
MAX_FLAGGED = 0.8


@dataclass(frozen=True)
class Problem:
    """Something wrong.  code: its row in docs/bad-input.md; fatal: the run must not start.

    ms: the measurement set meant, where `text` does not name it; a report then joins the sets
    that share a text.  resource: the machine is to blame, not the data.
    """

    code: str
    text: str
    fatal: bool = True
    resource: bool = False
    ms: str | None = None


@dataclass(frozen=True)
class ColumnSample:
    """What samples of a column show: fractions of the unflagged samples, and their mean |V|."""

    finite: float
    nonzero: float
    mean_abs: float


@dataclass(frozen=True, eq=False)
class MSFacts:
    """One measurement set as preflight found it.

    flagged: fraction of the sampled cross correlations.  sample: state of the chosen column
    (None when there is no such column, or nothing unflagged to look at).
    """

    path: Path
    info: MSInfo | None = None
    flagged: float = 1.0
    sample: ColumnSample | None = None
    problems: tuple[Problem, ...] = field(default=())


def examine(path: Path, column: str, drop_international: bool = False) -> MSFacts:
    """Open one measurement set, read samples all over its rows, and list what is wrong."""
    try:
        info = read_metadata(path)
    except DataError as error:
        return MSFacts(path, problems=(Problem("unreadable", str(error)),))
    problems = _check_alone(info, drop_international)
    try:
        samples = _Samples(info)
        flagged = samples.flagged
        if flagged == 1.0:
            flagged = info.flagged_fraction  # the samples may have missed the few good rows
        sample = samples.column(column) if column in info.data_columns else None
        problems += _check_column(info, column, sample, samples)
    except DataError as error:
        return MSFacts(path, info, problems=(*problems, Problem("unreadable", str(error))))
    problems += _check_flags(flagged, samples.weights_ok)
    return MSFacts(path, info, flagged, sample,
                   tuple(replace(p, ms=str(path)) for p in problems))


class _Samples:
    """Blocks of rows spread evenly over a measurement set, first and last rows among them."""

    def __init__(self, info: MSInfo) -> None:
        self.info = info
        row_bytes = info.n_chan * len(info.corr_types) * 8
        size = min(info.n_rows, max(64, SAMPLE_BYTES // row_bytes))
        starts = np.unique(np.linspace(0, info.n_rows - size, SAMPLES).astype(int))
        self.blocks = [(int(start), size) for start in starts]
        with open_table(info.path) as main:
            self.good = [self._good(main, *block) for block in self.blocks]
            weighed = [self._weighed(main, good, *block)
                       for good, block in zip(self.good, self.blocks)]
        total = sum(g[1].size for g in self.good)
        self.flagged = 1 - sum(int(g[1].sum()) for g in self.good) / total if total else 1.0
        self.weights_ok = self.flagged == 1.0 or any(weighed)

    def _good(self, main: Any, start: int, count: int) -> tuple[np.ndarray, np.ndarray]:
        """(rows that are cross correlations, which of their samples are not flagged)."""
        rows = np.flatnonzero(main.getcol("ANTENNA1", start, count)
                              != main.getcol("ANTENNA2", start, count))
        good = ~main.getcol("FLAG", start, count)[rows]
        if "FLAG_ROW" in main.colnames():
            good[main.getcol("FLAG_ROW", start, count)[rows]] = False
        return rows, good

    def _weighed(self, main: Any, good: tuple[np.ndarray, np.ndarray], start: int,
                 count: int) -> bool:
        """Whether any good sample has a positive weight."""
        rows, unflagged = good
        for name in ("WEIGHT_SPECTRUM", "WEIGHT"):
            if name in main.colnames() and main.iscelldefined(name, 0):
                weight = np.asarray(main.getcol(name, start, count))[rows]
                weight = weight if weight.ndim == 3 else weight[:, None, :]
                return bool((unflagged & np.isfinite(weight) & (weight > 0)).any())
        return bool(unflagged.any())

    def column(self, name: str) -> ColumnSample | None:
        """State of the unflagged samples of column `name`; None when all are flagged."""
        n = finite = nonzero = 0
        total = 0.0
        with open_table(self.info.path) as main:
            if not main.iscelldefined(name, 0):
                return ColumnSample(0.0, 0.0, 0.0)
            for (rows, good), (start, count) in zip(self.good, self.blocks):
                values = np.abs(np.asarray(main.getcol(name, start, count))[rows][good])
                usable = values[np.isfinite(values)]
                n, finite = n + values.size, finite + usable.size
                nonzero += int(np.count_nonzero(usable))
                total += float(usable.sum(dtype=float))
        return ColumnSample(finite / n, nonzero / n, total / max(1, finite)) if n else None


def _check_column(info: MSInfo, column: str, sample: ColumnSample | None,
                  samples: _Samples) -> list[Problem]:
    if column not in info.data_columns:
        return [Problem("no-column", f"no data column {column}; {_other_columns(column, samples)}")]
    if sample is None:
        return []
    if sample.finite == 0:
        return [Problem("nan-column", f"column {column} is NaN or empty throughout; "
                        f"{_other_columns(column, samples)}")]
    if sample.nonzero == 0:
        return [Problem("zero-column", f"column {column} is zero throughout; "
                        f"{_other_columns(column, samples)}")]
    if sample.nonzero < 0.5:
        return [Problem("partly-zero", f"{1 - sample.nonzero:.0%} of the unflagged samples of "
                        f"{column} are zero or not finite; was it written to the end?", False)]
    return []


def _other_columns(column: str, samples: _Samples) -> str:
    """Advice that names the data columns which do hold data."""
    states = {c: samples.column(c) for c in samples.info.data_columns if c != column}
    filled = [c for c, s in states.items() if s is not None and s.nonzero > 0]
    return (f"set colname to one that holds data ({', '.join(filled)})" if filled
            else "no other column holds data either")


def _check_flags(flagged: float, weights_ok: bool) -> list[Problem]:
    if flagged == 1.0:
        return [Problem("all-flagged", "everything is flagged; leave it out of the lists")]
    found = []
    if not weights_ok:
        found.append(Problem("zero-weights", "all weights of unflagged data are zero or not "
                             "finite; restore WEIGHT_SPECTRUM from the original"))
    if flagged > MAX_FLAGGED:
        found.append(Problem("much-flagged", f"{flagged:.0%} is flagged; consider leaving it out",
                             fatal=False))
    return found


def _check_alone(info: MSInfo, drop_international: bool) -> list[Problem]:
    found = []
    try:
        correlation_matrix(info.corr_types)
    except DataError as error:
        found.append(Problem("correlations", str(error)))
    foreign = [n for n, used in zip(info.ant_names, info.stations_used)
               if used and is_international(n, info.telescope)]
    if foreign and drop_international:
        found.append(Problem("international", f"international stations {', '.join(foreign)} "
                             "are left out", fatal=False))
    elif foreign:
        found.append(Problem(
            "international", f"has international stations {', '.join(foreign)}, whose baselines "
            "resolve what is imaged here; drop them (drop_international=True, or DP3 "
            "filter.baseline='[CR]S*&')"))
    found += _check_averaging(info)
    return found


def _check_averaging(info: MSInfo) -> list[Problem]:
    if info.telescope != "LOFAR":
        return []
    width, interval = float(np.median(info.chan_width)), info.interval
    found = []
    text = (f"channels of {width / 1e3:.1f} kHz and samples of {interval:.1f} s; usual are "
            "97.7 kHz (2 channels a subband) and 8 s: ")
    if width > SLACK * WELL_AVERAGED_HZ or interval > SLACK * WELL_AVERAGED_S:
        found.append(Problem("coarse", text + "sources away from the centre are smeared", False))
    if width * SLACK < WELL_AVERAGED_HZ or interval * SLACK < WELL_AVERAGED_S:
        found.append(Problem("fine", text + "averaging first would make the run cheaper", False))
    return found


def group_observations(infos: Iterable[MSInfo]) -> list[list[MSInfo]]:
    """Measurement sets that were observed together, by time; each group by ascending frequency.

    Two belong together when their time ranges overlap by at least half of the shorter one.
    """
    groups: list[list[MSInfo]] = []
    for info in sorted(infos, key=lambda i: (i.times[0], i.name)):
        for group in groups:
            if _overlap(info.time_range, group[0].time_range) >= 0.5:
                group.append(info)
                break
        else:
            groups.append([info])
    return [sorted(g, key=lambda i: (float(i.freqs.mean()), i.name)) for g in groups]


def _overlap(a: tuple[float, float], b: tuple[float, float]) -> float:
    """Common part of two ranges as a fraction of the shorter."""
    return (min(a[1], b[1]) - max(a[0], b[0])) / max(1e-9, min(a[1] - a[0], b[1] - b[0]))


def check_together(infos: list[MSInfo]) -> list[Problem]:
    """What is wrong between measurement sets that are well each by itself."""
    found = _check_channels(infos) + _check_centres(infos)
    groups = group_observations(infos)
    for group in groups:
        found += _check_band(group)
        found += _check_odd(group, "stations", lambda i: tuple(
            n for n, u in zip(i.ant_names, i.stations_used) if u), "stations differ")
        found += _check_odd(group, "intervals", lambda i: round(i.interval, 2),
                            "sampling intervals differ")
    names = {i.observation for i in infos}
    if len(infos) > 1 and len(names) != len(groups):
        found.append(Problem(
            "names", f"file names (up to the first underscore) tell {len(names)} observation(s) "
            f"but the times tell {len(groups)}; steps done by observation go by the times",
            fatal=False))
    return found


def _check_channels(infos: list[MSInfo]) -> list[Problem]:
    counts = Counter(i.n_chan for i in infos)
    if len(counts) < 2:
        return []
    usual = counts.most_common(1)[0][0]
    odd = [f"{i.path} ({i.n_chan})" for i in infos if i.n_chan != usual]
    return [Problem("channels", f"numbers of channels differ: most have {usual}, but "
                    f"{', '.join(odd)}; average them alike or leave these out")]


def _check_centres(infos: list[MSInfo]) -> list[Problem]:
    """Phase centres must agree within an arcsecond with that of most sets."""
    if len(infos) < 2:
        return []
    vectors = np.array([[np.cos(d) * np.cos(r), np.cos(d) * np.sin(r), np.sin(d)]
                        for r, d in (i.phase_centre for i in infos)])
    # The chord is accurate at small angles, where an arc cosine is not.
    apart = np.linalg.norm(vectors[:, None] - vectors[None], axis=2)
    near = apart <= ARCSEC
    usual = int(near.sum(axis=1).argmax())
    odd = [f"{infos[k].path} ({apart[usual, k] / ARCSEC:.1f} arcsec away)"
           for k in range(len(infos)) if not near[usual, k]]
    if not odd:
        return []
    return [Problem("phase-centre", f"phase centres differ from that of {infos[usual].path}: "
                    f"{', '.join(odd)}; shift them (DP3 phaseshift) or leave them out")]


def _check_band(group: list[MSInfo]) -> list[Problem]:
    """Overlaps (the same data twice) and gaps in the band of one observation."""
    found = []
    for low, high in zip(group, group[1:]):
        common = low.freq_range[1] - high.freq_range[0]
        if common > 0.5 * float(high.chan_width.min()):
            found.append(Problem(
                "duplicate", f"{low.path} and {high.path} hold the same time and frequency "
                f"({high.freq_range[0] / 1e6:.3f} MHz); keep one of them"))
    centres = np.array([i.freqs.mean() for i in group])
    steps = np.diff(centres)
    usual = np.median(steps) if steps.size else 0.0
    for k in np.flatnonzero(steps > SLACK * usual):
        found.append(Problem(
            "gap", f"nothing between {group[k].name} ({centres[k] / 1e6:.2f} MHz) and "
            f"{group[k + 1].name} ({centres[k + 1] / 1e6:.2f} MHz); is a set missing?", False))
    return found


def _check_odd(group: list[MSInfo], code: str, key: Any, text: str) -> list[Problem]:
    """Warn of the members of `group` whose `key` is not that of most."""
    counts = Counter(key(i) for i in group)
    usual = counts.most_common(1)[0][0]
    odd = [i.name for i in group if key(i) != usual]
    return [Problem(code, f"{text} within an observation: {', '.join(odd)} unlike the others",
                    fatal=False)] if odd else []
