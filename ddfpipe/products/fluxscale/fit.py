"""One factor a channel that makes the spectra of many sources power laws.

Source i has the flux A_i (ν/ν0)^α_i; surveys measure it, channel c measures it divided by the
factor f_c that is wanted.  In logarithms this is linear,

    ln F_ik + L_k = a_i + α_i x_k + noise,    x = ln ν/ν0,  L_c = ln f_c,  L = 0 for surveys,

so the two numbers of every source are integrated out exactly (flat priors; the determinant keeps
the count of degrees of freedom right) and only the factors are sampled, together with two
fractional scatters, of the surveys and of the channels, in quadrature to the errors given:
catalogues disagree, and spectra bend, by more than formal errors tell.

The first fit gives each source a Student-t distribution, so that variable or wrongly matched ones
do no harm; sources which it finds improbable are left out of the second, Gaussian one.  The
sampler is emcee (Foreman-Mackey et al. 2013, PASP 125, 306; Goodman & Weare 2010).  Sources,
priors and the two fits follow the LoTSS pipeline (Hardcastle et al. 2016, MNRAS 462, 1910,
section 3; Shimwell et al. 2019, A&A 622, A1).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ddfpipe.data.scales import ALLOWED
from ddfpipe.errors import StageFailed
from ddfpipe.products.fluxscale.spectra import SourceSpectra

REFERENCE_HZ = 140e6
TAIL = 4.0
"""Degrees of freedom of the Student-t distribution of a source."""
SCATTER = 0.1
"""Standard deviation of the half-normal priors of the two fractional scatters."""
LEAST_SNR = 3.0
"""Fluxes with less are not used: their logarithm is not Gaussian."""
IMPROBABLE = 1e-4
"""A source whose χ² is exceeded with this probability only is left out of the second fit."""
TYPICAL_INDEX = -0.75
BLOCK, LEAST_STEPS, MOST_STEPS = 500, 1000, 50000
SAFE_TIMES = 50
"""The chain ends when it is so many autocorrelation times long; five of them are burnt."""
SEED = 20160


@dataclass(frozen=True)
class Fit:
    """What a fit of c channels and n sources found.

    factor, error, low, high: (c,) mean, standard deviation, 16th and 84th percentile.
    scatter: (2,) fractional scatter of surveys and of channels.  chi2, freedom: (n,) of each
    source.  amplitude: (n,) Jy at REFERENCE_HZ; index, index_error: (n,).
    steps, autocorrelation, acceptance: of the chain; converged: whether it was long enough.
    """

    factor: np.ndarray
    error: np.ndarray
    low: np.ndarray
    high: np.ndarray
    scatter: np.ndarray
    chi2: np.ndarray
    freedom: np.ndarray
    amplitude: np.ndarray
    index: np.ndarray
    index_error: np.ndarray
    steps: int
    autocorrelation: float
    acceptance: float
    converged: bool

    @property
    def improbable(self) -> np.ndarray:
        """(n,) True for sources that do not fit."""
        from scipy.stats import chi2

        return chi2.sf(self.chi2, np.maximum(self.freedom, 1)) < IMPROBABLE

    def mean_index(self) -> tuple[float, float]:
        """Mean spectral index of the sources and its error, from their scatter."""
        if self.index.size < 2:
            return float(self.index.mean()) if self.index.size else float("nan"), float("nan")
        return (float(self.index.mean()),
                float(self.index.std(ddof=1) / np.sqrt(self.index.size)))

    def rows(self) -> np.ndarray:
        """(c, 3) mean, 16th and 84th percentile."""
        return np.stack([self.factor, self.low, self.high], axis=1)


class Posterior:
    """Logarithm of the probability of factors, for many sets of them at once.

    spectra: SourceSpectra.  robust: Student-t distribution of each source.
    """

    def __init__(self, spectra: SourceSpectra, robust: bool) -> None:
        self.spectra, self.robust = spectra, robust
        with np.errstate(invalid="ignore"):
            self.known = (spectra.flux > LEAST_SNR * spectra.error) & (spectra.error > 0)
        self.x = np.log(spectra.frequency / REFERENCE_HZ)
        self.log_flux = np.log(np.where(self.known, spectra.flux, 1.0))
        self.freedom = self.known.sum(axis=1) - 2
        self.n_channels = int(spectra.scaled.sum())
        self.relative_to(np.where(self.known, spectra.flux, 1.0))

    def relative_to(self, model: np.ndarray) -> None:
        """Take errors relative to model fluxes (n, k) Jy.

        Relative to the measured fluxes themselves, those that came out high would count more.
        """
        self.variance = np.where(self.known, (self.spectra.error / model) ** 2, 1.0)
        # The mean of the logarithm of a noisy number lies below the logarithm of its mean.
        self.y = np.where(self.known, self.log_flux + 0.5 * self.variance, 0.0)

    def weights(self, scatter: np.ndarray) -> np.ndarray:
        """(w, n, k) inverse variances for the two scatters (w, 2)."""
        extra = scatter[:, self.spectra.scaled.astype(int)] ** 2
        return self.known / (self.variance + extra[:, None, :])

    def offsets(self, log_factor: np.ndarray) -> np.ndarray:
        """(w, n, k) logarithms of scaled fluxes for logarithms (w, c) of factors."""
        shift = np.zeros((len(log_factor), self.x.size))
        shift[:, self.spectra.scaled] = log_factor
        return self.y + shift[:, None, :] * self.known

    def power_laws(self, theta: np.ndarray) -> tuple[np.ndarray, ...]:
        """(χ², ln A, α, determinant, sum of weights), each (w, n), for parameters (w, c + 2)."""
        w = self.weights(theta[:, self.n_channels:])
        z = self.offsets(theta[:, : self.n_channels])
        wz = w * z
        s0, s1, s2 = w.sum(-1), w @ self.x, w @ self.x**2
        t0, t1, tt = wz.sum(-1), wz @ self.x, (wz * z).sum(-1)
        det = s0 * s2 - s1**2
        amplitude, index = (s2 * t0 - s1 * t1) / det, (s0 * t1 - s1 * t0) / det
        return np.maximum(tt - amplitude * t0 - index * t1, 0.0), amplitude, index, det, s0

    def __call__(self, theta: np.ndarray) -> np.ndarray:
        """(w,) logarithm of the probability of parameters (w, c + 2): ln factors, scatters."""
        theta = np.atleast_2d(theta)
        scatter = theta[:, self.n_channels:]
        chi2, _, _, det, _ = self.power_laws(theta)
        w = self.weights(scatter)
        norm = 0.5 * np.log(np.where(self.known, w, 1.0)).sum((1, 2)) - 0.5 * np.log(det).sum(1)
        if self.robust:
            tail = (TAIL + self.freedom) / 2 * np.log1p(chi2 / TAIL)
        else:
            tail = 0.5 * chi2
        prior = -0.5 * ((scatter / SCATTER) ** 2).sum(1)
        return norm - tail.sum(1) + prior

    def bounded(self, theta: np.ndarray) -> np.ndarray:
        """As `__call__`, -inf where a factor is outside ALLOWED or a scatter absurd."""
        low, high = np.log(ALLOWED)
        factors, scatter = theta[:, : self.n_channels], theta[:, self.n_channels:]
        fine = ((factors > low) & (factors < high)).all(1)
        fine &= ((scatter > 0) & (scatter < 1)).all(1)
        out = np.full(len(theta), -np.inf)
        if fine.any():
            out[fine] = self(theta[fine])
        return out

    def first_guess(self) -> np.ndarray:
        """(c + 2,) parameters from power laws through the surveys' fluxes alone, by medians."""
        scaled = self.spectra.scaled
        w = self.known * ~scaled / self.variance
        s0, s1, s2 = w.sum(1), w @ self.x, w @ self.x**2
        t0, t1 = (w * self.y).sum(1), (w * self.y) @ self.x
        det = s0 * s2 - s1**2
        sloped = det > 1e-6 * s0 * s2
        safe = np.where(sloped, det, 1.0)
        index = np.where(sloped, (s0 * t1 - s1 * t0) / safe, TYPICAL_INDEX)
        amplitude = (t0 - index * s1) / np.maximum(s0, 1e-300)
        ratio = np.where(self.known, amplitude[:, None] + index[:, None] * self.x - self.y, np.nan)
        return np.append(np.nanmedian(ratio[:, scaled], axis=0), [0.05, 0.02])


