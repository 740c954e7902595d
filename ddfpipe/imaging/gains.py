"""Station gains of one direction, and their product with visibilities.

K_pq = g_p g_q* with p = ANTENNA1 and q = ANTENNA2 (docs/conventions.md).  Gains are scalar
voltages, constant over blocks of times and channels: solutions and beam already multiplied.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit

from ddfpipe.errors import ImagingError
from ddfpipe.imaging.phasor import FASTMATH


@dataclass(frozen=True, eq=False)
class StationGains:
    """Gains of every station towards one direction for one chunk of visibilities.

    gain: (time block, channel block, ant) complex64.
    time_index: (time,) block of each time; chan_index: (chan,) block of each channel.
    ant1, ant2: (bl,) stations of each baseline.
    Raises ImagingError when an index points outside its axis.
    """

    gain: np.ndarray
    time_index: np.ndarray
    chan_index: np.ndarray
    ant1: np.ndarray
    ant2: np.ndarray

    def __post_init__(self):
        object.__setattr__(self, "gain", np.ascontiguousarray(self.gain, np.complex64))
        names = ("time_index", "chan_index", "ant1", "ant2")
        for name in names:
            object.__setattr__(self, name, np.ascontiguousarray(getattr(self, name), np.int64))
        if self.gain.ndim != 3:
            raise ImagingError(f"gains: {self.gain.shape} is not (time block, channel block, ant)")
        for name, size in zip(names, self.gain.shape + self.gain.shape[2:]):
            index = getattr(self, name)
            if index.size and (index.min() < 0 or index.max() >= size):
                raise ImagingError(f"gains: {name} runs from {index.min()} to {index.max()}, but "
                                   f"its axis has {size} entries")

    def check(self, shape: tuple[int, ...]) -> None:
        """Raise ImagingError unless the gains fit visibilities of shape (time, bl, chan)."""
        mine = (self.time_index.size, self.ant1.size, self.chan_index.size)
        if mine != tuple(shape) or self.ant2.size != self.ant1.size:
            raise ImagingError(f"gains for (time, bl, chan) = {mine} do not fit visibilities "
                               f"{tuple(shape)}")

    def arrays(self) -> tuple[np.ndarray, ...]:
        """(gain, time_index, chan_index, ant1, ant2), what the compiled kernels take."""
        return self.gain, self.time_index, self.chan_index, self.ant1, self.ant2


@dataclass(frozen=True, eq=False)
class GroupGains:
    """Gains of every station towards groups of components for one chunk of visibilities.

    gain: (group, knot, channel block, ant) complex64, linear in time between knots.
    group: (src,) group of each component.  knot: (time,) the one before each time; share: (time,)
    float32, how far it is on its way to the next.  chan_index: (chan,) block of each channel.
    ant1, ant2: (bl,) stations of each baseline.
    """

    gain: np.ndarray
    group: np.ndarray
    knot: np.ndarray
    share: np.ndarray
    chan_index: np.ndarray
    ant1: np.ndarray
    ant2: np.ndarray

    def __post_init__(self):
        object.__setattr__(self, "gain", np.ascontiguousarray(self.gain, np.complex64))
        object.__setattr__(self, "share", np.ascontiguousarray(self.share, np.float32))
        for name in ("group", "knot", "chan_index", "ant1", "ant2"):
            object.__setattr__(self, name, np.ascontiguousarray(getattr(self, name), np.int64))

    @classmethod
    def none(cls) -> GroupGains:
        """Gains of no group: components are seen as they are."""
        return cls(np.zeros((0, 0, 0, 0)), *[np.zeros(0)] * 6)

    def check(self, n_components: int, shape: tuple[int, ...]) -> GroupGains:
        """These, or ImagingError unless they fit so many components and (time, bl, chan)."""
        groups, knots, blocks, stations = self.gain.shape
        mine = (self.knot.size, self.ant1.size, self.chan_index.size)
        limits = ((self.group, groups), (self.knot + (self.share > 0), knots), (self.knot, knots),
                  (self.chan_index, blocks), (self.ant1, stations), (self.ant2, stations))
        inside = all(index.size == 0 or 0 <= index.min() <= index.max() < size
                     for index, size in limits)
        if mine != tuple(shape) or self.ant2.size != self.ant1.size or not inside \
                or self.share.size != self.knot.size or self.group.size != n_components:
            raise ImagingError(f"gains of {groups} groups for {self.group.size} components and "
                               f"(time, bl, chan) = {mine} do not fit {n_components} components "
                               f"and {tuple(shape)}")
        return self

    def arrays(self) -> tuple[np.ndarray, ...]:
        """(gain, group, knot, share, chan_index, ant1, ant2), what the compiled kernels take."""
        return (self.gain, self.group, self.knot, self.share, self.chan_index, self.ant1,
                self.ant2)


@njit(cache=True, nogil=True, fastmath=FASTMATH, inline="always")
def times_conjugate(p, q):
    """Real and imaginary part of g_p g_q*."""
    return p.real * q.real + p.imag * q.imag, p.imag * q.real - p.real * q.imag


@njit(cache=True, nogil=True, fastmath=FASTMATH, forceinline=True)
def baseline_gain(gain, block, p, q, kr, ki):
    """Fill kr, ki (channel block,) with K = g_p g_q* of one baseline and time block."""
    for f in range(gain.shape[1]):
        kr[f], ki[f] = times_conjugate(gain[block, f, p], gain[block, f, q])


@njit(cache=True, nogil=True, fastmath=FASTMATH)
def _multiply(vis, gain, time_index, chan_index, ant1, ant2, sign, scale, out):
    """out += scale K vis (sign +1) or scale K* vis (sign -1)."""
    kr = np.empty(gain.shape[1], np.float32)
    ki = np.empty(gain.shape[1], np.float32)
    for t in range(vis.shape[0]):
        for b in range(vis.shape[1]):
            baseline_gain(gain, time_index[t], ant1[b], ant2[b], kr, ki)
            for c in range(vis.shape[2]):
                f = chan_index[c]
                x = kr[f] * scale
                y = ki[f] * sign * scale
                v = vis[t, b, c]
                out[t, b, c] += complex(v.real * x - v.imag * y, v.real * y + v.imag * x)


def _product(vis, gains: StationGains, sign: float, scale: float, out):
    vis = np.ascontiguousarray(vis, np.complex64)
    gains.check(vis.shape)
    if out is None:
        out = np.zeros_like(vis)
    elif out.shape != vis.shape or out.dtype != np.complex64:
        raise ImagingError(f"gains: output {out.dtype} {out.shape} is not complex64 {vis.shape}")
    _multiply(vis, *gains.arrays(), np.float32(sign), np.float32(scale), out)
    return out


def corrupt(model, gains: StationGains, *, scale: float = 1.0, out=None) -> np.ndarray:
    """scale K M for model visibilities M (time, bl, chan) complex64.

    out: array to *add* to (scale=-1 and the data there subtract the model); made when None.
    """
    return _product(model, gains, 1.0, scale, out)


def apply_adjoint(vis, gains: StationGains, *, scale: float = 1.0, out=None) -> np.ndarray:
    """scale K* V for visibilities V (time, bl, chan) complex64, the adjoint of `corrupt`."""
    return _product(vis, gains, -1.0, scale, out)
