"""The bands of cubes: which channels make a plane, and a job's data cut down to some of them."""

from __future__ import annotations

import copy
from dataclasses import dataclass

import numpy as np

from ...errors import ImagingError
from .visibilities import Data, MSData, assign_bands

MODES = ("equal", "frequency", "channel")


@dataclass(frozen=True)
class Bands:
    """Planes of a cube, in the order of frequency.

    freq : (band,) float64 Hz, mean of the channels' frequencies
    width : (band,) float64 Hz, from the lower edge of the lowest channel to the upper of the last
    index : one (chan,) int a measurement set, band of each channel
    """

    freq: np.ndarray
    width: np.ndarray
    index: tuple[np.ndarray, ...]

    @property
    def size(self) -> int:
        return len(self.freq)


def cube_bands(data: Data, mode: str, n_bands: int) -> Bands:
    """Bands of `data` in the sense of `ImageJob.band_mode`.

    Frequencies closer than half a channel are one, so that observations share planes.

    Raises
    ------
    ImagingError : no such mode
    """
    caches = [s.cache for s in data.sets]
    freqs = [c.freq for c in caches]
    near = 0.5 * min(float(c.chan_width.min()) for c in caches)
    if mode == "equal":
        index = assign_bands(freqs, n_bands)
    elif mode == "frequency":
        number = _merge(np.array([f.mean() for f in freqs]), near)
        index = [np.full(len(f), k) for f, k in zip(freqs, number)]
    elif mode == "channel":
        number = _merge(np.concatenate(freqs), near)
        index = np.split(number, np.cumsum([len(f) for f in freqs])[:-1])
    else:
        raise ImagingError(f"band_mode '{mode}': choose one of {', '.join(MODES)}")
    freq, low, high = (np.array(list(values)) for values in zip(*_extent(caches, index)))
    return Bands(freq, high - low, tuple(np.asarray(i) for i in index))


def _merge(values: np.ndarray, near: float) -> np.ndarray:
    """(n,) number, in ascending order, of each value's group; gaps within one are below `near`."""
    order = np.argsort(values, kind="stable")
    step = np.diff(values[order], prepend=values[order[0]]) > near
    out = np.empty(len(values), int)
    out[order] = np.cumsum(step)
    return out


def _extent(caches, index):
    """(mean frequency, lower edge, upper edge) of each band."""
    freq = np.concatenate([c.freq for c in caches])
    half = np.concatenate([c.chan_width for c in caches]) / 2
    every = np.concatenate(index)
    for band in range(every.max() + 1):
        mine = every == band
        low, high = (freq - half)[mine].min(), (freq + half)[mine].max()
        yield np.unique(freq[mine]).mean(), low, high


def select_bands(data: Data, bands: Bands, which: range) -> tuple[Data, list[tuple[int, slice]]]:
    """The part of `data` that falls into the bands `which`, with those as its sub-bands.

    Returns
    -------
    Data of views (nothing is copied), and for each of its sets (number in `data`, channels)
    """
    sets, origin = [], []
    for number, (s, index) in enumerate(zip(data.sets, bands.index)):
        inside = np.flatnonzero((index >= which.start) & (index < which.stop))
        if inside.size == 0:
            continue
        chans = slice(int(inside[0]), int(inside[-1]) + 1)
        view = MSData(
            _channels(s.cache, chans), s.vis[..., chans], s.weight[..., chans],
            index[chans] - which.start,
        )
        sets.append(view)
        origin.append((number, chans))
    out = Data(sets, data.phase_centre, np.zeros(len(which)), np.zeros(len(which)))
    out.refresh_bands()
    # a plane without any weight keeps the frequency that it would have
    empty = out.band_weight <= 0
    out.band_freq[empty] = bands.freq[which.start : which.stop][empty]
    return out, origin


def _channels(cache, chans: slice):
    """The same visibility cache as if it held only some channels."""
    view = copy.copy(cache)
    view.freq, view.chan_width = cache.freq[chans], cache.chan_width[chans]
    view.vis, view.weight = cache.vis[:, :, chans], cache.weight[:, :, chans]
    view.n_chan = len(view.freq)
    return view
