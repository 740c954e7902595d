"""What DP3 leaves: its h5parm as a gain table of ours, its residuals as figures and weights."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ...calibration.gains import GainTable, nearest_interval
from ...data.h5parm import read_h5parm, read_soltabs
from ...data.ms import open_table
from ...data.viscache import VisCache
from ...errors import SolveError
from ..native.solveintervals import frequency_blocks
from ..native.visibilities import MSData


@dataclass(frozen=True)
class Run:
    """Neighbouring slots of a measurement set: slots [start, stop) of its cache."""

    start: int
    stop: int

    @property
    def count(self) -> int:
        return self.stop - self.start


def time_runs(cache: VisCache) -> list[Run]:
    """The slots without gaps.

    DP3 fills gaps with flagged slots, for which it then cannot read columns of model visibilities
    (measured with 6.6.0); and an interval must not reach over a gap.
    """
    number = np.rint((cache.time - cache.time[0]) / cache.interval).astype(int)
    breaks = np.flatnonzero(np.diff(number) > 1) + 1
    bounds = zip(np.r_[0, breaks], np.r_[breaks, len(number)])
    return [Run(int(a), int(b)) for a, b in bounds]


def match_table(path: Path, cache: VisCache, run: Run, slots: int, blocks: int, number: int,
                names: list[str] | None, directions: np.ndarray) -> GainTable:
    """DP3's solutions of a run for the stations and directions of a measurement set.

    slots : of a solution interval; blocks : frequency intervals of a set; number : place of the
    set among those that were solved together; names : of the directions in order, None for a lone
    one

    Stations that DP3 does not know are flagged; directions that the model leaves empty have gain
    one.  Raises SolveError when the file cannot be read.
    """
    freq_edges, _ = frequency_blocks(cache.freq, cache.chan_width, blocks)
    raw = read_h5parm(path, freqs=freq_edges.mean(axis=1))
    mine = slice(number * blocks, (number + 1) * blocks)
    if raw.gains.shape[1] == blocks:
        mine = slice(None)  # a TEC, which has a value at any frequency
    elif raw.gains.shape[1] < mine.stop:
        raise SolveError(f"{path}: DP3 gives {raw.gains.shape[1]} frequency intervals, at least "
                         f"{mine.stop} were asked for")
    values_of, flags_of = raw.gains[:, mine], raw.flag[:, mine]
    where = _directions(path, names)
    stations = {name: k for k, name in enumerate(raw.ant_names)}
    held = np.arange(-(-run.count // slots))
    time = cache.time[run.start : run.stop]
    start, step = time[0] - cache.interval / 2, slots * cache.interval
    edges = np.stack([start + step * held, start + step * (held + 1)], axis=1)
    edges[-1, 1] = time[-1] + cache.interval / 2
    if len(raw.times) != len(held) or abs(raw.times[0] - edges[0].mean()) > step:
        raise SolveError(f"{path}: DP3 gives {len(raw.times)} intervals from {raw.times[0]:.1f} s, "
                         f"{len(held)} from {start:.1f} s were asked for")
    shape = (len(held), blocks, cache.n_ant, len(directions), raw.gains.shape[4])
    gains, flag = np.zeros(shape, np.complex64), np.ones(shape, bool)
    gains[..., [0, -1]] = 1
    for a, name in enumerate(cache.ant_names):
        if name not in stations:
            continue
        for d, column in enumerate(where):
            flag[:, :, a, d] = False
            if column is not None:
                bad = flags_of[held, :, stations[name], column]
                values = values_of[held, :, stations[name], column]
                gains[:, :, a, d] = np.where(bad, gains[:, :, a, d], values)
                flag[:, :, a, d] = bad
    return GainTable(edges, freq_edges, gains, cache.ant_names, directions, flag=flag,
                     ant_pos=cache.ant_pos)


def _directions(path: Path, names: list[str] | None) -> list[int | None]:
    """Place of each direction on the file's axis, None where the model had none."""
    if names is None:
        return [0]
    soltab = next(iter(read_soltabs(path)[0].values()))
    axis = [value.decode().strip("[]").lower() for value in soltab.axes["dir"]]
    return [axis.index(name) if name in axis else None for name in names]


def residual_facts(parts: list[tuple[Path, Run]], s: MSData, table: GainTable, first: int):
    """(facts for `residual_weights`, figures) of the residuals that DP3 wrote, a set a run.

    first : channel of theirs with which the set begins

    Raises SolveError when their rows are not those of the input.
    """
    cache = s.cache
    n_bl = len(cache.ant1)
    time = nearest_interval(table.time_edges, cache.time)
    chan = nearest_interval(table.freq_edges, cache.freq)
    shape = (len(table.time_edges), len(table.freq_edges), n_bl)
    chi2, count, data2 = np.zeros(shape), np.zeros(shape), 0.0
    for ms, run in parts:
        with open_table(ms) as main:
            same = np.array_equal(main.getcol("ANTENNA1", 0, n_bl), cache.ant1)
            if not same or main.nrows() != run.count * n_bl:
                raise SolveError(f"{ms}: DP3's residuals are not in the order of its input")
            for k, t in enumerate(range(run.start, run.stop)):
                values = main.getcol("DATA", k * n_bl, n_bl)[:, first:first + cache.n_chan]
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
