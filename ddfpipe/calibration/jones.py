"""Direction-independent full-Jones solver against an unpolarised model.

The model of a baseline is a scalar M (Stokes I, XX = YY = I), the data a matrix:
`V_pq = J_p M J_q^H + noise`.  With A_ab = Σ w_ab |M|² and C_ab = Σ w_ab conj(M) V_ab for hands a of
p and b of q, row a of J_p obeys 2 × 2 normal equations, given the other stations:

    N_a = Σ_q Σ_b A_ab J_q[b]ᵀ conj(J_q[b])      r_a = Σ_q Σ_b C_ab J_q[b]

(StefCal's polarised form, Salvini & Wijnholds 2014, A&A 571, A97; CohJones for one direction,
Smirnov & Tasse 2015, MNRAS 449, 2668).  An unpolarised model leaves one unitary matrix U free,
J_p -> J_p U for all p.  It is fixed by maximising Σ_p w_p |tr J_p U|: the matrices are then as
near to a station phase times a Hermitian positive matrix as one U can make them, XX and YY stay
apart, and U moves smoothly from interval to interval.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import dataclass

import numpy as np
from numba import njit

from ddfpipe.calibration.als import baseline_lookup
from ddfpipe.calibration.gains import GainTable, nearest_interval
from ddfpipe.calibration.options import SolverOptions
from ddfpipe.calibration.priors import amplitude_trend, station_factor
from ddfpipe.errors import SolveError

BASELINES_PER_TASK = 256


@dataclass
class JonesStatistics:
    """Statistics of one block: a (n_bl, 4) float64, c (n_bl, 4) complex128, power (n_bl,) float64
    Σ w |V|², count (n_bl,) int64 complex samples with weight."""

    a: np.ndarray
    c: np.ndarray
    power: np.ndarray
    count: np.ndarray


@njit(cache=True, nogil=True)
def _statistics(model, data, weight, channels, first, last, a, c, power, count):
    n_time = data.shape[0]
    n_weight = weight.shape[3]
    for b in range(first, last):
        for t in range(n_time):
            for ch in channels:
                m = np.complex128(model[t, b, ch])
                if not (np.isfinite(m.real) and np.isfinite(m.imag)):
                    continue
                square = m.real**2 + m.imag**2
                for k in range(4):
                    w = np.float64(weight[t, b, ch, k if n_weight == 4 else 0])
                    v = np.complex128(data[t, b, ch, k])
                    if not (w > 0.0 and np.isfinite(v.real) and np.isfinite(v.imag)):
                        continue
                    a[b, k] += w * square
                    c[b, k] += w * np.conj(m) * v
                    power[b] += w * (v.real**2 + v.imag**2)
                    count[b] += 1


def jones_statistics(model: np.ndarray, data: np.ndarray, weight: np.ndarray,
                     channels: np.ndarray, executor: Executor | None = None) -> JonesStatistics:
    """Statistics of `channels` (indices) of model (time, bl, chan), data (time, bl, chan, 4) and
    weight (time, bl, chan) or (time, bl, chan, 4)."""
    if weight.ndim == 3:
        weight = weight[..., None]
    if data.shape[:3] != model.shape or weight.shape[:3] != model.shape or data.shape[3:] != (4,):
        raise SolveError(f"statistics: model {model.shape}, data {data.shape} and weight "
                         f"{weight.shape} must agree in (time, bl, chan), with 4 correlations")
    n_bl = model.shape[1]
    out = JonesStatistics(np.zeros((n_bl, 4)), np.zeros((n_bl, 4), np.complex128), np.zeros(n_bl),
                          np.zeros(n_bl, np.int64))
    channels = np.asarray(channels, np.int64)

    def work(first: int) -> None:
        last = min(first + BASELINES_PER_TASK, n_bl)
        _statistics(model, data, weight, channels, first, last, out.a, out.c, out.power, out.count)

    firsts = range(0, n_bl, BASELINES_PER_TASK)
    list(map(work, firsts) if executor is None else executor.map(work, firsts))
    return out


@njit(cache=True, nogil=True, forceinline=True)
def _normal_rows(a, c, jones, lookup, p, n, r):
    """Normal matrices n (2, 2, 2) and right-hand sides r (2, 2) of the rows of J_p."""
    n[:] = 0
    r[:] = 0
    for q in range(jones.shape[0]):
        code = lookup[p, q]
        if code == 0:
            continue
        k = abs(code) - 1
        for row in range(2):
            for col in range(2):
                ab = 2 * row + col if code > 0 else 2 * col + row
                x = a[k, ab]
                z = c[k, ab] if code > 0 else np.conj(c[k, ab])
                for i in range(2):
                    u = jones[q, 2 * col + i]
                    r[row, i] += z * u
                    for j in range(2):
                        n[row, i, j] += x * u * np.conj(jones[q, 2 * col + j])


@njit(cache=True, nogil=True)
def _sweeps(a, c, jones, lookup, max_sweeps, enough, variance):
    """Gauss-Seidel sweeps; variance (n_ant, 4) gets diag N⁻¹ (infinite without data)."""
    n = np.empty((2, 2, 2), np.complex128)
    r = np.empty((2, 2), np.complex128)
    for sweep in range(max_sweeps):
        decrease = 0.0
        for p in range(jones.shape[0]):
            _normal_rows(a, c, jones, lookup, p, n, r)
            for row in range(2):
                trace = n[row, 0, 0].real + n[row, 1, 1].real
                variance[p, 2 * row] = np.inf
                variance[p, 2 * row + 1] = np.inf
                if not trace > 0.0:
                    continue
                # A proximal ridge keeps a row that only one hand constrains where it was.
                ridge = 1e-9 * trace
                n00, n11 = n[row, 0, 0].real + ridge, n[row, 1, 1].real + ridge
                n01 = n[row, 0, 1]
                det = n00 * n11 - (n01.real**2 + n01.imag**2)
                r0 = r[row, 0] + ridge * jones[p, 2 * row]
                r1 = r[row, 1] + ridge * jones[p, 2 * row + 1]
                x0 = (n11 * r0 - n01 * r1) / det
                x1 = (n00 * r1 - np.conj(n01) * r0) / det
                d0, d1 = x0 - jones[p, 2 * row], x1 - jones[p, 2 * row + 1]
                decrease += (n00 * (d0.real**2 + d0.imag**2) + n11 * (d1.real**2 + d1.imag**2)
                             + 2 * (np.conj(d0) * n01 * d1).real)
                jones[p, 2 * row], jones[p, 2 * row + 1] = x0, x1
                variance[p, 2 * row], variance[p, 2 * row + 1] = n11 / det, n00 / det
        if decrease < enough:
            return sweep + 1
    return max_sweeps


def jones_chi_squared(stats: JonesStatistics, jones: np.ndarray, ant1: np.ndarray,
                      ant2: np.ndarray) -> np.ndarray:
    """χ² of each baseline, (n_bl,), for jones (n_ant, 4); its expectation is stats.count."""
    matrix = jones.reshape(-1, 2, 2)
    product = np.einsum("bik,bjk->bij", matrix[ant1], np.conj(matrix[ant2])).reshape(-1, 4)
    fit = stats.a * np.abs(product) ** 2 - 2 * np.real(np.conj(product) * stats.c)
    return stats.power + fit.sum(axis=1)


def natural_unitary(jones: np.ndarray, weight: np.ndarray, start: np.ndarray,
                    iterations: int = 50) -> np.ndarray:
    """The unitary U (2, 2) that maximises Σ w |tr(J U)|, found from `start` (2, 2).

    jones: (n_ant, 4); weight: (n_ant,).  Alternates between the phases of the traces and the polar
    factor of the phase-aligned mean; each step raises the sum.  The overall phase of U stays at
    that of `start`.
    """
    matrices = jones.reshape(-1, 2, 2)
    unitary = start
    for _ in range(iterations):
        trace = np.einsum("pij,ji->p", matrices, unitary)
        phase = np.exp(-1j * np.angle(trace))
        left, _, right = np.linalg.svd(np.einsum("p,pij->ij", weight * phase, matrices))
        update = np.conj(left @ right).T
        # Hold the free overall phase, or the iteration would drift along it.
        update = update * np.exp(-1j * np.angle(np.trace(np.conj(start).T @ update)))
        if np.abs(update - unitary).max() < 1e-10:
            return update
        unitary = update
    return unitary


class JonesSolver:
    """Full-Jones gains of one direction, interval after interval.

    ant1, ant2: (n_bl,) station indices.  n_ant: number of stations.  freq_edges: (n_blocks, 2) Hz.
    ant_pos: (n_ant, 3) m, needed by amplitude_mean "flat".
    start: None, a GainTable, or an array (n_ant, 4) or (n_blocks, n_ant, 4) to begin from.
    executor: thread pool for the statistics; results do not depend on it.
    Of the options it uses n_iter, max_sweeps, tolerance, restart_rise and amplitude_mean.
    """

    def __init__(self, *, ant1: np.ndarray, ant2: np.ndarray, n_ant: int, freq_edges: np.ndarray,
                 options: SolverOptions | None = None, ant_pos: np.ndarray | None = None,
                 start: GainTable | np.ndarray | None = None,
                 executor: Executor | None = None) -> None:
        self.options = options or SolverOptions(solver="CohJones")
        self.factor = np.zeros(n_ant) if ant_pos is None else station_factor(np.asarray(ant_pos))
        self.ant1, self.ant2 = np.asarray(ant1, np.int64), np.asarray(ant2, np.int64)
        self.lookup = baseline_lookup(self.ant1, self.ant2, n_ant)
        self.cross = self.ant1 != self.ant2
        self.n_ant = n_ant
        self.freq_edges = np.asarray(freq_edges, np.float64).reshape(-1, 2)
        self.executor = executor
        n_block = len(self.freq_edges)
        self._jones = np.tile(np.array([1, 0, 0, 1], np.complex128), (n_block, n_ant, 1))
        if start is not None:
            self._jones = self._start(start)
        self._unitary = np.tile(np.eye(2, dtype=np.complex128), (n_block, 1, 1))
        self._cold = np.full(n_block, start is None)
        self._usual: list[list[float]] = [[] for _ in range(n_block)]
        self._rows: list[dict[str, np.ndarray]] = []

    def _start(self, start: GainTable | np.ndarray) -> np.ndarray:
        """First Jones matrices (n_block, n_ant, 4) from whatever the caller has."""
        n_block = len(self.freq_edges)
        if isinstance(start, GainTable):
            chan = nearest_interval(start.freq_edges, self.freq_edges.mean(axis=1))
            gains = start.gains[0][chan][:, :, 0, :]
            if start.n_corr < 4:
                gains = np.stack([gains[..., 0], 0 * gains[..., 0], 0 * gains[..., 0],
                                  gains[..., -1]], axis=-1)
            start = gains
        start = np.broadcast_to(start, (n_block, self.n_ant, 4))
        return np.array(start, np.complex128, order="C")

    def add_interval(self, *, time_edge: Sequence[float], model: np.ndarray, data: np.ndarray,
                     weight: np.ndarray, chan_block: np.ndarray) -> None:
        """Solve one interval.

        time_edge: (start, end) in s.  model: (nt, n_bl, n_chan) complex64, Stokes I with every
        known effect in it.  data: (nt, n_bl, n_chan, 4) complex64.  weight: (nt, n_bl, n_chan) or
        with a correlation axis, float32, inverse variances 1 / <|noise|²>, zero where flagged.
        chan_block: (n_chan,) int, frequency block of each channel (negative: not used).
        """
        n_block = len(self.freq_edges)
        row = {"edge": np.asarray(time_edge, np.float64),
               "gains": np.empty((n_block, self.n_ant, 4), np.complex128),
               "error": np.empty((n_block, self.n_ant, 4)),
               "flag": np.empty((n_block, self.n_ant), bool),
               "chi2": np.full(n_block, np.nan), "count": np.zeros(n_block, np.int64),
               "sweeps": np.zeros(n_block, np.int64), "scale": np.ones(n_block),
               "baseline_chi2": np.zeros((n_block, len(self.ant1)), np.float32),
               "baseline_count": np.zeros((n_block, len(self.ant1)), np.int64)}
        for block in range(n_block):
            stats = jones_statistics(model, data, weight, np.flatnonzero(chan_block == block),
                                     self.executor)
            self._solve_block(block, stats, row)
        self._rows.append(row)

    def _fit(self, stats: JonesStatistics, start: np.ndarray,
             limit: int) -> tuple[np.ndarray, np.ndarray, float, int]:
        jones = start.copy()
        variance = np.empty((self.n_ant, 4))
        enough = self.options.tolerance * np.sqrt(16.0 * self.n_ant)
        sweeps = _sweeps(stats.a, stats.c, jones, self.lookup, limit, enough, variance)
        chi2 = jones_chi_squared(stats, jones, self.ant1, self.ant2)[self.cross].sum()
        return jones, variance, float(chi2), sweeps

    def _scaled(self, jones: np.ndarray, stats: JonesStatistics) -> np.ndarray:
        """Starting matrices (n_ant, 4) times the factor that matches the power of the data.

        Sweeps change one station at a time and are slow to move the scale of all: raw data against
        a model in Jy may be off by many orders of magnitude.
        """
        matrix = jones.reshape(-1, 2, 2)
        product = np.einsum("bik,bjk->bij", matrix[self.ant1], np.conj(matrix[self.ant2]))
        expected = (stats.a * np.abs(product.reshape(-1, 4)) ** 2)[self.cross].sum()
        power = stats.power[self.cross].sum()
        signal = max(power - stats.count[self.cross].sum(), 0.05 * power)
        return jones * (signal / expected) ** 0.25 if expected > 0 and signal > 0 else jones

    def _solve_block(self, block: int, stats: JonesStatistics, row: dict) -> None:
        options = self.options
        count = int(stats.count[self.cross].sum())
        previous = self._jones[block]
        limit = options.max_sweeps if self._cold[block] else 4 * options.n_iter
        if self._cold[block]:
            previous = self._scaled(previous, stats)
        jones, variance, chi2, sweeps = self._fit(stats, previous, limit)
        usual = np.median(self._usual[block][-9:]) if self._usual[block] else np.inf
        if count and chi2 > (1 + options.restart_rise) * usual * count:
            identity = np.tile(np.array([1, 0, 0, 1], np.complex128), (self.n_ant, 1))
            other = self._fit(stats, self._scaled(identity, stats), options.max_sweeps)
            if other[2] < chi2:
                jones, variance, chi2, sweeps = other
        row["baseline_chi2"][block] = jones_chi_squared(stats, jones, self.ant1, self.ant2)
        row["baseline_count"][block] = stats.count
        flag = ~np.isfinite(variance).all(axis=1)
        scale = self._normalise(jones, flag)
        row["scale"][block] = np.exp(np.log(scale[~flag]).mean()) if count else 1.0
        if count:
            self._usual[block].append(chi2 / count)
            self._cold[block] = False
            jones[~flag] = self._fix_gauge(block, jones, flag)[~flag]
            self._jones[block] = np.where(flag[:, None], jones, jones * scale[:, None])
        row["gains"][block], row["flag"][block] = jones, flag
        error = np.sqrt(variance / 2) / scale[:, None]
        row["error"][block] = np.where(flag[:, None], np.inf, error)
        row["chi2"][block], row["count"][block] = chi2, count
        row["sweeps"][block] = sweeps

    def _normalise(self, jones: np.ndarray, flag: np.ndarray) -> np.ndarray:
        """Divide good stations by the mean of their amplitudes, and by its trend if so asked.

        Returns the divisors (n_ant,).
        """
        mode = self.options.amplitude_mean
        if mode == "free" or flag.all():
            return np.ones(self.n_ant)
        size = np.sqrt((np.abs(jones) ** 2).sum(axis=1) / 2)
        log = np.log(np.maximum(size, 1e-300))[:, None]
        factor = self.factor if mode == "flat" else np.zeros(self.n_ant)
        scale = np.exp(amplitude_trend(log, factor, ~flag)[:, 0])
        jones[~flag] /= scale[~flag, None]
        return scale

    def _fix_gauge(self, block: int, jones: np.ndarray, flag: np.ndarray) -> np.ndarray:
        """Jones matrices of this block after the natural unitary and a smooth overall phase."""
        good = ~flag
        weight = np.where(good, 1.0, 0.0)
        unitary = natural_unitary(jones, weight, self._unitary[block])
        fixed = (jones.reshape(-1, 2, 2) @ unitary).reshape(-1, 4)
        trace = fixed[:, 0] + fixed[:, 3]
        old = self._jones[block][:, 0] + self._jones[block][:, 3]
        turn = np.angle(np.sum(weight * old * np.conj(trace)))
        self._unitary[block] = np.eye(2)  # the next interval starts from matrices in this gauge
        return fixed * np.exp(1j * turn)

    def finish(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, dict]:
        """(gains (n_time, n_chan, n_ant, 1, 4) complex128, error, flag of that shape, diagnostics).

        error: see `GainTable.error`; infinite where flagged.  diagnostics: "time_edges"
        (n_time, 2), "chi2" and "count" (n_time, n_chan), "sweeps" (n_time, n_chan), "scale"
        (n_time, n_chan) the mean amplitude that was divided out, "baseline_chi2" and
        "baseline_count" (n_time, n_chan, n_bl).  Raises SolveError when no
        interval was added.
        """
        if not self._rows:
            raise SolveError("no interval was given to the full-Jones solver; check that the "
                             "measurement set holds data in the selected range")

        def stack(key: str) -> np.ndarray:
            return np.stack([row[key] for row in self._rows])

        gains, error = stack("gains")[:, :, :, None, :], stack("error")[:, :, :, None, :]
        flag = np.broadcast_to(stack("flag")[:, :, :, None, None], gains.shape).copy()
        return gains, error, flag, {"time_edges": stack("edge"), "chi2": stack("chi2"),
                                    "count": stack("count"), "sweeps": stack("sweeps"),
                                    "scale": stack("scale"),
                                    "baseline_chi2": stack("baseline_chi2"),
                                    "baseline_count": stack("baseline_count")}
