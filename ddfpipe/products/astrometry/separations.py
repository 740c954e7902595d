"""Separations between the sources of each facet and the objects of a reference catalogue.

They are taken along the axes of the image, not along local meridians: what an image is moved by is
pixels, and near a pole a facet holds many directions of north.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ddfpipe.data.images import SkyGrid
from ddfpipe.products.astrometry.likelihood import CANDIDATES, REACH, Pairs
from ddfpipe.products.crossmatch import chord, unit_vectors
from ddfpipe.units import ARCSEC

LEAST_EXPECTED = 8.0
"""Where the reference has this many objects in reach of a usual source, none means no coverage."""


@dataclass(frozen=True)
class Separations:
    """Everything within REACH of the sources.

    east, north: (n,) source minus reference along the image's axes, arcsec.  source: (n,) index,
    ascending.
    facet: (sources,) facet of each source, -1 for none.  error: (sources,) arcsec on one axis.
    covered: (sources,) whether the reference catalogue covers the place of the source.
    """

    east: np.ndarray
    north: np.ndarray
    source: np.ndarray
    facet: np.ndarray
    error: np.ndarray
    covered: np.ndarray

    def of_facet(self, number: int) -> tuple[np.ndarray, np.ndarray]:
        """(east, north) of all separations of a facet's sources, arcsec."""
        keep = (self.facet == number)[self.source]
        return self.east[keep], self.north[keep]

    def pairs(self, number: int) -> Pairs:
        """What the fit of a facet needs."""
        members = np.flatnonzero((self.facet == number) & self.covered)
        index = np.full(self.facet.size, -1)
        index[members] = np.arange(members.size)
        mine = index[self.source]
        distance = np.hypot(self.east, self.north)
        near = (mine >= 0) & (distance <= CANDIDATES)
        around = np.count_nonzero((mine >= 0) & (distance > CANDIDATES))
        area = np.pi * (REACH**2 - CANDIDATES**2) * max(1, members.size)
        # A sparse catalogue may have nothing there; one object is what cannot be excluded.
        return Pairs(self.east[near], self.north[near], mine[near], self.error[members],
                     max(1, around) / area)


def find_separations(ra: np.ndarray, dec: np.ndarray, error: np.ndarray, facet: np.ndarray,
                     reference: tuple[np.ndarray, np.ndarray], grid: SkyGrid) -> Separations:
    """All reference objects within REACH of each source.

    ra, dec: (sources,) radians; error: (sources,) radians on one axis; facet: (sources,) int.
    reference: (ra, dec) in radians.  grid: of the image.
    """
    from scipy.spatial import cKDTree

    ra, dec = np.asarray(ra, float), np.asarray(dec, float)
    reference_ra, reference_dec = (np.asarray(v, float) for v in reference)
    count = np.zeros(ra.size, int)
    found = np.zeros(0, int)
    if ra.size and reference_ra.size:
        tree = cKDTree(unit_vectors(reference_ra, reference_dec))
        lists = tree.query_ball_point(unit_vectors(ra, dec), chord(REACH * ARCSEC),
                                      return_sorted=True)
        count = np.array([len(item) for item in lists])
        found = np.concatenate([np.asarray(item, int) for item in lists])
    source = np.repeat(np.arange(ra.size), count)
    here, there = grid.lm_of(ra, dec), grid.lm_of(reference_ra, reference_dec)
    east, north = (a[source] - b[found] for a, b in zip(here, there))
    usual = float(np.median(count[count > 0])) if (count > 0).any() else 0.0
    covered = (count > 0) if usual >= LEAST_EXPECTED else np.ones(ra.size, bool)
    return Separations(east / ARCSEC, north / ARCSEC, source, np.asarray(facet, int),
                       np.asarray(error, float) / ARCSEC, covered)
