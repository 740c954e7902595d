"""A small simulation with everything in it, made once."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from ddfpipe.simulate.run import simulate
from ddfpipe.simulate.spec import SimulationSpec, update

SMALL = update(
    SimulationSpec(),
    {
        "seed": 11,
        "observation": {
            "core_fields": 4, "remote_stations": 3, "n_ms": 2, "channels": 3, "blocks": 2,
            "slots": 3, "hours": 2.0, "name": "L000009", "small_list": 1,
        },
        "sky": {
            "n_sources": 6, "n_bright": 3, "n_gaussian": 2, "extended_jy": 0.5,
            "radius_deg": 1.5,
        },
        "ionosphere": {"diffractive_km": 8.0, "npix": 512},
        "errors": {
            "amplitude_rms": 0.1, "phase_rms_rad": 0.5, "clock_rms_ns": 3.0, "leakage_rms": 0.05,
        },
        "noise": {
            "sample_jy": 0.2, "station_spread": 0.2, "flag_random": 0.05, "flag_slots": 0.2,
            "flag_stations": 1, "rfi_jy": 50.0,
        },
    },
)


def read(path: Path, column: str) -> np.ndarray:
    """A column of the main table, or of a subtable for path 'ms::NAME'."""
    from casacore.tables import table

    opened = table(str(path), ack=False)
    values = opened.getcol(column)
    opened.close()
    return values


def column_keywords(path: Path, column: str) -> dict:
    """Keywords of a column of the main table."""
    from casacore.tables import table

    opened = table(str(path), ack=False)
    values = opened.getcolkeywords(column)
    opened.close()
    return values


def variant(spec: SimulationSpec = SMALL, **changes) -> SimulationSpec:
    """SMALL with nested changes."""
    return update(spec, changes)


def plain(**changes) -> SimulationSpec:
    """SMALL without ionosphere, station errors, noise, flags and smearing, with changes."""
    bare = dataclasses.replace(
        SMALL, ionosphere=SimulationSpec().ionosphere, errors=SimulationSpec().errors,
        noise=SimulationSpec().noise, smearing=False, companions=False,
    )
    return update(bare, changes)


@pytest.fixture(scope="session")
def small(tmp_path_factory):
    """The simulation of SMALL: (Simulation, folder)."""
    folder = tmp_path_factory.mktemp("small")
    return simulate(SMALL, folder, threads=2), folder


@pytest.fixture
def model_file(tmp_path):
    """Function that writes one-line-a-source makesourcedb text and returns its path."""

    def write(*lines: str) -> str:
        path = tmp_path / "given.skymodel"
        header = (
            "FORMAT = Name, Type, Ra, Dec, I, SpectralIndex, LogarithmicSI, "
            "ReferenceFrequency='144e6', MajorAxis, MinorAxis, Orientation"
        )
        path.write_text("\n".join([header, *lines]) + "\n")
        return str(path)

    return write
