"""Compressed copies: what they give back, and what is noticed when they do not."""

from __future__ import annotations

import os
import shutil

import numpy as np
import pytest
from astropy.io import fits

from ddfpipe.data.cubes import CubeFile, read_planes
from ddfpipe.data.images import SkyGrid
from ddfpipe.errors import ImagingError, StopRequested
from ddfpipe.products import compression
from ddfpipe.products.compression import compress, fpack_program, verify

GRID = SkyGrid(1.0, 0.8, 150, 150, 1e-4)
FREQ = np.array([120e6, 121e6, 125e6])
SIGMA = 1e-3


@pytest.fixture
def cube(tmp_path):
    """A Q and U cube of noise, a source, a blank plane and blank pixels."""
    rng = np.random.default_rng(4)
    path = tmp_path / "c.cube.dirty.fits"
    with CubeFile(path, GRID, freq=FREQ, width=[1e5] * 3, stokes="QU", beam=(3e-4, 2e-4, 1.0)) as f:
        for band in range(3):
            for stokes in "QU":
                plane = rng.normal(0, SIGMA, GRID.shape)
                plane[70, 80] += 0.5
                plane[:4] = np.nan
                if band == 1:
                    plane[:] = np.nan
                f.put(band, stokes, plane, weight=float(band != 1), noise=SIGMA)
    return path


@pytest.fixture(params=["fpack", "astropy"])
def program(request, monkeypatch):
    """Each of the two ways to compress."""
    if request.param == "fpack" and fpack_program() is None:
        pytest.skip("SKIPPED LOUDLY: fpack is not installed (Debian package libcfitsio-bin)")
    if request.param == "astropy":
        monkeypatch.setattr(compression, "fpack_program", lambda: None)
    return request.param


def test_the_copy_is_the_cube_to_a_part_of_its_noise(cube, program, tmp_path):
    target = tmp_path / "c.cube.dirty.fits.fz"
    assert compress(cube, target, 4) == program
    assert target.stat().st_size < 0.4 * cube.stat().st_size
    with fits.open(cube) as old, fits.open(target) as new:
        before, after = old[0].data, new[1].data
        np.testing.assert_array_equal(np.isfinite(after), np.isfinite(before))
        error = (after - before)[np.isfinite(before)]
        # a uniform deviate in a step of sigma / 4
        assert error.std() == pytest.approx(SIGMA / 4 / np.sqrt(12), rel=0.1)
        for key in ("CTYPE3", "CTYPE4", "CRVAL1", "FREQ0002", "BMAJ", "BUNIT"):
            assert new[1].header[key] == old[0].header[key]
    np.testing.assert_array_equal(read_planes(target)["FREQ"], FREQ)
    assert sorted(p.name for p in tmp_path.iterdir()) == [cube.name, target.name]


def test_both_programs_write_one_format(cube, tmp_path, monkeypatch):
    if fpack_program() is None:
        pytest.skip("SKIPPED LOUDLY: fpack is not installed (Debian package libcfitsio-bin)")
    compress(cube, tmp_path / "a.fz", 4)
    monkeypatch.setattr(compression, "fpack_program", lambda: None)
    compress(cube, tmp_path / "b.fz", 4)
    heads = [fits.open(tmp_path / name, disable_image_compression=True)[1].header
             for name in ("a.fz", "b.fz")]
    for key in ("ZCMPTYPE", "ZQUANTIZ", "ZTILE1", "ZTILE2", "ZBITPIX", "ZNAXIS4"):
        assert heads[0][key] == heads[1][key], key


def test_nothing_is_lost_without_quantisation(cube, program, tmp_path):
    target = tmp_path / "lossless.fz"
    compress(cube, target, 0)
    np.testing.assert_array_equal(fits.getdata(target), fits.getdata(cube))


def test_damage_is_noticed(cube, program, tmp_path):
    target = tmp_path / "c.fz"
    compress(cube, target, 4)
    verify(cube, target, 4)
    whole = target.read_bytes()
    # in the heap of the compressed tiles; the table of frequencies is at the end
    for place in (len(whole) // 2, len(whole) // 3):
        damaged = bytearray(whole)
        damaged[place] ^= 0xFF
        target.write_bytes(damaged)
        with pytest.raises(ImagingError, match="c.fz"):
            verify(cube, target, 4)
    target.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ImagingError, match="c.fz"):
        verify(cube, target, 4)


def test_the_copy_of_another_cube_is_noticed(cube, program, tmp_path):
    target = tmp_path / "c.fz"
    compress(cube, target, 4)
    other = tmp_path / "other.fits"
    shutil.copy(cube, other)
    with fits.open(other, mode="update") as hdus:
        hdus[0].data[2, 1] += 5 * SIGMA
    with pytest.raises(ImagingError, match=r"plane \(2, 1\) differs"):
        verify(other, target, 4)
    with fits.open(other, mode="update") as hdus:
        hdus[0].header["BMAJ"] = 1.0
    with pytest.raises(ImagingError, match="BMAJ"):
        verify(other, target, 4)


def test_a_failing_fpack_leaves_nothing(cube, tmp_path, monkeypatch):
    script = tmp_path / "fpack"
    script.write_text("#!/bin/sh\necho no luck\nexit 3\n")
    script.chmod(0o755)
    monkeypatch.setattr(compression, "fpack_program", lambda: str(script))
    before = sorted(os.listdir(tmp_path))
    with pytest.raises(ImagingError, match=r"code 3 \(no luck\)"):
        compress(cube, tmp_path / "c.fz", 4)
    assert sorted(os.listdir(tmp_path)) == before


def test_a_stop_ends_fpack(cube, tmp_path, monkeypatch):
    script = tmp_path / "fpack"
    script.write_text("#!/bin/sh\nexec sleep 60\n")
    script.chmod(0o755)
    monkeypatch.setattr(compression, "fpack_program", lambda: str(script))

    def stop():
        raise StopRequested("now")

    with pytest.raises(StopRequested):
        compress(cube, tmp_path / "c.fz", 4, stop)
    assert not list(tmp_path.glob("*.fz")) and not list(tmp_path.glob(".*"))
