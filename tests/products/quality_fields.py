"""Images with known sources, for tests of catalogues and quality."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from astropy.table import Table
from scipy.ndimage import gaussian_filter

from ddfpipe.data.images import SkyGrid, write_image
from ddfpipe.data.regions import FacetOutline, write_tessel
from ddfpipe.units import ARCSEC, DEGREE, FWHM_TO_SIGMA

CELL, BEAM = 1.5 * ARCSEC, 6.0 * ARCSEC
SIGMA = BEAM / CELL * FWHM_TO_SIGMA
"""Of the beam, pixels."""
NOISE = 1e-4
FREQUENCY = 144e6
GRID = SkyGrid(3.49, 0.7854, 256, 256, CELL)


@dataclass(frozen=True)
class Field:
    """Files of an image, and its sources: (n,) radians and Jy."""

    app: Path
    intrinsic: Path
    grid: SkyGrid
    ra: np.ndarray
    dec: np.ndarray
    flux: np.ndarray


def noise_plane(rng: np.random.Generator, n: int, sigma: float = NOISE) -> np.ndarray:
    """(n, n) noise as smooth as the beam."""
    plane = gaussian_filter(rng.normal(size=(n, n)), SIGMA, mode="wrap")
    return plane * (sigma / plane.std())


def add_source(plane: np.ndarray, y: float, x: float, flux: float, size: float = 0.0) -> None:
    """Add a round source of total `flux`; size: FWHM in pixels before the beam."""
    width = np.hypot(SIGMA, size * FWHM_TO_SIGMA)
    rows, columns = np.mgrid[:plane.shape[0], :plane.shape[1]]
    shape = np.exp(-0.5 * ((rows - y) ** 2 + (columns - x) ** 2) / width ** 2)
    plane += flux * (SIGMA / width) ** 2 * shape


def response(n: int) -> np.ndarray:
    """(n, n) apparent over intrinsic flux."""
    rows, columns = np.mgrid[:n, :n]
    return np.exp(-0.5 * ((rows - n / 2) ** 2 + (columns - n / 2) ** 2) / (0.8 * n) ** 2)


def make_field(folder: Path, n: int = 256, per_side: int = 5, scale: float = 1.0,
               shift: tuple[float, float] = (0.0, 0.0), seed: int = 5) -> Field:
    """Write root.app/int.restored/residual.fits and root.tessel.reg (two facets).

    Sources of 2 to 50 mJy lie near a lattice; in the image their fluxes are multiplied by `scale`
    and they are shifted (east, north) by `shift` arcsec, as by errors of calibration.
    """
    rng = np.random.default_rng(seed)
    grid = SkyGrid(3.49, 0.7854, n, n, CELL)
    lattice = (np.arange(per_side) + 0.5) * n / per_side
    y, x = (v.ravel() + rng.uniform(-4, 4, per_side ** 2)
            for v in np.meshgrid(lattice, lattice, indexing="ij"))
    flux = 10.0 ** rng.uniform(-2.7, -1.3, y.size)
    residual = noise_plane(rng, n)
    att = response(n)
    restored = residual.copy()
    for row, column, value in zip(y, x, flux):
        place = row + shift[1] * ARCSEC / CELL, column - shift[0] * ARCSEC / CELL
        height = value * scale * att[round(row), round(column)]
        add_source(restored, *place, height)
    for kind, plane in (("restored", restored), ("residual", residual)):
        for name, values in (("app", plane), ("int", plane / att)):
            write_image(folder / f"root.{name}.{kind}.fits", values, grid, freq=FREQUENCY,
                        beam=(BEAM, BEAM, 0.0))
    write_tessel(folder / "root.tessel.reg", halves(grid))
    ra, dec = grid.radec(*grid.lm(y, x))
    return Field(folder / "root.app.restored.fits", folder / "root.int.restored.fits", grid, ra,
                 dec, flux)


def halves(grid: SkyGrid) -> list[FacetOutline]:
    """Two facets: the western (right) and the eastern (left) half."""
    facets = []
    middle, end = grid.nx / 2, grid.nx - 1
    for label, left, right in (("west", middle, end), ("east", 0.0, middle)):
        corners = [(0, left), (0, right), (end, right), (end, left)]
        ra, dec = grid.radec(*grid.lm(*np.array(corners, float).T))
        centre = grid.radec(*grid.lm(end / 2, (left + right) / 2))
        facets.append(FacetOutline(label, tuple(map(float, centre)), np.stack([ra, dec], -1)))
    return facets


def write_survey(path: Path, field: Field, frequency: float, index: float = -0.7,
                 unit: str = "mJy") -> None:
    """The true sources as a FITS catalogue of another survey."""
    flux = field.flux * (frequency / FREQUENCY) ** index * {"mJy": 1e3, "Jy": 1.0}[unit]
    table = Table({"RAJ2000": field.ra / DEGREE, "DEJ2000": field.dec / DEGREE, "Total_flux": flux})
    table["RAJ2000"].unit = table["DEJ2000"].unit = "deg"
    table["Total_flux"].unit = unit
    table.write(path, format="fits", overwrite=True)


def catalogue(ra, dec, flux, **more) -> Table:
    """PyBDSF's columns for point sources (radians, Jy)."""
    n = len(ra)
    columns = {"RA": np.asarray(ra) / DEGREE, "DEC": np.asarray(dec) / DEGREE, "Total_flux": flux,
               "Peak_flux": np.array(flux, float), "Isl_rms": np.full(n, NOISE),
               "DC_Maj": np.zeros(n), "S_Code": ["S"] * n, "Source_id": np.arange(n)}
    table = Table({**columns, **more})
    table["RA"].unit = table["DEC"].unit = "deg"
    for name in ("Total_flux", "Peak_flux"):
        table[name].unit = "Jy"
    return table
