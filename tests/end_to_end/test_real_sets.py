"""Real measurement sets of others: read, checked before a run, cached, planned."""

import numpy as np
import pytest

from ddfpipe.data.ms import read_metadata
from ddfpipe.data.preflight import preflight
from ddfpipe.data.viscache import open_cache
from native_runs import tree_state

A1775 = "A1775_LT10_010_4ch.ms.tgz"
MSSS = "tNDPPP-generic.MS.tgz"
MIDBANDS = "lsmtool_test_midbands_PREDICTED_DATA.ms.tgz"
C295 = "tAWImager2_3C295.in_MS.tgz"
SETS = [
    # archive, stations, times, channels, flagged, right ascension, declination (deg)
    (A1775, 62, 4, 4, 0.155, 205.465, 26.3573),
    (MSSS, 8, 6, 8, 0.31, 24.422, 33.1597),
    (MIDBANDS, 62, 5, 1, 0.08, 258.846, 57.411),
    (C295, 61, 2, 1, 0.04, 212.8355, 52.2028),
]


@pytest.mark.parametrize("archive, stations, times, channels, flagged, ra, dec", SETS,
                         ids=[item[0].split(".")[0] for item in SETS])
def test_read_checked_and_cached(unpack_ms, tmp_path, archive, stations, times, channels, flagged,
                                 ra, dec):
    ms = unpack_ms(archive)
    before = tree_state(ms)
    info = read_metadata(ms)
    assert (int(info.stations_used.sum()), info.n_time, info.n_chan) == (stations, times, channels)
    assert np.degrees(info.phase_centre) == pytest.approx((ra, dec), abs=2e-3)
    report = preflight([ms], None, "DATA")
    assert report.errors == () and f"{stations} stations" in report.text()
    assert report.facts[0].flagged == pytest.approx(flagged, abs=0.02)
    cache = open_cache(ms, "DATA", tmp_path)
    assert cache.weight.shape == (times, stations * (stations - 1) // 2, channels)
    assert np.isfinite(cache.vis).all()
    assert np.count_nonzero(cache.stokes_i()[cache.weight > 0]) > 0.999 * cache.good.sum()
    assert cache.flagged_fraction == pytest.approx(flagged, abs=0.1)
    # uvw are those of the set's own rows: check them against the station positions.
    length = np.linalg.norm(cache.uvw, axis=-1)
    apart = np.linalg.norm(cache.ant_pos[cache.ant2] - cache.ant_pos[cache.ant1], axis=-1)
    present = (cache.weight > 0).any(axis=2)
    assert (length - apart)[present].max() < 0.05
    if cache.interval < 60:  # uvw averaged over hours are shorter than the baseline
        assert (apart - length)[present].max() < 0.05
    assert tree_state(ms) == before


@pytest.mark.parametrize("archive", [A1775, MSSS])
def test_planned(unpack_ms, make_run, archive):
    """The plan of the whole recipe, in a second, touching nothing."""
    ms = unpack_ms(archive)
    run = make_run({"data": {"mslist": "small.txt", "full_mslist": "full.txt",
                             "colname": "DATA"}})
    run.folder.mkdir()
    for name in ("small.txt", "full.txt"):
        (run.folder / name).write_text(f"{ms}\n")
    before = tree_state(run.folder), tree_state(ms)
    code, text = run("plan")
    assert code == 0, text
    assert "image_dirin_SSD_init" in text and "image_full_ampphase_di_m.NS" in text
    assert "43 of 43 stages to do" in text
    code, text = run("status")
    assert code == 0 and "0 of 43 stages done" in text and "no run is at work" in text
    assert (tree_state(run.folder), tree_state(ms)) == before
