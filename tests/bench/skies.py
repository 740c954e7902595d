"""The skies of `hard_skies.py`: what differs from the field of `three_engines.py`, and why."""

from __future__ import annotations

from dataclasses import dataclass
from dataclasses import field as made


@dataclass(frozen=True)
class Extra:
    """A source beside the random ones: degrees east and north of the centre, Jy at 144 MHz,
    axes (FWHM) in arcsec and position angle in degrees; zero axes: a point."""

    name: str
    east: float
    north: float
    flux: float
    major: float = 0.0
    minor: float = 0.0
    pa: float = 0.0


@dataclass(frozen=True)
class Gap:
    """A station without data in these sets and scans (all of them by default)."""

    station: str
    sets: tuple[int, ...] = ()
    scans: tuple[int, ...] = ()


@dataclass(frozen=True)
class HardSky:
    """field, config: options (`section.option`) of the simulation and of the run that differ.

    extras: further sources.  directions: degrees east and north of the calibration directions,
    found by the run itself where there are none.  gaps: what is flagged after the simulation.
    outside: extras that no image holds, and that are no part of the truth to compare with.
    native_only: needs a station beam, which WSClean of Linux distributions and DDFacet lack.
    extended: extras whose flux is summed over facets.
    """

    title: str
    field: dict = made(default_factory=dict)
    config: dict = made(default_factory=dict)
    extras: tuple[Extra, ...] = ()
    directions: tuple[tuple[float, float], ...] = ()
    gaps: tuple[Gap, ...] = ()
    outside: tuple[str, ...] = ()
    native_only: bool = False
    extended: tuple[str, ...] = ()


FAR = ("RS208", "RS210", "RS310", "RS407", "RS409", "RS508", "RS509")
"""Remote stations farther than 20 km from the core: left out where a wide image has large cells, so
that no engine is judged by baselines to which its pixels are blind."""

WIDE = {
    "field": {
        "observation.core_fields": 18, "sky.n_sources": 40, "sky.radius_deg": 2.0,
        "sky.brightest_jy": 0.2, "sky.count_slope": 1.2, "sky.n_bright": 6,
        "sky.separation_deg": 0.8, "noise.sample_jy": 0.15,
    },
    "config": {"image.imsize": 2000, "image.cellsize": 12, "image.uvmax": 14,
               "image.psf_arcsec": 40, "image.final_psf_arcsec": 40, "solutions.ndir": 7,
               "solutions.dt_di": None},
    "gaps": tuple(Gap(name) for name in FAR),
}

SKIES = {
    "off-axis": HardSky(
        "30 Jy 3° off axis, 6 Jy of it behind the beam, among 2-200 mJy; apparent flux, no beam",
        extras=(Extra("bright", 2.2, 2.04, 6.0),), **WIDE,
    ),
    "off-axis-beam": HardSky(
        "the same, 30 Jy through the array factor", native_only=True,
        extras=(Extra("bright", 2.2, 2.04, 30.0),), field=WIDE["field"] | {"beam": "array_factor"},
        config=WIDE["config"] | {"image.beam_model": "array_factor"}, gaps=WIDE["gaps"],
    ),
    "facet-edge": HardSky(
        "5 Jy on the edge of two facets, 0.18° from either direction",
        field={"sky.n_bright": 0},
        extras=(Extra("bright", 0.15, 0.0, 5.0),),
        directions=((0.15, 0.18), (0.15, -0.18), (-0.1, 0.25), (-0.1, -0.25), (-0.3, 0.0),
                    (0.4, 0.0)),
    ),
    "extended": HardSky(
        "5 Jy of 120 to 420 arcsec across three facets",
        extras=(Extra("halo", 0.1, 0.03, 3.0, 420.0, 300.0, 40.0),
                Extra("lobe-a", 0.13, 0.01, 1.0, 120.0, 120.0, 0.0),
                Extra("lobe-b", 0.06, 0.06, 1.0, 150.0, 90.0, 20.0)),
        directions=((0.25, 0.03), (0.025, 0.16), (0.025, -0.1), (-0.25, 0.2), (-0.25, -0.2),
                    (0.2, -0.3), (0.2, 0.35)),
        config={"image.low_psf_arcsec": 45.0, "image.low_cell": 9.0},
        extended=("halo", "lobe-a", "lobe-b"),
    ),
    "ionosphere": HardSky(
        "1 rad in a minute on remote stations",
        field={"ionosphere.diffractive_km": 7.3, "ionosphere.wind_m_s": 100.0,
               "ionosphere.centre_removed": 0.5, "observation.slots": 8},
    ),
    "faint-directions": HardSky(
        "24 sources of 0.2 to 0.5 Jy, a direction each for 20",
        field={"sky.n_sources": 24, "sky.brightest_jy": 0.5, "sky.count_slope": 3.47,
               "sky.n_bright": 20, "sky.separation_deg": 0.12},
        config={"solutions.ndir": 20},
    ),
    "low-declination": HardSky(
        "declination -4°: 4 hours, no higher than 33°",
        field={"observation.dec_deg": -4.0, "observation.hours": 4.0},
        config={"image.psf_arcsec": 27, "image.final_psf_arcsec": 27},
    ),
    "missing-station": HardSky(
        "a remote and a core station without data; one lost in half of the sets, one in half of "
        "the scans",
        gaps=(Gap("RS306"), Gap("CS302"), Gap("RS210", sets=(1, 3, 5)),
              Gap("RS310", scans=(0, 1, 2, 3))),
    ),
    "a-team": HardSky(
        "3 Jy of a double source of 40 arcsec in a side lobe, 22° away; apparent flux, no beam",
        extras=(Extra("a-team-e", 15.5, 15.5, 1.8, 40.0, 30.0, 110.0),
                Extra("a-team-w", 15.47, 15.51, 1.2, 40.0, 30.0, 110.0)),
        outside=("a-team-e", "a-team-w"),
    ),
}
