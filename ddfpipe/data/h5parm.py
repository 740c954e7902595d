"""h5parm, the field's interchange format for gains, read and written with h5py.

A solution set (`/sol000`) holds `antenna` and `source` tables and solution tables such as
`phase000` and `amplitude000`: `val` and `weight` with one dataset per axis beside them.  The order
of axes differs between writers and is read from the AXES attribute; missing axes count as length
one.  Layout: de Gasperin et al. 2019, A&A 622, A5 (LoSoTo).  A value that is not finite or has
weight zero is flagged.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np

from ddfpipe.calibration.gains import CORRELATIONS, GainTable
from ddfpipe.data.atomic import atomic_path
from ddfpipe.errors import SolveError

AXES = ("time", "freq", "ant", "dir", "pol")
OWN = "ddfpipe_"
"""What begins the names of this project's additions to an h5parm."""


@dataclass
class SolutionTable:
    """One soltab: val and weight (time, freq, ant, dir, pol) float64, axes name -> values.

    Axes that the file lacks have length one and the value None.
    """

    kind: str
    val: np.ndarray
    weight: np.ndarray
    axes: dict[str, np.ndarray | None]


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


def read_soltabs(path: str | Path, solset: str | None = None) -> tuple[dict, dict, dict]:
    """All solution tables of one solution set.

    Returns (soltabs name -> SolutionTable, antennas name -> position (3,) m, sources name ->
    (ra, dec) rad).  solset: None takes the first in alphabetical order ("sol000" if there).
    Raises SolveError when the file is missing, damaged or no h5parm.
    """
    path = Path(path)
    try:
        with h5py.File(path, "r") as file:
            sets = sorted(key for key in file if isinstance(file[key], h5py.Group))
            name = solset or ("sol000" if "sol000" in sets else next(iter(sets), ""))
            if name not in file:
                raise SolveError(f"{path}: no solution set {name or 'at all'}; it is not an "
                                 "h5parm")
            group = file[name]
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


def _edges(path: Path, axis: str, table: SolutionTable, stored: np.ndarray | None) -> np.ndarray:
    edges = centres_to_edges(table.axes[axis])
    if stored is not None and stored.shape == edges.shape:
        return stored
    if np.any(np.diff(edges.mean(axis=1)) <= 0):
        raise SolveError(f"{path}: the {axis} axis does not grow; it cannot be used")
    return edges


def read_h5parm(path: str | Path, solset: str | None = None) -> GainTable:
    """Phases and amplitudes of an h5parm as a GainTable.

    A table of phases alone has amplitude one, and the other way round.  Lone polarisation axes of
    2 or 4 become n_corr; other lengths are an error.  Raises SolveError.
    """
    path = Path(path)
    tables, antennas, sources = read_soltabs(path, solset)
    phase = next((t for t in tables.values() if t.kind == "phase"), None)
    amplitude = next((t for t in tables.values() if t.kind == "amplitude"), None)
    main = phase or amplitude
    if main is None:
        raise SolveError(f"{path}: neither phases nor amplitudes; its tables are "
                         f"{', '.join(tables) or 'none'}")
    if phase and amplitude and phase.val.shape != amplitude.val.shape:
        raise SolveError(f"{path}: phases {phase.val.shape} and amplitudes "
                         f"{amplitude.val.shape} are on different grids; bring them to one first")
    if main.val.shape[4] not in CORRELATIONS:
        raise SolveError(f"{path}: {main.val.shape[4]} polarisations; 1, 2 or 4 can be read")
    bad = np.zeros(main.val.shape, bool)
    log_gain = np.zeros(main.val.shape, np.complex128)
    for table, factor in ((phase, 1j), (amplitude, 1.0)):
        if table is None:
            continue
        good = np.isfinite(table.val) & (table.weight > 0)
        value = np.where(good, table.val, 0.0 if table is phase else 1.0)
        if table is amplitude:
            # A full-Jones amplitude of exactly zero is a value, not a gap: keep it as zero.
            log_gain += np.log(np.maximum(value, 1e-300))
        else:
            log_gain += factor * value
        bad |= ~good
    gains = np.exp(log_gain)
    if gains.shape[4] == 4:
        gains[..., 1:3][bad[..., 1:3]] = 0.0
    extra = _read_extra(path, solset)
    names = [_text(n) for n in main.axes["ant"]] if main.axes["ant"] is not None else ["all"]
    dirs = [_text(n) for n in main.axes["dir"]] if main.axes["dir"] is not None else []
    directions = np.array([sources.get(n, (np.nan, np.nan)) for n in dirs]
                          or [next(iter(sources.values()), (np.nan, np.nan))], np.float64)
    directions[:, 0] %= 2 * np.pi
    positions = np.array([antennas[n] for n in names]) \
        if all(n in antennas for n in names) else None
    return GainTable(_edges(path, "time", main, extra.get("time_edges")),
                     _edges(path, "freq", main, extra.get("freq_edges")), gains, names,
                     directions, error=extra.get("error"), flag=bad, ant_pos=positions,
                     meta=extra.get("meta", {}))


def _read_extra(path: Path, solset: str | None) -> dict:
    """What this project adds to an h5parm: interval edges, errors and meta values."""
    with h5py.File(path, "r") as file:
        group = file.get(solset or "sol000")
        if group is None:
            return {}
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

    Readable by LoSoTo, DP3 and WSClean.  Weights are 0 where flagged (the values there are NaN, as
    DP3 expects) and 1 elsewhere.  Beside the standard tables, datasets `ddfpipe_...` keep the
    interval edges and the errors, attributes the meta values; a group of our own would stop WSClean,
    which takes every group for a solution table.  The bytes depend on the table alone.
    """
    with atomic_path(path) as temporary, \
            h5py.File(temporary, "w", libver="earliest", track_order=False) as file:
        group = file.create_group("sol000")
        group.attrs["h5parm_version"] = np.bytes_("1.0")
        directions = [f"[dir{i:02d}]" for i in range(len(table.directions))]
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
            group.attrs[OWN + key] = np.bytes_(value) if isinstance(value, str) else value


def _write_headers(group: h5py.Group, table: GainTable, directions: list[str]) -> None:
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
