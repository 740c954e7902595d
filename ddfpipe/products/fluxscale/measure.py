"""Fluxes of sources in every plane of a cube.

Sources are found on the mean image.  The flux in a plane is that of the components which
deconvolution found there, plus what its residual shows (`components`).  Where there are no
components, or a source is large, it is the total flux in the mean image times the ratio of the
plane to the mean image at the peak of the source.  A fit of its own in every plane would have to
find shape and position again in each, with the noise of one; neither way needs them, and all planes
refer to the same place.

Deconvolution describes spectra by few numbers, so what a wrong flux scale adds to one plane stays
in that plane's residual, with the shape of the dirty beam.  Dirty and restoring beam agree at
their peak only.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ddfpipe.data.images import read_image
from ddfpipe.errors import ImagingError
from ddfpipe.products.fluxscale.components import APERTURE, Deconvolution
from ddfpipe.products.sourcefinding import BOOTSTRAP, find_sources, scaled_boxes

if TYPE_CHECKING:
    from astropy.table import Table

REACH = 0.5
"""The brightest pixel is sought within this many times the size (FWHM) of the source."""
NOISE_RINGS, NOISE_PLACES = (4.0, 5.5, 7.0), 16
"""Distances in beams from a source, and places on each such ring, where noise is measured."""


def find_reference_sources(detection: Path, flux: Path, *, threads: int, output: Path,
                           monitor: Any = None) -> Table:
    """Catalogue of the mean image: found on the apparent one, fluxes of the intrinsic one.

    Raises what `find_sources` raises.
    """
    image = read_image(detection)
    settings = scaled_boxes(replace(BOOTSTRAP, spectral=False), image.grid.nx, image.grid.ny)
    return find_sources(detection, flux, settings, threads=threads, output=output,
                        monitor=monitor)


def channel_fluxes(
    cube: Path, mean: Path, ra: np.ndarray, dec: np.ndarray, total: np.ndarray,
    size: np.ndarray, check: Callable[[], None] = lambda: None,
    components: Deconvolution | None = None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Fluxes of n sources in the c planes of a cube.

    cube, mean: intrinsic restored images on one grid and beam.  ra, dec: (n,) rad.  total: (n,)
    Jy in the mean image.  size: (n,) FWHM in rad.  components: of the mean image.
    Returns frequencies (c,) in Hz, fluxes and errors (n, c) in Jy, NaN where a plane is blank.
    Raises ImagingError if the two images do not fit together.
    """
    planes, image = read_image(cube), read_image(mean)
    if image.beam is None or not planes.grid.same(image.grid):
        raise ImagingError(f"{cube} and {mean} are not on one grid, or have no beam: make both "
                           "again")
    grid, plane = image.grid, image.plane()
    beam = np.sqrt(image.beam[0] * image.beam[1]) / grid.cell
    y, x = grid.pixel_of(ra, dec)
    peaks = [
        Peak.about(plane, y[i], x[i], max(REACH * size[i] / grid.cell, 1.5))
        for i in range(len(total))
    ]
    small = np.asarray(size) / grid.cell <= APERTURE * beam
    gauges = [
        None if peak is None
        else Gauge(peak, float(total[i]), components if small[i] else None, plane, image.freq[0])
        for i, peak in enumerate(peaks)
    ]
    flux = np.full((len(total), len(planes.freq)), np.nan)
    error = flux.copy()
    for band, freq in enumerate(planes.freq):
        check()
        values = planes.plane(band)
        for i, gauge in enumerate(gauges):
            if gauge is not None:
                flux[i, band], error[i, band] = gauge.read(values, freq, beam)
    return planes.freq, flux, error


