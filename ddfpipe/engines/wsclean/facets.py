"""Facets and gains as WSClean 3.1 takes them: a region file of polygons, an h5parm a set.

WSClean gives a facet the gains of the direction nearest to the middle of its polygon, and it
mistakes the optional points of region files (measured: with them the first facet of two got the
gains of the second).  So the file holds polygons alone, and the h5parm's directions are put into
the middles of their polygons: nothing is left to be mistaken.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ...calibration.gains import GainTable
from ...data.atomic import atomic_write_text
from ...data.h5parm import write_h5parm
from ...imaging.facets import FacetSet
from ...imaging.sky import lm_to_radec
from ..native.gainfield import LoadedGains, load_gains, nearest_direction

REGION_HEADER = "# Region file format: DS9 version 4.1\nglobal color=green\nfk5\n"


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
        ra, dec = np.degrees(lm_to_radec(corners[:, 0], corners[:, 1], *phase_centre))
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
    ra, dec = lm_to_radec(*np.array([facets_direction(facets, k) for k, _ in cells]).T,
                          *cache.phase_centre)
    times = _runs(np.stack(loaded.time_index), cache.time)
    chans = _runs(np.stack(loaded.chan_index), cache.freq)
    shape = (len(times), len(chans), cache.n_ant, len(cells), 1)
    gains = np.ones(shape, np.complex64)
    for table, time_index, chan_index in zip(
        loaded.tables, loaded.time_index, loaded.chan_index
    ):
        where = [nearest_direction(table.directions, a, d) for a, d in zip(ra, dec)]
        values = np.where(table.flag, 1, table.gains)[:, :, :, where, :1]
        gains *= values[time_index[times[:, 0]][:, None], chan_index[chans[:, 0]][None, :]]
    middles = np.array([middle(p) for _, p in cells])
    at = np.stack(lm_to_radec(middles[:, 0], middles[:, 1], *cache.phase_centre), axis=1)
    half, width = cache.interval / 2, cache.chan_width / 2
    return GainTable(
        np.stack([cache.time[times[:, 0]] - half, cache.time[times[:, 1]] + half], axis=1),
        np.stack([(cache.freq - width)[chans[:, 0]], (cache.freq + width)[chans[:, 1]]], axis=1),
        gains, cache.ant_names, at, ant_pos=cache.ant_pos,
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

