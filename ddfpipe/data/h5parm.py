"""h5parm, the field's interchange format for gains, read and written with h5py.

A solution set (`/sol000`) holds `antenna` and `source` tables and solution tables such as
`phase000` and `amplitude000`: `val` and `weight` with one dataset per axis beside them.  The order
of axes differs between writers and is read from the AXES attribute; missing axes count as length
one.  Layout: de Gasperin et al. 2019, A&A 622, A5 (LoSoTo).  A value that is not finite or has
weight zero is flagged.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import h5py
import numpy as np

from ddfpipe.calibration.gains import CORRELATIONS, GainTable
from ddfpipe.data.atomic import atomic_path
from ddfpipe.data.killms import NAMES
from ddfpipe.data.soltabs import (AXES, SolutionTable, centres_to_edges, choose_tables,
                                  join_tables)
from ddfpipe.errors import SolveError

OWN = "ddfpipe_"
"""What begins the names of this project's additions to an h5parm."""
USED = "SolutionTables"
"""Entry of `GainTable.meta`: which tables the gains were made of, joined by +."""


def _text(value: object) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def _read_soltab(path: Path, group: h5py.Group) -> SolutionTable:
    """A soltab with its axes brought into our order."""
    name = group.name
    if "val" not in group or "AXES" not in group["val"].attrs:
        raise SolveError(f"{path}: {name} has no values or no AXES; it is not a solution table")
    order = _text(group["val"].attrs["AXES"]).split(",")
    unknown = set(order) - set(AXES)
    if unknown:
        raise SolveError(f"{path}: {name} has axes {','.join(order)}; {', '.join(sorted(unknown))} "
                         "cannot be read")
    present = [axis for axis in AXES if axis in order]
    missing = tuple(i for i, axis in enumerate(AXES) if axis not in order)
    permutation = [order.index(axis) for axis in present]

    def arrange(dataset: h5py.Dataset) -> np.ndarray:
        array = np.asarray(dataset[()], np.float64)
        if array.ndim != len(order):
            raise SolveError(f"{path}: {dataset.name} has {array.ndim} axes, AXES names "
                             f"{len(order)}; the file is damaged")
        return np.expand_dims(array.transpose(permutation), missing)

    val = arrange(group["val"])
    weight = arrange(group["weight"]) if "weight" in group else np.ones(val.shape)
    axes = {axis: group[axis][()] if axis in order and axis in group else None for axis in AXES}
    title = group.attrs.get("TITLE", b"")
    kind = _text(title) if title and not isinstance(title, h5py.Empty) else \
        name.rsplit("/", 1)[-1].rstrip("0123456789")
    return SolutionTable(kind, val, weight, axes)


def _solset(path: Path, file: h5py.File, wanted: str | None) -> str:
    """Name of the solution set to read."""
    sets = sorted(key for key in file if isinstance(file[key], h5py.Group))
    if wanted is not None and wanted in sets:
        return wanted
    if wanted is None and "sol000" in sets:
        return "sol000"
    if wanted is None and len(sets) == 1:
        return sets[0]
    if not sets:
        raise SolveError(f"{path}: no solution set at all; it is not an h5parm")
    raise SolveError(f"{path}: no solution set {wanted or 'sol000'}; name one of "
                     f"{', '.join(sets)}")


def read_soltabs(path: str | Path, solset: str | None = None) -> tuple[dict, dict, dict]:
    """All solution tables of one solution set.

    Returns (soltabs name -> SolutionTable, antennas name -> position (3,) m, sources name ->
    (ra, dec) rad).  solset: None takes sol000, or the only one.
    Raises SolveError when the file is missing, damaged or no h5parm, or has no such set.
    """
    path = Path(path)
    try:
        with h5py.File(path, "r") as file:
            group = file[_solset(path, file, solset)]
            tables = {key: _read_soltab(path, item) for key, item in sorted(group.items())
                      if isinstance(item, h5py.Group) and "val" in item}
            antennas = {_text(row["name"]): np.asarray(row["position"], np.float64)
                        for row in group["antenna"][()]} if "antenna" in group else {}
            sources = {_text(row["name"]): np.asarray(row["dir"], np.float64)
                       for row in group["source"][()]} if "source" in group else {}
    except (OSError, KeyError, RuntimeError, ValueError) as error:
        raise SolveError(f"{path}: cannot be read as an h5parm ({error}); make it again or give "
                         "another file") from error
    return tables, antennas, sources


