"""Working copies of measurement sets, for programs that write into what they read.

A copy lies below the cache directory and holds the rows of the visibility cache: cross
correlations, linear feeds, a row for every slot and baseline, in order of time, then baseline.  So
a column is an array (time, bl, chan, 4), and the user's set is never opened for writing.  What a
column was made from is noted beside the copy; one that was not written to its end has no note.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from ...data.atomic import atomic_path, atomic_write_json
from ...data.ms import open_table
from ...data.viscache import VisCache
from ...errors import DataError

FOLDER = "ddfpipe.copies"
"""Working copies below the cache directory."""

VERSION = 1
NOTE = "ddfpipe.copy.json"
"""The note, in the copy's folder."""

SUBTABLES = ("ANTENNA", "FEED", "FIELD", "OBSERVATION", "LOFAR_ANTENNA_FIELD", "LOFAR_STATION")
"""Subtables that are copied as they are, where the source has them."""

CORRELATIONS = np.arange(9, 13, dtype=np.int32)
"""XX, XY, YX, YY."""

BLOCK_BYTES = 128e6
"""Bytes of visibilities written at a time."""

Piece = Callable[[slice], np.ndarray]
"""Function of a slice of time to (time, bl, chan, 4), or to weights (time, bl, chan)."""


def copy_path(cache: VisCache, cache_dir: Path) -> Path:
    """Where the copy of what a visibility cache holds lies."""
    key = hashlib.sha1(cache.path.name.encode()).hexdigest()[:8]
    return Path(cache_dir) / FOLDER / f"{Path(cache.name).stem}.{key}.ms"


def copy_bytes(n_time: int, n_bl: int, n_chan: int, columns: int) -> int:
    """Disk that a copy takes with so many columns of visibilities, weights and flags included."""
    return n_time * n_bl * (n_chan * (32 * columns + 16 + 4) + 100)


class WorkingCopy:
    """The copy of one measurement set.  Use `open_copy`.

    path : folder; cache : VisCache behind it
    """

    def __init__(self, path: Path, cache: VisCache):
        self.path, self.cache = path, cache

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """(time, bl, chan, 4)."""
        return (*self.cache.weight.shape, 4)

    def parts(self) -> list[slice]:
        """Slices of time of about BLOCK_BYTES of visibilities."""
        n_time, n_bl, n_chan, n_corr = self.shape
        step = max(1, int(BLOCK_BYTES / (8 * n_bl * n_chan * n_corr)))
        return [slice(t, min(t + step, n_time)) for t in range(0, n_time, step)]

    # -- notes -----------------------------------------------------------------------------------

    def note(self, what: str) -> str | None:
        """Key of what a column (or set of columns) was made from, None if it is not whole."""
        return _notes(self.path).get("columns", {}).get(what)

    @contextmanager
    def making(self, what: str, key: str) -> Iterator[None]:
        """The block makes `what`; it is noted as made from `key` when the block ends well."""
        self.forget(what)
        yield
        self._set(what, key)

    def forget(self, what: str) -> None:
        """What is noted of a column holds no longer."""
        if self.note(what) is not None:
            self._set(what, None)

    def _set(self, what: str, key: str | None) -> None:
        notes = _notes(self.path)
        notes["columns"] = {k: v for k, v in notes.get("columns", {}).items() if k != what}
        if key is not None:
            notes["columns"][what] = key
        atomic_write_json(self.path / NOTE, notes)

    # -- columns ---------------------------------------------------------------------------------

    def write(self, column: str, piece: Piece, check: Callable[[], None] = lambda: None) -> None:
        """Fill a column, made where it is not yet.

        piece : visibilities complex64, or for WEIGHT_SPECTRUM weights float32 (one for all
        correlations); FLAG follows the weights: flagged where zero.
        """
        weights = column == "WEIGHT_SPECTRUM"
        if not weights:
            self.add_column(column)
        with open_table(self.path, readonly=False) as main:
            for part in self.parts():
                check()
                values = piece(part)
                start, count = self._rows(part)
                if weights:
                    values = np.repeat(values[..., None], 4, axis=-1)
                    flags = (values <= 0).reshape(count, -1, 4)
                    main.putcol("FLAG", flags, start, count)
                values = np.ascontiguousarray(values).reshape(count, -1, 4)
                main.putcol(column, values, start, count)

    def read(self, column: str, part: slice) -> np.ndarray:
        """(time, bl, chan, 4) of a slice of time."""
        start, count = self._rows(part)
        with open_table(self.path) as main:
            values = main.getcol(column, start, count)
        return values.reshape(part.stop - part.start, *self.shape[1:])

    def _rows(self, part: slice) -> tuple[int, int]:
        n_bl = self.shape[1]
        return part.start * n_bl, (part.stop - part.start) * n_bl

    def columns(self) -> list[str]:
        """Names of all columns."""
        with open_table(self.path) as main:
            return list(main.colnames())

    def add_column(self, column: str) -> None:
        """Add a column of visibilities unless there is one of the name."""
        from casacore.tables import makearrcoldesc, maketabdesc

        if column in self.columns():
            return
        n_chan = self.shape[2]
        desc = maketabdesc([makearrcoldesc(
            column, 0j, ndim=2, shape=[n_chan, 4], valuetype="complex", options=4,
        )])
        with open_table(self.path, readonly=False) as main:
            main.addcols(desc, _manager(column, n_chan))

    def slots(self, part: slice, path: Path) -> Path:
        """A measurement set that refers to the rows of a slice of time; it holds no data itself."""
        start, count = self._rows(part)
        with open_table(self.path) as main:
            main.selectrows(range(start, start + count)).copy(str(path)).close()
        return path

    def rename_column(self, old: str, new: str) -> None:
        """Give a column another name, in place of one that has it."""
        with open_table(self.path, readonly=False) as main:
            if new in main.colnames():
                main.removecols(new)
            main.renamecol(old, new)

    def remove_columns(self, names) -> None:
        """Remove columns where they are."""
        there = [name for name in names if name in self.columns()]
        for name in there:
            self.forget(name)
        if there:
            with open_table(self.path, readonly=False) as main:
                main.removecols(there)


