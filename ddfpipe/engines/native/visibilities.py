"""The visibilities of a job as the native engine sees them: Stokes I, corrected, weighted, cached.

Input measurement sets are only read.  Direction-independent corrections and the subtraction of a
model are applied while the Stokes-I copy is made, once for every solution set and model, so each
later pass reads a third of the bytes.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ...calibration.gains import GainTable, interpolate_index
from ...data.arrays import allocate, release
from ...data.viscache import VisCache, open_cache
from ...errors import DataError
from ...units import ARCSEC, KM, MHZ
from .reader import Reader, inverse_jones, open_reader
from .solveweights import load_weights

CHUNK_BYTES = 256e6
"""Bytes of four-correlation visibilities handled at a time."""


IN_MEMORY = 400e6
"""Bytes of an image or cube above which it is kept on disk: the disk's cache holds it as long as
nobody needs the memory.  Cubes of two bands reach it at 7000 pixels a side."""

STOKES_FOLDER = "ddfpipe.stokes"
"""Stokes-I copies below the cache directory."""


class Scratch:
    """Arrays on disk that live as long as one job.

    Parameters
    ----------
    folder : directory of the arrays; emptied first, removed by `close`
    """

    def __init__(self, folder: Path):
        self.folder = folder
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)

    def array(self, name: str, shape: tuple[int, ...], dtype) -> np.ndarray:
        """A new memory-mapped array, zero at first."""
        return allocate(self.folder / f"{name}.npy", dtype, shape)

    def image(self, shape: tuple[int, ...]) -> np.ndarray:
        """A new float32 array of an image or cube, zero at first: on disk if it is large.

        What nobody holds any more is gone, from memory or from the disk.
        """
        if 4 * math.prod(shape) <= IN_MEMORY:
            return np.zeros(shape, np.float32)
        path = self.folder / "image.npy"
        array = allocate(path, np.float32, shape)
        path.unlink()
        return array

    def close(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


@dataclass
class MSData:
    """One measurement set of a job.

    vis : (time, bl, chan) complex64, Stokes I in Jy
    weight : (time, bl, chan) float32, zero where flagged or outside the uv range
    band : (chan,) int, sub-band of each channel
    reader : the four correlations behind `vis` (None where nobody asks for them)
    """

    cache: VisCache
    vis: np.ndarray
    weight: np.ndarray
    band: np.ndarray
    reader: Reader | None = None

    @property
    def shape(self) -> tuple[int, int, int]:
        return self.vis.shape

    def chunks(self, max_bytes: float = CHUNK_BYTES) -> list[slice]:
        """Slices of time whose Stokes-I visibilities fill about a quarter of `max_bytes`."""
        per_time = 32 * self.shape[1] * self.shape[2]
        step = max(1, int(max_bytes / per_time))
        return [slice(t, min(t + step, self.shape[0])) for t in range(0, self.shape[0], step)]


@dataclass
class Data:
    """All measurement sets of a job, on one phase centre.

    band_freq : (band,) float64 Hz, weighted mean frequency of each sub-band
    """

    sets: list[MSData]
    phase_centre: tuple[float, float]
    band_freq: np.ndarray
    band_weight: np.ndarray

    @property
    def n_bands(self) -> int:
        return len(self.band_freq)

    def refresh_bands(self) -> None:
        """Take the weights' sums again after they were changed in place."""
        self.band_freq, self.band_weight = _band_statistics(self.sets, self.n_bands)

    @property
    def mean_freq(self) -> float:
        return float(np.average(self.band_freq, weights=self.band_weight))


def assign_bands(freqs: list[np.ndarray], n_bands: int) -> list[np.ndarray]:
    """Sub-band of every channel: `n_bands` equal parts of the frequency range that hold data.

    Parts without any channel (gaps in coverage) are left out and the rest renumbered.
    """
    every = np.concatenate(freqs)
    low, high = every.min(), every.max()
    width = max((high - low) / n_bands, 1.0)
    raw = [np.minimum(((f - low) / width).astype(int), n_bands - 1) for f in freqs]
    used = np.unique(np.concatenate(raw))
    return [np.searchsorted(used, r) for r in raw]


def open_data(
    selection, *, cache_dir, solsdir, scratch, weights="unit", weights_from=None,
    n_bands=1, uv_down_weight=None, drop_international=False, monitor=None, subtractor=None,
    workdir=None,
) -> Data:
    """Open (building where needed) the caches of `selection` and weight its visibilities.

    subtractor, workdir : see `open_reader`

    Raises
    ------
    DataError : phase centres differ, or no unflagged sample is left
    """
    caches = [
        open_cache(
            ms, selection.column, cache_dir, drop_international=drop_international, monitor=monitor
        )
        for ms in selection.ms
    ]
    caches = in_band(caches, selection.mhz)
    _check_phase_centres(caches)
    bands = assign_bands([c.freq for c in caches], n_bands)
    sets = []
    for i, (cache, band) in enumerate(zip(caches, bands)):
        reader = open_reader(cache, selection, solsdir, subtractor, workdir)
        vis = stokes_i(reader, cache_dir, monitor)
        weight = scratch.array(f"weight{i}", vis.shape, np.float32)
        factor = load_weights(solsdir, cache.name, weights_from) if weights == "imaging" else None
        fill_weights(cache, selection.uv_km, weights, factor, uv_down_weight, weight)
        for table in reader.tables:
            drop_uncorrected(cache, table, weight)
        sets.append(MSData(cache, vis, weight, band, reader))
    freq, total = _band_statistics(sets, max(b.max() for b in bands) + 1)
    if not np.any(total > 0):
        low, high = selection.uv_km
        raise DataError(
            f"no unflagged visibility of {len(caches)} measurement sets lies between {low:g} and "
            f"{high:g} km: check the flags and the options [image] uvmin and uvmax, of a solve "
            "[solutions] uvmin and uvmin_very_slow"
        )
    return Data(sets, caches[0].phase_centre, freq, total)


