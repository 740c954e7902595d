"""Where the Earth is: times, baselines in (u, v, w), directions and pierce points."""

from __future__ import annotations

import math

import numpy as np

from ddfpipe.errors import ConfigError
from ddfpipe.simulate.spec import Observation
from ddfpipe.units import DAY, DEGREE

UNIX_EPOCH_MJD = 40587
CORE = (3826577.462, 461022.624, 5064892.526)
"""ITRF position of the core's centre, m: the array's reference position."""


def uvw_axes(ra0: float, dec0: float) -> np.ndarray:
    """Rows are the unit vectors of u (east), v (north), w (to the centre) in J2000."""
    sr, cr, sd, cd = math.sin(ra0), math.cos(ra0), math.sin(dec0), math.cos(dec0)
    return np.array([[-sr, cr, 0.0], [-sd * cr, -sd * sr, cd], [cd * cr, cd * sr, sd]])


def earth_rotations(times: np.ndarray, ra0: float, dec0: float) -> np.ndarray:
    """Matrices (time, 3, 3) that take ITRF vectors into the uvw frame of (ra0, dec0).

    times: MJD UTC, s.  Precession, nutation and Earth rotation are casacore's (its baseline
    measure, which a correlator's uvw follow too); aberration is not part of it, as the directions
    l, m, n of the sky are not aberrated either.
    """
    from casacore.measures import measures

    dm = measures()
    dm.do_frame(dm.position("ITRF", *(f"{x}m" for x in CORE)))
    dm.do_frame(dm.direction("J2000", f"{float(ra0)!r}rad", f"{float(dec0)!r}rad"))
    axes = uvw_axes(ra0, dec0)
    out = np.empty((len(times), 3, 3))
    scale = 1e6  # metres: casacore rounds short baselines
    far = dm.baseline("ITRF", f"{scale}m", "0m", "0m")
    for matrix, time in zip(out, times):
        # casacore extrapolates precession and nutation from the last epoch that it worked out, if
        # that is hours away at most, even one of another frame: results would depend, at 1e-9, on
        # what was asked before.  Going far away first makes it work out the epoch itself.
        dm.do_frame(dm.epoch("UTC", f"{float(time) - 30 * DAY!r}s"))
        dm.measure(far, "J2000")
        dm.do_frame(dm.epoch("UTC", f"{float(time)!r}s"))
        for k in range(3):
            unit = ["0m"] * 3
            unit[k] = f"{scale}m"
            b = dm.measure(dm.baseline("ITRF", *unit), "J2000")
            lon, lat, length = (b[key]["value"] for key in ("m0", "m1", "m2"))
            vector = np.array(
                [math.cos(lat) * math.cos(lon), math.cos(lat) * math.sin(lon), math.sin(lat)]
            )
            matrix[:, k] = axes @ vector * (length / scale)
    return out


def baseline_uvw(
    rotation: np.ndarray, positions: np.ndarray, ant1: np.ndarray, ant2: np.ndarray
) -> np.ndarray:
    """(time, bl, 3) in m: position(ant2) - position(ant1), rotated into the uvw frame."""
    offsets = positions - np.asarray(CORE)
    stations = np.einsum("tij,aj->tai", rotation, offsets)
    return np.ascontiguousarray(stations[:, ant2] - stations[:, ant1])


def earth_poles(rotation: np.ndarray) -> np.ndarray:
    """(time, 3): the Earth's axis in the uvw frame; baselines turn about it."""
    return np.ascontiguousarray(rotation[:, :, 2])


def itrf_directions(rotation: np.ndarray, lmn: np.ndarray) -> np.ndarray:
    """ITRF unit vectors (time, src, 3) of sources with direction cosines (src, 3), n - 1 last."""
    vectors = lmn + np.array([0.0, 0.0, 1.0])
    return np.einsum("tji,sj->tsi", rotation, vectors)


def schedule(obs: Observation) -> tuple[np.ndarray, np.ndarray]:
    """Centres of the integrations (MJD UTC, s) and the scan of each.

    The span of `hours` is centred on the transit, at the core's longitude, that is nearest to
    noon UTC of `date`; blocks are spread evenly over it.
    """
    try:
        day = int(np.datetime64(obs.date, "D").astype(int)) + UNIX_EPOCH_MJD
    except ValueError as err:
        raise ConfigError(
            f"simulation: observation.date {obs.date!r} is not a date like 2018-03-05"
        ) from err
    noon = (day + 0.5) * DAY
    # Greenwich mean sidereal time in turns (Explanatory Supplement, linear part; UT1 ~ UTC).
    gmst = 0.7790572732640 + 1.00273781191135448 * (noon / DAY - 51544.5)
    longitude = math.atan2(CORE[1], CORE[0]) / (2 * math.pi)
    hour_angle = (gmst + longitude - obs.ra_deg * DEGREE / (2 * math.pi) + 0.5) % 1.0 - 0.5
    transit = noon - hour_angle * DAY / 1.00273781191135448
    length = obs.slots * obs.interval_s
    span = obs.hours * 3600.0 if obs.blocks > 1 else length
    starts = transit - span / 2 + np.linspace(0, span - length, obs.blocks)
    times = starts[:, None] + (np.arange(obs.slots) + 0.5) * obs.interval_s
    scans = np.repeat(np.arange(obs.blocks), obs.slots)
    return times.ravel(), scans.astype(np.int32)


def band(obs: Observation) -> list[np.ndarray]:
    """Channel frequencies (Hz) of each measurement set."""
    lowest = np.linspace(obs.first_mhz, obs.last_mhz, obs.n_ms) * 1e6
    return [f + np.arange(obs.channels) * obs.channel_khz * 1e3 for f in lowest]


def pierce_points(positions: np.ndarray, directions: np.ndarray, height: float):
    """Where lines of sight cross the shell `height` m above the array.

    positions (ant, 3) and unit vectors directions (time, src, 3) in ITRF.  Returns east and north
    coordinates (m) on the plane that touches the Earth at the array, and the slant factor
    1/cos(zenith angle at the pierce point), each (time, ant, src).  The shell is a sphere about
    the Earth's centre through the point `height` above the core.
    """
    core = np.asarray(CORE)
    shell = np.linalg.norm(core) + height
    up = core / np.linalg.norm(core)
    east = np.cross([0.0, 0.0, 1.0], up)
    east /= np.linalg.norm(east)
    north = np.cross(up, east)
    along = np.einsum("tsi,ai->tas", directions, positions)
    square = np.sum(positions**2, axis=1)[None, :, None]
    distance = -along + np.sqrt(along**2 + shell**2 - square)

    def component(axis: np.ndarray) -> np.ndarray:
        return ((positions - core) @ axis)[None, :, None] + distance * (directions @ axis)[:, None]

    slant = shell / (along + distance)
    return component(east), component(north), slant
