"""Stokes Q, U and V: signs, Faraday rotation, what is unpolarised, corrections and attenuation."""

from __future__ import annotations

import dataclasses
import shutil
import subprocess

import numpy as np
import pytest
from astropy.io import fits
from astropy.wcs import WCS
from engine_fields import (
    Listener, make_engine, make_field, make_job, product, sources_at, true_table,
    write_directions,
)

from ddfpipe.calibration.gains import GainTable
from ddfpipe.data import solutions
from ddfpipe.data.cubes import read_planes
from ddfpipe.data.images import read_image
from ddfpipe.engines.base import GainChoice
from ddfpipe.engines.native.stokes import combine
from ddfpipe.errors import ImagingError
from ddfpipe.naming import image_product
from ddfpipe.simulate.truth import read_truth
from ddfpipe.units import SPEED_OF_LIGHT

NPIX, CELL = 300, 20.0
OFFSETS, FLUXES = [(0.3, 0.2), (-0.45, 0.35), (0.1, -0.5)], [2.0, 1.0, 1.5]
RM, ANGLE = (37.0, -12.5), (0.4, 2.2)
BAND = dict(
    n_ms=3, channels=8, channel_khz=390.625, first_mhz=122.0, last_mhz=160.0, core_fields=16,
    remote_stations=2, blocks=8, slots=2, small_list=3,
)


def polarised(sources):
    """The first two linearly polarised with RMs, the third circularly."""
    first, second, third = sources
    return [
        dataclasses.replace(first, fraction=0.3, angle=ANGLE[0], rm=RM[0]),
        dataclasses.replace(second, fraction=0.5, angle=ANGLE[1], rm=RM[1]),
        dataclasses.replace(third, circular=0.2),
    ]


@pytest.fixture(scope="module")
def field(tmp_path_factory):
    """Three polarised sources without any errors: (Simulation, sources)."""
    sources = polarised(sources_at(OFFSETS, FLUXES))
    return make_field(tmp_path_factory.mktemp("pol"), sources, observation=BAND), sources


@pytest.fixture(scope="module")
def cubes(field, tmp_path_factory):
    """Folder of I, Q, U and V cubes of that field, one plane a channel."""
    folder = tmp_path_factory.mktemp("polcubes")
    make_engine(folder, 2).image(stokes_job("pol", field[0], "IQUV"), Listener())
    return folder


def stokes_job(name, simulation, stokes, **changes):
    settings = dict(
        stokes=stokes, major_cycles=0, band_mode="channel", cubes=("dirty", "dirty_corr"),
        restoring_beam=(60.0, 60.0, 0.0),
    )
    return make_job(name, simulation, NPIX, CELL, **{**settings, **changes})


def spectrum(image, source, stokes):
    """(band,) value of the pixel at a source."""
    y, x = (int(np.rint(v)) for v in image.grid.pixel_of(source.ra, source.dec))
    return np.array(image.data[:, stokes, y, x], float)


def rm_synthesis(freq, q, u):
    """(rms, |F|, width of the RMTF): Brentjens & de Bruyn 2005, A&A 441, 1217, equations 25, 61."""
    squared = (SPEED_OF_LIGHT / freq) ** 2
    rms = np.arange(-100.0, 100.0, 0.005)
    middle = squared.mean()
    turned = np.exp(-2j * np.outer(rms, squared - middle))
    width = 2 * np.sqrt(3) / np.ptp(squared)
    return rms, np.abs(turned @ (q + 1j * u)) / len(freq), width


def test_rotation_measures_are_those_of_the_sources(field, cubes):
    image = read_image(cubes / image_product("pol", "cube_dirty_corr"))
    for source, rm in zip(field[1], RM):
        q, u = spectrum(image, source, 1), spectrum(image, source, 2)
        rms, peak, width = rm_synthesis(image.freq, q, u)
        assert width < 3.0
        assert abs(rms[peak.argmax()] - rm) < 0.02 * width
        # the other sources' side lobes are a few per cent of them
        assert peak.max() == pytest.approx(source.fraction * source.flux, rel=0.05)


def test_angles_at_zero_wavelength_are_those_of_the_sources(field, cubes):
    image = read_image(cubes / image_product("pol", "cube_dirty_corr"))
    squared = (SPEED_OF_LIGHT / image.freq) ** 2
    for source in field[1][:2]:
        p = spectrum(image, source, 1) + 1j * spectrum(image, source, 2)
        left = np.angle(np.mean(p * np.exp(-2j * (source.angle + source.rm * squared))))
        assert abs(left) < 0.03