def read_h5parm(path: str | Path, solset: str | None = None, *,
                soltabs: Sequence[str] | None = None,
                freqs: np.ndarray | None = None) -> GainTable:
    """The gains that the tables of an h5parm tell, as one GainTable.

    soltabs: names of the tables to multiply; None chooses, see `choose_tables`.  freqs: (n,) Hz
    for TEC and clock, see `join_tables`.  A table of phases alone has amplitude one, and the other
    way round.  Raises SolveError.
    """
    path = Path(path)
    tables, antennas, sources = read_soltabs(path, solset)
    chosen = choose_tables(path, tables, soltabs)
    joined = join_tables(path, chosen, freqs)
    extra = _read_extra(path, solset)
    error = extra.get("error")
    stations = joined.stations or ["all"]
    known = all(name in antennas for name in stations)
    names = {} if joined.directions is None or _plain(joined.directions) \
        else {NAMES: ",".join(joined.directions)}
    return GainTable(_edges(joined.times, extra.get("time_edges")),
                     _edges(joined.freqs, extra.get("freq_edges")), joined.gains, stations,
                     _places(path, joined.directions, sources), flag=joined.bad,
                     error=error if error is not None and error.shape == joined.gains.shape
                     else None,
                     ant_pos=np.array([antennas[name] for name in stations]) if known else None,
                     meta=extra.get("meta", {}) | names | {USED: "+".join(chosen)})


def _plain(names: Sequence[str]) -> bool:
    """Whether names need not be kept: they are those given to unnamed directions, or cannot be."""
    return list(names) == _numbered(len(names)) or any("," in name for name in names)


def _numbered(number: int) -> list[str]:
    return [f"[dir{i:02d}]" for i in range(number)]


def _direction_names(table: GainTable) -> list[str]:
    """Names of the directions: as they were read, else [dir00], [dir01], ..."""
    names = str(table.meta.get(NAMES, "")).split(",")
    usable = len(names) == len(table.directions) == len(set(names)) and all(names)
    return names if usable else _numbered(len(table.directions))


def _edges(centres: np.ndarray | None, stored: np.ndarray | None) -> np.ndarray:
    """Interval edges: those stored beside the tables as long as they fit the axis.

    Where times are missing an interval half-way to its neighbours is far from the stored one, so it
    is the centres that have to agree.
    """
    if centres is None or stored is None or stored.shape != (len(centres), 2):
        return centres_to_edges(centres)
    apart = np.abs(stored.mean(axis=1) - centres)
    fits = apart <= np.diff(stored, axis=1)[:, 0] / 2 + 1e-9 * np.abs(stored[:, 0])
    return stored if fits.all() else centres_to_edges(centres)


def _places(path: Path, names: list[str] | None, sources: dict) -> np.ndarray:
    """(n_dir, 2) right ascension (0 to 2 pi) and declination; NaN where the file does not tell."""
    if names is None:
        found = list(sources.values())[:1] or [np.full(2, np.nan)]
    else:
        found = [sources.get(name, np.full(2, np.nan)) for name in names]
    places = np.array(found, np.float64)
    if (np.abs(places[:, 1]) > np.pi / 2 + 1e-6).any() or (np.abs(places[:, 0]) > 7.0).any():
        raise SolveError(f"{path}: the table of sources has directions such as "
                         f"{places[np.nanargmax(np.abs(places).max(axis=1))]}; they must be in "
                         "radians")
    places[:, 0] %= 2 * np.pi
    return places


