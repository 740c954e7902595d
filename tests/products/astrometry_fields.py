"""Simulated catalogues: a field of facets with known offsets from a reference survey."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ddfpipe.data.images import SkyGrid
from ddfpipe.data.regions import FacetOutline
from ddfpipe.products.astrometry.separations import Separations, find_separations
from ddfpipe.units import ARCSEC, DEGREE

DENSITY = 0.005
"""Reference objects per square arcsecond: some 65,000 a square degree, as Pan-STARRS has."""


@dataclass
class SimulatedField:
    """A catalogue (radians) with facets, and a reference catalogue (radians)."""

    ra: np.ndarray
    dec: np.ndarray
    error: np.ndarray
    facet: np.ndarray
    reference: tuple[np.ndarray, np.ndarray]
    grid: SkyGrid
    outlines: list[FacetOutline]
    found: Separations | None = None

    def all_separations(self) -> Separations:
        if self.found is None:
            self.found = find_separations(self.ra, self.dec, self.error, self.facet,
                                          self.reference, self.grid)
        return self.found

    def separations(self, facet: int):
        return self.all_separations().of_facet(facet)


def pairs_of(field: SimulatedField, facet: int):
    return field.all_separations().pairs(facet)


def position_errors(n: int, rng) -> np.ndarray:
    """Errors on one axis, arcsec: 6" beam over twice a signal to noise with N(>S) ~ S^-1.2."""
    snr = 7.0 * rng.uniform(0, 1, n) ** (-1 / 1.2)
    return np.hypot(3.0 / snr, 0.05)


def simulate(*, facets=20, sources=100, tails=0.0, identified=0.65, mean=(0.3, -0.2), width=0.3,
             intrinsic=0.2, seed=0, dec=45.0, density=DENSITY):
    """(truth (facets, 2) arcsec, SimulatedField).

    sources: in each facet, a number or one a facet.  identified: share with a counterpart;
    tails: share of these whose counterpart is 2" (rms an axis) off.  mean, width: of the offsets
    (source minus reference).
    """
    rng = np.random.default_rng(seed)
    across = int(np.ceil(np.sqrt(facets)))
    size = 0.25 * DEGREE
    grid = SkyGrid(2.0 * ARCSEC, dec * DEGREE, 1024, 1024, across * size / 1024)
    counts = np.broadcast_to(sources, facets)
    truth = np.asarray(mean) + width * rng.standard_normal((facets, 2))
    parts, errors, labels, outlines, hosts = [], [], [], [], []
    for k in range(facets):
        corner = (np.array([k % across, k // across]) - across / 2) * size
        true = corner + rng.uniform(0.02, 0.98, (counts[k], 2)) * size
        error = position_errors(counts[k], rng)
        seen = true + (truth[k] + error[:, None] * rng.standard_normal((counts[k], 2))) * ARCSEC
        scatter = np.where(rng.uniform(size=counts[k]) < tails, 2.0, intrinsic)
        host = true + scatter[:, None] * rng.standard_normal((counts[k], 2)) * ARCSEC
        hosts.append(host[rng.uniform(size=counts[k]) < identified])
        parts.append(seen)
        errors.append(error)
        labels.append(np.full(counts[k], k))
        corners = corner + size * np.array([[0, 0], [1, 0], [1, 1], [0, 1]])
        centre = tuple(float(v) for v in grid.radec(*(corner + size / 2)))
        outlines.append(FacetOutline(f"S{k}", centre, np.stack(grid.radec(*corners.T), axis=1)))
    half = across * size / 2 + 90 * ARCSEC
    n = rng.poisson(density * (2 * half / ARCSEC) ** 2)
    hosts.append(rng.uniform(-half, half, (n, 2)))
    place = np.concatenate(parts)
    ra, dec_ = grid.radec(*place.T)
    return truth, SimulatedField(
        ra, dec_, np.concatenate(errors) * ARCSEC, np.concatenate(labels),
        grid.radec(*np.concatenate(hosts).T), grid, outlines,
    )
