"""A plain list of sources from a restored image: islands above the noise, their flux and place."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ddfpipe.imaging.mask import Islands, find_islands, threshold_mask


@dataclass(frozen=True)
class SourceList:
    """Sources, brightest first; arrays (n,).

    y, x: flux-weighted place in zero-based pixels; peak, noise: Jy/beam; flux: Jy, the island's
    sum over the beam area (what lies below the island's edge is missed); pixels: size;
    radius: flux-weighted rms distance from (y, x) in pixels.
    """

    y: np.ndarray
    x: np.ndarray
    peak: np.ndarray
    flux: np.ndarray
    noise: np.ndarray
    pixels: np.ndarray
    radius: np.ndarray

    @property
    def size(self) -> int:
        """Number of sources."""
        return self.y.size


def find_sources(
    image: np.ndarray,
    noise: np.ndarray | float,
    beam_pixels: float,
    *,
    mean: np.ndarray | float = 0.0,
    sigma: float = 5.0,
    island_sigma: float = 3.0,
) -> SourceList:
    """Islands of `image` (ny, nx; Jy/beam) that reach `sigma` noises, out to `island_sigma`.

    beam_pixels: area of the restoring beam in pixels (`restore.beam_area`).
    """
    mask = threshold_mask(image, noise, sigma, mean=mean, grow_sigma=min(island_sigma, sigma))
    return measure_islands(find_islands(mask), image, noise, beam_pixels, mean=mean)


def measure_islands(
    islands: Islands,
    image: np.ndarray,
    noise: np.ndarray | float,
    beam_pixels: float,
    *,
    mean: np.ndarray | float = 0.0,
) -> SourceList:
    """Fluxes and places of given islands."""
    index, label, count = islands.index, islands.label, islands.count
    value = np.asarray(image.ravel()[index], float)
    value -= mean.ravel()[index] if np.ndim(mean) else mean
    level = noise.ravel()[index] if np.ndim(noise) else np.full(index.size, float(noise))
    y, x = np.divmod(index, image.shape[1])
    peak = np.full(count, -np.inf)
    np.maximum.at(peak, label, value)
    weight = np.maximum(value, 0.0)
    total = np.maximum(np.bincount(label, weight, count), 1e-300)
    cy = np.bincount(label, weight * y, count) / total
    cx = np.bincount(label, weight * x, count) / total
    spread = np.bincount(label, weight * ((y - cy[label]) ** 2 + (x - cx[label]) ** 2), count)
    pixels = islands.sizes()
    order = np.lexsort((np.arange(count), -np.bincount(label, value, count)))
    table = SourceList(
        cy, cx, peak, np.bincount(label, value, count) / beam_pixels,
        np.bincount(label, level, count) / np.maximum(pixels, 1), pixels, np.sqrt(spread / total),
    )
    return SourceList(*(getattr(table, name)[order] for name in table.__dataclass_fields__))
