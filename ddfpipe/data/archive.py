"""Compressed copies of measurement sets, to keep once the run is over.

Visibilities and weights are quantised by casacore's Dysco storage manager (Offringa 2016, A&A 595,
A99), with 10 and 12 bits; all else is copied as it is.  Dysco needs the same baselines in the same
order at two times at least: rows in another order are sorted, and a set with missing rows is
copied uncompressed.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from ddfpipe.data.atomic import atomic_path, atomic_write_json, fsync
from ddfpipe.data.fingerprint import NOTE as COLUMNS_NOTE
from ddfpipe.data.fingerprint import fingerprint
from ddfpipe.data.mscolumn import require_whole
from ddfpipe.data.ms import MSInfo, open_table, read_metadata, row_blocks
from ddfpipe.data.sizes import folder_bytes, size_text
from ddfpipe.data.visbuild import rows_per_block
from ddfpipe.data.viscache import require_column
from ddfpipe.errors import DataError, ResourceError

NOTE = "ddfpipe.archive.json"
"""What an archive was made from, in its folder."""
DATA_BITS, WEIGHT_BITS = 10, 12
DYSCO = {
    "dataBitCount": DATA_BITS, "weightBitCount": WEIGHT_BITS, "distribution": "TruncatedGaussian",
    "distributionTruncation": 2.5, "normalization": "AF", "studentTNu": 0.0,
}
CHECKED_BLOCKS = 8
MOST_ERROR = 0.2
"""Larger median error of what is read back, over the median of the data, refuses an archive: ten
times what was measured on the worst real set."""

Reader = Callable[[int, int], np.ndarray]
"""Function of (first row, number of rows) to what these rows hold."""
Source = Callable[[Any, MSInfo], Reader]
"""Function of an open main table and its facts to a reader of its rows."""


@dataclass(frozen=True)
class Origin:
    """What decides the content of an archive: with another origin it is another archive.

    source: name of the measurement set; state: digest of its fingerprint; column: what was read;
    corrections: digest or name of what was applied to it; imaging_weights: where IMAGING_WEIGHT
    comes from, empty for none.
    """

    source: str
    state: str
    column: str
    corrections: str = ""
    imaging_weights: str = ""
    bits: tuple[int, int] = (DATA_BITS, WEIGHT_BITS)


@dataclass(frozen=True)
class Archived:
    """One archive.  made: False if it was there already; aside: name that an earlier one got.

    error, weight_error: median error over median size of the visibilities, and root mean square
    relative error of the weights, as read back from a sample of the rows (NaN if nothing usable).
    compressed: False where rows are missing.  before, size: bytes of the measurement set and of
    the archive.
    """

    path: Path
    made: bool
    compressed: bool
    error: float
    weight_error: float
    before: int
    size: int
    aside: Path | None = None


def archive_size(info: MSInfo) -> int:
    """Disk that the archive of a measurement set takes at most, bytes."""
    n_corr = len(info.corr_types)
    sample = n_corr * (2 * DATA_BITS + 1) / 8 + WEIGHT_BITS / 8 + 4
    subtables = sum(folder_bytes(p) for p in info.path.iterdir() if p.is_dir())
    return int(info.n_rows * (info.n_chan * sample + 200)) + subtables + (1 << 20)


def archive_ms(ms: str | Path, target: str | Path, column: str, *, corrected: Source | None = None,
               corrections: str = "", imaging_weights: Source | None = None,
               weights_from: str = "", skip_imaging_weights: bool = False,
               preserve: bool = False, monitor: Any = None) -> Archived:
    """Write the compressed copy `target` of measurement set `ms`; its data are called DATA.

    Taken are the rows of `column`, or of `corrected`, and all else but other visibilities.
    Flagged samples and autocorrelations become NaN: neither survives the quantisation.
    WEIGHT_SPECTRUM is averaged over the correlations, of which Dysco keeps one.  IMAGING_WEIGHT is
    that of `imaging_weights`, else that of the set, or left out.  FLAG is copied.

    corrections, weights_from: stand for these sources in the archive's origin.  An archive of the
    same origin is kept, with `preserve` any; another one is renamed to <target>.1, .2 and so on.
    It gets its name when it is complete and a sample of it was read back.
    Raises DataError for a set that cannot be read or kept faithfully, ResourceError when the disk
    is full or may not be written.
    """
    target, info = Path(target), read_metadata(ms)
    require_column(info, column)
    require_whole(info, column)
    if skip_imaging_weights:
        weights_from = ""
    elif imaging_weights is None and "IMAGING_WEIGHT" in info.columns:
        weights_from = "IMAGING_WEIGHT"
    origin = Origin(info.name, state_of(info.path), column, corrections, weights_from)
    kept = _kept(target, origin, preserve)
    if kept is not None:
        return kept
    _require_room(target, archive_size(info))
    copy = _Copy(info, column, corrected, imaging_weights, skip_imaging_weights, monitor)
    try:
        with atomic_path(target) as part:
            made = Archived(target, True, *copy.write(part), folder_bytes(ms), folder_bytes(part))
            atomic_write_json(part / NOTE, _note(origin, made))
            for file in part.rglob("*"):
                fsync(file)
            aside = put_aside(target)
    except OSError as error:
        raise ResourceError(f"{target}: cannot be written ({error.strerror or error}); make room, "
                            "mend its permissions") from error
    return replace(made, aside=aside)


def describe(one: Archived) -> str:
    """A line on an archive."""
    if not one.made:
        return f"{one.path.name}: kept, it is there already"
    text = f"{one.path.name}: {size_text(one.size)} of {size_text(one.before)}"
    if one.compressed:
        text += f", error {one.error:.2g} of the median visibility"
    else:
        text += ", not compressed since rows are missing from the measurement set"
    return text + (f"; an earlier one is now {one.aside.name}" if one.aside else "")


def state_of(ms: Path) -> str:
    """Digest of the fingerprint of a measurement set."""
    text = json.dumps(fingerprint(ms), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def read_note(archive: Path) -> dict[str, Any] | None:
    """The note of an archive; None if it has none that can be understood."""
    try:
        note = json.loads((archive / NOTE).read_text(encoding="utf-8"))
        return note if isinstance(note["origin"], dict) else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def put_aside(target: Path) -> Path | None:
    """Rename what stands at `target` to the first free <target>.1, .2 ...; None if nothing does."""
    if not (target.exists() or target.is_symlink()):
        return None
    number = 1
    while (aside := target.with_name(f"{target.name}.{number}")).exists() or aside.is_symlink():
        number += 1
    os.rename(target, aside)
    return aside


def _note(origin: Origin, made: Archived) -> dict[str, Any]:
    from ddfpipe import __version__

    return {
        "origin": asdict(origin), "compressed": made.compressed, "error": _finite(made.error),
        "weight_error": _finite(made.weight_error), "before": made.before, "size": made.size,
        "made": datetime.now().astimezone().isoformat(timespec="seconds"),
        "version": __version__,
    }


def _finite(value: float) -> float | None:
    return value if np.isfinite(value) else None


def _kept(target: Path, origin: Origin, preserve: bool) -> Archived | None:
    """What is known of the archive that stands at `target`, if it is to stay there."""
    if not target.exists():
        return None
    note = read_note(target)
    same = note is not None and note["origin"] == json.loads(json.dumps(asdict(origin)))
    if not (same or preserve):
        return None
    note = note or {}
    error, weight_error = (
        np.nan if note.get(name) is None else float(note[name])
        for name in ("error", "weight_error")
    )
    return Archived(target, False, bool(note.get("compressed", True)), error, weight_error,
                    int(note.get("before", 0)), folder_bytes(target))


def _require_room(target: Path, needed: int) -> None:
    folder = target.absolute().parent
    if not folder.is_dir():
        raise ResourceError(f"{folder}: there is no such directory for the archive")
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise ResourceError(f"{folder}: the archive {target.name} needs {size_text(needed)}, "
                            f"{size_text(free)} are free; free some space")


@dataclass(frozen=True)
class _Copy:
    """One measurement set on its way into an archive."""

    info: MSInfo
    column: str
    corrected: Source | None
    imaging_weights: Source | None
    skip_imaging_weights: bool
    monitor: Any

    def write(self, part: Path) -> tuple[bool, float, float]:
        """Make the archive `part`.

        Returns whether it is compressed, and the errors of visibilities and weights read back.
        """
        with open_table(self.info.path) as main, in_blocks(main) as (rows, regular):
            readers = self._readers(rows)
            try:
                self._copy_rest(rows, part)
                for name, reader in readers.items():
                    self._fill(rows, part, name, reader, regular)
                return regular, *self._check(part, readers)
            except RuntimeError as error:  # casacore: full disk, missing storage manager
                raise ResourceError(f"{part.parent}: the archive of {self.info.path} cannot be "
                                    f"written ({error}); make room and try again") from error

    def _readers(self, main: Any) -> dict[str, Reader]:
        """Column of the archive -> reader of what goes into it."""
        info = self.info
        data = self.corrected(main, info) if self.corrected else (
            lambda start, count: main.getcol(self.column, start, count))
        readers = {"DATA": _usable(main, data), "WEIGHT_SPECTRUM": _weights(main, info)}
        if self.imaging_weights is not None and not self.skip_imaging_weights:
            readers["IMAGING_WEIGHT"] = self.imaging_weights(main, info)
        return readers

    def _copy_rest(self, main: Any, part: Path) -> None:
        """Copy rows and subtables but for what is written anew or left out."""
        left_out = {*self.info.data_columns, "WEIGHT_SPECTRUM", "DATA"}
        if self.skip_imaging_weights or self.imaging_weights is not None:
            left_out.add("IMAGING_WEIGHT")
        names = [name for name in main.colnames() if name not in left_out]
        rest = main.select(", ".join(names))
        try:
            rest.copy(str(part), deep=True).close()
        finally:
            rest.close()
        (part / COLUMNS_NOTE).unlink(missing_ok=True)

    def _fill(self, main: Any, part: Path, name: str, reader: Reader, compress: bool) -> None:
        with open_table(part, readonly=False) as copy:
            self._add_column(copy, name, compress and name != "IMAGING_WEIGHT")
            source = {"DATA": self.column}.get(name, name)
            if source in main.colnames():
                copy.putcolkeywords(name, main.getcolkeywords(source))
            for start, count in self._blocks():
                if self.monitor is not None:
                    self.monitor.check()
                copy.putcol(name, reader(start, count), start, count)
                if self.monitor is not None:
                    self.monitor.progress(f"{name} of {self.info.name}", start + count,
                                          self.info.n_rows)

    def _add_column(self, copy: Any, name: str, compress: bool) -> None:
        from casacore.tables import makearrcoldesc

        shape = [self.info.n_chan, len(self.info.corr_types)]
        shape = shape[:1] if name == "IMAGING_WEIGHT" else shape
        kind, zero = ("complex", 0j) if name == "DATA" else ("float", 0.0)
        # 5 is Direct and FixedShape, the only cells that Dysco can store.
        desc = makearrcoldesc(name, zero, ndim=len(shape), shape=shape, valuetype=kind, options=5)
        manager: dict[str, Any] = {"TYPE": "DyscoStMan", "NAME": f"Dysco{name}", "SPEC": DYSCO}
        if not compress:
            tile = [*shape[::-1], max(1, (1 << 17) // int(np.prod(shape)))]
            manager = {"TYPE": "TiledColumnStMan", "NAME": f"Tiled{name}",
                       "SPEC": {"DEFAULTTILESHAPE": np.array(tile, np.int32)}}
        copy.addcols(desc, manager)

    def _blocks(self) -> list[tuple[int, int]]:
        return list(row_blocks(self.info.n_rows, rows_per_block(self.info)))

    def _check(self, part: Path, readers: dict[str, Reader]) -> tuple[float, float]:
        """Read a sample of rows back and compare; (median error, weights' rms relative error)."""
        info = self.info
        count = min(info.n_rows, rows_per_block(info), 4096)
        starts = np.unique(np.linspace(0, info.n_rows - count, CHECKED_BLOCKS).astype(int))
        sizes, errors, ratios = [], [], []
        with open_table(part) as copy:
            for start in starts.tolist():
                wanted, found = readers["DATA"](start, count), copy.getcol("DATA", start, count)
                good = np.isfinite(wanted)
                if not np.array_equal(good, np.isfinite(found)):
                    raise DataError(f"{info.path}: its archive would not tell usable samples from "
                                    "others; keep the measurement set itself")
                sizes.append(np.abs(wanted[good]))
                errors.append(np.abs(found[good] - wanted[good]))
                weight = readers["WEIGHT_SPECTRUM"](start, count)
                found = copy.getcol("WEIGHT_SPECTRUM", start, count)
                use = weight > 0
                ratios.append(found[use] / weight[use] - 1)
        size, error = (np.concatenate(x) for x in (sizes, errors))
        ratio = np.concatenate(ratios)
        relative = float(np.median(error) / np.median(size)) if size.any() else np.nan
        if relative > MOST_ERROR:
            raise DataError(
                f"{info.path}: its archive would differ from the data by {relative:.0%}; are there "
                "unflagged outliers? Flag them, or keep the measurement set itself"
            )
        return relative, float(np.sqrt(np.mean(ratio**2))) if ratio.size else np.nan


@contextmanager
def in_blocks(main: Any) -> Iterator[tuple[Any, bool]]:
    """The rows of open table `main`, sorted if need be, and whether Dysco can store them.

    It ends the process where it cannot: it needs blocks of rows of one time, two at least, with
    the same baselines in the same order.
    """
    if _are_blocks(main):
        yield main, True
        return
    ordered = main.sort("TIME, ANTENNA1, ANTENNA2")
    try:
        regular = _are_blocks(ordered)
        yield (ordered if regular else main), regular
    finally:
        ordered.close()


def _are_blocks(main: Any) -> bool:
    time, *pair = (main.getcol(name) for name in ("TIME", "ANTENNA1", "ANTENNA2"))
    block = int(np.argmax(time != time[0]))
    if block == 0 or len(time) % block:
        return False
    same = time.reshape(-1, block)
    return bool((same == same[:, :1]).all() and np.unique(same[:, 0]).size == len(same)) and all(
        bool((ant.reshape(-1, block) == ant[:block]).all()) for ant in pair
    )


def _usable(main: Any, data: Reader) -> Reader:
    """`data` with NaN for flagged samples, infinities and autocorrelations."""

    def read(start: int, count: int) -> np.ndarray:
        vis = np.array(data(start, count), np.complex64)
        bad = main.getcol("FLAG", start, count) | ~np.isfinite(vis)
        if "FLAG_ROW" in main.colnames():
            bad[main.getcol("FLAG_ROW", start, count)] = True
        bad[main.getcol("ANTENNA1", start, count) == main.getcol("ANTENNA2", start, count)] = True
        vis[bad] = np.nan
        return vis

    return read


def _weights(main: Any, info: MSInfo) -> Reader:
    """WEIGHT_SPECTRUM (without it, WEIGHT; without both, one), its mean in all correlations."""
    shape = (info.n_chan, len(info.corr_types))
    name = next((n for n in ("WEIGHT_SPECTRUM", "WEIGHT")
                 if n in main.colnames() and main.iscelldefined(n, 0)), None)

    def read(start: int, count: int) -> np.ndarray:
        if name is None:
            return np.ones((count, *shape), np.float32)
        weight = np.asarray(main.getcol(name, start, count), np.float32)
        weight = weight if weight.ndim == 3 else weight[:, None, :]
        mean = np.nan_to_num(weight.mean(axis=2, keepdims=True), posinf=0.0, neginf=0.0)
        return np.broadcast_to(np.maximum(mean, 0), (count, *shape)).copy()

    return read
