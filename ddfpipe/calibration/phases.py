"""Phases of the stations, one a hand and interval, against a scalar model of the whole sky.

With C_pq = Σ w conj(M) V of a hand, the phases that minimise Σ w |V - g_p conj(g_q) M|² under
|g| = 1 maximise Re Σ conj(g_p) C_pq g_q: the synchronisation of angles.  The leading eigenvector of
the Hermitian matrix C starts near the best of its many maxima (Singer 2011, ACHA 30, 20; Boumal
2016, SIAM J. Optim. 26, 2355); sweeps over the stations, each of which raises the sum,

    g_p <- phase of Σ_q C_pq g_q

finish it (the phase-only form of StefCal, Salvini & Wijnholds 2014, A&A 571, A97).  The scale of
model and data does not enter.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numba import njit

from ddfpipe.calibration.als import baseline_lookup
from ddfpipe.calibration.jones import JonesStatistics, jones_statistics
from ddfpipe.errors import SolveError

HANDS = (0, 3)
"""XX and YY among the four correlations."""

MAX_SWEEPS, TOLERANCE = 200, 1e-6
"""Sweeps end when no phase factor changes by more than this."""

MAX_POWERS, POWER_TOLERANCE = 50, 1e-2
"""The start need not be better than the basin of the maximum."""


@njit(cache=True, nogil=True, forceinline=True)
def _sweep(matrix, gain):
    """One Gauss-Seidel sweep over the stations; the largest change of a factor."""
    largest = 0.0
    for p in range(gain.size):
        re, im = 0.0, 0.0
        for q in range(gain.size):
            z = matrix[p, q] * gain[q]
            re += z.real
            im += z.imag
        size = np.sqrt(re * re + im * im)
        if size > 0.0:
            new = complex(re / size, im / size)
            largest = max(largest, abs(new - gain[p]))
            gain[p] = new
    return largest


@njit(cache=True, nogil=True)
def _power(matrix, root, vector):
    """Power iteration on (1 + D C D) with D = 1/root, which has no negative eigenvalues.

    Loops of our own: those of a library would depend on its number of threads in the last bits.
    """
    n = vector.size
    new = np.empty(n, np.complex128)
    for _ in range(MAX_POWERS):
        size = 0.0
        for p in range(n):
            z = vector[p]
            for q in range(n):
                z += matrix[p, q] * vector[q] / (root[p] * root[q])
            new[p] = z
            size += z.real**2 + z.imag**2
        change = 0.0
        for p in range(n):
            z = new[p] / np.sqrt(size)
            change = max(change, abs(z - vector[p]))
            vector[p] = z
        if change < POWER_TOLERANCE:
            break


def synchronise(matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Phase factors (n_ant,) complex128 that maximise Re Σ conj(g_p) C_pq g_q, and C g.

    matrix: (n_ant, n_ant) complex128, Hermitian with a zero diagonal.  Stations without data keep
    a factor of one; the common phase of the others is arbitrary.
    """
    gain = np.ones(len(matrix), np.complex128)
    signal = np.abs(matrix).sum(axis=1)
    if not signal.any():
        return gain, np.zeros(len(matrix), np.complex128)
    # normalised by its rows, so that one bright baseline does not decide alone
    root = np.sqrt(np.where(signal > 0, signal, 1.0))
    first = int(np.argmax(signal))
    vector = np.where(signal > 0, matrix[:, first] / (root * root[first]), 0)
    vector[first] = 1.0
    vector /= np.linalg.norm(vector)
    _power(matrix, root, vector)
    known = (signal > 0) & (np.abs(vector) > 0)
    gain[known] = vector[known] / np.abs(vector[known])
    for _ in range(MAX_SWEEPS):
        if _sweep(matrix, gain) < TOLERANCE:
            break
    return gain, matrix @ gain


