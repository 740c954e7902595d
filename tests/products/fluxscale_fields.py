"""Mock reference sources, and a small simulated field with surveys around it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from astropy.table import Table

from ddfpipe.products.fluxscale.spectra import SourceSpectra
from ddfpipe.simulate.run import simulate
from ddfpipe.simulate.sky import Source, fluxes, write_skymodel
from ddfpipe.simulate.spec import SimulationSpec, update
from ddfpipe.units import DEGREE

CENTRE = (210.0, 50.0)
SURVEYS = (74e6, 327e6, 1400e6)
FAINTEST = 0.15


def mock_spectra(seed: int, *, sources: int = 40, planes: int = 6, noise: float = 1 / 8,
                 scatter: tuple[float, float] = (0.05, 0.01), outliers: int = 0,
                 curvature: float = 0.0) -> tuple[SourceSpectra, np.ndarray]:
    """(fluxes, factors that they need) of power laws above FAINTEST Jy at 140 MHz.

    noise: of a survey in units of the faintest source's flux there; that of planes is 2 %.
    scatter: fractional, of surveys and planes.  outliers: sources of which one survey has three
    times, or a third of, the flux.  curvature: rms of the quadratic term of ln S in ln ν.
    """
    rng = np.random.default_rng(seed)
    frequency = np.concatenate([SURVEYS, np.linspace(122e6, 166e6, planes)])
    scaled = frequency > frequency[0]
    scaled[: len(SURVEYS)] = False
    x = np.log(frequency / 140e6)
    level = FAINTEST * (1 - rng.random(sources)) ** (-1 / 1.2)
    index = rng.normal(-0.75, 0.2, sources)
    flux = level[:, None] * np.exp(
        index[:, None] * x + curvature * rng.standard_normal((sources, 1)) * x**2
    )
    factors = rng.uniform(0.8, 1.25, planes)
    flux[:, scaled] /= factors
    error = np.where(scaled, 0.02 * FAINTEST, noise * FAINTEST * np.exp(-0.75 * x))
    error = np.broadcast_to(error, flux.shape)
    spread = np.where(scaled, scatter[1], scatter[0])
    flux = flux * np.exp(spread * rng.standard_normal(flux.shape))
    flux = flux + error * rng.standard_normal(flux.shape)
    wrong = rng.permutation(sources)[:outliers]
    flux[wrong, rng.integers(0, len(SURVEYS), outliers)] *= rng.choice([1 / 3, 3.0], outliers)
    flux[rng.random(sources) < 0.3, 2] = np.nan
    names = (*(f"S{k}" for k in range(len(SURVEYS))), *(f"ch{k + 1}" for k in range(planes)))
    place = np.zeros(sources)
    return SourceSpectra(place, place, names, frequency, scaled, flux, error), factors


def field_sources(count: int, radius_deg: float, seed: int) -> list[Source]:
    """Point sources about CENTRE, alone within 5 arcmin, above 0.3 Jy, with indices about -0.75."""
    rng = np.random.default_rng(seed)
    places: list[np.ndarray] = []
    while len(places) < count:
        place = rng.uniform(-radius_deg, radius_deg, 2)
        if np.hypot(*place) < radius_deg and all(np.hypot(*(place - p)) > 0.09 for p in places):
            places.append(place)
    found = []
    for k, (east, north) in enumerate(places):
        ra, dec = sky_position(east * DEGREE, north * DEGREE)
        flux = 0.3 * (1 - rng.random()) ** -0.6
        found.append(Source(f"s{k}", ra, dec, float(flux), (float(rng.normal(-0.75, 0.15)),)))
    return found


def sky_position(east: float, north: float) -> tuple[float, float]:
    """(ra, dec) rad of direction cosines from CENTRE."""
    ra0, dec0 = np.radians(CENTRE)
    n = np.sqrt(1 - east**2 - north**2)
    dec = np.arcsin(north * np.cos(dec0) + n * np.sin(dec0))
    return float(ra0 + np.arctan2(east, n * np.cos(dec0) - north * np.sin(dec0))), float(dec)


def write_survey(path: Path, sources: list[Source], frequency: float, scatter: float = 0.0,
                 error: float = 0.01, seed: int = 0) -> Path:
    """A catalogue of sources at a frequency in Hz with fractional scatter and errors in Jy."""
    rng = np.random.default_rng(seed)
    true = fluxes(sources, np.array([frequency]))[:, 0]
    seen = true * np.exp(scatter * rng.standard_normal(true.size))
    seen = seen + error * rng.standard_normal(true.size)
    table = Table({
        "RA": [s.ra / DEGREE for s in sources], "DEC": [s.dec / DEGREE for s in sources],
        "Total_flux": seen, "E_Total_flux": np.full(true.size, error),
    })
    for name in table.colnames:
        table[name].unit = "deg" if name in ("RA", "DEC") else "Jy"
    path.parent.mkdir(parents=True, exist_ok=True)
    table.write(path, overwrite=True)
    return path


def scaled_field(folder: Path, *, count: int = 16, radius_deg: float = 0.45, sets: int = 6,
                 rms: float = 0.15, seed: int = 3, **changes):
    """(Simulation, sources) of sets with wrong flux scales; surveys low.fits and high.fits."""
    folder.mkdir(parents=True, exist_ok=True)
    sources = field_sources(count, radius_deg, seed)
    write_skymodel(sources, folder / "given.skymodel")
    base = {
        "seed": seed, "companions": False,
        "observation": {
            "ra_deg": CENTRE[0], "dec_deg": CENTRE[1], "core_fields": 24, "remote_stations": 6,
            "n_ms": sets, "channels": 2, "blocks": 8, "slots": 3, "hours": 8.0,
            "name": "L000007", "small_list": sets,
        },
        "sky": {"model": str(folder / "given.skymodel")},
        "errors": {"flux_scale_rms": rms}, "noise": {"sample_jy": 0.3},
    }
    made = simulate(update(update(SimulationSpec(), base), changes), folder, threads=2)
    write_survey(folder / "low.fits", sources, 74e6, 0.03, seed=seed + 1)
    write_survey(folder / "high.fits", sources, 327e6, 0.03, seed=seed + 2)
    return made, sources
