"""Write results back into a measurement set, for users and programs that read columns.

Nothing else in the package changes a measurement set; this is for `write_columns` only.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from ddfpipe.data.fingerprint import own_change
from ddfpipe.data.gridrows import GridRows, Values, require_same_grid
from ddfpipe.data.ms import MSInfo, open_table, read_metadata, row_blocks
from ddfpipe.data.visbuild import rows_per_block
from ddfpipe.data.viscache import VisCache, require_column
from ddfpipe.errors import DataError, ResourceError

OBSERVED = ("DATA", "FLAG", "WEIGHT_SPECTRUM", "WEIGHT", "UVW", "SIGMA")
STATE = "DDFPIPE_STATE"
"""Keyword of a written column: "incomplete" while it is being written, then "complete"."""


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
    require_same_grid(cache, info)
    if unused is not None:
        require_column(info, unused)
    first = values(0, 1) if callable(values) else values[0:1]
    is_vis = np.ndim(first) == 4
    if unused is not None and not is_vis:
        raise DataError(f"{ms_path}: {column} holds no visibilities, so nothing of {unused} fits")
    try:
        with own_change(info.path), open_table(info.path, readonly=False) as main:
            rows = GridRows.of(cache, main, info, values, is_vis, unused)
            _add_column(main, info, column, is_vis)
            main.putcolkeyword(column, STATE, "incomplete")
            main.flush()
            filled = _write(main, info, column, rows)
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


def _cell_shape(info: MSInfo, is_vis: bool) -> tuple[int, ...]:
    return (info.n_chan, len(info.corr_types)) if is_vis else (info.n_chan,)


def _obstacle(main: Any, info: MSInfo, column: str, shape: tuple[int, ...]) -> str | None:
    """Why an existing column cannot be overwritten; None if it can."""
    lossy = column in info.dysco_columns
    there = np.shape(main.getcell(column, 0)) if main.iscelldefined(column, 0) else shape
    if not lossy and there == shape:
        return None
    return (f"column {column} exists and is {'compressed' if lossy else 'of another shape'}; "
            "remove it (remove_columns.py) or do not write it")


def column_outlook(ms: str | Path, columns: Iterable[str]) -> tuple[int, list[str]]:
    """What writing `columns` into a measurement set takes: (bytes of disk, what stands against it).

    WEIGHT columns have one value a channel, the others are visibilities.  Raises DataError when
    the set cannot be read.
    """
    info = read_metadata(ms)
    size, troubles = 0, []
    with open_table(info.path) as main:
        for column in columns:
            is_vis = "WEIGHT" not in column
            shape = _cell_shape(info, is_vis)
            if column not in info.columns:
                size += info.n_rows * int(np.prod(shape)) * (8 if is_vis else 4)
            elif (trouble := _obstacle(main, info, column, shape)) is not None:
                troubles.append(trouble)
    return size, troubles


def require_whole(info: MSInfo, column: str) -> None:
    """Raise DataError for a column of ours whose writing was interrupted."""
    with open_table(info.path) as main:
        state = main.getcolkeywords(column).get(STATE, "complete")
    if state != "complete":
        raise DataError(f"{info.path}: column {column} was not written to its end; write it again "
                        "([control] redofrom=write_columns)")


def _add_column(main: Any, info: MSInfo, column: str, is_vis: bool) -> None:
    """Add `column` in a storage manager without loss, unless it is there already."""
    from casacore.tables import makearrcoldesc

    n_corr = len(info.corr_types)
    shape = _cell_shape(info, is_vis)
    if column in main.colnames():
        trouble = _obstacle(main, info, column, shape)
        if trouble is not None:
            raise DataError(f"{info.path}: {trouble}")
        return
    kind = np.complex64(0) if is_vis else np.float32(0)
    desc = makearrcoldesc(column, kind, ndim=len(shape), shape=list(shape),
                          valuetype="complex" if is_vis else "float")
    tile = max(1, (1 << 20) // (info.n_chan * (n_corr * 8 if is_vis else 4)))
    manager = {"TYPE": "TiledColumnStMan", "NAME": f"Tiled{column}",
               "SPEC": {"DEFAULTTILESHAPE": np.array([*shape[::-1], tile], np.int32)}}
    main.addcols(desc, manager, addtoparent=False)


def _write(main: Any, info: MSInfo, column: str, rows: GridRows) -> int:
    """Fill every row of the column; returns how many of them lie on the grid."""
    filled = 0
    for start, count in row_blocks(info.n_rows, rows_per_block(info)):
        main.putcol(column, rows.read(start, count), start, count)
        filled += rows.on_grid(start, count)
    return filled
