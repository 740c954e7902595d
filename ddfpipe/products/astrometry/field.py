"""The offsets of all facets of a field, each helped by what the others show.

First every facet is fitted alone.  Those with a clear peak tell how offsets scatter over the field
(mean and width), how often sources have counterparts and how far these scatter; with what the
others tell as prior, each facet is fitted again.  A facet with many counterparts is not changed by
the prior; one without enough of them gets the field's mean, with the field's scatter as its error,
instead of whichever peak the noise made highest (empirical Bayes; Efron & Morris 1975, J. Am. Stat.
Assoc. 70, 311).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from ddfpipe.products.astrometry.likelihood import Fit, Pairs, Prior, fit_facet

CLEAR_GAIN = 25.0
"""Facets whose 2 ln L grows by more than this with counterparts have a clear peak.  Of 900 facets
in simulated fields without any counterpart none came above 22."""
LEAST_CLEAR = 3
"""Facets with a clear peak that are needed to know the scatter of the field."""
UNKNOWN = 100.0
"""Error, in arcsec, of an offset that nothing is known of; the offset itself is then zero."""
SCATTER_GRID = np.geomspace(0.02, 3.0, 60)


@dataclass(frozen=True)
class FieldFit:
    """Fits of all facets (None without sources), and of the field.

    offset, error: (facets, 2) arcsec.  clear: (facets,) bool, whether the facet's own sources show
    a clear peak.  mean (2,), width: scatter of facets about it, or None where too few are clear.
    """

    fits: tuple[Fit | None, ...]
    offset: np.ndarray
    error: np.ndarray
    clear: np.ndarray
    mean: np.ndarray
    width: float | None


def fit_field(pairs: Sequence[Pairs], method: str,
              progress: Callable[[int, int], None] = lambda done, total: None) -> FieldFit:
    """Fit all facets of a field; see the module.

    pairs: of each facet.  method: as for `fit_facet`.  progress: told (done, total) facets.
    """
    usable = [item.sources > 0 and item.density > 0.0 for item in pairs]
    total = 2 * len(pairs)
    first: list[Fit | None] = []
    for number, item in enumerate(pairs):
        first.append(fit_facet(item, Prior(), "chi2") if usable[number] else None)
        progress(number + 1, total)
    clear = np.array([fit is not None and fit.gain > CLEAR_GAIN for fit in first], bool)
    _, mean, width = field_prior(_clear_ones(first, clear))
    fits: list[Fit | None] = []
    offset, error = np.zeros((len(pairs), 2)), np.full((len(pairs), 2), UNKNOWN)
    for number, item in enumerate(pairs):
        # Without the facet itself, or its noise would count twice.
        prior, others, spread = field_prior(_clear_ones(first, clear, but=number))
        known = usable[number] and (clear[number] or spread is not None)
        fits.append(fit_facet(item, prior, method, seed=number) if known else None)
        if known:
            offset[number], error[number] = fits[-1].offset, fits[-1].error
        elif spread is not None:
            offset[number], error[number] = others, prior.width
        progress(len(pairs) + number + 1, total)
    return FieldFit(tuple(fits), offset, error, clear, mean, width)


def _clear_ones(fits: Sequence[Fit | None], clear: np.ndarray, but: int = -1) -> list[Fit]:
    """Fits of the facets with a clear peak, other than facet `but`."""
    return [fit for k, (fit, good) in enumerate(zip(fits, clear)) if good and k != but]


def field_prior(fits: Sequence[Fit]) -> tuple[Prior, np.ndarray, float | None]:
    """What clear facets tell of all: prior, mean offset (2,), scatter of offsets on one axis.

    With fewer than LEAST_CLEAR the offsets' scatter is unknown (None), and the prior's offset free.
    """
    if not fits:
        return Prior(), np.zeros(2), None
    matched = np.array([fit.matched for fit in fits])
    logs = np.log([fit.scatter for fit in fits])
    share = np.array([fit.share for fit in fits])
    # The spread between facets is partly noise, so these widths are on the safe side.
    scatter = float(np.exp(np.average(logs, weights=matched))), max(0.3, float(np.std(logs)))
    shares = float(np.average(share, weights=matched)), max(0.1, float(np.std(share)))
    offset = np.array([fit.offset for fit in fits])
    error = np.array([fit.error for fit in fits])
    if len(fits) < LEAST_CLEAR:
        return (Prior(scatter=scatter, share=shares),
                np.average(offset, axis=0, weights=error**-2), None)
    mean, width, mean_error = field_scatter(offset, error)
    prior = Prior((float(mean[0]), float(mean[1])), float(np.hypot(width, mean_error)), scatter,
                  shares)
    return prior, mean, width


def field_scatter(offset: np.ndarray, error: np.ndarray) -> tuple[np.ndarray, float, float]:
    """Mean (2,), scatter and error of the mean of facets' offsets (n, 2) with errors (n, 2).

    The scatter, alike on both axes, is the median of its posterior for a prior flat in it, with
    the mean integrated out (Gelman et al. 2013, Bayesian Data Analysis, section 5.4).
    """
    variance = error[None] ** 2 + SCATTER_GRID[:, None, None] ** 2
    weight = 1.0 / variance
    means = (weight * offset).sum(axis=1) / weight.sum(axis=1)
    log_p = (-0.5 * np.log(variance).sum(axis=(1, 2)) - 0.5 * np.log(weight.sum(axis=1)).sum(axis=1)
             - 0.5 * (weight * (offset - means[:, None]) ** 2).sum(axis=(1, 2)))
    p = np.exp(log_p - log_p.max()) * np.gradient(SCATTER_GRID)
    p /= p.sum()
    width = float(np.interp(0.5, np.cumsum(p), SCATTER_GRID))
    mean_error = float(np.sqrt((p[:, None] / weight.sum(axis=1)).sum(axis=0).mean()))
    return (p[:, None] * means).sum(axis=0), width, mean_error
