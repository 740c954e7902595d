"""Simulated fields shared by the tests of the engines."""

from __future__ import annotations

import pytest
from engine_fields import make_field, sources_at

PLAIN_OFFSETS = [
    (0.02, 0.02), (0.8, 0.7), (-0.9, 0.5), (0.4, -1.0), (-1.1, -1.05), (1.15, -0.2), (0.02, 0.9),
    (-0.35, -0.03),
]
"""Pixels' centres of images with 12 arcsec cells (SIN projection, 1/300 degree)."""
PLAIN_FLUXES = [1.0, 2.0, 0.5, 1.5, 3.0, 0.8, 1.2, 0.6]

WIDE_OFFSETS = [
    (0.4, 0.3), (1.2, -0.2), (2.0, 0.1), (2.9, 0.35), (1.6, 1.7), (-1.55, -0.9), (-2.25, -0.1),
    (-2.9, -1.2), (-0.2, 2.6), (0.6, -2.95), (-1.9, 2.1), (1.55, 0.9), (2.25, 0.9),
]
WIDE_FLUXES = [1, 2, 3, 8, 3, 1.5, 3, 8, 4, 8, 8, 2, 4]

DENSE = dict(core_fields=24, remote_stations=8, blocks=12, slots=3)
"""Enough stations and times for a PSF whose side lobes do not slow the deconvolution down."""


@pytest.fixture(scope="session")
def plain(tmp_path_factory):
    """Eight sources within 1.5 degrees; no noise, beam, ionosphere: (Simulation, sources)."""
    sources = sources_at(PLAIN_OFFSETS, PLAIN_FLUXES)
    folder = tmp_path_factory.mktemp("plain")
    return make_field(folder, sources, observation=DENSE), sources


@pytest.fixture(scope="session")
def between(tmp_path_factory):
    """The plain sources 0.3 and 0.4 of such a pixel away from its centre."""
    offsets = [(east + 0.3 / 300, north + 0.4 / 300) for east, north in PLAIN_OFFSETS]
    sources = sources_at(offsets, PLAIN_FLUXES)
    folder = tmp_path_factory.mktemp("between")
    return make_field(folder, sources, observation=DENSE), sources


@pytest.fixture(scope="session")
def wide(tmp_path_factory):
    """Function of a beam mode: (Simulation, sources) out to 3 degrees, smeared, spectral index."""
    made = {}

    def make(beam: str):
        if beam not in made:
            sources = sources_at(WIDE_OFFSETS, WIDE_FLUXES, -0.7)
            band = dict(first_mhz=122.0, last_mhz=165.0, channel_khz=195.3125, channels=2)
            folder = tmp_path_factory.mktemp(f"wide_{beam}")
            simulation = make_field(folder, sources, beam=beam, observation={**DENSE, **band})
            made[beam] = simulation, sources
        return made[beam]

    return make


@pytest.fixture(scope="session")
def disturbed(tmp_path_factory):
    """The plain sources through beam and ionosphere: (Simulation, sources, folder)."""
    sources = sources_at(PLAIN_OFFSETS[:6], PLAIN_FLUXES[:6])
    folder = tmp_path_factory.mktemp("disturbed")
    simulation = make_field(
        folder, sources, beam="array_factor", observation=DENSE,
        ionosphere={"diffractive_km": 5.0, "npix": 512},
    )
    return simulation, sources, folder
