"""From the regular grid of a visibility cache back to the rows of its measurement set."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from ddfpipe.data.ms import MSInfo
from ddfpipe.data.visbuild import channel_order, read_row_map, rows_per_block
from ddfpipe.data.viscache import VisCache
from ddfpipe.data.visgrid import RowMap, from_linear, swap_stations
from ddfpipe.errors import DataError

Values = np.ndarray | Callable[[int, int], np.ndarray]
"""(n_time, n_bl, n_chan, 4) complex or (n_time, n_bl, n_chan) real, or a function of (t0, t1)
that gives that piece of it."""


@dataclass(frozen=True, eq=False)
class GridRows:
    """Values of the grid of `cache` as rows of an open main table with the same rows.

    unused: column of visibilities from which rows off the grid, and samples of weight zero, are
    taken; None makes rows off the grid (autocorrelations, stations left out) zero.
    """

    main: Any
    info: MSInfo
    rows: RowMap
    piece: Callable[[int, int], np.ndarray]
    is_vis: bool
    weight: np.ndarray
    unused: str | None = None

    @classmethod
    def of(cls, cache: VisCache, main: Any, info: MSInfo, values: Values,
           is_vis: bool, unused: str | None = None) -> "GridRows":
        """The rows for `values`, visibilities or weights.

        Raises DataError when times, channels or baselines differ.
        """
        require_same_grid(cache, info)
        rows = read_row_map(main, info, bool(cache.meta["drop_international"]))
        if not (np.array_equal(rows.ant1, cache.ant1) and np.array_equal(rows.ant2, cache.ant2)):
            raise DataError(f"{info.path}: has other baselines than {cache.ms_path}")
        piece = values if callable(values) else lambda t0, t1: values[t0:t1]
        return cls(main, info, rows, piece, is_vis, cache.weight, unused)

    def read(self, start: int, count: int) -> np.ndarray:
        """Rows start <= r < start + count as stored: (count, n_chan, n_corr) c8 visibilities, or
        (count, n_chan) f4 weights."""
        block = slice(start, start + count)
        out = self._block(block, self.piece, (4,) if self.is_vis else ())
        if self.is_vis:
            swap_stations(out, self.rows.swap[block])
            out = from_linear(out, self.info.corr_types)
        if self.unused is not None:
            other = self._block(block, lambda t0, t1: self.weight[t0:t1], ()) == 0
            out[other] = self.main.getcol(self.unused, start, count)[other]
        return out

    def on_grid(self, start: int, count: int) -> int:
        """How many of these rows lie on the grid."""
        return int(np.count_nonzero(self.rows.bl[start:start + count] >= 0))

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


def require_same_grid(cache: VisCache, info: MSInfo) -> None:
    """Raise DataError unless `info` has the times and channels of `cache`."""
    same = (info.n_time == cache.n_time and info.n_chan == cache.n_chan
            and np.allclose(info.times, cache.time, rtol=0, atol=0.25 * cache.interval)
            and np.allclose(np.sort(info.freqs), cache.freq, rtol=1e-9))
    if not same:
        raise DataError(f"{info.path}: its times or channels differ from those of "
                        f"{cache.ms_path}; only that set or a copy of it can take the column")


def _slot_pieces(slot: np.ndarray, info: MSInfo, rows: RowMap) -> list[tuple[int, int]]:
    """Ranges of slots, few enough to hold, that cover those in `slot`."""
    step = max(1, rows_per_block(info) // max(1, rows.present.shape[1]))
    groups = np.unique(slot // step)
    n_time = rows.present.shape[0]
    return [(int(g) * step, min(n_time, (int(g) + 1) * step)) for g in groups]
