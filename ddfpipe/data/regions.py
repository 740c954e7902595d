"""ds9 regions: facet layouts (`.tessel.reg`), masks and positions.

A facet layout is written as DDFacet writes it, one `point` with the facet's label at its direction
followed by the `line`s of its edges, in fk5 degrees: tools of the surveys parse exactly that.
Reading also takes the layout of WSClean and DP3, one `polygon` with an optional `point`.

DDFacet writes points and edges of one file in different orders, so that a point is seldom followed
by the edges of its facet: labels and centres go by where the point lies.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ddfpipe.data.atomic import atomic_write_text
from ddfpipe.data.images import SkyGrid
from ddfpipe.errors import SkyModelError
from ddfpipe.units import DEGREE

_HEADER = (
    "# Region file format: DS9 version 4.1\n"
    'global color=green dashlist=8 3 width=1 font="helvetica 10 normal roman" select=1 highlite=1'
    " dash=0 fixed=0 edit=1 move=1 delete=1 include=1 source=1\n"
    "fk5\n"
)
_SHAPE = re.compile(r"^\s*(point|line|polygon)\s*\(([^)]*)\)(.*)$", re.IGNORECASE)
_LABEL = re.compile(r"text\s*=\s*[{\"']\[?([^}\]\"']*)\]?[}\"']")


@dataclass(frozen=True)
class FacetOutline:
    """One facet: label, centre (ra, dec) and polygon (n, 2) of (ra, dec), radians."""

    label: str
    centre: tuple[float, float] | None
    polygon: np.ndarray


def write_tessel(path: Path | str, facets: Sequence[FacetOutline]) -> Path:
    """Write facet outlines as `.tessel.reg`, atomically.  Every facet needs a centre."""
    lines = [_HEADER]
    for facet in facets:
        if facet.centre is None:
            raise SkyModelError(f"{path}: facet {facet.label!r} has no centre to write.")
        ra, dec = (v / DEGREE for v in facet.centre)
        lines.append(
            f"point({ra % 360.0:.6f},{dec:.6f}) # text={{[{facet.label}]}} point=circle 5 "
            "color=red width=2\n"
        )
        corners = np.asarray(facet.polygon, float) / DEGREE
        for (ra0, dec0), (ra1, dec1) in zip(corners, np.roll(corners, -1, axis=0)):
            lines.append(
                f"line({ra0 % 360.0:.6f},{dec0:.6f},{ra1 % 360.0:.6f},{dec1:.6f})"
                " # line=0 0 color=green dash=1 \n"
            )
    atomic_write_text(path, "".join(lines))
    return Path(path)


def read_tessel(path: Path | str) -> list[FacetOutline]:
    """Read facet outlines (lines that join up to a polygon, or polygons), in the file's order.

    A label and centre belong to the polygon about them, else to the one that is left over, nearest
    first.
    Raises SkyModelError when there are none or the lines of a facet do not join up.
    """
    path = Path(path)
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as err:
        raise SkyModelError(f"{path}: facet layout cannot be read ({err}).") from err
    facets: list[FacetOutline] = []
    label, centre, edges = "", None, []

    def close_lines() -> None:
        if edges:
            name = label or f"F{len(facets)}"
            facets.append(FacetOutline(name, centre, _joined(edges, name, path) * DEGREE))
            edges.clear()

    for number, line in enumerate(lines, start=1):
        match = _SHAPE.match(line)
        if not match:
            continue
        kind, values = match[1].lower(), _numbers(match[2], path, number)
        if kind == "line":
            edges.append(values)
            continue
        close_lines()
        if kind == "polygon":
            corners = np.reshape(values, (-1, 2)) * DEGREE
            facets.append(FacetOutline(f"F{len(facets)}", None, corners))
            continue
        found = _LABEL.search(match[3])
        label, centre = found[1] if found else "", tuple(v * DEGREE for v in values[:2])
        if facets and facets[-1].centre is None:  # WSClean: the point follows its polygon
            facets[-1] = FacetOutline(label or facets[-1].label, centre, facets[-1].polygon)
    close_lines()
    if not facets:
        raise SkyModelError(f"{path}: no facets (lines or polygons in fk5 degrees) found.")
    return _matched(facets)


def _matched(facets: list[FacetOutline]) -> list[FacetOutline]:
    """Facets whose labels and centres are those of the points inside their polygons."""
    if any(facet.centre is None for facet in facets):
        return facets
    corners = np.concatenate([facet.polygon for facet in facets])
    ra0, dec0 = mean_direction(corners)
    plane = SkyGrid(ra0, dec0, 1, 1, 1.0)
    polygons = [np.stack(plane.lm_of(*facet.polygon.T), axis=1) for facet in facets]
    points = np.stack(plane.lm_of(*np.array([facet.centre for facet in facets]).T), axis=1)
    inside = np.array([_contains(polygon, points) for polygon in polygons])
    if np.diag(inside).all():
        return facets
    distance = np.array([np.hypot(*(points - polygon.mean(axis=0)).T) for polygon in polygons])
    cost = np.where(np.isfinite(distance), distance, 1e3) + 1e4 * ~inside
    order = np.empty(len(facets), int)
    for _ in facets:
        which, point = np.unravel_index(np.argmin(cost), cost.shape)
        order[which] = point
        cost[which], cost[:, point] = np.inf, np.inf
    return [FacetOutline(facets[k].label, facets[k].centre, facet.polygon)
            for facet, k in zip(facets, order)]


def mean_direction(places: np.ndarray) -> tuple[float, float]:
    """(ra, dec) of the mean of (n, 2) directions, safe across 0h."""
    ra, dec = places.T
    x, y, z = (np.cos(dec) * np.cos(ra)).sum(), (np.cos(dec) * np.sin(ra)).sum(), np.sin(dec).sum()
    return float(np.arctan2(y, x)), float(np.arctan2(z, np.hypot(x, y)))


def _contains(polygon: np.ndarray, points: np.ndarray) -> np.ndarray:
    """(n,) bool: points (n, 2) inside a polygon (k, 2), by the number of edges to their right."""
    (x0, y0), (x1, y1) = polygon.T[:, :, None], np.roll(polygon, -1, axis=0).T[:, :, None]
    x, y = points.T
    crossing = (y0 > y) != (y1 > y)
    with np.errstate(divide="ignore", invalid="ignore"):
        right = x < x0 + (y - y0) / (y1 - y0) * (x1 - x0)
    return (crossing & right).sum(axis=0) % 2 == 1


def write_polygons(path: Path | str, facets: Sequence[FacetOutline], *,
                   labels: bool = True) -> Path:
    """Write facet outlines as WSClean and DP3 want them, one polygon each.

    labels: a point with the facet's label after each polygon, which names the direction of its
    gains for DP3.  WSClean 3.1 mistakes these points: leave them out for it, then every facet
    takes the gains of the nearest direction.
    """
    lines = [_HEADER]
    for facet in facets:
        corners = np.asarray(facet.polygon, float) / DEGREE
        text = ",".join(f"{ra % 360.0:.9f},{dec:.9f}" for ra, dec in corners)
        lines.append(f"polygon({text})\n")
        if labels and facet.centre is not None:
            ra, dec = (v / DEGREE for v in facet.centre)
            lines.append(f"point({ra % 360.0:.9f},{dec:.9f}) # text={{{facet.label}}}\n")
    atomic_write_text(path, "".join(lines))
    return Path(path)


def _numbers(text: str, path: Path, number: int) -> list[float]:
    try:
        values = [float(word) for word in text.replace(",", " ").split()]
    except ValueError:
        values = []
    if not values or len(values) % 2:
        raise SkyModelError(f"{path}, line {number}: coordinates must be plain degrees in fk5.")
    return values


def _joined(edges: list[list[float]], label: str, path: Path) -> np.ndarray:
    """(n, 2) corners of a closed chain of edges (x0, y0, x1, y1)."""
    chain = np.asarray(edges, float).reshape(-1, 4)
    following = np.roll(chain[:, :2], -1, axis=0)
    if len(chain) < 3 or not np.allclose(chain[:, 2:], following, atol=2e-6):
        raise SkyModelError(f"{path}: the edges of facet {label!r} do not join up to a polygon.")
    return chain[:, :2]


def read_shapes(path: Path | str):
    """Shapes of a ds9 region file; SkyModelError when it cannot be understood."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # pyregion uses deprecated names of pyparsing
            import pyregion

            shapes = pyregion.open(str(path))
    except Exception as err:  # pyregion and pyparsing raise many kinds
        raise SkyModelError(f"{path}: not a readable ds9 region file ({err}).") from err
    if len(shapes) == 0:
        raise SkyModelError(f"{path}: the region file holds no shapes.")
    return shapes


