"""Gain tables made to fit: the stations, times and band of a measurement set, and each other.

Programs that exchange solutions agree on less than they seem to.  killMS and DDFacet take stations
by number, everything else by name; a table of one interval may not say how wide it is; one for a
single direction may not say which.  The measurement set tells.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from ddfpipe.calibration.gains import GainTable, concatenate
from ddfpipe.data.killms import NAMES
from ddfpipe.data.ms import MSInfo
from ddfpipe.errors import SolveError


def fit_to_ms(table: GainTable, info: MSInfo, *, source: str | Path = "gains",
              fill: bool = False) -> tuple[GainTable, list[str]]:
    """The table for a measurement set: its stations in its order, intervals that say their width.

    fill: stations that the table lacks get gain one, flagged.  A lone direction without a place is
    the phase centre's.  Returns the table and remarks for a person.  Raises SolveError when
    stations are missing (and not to be filled), or times or frequencies are not those of the data.
    """
    index, remarks = _stations(table, info, source, fill)
    have = index >= 0
    shape = (*table.gains.shape[:2], len(index), *table.gains.shape[3:])
    gains, flag = np.zeros(shape, table.gains.dtype), np.ones(shape, bool)
    gains[..., [0, -1]] = 1
    gains[:, :, have], flag[:, :, have] = table.gains[:, :, index[have]], table.flag[:, :,
                                                                                     index[have]]
    error = None
    if table.error is not None:
        error = np.full(shape, np.inf, table.error.dtype)
        error[:, :, have] = table.error[:, :, index[have]]
    directions = table.directions
    if len(directions) == 1 and not np.isfinite(directions).all():
        directions = np.array([info.phase_centre])
        remarks.append("the direction is taken to be the phase centre")
    fitted = replace(
        table, gains=gains, flag=flag, error=error, ant_names=list(info.ant_names),
        ant_pos=np.array(info.ant_pos), directions=directions,
        time_edges=_covering(table.time_edges, info.time_range, "times", "s", source),
        freq_edges=_covering(table.freq_edges, info.freq_range, "frequencies", "Hz", source),
        meta=table.meta | {"MSName": str(info.path), "MSNameTime0": float(info.times[0])})
    return fitted, remarks


def _stations(table: GainTable, info: MSInfo, source: str | Path,
              fill: bool) -> tuple[np.ndarray, list[str]]:
    """(n_ant,) where each station of the set is in the table, -1 for none, and remarks."""
    place = {name: k for k, name in enumerate(table.ant_names)}
    index = np.array([place.get(name, -1) for name in info.ant_names])
    absent = [name for name, k in zip(info.ant_names, index) if k < 0]
    if len(absent) == len(index):
        raise SolveError(f"{source}: none of its stations ({_few(table.ant_names)}) is in "
                         f"{info.path} ({_few(info.ant_names)}); these are solutions of another "
                         "array")
    if absent and not fill:
        raise SolveError(f"{source}: no solutions for {_few(absent)} of {info.path}; fill them "
                         "with gain one (--fill), or solve again with all stations")
    remarks = [f"gain one for {_few(absent)}"] if absent else []
    left = sorted(set(table.ant_names) - set(info.ant_names))
    return index, remarks + ([f"left out, not in the measurement set: {_few(left)}"] if left
                             else [])


def _few(names: Sequence[str]) -> str:
    names = list(names)
    return ", ".join(names[:6]) + (f" and {len(names) - 6} more" if len(names) > 6 else "")


def _covering(edges: np.ndarray, extent: tuple[float, float], what: str, unit: str,
              source: str | Path) -> np.ndarray:
    """Edges, or the whole extent of the data for a lone interval that does not say its width.

    Raises SolveError when the data begin after the last interval or end before the first, by more
    than the width of an interval.
    """
    low, high = float(edges.min()), float(edges.max())
    unknown = len(edges) == 1 and low == high
    if unknown and low == 0.0:
        return np.array([extent])
    slack = float(np.diff(edges, axis=1).max()) or (extent[1] - extent[0])
    if extent[0] > high + slack or extent[1] < low - slack:
        raise SolveError(f"{source}: its {what} {low:.9g} to {high:.9g} {unit} are not those of "
                         f"the data, {extent[0]:.9g} to {extent[1]:.9g} {unit}; give solutions of "
                         "this observation")
    return np.array([extent]) if unknown else edges


def join(tables: Sequence[GainTable]) -> GainTable:
    """Tables of one observation as one: joined in time, frequency or direction, where they differ.

    Raises SolveError when they differ in more than that.
    """
    first = tables[0]
    if len(tables) == 1:
        return first
    same = {axis: all(_alike(getattr(t, axis), getattr(first, axis)) for t in tables)
            for axis in ("time_edges", "freq_edges", "directions")}
    stations = all(t.ant_names == first.ant_names and t.n_corr == first.n_corr for t in tables)
    differing = [axis for axis, alike in same.items() if not alike]
    if not stations or len(differing) != 1:
        words = {"time_edges": "times", "freq_edges": "frequencies", "directions": "directions"}
        what = " and ".join(words[axis] for axis in differing) or "nothing"
        raise SolveError("solutions can be joined when they differ in times, frequencies or "
                         "directions alone; these differ in "
                         + (what if stations else "stations or polarisations"))
    if differing == ["time_edges"]:
        return concatenate(tables)
    if differing == ["freq_edges"]:
        return _stacked(sorted(tables, key=lambda t: t.freq_edges[0, 0]), "freq_edges", 1)
    return _stacked(tables, "directions", 3)


def _alike(a: np.ndarray, b: np.ndarray) -> bool:
    return a.shape == b.shape and np.allclose(a, b, rtol=1e-12, atol=1e-6, equal_nan=True)


def _stacked(tables: Sequence[GainTable], name: str, axis: int) -> GainTable:
    values = np.concatenate([getattr(t, name) for t in tables])
    if name == "freq_edges" and (np.diff(values.mean(axis=1)) <= 0).any():
        raise SolveError("solutions to be joined overlap in frequency; give each band once")
    error = None if any(t.error is None for t in tables) \
        else np.concatenate([t.error for t in tables], axis=axis)
    meta = dict(tables[0].meta)
    if name == "directions":
        names = [str(t.meta.get(NAMES, "")) for t in tables]
        meta[NAMES] = ",".join(names) if all(names) else ""
    return replace(tables[0], **{name: values}, error=error, meta=meta,
                   gains=np.concatenate([t.gains for t in tables], axis=axis),
                   flag=np.concatenate([t.flag for t in tables], axis=axis))
