"""The screen follows Kolmogorov's law in space and moves with the wind."""

from __future__ import annotations

import numpy as np

from ddfpipe.simulate import geometry
from ddfpipe.simulate.ionosphere import REFERENCE_FREQ, make_screen
from ddfpipe.simulate.run import make_layout
from ddfpipe.simulate.spec import Ionosphere, StationErrors, update
from ddfpipe.simulate.stationerrors import station_jones
from ddfpipe.units import DEGREE, TEC_PHASE

from .conftest import SMALL

SPEC = Ionosphere(diffractive_km=10.0, npix=512, pixel_km=1.0, wind_m_s=150.0, outer_km=1e4)


def _rms(screen, d_east, d_north=0.0, dt=0.0):
    """Phase difference in rad rms at 150 MHz between points and times, over the whole screen."""
    axis = np.arange(0, 512, 7.3) * 1e3
    east, north = (x[None] for x in np.meshgrid(axis, axis))
    t = np.zeros(1)
    difference = screen.vertical(east + d_east, north + d_north, t + dt)
    difference = difference - screen.vertical(east, north, t)
    return np.sqrt(np.mean(difference**2)) * abs(TEC_PHASE) / REFERENCE_FREQ


def test_structure_function_grows_as_kolmogorov():
    screens = [make_screen(SPEC, 0.0, np.random.default_rng(k)) for k in range(4)]
    lags = np.array([5e3, 10e3, 20e3])
    rms = np.array([np.mean([_rms(s, lag) for s in screens]) for lag in lags])
    np.testing.assert_allclose(rms, (lags / 10e3) ** (5 / 6), rtol=0.2)
    across = np.mean([_rms(s, 0.0, 10e3) for s in screens])
    assert abs(across - 1) < 0.2


def test_screen_is_carried_unchanged_by_the_wind():
    screen = make_screen(SPEC, 0.0, np.random.default_rng(1))
    east, north = np.array([[3e3, 90e3]]), np.array([[-5e3, 40e3]])
    start = np.zeros(1)
    angle = SPEC.wind_pa_deg * DEGREE
    moved = 150.0 * 60.0
    later = screen.vertical(
        east + moved * np.sin(angle), north + moved * np.cos(angle), start + 60.0
    )
    np.testing.assert_allclose(later, screen.vertical(east, north, start), atol=1e-9)
    short, long = _rms(screen, 0.0, dt=8.0), _rms(screen, 0.0, dt=80.0)
    assert 0 < short < 0.3 and long > 4 * short


def test_pierce_points():
    """Overhead: above the station, slant one.  At zenith angle z: h tan z away (flat Earth)."""
    core = np.array(geometry.CORE)
    up = core / np.linalg.norm(core)
    east = np.cross([0, 0, 1.0], up)
    east /= np.linalg.norm(east)
    z = 20 * DEGREE
    directions = np.stack([up, up * np.cos(z) + east * np.sin(z)])[None]
    positions = np.stack([core, core + 5e3 * east])
    x, y, slant = geometry.pierce_points(positions, directions, 300e3)
    np.testing.assert_allclose(x[0, :, 0], [0, 5e3], atol=1)
    np.testing.assert_allclose(y[0], 0, atol=1e-3)
    np.testing.assert_allclose(slant[0, :, 0], 1, atol=1e-6)
    flat = 300e3 * np.tan(z)
    assert 0.98 * flat < x[0, 0, 1] < flat
    assert 1 / np.cos(z) > slant[0, 0, 1] > 1 / np.cos(z) * 0.98


def test_core_fields_see_nearly_the_same(small):
    from ddfpipe.simulate.truth import read_truth

    truth = read_truth(small[1])
    tec = truth.arrays["tec"]
    assert tec.shape == (6, 7, 7)
    phase = tec * abs(TEC_PHASE) / REFERENCE_FREQ
    ear0, ear1 = (list(truth.arrays["station"]).index(n) for n in ("CS002HBA0", "CS302HBA0"))
    core = np.std(phase[:, ear0] - phase[:, ear1])
    names = list(truth.arrays["station"])
    remote = np.std(phase[:, ear0] - phase[:, names.index("RS210HBA")])
    assert 0 < core < 0.3 * remote


def test_earlier_calibration_takes_the_centre_out():
    """With all of the centre's TEC removed, a source there has none; others keep differences."""
    from ddfpipe.simulate.realisation import Realisation
    from ddfpipe.simulate.sky import Source

    layout, _, _ = make_layout(SMALL)
    sources = [Source("centre", layout.ra0, layout.dec0, 1.0),
               Source("off", layout.ra0, layout.dec0 + DEGREE, 1.0)]
    raw = Realisation(SMALL, layout, sources).tec
    removed = update(SMALL, {"ionosphere": {"centre_removed": 1.0}})
    rest = Realisation(removed, layout, sources).tec
    assert np.abs(rest[..., 0]).max() < 1e-12 < 1e-4 < np.abs(raw[..., 0]).max()
    np.testing.assert_allclose(rest[..., 1], raw[..., 1] - raw[..., 0], atol=1e-12)
    assert np.abs(rest[..., 1]).max() > 1e-4


def test_station_errors_have_their_size_and_keep_their_realisation():
    layout, _, _ = make_layout(SMALL)
    spec = StationErrors(0.1, 0.5, 2.0, 0.03, timescale_min=30.0)
    freq = np.array([120e6, 121e6])
    times = layout.times[0] + np.arange(0, 8 * 3600, 120.0)
    jones = station_jones(spec, times, freq, 200, np.random.default_rng(3))
    assert jones.shape == (240, 200, 2, 2, 2)
    assert abs(np.log(np.abs(jones[..., 0, 0])).std() - 0.1) < 0.02
    delay = np.angle(jones[0, :, 1, 0, 0] * jones[0, :, 0, 0, 0].conj()) / (2 * np.pi * 1e6)
    assert abs(delay.std() - 2e-9) < 4e-10
    ratio = np.abs(jones[..., 0, 1] / jones[..., 0, 0])
    assert abs(np.sqrt(np.mean(ratio**2)) - 0.03) < 0.006
    part = station_jones(spec, times[:3], freq[1:], 200, np.random.default_rng(3))
    np.testing.assert_allclose(part, jones[:3, :, 1:], atol=1e-12)
    slow = np.abs(np.diff(jones[:, :, 0, 0, 0], axis=0))
    assert 0 < slow.max() < 0.3
