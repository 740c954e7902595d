"""Which source of one catalogue is which of another.

Positions are unit vectors in a k-d tree (Bentley 1975, Commun. ACM 18, 509), so nothing special
happens at 0h or at the poles.  All angles are radians, all arrays (n,).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ddfpipe.data.surveys import SurveyCatalogue


@dataclass(frozen=True)
class Pairs:
    """Matched sources: indices into both catalogues (n,), and separations (n,) in radians."""

    first: np.ndarray
    second: np.ndarray
    separation: np.ndarray

    @property
    def size(self) -> int:
        """Number of pairs."""
        return self.first.size

    def select(self, keep: np.ndarray) -> Pairs:
        """The pairs where `keep` (n,) is true."""
        return Pairs(self.first[keep], self.second[keep], self.separation[keep])


def unit_vectors(ra: np.ndarray, dec: np.ndarray) -> np.ndarray:
    """(n, 3) unit vectors of positions in radians."""
    ra, dec = np.atleast_1d(np.asarray(ra, float)), np.atleast_1d(np.asarray(dec, float))
    return np.stack([np.cos(dec) * np.cos(ra), np.cos(dec) * np.sin(ra), np.sin(dec)], axis=-1)


def chord(angle: float) -> float:
    """Distance of unit vectors `angle` radians apart."""
    return 2.0 * np.sin(0.5 * angle)


def separations(ra1, dec1, ra2, dec2) -> np.ndarray:
    """Angles between positions, element by element, exact for small ones too."""
    length = np.linalg.norm(unit_vectors(ra1, dec1) - unit_vectors(ra2, dec2), axis=-1)
    return 2.0 * np.arcsin(np.clip(0.5 * length, 0.0, 1.0))


def tangent_offsets(ra, dec, ra0, dec0) -> tuple[np.ndarray, np.ndarray]:
    """Offsets (east, north) of positions from reference positions on their tangent planes."""
    ra, dec, ra0, dec0 = (np.asarray(v, float) for v in (ra, dec, ra0, dec0))
    east = np.cos(dec) * np.sin(ra - ra0)
    # sin(dec - dec0) plus the term of the parallel's curvature, without cancellation.
    north = np.sin(dec - dec0) + 2.0 * np.cos(dec) * np.sin(dec0) * np.sin(0.5 * (ra - ra0)) ** 2
    return east, north


def nearest(ra, dec, other_ra, other_dec) -> tuple[np.ndarray, np.ndarray]:
    """For each position the index of the nearest one of others, and its separation.

    Without others the indices are -1 and the separations infinite.
    """
    from scipy.spatial import cKDTree

    vectors = unit_vectors(ra, dec)
    if np.size(other_ra) == 0:
        return np.full(len(vectors), -1), np.full(len(vectors), np.inf)
    distance, index = cKDTree(unit_vectors(other_ra, other_dec)).query(vectors)
    return index, 2.0 * np.arcsin(np.clip(0.5 * distance, 0.0, 1.0))


def isolated(ra, dec, radius: float, others: tuple[np.ndarray, np.ndarray] | None = None
             ) -> np.ndarray:
    """True (n,) where no other position lies within `radius`.

    others: (ra, dec) of the positions that count, by default the same list, each but itself.
    """
    from scipy.spatial import cKDTree

    vectors = unit_vectors(ra, dec)
    if others is None:
        tree, own = cKDTree(vectors), 1
    elif np.size(others[0]) == 0:
        return np.ones(len(vectors), bool)
    else:
        tree, own = cKDTree(unit_vectors(*others)), 0
    return tree.query_ball_point(vectors, chord(radius), return_length=True) <= own


def match(ra1, dec1, ra2, dec2, radius: float, *, unambiguous: bool = False) -> Pairs:
    """One-to-one pairs within `radius`: the closest pair first, each source used once.

    unambiguous: drop pairs of which either source has a second candidate within the radius.
    Pairs are in the order of the first catalogue.
    """
    from scipy.spatial import cKDTree

    empty = Pairs(np.zeros(0, int), np.zeros(0, int), np.zeros(0))
    if np.size(ra1) == 0 or np.size(ra2) == 0:
        return empty
    one, two = unit_vectors(ra1, dec1), unit_vectors(ra2, dec2)
    found = cKDTree(one).sparse_distance_matrix(
        cKDTree(two), chord(radius), output_type="ndarray")
    if found.size == 0:
        return empty
    first, second = found["i"].astype(int), found["j"].astype(int)
    alone = (np.bincount(first)[first] == 1) & (np.bincount(second)[second] == 1)
    order = np.lexsort((second, first, found["v"]))
    free1, free2 = np.ones(len(one), bool), np.ones(len(two), bool)
    kept = []
    for k in order:
        if free1[first[k]] and free2[second[k]] and (alone[k] or not unambiguous):
            free1[first[k]] = free2[second[k]] = False
            kept.append(k)
    kept = np.array(sorted(kept, key=lambda k: first[k]), int)
    angle = 2.0 * np.arcsin(np.clip(0.5 * found["v"][kept], 0.0, 1.0))
    return Pairs(first[kept], second[kept], angle)


def friends(ra, dec, radius: float) -> np.ndarray:
    """(n,) group number of each position: all that are linked by steps of at most `radius`.

    Friends of friends (Huchra & Geller 1982, ApJ 257, 423).  Numbers count from 0 in the order
    of the groups' first members.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components
    from scipy.spatial import cKDTree

    vectors = unit_vectors(ra, dec)
    n = len(vectors)
    if np.size(ra) == 0:
        return np.zeros(0, int)
    links = cKDTree(vectors).query_pairs(chord(radius), output_type="ndarray")
    graph = coo_array((np.ones(len(links), bool), (links[:, 0], links[:, 1])), shape=(n, n))
    _, labels = connected_components(graph, directed=False)
    _, start = np.unique(labels, return_index=True)
    rank = np.empty(start.size, int)
    rank[np.argsort(start)] = np.arange(start.size)
    return rank[labels]


