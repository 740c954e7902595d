"""Gain tables: gains on time-frequency intervals with errors and flags, and what is done to them.

A table is the currency between the solver, the solution files and the imager.  Gains multiply the
model as in docs/conventions.md: `V_pq = g_p M conj(g_q)`, full Jones `V_pq = J_p M J_q^H`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from ddfpipe.errors import SolveError

CORRELATIONS = {1: ("I",), 2: ("XX", "YY"), 4: ("XX", "XY", "YX", "YY")}
"""Names of the last axis of `GainTable.gains` for each permitted length."""


@dataclass
class GainTable:
    """Gains that are constant inside each time-frequency interval.

    time_edges: (n_time, 2) float64, seconds, MJD epoch as in a measurement set; ascending.
    freq_edges: (n_chan, 2) float64, Hz; ascending.
    gains: (n_time, n_chan, n_ant, n_dir, n_corr) complex, n_corr 1, 2 or 4 (`CORRELATIONS`).
    ant_names: n_ant station names.
    directions: (n_dir, 2) float64, right ascension and declination in radians.
    error: float array of the shape of gains or None: standard deviation of the component of the
        gain at right angles to it, so that error / |gain| is the phase error in radians.
    flag: bool array of the shape of gains, True where nothing is known (None: nothing flagged).
    ant_pos: (n_ant, 3) float64, metres (ITRF), or None where the source of the table lacks them.
    meta: small plain values (strings, numbers) kept in the files.

    Raises SolveError when shapes disagree.
    """

    time_edges: np.ndarray
    freq_edges: np.ndarray
    gains: np.ndarray
    ant_names: Sequence[str]
    directions: np.ndarray
    error: np.ndarray | None = None
    flag: np.ndarray | None = None
    ant_pos: np.ndarray | None = None
    meta: dict = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.time_edges = np.asarray(self.time_edges, np.float64).reshape(-1, 2)
        self.freq_edges = np.asarray(self.freq_edges, np.float64).reshape(-1, 2)
        self.directions = np.asarray(self.directions, np.float64).reshape(-1, 2)
        self.ant_names = [str(name) for name in self.ant_names]
        self.gains = np.asarray(self.gains)
        if self.flag is None:
            self.flag = np.zeros(self.gains.shape, bool)
        self._check()

    def _check(self) -> None:
        shape = (len(self.time_edges), len(self.freq_edges), len(self.ant_names),
                 len(self.directions))
        if self.gains.ndim != 5 or self.gains.shape[:4] != shape:
            raise SolveError(
                f"gain table: gains have shape {self.gains.shape}, but the axes say {shape} plus "
                "correlations; check how the table was put together")
        if self.gains.shape[4] not in CORRELATIONS:
            raise SolveError(
                f"gain table: {self.gains.shape[4]} correlations; 1, 2 or 4 are possible")
        for name, array in (("error", self.error), ("flag", self.flag)):
            if array is not None and array.shape != self.gains.shape:
                raise SolveError(f"gain table: {name} has shape {array.shape}, gains "
                                 f"{self.gains.shape}; they must be equal")

    @property
    def n_corr(self) -> int:
        """Length of the correlation axis: 1, 2 or 4."""
        return self.gains.shape[4]

    @property
    def times(self) -> np.ndarray:
        """(n_time,) centres of the time intervals, s."""
        return self.time_edges.mean(axis=1)

    @property
    def freqs(self) -> np.ndarray:
        """(n_chan,) centres of the frequency intervals, Hz."""
        return self.freq_edges.mean(axis=1)

    def copy(self) -> GainTable:
        """A table that shares no array with this one."""
        optional = {name: None if array is None else array.copy()
                    for name, array in (("error", self.error), ("ant_pos", self.ant_pos))}
        return replace(self, time_edges=self.time_edges.copy(), freq_edges=self.freq_edges.copy(),
                       gains=self.gains.copy(), ant_names=list(self.ant_names),
                       directions=self.directions.copy(), flag=self.flag.copy(),
                       meta=dict(self.meta), **optional)

    def station(self, name: str) -> int:
        """Index of station `name`; SolveError when the table has none of that name."""
        try:
            return self.ant_names.index(name)
        except ValueError:
            raise SolveError(f"station {name} is not in the gain table; its stations are "
                             f"{', '.join(self.ant_names)}") from None


def nearest_interval(edges: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Index of the interval that holds each value, else of the nearest one.

    edges: (n, 2) ascending; values: (m,), same unit.  Returns (m,) intp.  A value on the border of
    two intervals belongs to the later one; between two intervals the nearer edge wins.
    """
    edges = np.asarray(edges, np.float64)
    values = np.asarray(values, np.float64)
    if len(edges) == 0:
        raise SolveError("a gain table without intervals cannot be interpolated")
    before = np.clip(np.searchsorted(edges[:, 0], values, side="right") - 1, 0, len(edges) - 1)
    after = np.minimum(before + 1, len(edges) - 1)
    past_end = values - edges[before, 1]
    to_next = edges[after, 0] - values
    use_next = (past_end >= 0) & (after > before) & (to_next < past_end)
    return np.where(use_next, after, before)


