"""Images moved facet by facet.

What was cleaned is restored anew, every component's beam drawn at the component's corrected
place (between pixels too) and across the edges of facets, so a source on an edge stays whole.
What was not cleaned, and an image of which there are no components, is interpolated: each pixel of
the result takes its value from where its facet's sky is now, also when that lies across the edge;
neighbours whose offsets differ then lose or repeat a strip as wide as the difference, which is a
fraction of a pixel.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from ddfpipe.errors import ImagingError
from ddfpipe.imaging.convolve import add_box, fft_convolve_full
from ddfpipe.units import FWHM_TO_SIGMA

TAPS = 8
"""Half the length of the interpolation's kernel in pixels."""
KAISER = 8.0
"""Shape of the kernel's window; with TAPS, errors below 1e-4 up to 0.35 cycles a pixel."""
ROWS, TILE = 1024, 1024


def shift_in_pixels(east: np.ndarray, north: np.ndarray, cell: float
                    ) -> tuple[np.ndarray, np.ndarray]:
    """(dy, dx) by which the pixels of facets have to move to undo offsets.

    east, north: (facets,) image minus reference, radians; cell: radians.
    """
    return -np.asarray(north, float) / cell, np.asarray(east, float) / cell


def shift_image(image: np.ndarray, labels: np.ndarray, dy: np.ndarray, dx: np.ndarray, *,
                check: Callable[[], None] = lambda: None) -> np.ndarray:
    """(ny, nx) float32 `image` moved by (dy, dx) pixels in each facet, by interpolation.

    image: (ny, nx), may be a memory map; blank pixels (NaN) move along.  labels: (ny, nx) number
    of the facet of each pixel of the result, below zero for none (those stay).  dy, dx: (facets,)
    pixels, towards higher indices.  check: called between portions; may raise.
    """
    image = np.asarray(image)
    if image.shape != labels.shape:
        raise ImagingError(f"image {image.shape} and facet map {labels.shape} differ in shape.")
    out = np.array(image, np.float32)
    for number, rows, columns in portions(labels, ROWS):
        if dy[number] == 0.0 and dx[number] == 0.0:
            continue
        check()
        mine = labels[rows, columns] == number
        out[rows, columns][mine] = _moved(image, rows, columns, dy[number], dx[number])[mine]
    return out


def restore_shifted(model: np.ndarray, residual: np.ndarray, labels: np.ndarray, dy: np.ndarray,
                    dx: np.ndarray, beam: tuple[float, float, float], cell: float, *,
                    check: Callable[[], None] = lambda: None) -> np.ndarray:
    """(ny, nx) float32 restored image (Jy/beam) with each facet moved by (dy, dx) pixels.

    model: (ny, nx) Jy a pixel; residual: (ny, nx) Jy/beam; either may be a memory map.  beam:
    major and minor FWHM and position angle, radians; cell: radians.  Others as for `shift_image`.
    Raises ImagingError for shapes that differ and for a beam under 1.5 pixels.
    """
    if model.shape != labels.shape:
        raise ImagingError(f"model {model.shape} and facet map {labels.shape} differ in shape.")
    if not beam[0] >= beam[1] >= 1.5 * cell:
        raise ImagingError(
            f"restoring beam of {beam[0] / cell:.2f} x {beam[1] / cell:.2f} pixels: "
            "major >= minor >= 1.5 is needed.")
    out = shift_image(residual, labels, dy, dx, check=check)
    size = beam[0] / cell, beam[1] / cell, beam[2]
    for number, rows, columns in portions(labels, TILE, outside=True):
        tile = np.where(labels[rows, columns] == number, model[rows, columns], 0.0)
        tile = np.nan_to_num(tile).astype(np.float32)
        used_rows, used_columns = (np.flatnonzero(tile.any(axis=a)) for a in (1, 0))
        if used_rows.size == 0:
            continue
        check()
        move = (dy[number], dx[number]) if number >= 0 else (0.0, 0.0)
        whole = np.rint(move).astype(int)
        kernel = shifted_beam(*size, move[0] - whole[0], move[1] - whole[1])
        tile = tile[used_rows[0]:used_rows[-1] + 1, used_columns[0]:used_columns[-1] + 1]
        radius = kernel.shape[0] // 2
        add_box(out, rows.start + int(used_rows[0]) + int(whole[0]) - radius,
                columns.start + int(used_columns[0]) + int(whole[1]) - radius,
                fft_convolve_full(tile, kernel))
    return out


