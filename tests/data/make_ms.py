"""Small measurement sets for tests, written with casacore alone."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from casacore import tables

START = 5.0e9
RA, DEC = 3.2, 0.6
CENTRE = np.array([3826577.0, 461022.0, 5064892.0])
LINEAR = (9, 10, 11, 12)


@dataclass
class Spec:
    """What to write.  `drop` and `order` act on the rows of the full, sorted grid."""

    n_ant: int = 5
    n_time: int = 4
    n_chan: int = 3
    interval: float = 8.0
    start: float = START
    freq0: float = 120e6
    width: float = 97656.25
    centre: tuple[float, float] = (RA, DEC)
    corr: tuple[int, ...] = LINEAR
    telescope: str = "LOFAR"
    names: tuple[str, ...] = ()
    autos: bool = True
    columns: tuple[str, ...] = ("DATA",)
    weight_spectrum: bool = True
    descending: bool = False
    drop: tuple[int, ...] = ()
    shuffle: bool = False
    swap: tuple[int, ...] = ()
    n_field: int = 1
    n_spw: int = 1
    seed: int = 0


def positions(n_ant: int) -> np.ndarray:
    """Station positions, ITRF metres."""
    return CENTRE + np.random.default_rng(7).normal(0, 3000.0, (n_ant, 3))


def turn(time: np.ndarray) -> np.ndarray:
    """(n, 3, 3) matrices from ITRF baselines to uvw at `time`: a plain rotating Earth."""
    angle = 2 * np.pi * np.asarray(time) / 86164.1 - RA
    s, c = np.sin(angle), np.cos(angle)
    sd, cd = np.sin(DEC), np.cos(DEC)
    rows = [[s, c, 0 * s], [-sd * c, sd * s, cd + 0 * s], [cd * c, -cd * s, sd + 0 * s]]
    return np.moveaxis(np.array(rows), -1, 0)


def grid(spec: Spec) -> dict[str, np.ndarray]:
    """Rows of the full grid in order of time and baseline: time, ant1, ant2, uvw, data, ..."""
    rng = np.random.default_rng(spec.seed)
    pairs = [(i, j) for i in range(spec.n_ant) for j in range(i, spec.n_ant)
             if spec.autos or i != j]
    ant1, ant2 = (np.tile([p[k] for p in pairs], spec.n_time) for k in (0, 1))
    time = np.repeat(spec.start + spec.interval * (np.arange(spec.n_time) + 0.5), len(pairs))
    pos = positions(spec.n_ant)
    uvw = np.einsum("rij,rj->ri", turn(time), pos[ant2] - pos[ant1])
    shape = (len(time), spec.n_chan, len(spec.corr))
    data = (rng.normal(size=shape) + 1j * rng.normal(size=shape)).astype(np.complex64)
    return {"time": time, "ant1": ant1, "ant2": ant2, "uvw": uvw, "data": data,
            "weight": rng.uniform(0.5, 2.0, shape).astype(np.float32),
            "flag": np.zeros(shape, bool)}


def write_ms(path: Path, spec: Spec = Spec(), rows: dict[str, np.ndarray] | None = None) -> dict:
    """Write a measurement set; returns the rows of the grid as they were before any reordering.

    rows: values to use instead of those of `grid` (edited flags, data, ...).
    """
    rows = grid(spec) if rows is None else rows
    order = np.setdiff1d(np.arange(len(rows["time"])), spec.drop)
    if spec.shuffle:
        order = np.random.default_rng(3).permutation(order)
    stored = {k: v[order].copy() for k, v in rows.items()}
    swap = np.isin(order, spec.swap)
    stored["ant1"][swap], stored["ant2"][swap] = stored["ant2"][swap], stored["ant1"][swap]
    stored["uvw"][swap] *= -1
    transpose = [spec.corr.index({10: 11, 11: 10, 6: 7, 7: 6}.get(c, c)) for c in spec.corr]
    for name in ("data", "weight", "flag"):
        stored[name][swap] = stored[name][swap][..., transpose]
    stored["data"][swap] = stored["data"][swap].conj()
    if spec.descending:
        for name in ("data", "weight", "flag"):
            stored[name] = stored[name][:, ::-1]
    main = tables.default_ms(str(path), tables.maketabdesc(_columns(spec)))
    main.addrows(len(order))
    _write_rows(main, spec, stored)
    main.close()
    _write_subtables(path, spec)
    return rows


def _columns(spec: Spec) -> list:
    shape = [spec.n_chan, len(spec.corr)]
    made = [tables.makearrcoldesc(c, 0j, ndim=2, shape=shape, valuetype="complex")
            for c in spec.columns]
    if spec.weight_spectrum:
        made.append(tables.makearrcoldesc("WEIGHT_SPECTRUM", 0.0, ndim=2, shape=shape,
                                          valuetype="float"))
    return made


def _write_rows(main, spec: Spec, rows: dict[str, np.ndarray]) -> None:
    n, n_corr = len(rows["time"]), len(spec.corr)
    for name, value in (("TIME", rows["time"]), ("TIME_CENTROID", rows["time"]),
                        ("INTERVAL", np.full(n, spec.interval)),
                        ("EXPOSURE", np.full(n, spec.interval)), ("ANTENNA1", rows["ant1"]),
                        ("ANTENNA2", rows["ant2"]), ("UVW", rows["uvw"]),
                        ("FLAG", rows["flag"]), ("FLAG_ROW", np.zeros(n, bool)),
                        ("FIELD_ID", np.arange(n) % spec.n_field),
                        ("DATA_DESC_ID", np.arange(n) % spec.n_spw),
                        ("WEIGHT", np.full((n, n_corr), 3.0, np.float32)),
                        ("SIGMA", np.ones((n, n_corr), np.float32))):
        main.putcol(name, value)
    for name in spec.columns:
        main.putcol(name, rows["data"])
    if spec.weight_spectrum:
        main.putcol("WEIGHT_SPECTRUM", rows["weight"])


def _write_subtables(path: Path, spec: Spec) -> None:
    def fill(name: str, n: int, **values) -> None:
        with tables.table(f"{path}/{name}", readonly=False, ack=False) as table:
            table.addrows(n)
            for column, value in values.items():
                for row in range(n):
                    table.putcell(column, row, value[row])

    names = spec.names or tuple(f"CS{k:03d}HBA0" for k in range(spec.n_ant))
    freqs = spec.freq0 + spec.width * np.arange(spec.n_chan)
    freqs = freqs[::-1] if spec.descending else freqs
    width = np.full(spec.n_chan, -spec.width if spec.descending else spec.width)
    fill("ANTENNA", spec.n_ant, NAME=names, POSITION=positions(spec.n_ant),
         STATION=names, DISH_DIAMETER=[30.0] * spec.n_ant)
    fill("SPECTRAL_WINDOW", spec.n_spw, CHAN_FREQ=[freqs] * spec.n_spw,
         CHAN_WIDTH=[width] * spec.n_spw, REF_FREQUENCY=[float(freqs.mean())] * spec.n_spw,
         NUM_CHAN=[spec.n_chan] * spec.n_spw)
    fill("DATA_DESCRIPTION", spec.n_spw, SPECTRAL_WINDOW_ID=range(spec.n_spw),
         POLARIZATION_ID=[0] * spec.n_spw)
    fill("POLARIZATION", 1, CORR_TYPE=[np.array(spec.corr)], NUM_CORR=[len(spec.corr)])
    fill("FIELD", spec.n_field, PHASE_DIR=[np.array([spec.centre])] * spec.n_field)
    fill("OBSERVATION", 1, TELESCOPE_NAME=[spec.telescope])


def snapshot(path: Path) -> dict[str, tuple[int, int, bytes]]:
    """Size, modification time and content of every file under `path`."""
    return {str(f.relative_to(path)): (f.stat().st_size, f.stat().st_mtime_ns, f.read_bytes())
            for f in sorted(path.rglob("*")) if f.is_file()}