class PhaseSolver:
    """Phases of both hands, interval after interval; used like `jones.JonesSolver`.

    ant1, ant2: (n_bl,) station indices.  n_ant: number of stations.  freq_edges: (n_blocks, 2) Hz.
    """

    def __init__(self, *, ant1: np.ndarray, ant2: np.ndarray, n_ant: int,
                 freq_edges: np.ndarray) -> None:
        self.ant1, self.ant2 = np.asarray(ant1, np.int64), np.asarray(ant2, np.int64)
        baseline_lookup(self.ant1, self.ant2, n_ant)  # refuses pairs that make no sense
        self.cross = self.ant1 != self.ant2
        self.n_ant = n_ant
        self.freq_edges = np.asarray(freq_edges, np.float64).reshape(-1, 2)
        self._rows: list[dict[str, np.ndarray]] = []

    def add_interval(self, *, time_edge: Sequence[float], model: np.ndarray, data: np.ndarray,
                     weight: np.ndarray, chan_block: np.ndarray) -> None:
        """Solve one interval; arguments as for `JonesSolver.add_interval`."""
        n_block, n_bl = len(self.freq_edges), len(self.ant1)
        row = {"edge": np.asarray(time_edge, np.float64),
               "gains": np.ones((n_block, self.n_ant, 2), np.complex128),
               "error": np.full((n_block, self.n_ant, 2), np.inf),
               "chi2": np.zeros(n_block), "count": np.zeros(n_block, np.int64),
               "baseline_chi2": np.zeros((n_block, n_bl), np.float32),
               "baseline_count": np.zeros((n_block, n_bl), np.int64)}
        for block in range(n_block):
            stats = jones_statistics(model, data, weight, np.flatnonzero(chan_block == block))
            pulls = np.empty((self.n_ant, 2))
            for hand, corr in enumerate(HANDS):
                row["gains"][block, :, hand], pulls[:, hand] = self._solve(stats, corr)
            scale = self._judge(stats, row, block)
            # -ln L rises by scale Re(conj(g) C g) (δφ)² about its minimum, the others held
            known = pulls > 0
            row["error"][block][known] = 1 / np.sqrt(2 * max(scale, 1e-30) * pulls[known])
        self._rows.append(row)

    def _solve(self, stats: JonesStatistics, corr: int) -> tuple[np.ndarray, np.ndarray]:
        """Factors (n_ant,) of one hand and Re(conj(g) C g) of each station, zero without data."""
        matrix = np.zeros((self.n_ant, self.n_ant), np.complex128)
        p, q = self.ant1[self.cross], self.ant2[self.cross]
        matrix[p, q] = stats.c[self.cross, corr]
        matrix[q, p] = np.conj(stats.c[self.cross, corr])
        gain, pull = synchronise(matrix)
        return gain, np.maximum((np.conj(gain) * pull).real, 0)

    def _judge(self, stats: JonesStatistics, row: dict, block: int) -> float:
        """χ² of the interval with the scale of data over model that fits best; that scale.

        The scale is one for the whole interval and both hands, so that χ² says how well the model
        describes the structure of the sky.
        """
        gain, hands = row["gains"][block], list(HANDS)
        factor = gain[self.ant1] * np.conj(gain[self.ant2])
        fit = np.real(np.conj(factor) * stats.c[:, hands])
        total = stats.a[self.cross][:, hands].sum()
        scale = fit[self.cross].sum() / total if total > 0 else 0.0
        # the model has nothing in the cross hands, so their power counts as noise
        chi2 = stats.power + (scale**2 * stats.a[:, hands] - 2 * scale * fit).sum(axis=1)
        row["baseline_chi2"][block], row["baseline_count"][block] = chi2, stats.count
        row["chi2"][block] = chi2[self.cross].sum()
        row["count"][block] = stats.count[self.cross].sum()
        return float(scale)

    def finish(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, dict]:
        """(gains (n_time, n_chan, n_ant, 1, 2) complex128, error, flag of that shape, diagnostics).

        error: phase errors in rad, infinite where flagged (no data).  diagnostics: "time_edges"
        (n_time, 2), "chi2", "count" (n_time, n_chan), "baseline_chi2", "baseline_count" (n_time,
        n_chan, n_bl).  Raises SolveError when no interval was given.
        """
        if not self._rows:
            raise SolveError("no interval was given to the solver; check that the measurement set "
                             "holds data in the selected uv and time range")
        gains, error = (np.array([row[name] for row in self._rows])[:, :, :, None, :]
                        for name in ("gains", "error"))
        facts = {name: np.array([row[name] for row in self._rows])
                 for name in ("chi2", "count", "baseline_chi2", "baseline_count")}
        facts["time_edges"] = np.array([row["edge"] for row in self._rows])
        flag = ~np.isfinite(error)
        return _referenced(gains, flag), error, flag, facts


def _referenced(gains: np.ndarray, flag: np.ndarray) -> np.ndarray:
    """Gains (time, chan, ant, dir, hand) relative to one station for all intervals and both hands.

    Else the phase between the hands, of which an unpolarised model knows nothing, would jump.
    Where that station has no data the first one that has stands in.
    """
    usual = int(np.argmin(flag.sum(axis=(0, 1, 3, 4))))
    lost = flag.any(axis=-1, keepdims=True)
    stand_in = np.argmin(lost, axis=2, keepdims=True)
    use = np.where(lost[:, :, [usual]], stand_in, usual)
    turned = gains * np.conj(np.take_along_axis(gains, use, axis=2))
    return np.where(flag, 1.0, turned)