def region_mask(path: Path | str, grid: SkyGrid) -> np.ndarray:
    """(ny, nx) bool, true inside the shapes of a ds9 region file (excluded shapes cut out)."""
    header = grid.wcs().to_header()
    header["NAXIS"], header["NAXIS1"], header["NAXIS2"] = 2, grid.nx, grid.ny
    shapes = read_shapes(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return np.asarray(shapes.as_imagecoord(header).get_mask(shape=grid.shape), bool)
    except Exception as err:
        raise SkyModelError(f"{path}: shapes cannot be drawn on the image ({err}).") from err


def region_centres(path: Path | str) -> tuple[np.ndarray, list[str]]:
    """Centres (n, 2) of the shapes as (ra, dec) in radians, and their text labels ("" if none)."""
    from astropy.coordinates import SkyCoord

    positions, names = [], []
    for shape in read_shapes(path):
        values = np.asarray(shape.coord_list, float)
        if shape.name == "polygon":
            # The mean of unit vectors is safe across 0h.
            corners = SkyCoord(*values.reshape(-1, 2).T, unit="deg", frame=_frame(shape, path))
            where = SkyCoord(corners.cartesian.mean(), frame=corners.frame)
        else:
            where = SkyCoord(values[0], values[1], unit="deg", frame=_frame(shape, path))
        where = where.transform_to("fk5").spherical
        positions.append((where.lon.rad, where.lat.rad))
        names.append((shape.attr[1].get("text", "") if shape.attr else "").strip("[]"))
    return np.array(positions), names


def _frame(shape, path: Path | str) -> str:
    frame = {"fk5": "fk5", "j2000": "fk5", "icrs": "icrs", "galactic": "galactic"}.get(
        shape.coord_format
    )
    if frame is None:
        raise SkyModelError(f"{path}: coordinates {shape.coord_format!r}; save the region as fk5.")
    return frame
