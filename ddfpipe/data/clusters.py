"""Catalogues of calibration directions.

The file is a plain numpy array of records, the layout of killMS and DDFacet:

    Name S200, ra f8, dec f8, SumI f8, Cluster i8, l f8, m f8

with ra and dec in radians and SumI in Jy.  Those programs write l = m = 0 and some write the fields
in another order: reading goes by name, and l, m are always computed from the positions.
Other ways for a user to hand over directions: a ds9 region file with points, circles or boxes, and
text with right ascension and declination in degrees (and optionally flux in Jy) on each line.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ddfpipe.data.atomic import atomic_path
from ddfpipe.data.images import SkyGrid
from ddfpipe.errors import SkyModelError
from ddfpipe.units import ARCSEC, DEGREE

CLUSTER_DTYPE = np.dtype([
    ("Name", "S200"), ("ra", "<f8"), ("dec", "<f8"), ("SumI", "<f8"), ("Cluster", "<i8"),
    ("l", "<f8"), ("m", "<f8"),
])
MIN_SEPARATION = 1.0 * ARCSEC


@dataclass(frozen=True)
class Directions:
    """Calibration directions: arrays (n,); ra, dec radians, flux Jy, names str."""

    ra: np.ndarray
    dec: np.ndarray
    flux: np.ndarray
    names: tuple[str, ...]

    @property
    def size(self) -> int:
        """Number of directions."""
        return self.ra.size

    def lm(self, ra0: float, dec0: float) -> tuple[np.ndarray, np.ndarray]:
        """Direction cosines about (ra0, dec0), radians; NaN when behind the tangent plane."""
        return SkyGrid(ra0, dec0, 1, 1, 1.0).lm_of(self.ra, self.dec)


def make_directions(ra, dec, flux=None, names=None) -> Directions:
    """Validated Directions; unnamed ones are called dir00, dir01, ...

    Raises SkyModelError when there is none, a value is not finite, a declination is beyond the
    pole (degrees taken for radians) or two directions coincide.
    """
    ra = np.atleast_1d(np.asarray(ra, float))
    dec = np.atleast_1d(np.asarray(dec, float))
    flux = np.zeros(ra.size) if flux is None else np.atleast_1d(np.asarray(flux, float))
    if names is None:
        names = [""] * ra.size
    names = tuple(name or f"dir{i:02d}" for i, name in enumerate(names))
    if ra.size == 0:
        raise SkyModelError("no directions: at least one is needed.")
    if not (ra.size == dec.size == flux.size == len(names)):
        raise SkyModelError("directions: ra, dec, flux and names differ in length.")
    if not np.isfinite(np.concatenate([ra, dec, flux])).all():
        raise SkyModelError("directions: positions and fluxes must be finite numbers.")
    if (np.abs(dec) > math.pi / 2 + 1e-9).any() or (np.abs(ra) > 4 * math.pi).any():
        raise SkyModelError("directions: ra and dec must be radians (|dec| <= pi/2).")
    xyz = np.stack([np.cos(dec) * np.cos(ra), np.cos(dec) * np.sin(ra), np.sin(dec)], axis=1)
    chord = np.linalg.norm(xyz[:, None] - xyz[None], axis=2)
    chord[np.tril_indices(ra.size)] = np.inf
    if chord.min(initial=np.inf) < MIN_SEPARATION:
        i, j = np.unravel_index(np.argmin(chord), chord.shape)
        raise SkyModelError(f"directions {names[i]} and {names[j]} coincide; remove one.")
    return Directions(np.mod(ra, 2 * math.pi), dec, flux, names)


def write_clusters(path: Path | str, directions: Directions, centre=None) -> Path:
    """Write the catalogue.  centre: (ra, dec) of the tangent plane that l, m refer to, or None."""
    path = Path(path)
    table = np.zeros(directions.size, CLUSTER_DTYPE)
    table["Name"] = [name.encode("ascii", "replace") for name in directions.names]
    table["ra"], table["dec"], table["SumI"] = directions.ra, directions.dec, directions.flux
    table["Cluster"] = np.arange(directions.size)
    if centre is not None:
        table["l"], table["m"] = directions.lm(*centre)
    with atomic_path(path) as part, open(part, "wb") as out:
        np.save(out, table, allow_pickle=False)
    return path


def read_clusters(path: Path | str) -> Directions:
    """Read directions from `.npy`, ds9 `.reg`, or text; SkyModelError names what is wrong."""
    path = Path(path)
    if not path.is_file():
        raise SkyModelError(f"{path}: there is no such cluster file; check option clusterfile.")
    readers = {".npy": _read_npy, ".reg": _read_region}
    try:
        return readers.get(path.suffix, _read_text)(path)
    except SkyModelError as err:
        raise SkyModelError(f"{path}: {err}") from err


def _read_npy(path: Path) -> Directions:
    try:
        table = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as err:
        raise SkyModelError(f"not a plain numpy array of records ({err}).") from err
    lacking = {"ra", "dec"} - set(table.dtype.names or ())
    if lacking:
        raise SkyModelError(f"lacks the fields {sorted(lacking)} of a cluster catalogue.")
    fields = table.dtype.names
    names = [_text(n) for n in table["Name"]] if "Name" in fields else None
    return make_directions(
        table["ra"], table["dec"], table["SumI"] if "SumI" in fields else None, names
    )


def _text(value) -> str:
    return value.decode("ascii", "replace") if isinstance(value, bytes) else str(value)


def _read_region(path: Path) -> Directions:
    from ddfpipe.data.regions import region_centres

    positions, names = region_centres(path)
    return make_directions(positions[:, 0], positions[:, 1], None, names)


def _read_text(path: Path) -> Directions:
    rows = []
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as err:
        raise SkyModelError(f"not a text file ({err}).") from err
    for number, line in enumerate(text.splitlines(), start=1):
        words = line.split("#")[0].replace(",", " ").split()
        if not words or (number == 1 and words[0].lower().startswith("ra")):
            continue
        try:
            values = [float(word) for word in words[:3]]
            ra, dec = values[:2]
        except ValueError:
            raise SkyModelError(f"line {number}: expected RA and Dec in degrees.") from None
        if abs(dec) > 90.0:
            raise SkyModelError(f"line {number}: declination {dec} is not in degrees.")
        rows.append((ra * DEGREE, dec * DEGREE, values[2] if len(values) > 2 else 0.0))
    table = np.array(rows, float).reshape(-1, 3)
    return make_directions(table[:, 0], table[:, 1], table[:, 2])
