"""Write results back into a measurement set, for users and programs that read columns.

Nothing else in the package changes a measurement set; this is for `write_columns` only.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ddfpipe.data.fingerprint import own_change
from ddfpipe.data.ms import MSInfo, open_table, read_metadata, row_blocks
from ddfpipe.data.visbuild import channel_order, read_row_map, rows_per_block
from ddfpipe.data.viscache import VisCache, require_column
from ddfpipe.data.visgrid import RowMap, from_linear, swap_stations
from ddfpipe.errors import DataError, ResourceError

OBSERVED = ("DATA", "FLAG", "WEIGHT_SPECTRUM", "WEIGHT", "UVW", "SIGMA")
STATE = "DDFPIPE_STATE"
"""Keyword of a written column: "incomplete" while it is being written, then "complete"."""

Values = np.ndarray | Callable[[int, int], np.ndarray]


def export_column(cache: VisCache, ms_path: str | Path, column: str, values: Values,
                  unused: str | None = None) -> int:
    """Write regular-grid `values` to `column` of `ms_path`; returns how many rows were filled.

    values: (n_time, n_bl, n_chan, 4) complex visibilities, or (n_time, n_bl, n_chan) real weights
    (a column like IMAGING_WEIGHT), on the grid of `cache`; or a function of (t0, t1) that gives
    that piece.  ms_path is the cache's own source or a copy with the same rows.  An existing
    column of the name is overwritten, unless it holds observed data or the cache's source.  Rows
    off the grid (autocorrelations, stations left out) become zero.  unused: column of visibilities
    from which these rows, and samples of weight zero, are taken instead.  What was computed from
    the set stays valid: its fingerprint does not change.  Raises DataError for a wrong column or
    set, ResourceError when the set cannot be written.
    """
    info = read_metadata(ms_path)
    if column in OBSERVED or column == cache.column:
        raise DataError(f"{ms_path}: column {column} holds observed data and is never "
                        "overwritten; choose another name")
    _require_same_grid(cache, info)
    if unused is not None:
        require_column(info, unused)
    piece = values if callable(values) else lambda t0, t1: values[t0:t1]
    is_vis = np.ndim(piece(0, 1)) == 4
    if unused is not None and not is_vis:
        raise DataError(f"{ms_path}: {column} is no column of visibilities, so nothing of "
                        f"{unused} can stand in it")
    try:
        with own_change(info.path), open_table(info.path, readonly=False) as main:
            rows = read_row_map(main, info, bool(cache.meta["drop_international"]))
            if not (np.array_equal(rows.ant1, cache.ant1)
                    and np.array_equal(rows.ant2, cache.ant2)):
                raise DataError(f"{ms_path}: has other baselines than {cache.ms_path}")
            _add_column(main, info, column, is_vis)
            main.putcolkeyword(column, STATE, "incomplete")
            main.flush()
            writer = _Writer(main, info, column, rows, piece, is_vis)
            filled = writer.write(unused, cache.weight)
            main.putcolkeyword(column, STATE, "complete")
    except OSError as error:
        raise ResourceError(f"{ms_path}: cannot be written ({error.strerror or error}); check "
                            "permissions and space") from error
    except DataError as error:
        if isinstance(error.__cause__, RuntimeError):
            raise ResourceError(f"{ms_path}: column {column} cannot be written "
                                f"({error.__cause__}); check permissions and space") from error
        raise
    return filled


def _require_same_grid(cache: VisCache, info: MSInfo) -> None:
    same = (info.n_time == cache.n_time and info.n_chan == cache.n_chan
            and np.allclose(info.times, cache.time, rtol=0, atol=0.25 * cache.interval)
            and np.allclose(np.sort(info.freqs), cache.freq, rtol=1e-9))
    if not same:
        raise DataError(f"{info.path}: its times or channels differ from those of "
                        f"{cache.ms_path}; only that set or a copy of it can take the column")


def _add_column(main: Any, info: MSInfo, column: str, is_vis: bool) -> None:
    """Add `column` in a storage manager without loss, unless it is there already."""
    from casacore.tables import makearrcoldesc

    n_corr = len(info.corr_types)
    shape = (info.n_chan, n_corr) if is_vis else (info.n_chan,)
    if column in main.colnames():
        lossy = column in info.dysco_columns
        if lossy or np.shape(main.getcell(column, 0)) != shape:
            raise DataError(f"{info.path}: column {column} exists and is "
                            f"{'compressed' if lossy else 'of another shape'}; remove it or "
                            "choose another name")
        return
    kind = np.complex64(0) if is_vis else np.float32(0)
    desc = makearrcoldesc(column, kind, ndim=len(shape), shape=list(shape),
                          valuetype="complex" if is_vis else "float")
    tile = max(1, (1 << 20) // (info.n_chan * (n_corr * 8 if is_vis else 4)))
    manager = {"TYPE": "TiledColumnStMan", "NAME": f"Tiled{column}",
               "SPEC": {"DEFAULTTILESHAPE": np.array([*shape[::-1], tile], np.int32)}}
    main.addcols(desc, manager, addtoparent=False)


@dataclass(frozen=True, eq=False)
class _Writer:
    """Brings pieces of the grid to the rows of an open main table."""

    main: Any
    info: MSInfo
    column: str
    rows: RowMap
    piece: Callable[[int, int], np.ndarray]
    is_vis: bool

    def write(self, unused: str | None, weight: np.ndarray) -> int:
        """Fill every row of the column; returns how many of them lie on the grid."""
        info, rows = self.info, self.rows
        filled = 0
        for start, count in row_blocks(info.n_rows, rows_per_block(info)):
            block = slice(start, start + count)
            out = self._block(block, self.piece, (4,) if self.is_vis else ())
            if self.is_vis:
                swap_stations(out, rows.swap[block])
                out = from_linear(out, info.corr_types)
            if unused is not None:
                other = self._block(block, lambda t0, t1: weight[t0:t1], ()) == 0
                out[other] = self.main.getcol(unused, start, count)[other]
            self.main.putcol(self.column, out, start, count)
            filled += int(np.count_nonzero(rows.bl[block] >= 0))
        return filled

    def _block(self, block: slice, piece: Callable[[int, int], np.ndarray],
               corr: tuple[int, ...]) -> np.ndarray:
        """(rows, n_chan, *corr) of a block of rows, zero off the grid, channels as stored."""
        info, rows = self.info, self.rows
        back = np.argsort(channel_order(info))
        slot, bl = rows.slot[block], rows.bl[block]
        use = np.flatnonzero(bl >= 0)
        out = np.zeros((len(bl), info.n_chan, *corr), np.complex64 if corr else np.float32)
        for t0, t1 in _slot_pieces(slot[use], info, rows):
            here = use[(slot[use] >= t0) & (slot[use] < t1)]
            out[here] = np.asarray(piece(t0, t1))[slot[here] - t0, bl[here]][:, back]
        return out


def _slot_pieces(slot: np.ndarray, info: MSInfo, rows: RowMap) -> list[tuple[int, int]]:
    """Ranges of slots, few enough to hold, that cover those in `slot`."""
    step = max(1, rows_per_block(info) // max(1, rows.present.shape[1]))
    groups = np.unique(slot // step)
    n_time = rows.present.shape[0]
    return [(int(g) * step, min(n_time, (int(g) + 1) * step)) for g in groups]
