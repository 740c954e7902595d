"""Beams: shape, normalisation, size, and two independent ways to everybeam."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from ddfpipe.beam import LofarBeam, UnitBeam, make_beam
from ddfpipe.beam.pointing import EarthFrame, unit_vectors
from ddfpipe.errors import ConfigError, DataError
from ddfpipe.simulate import geometry, msio
from ddfpipe.simulate.run import make_layout
from ddfpipe.simulate.sky import lmn_of
from ddfpipe.simulate.spec import SimulationSpec, update
from ddfpipe.simulate.stationbeam import station_beam
from ddfpipe.units import ARCSEC, DEGREE

FREQS = np.array([124e6, 144e6])


@pytest.fixture(scope="module")
def observed(tmp_path_factory):
    """An empty simulated measurement set: (path, layout)."""
    spec = update(SimulationSpec(), {"observation": {
        "core_fields": 2, "remote_stations": 2, "blocks": 2, "slots": 1, "hours": 4.0}})
    layout, scans, stations = make_layout(spec)
    path = tmp_path_factory.mktemp("beam") / "L1_SB000.ms"
    msio.create_ms(path, layout, stations, FREQS, 1e5, scans, [])
    return path, layout


def read(path, column):
    from casacore.tables import table

    opened = table(str(path), ack=False)
    values = opened.getcol(column)
    opened.close()
    return values


def around(layout, *degrees):
    """Directions at these distances north of the centre."""
    dec = layout.dec0 + np.array(degrees) * DEGREE
    return {"times": layout.times, "freqs": FREQS, "ra": np.full(len(dec), layout.ra0), "dec": dec}


@pytest.mark.parametrize("model", ["array_factor", "full"])
def test_size_of_the_beam(observed, model):
    path, layout = observed
    response = make_beam(model, path).response(**around(layout, 0, 1, 2, 3, 4))
    assert response.shape == (2, 2, 4, 5) and response.dtype == np.complex64
    np.testing.assert_allclose(response[..., 0], 1, atol=1e-5)
    # A core ear field at 144 MHz near transit, as measured on real station tables.
    np.testing.assert_allclose(
        np.abs(response[1, 1, 0]), [1, 0.93, 0.73, 0.47, 0.21], atol=0.04
    )
    assert np.all(np.abs(response[:, 0, :, 1:]) > np.abs(response[:, 1, :, 1:]))  # wider when low
    assert np.abs(response[0, 1, 0, 3] - response[1, 1, 0, 3]) > 0.005  # turns with the sky


@pytest.mark.parametrize("full", [False, True])
def test_simulator_agrees(observed, full):
    """Other code, other conversion of directions, same beam."""
    path, layout = observed
    offsets = np.array([[0.5, 0.2], [-2.0, 1.0], [0.3, -2.8]]) * DEGREE
    dec = layout.dec0 + offsets[:, 1]
    ra = layout.ra0 + offsets[:, 0] / np.cos(dec)
    lmn = lmn_of(ra, dec, layout.ra0, layout.dec0)
    simulated = station_beam(path, layout, lmn, FREQS, full)
    beam = LofarBeam(path, "full" if full else "array_factor")
    ours = beam.jones if full else beam.response
    found = ours(times=layout.times, freqs=FREQS, ra=ra, dec=dec)
    moved = np.moveaxis(simulated, 3, 1)  # (time, ant, src, chan) -> (time, chan, ant, src)
    np.testing.assert_allclose(found, moved, atol=2e-4)
    assert np.abs(np.abs(found).max() - 1) < 0.1


def test_full_scalar_is_the_root_mean_power(observed):
    path, layout = observed
    beam = make_beam("full", path)
    where = around(layout, 0.0, 2.5)
    jones, scalar = beam.jones(**where), beam.response(**where)
    assert jones.shape == (2, 2, 4, 2, 2, 2)
    np.testing.assert_allclose(jones[:, :, :, 0], np.broadcast_to(np.eye(2), (2, 2, 4, 2, 2)),
                               atol=1e-6)
    power = np.einsum("...ij,...ij->...", jones, jones.conj()).real / 2
    np.testing.assert_allclose(np.abs(scalar) ** 2, power, rtol=1e-5)


def test_dead_station_has_no_response(observed, tmp_path):
    import shutil

    from casacore.tables import table

    path, layout = observed
    copy = tmp_path / "dead.ms"
    shutil.copytree(path, copy)
    fields = table(f"{copy}/LOFAR_ANTENNA_FIELD", readonly=False, ack=False)
    flags = fields.getcell("ELEMENT_FLAG", 1)
    fields.putcell("ELEMENT_FLAG", 1, np.ones_like(flags))
    fields.close()
    lmn = np.array([[0.0, 0.0, 0.0], [0.0, 0.02, -0.0002]])
    for full in (False, True):
        beam = LofarBeam(copy, "full" if full else "array_factor")
        found = np.abs(beam.response(**around(layout, 0.0, 1.1)))
        assert np.all(found[:, :, 1] == 0) and np.all(found[:, :, [0, 2, 3]] > 0.5)
        simulated = np.abs(station_beam(copy, layout, lmn, FREQS, full))
        assert np.all(simulated[:, 1] == 0) and np.all(np.isfinite(simulated))
        assert np.all(simulated[:, 0].max(axis=(-2, -1) if full else -1) > 0.5)


def test_threads_share_a_beam(observed):
    path, layout = observed
    beam = make_beam("LOFAR", path)
    jobs = [around(layout, d) for d in np.linspace(0.1, 3, 12)]
    alone = [beam.response(**job) for job in jobs]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda job: beam.response(**job), jobs))
    for a, b in zip(alone, together):
        np.testing.assert_array_equal(a, b)


def test_real_tables_point_elsewhere_than_the_phase_centre(unpack_ms):
    """Abell 1775: phase centre shifted by 1.9 degrees from the station pointing."""
    path = unpack_ms("A1775_LT10_010_4ch.ms.tgz")
    pointing = np.array([-2.71728857, 0.43245332])
    phase = np.array([-2.697144559569437, 0.46002166693590146])
    beam = make_beam("auto", path)
    assert isinstance(beam, LofarBeam)
    response = beam.response(
        times=read(path, "TIME")[:1], freqs=np.array([144e6]),
        ra=np.array([phase[0], pointing[0]]), dec=np.array([phase[1], pointing[1]]),
    )
    np.testing.assert_allclose(response[..., 0], 1, atol=1e-5)
    assert np.all(np.abs(response[..., 1]) > 1.03)


def test_earth_frame_follows_casacore():
    frame = EarthFrame(np.array(geometry.CORE), (3.6, 0.87))
    time = 5026930937.7
    vectors = unit_vectors(3.6 + np.array([0, 0.05, -0.04]), 0.87 + np.array([0.01, -0.05, 0.05]))
    found = frame.itrf(time, vectors)
    exact = np.array([frame._convert(v) for v in vectors])
    assert np.linalg.norm(found - exact, axis=1).max() < 0.1 * ARCSEC
    later = frame.itrf(time + 86164.0905, vectors)
    assert np.linalg.norm(found - later, axis=1).max() < 1 * ARCSEC
    assert np.linalg.norm(found - frame.itrf(time + 60, vectors), axis=1).min() > 200 * ARCSEC


def test_directions_do_not_depend_on_earlier_questions():
    """To the last bit: casacore alone would extrapolate from the epochs asked for before."""
    times = 5026930937.7 + np.arange(0, 7200, 600.0)
    frame = EarthFrame(np.array(geometry.CORE), (3.6, 0.87))
    forwards = [frame.rotation(t) for t in times]
    backwards = [frame.rotation(t) for t in times[::-1]][::-1]
    np.testing.assert_array_equal(forwards, backwards)
    rotations = geometry.earth_rotations(times, 3.6, 0.87)
    again = geometry.earth_rotations(times[::-1], 3.6, 0.87)[::-1]
    np.testing.assert_array_equal(rotations, again)


def test_unit_beam(observed):
    path, layout = observed
    beam = make_beam("none", path)
    assert isinstance(beam, UnitBeam) and beam.n_ant == 4
    response = beam.response(**around(layout, 0.0, 30.0))
    assert response.shape == (2, 2, 4, 2) and np.all(response == 1)


def test_wrong_requests_are_named(observed, tmp_path):
    path, _ = observed
    with pytest.raises(ConfigError, match="gaussian"):
        make_beam("gaussian", path)
    with pytest.raises(ConfigError, match="A"):
        LofarBeam(path, "A")
    for model in ("auto", "LOFAR", "none"):
        with pytest.raises(DataError, match="no.ms"):
            make_beam(model, tmp_path / "no.ms")


def test_works_without_any_configuration_of_casacore(observed, tmp_path):
    """A bare environment, everybeam first used through us: coefficients and tables are found."""
    path, layout = observed
    code = (
        "import sys; from ddfpipe.beam import make_beam\n"
        f"b = make_beam('full', {str(path)!r})\n"
        f"r = b.response(times=[{float(layout.times[0])!r}], freqs=[144e6], ra=[{layout.ra0}],"
        f" dec=[{layout.dec0 + 0.02}])\n"
        "assert 0.8 < abs(r[0, 0, 0, 0]) < 1, r"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True,
                          env={"PATH": "/usr/bin", "HOME": "/nonexistent"}, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
