"""A catalogue in two passes: compact sources first, then what is too large for them.

Noise windows small enough to follow the noise around bright sources take extended emission for
noise and break it up.  The second pass uses wide windows and whole islands; where one of its
islands is large, its source takes the place of all sources of the first pass inside that island,
so that no flux is counted twice.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ddfpipe.data.atomic import atomic_path, remove, temporary_name
from ddfpipe.data.images import SkyGrid, read_image
from ddfpipe.errors import ImagingError
from ddfpipe.products.sourcefinding import (
    FinderSettings, NoSourcesFound, central_box, find_sources, scaled_boxes,
)
from ddfpipe.units import DEGREE

if TYPE_CHECKING:
    from astropy.table import Table

WIDER = 3
"""Noise windows of the second pass are so many times as wide as those of the first."""


@dataclass(frozen=True)
class Tiers:
    """How to make a catalogue.

    first: settings of the first pass; extended_beams: islands longer than so many beams are
    taken from the second pass, None for one pass only; fraction: central part of the image, of
    each side, that is searched.
    """

    first: FinderSettings
    extended_beams: float | None = 6.0
    fraction: float = 1.0

    def second(self) -> FinderSettings:
        """Settings of the second pass."""
        box = self.first.rms_box
        wide = None if box is None else (WIDER * box[0], WIDER * box[1])
        return replace(self.first, rms_box=wide, rms_box_bright=None, adaptive_thresh=None,
                       group_by_isl=True, atrous_do=True,
                       atrous_jmax=max(4, self.first.atrous_jmax))


@dataclass(frozen=True)
class Islands:
    """Islands of a mask: `number` (ny, nx) from 1, 0 outside; `extent` (count,) in pixels."""

    number: np.ndarray
    extent: np.ndarray
    grid: SkyGrid

    def of(self, ra: np.ndarray, dec: np.ndarray) -> np.ndarray:
        """(n,) numbers of the islands at positions in radians, 0 outside of all."""
        y, x = self.grid.pixel_of(ra, dec)
        inside = self.grid.inside(y, x)
        found = np.zeros(np.shape(y), int)
        rows, columns = np.rint(y[inside]).astype(int), np.rint(x[inside]).astype(int)
        found[inside] = self.number[rows, columns]
        return found


def make_catalogue(app: Path, intrinsic: Path, tiers: Tiers, products: dict[str, Path], *,
                   threads: int, monitor: Any = None) -> Table:
    """Find the sources of an image in one or two passes.

    app, intrinsic: apparent (detection) and beam-corrected image.  products: files to keep, by
    the kinds of `sourcefinding.find_sources` (rms, residual, mask, regions, gaussians are those
    of the first pass).  Returns PyBDSF's columns plus Pass (1 or 2) and N_pass1 (sources of the
    first pass that a source of the second stands for).  Raises what find_sources raises.
    """
    grid = read_image(intrinsic).grid
    box = central_box(grid.nx, grid.ny, tiers.fraction)
    searched = (grid.nx, grid.ny) if box is None else (box[1] - box[0], box[3] - box[2])
    first = replace(scaled_boxes(tiers.first, *searched), trim_box=box)
    table = find_sources(app, intrinsic, first, threads=threads, monitor=monitor,
                         exports=products)
    table["Pass"] = np.ones(len(table), np.int16)
    table["N_pass1"] = np.ones(len(table), np.int32)
    if tiers.extended_beams is not None:
        second = replace(scaled_boxes(tiers.second(), *searched), trim_box=box)
        table = _with_extended(table, app, intrinsic, second, tiers.extended_beams, grid,
                               products, threads, monitor)
    return table


def _with_extended(table: Table, app: Path, intrinsic: Path, settings: FinderSettings,
                   beams: float, grid: SkyGrid, products: dict[str, Path], threads: int,
                   monitor: Any) -> Table:
    """`table` with the large sources of a second pass."""
    from astropy.table import vstack

    home = next(iter(products.values()), intrinsic).absolute().parent
    mask = temporary_name(home / "islands.fits")
    try:
        large = find_sources(app, intrinsic, settings, threads=threads, monitor=monitor,
                             exports={"mask": mask})
        islands = read_islands(mask, grid, settings.trim_box)
    except NoSourcesFound:
        return table
    finally:
        remove(mask)
    beam = read_image(intrinsic).beam[0] / grid.cell
    drop, keep, count = merge_passes(table, large, islands, beams * beam)
    chosen = large[keep]
    chosen["Pass"] = np.full(len(chosen), 2, np.int16)
    chosen["N_pass1"] = count.astype(np.int32)
    # Numbers of the second pass go on where those of the first end.
    for name in ("Source_id", "Isl_id"):
        chosen[name] = chosen[name] + (int(table[name].max()) + 1)
    return vstack([table[~drop], chosen], metadata_conflicts="silent")


def merge_passes(first: Table, second: Table, islands: Islands, longest: float
                 ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Which sources of the first pass go, which of the second come, and for how many each stands.

    islands: those of the second pass; one longer than `longest` pixels replaces the sources of
    the first pass inside, but only where the first pass broke it up (more than one source) or
    holds less than 95 % of its flux.  Returns (drop (n1,), keep (n2,), count (kept,)).
    """
    where1 = islands.of(*positions(first))
    where2 = islands.of(*positions(second))
    keep = np.zeros(len(second), bool)
    drop = np.zeros(len(first), bool)
    count = []
    for k, island in enumerate(where2):
        inside = (where1 == island) & ~drop
        alone = np.count_nonzero(where2 == island) == 1
        if island == 0 or not alone or islands.extent[island - 1] <= longest:
            continue
        flux = float(np.sum(first["Total_flux"][inside]))
        if inside.sum() != 1 or flux < 0.95 * float(second["Total_flux"][k]):
            keep[k] = True
            drop |= inside
            count.append(int(inside.sum()))
    return drop, keep, np.array(count, int)