def in_band(caches, mhz: tuple[float, float] | None) -> list:
    """The caches whose mean channel frequency lies in lo <= f < hi (MHz); all without limits.

    Raises
    ------
    DataError : none is left
    """
    if mhz is None:
        return caches
    low, high = mhz
    inside = [c for c in caches if low <= c.freq.mean() / MHZ < high]
    if not inside:
        raise DataError(
            f"none of {len(caches)} measurement sets has its mean frequency between {low:g} and "
            f"{high:g} MHz: change [image] centralfreqs"
        )
    return inside


def _check_phase_centres(caches) -> None:
    first = caches[0]
    for cache in caches[1:]:
        offset = np.hypot(
            (cache.phase_centre[0] - first.phase_centre[0]) * np.cos(first.phase_centre[1]),
            cache.phase_centre[1] - first.phase_centre[1],
        )
        if offset > ARCSEC:
            raise DataError(
                f"{cache.ms_path} points {offset / ARCSEC:.1f} arcsec away from {first.ms_path}: "
                "shift them to one phase centre (DP3 phaseshift) or image them apart"
            )


def _band_statistics(sets, n_bands):
    total = np.zeros(n_bands)
    moment = np.zeros(n_bands)
    for s in sets:
        per_chan = np.zeros(s.shape[2])
        for part in s.chunks():
            per_chan += s.weight[part].sum(axis=(0, 1), dtype=np.float64)
        np.add.at(total, s.band, per_chan)
        np.add.at(moment, s.band, per_chan * s.cache.freq)
    return moment / np.maximum(total, 1e-300), total


def stokes_i(reader: Reader, cache_dir: Path, monitor=None) -> np.ndarray:
    """Memory-mapped (time, bl, chan) complex64 Stokes I of a reader's visibilities.

    Where a correction is missing or flagged the visibilities are zero; `drop_uncorrected` takes
    their weight away.
    """
    def fill(out: np.ndarray) -> None:
        for part in time_slices(reader.cache):
            if monitor is not None:
                monitor.check()
            out[part] = reader.stokes_i(part)
            release(out, reader.cache.vis)

    return kept_array(reader.cache, reader.key(), cache_dir, fill)


def kept_array(cache: VisCache, key: str, cache_dir: Path,
               fill: Callable[[np.ndarray], None]) -> np.ndarray:
    """Memory-mapped (time, bl, chan) complex64 array of a cache, made by `fill` if it is not yet.

    It lies among the Stokes copies, which `clear_stokes` removes.
    """
    folder = Path(cache_dir) / STOKES_FOLDER
    target = folder / f"{cache.name}.{key}.npy"
    if not target.exists():
        folder.mkdir(parents=True, exist_ok=True)
        part = target.with_suffix(".part")
        out = allocate(part, np.complex64, (cache.n_time, cache.n_bl, cache.n_chan))
        fill(out)
        out.flush()
        part.rename(target)
    return np.load(target, mmap_mode="r")


def time_slices(cache: VisCache) -> list[slice]:
    """Slices of time whose four correlations fill about CHUNK_BYTES."""
    step = max(1, int(CHUNK_BYTES / (32 * cache.n_bl * cache.n_chan)))
    return [slice(t, min(t + step, cache.n_time)) for t in range(0, cache.n_time, step)]


def drop_uncorrected(cache: VisCache, table: GainTable, weight: np.ndarray) -> None:
    """Zero the weights (time, bl, chan) of samples of which a station has no correction."""
    known = np.any(inverse_jones(table) != 0, axis=-1)
    time_index, chan_index = interpolate_index(table, cache.time, cache.freq)
    if known[np.unique(time_index)][:, np.unique(chan_index)][
        :, :, np.union1d(cache.ant1, cache.ant2)
    ].all():
        return
    for t in range(cache.n_time):
        good = known[time_index[t], chan_index]
        weight[t] *= (good[:, cache.ant1] & good[:, cache.ant2]).T


def clear_stokes(cache_dir: Path, ms) -> None:
    """Remove the Stokes-I copies of some measurement sets."""
    folder = Path(cache_dir) / STOKES_FOLDER
    for path in ms:
        for file in folder.glob(f"{Path(path).name}.*"):
            file.unlink()


def fill_weights(cache, uv_km, weights, factor, uv_down_weight, out) -> None:
    """Natural weights of one measurement set, zero outside the uv range, into `out`.

    Parameters
    ----------
    weights : "unit", "spectrum" or "imaging"
    factor : SolverWeights for "imaging", else None
    uv_down_weight : None cuts baselines shorter than uv_km[0], a number is their relative weight
    """
    low, high = uv_km[0] * KM, uv_km[1] * KM
    step = max(1, int(CHUNK_BYTES / (16 * cache.n_bl * cache.n_chan)))
    for t in range(0, cache.n_time, step):
        part = slice(t, min(t + step, cache.n_time))
        w = np.array(cache.weight[part])
        if weights == "unit":
            w = (w > 0).astype(np.float32)
        elif factor is not None:
            w *= factor.on_grid(cache.time[part], cache.freq)
        length = np.hypot(cache.uvw[part, :, 0], cache.uvw[part, :, 1])
        share = (length <= high).astype(np.float32)
        share[length < low] *= uv_down_weight or 0
        out[part] = w * share[..., None]
    release(cache.weight)
