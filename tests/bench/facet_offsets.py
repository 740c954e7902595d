"""Compare ways of finding a facet's offset, on simulated catalogues.

    python tests/bench/facet_offsets.py [FIELDS]

prints, for numbers of sources a facet, the errors of the classic fit (Gaussian plus elliptical
background on histograms of all separations within 60 arcsec, -40 to 40 arcsec in 150 bins, each
axis by itself; by least squares and by Poisson likelihood) and of the likelihood in use, and for
the latter the rms of (found - true) / error.
"""

from __future__ import annotations

import sys

import numpy as np
from checkout import use_own_package
from scipy.optimize import curve_fit, minimize

use_own_package("products")

from astrometry_fields import pairs_of, simulate  # noqa: E402

from ddfpipe.products.astrometry.field import fit_field  # noqa: E402

EDGES = np.linspace(-40.0, 40.0, 151)
CENTRES = 0.5 * (EDGES[1:] + EDGES[:-1])


def shape(x, height, sigma, offset, floor):
    """Gaussian and the projection of a disc."""
    return floor * np.sqrt(60.0**2 - x**2) / 60.0 + height * np.exp(
        -0.5 * ((x - offset) / sigma) ** 2)


def classic(values: np.ndarray) -> tuple[float, float]:
    """Offset on one axis from a histogram of separations: least squares, and greatest Poisson
    likelihood with a width below and an offset within 5 arcsec."""
    counts = np.histogram(values, EDGES)[0]
    floor = max(np.median(counts), 0.3)
    peak = CENTRES[counts.argmax()]
    start = [max(counts.max() - floor, 1.0), 0.5, peak, floor]
    try:
        squares = curve_fit(shape, CENTRES, counts, start, 1.0 + np.sqrt(counts + 0.75),
                            maxfev=4000)[0][2]
    except RuntimeError:
        squares = 0.0

    def cost(x):
        model = shape(CENTRES, *x)
        return (model - counts * np.log(model)).sum()

    start[2] = peak if abs(peak) <= 3.0 else 0.0
    found = minimize(cost, start, method="L-BFGS-B",
                     bounds=[(0.0, None), (0.05, 5.0), (-5.0, 5.0), (1e-3, None)])
    return squares, found.x[2]


def main(fields: int = 4) -> None:
    print("                |      rms error an axis (arcsec)     |   errors above 0.5 arcsec   |")
    print("sources   tails | least squares  Poisson  likelihood  | squares  Poisson likelihood |"
          " pulls")
    for sources in (10, 20, 40, 80, 160):
        for tails in (0.0, 0.15):
            old, new, pulls = [], [], []
            for seed in range(fields):
                truth, field = simulate(facets=20, sources=sources, tails=tails, seed=seed)
                fit = fit_field([pairs_of(field, k) for k in range(20)], "chi2")
                new.append(fit.offset - truth)
                pulls.append((fit.offset - truth) / fit.error)
                old.append(np.array([[classic(v) for v in field.separations(k)]
                                     for k in range(20)]) - truth[..., None])
            old, new, pulls = (np.concatenate(v) for v in (old, new, pulls))
            every = [old[..., 0], old[..., 1], new]
            rms = [np.sqrt((e**2).mean()) for e in every]
            far = [np.mean(abs(e) > 0.5) for e in every]
            print(f"{sources:7d} {tails:7.2f} | {rms[0]:13.2f} {rms[1]:8.3f} {rms[2]:11.3f}  |"
                  f" {far[0]:7.2f} {far[1]:8.2f} {far[2]:10.3f} |"
                  f" {np.sqrt((pulls**2).mean()):5.2f}")


if __name__ == "__main__":
    main(*(int(word) for word in sys.argv[1:]))
