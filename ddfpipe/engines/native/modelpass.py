"""Taking a model out of all the visibilities of a job.

To lay a facet's pixels on its grid takes transforms, a second or more for a facet of a degree.  A
measurement set that is gone through in several chunks therefore keeps the grids of as many facets
as the memory holds, and goes through all its chunks with these; what is left so far stays on disk
between one group of facets and the next.
"""

from __future__ import annotations

import numpy as np

from ...imaging.facetpredict import grid_size
from .parallel import in_threads
from .predictor import Predictor

WHAT = "predicting"


def subtract_model(predictor: Predictor, data, gains: list, left: list[np.ndarray], *,
                   memory: float, threads: int, monitor) -> None:
    """Fill `left` with the visibilities of `data` less a model.

    Parameters
    ----------
    predictor : Predictor of the model
    data : Data
    gains : list of GainField, one a measurement set
    left : list of (time, bl, chan) complex64, one a measurement set; written
    memory : bytes that grids may take, all together
    """
    short = [(i, s.chunks()[0]) for i, s in enumerate(data.sets) if len(s.chunks()) == 1]

    def whole(item) -> None:
        i, part = item
        s = data.sets[i]
        vis = np.array(s.vis[part])
        predictor.subtract(s.cache, part, s.band, gains[i], vis)
        left[i][part] = vis

    for _ in in_threads(whole, short, threads=threads, monitor=monitor, what=WHAT):
        pass
    groups = {i: facet_groups(predictor, s.cache, memory) for i, s in enumerate(data.sets)
              if len(s.chunks()) > 1}
    # one piece of memory for all grids: fresh pages cost as much as the transforms
    most = max((sum(sizes.values()) for each in groups.values() for _, sizes in each), default=0)
    buffer = np.empty(most, np.float32)
    for i, each in groups.items():
        _by_facets(predictor, data.sets[i], gains[i], left[i], each, buffer, threads, monitor)


def _by_facets(predictor: Predictor, s, gains, left, groups, buffer, threads, monitor) -> None:
    """One measurement set, group of facets by group of facets, their grids in `buffer`."""
    vis = s.vis
    for group, sizes in groups:
        ends = np.cumsum([0, *sizes.values()])
        rooms = [(index, buffer[a:b]) for index, a, b in zip(sizes, ends, ends[1:])]
        grids = in_threads(
            lambda room: predictor.load(s.cache, room[0], s.band, room[1]), rooms,
            threads=threads, monitor=monitor, what=f"{WHAT}, grids")
        loaded = dict(zip(sizes, grids))

        def subtract(part, vis=vis, group=group, loaded=loaded) -> None:
            out = np.array(vis[part])
            predictor.subtract(s.cache, part, s.band, gains, out, only=group, loaded=loaded)
            left[part] = out

        for _ in in_threads(subtract, s.chunks(), threads=threads, monitor=monitor, what=WHAT):
            pass
        vis = left
    if vis is s.vis:  # a model without components
        for part in s.chunks():
            left[part] = vis[part]


def facet_groups(predictor: Predictor, cache,
                 memory: float) -> list[tuple[list[int], dict[int, int]]]:
    """(facets, {those of them that get a grid: its floats}) in turn, so that a group's grids fit
    the memory.

    cache : VisCache of a measurement set.  A facet whose grid alone does not
    fit gets none, and is laid on a smaller one, or left to ducc0, chunk by chunk.
    """
    groups, used, crowded = [], 0.0, set(predictor.crowded(cache))
    limits = predictor.limits(cache)
    for index in predictor.occupied():
        size = 0
        if index in crowded:
            size = grid_size(predictor.parts[index].facet, predictor.facets.cell, *limits)
        kept = 0 < 4 * size <= memory
        if not groups or (kept and used + 4 * size > memory):
            groups.append(([], {}))
            used = 0.0
        groups[-1][0].append(index)
        if kept:
            groups[-1][1][index] = size
            used += 4 * size
    return groups
