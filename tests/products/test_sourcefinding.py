"""PyBDSF behind its wall: what it finds, what it leaves behind, how it ends."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from quality_fields import BEAM, NOISE, Field, make_field, noise_plane

from ddfpipe.data.images import SkyGrid, write_image
from ddfpipe.errors import ImagingError, StageFailed, StopRequested
from ddfpipe.products import sourcefinding
from ddfpipe.products.crossmatch import match
from ddfpipe.products.sourcefinding import (
    BOOTSTRAP, OFFSETS, PRESETS, QUALITY, FinderSettings, NoSourcesFound, central_box,
    find_sources, scaled_boxes,
)
from ddfpipe.units import ARCSEC, DEGREE

PLAIN = FinderSettings(thresh_isl=4.0, thresh_pix=5.0)


@pytest.fixture(scope="module")
def field(tmp_path_factory) -> Field:
    return make_field(tmp_path_factory.mktemp("field"), n=200, per_side=4)


@pytest.fixture(scope="module")
def found(field, tmp_path_factory):
    """(table, folder of what was kept, lines of the log)."""
    folder, lines = tmp_path_factory.mktemp("found"), []
    exports = {"rms": folder / "rms.fits", "mask": folder / "mask.fits",
               "gaussians": folder / "gaul.fits", "regions": folder / "cat.reg"}
    before = Path.cwd()
    table = find_sources(field.app, field.intrinsic, scaled_boxes(QUALITY, 200, 200), threads=1,
                         output=folder / "cat.fits", exports=exports, say=lines.append)
    assert Path.cwd() == before
    return table, folder, lines


def test_fluxes_and_positions(field, found):
    table = found[0]
    pairs = match(field.ra, field.dec, np.asarray(table["RA"]) * DEGREE,
                  np.asarray(table["DEC"]) * DEGREE, BEAM / 2)
    assert pairs.size == field.ra.size and len(table) <= field.ra.size + 1
    ratio = np.asarray(table["Total_flux"])[pairs.second] / field.flux[pairs.first]
    error = np.asarray(table["E_Total_flux"])[pairs.second] / field.flux[pairs.first]
    assert np.abs((ratio - 1) / np.hypot(error, 0.01)).max() < 4
    assert np.median(pairs.separation) < 0.3 * ARCSEC
    assert set(table["S_Code"]) <= {"S", "M", "C"}
    np.testing.assert_allclose(np.asarray(table["Isl_rms"]), NOISE * 1.15, rtol=0.35)


def test_what_is_kept_and_what_is_not(field, found):
    table, folder, lines = found
    assert sorted(p.name for p in folder.iterdir()) == [
        "cat.fits", "cat.reg", "gaul.fits", "mask.fits", "rms.fits"]
    assert len(fits.getdata(folder / "cat.fits", 1)) == len(table)
    assert fits.getdata(folder / "rms.fits").shape[-2:] == (200, 200)
    names = {p.name for p in field.app.parent.iterdir()}
    assert names == {"root.app.restored.fits", "root.int.restored.fits", "root.tessel.reg",
                     "root.app.residual.fits", "root.int.residual.fits"}
    assert any("Number of sources formed" in line for line in lines)
    assert not any("\x1b" in line for line in lines)


@pytest.fixture
def blank(tmp_path) -> Path:
    plane = noise_plane(np.random.default_rng(2), 128)
    return write_image(tmp_path / "blank.fits", plane, SkyGrid(1.0, 0.5, 128, 128, 1.5 * ARCSEC),
                       freq=144e6, beam=(BEAM, BEAM, 0.0))


def test_nothing_found_and_nothing_left(blank):
    with pytest.raises(NoSourcesFound, match="blank.fits: no source above 6 sigma"):
        find_sources(blank, None, replace(PLAIN, thresh_pix=6.0), threads=1,
                     output=blank.parent / "cat.fits")
    assert [p.name for p in blank.parent.iterdir()] == ["blank.fits"]


def test_failures_of_the_finder_are_told(blank):
    with pytest.raises(StageFailed, match="PyBDSF failed on .*blank.fits: RuntimeError"):
        find_sources(blank, None, replace(PLAIN, mean_map="nonsense"), threads=1)


def test_images_that_cannot_be_used(blank, tmp_path):
    grid = SkyGrid(1.0, 0.5, 128, 128, 1.5 * ARCSEC)
    plain = write_image(tmp_path / "dirty.fits", np.zeros((128, 128)), grid, freq=144e6)
    with pytest.raises(ImagingError, match="without BMAJ"):
        find_sources(plain, None, PLAIN, threads=1)
    other = write_image(tmp_path / "other.fits", np.zeros((64, 64)),
                        replace(grid, ny=64, nx=64), freq=144e6, beam=(BEAM, BEAM, 0.0))
    with pytest.raises(ImagingError, match="do not have the same pixels"):
        find_sources(other, blank, PLAIN, threads=1)
    with pytest.raises(ValueError, match="exports"):
        find_sources(blank, None, PLAIN, threads=1, exports={"colour": tmp_path / "x"})


class Stopper:
    """A monitor that asks for a stop after some checks."""

    log = None

    def __init__(self, after: int) -> None:
        self.left = after
        self.folders: list[Path] = []

    def check(self) -> None:
        self.left -= 1
        if self.left < 0:
            raise StopRequested("enough")

    def message(self, text: str) -> None:
        raise AssertionError(text)


def test_a_stop_ends_the_finder_at_once(blank, monkeypatch):
    started = []
    popen = subprocess.Popen
    monkeypatch.setattr(sourcefinding.subprocess, "Popen",
                        lambda *a, **k: started.append(popen(*a, **k)) or started[-1])
    with pytest.raises(StopRequested):
        find_sources(blank, None, PLAIN, threads=2, monitor=Stopper(2))
    assert started[0].returncode is not None
    with pytest.raises(ProcessLookupError):
        os.killpg(started[0].pid, 0)
    assert [p.name for p in blank.parent.iterdir()] == ["blank.fits"]


def test_the_finder_dies_with_its_parent(tmp_path):
    """The worker alone: its input ends before it is done, as when the parent is killed."""
    (tmp_path / "job.json").write_text("{}")
    (tmp_path / "sitecustomize.py").write_text("")
    code = ("import threading, time, sys; from ddfpipe.products import bdsf_worker as w; "
            "w._find = lambda job: time.sleep(60); w.main('job.json')")
    process = subprocess.Popen([sys.executable, "-c", code], cwd=tmp_path, stdin=subprocess.PIPE,
                               start_new_session=True)
    process.stdin.close()
    assert process.wait(timeout=600) == -9


def test_settings_become_arguments_of_pybdsf():
    quality = QUALITY.options()
    assert quality["adaptive_rms_box"] and quality["rms_box_bright"] == (60, 15)
    assert quality["atrous_do"] and quality["atrous_jmax"] == 4 and quality["rms_box"] == (160, 50)
    assert "trim_box" not in quality and "kappa_clip" not in quality
    offsets = OFFSETS.options()
    assert not offsets["atrous_do"] and "atrous_jmax" not in offsets
    bootstrap = BOOTSTRAP.options()
    assert bootstrap["spectralindex_do"] and bootstrap["kappa_clip"] == 3.0
    assert bootstrap["incl_chan"] and not bootstrap["flagchan_rms"]
    assert "adaptive_thresh" not in FinderSettings(adaptive_thresh=100.0).options()
    assert set(PRESETS) == {"quality", "offsets", "bootstrap"}


def test_every_setting_is_known_to_pybdsf():
    from bdsf.opts import Opts

    for preset in PRESETS.values():
        options = {**preset.options(), "trim_box": (0, 1, 0, 1)}
        options.pop("incl_chan", None)  # of the catalogue's writer
        for name, value in options.items():
            assert getattr(Opts({name: value}), name) is not None


def test_boxes():
    assert central_box(200, 100, 1.0) is None
    assert central_box(200, 100, 0.5) == (50, 150, 25, 75)
    fitted = scaled_boxes(QUALITY, 200, 300)
    assert fitted.rms_box == (49, 15) and fitted.rms_box_bright == (49, 12)
    assert scaled_boxes(QUALITY, 4000, 4000) == QUALITY


@pytest.fixture(scope="module")
def cube(tmp_path_factory) -> Path:
    """Four bands with sources of spectral index -0.8, unevenly spaced."""
    rng, n = np.random.default_rng(4), 96
    grid = SkyGrid(1.0, 0.5, n, n, 1.5 * ARCSEC)
    rows, columns = np.mgrid[:n, :n]
    planes = []
    for freq in CUBE_FREQ:
        plane = noise_plane(rng, n)
        for y, x in ((30, 30), (60, 70)):
            plane += 0.1 * (freq / 144e6) ** -0.8 * np.exp(
                -0.5 * ((rows - y) ** 2 + (columns - x) ** 2) / (4 / 2.3548) ** 2)
        planes.append(plane)
    return write_image(tmp_path_factory.mktemp("cube") / "cube.fits", np.array(planes), grid,
                       freq=CUBE_FREQ, beam=(BEAM, BEAM, 0.0))


CUBE_FREQ = (122e6, 131e6, 150e6, 166e6)


def test_fluxes_in_every_plane_of_a_cube(cube):
    table = find_sources(cube, None, replace(scaled_boxes(BOOTSTRAP, 96, 96), rms_map=False),
                         threads=1, frequencies=CUBE_FREQ)
    assert len(table) == 2
    for k, freq in enumerate(CUBE_FREQ, start=1):
        assert np.asarray(table[f"Freq_ch{k}"]) == pytest.approx(freq, rel=1e-6)
        np.testing.assert_allclose(np.asarray(table[f"Total_flux_ch{k}"]),
                                   0.1 * (freq / 144e6) ** -0.8, rtol=0.05)
        assert (np.asarray(table[f"E_Total_flux_ch{k}"]) > 0).all()