def fit_factors(
    spectra: SourceSpectra, *, robust: bool = True, start: np.ndarray | None = None,
    times: int = SAFE_TIMES, check: Callable[[], None] = lambda: None,
    progress: Callable[[int, int], None] | None = None,
) -> Fit:
    """Find the factors of the channels of `spectra`.

    start: (c,) factors to begin with.  times: how many autocorrelation times the chain lasts.
    check: called often, may raise to end the fit.
    The same spectra give the same numbers, whatever the machine is doing.
    Raises StageFailed if a best factor lies outside ALLOWED.
    """
    posterior = Posterior(spectra, robust)
    theta = posterior.first_guess()
    if start is not None:
        theta[: posterior.n_channels] = np.log(start)
    for _ in range(3):
        theta, covariance = _maximum(posterior, theta)
        _, amplitude, index, _, _ = posterior.power_laws(theta[None])
        log_model = amplitude[0][:, None] + index[0][:, None] * posterior.x
        log_model[:, spectra.scaled] -= theta[: posterior.n_channels]
        posterior.relative_to(np.exp(log_model))
        check()
    _require_allowed(spectra, np.exp(theta[: posterior.n_channels]))
    chain, facts = _sample(posterior, theta, covariance, times, check, progress)
    return _summary(posterior, chain, facts)


