"""Calibration directions: groups of sources that share the flux fairly.

Facets are the Voronoi cells of the directions, so a source always belongs to the nearest one.  The
directions are sought that make

    J = Σ_i w_i d_i² / (W R²)  +  balance / K  Σ_k (W_k / W̄ - 1)²

small: the first term wants directions near the flux (k-means, Lloyd 1982, IEEE Trans. Inf. Theory
28, 129), the second equal flux in every cell.  w is the flux, capped at a fair share W / K, since
no division makes a dominant source fainter.  After seeding, Lloyd steps alternate with moves of the
direction of the poorest cell into the richest one; a move stays if J falls.  No random numbers.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ddfpipe.errors import SkyModelError
from ddfpipe.units import ARCMIN

_LLOYD_STEPS = 30
_MOVES = 100


@dataclass(frozen=True)
class Clusters:
    """Directions l, m (ndir,), richest first; flux (ndir,) Jy of their sources; label (n,) of each
    source; balance: standard over mean of the cells' flux; warnings: sentences for the log."""

    l: np.ndarray  # noqa: E741
    m: np.ndarray
    flux: np.ndarray
    label: np.ndarray
    balance: float
    warnings: tuple[str, ...]


def cluster_sources(
    l: np.ndarray,  # noqa: E741
    m: np.ndarray,
    flux: np.ndarray,
    ndir: int,
    *,
    avoid: np.ndarray | None = None,
    min_separation: float = 0.0,
    balance: float = 0.3,
) -> Clusters:
    """Group sources at direction cosines (l, m) with `flux` Jy into at most `ndir` directions.

    avoid: (n,) true for sources that must not draw a direction (diffuse emission); they still
    belong to a cell.  min_separation: radians between directions.  balance: weight of equal fluxes
    against compact cells.  Fewer usable sources than `ndir` give fewer directions and a warning.
    Raises SkyModelError when no source can be used.
    """
    lm = np.stack([np.asarray(l, float), np.asarray(m, float)], axis=1)
    flux = np.asarray(flux, float)
    good = np.isfinite(lm).all(axis=1) & np.isfinite(flux) & (flux > 0.0)
    if avoid is not None:
        good &= ~np.asarray(avoid, bool)
    if ndir < 1 or not good.any():
        raise SkyModelError(
            f"no sources to calibrate on ({good.size} found, {int(good.sum())} usable, {ndir} "
            "directions asked): lower the source threshold, check the image and its mask, or give "
            "directions with option clusterfile."
        )
    places, weight = lm[good], _capped(flux[good], ndir)
    centres = _seeds(places, weight, ndir, min_separation)
    centres = _improve(places, weight, centres, min_separation, balance)
    warnings = []
    if len(centres) < ndir:
        warnings.append(f"only {len(centres)} of {ndir} directions: {len(places)} usable sources"
                        + (f", at least {min_separation / ARCMIN:.2g} arcmin apart"
                           if min_separation else ""))
    label = _nearest(lm, centres)
    total = np.bincount(label[good], flux[good], len(centres))
    order = np.lexsort((np.arange(total.size), -total))
    rank = np.empty_like(order)
    rank[order] = np.arange(order.size)
    spread = float(total.std() / total.mean())
    return Clusters(centres[order, 0], centres[order, 1], total[order], rank[label], spread,
                    tuple(warnings))


def _capped(flux: np.ndarray, ndir: int) -> np.ndarray:
    """Fluxes with none above a fair share of the (capped) total, unit sum."""
    weight = flux.copy()
    for _ in range(20):
        cap = weight.sum() / ndir
        if weight.max() <= cap * 1.001:
            break
        weight = np.minimum(weight, cap)
    return weight / weight.sum()


def _distance2(places: np.ndarray, centres: np.ndarray) -> np.ndarray:
    return ((places[:, None] - centres[None]) ** 2).sum(axis=2)


def _nearest(places: np.ndarray, centres: np.ndarray) -> np.ndarray:
    """Index of the nearest centre, the first of equals; sources at unknown places get 0."""
    return np.argmin(np.nan_to_num(_distance2(places, centres), nan=0.0), axis=1)


