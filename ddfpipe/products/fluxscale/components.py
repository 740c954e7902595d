"""Fluxes of sources from the components of a deconvolved image and what was left of them.

Errors of phases that calibration has not taken out blur a source, low frequencies more than high
ones, so that the ratio of two planes at the peak is not that of their fluxes.  What lies in the
halo round the peak is in the components of the deconvolution: their sum needs no peak.  What a
wrong flux scale adds to one plane is not, since the model has a smooth spectrum; it is left in the
residual, as the components seen through the dirty beam, and its height at the peak tells how much
of them it is.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.ndimage import map_coordinates

from ddfpipe.data.images import read_image
from ddfpipe.data.model import PixelModel, load_model
from ddfpipe.errors import ImagingError
from ddfpipe.units import FWHM_TO_SIGMA

APERTURE = 2.0
"""Components within so many beams of a source's peak are of the source."""
REACH = 4.0
"""Components farther away than so many beams add nothing to the restored peak."""
LEAST_HEIGHT = 0.3
"""A dirty source with a lower peak (for a flux of one) is too wide for its peak to tell."""


@dataclass(frozen=True)
class Deconvolution:
    """Components of an image and the shapes in which they and their residuals are seen.

    model: in intrinsic flux.  y, x: (n,) pixels of its components.  psf: (y, x) dirty beam with its
    peak at `centre` (y, x), at `freq` Hz; at other frequencies it is as much narrower as they are
    higher, for the same baselines make it.  beam: FWHM of the restoring beam in pixels.
    """

    model: PixelModel
    y: np.ndarray
    x: np.ndarray
    psf: np.ndarray
    centre: tuple[int, int]
    freq: float
    beam: float

    @classmethod
    def read(cls, model: Path, psf: Path, mean: Path) -> "Deconvolution":
        """Of the restored image `mean`.  Raises ImagingError or SkyModelError for bad files."""
        components, shape, image = load_model(model), read_image(psf).plane(), read_image(mean)
        if image.beam is None or not components.grid.same(image.grid):
            raise ImagingError(f"{model} and {mean} are not on one grid, or the image has no beam: "
                               "make them again")
        top = np.unravel_index(int(np.nanargmax(shape)), shape.shape)
        y, x = components.place()
        return cls(components, y, x, np.asarray(shape, float), (int(top[0]), int(top[1])),
                   float(image.freq[0]), float(np.sqrt(image.beam[0] * image.beam[1])
                                               / image.grid.cell))

    def source(self, rows: np.ndarray, columns: np.ndarray, weight: np.ndarray) -> "Source":
        """The source whose height is sum(weight * plane) over pixels (rows, columns) at its peak.

        rows, columns, weight: (k,).
        """
        y, x = float(rows.mean()), float(columns.mean())
        distance = np.hypot(self.y - y, self.x - x)
        seen = distance < (APERTURE + REACH) * self.beam
        return Source(self, rows, columns, weight, np.flatnonzero(seen),
                      distance[seen] < APERTURE * self.beam)


@dataclass(frozen=True)
class Source:
    """Components round a peak.  members: those seen there; own: (members,) those of the source."""

    of: Deconvolution
    rows: np.ndarray
    columns: np.ndarray
    weight: np.ndarray
    members: np.ndarray
    own: np.ndarray

    def flux(self, plane: np.ndarray, freq: float) -> tuple[float, float] | None:
        """(flux in Jy, height of a dirty source of one Jy) in a restored plane at `freq` Hz.

        None where there are no components, or the source is too wide.
        """
        found = self.of.model.select(self.members).at([freq])[0].astype(float)
        mine = np.where(self.own, found, 0.0)
        total = mine.sum()
        if not total > 0:
            return None
        dirty = self._height(self._dirty(freq)) @ mine / total
        if dirty < LEAST_HEIGHT:
            return None
        left = float(self.weight @ plane[self.rows, self.columns])
        left -= self._height(self._restored) @ found
        return float(total + left / dirty), float(dirty)

    def _height(self, shape: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> np.ndarray:
        """(members,) height at the peak of each component of one Jy, seen in a shape."""
        dy = self.rows[:, None] - self.of.y[self.members]
        dx = self.columns[:, None] - self.of.x[self.members]
        return self.weight @ shape(dy, dx)

    def _restored(self, dy: np.ndarray, dx: np.ndarray) -> np.ndarray:
        sigma = self.of.beam * FWHM_TO_SIGMA
        return np.exp(-(dy**2 + dx**2) / (2 * sigma**2))

    def _dirty(self, freq: float) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
        scale, (y, x) = freq / self.of.freq, self.of.centre
        return lambda dy, dx: map_coordinates(
            self.of.psf, [y + scale * dy, x + scale * dx], order=3)
