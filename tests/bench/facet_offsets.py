"""Compare ways of finding a facet's offset, on simulated catalogues.

    python tests/bench/facet_offsets.py [FIELDS]

prints, for numbers of sources a facet, the rms error of the classic fit (Gaussian plus elliptical
background on histograms of all separations within 60 arcsec, -40 to 40 arcsec in 150 bins, each
axis by itself) and of the likelihood in use, and the rms of (found - true) / error.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from scipy.optimize import curve_fit

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "products"))

from astrometry_fields import pairs_of, simulate  # noqa: E402

from ddfpipe.products.astrometry.field import fit_field  # noqa: E402

EDGES = np.linspace(-40.0, 40.0, 151)
CENTRES = 0.5 * (EDGES[1:] + EDGES[:-1])


def classic(values: np.ndarray) -> tuple[float, float]:
    """Offset and error on one axis from a histogram of separations."""

    def shape(x, height, sigma, offset, floor):
        return floor * np.sqrt(60.0**2 - x**2) / 60.0 + height * np.exp(
            -0.5 * ((x - offset) / sigma) ** 2)

    counts = np.histogram(values, EDGES)[0]
    floor = np.median(counts)
    start = [counts.max() - floor, 0.5, CENTRES[counts.argmax()], floor]
    try:
        found, covariance = curve_fit(shape, CENTRES, counts, start,
                                      1.0 + np.sqrt(counts + 0.75), maxfev=4000)
        return found[2], float(np.sqrt(covariance[2, 2]))
    except RuntimeError:
        return 0.0, 100.0


def main(fields: int = 4) -> None:
    print("sources  tails | classic rms  |err|>0.5 | likelihood rms  |err|>0.5  pull rms")
    for sources in (10, 20, 40, 80, 160):
        for tails in (0.0, 0.15):
            old, new, pulls = [], [], []
            for seed in range(fields):
                truth, field = simulate(facets=20, sources=sources, tails=tails, seed=seed)
                fit = fit_field([pairs_of(field, k) for k in range(20)], "chi2")
                new.append(fit.offset - truth)
                pulls.append((fit.offset - truth) / fit.error)
                old.append([[classic(v)[0] for v in field.separations(k)] for k in range(20)]
                           - truth)
            old, new, pulls = (np.concatenate(v) for v in (old, new, pulls))
            print(f"{sources:7d} {tails:6.2f} | {old.std():11.3f} {np.mean(abs(old) > 0.5):10.3f} |"
                  f" {np.sqrt((new**2).mean()):14.3f} {np.mean(abs(new) > 0.5):10.3f}"
                  f" {np.sqrt((pulls**2).mean()):9.2f}")


if __name__ == "__main__":
    main(*(int(word) for word in sys.argv[1:]))
