"""What DP3 leaves: its h5parm as a gain table of ours, its residuals as figures and weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ...calibration.gains import GainTable, nearest_interval
from ...data.h5parm import read_h5parm, read_soltabs
from ...data.ms import open_table
from ...data.viscache import VisCache
from ...errors import SolveError
from ..native.solving import frequency_blocks
from ..native.visibilities import MSData


def match_table(path: Path, cache: VisCache, slots: int, names: list[str] | None,
                directions: np.ndarray) -> GainTable:
    """DP3's solutions for the stations, directions and slots of a measurement set.

    slots : of a solution interval; names : of the directions in order, None for a lone one

    DP3 counts intervals from the first slot, through gaps; those that hold no slot are left out.
    Stations that it does not know are flagged; directions that the model leaves empty have gain
    one.  Raises SolveError when the file cannot be read.
    """
    raw = read_h5parm(path)
    where = _directions(path, names)
    stations = {name: k for k, name in enumerate(raw.ant_names)}
    n_time = raw.gains.shape[0]
    start, step = cache.time[0] - cache.interval / 2, slots * cache.interval
    end = cache.time[-1] + cache.interval / 2
    edges = np.stack([start + step * np.arange(n_time), start + step * np.arange(1, n_time + 1)], 1)
    edges[:, 1] = np.minimum(edges[:, 1], end)
    if abs(raw.times[0] - (start + step / 2)) > step:
        raise SolveError(f"{path}: DP3's first interval is at {raw.times[0]:.1f} s, but the data "
                         f"begin at {start:.1f} s: its time axis is not understood")
    held = np.unique(((cache.time - start) // step).astype(int).clip(0, n_time - 1))
    freq_edges, _ = frequency_blocks(cache.freq, cache.chan_width, raw.gains.shape[1])
    shape = (len(held), raw.gains.shape[1], cache.n_ant, len(directions), raw.gains.shape[4])
    gains, flag = np.zeros(shape, np.complex64), np.ones(shape, bool)
    gains[..., [0, -1]] = 1
    for a, name in enumerate(cache.ant_names):
        if name not in stations:
            continue
        for d, column in enumerate(where):
            flag[:, :, a, d] = False
            if column is not None:
                bad = raw.flag[held, :, stations[name], column]
                values = raw.gains[held, :, stations[name], column]
                gains[:, :, a, d] = np.where(bad, gains[:, :, a, d], values)
                flag[:, :, a, d] = bad
    return GainTable(edges[held], freq_edges, gains, cache.ant_names, directions, flag=flag,
                     ant_pos=cache.ant_pos)


def _directions(path: Path, names: list[str] | None) -> list[int | None]:
    """Place of each direction on the file's axis, None where the model had none."""
    if names is None:
        return [0]
    soltab = next(iter(read_soltabs(path)[0].values()))
    axis = [value.decode().strip("[]").lower() for value in soltab.axes["dir"]]
    return [axis.index(name) if name in axis else None for name in names]


def residual_facts(ms: Path, s: MSData, table: GainTable) -> tuple[dict, dict]:
    """(facts for `residual_weights`, figures) of the residuals that DP3 wrote.

    The measurement set holds a row a baseline for every slot from first to last, gaps included.
    """
    cache = s.cache
    n_bl = len(cache.ant1)
    time = nearest_interval(table.time_edges, cache.time)
    chan = nearest_interval(table.freq_edges, cache.freq)
    shape = (len(table.time_edges), len(table.freq_edges), n_bl)
    chi2, count = np.zeros(shape), np.zeros(shape)
    data2 = 0.0
    slot = np.rint((cache.time - cache.time[0]) / cache.interval).astype(int)
    with open_table(ms) as main:
        same = np.array_equal(main.getcol("ANTENNA1", 0, n_bl), cache.ant1)
        if not same or main.nrows() < (slot[-1] + 1) * n_bl:
            raise SolveError(f"{ms}: DP3's residuals are not in the order of its input")
        for t in range(cache.n_time):
            values = main.getcol("DATA", int(slot[t]) * n_bl, n_bl)
            stokes = 0.5 * (values[..., 0] + values[..., 3])
            weight = np.where(np.isfinite(stokes), s.weight[t], 0)
            power = weight * np.abs(np.nan_to_num(stokes)) ** 2
            data2 += float((weight * np.abs(s.vis[t]) ** 2).sum(dtype=np.float64))
            for block in range(shape[1]):
                chi2[time[t], block] += power[:, chan == block].sum(axis=1)
                count[time[t], block] += (weight[:, chan == block] > 0).sum(axis=1)
    facts = {"baseline_chi2": chi2, "baseline_count": count, "time_edges": table.time_edges}
    share = float(np.sqrt(chi2.sum() / data2)) if data2 > 0 else float("nan")
    return facts, {"residual_share": share, "samples": int(count.sum())}
