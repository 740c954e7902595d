"""Last pass over a mosaic: small islands are blanked, and what is covered is summed up."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ddfpipe.imaging.noise import robust_noise
from ddfpipe.products.mosaic.layout import Layout
from ddfpipe.products.mosaic.moc import covered_cells, order_for
from ddfpipe.products.planes import Plane, tiles, widened
from ddfpipe.units import DEGREE

SMALL_ISLAND = 20
"""Connected pixels; so few come from errors of the beam at its cut."""
_NOISE_SAMPLE = 1000


@dataclass(frozen=True)
class Summary:
    """Covered area (deg^2), most images in a pixel, noise (Jy/beam), blanked pixels; nested
    HEALPix cells of an order."""

    area: float
    most_fields: int
    noise: float
    blanked: int
    cells: np.ndarray
    order: int

    def figures(self) -> dict[str, float]:
        """The numbers that a person wants to see."""
        return {"area": self.area, "most_fields": self.most_fields, "noise": self.noise,
                "islands_blanked": self.blanked}


def finish(outputs: dict[str, Plane], layout: Layout, tile: int,
           progress: Callable[[str, int, int], None]) -> Summary:
    """Blank the islands of at most SMALL_ISLAND pixels in place; tell what is left.

    An island that small ends within SMALL_ISLAND pixels of a piece that it touches, so pieces with
    that margin find the same islands as the whole mosaic would.
    """
    mosaic = outputs["mosaic"]
    parts = list(tiles(mosaic.shape, tile))
    order, cells, blanked, covered_pixels, most = order_for(layout.pixel), [], 0, 0.0, 0
    for done, part in enumerate(parts, start=1):
        covered, small = _islands(mosaic, part)
        if small.any():
            for kind, blank in (("mosaic", np.nan), ("weights", 0.0), ("coverage", 0)):
                values = outputs[kind].read(*part)
                values[small] = blank
                outputs[kind].write(*part, values)
            blanked += int(small.sum())
            covered &= ~small
        covered_pixels += float(covered.sum())
        most = max(most, int(outputs["coverage"].read(*part).max()))
        cells.append(covered_cells(layout, covered, *part, order))
        progress("islands and coverage", done, len(parts))
    step = max(1, max(mosaic.shape) // _NOISE_SAMPLE)
    return Summary(covered_pixels * (layout.pixel / DEGREE) ** 2, most,
                   robust_noise(mosaic.sample(step)), blanked, np.unique(np.concatenate(cells)),
                   order)


def _islands(mosaic: Plane, part: tuple[slice, slice]) -> tuple[np.ndarray, np.ndarray]:
    """(covered, on a small island) of a piece, bool (y, x)."""
    from scipy.ndimage import label

    wide = tuple(widened(p, n, SMALL_ISLAND + 1) for p, n in zip(part, mosaic.shape))
    covered = np.isfinite(mosaic.read(*wide))
    inner = tuple(slice(p.start - w.start, p.stop - w.start) for p, w in zip(part, wide))
    if covered.all() or not covered.any():
        return covered[inner], np.zeros_like(covered[inner])
    labels, count = label(covered, np.ones((3, 3)))
    small = np.bincount(labels.ravel(), minlength=count + 1) <= SMALL_ISLAND
    small[0] = False
    # What runs into the edge of the window may be larger than it looks, but touches the piece
    # only if it is more than SMALL_ISLAND pixels long: then it is not small within it either.
    return covered[inner], small[labels][inner]
