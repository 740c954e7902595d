"""Gains from the solution tables of an h5parm: which tables, and how they come to one grid.

Gains are the product of what the tables say, in any mixture that solvers and LoSoTo leave behind:

    phase, scalarphase           exp(i phase)
    amplitude, scalaramplitude   amplitude
    tec                          exp(i TEC_PHASE tec / nu), tec in TECU
    clock                        exp(2 pi i nu clock), clock in s

Tables on different times, frequencies or polarisations are looked up at the nearest interval of
each: the finest time axis and the finest frequency axis count.  Layout: de Gasperin et al. 2019,
A&A 622, A5.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ddfpipe.calibration.gains import CORRELATIONS, nearest_interval
from ddfpipe.errors import SolveError
from ddfpipe.units import TEC_PHASE

AXES = ("time", "freq", "ant", "dir", "pol")
PHASES = ("phase", "scalarphase")
AMPLITUDES = ("amplitude", "scalaramplitude")
DELAYS = ("tec", "clock")


@dataclass
class SolutionTable:
    """One soltab: val and weight (time, freq, ant, dir, pol) float64, axes name -> values.

    Axes that the file lacks have length one and the value None.
    """

    kind: str
    val: np.ndarray
    weight: np.ndarray
    axes: dict[str, np.ndarray | None]

    def names(self, axis: str) -> list[str] | None:
        """Values of a text axis, None if the table has no such axis."""
        values = self.axes[axis]
        return None if values is None else [_text(value) for value in values]


@dataclass
class JoinedTables:
    """Product of tables: gains and bad (time, freq, ant, dir, pol), axes as centres and names.

    times and freqs are None where no table has such an axis.
    """

    gains: np.ndarray
    bad: np.ndarray
    times: np.ndarray | None
    freqs: np.ndarray | None
    stations: list[str] | None
    directions: list[str] | None


def _text(value: object) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def centres_to_edges(centres: np.ndarray | None) -> np.ndarray:
    """(n, 2) interval edges half-way between centres; one lonely centre gives an interval of zero
    width around it, which nearest-interval look-up extends to everything; None gives [0, 0]."""
    if centres is None:
        return np.zeros((1, 2))
    centres = np.asarray(centres, np.float64)
    if len(centres) == 1:
        return np.repeat(centres[:, None], 2, axis=1)
    middle = (centres[1:] + centres[:-1]) / 2
    first, last = 2 * centres[0] - middle[0], 2 * centres[-1] - middle[-1]
    return np.stack([np.append(first, middle), np.append(middle, last)], axis=1)


def choose_tables(path: Path, tables: Mapping[str, SolutionTable],
                  wanted: Sequence[str] | None = None) -> dict[str, SolutionTable]:
    """The tables to multiply, by name.

    wanted: their names; None takes the first table of phases and the first of amplitudes.  Without
    phases TEC and clock stand in for them; phases of one frequency, as DP3's `tecandphase` has
    them, are joined by the TEC.  Raises SolveError when one is missing or says nothing of gains.
    """
    there = ", ".join(f"{name} ({table.kind})" for name, table in tables.items()) or "none"
    if wanted:
        lacking = [name for name in wanted if name not in tables]
        if lacking:
            raise SolveError(f"{path}: no solution table {', '.join(lacking)}; its tables are "
                             f"{there}")
        chosen = {name: tables[name] for name in wanted}
        unfit = [name for name, t in chosen.items() if t.kind not in PHASES + AMPLITUDES + DELAYS]
        if unfit:
            raise SolveError(f"{path}: {', '.join(unfit)}: not phases, amplitudes, TEC or clock")
        return chosen

    def first(kinds: Sequence[str]) -> dict[str, SolutionTable]:
        return next(({name: t} for name, t in tables.items() if t.kind in kinds), {})

    phases, amplitudes, tec = first(PHASES), first(AMPLITUDES), first(("tec",))
    if not phases:
        phases = tec | first(("clock",))
    elif tec and next(iter(phases.values())).val.shape[1] == 1:
        phases |= tec
    if not phases and not amplitudes:
        raise SolveError(f"{path}: neither phases nor amplitudes, TEC or clock; its tables are "
                         f"{there}")
    return phases | amplitudes


def join_tables(path: Path, chosen: Mapping[str, SolutionTable],
                freqs: np.ndarray | None = None) -> JoinedTables:
    """The product of tables on one grid.

    freqs: (n,) Hz, ascending, where TEC and clock are evaluated; None takes the frequencies of the
    phases or amplitudes that go with them, if these have at least two.  Raises SolveError when the
    tables do not fit each other or axes do not grow.
    """
    times = _finest(path, "time", chosen)
    given = _finest(path, "freq", {n: t for n, t in chosen.items() if t.kind not in DELAYS})
    delays = [name for name, t in chosen.items() if t.kind in DELAYS]
    freqs = given if freqs is None or not delays else np.asarray(freqs, np.float64)
    if delays and (freqs is None or (freqs is given and len(freqs) < 2)):
        raise SolveError(f"{path}: {', '.join(delays)} need frequencies, and the file does not "
                         "tell those of the data; name the measurement set or the frequencies")
    stations = _common(path, "ant", chosen)
    directions = _common(path, "dir", chosen)
    parts = [_on_grid(path, name, table, times, freqs, stations, directions)
             for name, table in chosen.items()]
    n_corr = max(value.shape[4] for value, _ in parts)
    if any(value.shape[4] not in (1, n_corr) for value, _ in parts):
        raise SolveError(f"{path}: {', '.join(chosen)} have different polarisations; name those "
                         "that belong together")
    gains, bad = 1.0, False
    for value, flag in parts:
        gains, bad = gains * value, bad | flag
    gains, bad = np.broadcast_arrays(gains, bad)
    gains, bad = np.array(gains, np.complex128), np.array(bad)
    if n_corr == 4:
        gains[..., 1:3][bad[..., 1:3]] = 0.0
    gains[..., [0, -1]] = np.where(bad[..., [0, -1]], 1.0, gains[..., [0, -1]])
    return JoinedTables(gains, bad, times, freqs, stations, directions)


def _finest(path: Path, axis: str, chosen: Mapping[str, SolutionTable]) -> np.ndarray | None:
    """The longest axis of that name, checked to grow; None if no table has one."""
    best = None
    for name, table in chosen.items():
        values = table.axes[axis]
        if values is None:
            continue
        values = np.asarray(values, np.float64)
        if np.any(np.diff(values) <= 0) or not np.isfinite(values).all():
            raise SolveError(f"{path}: the {axis} axis of {name} does not grow; it cannot be used")
        if best is None or len(values) > len(best):
            best = values
    return best


def _common(path: Path, axis: str, chosen: Mapping[str, SolutionTable]) -> list[str] | None:
    """Names on a text axis, which must be the same set in all tables that have it."""
    lists = {name: t.names(axis) for name, t in chosen.items() if t.names(axis) is not None}
    if not lists:
        return None
    (first, names), *others = lists.items()
    what = {"ant": "stations", "dir": "directions"}[axis]
    if len(set(names)) != len(names):
        raise SolveError(f"{path}: {first} names {what} twice; the file is damaged")
    for name, other in others:
        differing = sorted(set(names) ^ set(other))
        if differing:
            raise SolveError(f"{path}: {first} and {name} are for different {what}: "
                             f"{', '.join(differing[:5])}; name tables that belong together")
    return names


def _on_grid(path: Path, name: str, table: SolutionTable, times, freqs, stations, directions):
    """(value, bad) of one table on the common grid; axes that it lacks keep length one."""
    val, weight = table.val, table.weight
    if table.kind in DELAYS:  # a frequency of theirs is only that of their solve
        val, weight = val[:, :1], weight[:, :1]
    grids = (("time", times),) if table.kind in DELAYS else (("time", times), ("freq", freqs))
    for number, (axis, grid) in enumerate(grids):
        if table.axes[axis] is not None:
            index = nearest_interval(centres_to_edges(table.axes[axis]), grid)
            val, weight = val.take(index, number), weight.take(index, number)
    for number, (axis, wanted) in enumerate((("ant", stations), ("dir", directions)), start=2):
        have = table.names(axis)
        if have is not None:
            index = [have.index(one) for one in wanted]
            val, weight = val.take(index, number), weight.take(index, number)
    order = _polarisations(path, name, table)
    val, weight = val.take(order, 4), weight.take(order, 4)
    good = np.isfinite(val) & (weight > 0)
    val = np.where(good, val, 1.0 if table.kind in AMPLITUDES else 0.0)
    if table.kind in AMPLITUDES:
        return val, ~good
    if table.kind in PHASES:
        return np.exp(1j * val), ~good
    nu = np.asarray(freqs)[:, None, None, None]
    turn = TEC_PHASE / nu if table.kind == "tec" else 2 * np.pi * nu
    return np.exp(1j * turn * val), ~good & np.ones_like(turn, bool)


def _polarisations(path: Path, name: str, table: SolutionTable) -> list[int]:
    """Where XX, (XY, YX,) YY are on the axis of polarisations."""
    number = table.val.shape[4]
    if number not in CORRELATIONS:
        raise SolveError(f"{path}: {name} has {number} polarisations; 1, 2 or 4 can be read")
    labels = table.names("pol")
    if labels is None or number == 1:
        return list(range(number))
    for wanted in (CORRELATIONS[number], ("X", "Y")):
        if sorted(labels) == sorted(wanted):
            return [labels.index(one) for one in wanted]
    raise SolveError(f"{path}: {name} has the polarisations {', '.join(labels)}; "
                     f"{', '.join(CORRELATIONS[number])} can be read. Convert circular ones before")