def read_islands(mask: Path, grid: SkyGrid, box: tuple[int, int, int, int] | None) -> Islands:
    """Islands of PyBDSF's mask, which covers `box` (xmin, xmax, ymin, ymax) of the image."""
    from astropy.io import fits
    from scipy.ndimage import find_objects, label

    whole = _placed(fits.getdata(mask), grid, box, 0.0) > 0
    number, _ = label(whole, structure=np.ones((3, 3)))
    extent = [np.hypot(s[0].stop - s[0].start, s[1].stop - s[1].start)
              for s in find_objects(number)]
    return Islands(number, np.array(extent), grid)


def on_whole_grid(product: Path, image: Path) -> np.ndarray:
    """(ny, nx) plane of a product of PyBDSF on the grid of `image`, NaN where it was not searched.

    A product of a part of an image has the reference pixel of that part.  Raises ImagingError for
    one that does not fit.
    """
    from astropy.io import fits

    grid = read_image(image).grid
    with fits.open(product) as hdus:
        header, values = hdus[0].header, np.asarray(hdus[0].data)
    shift = [int(round(size // 2 + 1 - header[f"CRPIX{axis}"]))
             for axis, size in ((1, grid.nx), (2, grid.ny))]
    ny, nx = values.shape[-2:]
    if min(shift) < 0 or shift[0] + nx > grid.nx or shift[1] + ny > grid.ny:
        raise ImagingError(f"{product}: is no part of {image}; delete it and start again.")
    box = (shift[0], shift[0] + nx, shift[1], shift[1] + ny)
    return _placed(values, grid, box, np.nan)


def _placed(values: np.ndarray, grid: SkyGrid, box: tuple[int, int, int, int] | None,
            outside: float) -> np.ndarray:
    """(ny, nx) float32 with the last two axes of `values` in `box`, `outside` elsewhere."""
    part = values.reshape(values.shape[-2:])
    whole = np.full(grid.shape, outside, np.float32)
    x0, y0 = (box[0], box[2]) if box is not None else (0, 0)
    whole[y0:y0 + part.shape[0], x0:x0 + part.shape[1]] = part
    return whole


def write_catalogue(table: Table, path: Path) -> None:
    """Keep a catalogue as FITS, whole or not at all."""
    with atomic_path(path) as part:
        table.write(part, format="fits")


def positions(table: Table) -> tuple[np.ndarray, np.ndarray]:
    """Right ascensions and declinations of a catalogue, radians."""
    return np.asarray(table["RA"], float) * DEGREE, np.asarray(table["DEC"], float) * DEGREE
