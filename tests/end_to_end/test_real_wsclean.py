"""Real LOFAR sets through WSClean and DP3, beside our own engine."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from other_programs import wsclean_tools
from test_real_3c295 import FLUX, UV_KM, calibrate, closure_phase, triangles

from ddfpipe.data import solutions
from ddfpipe.data.images import read_image
from ddfpipe.engines.base import ImageJob, Silent, SolveJob, VisSelection
from ddfpipe.engines.native import NativeEngine
from ddfpipe.engines.wsclean import WSCleanEngine
from ddfpipe.naming import image_product
from native_runs import peak_near

HEAD_TAIL = np.radians([205.45895, 26.37188])
"""Brightest peak of Abell 1775's head-tail, J2000."""


@pytest.fixture(scope="module")
def tools():
    return wsclean_tools()


@pytest.mark.shared_data
def test_3c295_from_raw_correlations_to_jy(unpack_ms, tools, tmp_path):
    """DP3's full Jones matrices give the flux of the model on every baseline length."""
    ms = unpack_ms("tAWImager2_3C295.in_MS.tgz")
    found = calibrate(ms, tmp_path, lambda native: WSCleanEngine(native, tools))
    assert found.untouched
    stokes = found.stokes_i(found.ours)
    for low, high in UV_KM:
        inside = ((found.uv_km >= low) & (found.uv_km < high))[found.used]
        assert stokes[inside].mean().real == pytest.approx(FLUX, rel=0.015), (low, high)
        assert abs(stokes[inside].mean().imag) < 0.01 * FLUX
    sides, _ = triangles(found)
    before = closure_phase(found.raw[..., 0], sides)
    turned = np.exp(1j * (closure_phase(found.diagonal[..., 0], sides) - before))
    assert np.abs(np.angle(turned)).max() < 2e-5
    noise = np.median(found.noise(found.authors))
    assert np.median(np.abs(stokes - found.stokes_i(found.authors))) < noise


@dataclass
class Abell1775:
    """Peak of the head-tail and noise of the image (Jy/beam), median size of full Jones gains."""

    peak: float
    noise: float
    gain: float


def abell_1775(ms: Path, folder: Path, engine_of, **options) -> Abell1775:
    """The set imaged, and calibrated on that image, by the engine engine_of(NativeEngine).

    options : of the image
    """
    folder.mkdir()
    native = NativeEngine(
        workdir=folder, cache_dir=folder, solsdir=folder / "SOLSDIR", threads=1,
        memory_limit=2 * 10**9, beam_model="none",
    )
    engine = engine_of(native)
    result = engine.image(ImageJob(
        "a1775", VisSelection((ms,), "DATA", uv_km=(0.1, 60.0)), npix=600, cell_arcsec=3.0,
        robust=-0.25, restoring_beam=(12.0, 12.0, 0.0), peak_factor=0.05, n_bands=1,
        decorrelation=False, **{"major_cycles": 2} | options), Silent())
    image = read_image(folder / image_product("a1775", "app_restored"))
    place = np.ravel(image.grid.pixel_of(*HEAD_TAIL))
    engine.solve(SolveJob("DIS0", VisSelection((ms,), "DATA"), "DI", "a1775",
                          dt_min=1.0, n_chan_sols=1), Silent())
    table = solutions.load_solution(native.solsdir, ms.name, "DIS0")
    size = np.abs(table.gains[..., [0, 3]])[~table.flag[..., [0, 3]]]
    return Abell1775(peak_near(image.plane(), place), result.noise, float(np.median(size)))


@pytest.mark.shared_data
def test_abell_1775_imaged_and_calibrated_on_itself(unpack_ms, tools, tmp_path):
    """The head-tail where and as bright as in our own image; gains of one in calibrated data."""
    ms = unpack_ms("A1775_LT10_010_4ch.ms.tgz")
    ours = abell_1775(ms, tmp_path / "native", lambda native: native)
    theirs = abell_1775(ms, tmp_path / "wsclean", lambda native: WSCleanEngine(native, tools))
    assert ours.gain == pytest.approx(1, abs=0.1) and theirs.gain == pytest.approx(1, abs=0.1)
    assert theirs.peak == pytest.approx(ours.peak, rel=0.05)
    assert theirs.peak > 8 * theirs.noise and theirs.noise < 1.2 * ours.noise
