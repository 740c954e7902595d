"""Fill the arrays of a visibility cache in one pass over a measurement set."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from ddfpipe.data.arrays import allocate, release
from ddfpipe.data.ms import READ_BYTES, ROWS_PER_READ, MSInfo, open_table, row_blocks
from ddfpipe.data.stations import is_international
from ddfpipe.data.visgrid import RowMap, correlation_matrix, fill_uvw, map_rows, swap_stations
from ddfpipe.data.visgrid import to_linear
from ddfpipe.errors import DataError

COPY_BYTES = 2 << 20
"""Visibilities copied at a time: with flags, weights and masks they stay in the processor's cache
and in memory that is used again, while pages of larger arrays are cleared anew for each block."""


def build_cache(info: MSInfo, column: str, folder: Path, drop_international: bool,
                monitor: Any) -> dict[str, Any]:
    """Write vis, weight, uvw and axes of `column` into `folder`; returns the meta data.

    Memory stays within a few hundred MB whatever the size of the set.  Raises DataError when
    the set is inconsistent, OSError when the disk is full.
    """
    try:
        correlation_matrix(info.corr_types)
        with open_table(info.path) as main:
            rows = read_row_map(main, info, drop_international)
            shape = (*rows.present.shape, info.n_chan)
            arrays = {"vis": allocate(folder / "vis.npy", np.complex64, (*shape, 4)),
                      "weight": allocate(folder / "weight.npy", np.float32, shape),
                      "uvw": allocate(folder / "uvw.npy", np.float64, (*shape[:2], 3))}
            good = _copy_rows(main, info, column, rows, arrays, monitor)
    except DataError as error:
        if str(info.path) in str(error):
            raise
        raise DataError(f"{info.path}: {error}") from error
    fill_uvw(arrays["uvw"], rows.present, rows.ant1, rows.ant2, info.ant_pos)
    for array in arrays.values():
        array.flush()
    order = channel_order(info)
    np.savez(folder / "axes.npz", time=info.times, freq=info.freqs[order], ant1=rows.ant1,
             ant2=rows.ant2, chan_width=info.chan_width[order], ant_pos=info.ant_pos, good=good)
    return {"ms": str(info.path.absolute()), "column": column, "interval": info.interval,
            "observation": info.observation, "ant_names": list(info.ant_names),
            "phase_centre": list(info.phase_centre), "drop_international": drop_international,
            "rows": info.n_rows, "telescope": info.telescope}


def channel_order(info: MSInfo) -> np.ndarray:
    """Indices that put the channels in ascending frequency."""
    return np.argsort(info.freqs, kind="stable")


def read_row_map(main: Any, info: MSInfo, drop_international: bool) -> RowMap:
    """Place of every row of the open table `main` on the grid of its cache."""
    keep = np.ones(len(info.ant_names), bool)
    if drop_international:
        keep = np.array([not is_international(n, info.telescope) for n in info.ant_names])
    blocks = list(row_blocks(info.n_rows, ROWS_PER_READ))
    time, ant1, ant2 = (np.concatenate([main.getcol(name, *b) for b in blocks])
                        for name in ("TIME", "ANTENNA1", "ANTENNA2"))
    return map_rows(time, ant1, ant2, info.times, keep)


def rows_per_block(info: MSInfo, most: int | None = None) -> int:
    """Rows whose data fit the bound on memory, or `most` bytes where that is less."""
    room = READ_BYTES if most is None else min(READ_BYTES, most)
    return max(1, room // (info.n_chan * max(4, len(info.corr_types)) * 8))


def _copy_rows(main: Any, info: MSInfo, column: str, rows: RowMap,
               arrays: dict[str, np.memmap], monitor: Any) -> np.ndarray:
    """Copy all rows, block by block; returns the usable samples by baseline, (n_bl,) i8."""
    n_time, n_bl = rows.present.shape
    flat = {k: a.reshape(n_time * n_bl, *a.shape[2:]) for k, a in arrays.items()}
    weight_column = _weight_column(main)
    order = channel_order(info)
    ascending = bool((np.diff(order) == 1).all())
    good = np.zeros(n_bl, np.int64)
    for start, count in row_blocks(info.n_rows, rows_per_block(info, COPY_BYTES)):
        if monitor is not None:
            monitor.check()
        block = slice(start, start + count)
        use = np.flatnonzero(rows.bl[block] >= 0)
        vis, weight, uvw = _read_block(main, info, column, weight_column, start, count, use)
        swap = rows.swap[block][use]
        swap_stations(vis, swap)
        uvw[swap] *= -1
        bl, slot = rows.bl[block][use], rows.slot[block][use]
        bad_uvw = ~np.isfinite(uvw).all(axis=1)
        weight[bad_uvw], vis[bad_uvw], uvw[bad_uvw] = 0, 0, 0
        rows.present[slot[bad_uvw], bl[bad_uvw]] = False
        place = _as_slice(slot.astype(np.int64) * n_bl + bl)
        if not ascending:
            vis, weight = vis[:, order], weight[:, order]
        flat["vis"][place], flat["weight"][place] = vis, weight
        flat["uvw"][place] = uvw
        release(*arrays.values())
        good += np.bincount(bl, np.count_nonzero(weight, axis=1), n_bl).astype(np.int64)
        if monitor is not None:
            monitor.progress(f"reading {info.name}", start + count, info.n_rows)
    return good


def _as_slice(index: np.ndarray) -> Any:
    """`index` as a slice where it is consecutive: copying is several times faster then."""
    if index.size and index[-1] - index[0] == index.size - 1 and (np.diff(index) == 1).all():
        return slice(int(index[0]), int(index[-1]) + 1)
    return index


def _weight_column(main: Any) -> str | None:
    """Where weights are: WEIGHT_SPECTRUM, else WEIGHT, else nowhere (all one)."""
    for name in ("WEIGHT_SPECTRUM", "WEIGHT"):
        if name in main.colnames() and main.iscelldefined(name, 0):
            return name
    return None


def _read_block(main: Any, info: MSInfo, column: str, weight_column: str | None, start: int,
                count: int, use: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """vis (n, n_chan, 4) c8, weight (n, n_chan) f4, uvw (n, 3) f8 of the rows `use`."""
    data = _take(main.getcol(column, start, count), use)
    shape = (len(use), info.n_chan, len(info.corr_types))
    if data.shape != shape:
        raise DataError(f"column {column} has cells of shape {data.shape[1:]}, not {shape[1:]}; "
                        "the set is inconsistent, copy or unpack it anew")
    bad = _any_corr(_take(main.getcol("FLAG", start, count), use))
    if "FLAG_ROW" in main.colnames():
        bad |= main.getcol("FLAG_ROW", start, count)[use, None]
    bad |= _any_corr(~np.isfinite(data))
    weight = _mean_weight(main, weight_column, start, count, use, shape)
    bad |= ~(np.isfinite(weight) & (weight > 0))
    vis = to_linear(data, info.corr_types)
    vis[bad] = 0
    weight[bad] = 0
    return vis, weight, np.array(main.getcol("UVW", start, count)[use], float)


def _take(values: np.ndarray, use: np.ndarray) -> np.ndarray:
    """The rows `use` of `values`, without a copy when these are all."""
    return values if len(use) == len(values) else values[use]


def _any_corr(flags: np.ndarray) -> np.ndarray:
    """Logical or over the last, short axis of (n, n_chan, n_corr) bool."""
    result = flags[..., 0].copy()
    for corr in range(1, flags.shape[-1]):
        result |= flags[..., corr]
    return result


def _mean_weight(main: Any, column: str | None, start: int, count: int, use: np.ndarray,
                 shape: tuple[int, int, int]) -> np.ndarray:
    """Weights averaged over correlations, (n, n_chan) f4."""
    if column is None:
        return np.ones(shape[:2], np.float32)
    weight = _take(np.asarray(main.getcol(column, start, count), np.float32), use)
    n_corr = weight.shape[-1]
    with np.errstate(invalid="ignore", over="ignore"):
        # A sum over slices: reductions along a short last axis are several times slower.
        mean = sum((weight[..., k] for k in range(1, n_corr)), weight[..., 0]) / n_corr
    if column == "WEIGHT":
        mean = np.repeat(mean[:, None], shape[1], axis=1)
    if mean.shape != shape[:2]:
        raise DataError(f"column {column} does not match the data's {shape[1]} channels; the set "
                        "is inconsistent, copy or unpack it anew")
    return mean
