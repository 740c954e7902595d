"""What a caller can ask of the solvers."""

from __future__ import annotations

from dataclasses import dataclass

from ddfpipe.calibration.priors import Hyperparameters
from ddfpipe.errors import SolveError


@dataclass(frozen=True)
class SolverOptions:
    """Settings of `DirectionalSolver` and `JonesSolver`; docs/solver.md has the equations.

    mode: "Scalar", one gain for both hands, or "Diag", one each (directional solver only).
    solver: "KAFCA", recursive filter over time with a backward pass; "CohJones", every interval
        on its own (still with the prior of one interval).
    n_iter: Gauss-Newton sweeps over the stations that an interval is expected to need; a fit that
        has not met the tolerance by then may take up to four times as many (JonesSolver: the most
        sweeps after a warm start, four times as many likewise).
    cov_q: process noise.  The correlation time of the differential phases starts from
        30 s / cov_q: 5 min for 0.1, 25 min for 0.02; held-out baselines then choose around it.
    lambda_kf: share of the predicted covariance of the newest interval; the rest, 1 - lambda_kf,
        is its running mean, so that one odd interval neither freezes nor frees the filter.
    phase_only: amplitudes are held at one.
    amplitude_prior: standard deviation of the natural logarithm of an amplitude about the mean
        over stations of its direction.
    amplitude_time: correlation time in s of those departures; gains of amplifiers and errors of
        the beam model change over hours, and a long memory leaves amplitudes few chances to
        take up flux that the model lacks.
    amplitude_mean: "one" divides out that mean, so that an incomplete or decohered model cannot
        rescale the flux of the data; "flat" also divides out a trend with the distance from the
        core (`priors.amplitude_trend`), so that a blurred model cannot keep its blur; "free" keeps
        both (raw data against a model in Jy).
    max_sweeps: most complex sweeps of a cold start.
    tolerance: a solve ends when a sweep lowers χ² by less than this times the square root of
        twice the number of its parameters, the scatter that noise gives to the fitted χ².
    restart_rise: relative rise of χ² per sample over the running median at which an interval is
        solved again from a cold start, if free gains would take away half of it (the better of the
        two is kept).
    hold_out: share of the baselines held out while the hyper-parameters are chosen.
    tune_intervals: number of first intervals used for that; 0 takes the defaults.
    smooth: run the backward (Rauch-Tung-Striebel) pass of the filter.
    hyper: hyper-parameters to use instead of choosing them.
    """

    mode: str = "Scalar"
    solver: str = "KAFCA"
    n_iter: int = 6
    cov_q: float = 0.1
    lambda_kf: float = 0.5
    phase_only: bool = False
    amplitude_prior: float = 0.05
    amplitude_time: float = 3600.0
    amplitude_mean: str = "one"
    max_sweeps: int = 12
    tolerance: float = 0.1
    restart_rise: float = 0.05
    hold_out: float = 0.1
    tune_intervals: int = 10
    smooth: bool = True
    hyper: Hyperparameters | None = None

    def __post_init__(self) -> None:
        for name, value, allowed in (
            ("mode", self.mode, ("Scalar", "Diag")),
            ("solver", self.solver, ("KAFCA", "CohJones")),
            ("amplitude_mean", self.amplitude_mean, ("one", "flat", "free")),
        ):
            if value not in allowed:
                raise SolveError(f"solver option {name} is {value!r}; use one of "
                                 f"{', '.join(allowed)}")
        for name in ("n_iter", "cov_q", "amplitude_prior", "max_sweeps", "tolerance"):
            if not getattr(self, name) > 0:
                raise SolveError(f"solver option {name} is {getattr(self, name)}; it must be "
                                 "positive")
        if not 0 <= self.lambda_kf <= 1:
            raise SolveError(f"solver option lambda_kf is {self.lambda_kf}; it must lie in 0..1")
        if not 0 <= self.hold_out < 0.5:
            raise SolveError(f"solver option hold_out is {self.hold_out}; it must lie in 0..0.5")
