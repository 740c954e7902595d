"""Restored images: the model convolved with a Gaussian beam, plus the residual."""

from __future__ import annotations

import math

import numpy as np

from ddfpipe.errors import ImagingError
from ddfpipe.imaging.convolve import add_box, fft_convolve_full, gaussian_kernel, ordered_map
from ddfpipe.units import FWHM_TO_SIGMA

TILE = 1024

REACH = 4.5
"""Radius in sigma of the major axis out to which a restoring beam is painted."""


def beam_area(beam: tuple[float, float, float], cell: float) -> float:
    """Pixels of a Gaussian beam (major, minor FWHM, position angle; radians) of cells `cell` rad.

    Dividing a sum of Jy/beam over pixels by it gives Jy.
    """
    return math.pi * beam[0] * beam[1] / (4.0 * math.log(2.0) * cell * cell)


def convolve_model(
    model: np.ndarray,
    beam: tuple[float, float, float],
    cell: float,
    *,
    out: np.ndarray | None = None,
    threads: int = 1,
) -> np.ndarray:
    """Add `model` (ny, nx; Jy per pixel) convolved with `beam` to `out`; returns `out`, Jy/beam.

    beam: major and minor FWHM and position angle (north through east), radians; cell: radians.
    out: (ny, nx) float32, zeros when None.  Works in tiles that hold a component, so the memory
    beyond `out` is a few tiles.  Raises ImagingError for a beam under 1.5 pixels: its sampled peak
    would be wrong.
    """
    major, minor = beam[0] / cell, beam[1] / cell
    if not (math.isfinite(major) and major >= minor >= 1.5):
        raise ImagingError(
            f"restoring beam of {major:.2f} x {minor:.2f} pixels: major >= minor >= 1.5 is needed."
        )
    if out is None:
        out = np.zeros(model.shape, np.float32)
    if out.shape != model.shape:
        raise ImagingError(f"restoring: model {model.shape} and image {out.shape} differ.")
    kernel = gaussian_kernel(major, minor, beam[2], REACH)
    radius = kernel.shape[0] // 2

    def work(corner: tuple[int, int]):
        y0, x0 = corner
        tile = model[y0:y0 + TILE, x0:x0 + TILE]
        rows, cols = np.flatnonzero(tile.any(axis=1)), np.flatnonzero(tile.any(axis=0))
        if rows.size == 0:
            return None
        tile = tile[rows[0]:rows[-1] + 1, cols[0]:cols[-1] + 1]
        full = fft_convolve_full(np.asarray(tile, np.float32), kernel)
        return y0 + int(rows[0]) - radius, x0 + int(cols[0]) - radius, full

    ny, nx = model.shape
    corners = [(y, x) for y in range(0, ny, TILE) for x in range(0, nx, TILE)]
    for result in ordered_map(work, corners, threads):
        if result is not None:
            add_box(out, *result)
    return out


def add_points(
    y: np.ndarray, x: np.ndarray, flux: np.ndarray, beam: tuple[float, float, float], cell: float,
    out: np.ndarray,
) -> np.ndarray:
    """Add points at fractional pixels y, x (n,) of flux (n,) Jy, seen with the beam, to `out`.

    beam, cell: as of `convolve_model`; out (ny, nx) float32 Jy/beam, updated and returned.
    """
    sigma = beam[0] / cell * FWHM_TO_SIGMA, beam[1] / cell * FWHM_TO_SIGMA
    reach = math.ceil(REACH * sigma[0]) + 1
    step = np.arange(-reach, reach + 1)
    sin, cos = math.sin(beam[2]), math.cos(beam[2])
    for row, col, jy in zip(np.asarray(y, float), np.asarray(x, float), np.asarray(flux, float)):
        top, left = round(row), round(col)
        dy, dx = (step + top - row)[:, None], (step + left - col)[None]
        along, across = (dy * cos - dx * sin) / sigma[0], (dy * sin + dx * cos) / sigma[1]
        box = (jy * np.exp(-0.5 * (along**2 + across**2))).astype(np.float32)
        add_box(out, top - reach, left - reach, box)
    return out


def restore(
    model: np.ndarray,
    residual: np.ndarray,
    beam: tuple[float, float, float],
    cell: float,
    *,
    points: tuple[np.ndarray, np.ndarray, np.ndarray] | None = None,
    threads: int = 1,
) -> np.ndarray:
    """(ny, nx) float32: residual (Jy/beam) plus model (Jy per pixel) convolved with the beam.

    points: y, x, flux of components between pixels, see `add_points`.
    The same for apparent and intrinsic images: hand over model and residual of one kind.  NaN in
    the residual stay.
    """
    out = np.array(residual, dtype=np.float32)
    convolve_model(model, beam, cell, out=out, threads=threads)
    return out if points is None else add_points(*points, beam, cell, out)
