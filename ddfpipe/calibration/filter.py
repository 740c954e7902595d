"""Recursive filter over time with a backward pass: the gains of one frequency block.

State: phases φ_p of all directions of a station, a Gaussian N(x_p, P_p).  From interval to interval

    x⁻ = Φ x        P⁻ = Φ P Φᵀ + Q        Φ = α I + (1 - α) 11ᵀ/n

with α = exp(-Δt/τ): the deviation of a direction from the mean over directions decays (Ornstein-
Uhlenbeck), the mean walks freely; Q = (1 - α²) S_p + f_p r Δt 11ᵀ (S_p, f_p, r in priors.py).  The
measurement update is the Gauss-Newton fit of polish.py, iterated (an iterated extended Kalman
filter in information form; Tasse 2014, A&A 566, A127, Smirnov & Tasse 2015), linearised at its
own solution instead of once.  The prior covariance used is λ P⁻ + (1 - λ) <P⁻>, <P⁻> the running
mean.  Backward (Rauch-Tung-Striebel) x_t += G (x_(t+1) - x⁻_(t+1)) and P_t += G (P_(t+1) -
P⁻_(t+1)) Gᵀ with G = P_t Φᵀ (P⁻_(t+1))⁻¹, over windows of a few correlation times.

Amplitudes change slowly and are filtered one by one (AmplitudeFilter), forward only.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numba import njit

from ddfpipe.calibration import priors
from ddfpipe.calibration.als import free_decrease, matched_scale, solve_complex
from ddfpipe.calibration.linalg import invert_each
from ddfpipe.calibration.options import SolverOptions
from ddfpipe.calibration.polish import LogGains, polish
from ddfpipe.calibration.smoother import backward_pass, predict_covariance
from ddfpipe.calibration.statistics import BlockStatistics, chi_squared
from ddfpipe.calibration.unwrap import continuous_phases
from ddfpipe.errors import SolveError

USUAL = 9
"""Number of latest intervals whose median χ² is the usual one."""

MEAN_RATE = 0.2
"""Share of the newest predicted covariance in its running mean."""

RESTART_SIGMA = 5.0
"""Significance in standard deviations of a rise of χ² that asks for a restart."""

TRAPPED = 0.5
"""Share of the least such rise that free gains of one station have to take away: gains of its own
rid a station of all that a wrong branch costs, and of hardly any of what the model lacks."""

MOST_SWEEPS = 4
"""Sweeps over n_iter at which a fit that has not met its tolerance is ended."""

PHASE_ONLY_SIGMA = 1e-4
"""Standard deviation of ln|g| that holds amplitudes where only phases are wanted."""


@dataclass(frozen=True)
class Array:
    """What every block shares.  ant1, ant2 (n_bl,); lookup of als.py; factor (n_ant,) f_p;
    directions (n_dir, 2) l, m in rad; cross (n_bl,) bool, no autocorrelation."""

    ant1: np.ndarray
    ant2: np.ndarray
    lookup: np.ndarray
    factor: np.ndarray
    directions: np.ndarray
    cross: np.ndarray

    @property
    def n_ant(self) -> int:
        """Number of stations."""
        return len(self.factor)


@dataclass
class IntervalResult:
    """One solved interval.  log_amp, phase, error (rad): (n_ant, n_dir); amp_mean: (n_dir,);
    flag: (n_ant,) bool; chi2 over the baselines used, count complex samples; baseline_chi2 and
    baseline_count: (n_bl,) float32 and int64."""

    edge: np.ndarray
    log_amp: np.ndarray
    phase: np.ndarray
    amp_mean: np.ndarray
    flag: np.ndarray
    chi2: float
    count: int
    sweeps: int
    restarted: bool
    covariance: np.ndarray | None
    baseline_chi2: np.ndarray
    baseline_count: np.ndarray
    error: np.ndarray = field(default_factory=lambda: np.empty(0))


@njit(cache=True, nogil=True)
def _add_to_stations(values, use, ant1, ant2, out):
    for b in range(len(values)):
        if use[b]:
            out[ant1[b]] += values[b]
            out[ant2[b]] += values[b]


def station_sums(values: np.ndarray, array: Array, use: np.ndarray) -> np.ndarray:
    """Sum of values of baselines (n_bl,) over those of each station that take part, (n_ant,).

    use: (n_bl,) bool, no autocorrelation among them.
    """
    out = np.zeros(array.n_ant)
    _add_to_stations(values, use, array.ant1, array.ant2, out)
    return out


@njit(cache=True, nogil=True)
def _add_power(a_re, use, ant1, ant2, out):
    """out (n_ant, n_dir): sum of A_dd over the baselines of each station."""
    for b in range(len(use)):
        if use[b]:
            p, q = ant1[b], ant2[b]
            for d in range(out.shape[1]):
                power = a_re[b, d * (d + 3) // 2]
                out[p, d] += power
                out[q, d] += power


def _log_amplitudes(gains: np.ndarray) -> np.ndarray:
    """ln|g| within a factor of 20 of the median amplitude: complex fits of nothing can be zero."""
    size = np.abs(gains)
    middle = max(float(np.median(size)), 1e-12)
    return np.log(np.clip(size, middle / 20, middle * 20))


def _known_median(rows: np.ndarray) -> np.ndarray:
    """Median over rows of values that are not NaN; columns have one at least.

    What numpy.nanmedian gives, at a tenth of its cost for a handful of rows.
    """
    ordered = np.sort(rows, axis=0)  # NaN last
    count = np.isfinite(rows).sum(axis=0)
    column = np.arange(rows.shape[1])
    return 0.5 * (ordered[(count - 1) // 2, column] + ordered[count // 2, column])


@dataclass
class Fit:
    """Gains of one interval, the sweeps that they took, and how well they explain the data.

    each: (n_bl,) χ² of every baseline; chi2: its sum over those used; station: (n_ant,) χ² per
    sample of every station, NaN without samples.
    """

    gains: LogGains
    sweeps: int
    each: np.ndarray
    chi2: float
    station: np.ndarray


class AmplitudeFilter:
    """Slow log-amplitudes: a scalar filter for each station and direction.

    Departures from the mean of a direction are an Ornstein-Uhlenbeck process with standard
    deviation `sigma` and correlation time `time` in s (0: no memory).  mean, variance: (n_ant,
    n_dir), the prior of the next fit.
    """

    def __init__(self, sigma: float, time: float, shape: tuple[int, int]) -> None:
        self.sigma, self.time = sigma, time
        self.mean, self.variance = np.zeros(shape), np.full(shape, sigma**2)
        self._before: float | None = None

    def predict(self, centre: float) -> None:
        """Move the prior to the interval at `centre` (s)."""
        if self._before is not None:
            step = max(centre - self._before, 0.0)
            alpha = np.exp(-step / self.time) if self.time > 0 else 0.0
            self.mean = alpha * self.mean
            self.variance = alpha**2 * self.variance + (1 - alpha**2) * self.sigma**2
        self._before = centre

    def update(self, fit: LogGains, seen: np.ndarray) -> None:
        """Take over what a fit found for the stations seen, (n_ant,) bool.

        The mean over stations belongs to the direction, not to them.
        """
        departure = fit.log_amp - fit.log_amp[seen].mean(axis=0)
        self.mean = np.where(seen[:, None], departure, self.mean)
        self.variance = np.where(seen[:, None], np.minimum(fit.amp_variance, self.variance),
                                 self.variance)


class FilterChain:
    """The filter of one block (and hand): `step` for each interval, `results` afterwards.

    use: (n_bl,) bool, baselines that take part (hold-out); None: all cross baselines.
    start: None or (phases (n_ant, n_dir), error (n_ant, n_dir)) in rad of an earlier table.
    """

    def __init__(self, array: Array, options: SolverOptions, hyper: priors.Hyperparameters,
                 use: np.ndarray | None = None,
                 start: tuple[np.ndarray, np.ndarray] | None = None) -> None:
        self.array, self.options, self.hyper = array, options, hyper
        self.use = array.cross if use is None else use & array.cross
        self.n_dir = len(array.directions)
        kernel = priors.direction_covariance(array.directions, hyper.length)
        self.stationary = hyper.variance * array.factor[:, None, None] * kernel
        self.first_prior = self.stationary + priors.COMMON_VARIANCE
        self.first_mean = np.zeros((array.n_ant, self.n_dir))
        self.warm = False
        if start is not None:
            self._adopt(*start)
        self.amplitude = AmplitudeFilter(
            PHASE_ONLY_SIGMA if options.phase_only else hyper.amplitude * options.amplitude_prior,
            options.amplitude_time if options.solver == "KAFCA" else 0.0,
            (array.n_ant, self.n_dir))
        self.latest: IntervalResult | None = None
        self.state: tuple[np.ndarray, np.ndarray, float] | None = None
        self.mean_prior: np.ndarray | None = None
        self.usual: list[np.ndarray] = []
        self.done: list[IntervalResult] = []
        self.pending: list[IntervalResult] = []

    def _adopt(self, phase: np.ndarray, error: np.ndarray) -> None:
        """Earlier phases as the first mean; what they do not know keeps its stationary prior.

        The prior covariance is the stationary one plus the table's errors: the same data are
        solved again, so the table points to the right branch without counting as evidence.
        """
        known = np.isfinite(phase) & np.isfinite(error)
        self.first_mean = np.where(known, phase, 0.0)
        extra = np.where(known, error, 0.0) ** 2
        self.first_prior = self.first_prior + extra[:, :, None] * np.eye(self.n_dir)
        self.warm = bool(known.any())

    def _predict(self, centre: float) -> tuple[np.ndarray, np.ndarray]:
        """Prior mean (n_ant, n_dir) and covariance for the interval at `centre` (s)."""
        if self.state is None or self.options.solver == "CohJones":
            return self.first_mean, self.first_prior
        phase, covariance, before = self.state
        alpha, noise = self._transition(centre - before)
        mean = alpha * phase + (1 - alpha) * phase.mean(axis=1, keepdims=True)
        predicted = predict_covariance(covariance, alpha, noise)
        if self.mean_prior is None:
            self.mean_prior = predicted.copy()
        mixed = self.options.lambda_kf * predicted + (1 - self.options.lambda_kf) * self.mean_prior
        self.mean_prior += MEAN_RATE * (predicted - self.mean_prior)
        return mean, mixed

    def _transition(self, step: float) -> tuple[float, np.ndarray]:
        """α and Q (n_ant, n_dir, n_dir) over `step` seconds."""
        step = max(step, 0.0)
        alpha = float(np.exp(-step / self.hyper.correlation_time))
        common = priors.COMMON_RATE * step * self.array.factor
        return alpha, (1 - alpha**2) * self.stationary + common[:, None, None]

    def step(self, stats: BlockStatistics, edge: np.ndarray) -> IntervalResult:
        """Filter one interval with edges `edge` (2,) in s."""
        centre = float(np.mean(edge))
        mean, covariance = self._predict(centre)
        self.amplitude.predict(centre)
        prior = np.empty(covariance.shape)
        if not invert_each(np.ascontiguousarray(covariance), prior).all():
            raise SolveError("the prior covariance of the phases is singular: two directions "
                             "coincide; remove one from the list of directions")
        count = int(stats.count[self.use].sum())
        seen = station_sums(stats.count, self.array, self.use)
        cold = self.latest is None and not self.warm or self.options.solver == "CohJones"
        best = self._fit(stats, mean, covariance, prior, cold, seen)
        sweeps, restarted = best.sweeps, False
        if not cold and self._trapped(stats, best, seen):
            other = self._fit(stats, mean, covariance, prior, True, seen)
            sweeps += other.sweeps
            restarted = other.chi2 < best.chi2
            if restarted:
                best = other
        fit = best.gains
        posterior = np.empty(prior.shape)
        invert_each(fit.precision, posterior)
        amp_mean = fit.log_amp[seen > 0].mean(axis=0) if count else fit.amp_mean
        result = IntervalResult(np.asarray(edge, np.float64), fit.log_amp, fit.phase,
                                amp_mean, seen == 0, best.chi2, count, sweeps, restarted, None,
                                best.each.astype(np.float32), stats.count)
        self._remember(result, posterior, centre, best, seen)
        return result

    def _fit(self, stats: BlockStatistics, mean: np.ndarray, covariance: np.ndarray,
             prior: np.ndarray, cold: bool, seen: np.ndarray) -> Fit:
        """Log-gains from a cold (complex sweeps first) or warm start."""
        options, shape = self.options, mean.shape
        start = LogGains(np.zeros(shape), mean, np.zeros(self.n_dir), prior)
        if self.latest is not None:
            phase = self.latest.phase if options.solver == "CohJones" else mean
            start = LogGains(self.latest.log_amp, phase, self.latest.amp_mean, prior)
        swept = 0
        if cold:
            scale = 1.0 if self.latest else matched_scale(stats, self.use)
            gains, swept = solve_complex(stats, self.array.lookup, scale * start.gains,
                                         max_sweeps=options.max_sweeps,
                                         tolerance=options.tolerance, use=self.use)
            start = self._from_complex(stats, gains, mean, covariance)
        fit, polished = polish(stats, self.array.lookup, start,
                               amp_variance=self.amplitude.variance,
                               amp_shift=self.amplitude.mean, prior=prior, prior_mean=mean,
                               temper=self.hyper.temper,
                               max_sweeps=MOST_SWEEPS * options.n_iter, tolerance=options.tolerance,
                               use=self.use)
        each = chi_squared(stats, fit.gains, self.array.ant1, self.array.ant2)
        total = station_sums(each, self.array, self.use)
        station = np.where(seen > 0, total / np.maximum(seen, 1), np.nan)
        return Fit(fit, swept + polished, each, float(each[self.use].sum()), station)

    def _from_complex(self, stats: BlockStatistics, gains: np.ndarray, mean: np.ndarray,
                      covariance: np.ndarray) -> LogGains:
        """Log-gains near the complex ones, gauge and branches chosen by the prior."""
        power = np.zeros(gains.shape)
        _add_power(stats.a_re, self.use, self.array.ant1, self.array.ant2, power)
        information = 2 * power / self.hyper.temper
        phase = continuous_phases(gains, information, mean, covariance, 1 / self.array.factor)
        seen = information.sum(axis=1) > 0
        log_amp = _log_amplitudes(gains)
        amp_mean = np.average(log_amp[seen], axis=0) if seen.any() else np.zeros(self.n_dir)
        # Shrink noisy amplitudes as their prior would: a faint direction may start anywhere.
        variance, expected = self.amplitude.variance, amp_mean + self.amplitude.mean
        share = variance / (variance + 1 / np.maximum(information, 1e-12))
        return LogGains(expected + share * (log_amp - expected), phase, amp_mean,
                        np.empty(covariance.shape))

    def _trapped(self, stats: BlockStatistics, fit: Fit, seen: np.ndarray) -> bool:
        """Whether the χ² of a station is significantly above its usual value and gains are to
        blame: a new start costs twice as much as the fit, and what else raises χ² stays."""
        if not self.usual:
            return False
        recent = np.array(self.usual[-USUAL:])
        known = np.flatnonzero(np.isfinite(recent).any(axis=0) & np.isfinite(fit.station))
        usual = _known_median(recent[:, known])
        limit = np.maximum(self.options.restart_rise, RESTART_SIGMA / np.sqrt(seen[known]))
        if not np.any(fit.station[known] > (1 + limit) * usual):
            return False
        fall = free_decrease(stats, self.array.lookup, fit.gains.gains, known, self.use)
        return bool(np.any(fall > TRAPPED * limit * usual * seen[known]))

    def _remember(self, result: IntervalResult, posterior: np.ndarray, centre: float,
                  fit: Fit, seen: np.ndarray) -> None:
        result.error = np.sqrt(np.einsum("pdd->pd", posterior))
        if result.count:
            self.usual = (self.usual + [fit.station])[-USUAL:]
            self.latest = result
            self.amplitude.update(fit.gains, seen > 0)
        self.state = (result.phase, posterior, centre)
        if self.options.solver == "CohJones" or not self.options.smooth:
            self.done.append(result)
            return
        result.covariance = posterior.astype(np.float32)
        self.pending.append(result)
        lag = self._lag()
        if len(self.pending) >= 2 * lag:
            self._smooth(lag)

    def _lag(self) -> int:
        """Intervals of future data that a smoothed interval sees: three correlation times."""
        first = self.pending[0].edge
        length = max(float(first[1] - first[0]), 1e-3)
        return int(np.clip(np.ceil(3 * self.hyper.correlation_time / length), 8, 48))

    def _smooth(self, keep: int) -> None:
        """Smooth the waiting intervals; all but the newest `keep` are final then."""
        final = len(self.pending) - keep
        phases = np.array([r.phase for r in self.pending])
        centres = [float(np.mean(r.edge)) for r in self.pending]
        steps = [self._transition(b - a) for a, b in zip(centres[:-1], centres[1:], strict=True)]
        errors = backward_pass(phases, [r.covariance for r in self.pending], steps)
        for i in range(final):
            result = self.pending[i]
            result.phase, result.error, result.covariance = phases[i], errors[i], None
        self.done += self.pending[:final]
        self.pending = self.pending[final:]

    def results(self) -> list[IntervalResult]:
        """All intervals, smoothed as far as asked; ends the chain."""
        if self.pending:
            self._smooth(0)
        return self.done
