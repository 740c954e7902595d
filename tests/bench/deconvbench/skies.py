"""Skies of the benchmark, and measurement sets that show them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ddfpipe.imaging.sky import lm_to_radec
from ddfpipe.simulate.run import simulate
from ddfpipe.simulate.sky import Source, write_skymodel
from ddfpipe.simulate.spec import SimulationSpec, update
from ddfpipe.units import ARCSEC

CENTRE = (210.0, 50.0)
"""Phase centre, degrees."""

REFERENCE_MHZ = 144.0
ALPHA = -0.7
APART = 90.0
"""Least distance of sources in arcsec, so that each has an aperture of its own."""

HALO_ARCSEC, HALO_JY = 360.0, 3.0 / 112.32
"""Major axis of the halo in an image of 1000 pixels or more, and its flux for each arcsec of it."""


@dataclass(frozen=True)
class Setting:
    """What is simulated and imaged.

    npix: even, and a multiple of facets, the number of facets on a side.  sets: measurement sets,
    evenly over 121 to 166 MHz.  noise: Jy of a sample's real part.  share: part of the
    sources that a sky has at full size.  seed: another one, another sky and noise.
    """

    npix: int = 2016
    cell: float = 4.0
    facets: int = 3
    core: int = 30
    remote: int = 14
    blocks: int = 40
    slots: int = 2
    sets: int = 6
    channels: int = 1
    uv_km: tuple[float, float] = (0.1, 25.0)
    robust: float = -0.25
    noise: float = 0.3
    share: float = 1.0
    seed: int = 0

    @property
    def width(self) -> float:
        """Side of the image in rad."""
        return self.npix * self.cell * ARCSEC


MIDDLE = Setting(npix=1008, share=0.15)
SMALL = Setting(npix=312, core=16, remote=8, blocks=20, sets=3, noise=0.1, share=0.05)


@dataclass(frozen=True)
class Case:
    """A sky and how it is deconvolved.  make: (rng, setting) to sources, `scatter` of indices."""

    name: str
    title: str
    make: Callable
    bands: int = 2
    scatter: float = 0.3


class _Painter:
    """Places sources about the phase centre, apart from one another."""

    def __init__(self, rng, setting: Setting, scatter: float):
        self.rng, self.setting, self.scatter = rng, setting, scatter
        self.sources: list[Source] = []
        self.taken: list[np.ndarray] = []

    def count(self, number: int) -> int:
        return max(3, round(number * self.setting.share))

    def place(self) -> np.ndarray:
        """(l, m) at least APART from all others."""
        half = 0.46 * self.setting.width
        for _ in range(10000):
            spot = self.rng.uniform(-half, half, 2)
            if all(np.hypot(*(spot - other)) > APART * ARCSEC for other in self.taken):
                break
        self.taken.append(spot)
        return spot

    def index(self) -> float:
        return ALPHA + self.scatter * self.rng.standard_normal()

    def add(self, name, spot, flux, index, size=(0.0, 0.0, 0.0)) -> None:
        """A point, or a Gaussian of size (major arcsec, minor arcsec, position angle rad)."""
        ra, dec = lm_to_radec(*spot, *np.radians(CENTRE))
        self.sources.append(Source(
            name, float(ra), float(dec), float(flux), (float(index),), REFERENCE_MHZ * 1e6,
            size[0] * ARCSEC, size[1] * ARCSEC, float(size[2])))

    def points(self, number: int, brightest: float) -> None:
        """Points between pixels whose number above a flux falls as its inverse."""
        for k in range(self.count(number)):
            self.add(f"p{k:04d}", self.place(), brightest / (k + 1), self.index())

    def doubles(self, number: int, brightest: float) -> None:
        """Radio galaxies: two unequal lobes 20 to 60 arcsec apart and a bridge between them."""
        rng = self.rng
        for k in range(self.count(number)):
            middle, pa, index = self.place(), rng.uniform(0, np.pi), self.index()
            apart, share = rng.uniform(20.0, 60.0), rng.uniform(0.3, 0.5)
            flux = brightest / (k + 1) ** 0.8
            along = 0.5 * apart * ARCSEC * np.array([np.sin(pa), np.cos(pa)])
            for side, (sign, part) in enumerate(((1, share), (-1, 0.8 - share))):
                major = rng.uniform(10.0, 20.0)
                shape = major, major * rng.uniform(0.5, 1.0), rng.uniform(0, np.pi)
                self.add(f"d{k:04d}.{side}", middle + sign * along, part * flux, index, shape)
            self.add(f"d{k:04d}.2", middle, 0.2 * flux, index, (apart, 10.0, pa))

    def halo(self, points: int) -> None:
        """A halo near the middle of the image, across facets' borders, with points on it."""
        spot = 0.17 * self.setting.width * np.array([1.0, 0.4])
        size = HALO_ARCSEC * min(1.0, self.setting.npix / 1000)
        self.add("h0000", spot, HALO_JY * size, -1.0, (size, 0.8 * size, 0.5))
        for k in range(self.count(points)):
            step = self.rng.standard_normal(2) * 0.25 * size * ARCSEC
            self.taken.append(spot + step)
            self.add(f"o{k:04d}", spot + step, 0.3 / (k + 1), self.index())
        # nothing else within the halo
        angle = np.linspace(0, 2 * np.pi, 24, endpoint=False)
        ring = np.stack([np.cos(angle), np.sin(angle)], axis=1)
        for radius in np.arange(0.3, 1.6, 0.3):
            self.taken.extend(spot + 0.5 * radius * size * ARCSEC * ring)