def _seeds(places, weight, ndir, min_separation) -> np.ndarray:
    """Brightest source first, then always the one with most weight times distance squared."""
    chosen = [int(np.argmax(weight))]
    near = ((places - places[chosen[0]]) ** 2).sum(axis=1)
    floor = max(min_separation, 1e-9) ** 2
    while len(chosen) < ndir:
        merit = np.where(near > floor, weight * near, 0.0)
        best = int(np.argmax(merit))
        if merit[best] <= 0.0:
            break
        chosen.append(best)
        near = np.minimum(near, ((places - places[best]) ** 2).sum(axis=1))
    return places[chosen]


def _lloyd(places, weight, centres, min_separation) -> np.ndarray:
    """Move centres to the weighted mean of their cells until they rest, keeping them apart."""
    for _ in range(_LLOYD_STEPS):
        label = _nearest(places, centres)
        total = np.bincount(label, weight, len(centres))
        new = centres.copy()
        used = total > 0.0
        for axis in range(2):
            sums = np.bincount(label, weight * places[:, axis], len(centres))
            new[used, axis] = sums[used] / total[used]
        if _closest(new) < min_separation or np.array_equal(new, centres):
            break
        centres = new
    return centres


def _closest(centres: np.ndarray) -> float:
    """Smallest distance between two centres."""
    gap = _distance2(centres, centres)
    np.fill_diagonal(gap, np.inf)
    return float(np.sqrt(gap.min(initial=np.inf)))


def _cost(places, weight, centres, balance) -> float:
    """J of the module's description, with unit total weight."""
    gap = _distance2(places, centres)
    label = np.argmin(gap, axis=1)
    share = np.bincount(label, weight, len(centres)) * len(centres)
    middle = weight @ places
    radius2 = max(float(weight @ ((places - middle) ** 2).sum(axis=1)), 1e-30)
    compact = float(weight @ gap[np.arange(len(places)), label]) / radius2
    return compact + balance * float(((share - 1.0) ** 2).mean())


def _improve(places, weight, centres, min_separation, balance) -> np.ndarray:
    """Lloyd steps and moves from poor to rich cells while J falls."""
    rested = _lloyd(places, weight, centres, min_separation)
    centres = _best(places, weight, balance, centres, rested)
    cost = _cost(places, weight, centres, balance)
    for _ in range(_MOVES):
        label = _nearest(places, centres)
        total = np.bincount(label, weight, len(centres))
        improved = False
        for poor in np.argsort(total, kind="stable")[:3]:
            for rich in np.argsort(-total, kind="stable")[:3]:
                trial = _moved(places, weight, centres, label, poor, rich)
                if trial is None or _closest(trial) < min_separation:
                    continue
                trial = _best(places, weight, balance, trial,
                              _lloyd(places, weight, trial, min_separation))
                new = _cost(places, weight, trial, balance)
                if new < cost - 1e-9:
                    centres, cost, improved = trial, new, True
                    break
            if improved:
                break
        if not improved:
            break
    return centres


def _best(places, weight, balance, first, second) -> np.ndarray:
    """The cheaper of two sets of centres."""
    costs = [_cost(places, weight, c, balance) for c in (first, second)]
    return second if costs[1] <= costs[0] else first


def _moved(places, weight, centres, label, poor, rich) -> np.ndarray | None:
    """Centres with `poor` moved so that cell `rich` is halved along its longest axis."""
    mine = np.flatnonzero(label == rich)
    if poor == rich or mine.size < 2:
        return None
    w = weight[mine]
    offset = places[mine] - (w @ places[mine]) / w.sum()
    axis = np.linalg.eigh((offset * w[:, None]).T @ offset)[1][:, 1]
    along = offset @ axis
    order = np.argsort(along, kind="stable")
    half = np.searchsorted(np.cumsum(w[order]), 0.5 * w.sum())
    cut = min(max(int(half), 1), mine.size - 1)
    trial = centres.copy()
    for k, part in ((rich, order[:cut]), (poor, order[cut:])):
        trial[k] = (w[part] @ places[mine[part]]) / w[part].sum()
    return trial