def _read_extra(path: Path, solset: str | None) -> dict:
    """What this project adds to an h5parm: interval edges, errors and meta values."""
    with h5py.File(path, "r") as file:
        group = file[_solset(path, file, solset)]
        names = ("time_edges", "freq_edges", "error")
        out = {key: group[OWN + key][()] for key in names if OWN + key in group}
        if not out:
            return {}
        out["meta"] = {
            key.removeprefix(OWN): _text(value) if isinstance(value, bytes | str) else value.item()
            for key, value in group.attrs.items() if key.startswith(OWN)
        }
        return out


def write_h5parm(table: GainTable, path: str | Path) -> None:
    """Write a table as an h5parm with phase000 and amplitude000, whole or not at all.

    Readable by LoSoTo, DP3 and WSClean; directions have the names that they were read with, else
    [dir00], [dir01], ...  Weights are 0 where flagged (the values there are NaN, as DP3 expects)
    and 1 elsewhere.  Beside the standard tables, datasets `ddfpipe_...` keep the interval edges and
    the errors, attributes the meta values; a group of our own would stop WSClean, which takes every
    group for a solution table.  The bytes depend on the table alone.
    """
    with atomic_path(path) as temporary, \
            h5py.File(temporary, "w", libver="earliest", track_order=False) as file:
        group = file.create_group("sol000")
        group.attrs["h5parm_version"] = np.bytes_("1.0")
        directions = _direction_names(table)
        _write_headers(group, table, directions)
        gains = np.asarray(table.gains, np.complex128)
        for kind, value in (("amplitude", np.abs(gains)), ("phase", np.angle(gains))):
            _write_soltab(group, kind, np.where(table.flag, np.nan, value), table, directions)
        extra = {"time_edges": table.time_edges, "freq_edges": table.freq_edges}
        if table.error is not None:
            extra["error"] = table.error.astype(np.float32)
        for key, value in extra.items():
            group.create_dataset(OWN + key, data=value, track_times=False)
        for key, value in sorted(table.meta.items()):
            if key == USED:
                continue
            group.attrs[OWN + key] = np.bytes_(value) if isinstance(value, str) else value


def _write_headers(group: h5py.Group, table: GainTable, directions: list[str]) -> None:
    long = [name for name in table.ant_names if len(name) > 16]
    if long:
        raise SolveError(f"station name {long[0]} is too long for an h5parm (16 letters)")
    antenna = np.zeros(len(table.ant_names), [("name", "S16"), ("position", "<f4", (3,))])
    antenna["name"] = [name.encode() for name in table.ant_names]
    if table.ant_pos is not None:
        antenna["position"] = table.ant_pos
    source = np.zeros(len(directions), [("name", "S128"), ("dir", "<f8", (2,))])
    source["name"] = [name.encode() for name in directions]
    source["dir"] = table.directions
    # Right ascensions lie in -pi..pi in this format.
    source["dir"][:, 0] = (source["dir"][:, 0] + np.pi) % (2 * np.pi) - np.pi
    group.create_dataset("antenna", data=antenna, track_times=False)
    group.create_dataset("source", data=source, track_times=False)


def _write_soltab(group: h5py.Group, kind: str, value: np.ndarray, table: GainTable,
                  directions: list[str]) -> None:
    soltab = group.create_group(f"{kind}000")
    soltab.attrs["TITLE"] = np.bytes_(kind)
    soltab.attrs["h5parm_version"] = np.bytes_("1.0")
    weight = (~table.flag).astype(np.float32)
    names = "time,freq,ant,dir,pol"
    if table.n_corr == 1:
        names, value, weight = "time,freq,ant,dir", value[..., 0], weight[..., 0]
    axes = {"time": table.times, "freq": table.freqs,
            "ant": np.array([name.encode() for name in table.ant_names], "S16"),
            "dir": np.array([name.encode() for name in directions], "S128")}
    if table.n_corr > 1:
        axes["pol"] = np.array([name.encode() for name in CORRELATIONS[table.n_corr]], "S2")
    for name, array in (("val", value), ("weight", weight)):
        dataset = soltab.create_dataset(name, data=array, track_times=False)
        dataset.attrs["AXES"] = np.bytes_(names)
    for name, array in axes.items():
        soltab.create_dataset(name, data=array, track_times=False)