def _points(painter: _Painter) -> None:
    painter.points(300, 2.0)


def _doubles(painter: _Painter) -> None:
    painter.doubles(60, 1.5)
    painter.points(60, 0.5)


def _halo(painter: _Painter) -> None:
    painter.halo(12)
    painter.points(60, 0.5)


def _spectra(painter: _Painter) -> None:
    painter.halo(6)
    painter.doubles(25, 1.0)
    painter.points(120, 1.0)


SIZES = {"small": SMALL, "middle": MIDDLE, "full": Setting()}

CASES = (
    Case("points", "points", _points, scatter=0.1),
    Case("doubles", "double radio galaxies", _doubles, scatter=0.1),
    Case("halo", "a halo with points on it", _halo, scatter=0.1),
    Case("spectra", "all of them, three bands, indices -0.7 ± 0.3", _spectra, bands=3),
)


def sources_of(case: Case, setting: Setting) -> list[Source]:
    """The sky of a case; names that are equal up to a dot belong to one source."""
    painter = _Painter(np.random.default_rng(5 + setting.seed), setting, case.scatter)
    case.make(painter)
    return painter.sources


def simulate_case(folder: Path, case: Case, setting: Setting) -> list[Path]:
    """Measurement sets of a case, without any errors but noise; made unless they are there."""
    paths = [folder / f"L000008_SB{k:03d}.ms" for k in range(setting.sets)]
    if (folder / "done").exists():
        return paths
    folder.mkdir(parents=True, exist_ok=True)
    write_skymodel(sources_of(case, setting), folder / "sky.skymodel")
    simulate(update(SimulationSpec(), {
        "smearing": False, "seed": SimulationSpec().seed + setting.seed,
        "observation": {
            "ra_deg": CENTRE[0], "dec_deg": CENTRE[1], "hours": 8.0, "blocks": setting.blocks,
            "slots": setting.slots, "n_ms": setting.sets, "channels": setting.channels,
            "core_fields": setting.core, "remote_stations": setting.remote, "name": "L000008",
        },
        "sky": {"model": str(folder / "sky.skymodel")}, "noise": {"sample_jy": setting.noise},
    }), folder, threads=2)
    (folder / "done").touch()
    return paths