def shifted_beam(major: float, minor: float, angle: float, dy: float, dx: float) -> np.ndarray:
    """Elliptical Gaussian of peak one about (dy, dx) from the middle of an odd square, float32.

    major, minor: FWHM in pixels; angle: radians from north (+y) to east (-x).
    """
    radius = math.ceil(5.0 * major * FWHM_TO_SIGMA) + 1
    y, x = np.mgrid[-radius:radius + 1, -radius:radius + 1].astype(float)
    y, x = y - dy, x - dx
    along = y * math.cos(angle) - x * math.sin(angle)
    across = y * math.sin(angle) + x * math.cos(angle)
    kernel = np.exp(-0.5 * ((along / (major * FWHM_TO_SIGMA)) ** 2
                            + (across / (minor * FWHM_TO_SIGMA)) ** 2))
    return kernel.astype(np.float32)


def portions(labels: np.ndarray, size: int, outside: bool = False):
    """(facet, rows, columns) of pieces of at most `size` pixels a side that hold each facet.

    outside: the pixels of no facet too, as facet -1.
    """
    from scipy.ndimage import find_objects

    # Labels from 1 for find_objects; those of no facet would be the last of them.
    shifted = labels + np.int16(1) if not outside else labels + np.int16(2)
    first = -1 if outside else 0
    for number, box in enumerate(find_objects(shifted), start=first):
        if box is None:
            continue
        rows, columns = box
        for y in range(rows.start, rows.stop, size):
            for x in range(columns.start, columns.stop, size):
                yield (number, slice(y, min(y + size, rows.stop)),
                       slice(x, min(x + size, columns.stop)))


def _moved(image: np.ndarray, rows: slice, columns: slice, dy: float, dx: float) -> np.ndarray:
    """The piece (rows, columns) of `image` moved by (dy, dx), zero from beyond the edges."""
    whole_y, whole_x = math.floor(dy + 0.5), math.floor(dx + 0.5)
    box = _cut(image, rows.start - whole_y - TAPS, rows.stop - whole_y + TAPS,
               columns.start - whole_x - TAPS, columns.stop - whole_x + TAPS)
    blank = ~np.isfinite(box)
    box[blank] = 0.0
    moved = _interpolate(_interpolate(box, dy - whole_y, 0), dx - whole_x, 1)
    inner = (slice(TAPS, -TAPS), slice(TAPS, -TAPS))
    moved = moved[inner]
    moved[blank[inner]] = np.nan
    return moved


def _cut(image: np.ndarray, y0: int, y1: int, x0: int, x1: int) -> np.ndarray:
    """(y1 - y0, x1 - x0) float32 copy of a piece of an image, zero beyond its edges."""
    box = np.zeros((y1 - y0, x1 - x0), np.float32)
    ya, yb = max(y0, 0), min(y1, image.shape[0])
    xa, xb = max(x0, 0), min(x1, image.shape[1])
    if yb > ya and xb > xa:
        box[ya - y0:yb - y0, xa - x0:xb - x0] = image[ya:yb, xa:xb]
    return box


def _interpolate(box: np.ndarray, shift: float, axis: int) -> np.ndarray:
    """`box` moved by a fraction of a pixel along an axis (Kaiser-windowed sinc)."""
    from scipy.ndimage import correlate1d

    if abs(shift) < 1e-6:
        return box
    taps = np.arange(-TAPS, TAPS + 1)
    kernel = np.sinc(taps + shift)
    kernel *= np.i0(KAISER * np.sqrt(np.clip(1.0 - ((taps + shift) / (TAPS + 0.5)) ** 2, 0, 1)))
    return correlate1d(box, kernel / kernel.sum(), axis=axis, mode="constant")
