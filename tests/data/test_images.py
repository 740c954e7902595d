"""FITS images: geometry against astropy, bytes, damage."""

from __future__ import annotations

import math

import numpy as np
import pytest
from astropy.io import fits
from astropy.wcs import WCS
from hypothesis import given, settings
from hypothesis import strategies as st

from ddfpipe.data.images import SkyGrid, read_image, write_image
from ddfpipe.errors import ImagingError
from ddfpipe.units import ARCSEC, DEGREE

GRID = SkyGrid(3.65, 0.95, 60, 80, 1.5 * ARCSEC)


@settings(max_examples=30, deadline=None)
@given(st.floats(0, 6.28), st.floats(-1.5, 1.5), st.integers(3, 900), st.integers(3, 900),
       st.floats(1, 20))
def test_pixels_and_sky_agree_with_astropy(ra, dec, ny, nx, cell):
    grid = SkyGrid(ra, dec, ny, nx, cell * ARCSEC)
    y, x = np.array([0.0, ny - 1, ny / 3]), np.array([nx - 1.0, 0, nx / 5])
    sky = grid.radec(*grid.lm(y, x))
    expected = np.radians(grid.wcs().all_pix2world(x, y, 0))
    gap = (sky[0] - expected[0] + math.pi) % (2 * math.pi) - math.pi
    assert np.abs(gap * np.cos(sky[1])).max() < 1e-10
    assert np.abs(sky[1] - expected[1]).max() < 1e-10
    back = grid.pixel_of(*sky)
    assert np.abs(back[0] - y).max() < 1e-5 and np.abs(back[1] - x).max() < 1e-5


def test_east_is_left_north_is_up_and_far_side_is_nan():
    ra, dec = GRID.radec(*GRID.lm(np.array([30, 59]), np.array([0, 40])))
    assert ra[0] > GRID.ra and dec[1] > GRID.dec
    assert GRID.lm(30, 40) == (0.0, 0.0)
    assert np.isnan(GRID.lm_of(GRID.ra + math.pi, -GRID.dec)[0])
    assert not GRID.inside(np.nan, 3) and GRID.inside(59.4, 0) and not GRID.inside(59.6, 0)


@pytest.mark.parametrize("shape", [(60, 80), (3, 60, 80), (2, 3, 60, 80)])
def test_what_is_written_is_read_by_us_and_by_astropy(tmp_path, shape):
    data = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    freq = {2: [1.4e8], 3: [1.2e8, 1.3e8, 1.6e8], 4: [1.2e8, 1.5e8]}[len(shape)]
    stokes = "IQU" if len(shape) == 4 else "I"
    beam = (6 * ARCSEC, 5 * ARCSEC, 0.5)
    path = write_image(tmp_path / "a.fits", data, GRID, freq=freq, stokes=stokes, beam=beam,
                       history=["robust -0.5"], keys={"NOISE": 1e-4})
    image = read_image(path)
    four = data.reshape((len(freq), len(stokes), 60, 80))
    assert np.array_equal(image.data, four)
    assert image.grid.same(GRID) and image.grid.shape == GRID.shape
    assert np.allclose(image.freq, freq) and np.allclose(image.beam, beam)
    assert image.plane(0, 0).dtype == np.float32 and image.plane(0, 0).dtype.isnative
    with fits.open(path) as hdus:
        hdus.verify("exception")
        assert np.array_equal(hdus[0].data, four)
        header = hdus[0].header
    assert header["HISTORY"][0] == "robust -0.5" and header["NOISE"] == 1e-4
    assert header["BMAJ"] == pytest.approx(6 / 3600) and header["CDELT1"] < 0
    assert header["RESTFRQ"] == pytest.approx(np.mean(freq))
    l, m = GRID.lm(np.array([3]), np.array([7]))  # noqa: E741
    expected = WCS(header).celestial.all_pix2world([7], [3], 0)
    assert np.allclose(np.array(GRID.radec(l, m)) / DEGREE, expected)


def test_files_are_atomic_and_have_the_same_bytes(tmp_path):
    data = np.ones(GRID.shape)
    one = write_image(tmp_path / "a.fits", data, GRID, freq=1.4e8).read_bytes()
    assert write_image(tmp_path / "b.fits", data, GRID, freq=1.4e8).read_bytes() == one
    assert len(one) % 2880 == 0
    with pytest.raises(ImagingError, match="shape"):
        write_image(tmp_path / "a.fits", np.ones((3, 3)), GRID, freq=1.4e8)
    assert (tmp_path / "a.fits").read_bytes() == one
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.fits", "b.fits"]
    with pytest.raises(ImagingError, match="missing"):
        write_image(tmp_path / "missing" / "a.fits", data, GRID, freq=1.4e8)


@pytest.mark.parametrize("keep", [0, 100, 2879, 2880, 5000, 19199])
def test_truncated_files_are_named(tmp_path, keep):
    path = write_image(tmp_path / "cut.fits", np.ones(GRID.shape), GRID, freq=1.4e8)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(ImagingError, match="cut.fits"):
        read_image(path)


def test_wrong_files_are_refused(tmp_path):
    with pytest.raises(ImagingError, match="no such"):
        read_image(tmp_path / "none.fits")
    path = write_image(tmp_path / "a.fits", np.ones(GRID.shape), GRID, freq=1.4e8)
    for key, value in (("CTYPE1", "RA---TAN"), ("CDELT1", 1e-3), ("CROTA2", 10.0), ("CRPIX1", 9.0)):
        with fits.open(path) as hdus:
            hdus[0].header[key] = value
            hdus.writeto(tmp_path / "wrong.fits", overwrite=True)
        with pytest.raises(ImagingError, match="wrong.fits"):
            read_image(tmp_path / "wrong.fits")


def test_either_order_of_stokes_and_frequency_is_understood(tmp_path):
    data = np.arange(2 * 60 * 80, dtype=np.float32).reshape(2, 60, 80)
    path = write_image(tmp_path / "a.fits", data, GRID, freq=[1.2e8, 1.5e8])
    with fits.open(path) as hdus:
        header = hdus[0].header
        for key in ("CTYPE", "CRVAL", "CRPIX", "CDELT", "CUNIT"):
            header[key + "3"], header[key + "4"] = header[key + "4"], header[key + "3"]
        fits.writeto(tmp_path / "b.fits", hdus[0].data.swapaxes(0, 1), header)
    other = read_image(tmp_path / "b.fits")
    assert np.array_equal(other.cube(), data) and np.allclose(other.freq, [1.2e8, 1.5e8])


def test_grids_differ_by_shift_cell_and_size():
    assert GRID.same(SkyGrid(GRID.ra, GRID.dec, 60, 80, GRID.cell * (1 + 1e-9)))
    for other in (SkyGrid(GRID.ra + GRID.cell, GRID.dec, 60, 80, GRID.cell),
                  SkyGrid(GRID.ra, GRID.dec, 60, 82, GRID.cell),
                  SkyGrid(GRID.ra, GRID.dec, 60, 80, 1.01 * GRID.cell)):
        assert not GRID.same(other)