def interpolate_index(table: GainTable, times: np.ndarray,
                      freqs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Which gain belongs to which sample: (time index (n_times,), chan index (n_freqs,)).

    times in s, freqs in Hz; values outside every interval take the nearest interval.
    """
    return nearest_interval(table.time_edges, times), nearest_interval(table.freq_edges, freqs)


def concatenate(tables: Sequence[GainTable]) -> GainTable:
    """Join tables of the same stations, directions and channels along time, in time order.

    Raises SolveError when stations, directions or frequency intervals differ.
    """
    tables = sorted(tables, key=lambda t: t.time_edges[0, 0] if len(t.time_edges) else np.inf)
    if not tables:
        raise SolveError("no gain tables to join")
    first = tables[0]
    for other in tables[1:]:
        same = (other.ant_names == first.ant_names
                and other.gains.shape[1:] == first.gains.shape[1:]
                and np.allclose(other.directions, first.directions, atol=1e-7)
                and np.allclose(other.freq_edges, first.freq_edges))
        if not same:
            raise SolveError("gain tables to be joined in time differ in stations, directions or "
                             "frequency intervals; solve them with the same settings")
    error = None
    if all(t.error is not None for t in tables):
        error = np.concatenate([t.error for t in tables])
    return replace(first, time_edges=np.concatenate([t.time_edges for t in tables]),
                   gains=np.concatenate([t.gains for t in tables]), error=error,
                   flag=np.concatenate([t.flag for t in tables]), meta=dict(first.meta))


def as_jones(gains: np.ndarray) -> np.ndarray:
    """Gains (..., n_corr) as 2 × 2 matrices (..., 2, 2) of the same dtype."""
    out = np.zeros(gains.shape[:-1] + (2, 2), gains.dtype)
    if gains.shape[-1] == 4:
        out[...] = gains.reshape(gains.shape[:-1] + (2, 2))
    else:
        out[..., 0, 0] = gains[..., 0]
        out[..., 1, 1] = gains[..., -1]
    return out


def reference_to(table: GainTable, station: str | None = None) -> GainTable:
    """Phases relative to one station; visibilities stay the same.

    The phase of the reference is taken out of every station, for each time, channel, direction
    and hand (full Jones: one phase, that of the trace, since only it is free).  Where the
    reference is flagged the first unflagged station stands in, so no interval jumps to unknown
    values.  station: None picks the station with the fewest flags (the first of equals).
    """
    index = int(np.argmin(table.flag.sum(axis=(0, 1, 3, 4)))) if station is None \
        else table.station(station)
    gains = table.gains.copy()
    value = gains[..., [0]] + gains[..., [3]] if table.n_corr == 4 else gains
    bad = table.flag.any(axis=-1, keepdims=True) if table.n_corr == 4 else table.flag
    stand_in = np.argmin(bad, axis=2, keepdims=True)
    use = np.where(bad[:, :, [index]], stand_in, index)
    phase = np.angle(np.take_along_axis(value, use, axis=2))
    gains *= np.exp(-1j * phase).astype(gains.dtype)
    return replace(table, gains=gains)


def align_gauge(gains: np.ndarray, truth: np.ndarray,
                weight: np.ndarray | None = None) -> np.ndarray:
    """Gains after the change of gauge that brings them closest to `truth`, for comparisons.

    gains, truth: (..., n_ant, n_dir, n_corr); weight: (..., n_ant, n_dir) or None.  Scalar and
    diagonal gains: one phase per direction and hand.  Full Jones: one unitary matrix from the
    right per direction (the freedom left by an unpolarised sky).
    """
    w = np.ones(gains.shape[:-1]) if weight is None else weight
    if gains.shape[-1] < 4:
        product = np.sum(w[..., None] * truth * np.conj(gains), axis=-3, keepdims=True)
        return gains * np.exp(1j * np.angle(product))
    mine, true = as_jones(gains), as_jones(truth)
    cross = np.einsum("...pd,...pdji,...pdjk->...dik", w, np.conj(mine), true)
    left, _, right = np.linalg.svd(cross)
    unitary = left @ right
    return np.einsum("...pdij,...djk->...pdik", mine, unitary).reshape(gains.shape)


def gain_mean_amplitude(gains: np.ndarray, flag: np.ndarray, mode: str) -> np.ndarray:
    """Mean amplitudes that `normalize` divides by, (n_dir or 1,) or (n_ant, n_dir) for Mean...

    See `normalize` for the modes.  Shapes as in `GainTable`; flagged gains are left out.
    """
    power = np.abs(gains[..., [0, 3]] if gains.shape[-1] == 4 else gains)
    good = ~(flag[..., [0, 3]] if gains.shape[-1] == 4 else flag)
    amplitude = np.where(good, power, 0.0).astype(np.float64)
    if mode == "MeanAbsAnt":
        return amplitude.sum(axis=(0, 1, 4)) / np.maximum(good.sum(axis=(0, 1, 4)), 1)
    if mode == "Mean":
        return amplitude.sum(axis=(0, 1, 2, 4)) / np.maximum(good.sum(axis=(0, 1, 2, 4)), 1)
    # Mean over the baselines p < q of |g_p||g_q| = ((Σ|g|)² - Σ|g|²) / (n (n - 1)).
    total, square = amplitude.sum(axis=2), (amplitude**2).sum(axis=2)
    n = good.sum(axis=2)
    pairs, product = n * (n - 1), total**2 - square
    axes = (0, 1, 2, 3) if mode == "SumBLBased" else (0, 1, 3)
    number = pairs.sum(axis=axes)
    mean = product.sum(axis=axes) / np.maximum(number, 1)
    return np.sqrt(np.atleast_1d(np.where(number > 0, mean, 1.0)))


def normalize(table: GainTable, mode: str | None) -> GainTable:
    """Divide the amplitudes so that the mean named is one; phases and amplitude ratios stay.

    None: the table unchanged.
    "BLBased": for each direction, the mean of |g_p g_q*| over baselines, times, channels and
        hands is one (one factor per direction).
    "SumBLBased": the same mean taken over all directions together (one factor in all).
    "Mean": for each direction, the mean of |g| over stations, times, channels and hands is one.
    "MeanAbsAnt": the mean of |g| over times, channels and hands is one for each station and
        direction, which removes station gains that last the whole table.
    Flagged gains do not count; means of nothing leave the gains as they are.  Full-Jones means
    are taken over the diagonal elements.  Raises SolveError for another mode.
    """
    if mode is None:
        return table
    if mode not in ("BLBased", "SumBLBased", "Mean", "MeanAbsAnt"):
        raise SolveError(f"unknown normalisation of gains {mode!r}; use BLBased, SumBLBased, Mean, "
                         "MeanAbsAnt or None")
    factor = gain_mean_amplitude(table.gains, table.flag, mode)
    factor = np.where(factor > 0, factor, 1.0)
    factor = factor[None, None, :, :, None] if factor.ndim == 2 \
        else factor[None, None, None, :, None]
    real = table.gains.real.dtype
    gains = table.gains / factor.astype(real)
    error = None if table.error is None else table.error / factor.astype(table.error.dtype)
    return replace(table, gains=gains, error=error)


def phases_only(table: GainTable) -> GainTable:
    """The table with all amplitudes one (scalar and diagonal gains) or, for full Jones, with every
    matrix replaced by the nearest unitary one, which is what a phase is to a Jones matrix."""
    if table.n_corr == 4:
        left, _, right = np.linalg.svd(as_jones(table.gains))
        gains = (left @ right).reshape(table.gains.shape).astype(table.gains.dtype)
        return replace(table, gains=gains)
    amplitude = np.abs(table.gains)
    safe = np.where(amplitude > 0, amplitude, 1)
    gains = np.where(amplitude > 0, table.gains / safe, 1).astype(table.gains.dtype)
    error = None if table.error is None else (table.error / safe).astype(table.error.dtype)
    return replace(table, gains=gains, error=error)