def test_v_has_its_sign_and_leaves_the_other_sources_dark(field, cubes):
    image = read_image(cubes / image_product("pol", "cube_dirty"))
    third = spectrum(image, field[1][2], 3).mean()
    assert third == pytest.approx(0.2 * 1.5, rel=0.03)
    # far from it only its side lobes
    assert abs(spectrum(image, field[1][0], 3).mean()) < 0.1 * third


def test_signs_by_hand():
    """A wave X exp(iwt), Y exp(iwt + i phi): circular where phi is a quarter turn."""
    x, y = 1.0, np.exp(-0.5j * np.pi)  # Y lags X: right-handed for the IAU, x north and y east
    vis = np.array([x * np.conj(x), x * np.conj(y), y * np.conj(x), y * np.conj(y)])
    assert combine(vis, "V") == pytest.approx(1.0) and combine(vis, "I") == pytest.approx(1.0)
    north_east = np.full(4, 0.5)
    assert combine(north_east, "U") == pytest.approx(0.5)
    assert combine(np.array([1, 0, 0, 0]), "Q") == pytest.approx(0.5)


def test_wsclean_sees_the_same_stokes_parameters(field, tmp_path):
    program = shutil.which("wsclean")
    if program is None:
        pytest.skip("SKIPPED LOUDLY: wsclean is not installed (Debian package wsclean)")
    simulation = field[0]
    command = [
        program, "-name", str(tmp_path / "theirs"), "-size", str(NPIX), str(NPIX), "-scale",
        f"{CELL}asec", "-weight", "natural", "-no-update-model-required", "-use-wgridder",
        "-no-small-inversion", "-pol", "QUV", "-niter", "0", "-j", "1", "-maxuvw-m", "8000",
        str(simulation.ms[0]),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    job = stokes_job("ours", simulation.ms[:1], "QUV", cubes=(), band_mode="equal", n_bands=1,
                     decorrelation=False)
    make_engine(tmp_path).image(job, Listener())
    ours = product(tmp_path, "ours", "dirty")
    for number, stokes in enumerate("QUV"):
        theirs = read_image(tmp_path / f"theirs-{stokes}-dirty.fits").plane()
        # uv cuts of the two programs differ by the w term
        assert np.abs(ours.plane(0, number) - theirs).max() < 0.05 * np.abs(theirs).max(), stokes


def test_axes_and_table_of_the_cube(field, cubes):
    path = cubes / image_product("pol", "cube_dirty")
    header = fits.getheader(path)
    wcs, table = WCS(header), read_planes(path)
    assert [header[f"CTYPE{n}"] for n in (1, 2, 3, 4)] == ["RA---SIN", "DEC--SIN", "STOKES", "FREQ"]
    assert [wcs.all_pix2world([[0, 0, s, 0]], 0)[0][2] for s in range(4)] == [1, 2, 3, 4]
    assert len(table["FREQ"]) == 24 and np.all(np.diff(table["FREQ"]) > 0)
    assert {"NOISE_I", "NOISE_Q", "NOISE_U", "NOISE_V"} <= set(table)
    np.testing.assert_allclose([header[f"FREQ{n:04d}"] for n in range(24)], table["FREQ"])


def test_one_stokes_parameter_has_three_axes(field, tmp_path):
    make_engine(tmp_path, 2).image(stokes_job("u", field[0], "U", cubes=("dirty",)), Listener())
    path = tmp_path / image_product("u", "cube_dirty")
    header = fits.getheader(path)
    assert header["NAXIS"] == 3 and header["CTYPE3"] == "FREQ" and header["STOKES"] == "U"
    assert "CTYPE4" not in header
    assert WCS(header).all_pix2world([[0, 0, 0]], 0)[0][2] == pytest.approx(header["FREQ0000"])
    assert read_image(path).data.shape == (24, 1, NPIX, NPIX)


@pytest.fixture(scope="module")
def unpolarised(tmp_path_factory):
    """The same field without polarisation, with noise and full-Jones station errors."""
    folder = tmp_path_factory.mktemp("unpol")
    sources = sources_at(OFFSETS, FLUXES)
    simulation = make_field(
        folder, sources, observation={**BAND, "n_ms": 1}, noise={"sample_jy": 0.5},
        errors={"amplitude_rms": 0.15, "phase_rms_rad": 0.3, "leakage_rms": 0.1},
    )
    return simulation, sources, folder


def station_table(folder, ms) -> GainTable:
    """The simulator's station errors as a full-Jones solution set."""
    truth = read_truth(folder)
    number = truth.index(ms.name)
    jones = truth.station_jones(number)  # (time, ant, chan, 2, 2)
    gains = np.moveaxis(jones, 2, 1).reshape(len(jones), jones.shape[2], jones.shape[1], 1, 4)
    plain = true_table(folder, ms, truth.sources, amplitude=True)
    return dataclasses.replace(
        plain, gains=gains.astype(np.complex64), flag=np.zeros(gains.shape, bool),
        directions=np.array([[0.0, 0.0]]), error=None,
    )


def test_v_of_an_unpolarised_field_is_noise(unpolarised, tmp_path):
    """All four correlations are corrected: nothing leaks from I into V, Q and U."""
    simulation, sources, truth = unpolarised
    ms = simulation.ms[0]
    engine = make_engine(tmp_path, 2)
    solutions.save_solution(station_table(truth, ms), engine.solsdir, ms, "DIS")
    job = stokes_job("v", simulation, "IQUV", cubes=(), band_mode="equal", n_bands=1)
    corrected = dataclasses.replace(job, vis=dataclasses.replace(job.vis, di="DIS"))
    result = engine.image(corrected, Listener())
    images = product(tmp_path, "v", "dirty")
    raw = dataclasses.replace(job, name="raw")
    engine.image(raw, Listener())
    before = product(tmp_path, "raw", "dirty")
    for number, stokes in ((1, "Q"), (2, "U"), (3, "V")):
        noise = result.details[f"noise_{stokes}"]
        plane = images.plane(0, number)
        assert np.abs(plane).max() < 5.5 * plane.std()
        assert plane.std() == pytest.approx(noise, rel=0.05)
        assert np.abs(before.plane(0, number)).max() > 2 * np.abs(plane).max(), stokes
    assert images.plane(0, 0).max() == pytest.approx(max(FLUXES), rel=0.1)
    assert result.noise < 0.01 and result.dynamic_range < 7


def test_v_through_ionosphere_and_beam_is_that_of_the_sky(tmp_path):
    """Direction-dependent scalar gains and the beam's attenuation hold for V as for I."""
    sources = polarised(sources_at(OFFSETS, FLUXES))
    simulation = make_field(
        tmp_path / "sky", sources, observation={**BAND, "n_ms": 1}, beam="array_factor",
        ionosphere={"diffractive_km": 3.0, "npix": 512},
    )
    engine = make_engine(tmp_path, 2, beam_model="array_factor")
    table = true_table(tmp_path / "sky", simulation.ms[0], sources, amplitude=False)
    solutions.save_solution(table, engine.solsdir, simulation.ms[0], "DDS")
    job = stokes_job(
        "v", simulation, "IV", cubes=(), band_mode="equal", n_bands=1,
        clusters=write_directions(tmp_path, sources), gains=GainChoice(("DDS",), "P"),
    )
    engine.image(job, Listener())
    app, true = (product(tmp_path, "v", kind) for kind in ("dirty", "dirty_corr"))
    source = sources[2]
    seen, intrinsic = (spectrum(image, source, 1)[0] for image in (app, true))
    assert intrinsic == pytest.approx(0.2 * source.flux, rel=0.05)
    assert seen < 0.98 * intrinsic
    ratio = spectrum(app, source, 0)[0] / spectrum(true, source, 0)[0]
    assert seen / intrinsic == pytest.approx(ratio, rel=1e-4)


def test_without_a_given_beam_the_header_has_that_of_the_psf(field, tmp_path):
    job = stokes_job("b", field[0].ms[:1], "V", cubes=(), restoring_beam=None, n_bands=1)
    result = make_engine(tmp_path, 2).image(job, Listener())
    beam = product(tmp_path, "b", "dirty").beam
    assert 20 < result.beam_arcsec[1] <= result.beam_arcsec[0] < 300
    assert np.degrees(beam[0]) * 3600 == pytest.approx(result.beam_arcsec[0], rel=1e-5)


@pytest.mark.parametrize("changes, words", [
    (dict(stokes="QX"), "Stokes 'QX' cannot be one image"),
    (dict(stokes="UQ"), "Stokes 'UQ' cannot be one image"),
    (dict(stokes="IQV"), "Stokes 'IQV' cannot be one image"),
    (dict(stokes="V", major_cycles=1), "no major cycles"),
    (dict(stokes="V", cubes=("int_restored",)), "are dirty, not int_restored"),
])
def test_what_cannot_be_is_refused(field, tmp_path, changes, words):
    job = stokes_job("no", field[0], **{"stokes": "Q", **changes})
    with pytest.raises(ImagingError, match=words):
        make_engine(tmp_path).image(job, Listener())