class Peak:
    """Where planes are compared: the peak of a source in the mean image.

    A quadratic surface through the 3 x 3 pixels about the brightest one gives place and height;
    the height of any plane at that place is a sum of its pixels with fixed weights.

    rows, columns: (9,) pixels.  weight: (9,) so that sum(weight * plane) is the plane's ratio to
    the mean image, whose height is `height`.
    """

    def __init__(self, rows: np.ndarray, columns: np.ndarray, weight: np.ndarray,
                 height: float) -> None:
        self.rows, self.columns, self.weight, self.height = rows, columns, weight, height

    @classmethod
    def about(cls, plane: np.ndarray, y: float, x: float, reach: float) -> "Peak | None":
        """The brightest peak within `reach` pixels of (y, x) in a mean image (y, x), or None."""
        rows, columns = _disc(y, x, reach, plane.shape)
        if rows.size == 0 or not np.isfinite(plane[rows, columns]).any():
            return None
        brightest = np.nanargmax(plane[rows, columns])
        top, left = rows[brightest] - 1, columns[brightest] - 1
        if min(top, left) < 0 or top + 3 > plane.shape[0] or left + 3 > plane.shape[1]:
            return None
        rows, columns = (part.ravel() for part in np.mgrid[top : top + 3, left : left + 3])
        values = plane[rows, columns].astype(float)
        if not np.isfinite(values).all() or values[4] <= 0:
            return None
        weight = _height(*_summit(values))
        height = float(weight @ values)
        return cls(rows, columns, weight / height, height) if height > 0 else None

    def ratio(self, plane: np.ndarray) -> float:
        """Plane over mean image."""
        return float(np.sum(self.weight * plane[self.rows, self.columns]))

    def noise(self, plane: np.ndarray, beam: float) -> float:
        """Standard deviation of `ratio` from the same sum at places round about.

        A median serves, so that other sources there do not count.
        """
        found = []
        for ring in NOISE_RINGS:
            for angle in 2 * np.pi * np.arange(NOISE_PLACES) / NOISE_PLACES:
                rows = self.rows + round(ring * beam * np.sin(angle))
                columns = self.columns + round(ring * beam * np.cos(angle))
                inside = (rows >= 0) & (rows < plane.shape[0]) & (columns >= 0) & (
                    columns < plane.shape[1])
                if inside.all():
                    found.append(np.sum(self.weight * plane[rows, columns]))
        values = np.array([value for value in found if np.isfinite(value)])
        if values.size < NOISE_PLACES:
            return float("nan")
        return 1.4826 * float(np.median(np.abs(values - np.median(values))))


class Gauge:
    """Reads the flux of one source in planes.

    peak: its peak in the mean image `plane` (y, x) at `freq` Hz, in which its flux is `total` Jy.
    components: of the mean image; without them, or without any at the peak, ratios of peaks serve.
    """

    def __init__(self, peak: Peak, total: float, components: Deconvolution | None,
                 plane: np.ndarray, freq: float) -> None:
        self.peak, self.total, self.source = peak, total, None
        if components is not None:
            source = components.source(peak.rows, peak.columns, peak.weight * peak.height)
            if source.flux(plane, freq) is not None:
                self.source = source

    def read(self, plane: np.ndarray, freq: float, beam: float) -> tuple[float, float]:
        """(flux, error) in Jy; NaN where the plane is blank.  beam: FWHM in pixels."""
        ratio, noise = self.peak.ratio(plane), self.peak.noise(plane, beam)
        if self.source is None:
            return self.total * ratio, self.total * noise
        found = self.source.flux(plane, freq)
        if found is None:
            return float("nan"), float("nan")
        return found[0], noise * self.peak.height / found[1]


def _basis(y: np.ndarray, x: np.ndarray) -> np.ndarray:
    """(n, 6) terms of a quadratic surface at (y, x)."""
    return np.stack([np.ones_like(y), y, x, y * y, x * y, x * x], axis=-1)


_Y, _X = (part.ravel().astype(float) for part in np.mgrid[-1:2, -1:2])
_FIT = np.linalg.pinv(_basis(_Y, _X))
"""(6, 9): least-squares quadratic surface through 3 x 3 pixels."""


def _summit(values: np.ndarray) -> tuple[float, float]:
    """Place (y, x) of the summit of 3 x 3 values (9,), relative to the middle one.

    The middle itself if the surface has no summit nearby.
    """
    _, y, x, yy, xy, xx = _FIT @ values
    det = 4 * yy * xx - xy**2
    if yy >= 0 or det <= 0:
        return 0.0, 0.0
    found = (xy * x - 2 * xx * y) / det, (xy * y - 2 * yy * x) / det
    return found if max(map(abs, found)) <= 1 else (0.0, 0.0)


def _height(y: float, x: float) -> np.ndarray:
    """(9,) weights of 3 x 3 values whose sum is the height of their surface at (y, x)."""
    return _basis(np.array([y]), np.array([x]))[0] @ _FIT


def _disc(y: float, x: float, radius: float, shape: tuple[int, int]):
    """(rows, columns) of the pixels within `radius` of (y, x) in an array of `shape`."""
    if not (np.isfinite(y) and np.isfinite(x)):
        return np.zeros(0, int), np.zeros(0, int)
    reach = int(np.ceil(radius))
    rows, columns = np.mgrid[round(y) - reach : round(y) + reach + 1,
                             round(x) - reach : round(x) + reach + 1]
    keep = np.hypot(rows - y, columns - x) <= radius
    keep &= (rows >= 0) & (rows < shape[0]) & (columns >= 0) & (columns < shape[1])
    return rows[keep], columns[keep]
