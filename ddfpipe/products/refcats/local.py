"""Reference catalogues that lie on disk."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ddfpipe.data.atomic import atomic_path
from ddfpipe.data.images import SkyGrid
from ddfpipe.errors import ConfigError, DataError
from ddfpipe.products.refcats.servers import SERVERS, BadAnswer, parse_plain
from ddfpipe.products.refcats.tiling import healpix_tiles
from ddfpipe.units import ARCMIN, DEGREE

SUFFIXES = (".fits", ".fits.gz", ".fit", ".vo", ".xml", ".vot", ".csv", ".txt", ".sky",
            ".skymodel")
CELL = 10.0 * ARCMIN
"""Size of the cells that must hold an object for a place to count as covered."""


def local_files(method: str, folder: str | Path | None, grid: SkyGrid | None = None
                ) -> list[Path] | None:
    """Files of a reference catalogue, None if it has to be fetched.

    method: name of a catalogue, or path of a file.  folder: where catalogues lie: as
    `<method>.fits` (or another of SUFFIXES), or as files in the folder `<method>`; of pslocal also
    its tiles, named by their numbers, in either.  grid: image of which pslocal's tiles are wanted
    (None: all).  Raises ConfigError when the folder has no such catalogue.
    """
    if method not in SERVERS:
        return [Path(method)]
    if folder is None:
        return None
    home = Path(folder)
    for suffix in SUFFIXES:
        if (home / (method + suffix)).is_file():
            return [home / (method + suffix)]
    if method == "pslocal":
        found = _tiles([home / method, home], grid)
    else:
        found = sorted(p for p in (home / method).glob("*")
                       if p.is_file() and p.name.lower().endswith(SUFFIXES))
    if not found:
        raise ConfigError(
            f"[offsets] catalogue_dir: {home} has neither {method}.fits (or .vo, .xml, .csv, .txt) "
            f"nor a folder {method} with such files" + (
                " or tiles of this field" if method == "pslocal" else "")
        )
    return found


def _tiles(folders: Sequence[Path], grid: SkyGrid | None) -> list[Path]:
    """HEALPix tiles of the first folder that has any (of the image, if one is given)."""
    wanted = None if grid is None else {tile.name for tile in healpix_tiles(grid)}
    for folder in folders:
        names = (p for p in folder.glob("*") if p.is_file() and p.name.isdigit())
        found = sorted(p for p in names if wanted is None or p.name in wanted)
        if found:
            return found
    return []


def read_reference(files: Sequence[Path], grid: SkyGrid | None = None
                   ) -> tuple[np.ndarray, np.ndarray]:
    """(ra, dec) in radians of all objects of some files, within reach of an image if one is given.

    FITS, VOTable and text tables with columns of any usual names, lists of components, and tiles
    named by a number that hold only positions.  Raises DataError for what cannot be read.
    """
    parts = [_read(Path(path)) for path in files]
    ra, dec = (np.concatenate([part[axis] for part in parts]) for axis in (0, 1))
    if grid is not None:
        l, m = grid.lm_of(ra, dec)  # noqa: E741
        near = (abs(l) < grid.nx * grid.cell / 2 + 2 * ARCMIN) & (
            abs(m) < grid.ny * grid.cell / 2 + 2 * ARCMIN)
        ra, dec = ra[near], dec[near]
    return ra, dec


def _read(path: Path) -> tuple[np.ndarray, np.ndarray]:
    if path.name.isdigit():
        try:
            found = parse_plain(path.read_text())
        except (OSError, UnicodeDecodeError, BadAnswer) as error:
            raise DataError(f"{path}: the tile cannot be read ({error}).") from error
        return np.radians(found[:, 0]), np.radians(found[:, 1])
    from ddfpipe.data.surveys import read_survey

    survey = read_survey(path)
    return survey.ra, survey.dec


def write_positions(path: Path, ra: np.ndarray, dec: np.ndarray) -> Path:
    """Write positions (radians) as a FITS table with columns RA, DEC in degrees."""
    from astropy.table import Table

    table = Table([np.degrees(ra), np.degrees(dec)], names=("RA", "DEC"))
    table["RA"].unit = table["DEC"].unit = "deg"
    with atomic_path(path) as part:
        table.write(part, format="fits")
    return path


def read_positions(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """(ra, dec) in radians of what `write_positions` wrote; DataError if it is damaged."""
    from ddfpipe.data.catalogues import read_columns

    values, _ = read_columns(path, ("RA", "DEC"))
    return values["RA"] * DEGREE, values["DEC"] * DEGREE


def coverage(ra: np.ndarray, dec: np.ndarray, grid: SkyGrid) -> float:
    """Part of an image (in cells of CELL) on which there are objects."""
    rows = max(1, int(grid.ny * grid.cell / CELL))
    columns = max(1, int(grid.nx * grid.cell / CELL))
    y, x = grid.pixel_of(ra, dec)
    inside = grid.inside(y, x)
    cells = np.zeros((rows, columns), bool)
    cells[np.clip((y[inside] + 0.5) / grid.ny * rows, 0, rows - 1).astype(int),
          np.clip((x[inside] + 0.5) / grid.nx * columns, 0, columns - 1).astype(int)] = True
    middle_y, middle_x = ((np.arange(n) + 0.5) / n for n in (rows, columns))
    l, m = grid.lm(*np.meshgrid(middle_y * grid.ny - 0.5, middle_x * grid.nx - 0.5,  # noqa: E741
                                indexing="ij"))
    on_sky = l**2 + m**2 < 1.0
    return float(cells[on_sky].mean())
