"""Cubes over frequency: fluxes of the planes, their axes, and what a plane without data is."""

from __future__ import annotations

import dataclasses
import shutil

import numpy as np
import pytest
from astropy.io import fits
from astropy.wcs import WCS
from casacore.tables import table
from engine_fields import Listener, fit_source, make_engine, make_field, make_job, sources_at

from ddfpipe.data.cubes import read_planes
from ddfpipe.data.images import read_image
from ddfpipe.errors import DataError, ImagingError
from ddfpipe.naming import image_product

OFFSETS, FLUXES = [(0.3, 0.2), (-0.4, 0.35), (0.1, -0.5)], [2.0, 1.0, 0.6]
NPIX, CELL = 360, 15.0


@pytest.fixture(scope="module")
def field(tmp_path_factory):
    """Three steep sources at four frequencies: (Simulation, sources)."""
    sources = sources_at(OFFSETS, FLUXES, -0.8)
    observation = dict(
        n_ms=4, channels=2, channel_khz=195.3125, first_mhz=122.0, last_mhz=166.0,
        core_fields=20, remote_stations=6, blocks=10, slots=2, small_list=4,
    )
    folder = tmp_path_factory.mktemp("steep")
    return make_field(folder, sources, beam="array_factor", observation=observation), sources


@pytest.fixture(scope="module")
def cleaned(field, tmp_path_factory):
    """Folder of an image with cubes of every kind, one plane a measurement set."""
    folder = tmp_path_factory.mktemp("cubes")
    engine = make_engine(folder, 2, beam_model="array_factor")
    job = make_job(
        "steep", field[0], NPIX, CELL, major_cycles=3, band_mode="frequency",
        cubes=("dirty", "dirty_corr", "app_restored", "int_restored"),
    )
    result = engine.image(job, Listener())
    names = {path.name for path in result.products}
    assert {image_product("steep", f"cube_{kind}") for kind in job.cubes} <= names
    return folder


def cube(folder, kind, name="steep"):
    return read_image(folder / image_product(name, f"cube_{kind}"))


def test_fluxes_of_the_planes_follow_the_spectra(field, cleaned):
    image = cube(cleaned, "int_restored")
    assert image.freq.size == 4
    for source in field[1]:
        for band, freq in enumerate(image.freq):
            found = fit_source(Plane(image, band), source.ra, source.dec).flux
            true = source.flux * (freq / source.ref_freq) ** -0.8
            assert found == pytest.approx(true, rel=0.02), (source.name, freq)


class Plane:
    """One plane of a cube as `fit_source` reads an image."""

    def __init__(self, image, band):
        self.image, self.band, self.beam, self.grid = image, band, image.beam, image.grid

    def plane(self):
        return self.image.plane(self.band)


def test_all_planes_have_the_beam_of_the_image(cleaned):
    image = read_image(cleaned / image_product("steep", "int_restored"))
    for kind in ("app_restored", "int_restored", "dirty"):
        assert cube(cleaned, kind).beam == pytest.approx(image.beam, rel=1e-6)


def test_the_mean_of_the_planes_is_the_image(cleaned):
    weight = read_planes(cleaned / image_product("steep", "cube_dirty"))["WEIGHT"]
    for kind in ("dirty", "app_restored"):
        mean = np.average(cube(cleaned, kind).cube(), axis=0, weights=weight)
        image = read_image(cleaned / image_product("steep", kind)).plane()
        assert np.abs(mean - image).max() < 0.01 * np.abs(image).max(), kind