def open_copy(cache: VisCache, cache_dir: Path) -> WorkingCopy:
    """The copy behind a visibility cache, made first where there is none or the source changed."""
    path = copy_path(cache, cache_dir)
    wanted = {"version": VERSION, "source": json.loads(json.dumps(cache.meta["fingerprint"]))}
    notes = _notes(path)
    if {k: notes.get(k) for k in wanted} != wanted:
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_path(path) as part:
            _create(part, cache)
            atomic_write_json(part / NOTE, wanted | {"columns": {}})
    return WorkingCopy(path, cache)


def clear_copies(cache_dir: Path, ms) -> None:
    """Remove the copies of some measurement sets."""
    for source in ms:
        for path in (Path(cache_dir) / FOLDER).glob(f"{Path(source).stem}.????????.ms"):
            shutil.rmtree(path, ignore_errors=True)


def _notes(path: Path) -> dict:
    try:
        notes = json.loads((path / NOTE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return notes if isinstance(notes, dict) else {}


# ---------------------------------------------------------------------- making a copy


def _manager(column: str, n_chan: int) -> dict:
    tile = [4, n_chan, max(1, 65536 // (4 * n_chan))]
    return {"TYPE": "TiledColumnStMan", "NAME": f"Tiled{column}",
            "SPEC": {"DEFAULTTILESHAPE": np.array(tile, np.int32)}}


def _create(path: Path, cache: VisCache) -> None:
    """An MS with rows, times, baselines and subtables; DATA, FLAG and WEIGHT_SPECTRUM are zero."""
    from casacore.tables import default_ms, makearrcoldesc, maketabdesc

    kinds = {"DATA": (0j, "complex"), "FLAG": (False, "boolean"),
             "WEIGHT_SPECTRUM": (0.0, "float")}
    descs, managers = [], {}
    for number, (name, (zero, kind)) in enumerate(kinds.items()):
        descs.append(makearrcoldesc(
            name, zero, ndim=2, shape=[cache.n_chan, 4], datamanagertype="TiledColumnStMan",
            datamanagergroup=f"Tiled{name}", valuetype=kind, options=4,
        ))
        managers[f"*{number + 1}"] = _manager(name, cache.n_chan) | {"COLUMNS": [name]}
    try:
        main = default_ms(str(path), maketabdesc(descs), managers)
    except RuntimeError as error:
        raise DataError(f"{path}: a working copy cannot be made ({error}); check the space and "
                        "permissions of [control] cache_dir") from error
    _fill_rows(main, cache)
    keywords = main.keywordnames()
    main.close()
    for name in SUBTABLES:
        if (cache.ms_path / name / "table.dat").exists():
            _copy_subtable(cache.ms_path / name, path / name)
            if name not in keywords:
                with open_table(path, readonly=False) as main:
                    main.putkeyword(name, f"Table: {path / name}")
    _describe_channels(path, cache)
    _set_phase_centre(path / "FIELD", cache.phase_centre)


def _fill_rows(main, cache: VisCache) -> None:
    n_time, n_bl = cache.n_time, cache.n_bl
    rows = n_time * n_bl
    main.addrows(rows)
    times = np.repeat(cache.time, n_bl)
    values = {
        "TIME": times, "TIME_CENTROID": times, "INTERVAL": np.full(rows, cache.interval),
        "EXPOSURE": np.full(rows, cache.interval), "ANTENNA1": np.tile(cache.ant1, n_time),
        "ANTENNA2": np.tile(cache.ant2, n_time), "UVW": cache.uvw.reshape(-1, 3),
        "SIGMA": np.ones((rows, 4), np.float32), "WEIGHT": np.ones((rows, 4), np.float32),
        "STATE_ID": np.full(rows, -1, np.int32),
    }
    for name, value in values.items():
        main.putcol(name, np.ascontiguousarray(value))


def _copy_subtable(source: Path, target: Path) -> None:
    shutil.rmtree(target, ignore_errors=True)
    with open_table(source) as table:
        copied = table.copy(str(target), deep=True, valuecopy=True)
        copied.close()


def _describe_channels(path: Path, cache: VisCache) -> None:
    """SPECTRAL_WINDOW, POLARIZATION and DATA_DESCRIPTION of ascending channels, linear feeds."""
    width = np.asarray(cache.chan_width, float)
    rows = {
        "SPECTRAL_WINDOW": {
            "MEAS_FREQ_REF": 5, "CHAN_FREQ": cache.freq, "CHAN_WIDTH": width,
            "EFFECTIVE_BW": width, "RESOLUTION": width, "NUM_CHAN": cache.n_chan,
            "TOTAL_BANDWIDTH": float(width.sum()), "REF_FREQUENCY": float(cache.freq.mean()),
            "NAME": "", "FREQ_GROUP": 0, "FREQ_GROUP_NAME": "", "IF_CONV_CHAIN": 0,
            "NET_SIDEBAND": 1, "FLAG_ROW": False,
        },
        "POLARIZATION": {
            "NUM_CORR": 4, "CORR_TYPE": CORRELATIONS, "FLAG_ROW": False,
            "CORR_PRODUCT": np.array([[0, 0], [0, 1], [1, 0], [1, 1]], np.int32),
        },
        "DATA_DESCRIPTION": {"SPECTRAL_WINDOW_ID": 0, "POLARIZATION_ID": 0, "FLAG_ROW": False},
    }
    for name, row in rows.items():
        with open_table(path / name, readonly=False) as table:
            table.addrows(1)
            for column, value in row.items():
                table.putcell(column, 0, value)


def _set_phase_centre(path: Path, centre: tuple[float, float]) -> None:
    """All rows of the copy belong to field 0."""
    with open_table(path, readonly=False) as field:
        for column in ("PHASE_DIR", "DELAY_DIR", "REFERENCE_DIR"):
            field.putcell(column, 0, np.array([centre]))
