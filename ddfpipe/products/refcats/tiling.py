"""Tiles that cover a field.

Circles lie on a hexagonal lattice of the field's tangent plane, so no place of the sky, poles
included, needs special care; HEALPix tiles (Gorski et al. 2005, ApJ 622, 759) are those of the
whole sky.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ddfpipe.data.images import SkyGrid
from ddfpipe.units import ARCMIN, DEGREE

RADIUS = 0.5 * DEGREE
OVERLAP = 0.95
"""Spacing of the circles in units of the widest that leaves no gap on a plane; the rest is for
the curvature of fields of up to 30 degrees."""
MARGIN = 1.5 * ARCMIN
"""Beyond the edge of the image, where counterparts of sources at the edge lie."""
NSIDE = 64


@dataclass(frozen=True)
class Tile:
    """A circle on the sky (ra, dec, radius; radians), or a HEALPix pixel.

    name: tells where it is, so that tiles of any field can lie in one folder.
    """

    name: str
    ra: float = 0.0
    dec: float = 0.0
    radius: float = 0.0
    pixel: int | None = None


def circles(grid: SkyGrid, radius: float = RADIUS) -> list[Tile]:
    """Circles of `radius` radians that cover an image and MARGIN around it."""
    half_x, half_y = (n * grid.cell / 2 + MARGIN for n in (grid.nx, grid.ny))
    across, up = OVERLAP * np.sqrt(3.0) * radius, OVERLAP * 1.5 * radius
    columns, rows = int(np.ceil(half_x / across)) + 1, int(np.ceil(half_y / up))
    tiles = []
    for row in range(-rows, rows + 1):
        m = row * up
        for column in range(-columns, columns + 1):
            l = (column + 0.5 * (row % 2)) * across  # noqa: E741
            outside = np.hypot(max(abs(l) - half_x, 0.0), max(abs(m) - half_y, 0.0))
            ra, dec = (float(v) for v in grid.radec(l, m))
            if outside < radius and np.isfinite(dec):
                tiles.append(Tile(_name(ra, dec, radius), ra, dec, radius))
    return tiles


def _name(ra: float, dec: float, radius: float) -> str:
    return f"{ra / DEGREE:08.4f}{dec / DEGREE:+08.4f}-r{radius / DEGREE:.2f}"


def healpix_tiles(grid: SkyGrid, nside: int = NSIDE) -> list[Tile]:
    """HEALPix pixels (ring scheme) that an image and MARGIN around it touch."""
    from ducc0.healpix import Healpix_Base

    base = Healpix_Base(nside, "RING")
    step = 0.02 * base.max_pixrad()
    half_x, half_y = (n * grid.cell / 2 + MARGIN for n in (grid.nx, grid.ny))
    l = np.linspace(-half_x, half_x, int(np.ceil(2 * half_x / step)) + 1)  # noqa: E741
    m = np.linspace(-half_y, half_y, int(np.ceil(2 * half_y / step)) + 1)
    ra, dec = grid.radec(*np.meshgrid(l, m))
    good = np.isfinite(dec)
    pixels = np.unique(base.ang2pix(np.stack([0.5 * np.pi - dec[good], ra[good]], axis=-1)))
    return [Tile(str(pixel), pixel=int(pixel)) for pixel in pixels]
