"""Real LOFAR sets through DDFacet and killMS, beside our own engine."""

from __future__ import annotations

import numpy as np
import pytest
from other_programs import ddfacet_tools
from test_real_3c295 import FLUX, UV_KM, calibrate
from test_real_wsclean import abell_1775

from ddfpipe.engines.ddfacet import DDFacetEngine


@pytest.fixture(scope="module")
def tools():
    return ddfacet_tools()


@pytest.mark.shared_data
def test_3c295_from_raw_correlations_to_jy(unpack_ms, tools, tmp_path):
    """killMS's full Jones matrices give the flux of the model on every baseline length."""
    ms = unpack_ms("tAWImager2_3C295.in_MS.tgz")
    found = calibrate(ms, tmp_path, lambda native: DDFacetEngine(native, tools))
    assert found.untouched
    stokes = found.stokes_i(found.ours)
    for low, high in UV_KM:
        inside = ((found.uv_km >= low) & (found.uv_km < high))[found.used]
        assert stokes[inside].mean().real == pytest.approx(FLUX, rel=0.01), (low, high)
        assert abs(stokes[inside].mean().imag) < 0.01 * FLUX
    noise = np.median(found.noise(found.authors))
    assert np.median(np.abs(stokes - found.stokes_i(found.authors))) < 0.6 * noise


@pytest.mark.shared_data
def test_abell_1775_imaged_and_calibrated_on_itself(unpack_ms, tools, tmp_path):
    """The head-tail where and as bright as in our own image; gains of one in calibrated data.

    DDFacet cleans under a mask, for one cycle: a second one, of islands as large as the tail, takes
    it many minutes.
    """
    ms = unpack_ms("A1775_LT10_010_4ch.ms.tgz")
    ours = abell_1775(ms, tmp_path / "native", lambda native: native)
    theirs = abell_1775(ms, tmp_path / "ddfacet", lambda native: DDFacetEngine(native, tools),
                        major_cycles=1, auto_mask_sigma=10.0)
    assert theirs.gain == pytest.approx(1, abs=0.05)
    assert theirs.peak == pytest.approx(ours.peak, rel=0.05)
    assert theirs.peak > 8 * theirs.noise and theirs.noise < 1.5 * ours.noise