def _maximum(posterior: Posterior, start: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Most probable parameters (p,) and their covariance (p, p), by Newton's method."""
    from scipy.optimize import minimize

    step = 1e-4

    def downhill(theta: np.ndarray) -> tuple[float, np.ndarray]:
        around = theta + step * np.concatenate([np.eye(theta.size), -np.eye(theta.size)])
        values = posterior(np.vstack([theta, around]))
        return -values[0], -(values[1 : theta.size + 1] - values[theta.size + 1 :]) / (2 * step)

    bounds = [(None, None)] * posterior.n_channels + [(1e-3, 0.9)] * 2
    found = minimize(downhill, start, jac=True, method="L-BFGS-B", bounds=bounds)
    theta = found.x
    curvature = np.array([
        (downhill(theta + offset)[1] - downhill(theta - offset)[1]) / (2e-2)
        for offset in 1e-2 * np.eye(theta.size)
    ])
    value, vector = np.linalg.eigh((curvature + curvature.T) / 2)
    # A scatter that is not seen has no peak: do not step far along it.
    return theta, (vector / np.maximum(value, 1.0)) @ vector.T


def _require_allowed(spectra: SourceSpectra, factor: np.ndarray) -> None:
    low, high = ALLOWED
    wild = (factor <= low) | (factor >= high)
    if wild.any():
        words = ", ".join(f"{f:.3g} at {nu / 1e6:.1f} MHz"
                          for f, nu in zip(factor[wild], spectra.channels[wild]))
        raise StageFailed(
            f"the flux scale would have to change by a factor of {words}, where {low:g} to "
            f"{high:g} is allowed: were the calibrator's gains applied to the data (colname), and "
            "are the catalogues in Jy and at the frequencies given?"
        )


def _sample(posterior: Posterior, theta: np.ndarray, covariance: np.ndarray, times: int,
            check: Callable[[], None], progress: Callable[[int, int], None] | None):
    """((samples, p) chain after burning, its figures)."""
    import emcee

    random = np.random.RandomState(SEED)
    walkers = max(24, 2 * (theta.size + 1))
    spread = 0.7 * np.linalg.cholesky(covariance)
    first = theta + random.standard_normal((walkers, theta.size)) @ spread.T
    margin = 1e-3
    low, high = np.log(ALLOWED)
    c = posterior.n_channels
    first[:, :c] = np.clip(first[:, :c], low + margin, high - margin)
    first[:, c:] = np.clip(np.abs(first[:, c:]), 1e-6, 0.9)
    sampler = emcee.EnsembleSampler(walkers, theta.size, posterior.bounded, vectorize=True)
    state = emcee.State(first, random_state=random.get_state())
    steps, memory = 0, np.inf
    while steps < MOST_STEPS and (steps < LEAST_STEPS or times * memory > steps):
        state = sampler.run_mcmc(state, BLOCK)
        steps += BLOCK
        memory = float(np.max(sampler.get_autocorr_time(tol=0, quiet=True)))
        memory = memory if np.isfinite(memory) else float(steps)
        check()
        if progress is not None:
            progress(steps, max(steps, LEAST_STEPS, int(times * memory)))
    burn = int(min(max(5 * memory, 0.1 * steps), 0.5 * steps))
    chain = sampler.get_chain(discard=burn, flat=True)
    facts = dict(steps=steps, autocorrelation=memory, converged=bool(times * memory <= steps),
                 acceptance=float(sampler.acceptance_fraction.mean()))
    return chain, facts


def _summary(posterior: Posterior, chain: np.ndarray, facts: dict) -> Fit:
    c = posterior.n_channels
    factors = np.exp(chain[:, :c])
    low, high = np.percentile(factors, (16, 84), axis=0)
    centre = chain.mean(0)
    chi2, amplitude, index, det, s0 = (v[0] for v in posterior.power_laws(centre[None]))
    return Fit(
        factors.mean(0), factors.std(0, ddof=1), low, high, centre[c:], chi2,
        posterior.freedom, np.exp(amplitude), index, np.sqrt(s0 / det), **facts,
    )
