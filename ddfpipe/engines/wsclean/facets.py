"""Facets and gains as WSClean 3.1 takes them: a region file of polygons, an h5parm a set.

WSClean gives a facet the gains of the direction nearest to the middle of its polygon, and it
mistakes the optional points of region files (measured: with them the first facet of two got the
gains of the second).  So the file holds polygons alone, and the h5parm's directions are put into
the middles of their polygons: nothing is left to be mistaken.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ...calibration.gains import GainTable
from ...data.atomic import atomic_write_text
from ...data.h5parm import write_h5parm
from ...imaging.facets import FacetSet
from ...imaging.sky import lm_to_radec
from ..native.gainfield import LoadedGains, load_gains, nearest_direction

REGION_HEADER = "# Region file format: DS9 version 4.1\nglobal color=green\nfk5\n"


NUDGE = 0.05
"""Pixels by which corners move.  WSClean rounds corners to pixels and ends at one outside of the
image, as those may be that lie on its edge, half a pixel from the middle of the first."""


@dataclass(frozen=True)
class FacetGains:
    """Files of facets and gains. solutions: an h5parm a measurement set; tables: those to apply."""

    regions: Path
    solutions: tuple[Path, ...]
    tables: tuple[str, ...]


def polygons(facets: FacetSet) -> list[tuple[int, np.ndarray]]:
    """(direction, (n, 2) l and m in rad) of every cell that owns part of the image."""
    owners = {f.dir_index for f in facets.facets}
    return [(k, p) for k, p in enumerate(facets.polygons) if k in owners and len(p) > 2]


def write_regions(path: Path, facets: FacetSet, phase_centre) -> Path:
    """The region file."""
    lines = []
    for _, corners in polygons(facets):
        l, m = corners.T + np.array([[-1], [1]]) * (NUDGE * facets.cell)  # to higher pixels
        ra, dec = np.degrees(lm_to_radec(l, m, *phase_centre))
        text = ",".join(f"{a % 360:.9f},{d:.9f}" for a, d in zip(ra, dec))
        lines.append(f"polygon({text})\n")
    atomic_write_text(path, REGION_HEADER + "".join(lines))
    return path


def middle(corners: np.ndarray) -> np.ndarray:
    """(l, m) of the middle of the box about a polygon (n, 2), inside it or close by."""
    return (corners.min(axis=0) + corners.max(axis=0)) / 2


def write_gains(folder: Path, choice, view, facets: FacetSet, solsdir: Path) -> FacetGains | None:
    """Facets, and the gains of a `GainChoice` towards them; None without gains.

    Raises
    ------
    SolveError : a solution set is missing or of other stations
    """
    if choice is None or not choice.names:
        return None
    centre = view.data.phase_centre
    regions = write_regions(folder / "facets.reg", facets, centre)
    paths = []
    for number, s in enumerate(view.sets):
        loaded = load_gains(choice, s.cache, solsdir)
        path = folder / f"gains{number}.h5"
        write_h5parm(facet_table(loaded, s.cache, facets), path)
        paths.append(path)
    tables = ("phase000",) if choice.mode == "P" else ("amplitude000", "phase000")
    return FacetGains(regions, tuple(paths), tables)


def facet_table(loaded: LoadedGains, cache, facets: FacetSet) -> GainTable:
    """Product of the tables towards the facets, on intervals of a measurement set.

    Where a gain is unknown it is one, as in our own engine.
    """
    cells = polygons(facets)
    towards = np.stack(lm_to_radec(
        *np.array([facets_direction(facets, k) for k, _ in cells]).T, *cache.phase_centre
    ), axis=1)
    middles = np.array([middle(p) for _, p in cells])
    at = np.stack(lm_to_radec(middles[:, 0], middles[:, 1], *cache.phase_centre), axis=1)
    return replace(gains_towards([loaded], [cache], towards), directions=at)


def gains_towards(loaded: list[LoadedGains], caches: list, directions: np.ndarray) -> GainTable:
    """Products of the tables of several measurement sets of the same times, one set after another
    in frequency, towards directions (n, 2) in rad.

    Where a gain is unknown it is one, as in our own engine.
    """
    first = caches[0]
    times = _runs(np.concatenate([np.stack(one.time_index) for one in loaded]), first.time)
    gains, edges = [], []
    for one, cache in zip(loaded, caches):
        chans = _runs(np.stack(one.chan_index), cache.freq)
        shape = (len(times), len(chans), cache.n_ant, len(directions), 1)
        part = np.ones(shape, np.complex64)
        for table, time_index, chan_index in zip(one.tables, one.time_index, one.chan_index):
            where = [nearest_direction(table.directions, a, d) for a, d in directions]
            values = np.where(table.flag, 1, table.gains)[:, :, :, where, :1]
            part *= values[time_index[times[:, 0]][:, None], chan_index[chans[:, 0]][None, :]]
        half = cache.chan_width / 2
        edges.append(np.stack([(cache.freq - half)[chans[:, 0]],
                               (cache.freq + half)[chans[:, 1]]], axis=1))
        gains.append(part)
    half = first.interval / 2
    return GainTable(
        np.stack([first.time[times[:, 0]] - half, first.time[times[:, 1]] + half], axis=1),
        np.concatenate(edges), np.concatenate(gains, axis=1), first.ant_names, directions,
        ant_pos=first.ant_pos,
    )


def _runs(index: np.ndarray, centres: np.ndarray) -> np.ndarray:
    """(run, 2) first and last sample of runs of samples that share all gains.

    index : (table, sample) interval of each table; centres : (sample,) of time or frequency

    A reader of h5parms takes the interval whose middle is nearest; where that would be another
    one (intervals of unequal length), every sample becomes a run of its own.
    """
    change = np.flatnonzero((np.diff(index, axis=1) != 0).any(axis=0)) + 1
    first = np.r_[0, change]
    last = np.r_[change - 1, index.shape[1] - 1]
    own = np.repeat(np.arange(len(first)), last - first + 1)
    middles = (centres[first] + centres[last]) / 2
    nearest = np.abs(centres[:, None] - middles[None, :]).argmin(axis=1) if len(first) < 5000 \
        else np.full(len(own), -1)
    if np.array_equal(nearest, own):
        return np.stack([first, last], axis=1)
    each = np.arange(index.shape[1])
    return np.stack([each, each], axis=1)


def facets_direction(facets: FacetSet, direction: int) -> tuple[float, float]:
    """(l, m) of a direction in rad."""
    facet = next(f for f in facets.facets if f.dir_index == direction)
    return facet.l_dir, facet.m_dir

