"""How far a facet's sources lie from a reference catalogue: likelihood and fits.

Every source of the facet sees reference objects scattered at random and, with probability f, its
own counterpart among them, displaced by the facet's offset and scattered by the errors of both
positions.  With b the density of the random ones, and d the separations of source i,

    L_i = 1 - f + f / b  sum_j p(d_ij - offset; e_i^2 + s^2)

relative to having random ones only (de Ruiter et al. 1977, A&AS 28, 211; Sutherland & Saunders
1992, MNRAS 259, 413).  Nothing is binned and no pair has to be chosen, so a dozen sources with
counterparts suffice where a histogram of all separations needs a hundred.  p is a bivariate
Student distribution: centroids of resolved sources lie arcseconds from their hosts more often
than a Gaussian allows, and would drag its mean along.

All angles here are arcseconds.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

REACH = 60.0
"""Reference objects within this separation of a source are looked at."""
CANDIDATES = 15.0
"""Counterparts are within this separation; the rest of the circle gives the density."""
LARGEST = 5.0
"""Largest offset that a facet may have."""
FREEDOM, CORE = 6.0, 0.79
"""Degrees of freedom of the scatter's distribution, and the square of its scale over the variance
of a Gaussian that it resembles most (least Kullback-Leibler divergence)."""
SCATTER_RANGE = (1e-3, 5.0)
"""Range of s."""
START_STEP = 0.25
"""Steps in which the offset is looked for at first."""


@dataclass(frozen=True)
class Pairs:
    """Separations of the sources of one facet from reference objects.

    east, north: (n,) source minus reference, within CANDIDATES; source: (n,) index of the source,
    ascending.  error: (sources,) standard error of a source's position on one axis.
    density: random objects per square arcsecond.
    """

    east: np.ndarray
    north: np.ndarray
    source: np.ndarray
    error: np.ndarray
    density: float

    @property
    def sources(self) -> int:
        """Number of sources, those without any candidate too."""
        return self.error.size


@dataclass(frozen=True)
class Prior:
    """What is known beforehand of a facet's parameters.

    mean (2,), width: Gaussian of the offset; a width of None lets it be anything up to LARGEST.
    scatter: median of s and its natural-logarithmic width.  share: mean and width of f.
    """

    mean: tuple[float, float] = (0.0, 0.0)
    width: float | None = None
    scatter: tuple[float, float] = (0.5, 1.0)
    share: tuple[float, float] = (0.5, 0.3)


@dataclass(frozen=True)
class Fit:
    """Offset (2,) of a facet with standard errors (2,), the number of sources with counterparts
    and its error, s, f, twice the logarithm of the likelihood's gain, and samples (n, 4) of
    offset, ln s and f (none if none were drawn)."""

    offset: np.ndarray
    error: np.ndarray
    matched: float
    matched_error: float
    scatter: float
    share: float
    gain: float
    samples: np.ndarray


def log_likelihood(pairs: Pairs, offset: np.ndarray, scatter: np.ndarray, share: np.ndarray
                   ) -> np.ndarray:
    """(m,) logarithms of the likelihood relative to random objects only.

    offset: (m, 2); scatter, share: (m,).
    """
    variance = CORE * (pairs.error[pairs.source] ** 2 + scatter[:, None] ** 2)
    distance = (pairs.east - offset[:, :1]) ** 2 + (pairs.north - offset[:, 1:]) ** 2
    density = (1.0 + distance / (FREEDOM * variance)) ** (-0.5 * FREEDOM - 1.0)
    density /= 2.0 * np.pi * variance
    seen, first = np.unique(pairs.source, return_index=True)
    total = np.add.reduceat(density, first, axis=1) if seen.size else np.zeros((len(offset), 0))
    with np.errstate(divide="ignore"):
        alone = (pairs.sources - seen.size) * np.log(1.0 - share)
        terms = np.log(1.0 - share[:, None] + share[:, None] / pairs.density * total)
    return alone + terms.sum(axis=1)


def log_posterior(pairs: Pairs, prior: Prior, theta: np.ndarray) -> np.ndarray:
    """(m,) logarithms of likelihood times prior; theta (m, 4): offset, ln s, f."""
    offset, logs, share = theta[:, :2], theta[:, 2], theta[:, 3]
    low, high = np.log(SCATTER_RANGE)
    possible = (share > 0.0) & (share < 1.0) & (logs > low) & (logs < high)
    possible &= np.hypot(*offset.T) < LARGEST
    result = np.full(len(theta), -np.inf)
    if not possible.any():
        return result
    offset, logs, share = offset[possible], logs[possible], share[possible]
    value = log_likelihood(pairs, offset, np.exp(logs), share)
    value -= 0.5 * ((logs - np.log(prior.scatter[0])) / prior.scatter[1]) ** 2
    value -= 0.5 * ((share - prior.share[0]) / prior.share[1]) ** 2
    if prior.width is not None:
        value -= 0.5 * ((offset - prior.mean) ** 2).sum(axis=1) / prior.width**2
    result[possible] = value
    return result


def offset_grid(pairs: Pairs, prior: Prior) -> tuple[np.ndarray, np.ndarray]:
    """(m, 2) possible offsets and (m,) logarithms of the posterior at the prior's s and f."""
    steps = np.arange(-LARGEST, LARGEST + START_STEP, START_STEP)
    points = np.stack(np.meshgrid(steps, steps), axis=-1).reshape(-1, 2)
    points = points[np.hypot(*points.T) < LARGEST]
    theta = np.column_stack([
        points, np.full(len(points), np.log(prior.scatter[0])),
        np.full(len(points), prior.share[0]),
    ])
    # In portions: pairs times points would not fit the memory of a crowded facet.
    portion = max(1, 4_000_000 // max(1, pairs.east.size))
    values = [log_posterior(pairs, prior, theta[i:i + portion])
              for i in range(0, len(theta), portion)]
    return points, np.concatenate(values)


def fit_facet(pairs: Pairs, prior: Prior, method: str, seed: int = 0, *, walkers: int = 24,
              steps: int = 1000, burn: int = 200) -> Fit:
    """Fit one facet.

    method: "chi2" finds the maximum and takes the errors from its curvature (the offsets at which
    -2 ln L has grown by one); "mcmc" samples the posterior (Foreman-Mackey et al. 2013, PASP 125,
    306) and takes mean and standard deviation.  seed: of the samples.
    """
    points, values = offset_grid(pairs, prior)
    best = _climb(pairs, prior, points[int(values.argmax())])
    gain = 2.0 * float(log_likelihood(
        pairs, best[None, :2], np.exp(best[2:3]), best[3:4])[0])
    if method == "mcmc":
        samples = _sample(pairs, prior, points, values, best, seed, walkers, steps, burn)
        middle, spread = samples.mean(axis=0), samples.std(axis=0)
    else:
        samples = np.zeros((0, 4))
        middle, spread = best, _curvature_errors(pairs, prior, best)
    return Fit(
        middle[:2], spread[:2], pairs.sources * middle[3], pairs.sources * spread[3],
        float(np.exp(middle[2])), float(middle[3]), gain, samples,
    )


def _climb(pairs: Pairs, prior: Prior, offset: np.ndarray) -> np.ndarray:
    """(4,) the maximum of the posterior nearest to an offset."""
    from scipy.optimize import minimize

    def cost(x: np.ndarray) -> float:
        value = log_posterior(pairs, prior, x[None])[0]
        return -value if np.isfinite(value) else 1e30

    start = np.array([*offset, np.log(prior.scatter[0]), prior.share[0]])
    simplex = start + np.vstack([np.zeros(4), np.diag([0.2, 0.2, 0.3, 0.1])])
    found = minimize(cost, start, method="Nelder-Mead", options={
        "initial_simplex": simplex, "xatol": 1e-4, "fatol": 1e-5, "maxiter": 2000})
    return found.x


def _curvature_errors(pairs: Pairs, prior: Prior, best: np.ndarray) -> np.ndarray:
    """(4,) standard errors from second derivatives of the posterior at its maximum."""
    hessian = _hessian(pairs, prior, best)
    for block in (slice(0, 4), slice(0, 2)):  # the offset alone, where s or f are at a limit
        variance = _variances(hessian[block, block])
        if variance is not None:
            rest = np.array([1.0, 0.3])[: 4 - variance.size]
            spread = np.append(np.sqrt(variance), rest)
            return np.minimum(spread, [LARGEST, LARGEST, 1.0, 0.3])
    return np.array([LARGEST, LARGEST, 1.0, 0.3])


def _variances(hessian: np.ndarray) -> np.ndarray | None:
    """Diagonal of the inverse of a positive definite matrix, None for any other."""
    if not np.isfinite(hessian).all() or np.linalg.eigvalsh(hessian)[0] <= 0.0:
        return None
    return np.diag(np.linalg.inv(hessian))


def _hessian(pairs: Pairs, prior: Prior, best: np.ndarray) -> np.ndarray:
    """(4, 4) second derivatives of minus the logarithm of the posterior, NaN at a limit."""
    core = np.hypot(np.exp(best[2]), np.median(pairs.error))
    small = np.clip(0.3 * core / np.sqrt(max(1.0, best[3] * pairs.sources)), 1e-4, 0.02)
    step = np.array([small, small, 0.05, min(0.02, 0.5 * best[3], 0.5 * (1.0 - best[3]))])
    shifts = np.eye(4) * step
    signs = np.array([(1, 1), (1, -1), (-1, 1), (-1, -1)])
    hessian = np.zeros((4, 4))
    for i in range(4):
        for j in range(i + 1):
            if i == j:
                at, weight = np.array([best + shifts[i], best, best - shifts[i]]), (1, -2, 1)
            else:
                at, weight = best + signs @ shifts[[i, j]], (0.25, -0.25, -0.25, 0.25)
            value = log_posterior(pairs, prior, at)
            curve = np.nan if np.isinf(value).any() else float(value @ np.array(weight))
            hessian[i, j] = hessian[j, i] = -curve / (step[i] * step[j])
    return hessian


def _sample(pairs: Pairs, prior: Prior, points: np.ndarray, values: np.ndarray, best: np.ndarray,
            seed: int, walkers: int, steps: int, burn: int) -> np.ndarray:
    """(n, 4) samples of the posterior; walkers begin where it is, so that none gets lost."""
    import emcee

    rng = np.random.default_rng(seed)
    weight = np.exp(values - values.max())
    chosen = points[rng.choice(len(points), walkers, p=weight / weight.sum())]
    start = np.column_stack([
        chosen + rng.uniform(-0.5, 0.5, (walkers, 2)) * START_STEP,
        best[2] + 0.1 * rng.standard_normal(walkers),
        np.clip(best[3] + 0.05 * rng.standard_normal(walkers), 0.01, 0.99),
    ])
    start[:, :2] *= np.minimum(1.0, 0.99 * LARGEST / np.hypot(*start[:, :2].T))[:, None]
    low, high = np.log(SCATTER_RANGE)
    start[:, 2] = np.clip(start[:, 2], low + 1e-3, high - 1e-3)
    sampler = emcee.EnsembleSampler(
        walkers, 4, lambda theta: log_posterior(pairs, prior, theta), vectorize=True)
    state = np.random.RandomState(rng.integers(2**31)).get_state()
    sampler.random_state = state
    sampler.run_mcmc(start, steps)
    return sampler.get_chain(discard=burn, flat=True)