def merge(catalogue: SurveyCatalogue, labels: np.ndarray) -> SurveyCatalogue:
    """One source a group: summed flux, flux-weighted position, greatest peak.

    labels: (n,) group numbers from 0, as of `friends`.  Positions of groups without positive
    flux are plain means.  Errors of fluxes add in quadrature; the position's error is that of
    the weighted mean.  The size is the greatest member's, or the greatest distance of a member
    from the middle, doubled, if that is more.
    """
    labels = np.asarray(labels, int)
    count = int(labels.max()) + 1 if labels.size else 0
    flux = np.nan_to_num(catalogue.flux)
    usable = np.bincount(labels, np.maximum(flux, 0.0), count) > 0.0
    weight = np.where(usable[labels], np.maximum(flux, 0.0), 1.0)
    total = np.bincount(labels, weight, count)
    vectors = unit_vectors(catalogue.ra, catalogue.dec)
    mean = np.stack([np.bincount(labels, weight * v, count) / total for v in vectors.T], axis=-1)
    mean /= np.linalg.norm(mean, axis=-1, keepdims=True) if count else 1.0
    ra = np.mod(np.arctan2(mean[:, 1], mean[:, 0]), 2.0 * np.pi)
    dec = np.arcsin(np.clip(mean[:, 2], -1.0, 1.0))
    away = separations(ra[labels], dec[labels], catalogue.ra, catalogue.dec)

    def quadrature(values: np.ndarray, factor: np.ndarray | float = 1.0) -> np.ndarray:
        return np.sqrt(np.bincount(labels, (factor * values) ** 2, count))

    share = weight / total[labels]
    single = np.bincount(labels, minlength=count) == 1
    reach = _greatest(2.0 * away, labels, count)
    major = np.fmax(_greatest(catalogue.major, labels, count), np.where(single, np.nan, reach))
    first = np.unique(labels, return_index=True)[1]
    return SurveyCatalogue(
        ra=ra, dec=dec,
        ra_error=quadrature(catalogue.ra_error, share),
        dec_error=quadrature(catalogue.dec_error, share),
        flux=np.bincount(labels, catalogue.flux, count),
        flux_error=quadrature(catalogue.flux_error),
        peak=_greatest(catalogue.peak, labels, count),
        major=major, frequency=catalogue.frequency[first], name=catalogue.name[first],
    )


def _greatest(values: np.ndarray, labels: np.ndarray, count: int) -> np.ndarray:
    """(count,) greatest value of each group; NaN where a group has none."""
    result = np.full(count, np.nan)
    np.fmax.at(result, labels, values)
    return result


def group_by(catalogue: SurveyCatalogue, centres: SurveyCatalogue, radius: float
             ) -> SurveyCatalogue:
    """The sources of a sharp catalogue as one of lower resolution would see them.

    Each source within `radius` (about half the coarser beam) of a source of `centres` goes to
    the nearest one.  The result has one source for each of `centres` that gets any.
    """
    index, distance = nearest(catalogue.ra, catalogue.dec, centres.ra, centres.dec)
    near = distance <= radius
    _, labels = np.unique(index[near], return_inverse=True)
    return merge(catalogue.select(near), labels)