def test_apparent_over_intrinsic_is_the_beam_of_the_band(cleaned):
    app, true = cube(cleaned, "app_restored").cube(), cube(cleaned, "int_restored").cube()
    dirty, corrected = cube(cleaned, "dirty").cube(), cube(cleaned, "dirty_corr").cube()
    bright = np.abs(dirty) > 0.05
    ratio = app / true
    np.testing.assert_allclose((dirty / corrected)[bright], ratio[bright], rtol=1e-3)
    edge = ratio[:, NPIX // 2, 5]
    assert np.all(np.diff(edge) < 0), "the beam narrows with frequency"


def test_astropy_reads_sky_stokes_and_frequency(field, cleaned):
    path = cleaned / image_product("steep", "cube_int_restored")
    with fits.open(path) as hdus:
        hdus.verify("exception")
        header, shape = hdus[0].header, hdus[0].data.shape
        assert [h.name for h in hdus] == ["PRIMARY", "FREQUENCIES"]
    assert shape == (4, 1, NPIX, NPIX)
    wcs = WCS(header)
    source = field[1][0]
    image = read_image(path)
    y, x = image.grid.pixel_of(source.ra, source.dec)
    ra, dec, stokes, freq = wcs.all_pix2world([[float(x), float(y), 0, 0]], 0)[0]
    assert np.radians([ra, dec]) == pytest.approx([source.ra, source.dec], abs=1e-8)
    assert stokes == 1 and freq == pytest.approx(image.freq[0])
    assert wcs.spectral.wcs.ctype[0] == "FREQ" and wcs.celestial.wcs.ctype[0] == "RA---SIN"


def test_evenly_spaced_channels_are_a_linear_axis(field, tmp_path):
    engine = make_engine(tmp_path, 2)
    job = make_job("chan", field[0].ms[:1], NPIX, CELL, major_cycles=0, band_mode="channel",
                   cubes=("dirty",))
    engine.image(job, Listener())
    path = tmp_path / image_product("chan", "cube_dirty")
    planes, header = read_planes(path), fits.getheader(path)
    cache = next((tmp_path / "cache").glob("*.ddfvis"))
    with np.load(cache / "axes.npz") as axes:
        np.testing.assert_allclose(planes["FREQ"], axes["freq"])
        np.testing.assert_allclose(planes["WIDTH"], axes["chan_width"])
    linear = header["CRVAL4"] + np.arange(2) * header["CDELT4"]
    np.testing.assert_allclose(linear, planes["FREQ"], rtol=1e-12)
    assert np.all(planes["NOISE_I"] > 0) and np.all(planes["WEIGHT"] > 0)


def test_few_bands_at_a_time_give_the_same_cube(field, tmp_path):
    planes = []
    for number, memory in enumerate((4 << 30, 1 << 20)):
        engine = make_engine(tmp_path / str(number), 2)
        engine.memory_limit = memory
        job = make_job("all", field[0], NPIX, CELL, major_cycles=0, band_mode="frequency",
                       cubes=("dirty_corr",))
        engine.image(job, Listener())
        planes.append(cube(tmp_path / str(number), "dirty_corr", "all").cube())
    # Grids are laid out for the bands of a group: two layouts agree to the accuracy of the pass.
    np.testing.assert_allclose(planes[1], planes[0], atol=2e-5 * np.nanmax(planes[0]))


def test_a_channel_without_data_is_a_blank_plane(field, tmp_path):
    ms = tmp_path / field[0].ms[0].name
    shutil.copytree(field[0].ms[0], ms)
    with table(str(ms), readonly=False, ack=False) as main:
        flags = main.getcol("FLAG")
        flags[:, 1] = True
        main.putcol("FLAG", flags)
    job = make_job("gap", (ms,), NPIX, CELL, major_cycles=0, band_mode="channel",
                   cubes=("dirty", "dirty_corr"))
    make_engine(tmp_path / "work", 2).image(job, Listener())
    planes = read_planes(tmp_path / "work" / image_product("gap", "cube_dirty_corr"))
    assert planes["WEIGHT"][1] == 0 < planes["WEIGHT"][0] and np.isnan(planes["NOISE_I"][1])
    assert np.all(np.diff(planes["FREQ"]) > 1e5)
    for kind in job.cubes:
        image = cube(tmp_path / "work", kind, "gap")
        assert np.isnan(image.plane(1)).all() and np.isfinite(image.plane(0)).any()


@pytest.mark.parametrize("mhz, label", [((0.0, 140.0), 130.0), ((140.0, 1e6), 160.0)])
def test_an_image_of_a_band_has_the_fluxes_of_its_frequency(field, cleaned, mhz, label):
    job = make_job("one", field[0], NPIX, CELL, major_cycles=0, start_model="steep",
                   header_mhz=label)
    job = dataclasses.replace(job, vis=dataclasses.replace(job.vis, mhz=mhz))
    make_engine(cleaned, 2, beam_model="array_factor").image(job, Listener())
    image = read_image(cleaned / image_product("one", "int_restored"))
    assert image.header["CRVAL4"] == image.header["RESTFRQ"] == label * 1e6
    mean = image.header["MEANFREQ"]
    assert mhz[0] < mean / 1e6 < mhz[1]
    for source in field[1]:
        true = source.flux * (mean / source.ref_freq) ** -0.8
        assert fit_source(image, source.ra, source.dec).flux == pytest.approx(true, rel=0.02)


def test_a_band_without_data_is_refused(field, tmp_path):
    job = make_job("none", field[0], NPIX, CELL, major_cycles=0)
    job = dataclasses.replace(job, vis=dataclasses.replace(job.vis, mhz=(130.0, 131.0)))
    with pytest.raises(DataError, match="centralfreqs"):
        make_engine(tmp_path).image(job, Listener())


def test_a_kind_that_does_not_exist_is_refused(field, tmp_path):
    job = make_job("no", field[0], NPIX, CELL, cubes=("norm",))
    with pytest.raises(ImagingError, match="no cubes of norm"):
        make_engine(tmp_path).image(job, Listener())


def test_an_unknown_band_mode_is_refused(field, tmp_path):
    job = make_job("no", field[0], NPIX, CELL, cubes=("dirty",), band_mode="subband",
                   major_cycles=0)
    with pytest.raises(ImagingError, match="band_mode 'subband'"):
        make_engine(tmp_path).image(job, Listener())
