"""Multi-order coverage maps (MOC): the sky that an image covers, as HEALPix cells.

IVOA MOC 1.1 (Fernique et al. 2019): a FITS table of NUNIQ numbers, nested cells in ICRS, four
complete cells of an order joined into one of the order below.  HEALPix: Gorski et al. 2005, ApJ
622, 759.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from ddfpipe.products.mosaic.layout import Layout

CELL_PIXELS = 64
"""Cells are at most this many pixels wide."""
_STEP = CELL_PIXELS // 8
_HIGHEST = 29


def order_for(pixel: float) -> int:
    """Order whose cells are at most CELL_PIXELS pixels of `pixel` radians wide."""
    whole = math.sqrt(4.0 * math.pi / 12.0)  # side of a cell of order 0
    return min(_HIGHEST, max(0, math.ceil(math.log2(whole / (CELL_PIXELS * pixel)))))


def covered_cells(layout: Layout, covered: np.ndarray, rows: slice, columns: slice,
                  order: int) -> np.ndarray:
    """Nested cells of `order` that a piece of a mosaic covers, sorted.

    covered: (y, x) bool of the piece.  Every eighth of a cell's width is looked at.
    """
    from astropy import units
    from astropy_healpix import HEALPix

    y, x = np.nonzero(_any_in_blocks(covered))
    if y.size == 0:
        return np.empty(0, np.int64)
    middle = (_STEP - 1) / 2.0
    x = np.minimum(x * _STEP + middle, covered.shape[1] - 1)
    y = np.minimum(y * _STEP + middle, covered.shape[0] - 1)
    sky = layout.wcs(rows, columns).pixel_to_world(x, y).icrs
    grid = HEALPix(nside=2**order, order="nested")
    found = grid.lonlat_to_healpix(sky.ra.to(units.rad), sky.dec.to(units.rad))
    return np.unique(found)


def _any_in_blocks(covered: np.ndarray) -> np.ndarray:
    """Whether any pixel is true, in blocks of _STEP x _STEP (the last ones may be smaller)."""
    ny, nx = (-(-n // _STEP) for n in covered.shape)
    padded = np.zeros((ny * _STEP, nx * _STEP), bool)
    padded[:covered.shape[0], :covered.shape[1]] = covered
    return padded.reshape(ny, _STEP, nx, _STEP).any(axis=(1, 3))


def merged(cells: np.ndarray, order: int) -> dict[int, np.ndarray]:
    """Cells by order after joining complete groups of four."""
    out: dict[int, np.ndarray] = {}
    cells = np.unique(cells)
    while cells.size:
        parents, counts = np.unique(cells >> 2, return_counts=True)
        whole = parents[counts == 4] if order else parents[:0]
        rest = cells[~np.isin(cells >> 2, whole)]
        if rest.size:
            out[order] = rest
        cells, order = whole, order - 1
    return out


def write_moc(path: Path, cells: np.ndarray, order: int) -> None:
    """Write nested cells of one order as a MOC in a FITS table."""
    from astropy.io import fits

    groups = merged(cells, order)
    unique = [4 * 4**level + found for level, found in groups.items()]
    numbers = np.sort(np.concatenate(unique)) if unique else np.empty(0, np.int64)
    table = fits.BinTableHDU.from_columns([fits.Column("UNIQ", "K", array=numbers)])
    table.header.update({
        "PIXTYPE": "HEALPIX", "ORDERING": "NUNIQ", "COORDSYS": "C", "MOCORDER": order,
        "MOCVERS": "1.1", "MOCTOOL": "ddfpipe",
    })
    fits.HDUList([fits.PrimaryHDU(), table]).writeto(path, overwrite=True)
