"""Noise of an image as a whole and facet by facet."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ddfpipe import naming
from ddfpipe.data.atomic import atomic_path
from ddfpipe.data.images import SkyGrid, grid_of_header
from ddfpipe.data.regions import read_tessel
from ddfpipe.errors import DataError
from ddfpipe.imaging.noise import robust_noise
from ddfpipe.products.planes import create_plane, open_plane

CENTRAL_PIXELS = 1000
"""Side of the central square that gives the noise of an image as a whole."""
_ROWS = 512


def central_noise(plane: np.ndarray, size: int = CENTRAL_PIXELS) -> float:
    """Noise of the central `size` x `size` pixels of an image (y, x), in its unit."""
    rows, columns = (
        slice(max(0, (n - size) // 2), (n + size) // 2) for n in plane.shape
    )
    return robust_noise(plane[rows, columns])


def facet_noise(plane: np.ndarray, grid: SkyGrid, facets: Path) -> np.ndarray:
    """(y, x) float32 noise map with one value a facet; that of the whole image outside of them.

    Raises SkyModelError when the facet layout cannot be read.
    """
    noise = np.full(plane.shape, robust_noise(plane), np.float32)
    for outline in facet_outlines(grid, facets):
        paint_facet(noise, plane, outline)
    return noise


def facet_outlines(grid: SkyGrid, facets: Path) -> list[np.ndarray]:
    """Corners (n, 2) of each facet as fractional pixels (x, y) of `grid`."""
    outlines = []
    for facet in read_tessel(facets):
        y, x = grid.pixel_of(facet.polygon[:, 0], facet.polygon[:, 1])
        outlines.append(np.column_stack([x, y]))
    return outlines


def paint_facet(noise: np.ndarray, plane: np.ndarray, outline: np.ndarray) -> None:
    """Set the pixels of `noise` inside a polygon to the noise of `plane` there.

    noise, plane: (y, x), memory maps are read and written only around the polygon.  Left as it is
    where nothing inside is valid.
    """
    from matplotlib.path import Path as Outline

    x0, y0 = (max(0, int(v)) for v in outline.min(axis=0))
    x1, y1 = (int(v) + 2 for v in outline.max(axis=0))
    rows, columns = slice(y0, min(y1, plane.shape[0])), slice(x0, min(x1, plane.shape[1]))
    box = np.asarray(plane[rows, columns], np.float32)
    if box.size == 0:
        return
    inside, outline = np.zeros(box.shape, bool), Outline(outline)
    for start in range(0, len(box), _ROWS):
        part = inside[start:start + _ROWS]
        y, x = np.mgrid[y0 + start:y0 + start + len(part), x0:x0 + box.shape[1]]
        points = np.column_stack([x.ravel(), y.ravel()])
        part[...] = outline.contains_points(points).reshape(part.shape)
    value = robust_noise(box[inside]) if inside.any() else np.nan
    if np.isfinite(value):
        noise[rows, columns][inside] = value


def write_facet_noise(image: Path, facets: Path, output: Path | None = None) -> Path:
    """Write the noise map of a FITS image, ``<image>_facetnoise.fits``; returns its path.

    Pixels that are NaN or zero in the image are left out of the estimates.  The memory needed is
    that of the largest facet and of a sample for the whole image.
    Raises ImagingError or SkyModelError when image or layout cannot be read, DataError when the
    image has no valid pixel.
    """
    source = open_plane(image)
    output = output or Path(naming.beside_image(image, "facetnoise"))
    grid = grid_of_header(source.header, image)
    whole = robust_noise(source.sample(max(1, max(source.shape) // 2000)))
    if not np.isfinite(whole):
        raise DataError(f"{image}: no valid pixels; no noise can be measured.")
    header = source.header.copy()
    header["BTYPE"] = "Noise"
    header.add_history(f"ddfpipe facet noise of {image.name}, facets of {facets.name}")
    for axis in range(3, header["NAXIS"] + 1):
        header[f"NAXIS{axis}"] = 1
    outlines = facet_outlines(grid, facets)
    with atomic_path(output) as part:
        target = create_plane(part, header)
        noise = np.memmap(part, target.dtype, "r+", target.offset, target.shape)
        for start in range(0, len(noise), _ROWS):
            noise[start:start + _ROWS] = whole
        plane = np.memmap(image, source.dtype, "r", source.offset, source.shape)
        for outline in outlines:
            paint_facet(noise, plane, outline)
        noise.flush()
    return output


def tessel_of(image: Path) -> Path:
    """The facet layout of a pipeline's image: ``<root>.tessel.reg``, else the final image's.

    Raises DataError when there is neither.
    """
    name, folder = image.name, image.parent
    for suffix in (".int.", ".app.", "_shift.", ".dirty."):
        name = name.split(suffix)[0]
    for root in (name, naming.FINAL_IMAGE):
        found = folder / naming.image_product(root, "tessel")
        if found.is_file():
            return found
    raise DataError(f"{folder}: no facet layout {naming.image_product(name, 'tessel')} here; copy "
                    "that of the image to this directory.")
