"""The file of a cube: whole or absent, planes in any order, axes."""

from __future__ import annotations

import os
import warnings

import numpy as np
import pytest
from astropy.io import fits
from astropy.wcs import WCS

from ddfpipe.data.cubes import CubeFile, read_planes
from ddfpipe.data.images import SkyGrid, read_image, write_image
from ddfpipe.errors import ImagingError

GRID = SkyGrid(1.0, 0.8, 12, 12, 1e-4)
FREQ = np.array([120e6, 121e6, 125e6])


def cube_file(path, **changes):
    return CubeFile(path, GRID, freq=FREQ, width=[1e5, 2e5, 1e5], **changes)


def test_planes_come_in_any_order(tmp_path):
    path = tmp_path / "c.fits"
    with cube_file(path, stokes="QU") as file:
        for band in (2, 0, 1):
            for number, stokes in enumerate("QU"):
                file.put(band, stokes, np.full(GRID.shape, 10.0 * band + number), 5.0 + band, 0.1)
        assert not path.exists()
    image = read_image(path)
    assert image.data.shape == (3, 2, 12, 12)
    np.testing.assert_array_equal(image.data[:, :, 3, 4], [[0, 1], [10, 11], [20, 21]])
    table = read_planes(path)
    np.testing.assert_array_equal(table["WEIGHT"], [5, 6, 7])
    np.testing.assert_array_equal(table["WIDTH"], [1e5, 2e5, 1e5])
    np.testing.assert_array_equal(image.freq, FREQ)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with fits.open(path) as hdus:
            hdus.verify("exception")
            assert hdus[0].data.shape == (3, 2, 12, 12)


def test_uneven_planes_have_their_frequencies_beside_the_axis(tmp_path):
    path = tmp_path / "c.fits"
    with cube_file(path, stokes="V", stokes_axis=False) as file:
        for band in range(3):
            file.put(band, "V", np.zeros(GRID.shape), 1.0, 0.1)
    header = fits.getheader(path)
    assert header["NAXIS"] == 3 and header["STOKES"] == "V"
    wcs = WCS(header)
    ends = [wcs.all_pix2world([[0, 0, z]], 0)[0][2] for z in (0, 2)]
    assert ends == pytest.approx([120e6, 125e6])
    assert [header[f"FREQ000{k}"] for k in range(3)] == list(FREQ)


def test_a_missing_plane_leaves_no_file(tmp_path):
    with pytest.raises(ImagingError, match="2 planes were never written"):
        with cube_file(tmp_path / "c.fits") as file:
            file.put(1, "I", np.zeros(GRID.shape), 1.0, 0.1)
    assert os.listdir(tmp_path) == []


def test_an_error_leaves_the_old_file(tmp_path):
    path = tmp_path / "c.fits"
    path.write_text("old")
    with pytest.raises(ZeroDivisionError):
        with cube_file(path) as file:
            file.put(1, "I", np.zeros(GRID.shape), 1.0, 0.1)
            1 / 0
    assert path.read_text() == "old" and os.listdir(tmp_path) == ["c.fits"]


def test_a_plane_of_another_shape_is_refused(tmp_path):
    with pytest.raises(ImagingError, match="plane of"):
        with cube_file(tmp_path / "c.fits") as file:
            file.put(0, "I", np.zeros((3, 3)), 1.0, 0.1)


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    with pytest.raises(ImagingError, match="cannot be written"):
        with cube_file(tmp_path / "nowhere" / "c.fits"):
            pass


def test_an_image_is_no_cube(tmp_path):
    path = write_image(tmp_path / "i.fits", np.zeros(GRID.shape), GRID, freq=1e8)
    with pytest.raises(ImagingError, match="FREQUENCIES"):
        read_planes(path)
