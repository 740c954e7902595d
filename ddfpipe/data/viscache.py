"""The visibility cache: a measurement set as memory-mapped regular arrays.

One pass over a measurement set writes `<MS>.<column>.<hash>.ddfvis/` under `cache_dir`; every
later pass over the data reads that.  The directory holds `vis.npy`, `weight.npy`, `uvw.npy`,
`axes.npz` and `meta.json`, which carries a fingerprint of the source; it is built under a
temporary name and renamed when complete, so a cache that has its name is whole.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import socket
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from ddfpipe.data import atomic
from ddfpipe.data.fingerprint import fingerprint
from ddfpipe.data.ms import CASACORE_LOCK, MSInfo, read_metadata
from ddfpipe.data.sizes import size_text
from ddfpipe.errors import DataError, ResourceError

FORMAT = "ddfpipe visibility cache"
VERSION = 1
SUFFIX = ".ddfvis"
MARKER = "FORMAT"
ARRAYS = {"vis": np.complex64, "weight": np.float32, "uvw": np.float64}


class VisCache:
    """Regular copy of one column of one measurement set; arrays are read-only memory maps.

    Attributes: path, ms_path (Path), name (of the measurement set), column, observation,
    n_time, n_bl, n_chan, n_ant; time (n_time,) f8 centres of the slots in MJD s, interval s;
    freq (n_chan,) f8 Hz, ascending, chan_width (n_chan,) f8 Hz; ant1 < ant2 (n_bl,) i4, indices
    into the ANTENNA table, whose rows are ant_names and ant_pos (n_ant, 3) f8 ITRF m, with those
    that have no baseline; phase_centre (ra, dec) rad; uvw (n_time, n_bl, 3) f8 m; vis (n_time,
    n_bl, n_chan, 4) c8, zero where not usable; weight (n_time, n_bl, n_chan) f4, zero where any
    correlation is flagged, not finite, or the row is missing; good (n_bl,) i8 usable samples.
    """

    def __init__(self, path: Path) -> None:
        """Open the finished cache directory `path`.  Raises DataError when it is not whole."""
        try:
            meta = json.loads((path / "meta.json").read_text())
            with np.load(path / "axes.npz") as axes:
                for name in axes.files:
                    setattr(self, name, axes[name])
            self.vis, self.weight, self.uvw = (
                np.load(path / f"{name}.npy", mmap_mode="r") for name in ARRAYS)
        except (OSError, ValueError, KeyError) as error:
            raise DataError(f"{path}: visibility cache is damaged ({error}); remove it") from error
        self.path, self.meta = path, meta
        self.ms_path = Path(meta["ms"])
        self.name = self.ms_path.name
        self.column: str = meta["column"]
        self.observation: str = meta["observation"]
        self.interval: float = meta["interval"]
        self.ant_names: list[str] = meta["ant_names"]
        self.phase_centre: tuple[float, float] = tuple(meta["phase_centre"])
        self.n_time, self.n_bl, self.n_chan = self.weight.shape
        self.n_ant = len(self.ant_names)

    def unit_weight(self, t0: int = 0, t1: int | None = None) -> np.ndarray:
        """One where a sample is usable, zero elsewhere: (t1 - t0, n_bl, n_chan) f4."""
        return (self.weight[t0:t1] > 0).astype(np.float32)

    def stokes_i(self, t0: int = 0, t1: int | None = None) -> np.ndarray:
        """(XX + YY) / 2 of the slots t0 <= t < t1: (t1 - t0, n_bl, n_chan) c8."""
        vis = self.vis[t0:t1]
        return np.complex64(0.5) * (vis[..., 0] + vis[..., 3])

    def stokes_v(self, t0: int = 0, t1: int | None = None) -> np.ndarray:
        """(XY - YX) / 2i, circular polarisation, of the slots t0 <= t < t1: c8 as `stokes_i`."""
        vis = self.vis[t0:t1]
        return np.complex64(-0.5j) * (vis[..., 1] - vis[..., 2])

    @property
    def used_stations(self) -> np.ndarray:
        """(n_ant,) bool: stations that have baselines here (perhaps wholly flagged)."""
        used = np.zeros(self.n_ant, bool)
        used[self.ant1] = used[self.ant2] = True
        return used

    @property
    def station_flagged(self) -> np.ndarray:
        """(n_ant,) f8 fraction of unusable samples by station; 1 for one without baselines."""
        good = np.zeros(self.n_ant)
        total = np.zeros(self.n_ant)
        for ant in (self.ant1, self.ant2):
            good += np.bincount(ant, self.good, self.n_ant)
            total += np.bincount(ant, minlength=self.n_ant) * (self.n_time * self.n_chan)
        return 1 - good / np.maximum(total, 1)

    @property
    def flagged_fraction(self) -> float:
        """Fraction of unusable samples of the grid."""
        return 1 - float(self.good.sum()) / self.weight.size


def cache_size_bytes(info: MSInfo) -> int:
    """Disk that the cache of the measurement set takes, bytes (an upper bound)."""
    n_used = int(info.stations_used.sum())
    n_bl = n_used * (n_used - 1) // 2
    return info.n_time * n_bl * (36 * info.n_chan + 24) + 65536


def cache_path(ms: str | Path, column: str, cache_dir: str | Path,
               drop_international: bool = False) -> Path:
    """Directory of the cache: same-named sets in different places get different ones.

    Links are not resolved: a set goes by the name under which it was given.
    """
    ms = Path(ms).absolute()
    key = f"{ms}\0{column}\0{drop_international}"
    digest = hashlib.sha1(key.encode()).hexdigest()[:12]
    return Path(cache_dir) / f"{ms.name}.{column}.{digest}{SUFFIX}"


def open_cache(ms: str | Path, column: str, cache_dir: str | Path, *,
               drop_international: bool = False, monitor: Any = None) -> VisCache:
    """The cache of `column` of `ms`, built first when absent, damaged or out of date.

    drop_international leaves out the stations that are not Dutch.  monitor (progress, check) is
    told of the rows read and may raise to stop.  Raises DataError when the set cannot be used,
    ResourceError when the disk is full or may not be written.
    """
    final = cache_path(ms, column, cache_dir, drop_international)
    with CASACORE_LOCK:  # two threads asking for the same cache build it once
        cache = _existing(final, Path(ms))
        if cache is None:
            _build(Path(ms), column, final, drop_international, monitor)
            cache = VisCache(final)
    return cache


def _build(ms: Path, column: str, final: Path, drop_international: bool, monitor: Any) -> None:
    from ddfpipe.data.visbuild import build_cache

    info = read_metadata(ms)
    require_column(info, column)
    part = _start_part(final, cache_size_bytes(info))
    try:
        before = fingerprint(ms)
        meta = build_cache(info, column, part, drop_international, monitor)
        meta |= {"format": FORMAT, "version": VERSION, "fingerprint": before}
        atomic.atomic_write_json(part / "meta.json", meta)
        atomic.replace(part, final)
    except OSError as error:
        raise ResourceError(f"{final}: cannot write the visibility cache ({error.strerror or error}"
                            f"); free some space or set cache_dir to a larger disk") from error
    finally:
        atomic.remove(part)


def require_column(info: MSInfo, column: str) -> None:
    """Raise DataError, naming the columns there are, when `info` has no data column `column`."""
    if column not in info.data_columns:
        raise DataError(f"{info.path}: has no data column {column}; choose one that it has "
                        f"({', '.join(info.data_columns) or 'it has none'})")


def _existing(final: Path, ms: Path) -> VisCache | None:
    """The finished cache `final` if it still belongs to what `ms` holds now."""
    if not (final / "meta.json").is_file():
        return None
    try:
        cache = VisCache(final)
    except DataError:
        return None
    current = (cache.meta.get("version") == VERSION
               and cache.meta.get("fingerprint") == fingerprint(ms))
    return cache if current else None


def _start_part(final: Path, needed: int) -> Path:
    """An empty, marked directory to build `final` in; leftovers of dead builds are removed."""
    part = final.with_name(f"{final.name}.{socket.gethostname()}-{os.getpid()}.part")
    try:
        final.parent.mkdir(parents=True, exist_ok=True)
        for old in final.parent.glob(f"{final.name}.*.part"):
            if old == part or _builder_is_dead(old):
                atomic.remove(old)
        free = shutil.disk_usage(final.parent).free
        if free < needed:
            raise ResourceError(f"{final.parent}: visibility cache of {final.name.split('.')[0]} "
                                f"needs {size_text(needed)}, {size_text(free)} are free; free "
                                "some space or set cache_dir to a larger disk")
        part.mkdir()
        (part / MARKER).write_text(f"{FORMAT} {VERSION}\n")
    except OSError as error:
        raise ResourceError(f"{final.parent}: cannot write there ({error.strerror}); set cache_dir "
                            "to a directory that can be written") from error
    return part


def _builder_is_dead(part: Path) -> bool:
    """Whether the process that `part` is named after is known to be gone."""
    owner = re.search(r"\.ddfvis\.(.+)-(\d+)\.part$", part.name)
    if not owner or owner[1] != socket.gethostname():
        return False
    try:
        os.kill(int(owner[2]), 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        pass
    return False


def clear_caches(cache_dir: str | Path, ms: Iterable[str | Path] | None = None) -> int:
    """Remove visibility caches, finished or not, from `cache_dir`; returns the bytes freed.

    Only directories that this module made (by name and marker file) are touched, no links are
    followed; with `ms` only the caches of these measurement sets.
    """
    cache_dir = Path(cache_dir)
    if not cache_dir.is_dir():
        return 0
    wanted = None if ms is None else {str(Path(m).absolute()) for m in ms}
    freed = 0
    for folder in cache_dir.iterdir():
        ours = SUFFIX in folder.name and folder.is_dir() and not folder.is_symlink()
        if not ours or not _is_marked(folder) or not _is_wanted(folder, wanted):
            continue
        freed += sum(f.stat().st_size for f in folder.iterdir() if f.is_file())
        atomic.remove(folder)
    return freed


def _is_marked(folder: Path) -> bool:
    try:
        return (folder / MARKER).read_text().startswith(FORMAT)
    except (OSError, UnicodeDecodeError):
        return False


def _is_wanted(folder: Path, wanted: set[str] | None) -> bool:
    if wanted is None:
        return True
    try:
        return json.loads((folder / "meta.json").read_text())["ms"] in wanted
    except (OSError, ValueError, KeyError):
        return False
