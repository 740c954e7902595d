"""Small files that the programs themselves made (tests/data/README.md), without the programs."""

import gzip
import shutil
from pathlib import Path

import numpy as np
import pytest
from exchange_tools import PLACES, corrupted

from ddfpipe.data.clusters import read_clusters
from ddfpipe.data.dicomodel import read_dico, read_dicomodel, write_dicomodel
from ddfpipe.data.h5parm import read_h5parm, write_h5parm
from ddfpipe.data.images import read_image
from ddfpipe.data.killms import NAMES, read_killms, write_killms
from ddfpipe.data.regions import read_tessel
from ddfpipe.data.skymodel import read_skymodel

HERE = Path(__file__).parent / "exchange"


@pytest.mark.parametrize("mode", ["diagonal", "fulljones", "tecandphase"])
def test_our_reading_of_solutions_is_what_dp3_does_with_them(mode, tmp_path):
    with np.load(HERE / "dp3_applied.npz") as file:
        where = dict(file)
    table = read_h5parm(HERE / f"dp3_{mode}.h5", freqs=where["freqs"])
    direction = table.meta[NAMES].split(",").index("[east]")
    np.testing.assert_allclose(np.degrees(table.directions[direction]), PLACES["east"], atol=1e-5)
    for one in (table, through_killms(table, tmp_path), through_h5parm(table, tmp_path)):
        done = corrupted(where, one, direction, where["jones"])
        np.testing.assert_allclose(done, where[mode], atol=2e-5)
    assert np.abs(where[mode] - where["jones"].ravel()).max() > 0.3


def through_killms(table, folder):
    write_killms(table, folder / "a.npz")
    return read_killms(folder / "a.npz")


def through_h5parm(table, folder):
    write_h5parm(table, folder / "a.h5")
    return read_h5parm(folder / "a.h5")


@pytest.fixture
def image(tmp_path):
    """DDFacet's own image of its model in its two bands."""
    path = tmp_path / "ddfacet_ssd2.model.fits"
    with gzip.open(HERE / "ddfacet_ssd2.model01.fits.gz") as packed, open(path, "wb") as out:
        shutil.copyfileobj(packed, out)
    return read_image(path)


def test_ddfacets_model_is_its_model_image(image, tmp_path):
    """Place, orientation, spectra: nothing differs."""
    shutil.copy(HERE / "ddfacet_ssd2.DicoModel", tmp_path)
    model = read_dicomodel(tmp_path / "ddfacet_ssd2.DicoModel", freq=image.freq)
    assert model.grid.same(image.grid) and model.size == 385
    np.testing.assert_allclose(model.cube(), image.cube(), rtol=1e-6, atol=0)
    assert (image.plane(0) != image.plane(0)[::-1]).any()
    assert (image.plane(0) != image.plane(0)[:, ::-1]).any()


def test_what_we_write_is_ddfacets_again(image, tmp_path):
    source = HERE / "ddfacet_ssd2.DicoModel"
    model = read_dicomodel(source, grid=image.grid, freq=image.freq)
    assert write_dicomodel(tmp_path / "a.DicoModel", model, like=source) == 0
    first, second = read_dico(source), read_dico(tmp_path / "a.DicoModel")
    assert second.parset == first.parset and second.cell == pytest.approx(image.grid.cell)
    np.testing.assert_allclose(second.flux(image.freq).sum(axis=1),
                               first.flux(image.freq).sum(axis=1), rtol=1e-5)


def test_wscleans_lists():
    points, wide = (read_skymodel(HERE / f"wsclean_{n}.txt") for n in ("points", "gaussians"))
    assert not points.gaussian.any() and wide.gaussian.all() and not points.logarithmic.any()
    assert points.terms.shape[1] == 1 and (wide.major > 0).all()
    # Right ascensions in these files are hours below zero.
    assert "POINT,-1" in (HERE / "wsclean_points.txt").read_text()
    assert (np.abs(np.degrees(points.ra) - 210) < 4).all()
    ratio = 160e6 / points.frequency[0]
    np.testing.assert_allclose(points.flux(160e6)[0],
                               points.stokes[0] + points.terms[:, 0] * (ratio - 1))


def test_facets_and_directions():
    facets = read_tessel(HERE / "ddfacet.tessel.reg")
    assert [f.label for f in facets] == [f"F{k}_S{k}" for k in range(9)]
    found = read_clusters(HERE / "killms.ClusterCat.npy")
    assert found.size == 3 and (found.flux > 0.1).all()
    assert (np.abs(np.degrees(found.ra) - 210) < 3).all()


def test_killmss_own_solutions(tmp_path):
    """CohJones on 12 times of 8 s at 30 s: a fourth interval, after the data, repeats the third."""
    raw = np.load(HERE / "killms.CJ0.sols.npz")  # holds a pickled None, which is not opened
    table = read_killms(HERE / "killms.CJ0.sols.npz")
    assert table.gains.shape == (4, 1, 7, 3, 1) and not table.flag.any()
    first = float(raw["MSNameTime0"])
    np.testing.assert_allclose(raw["Sols"]["t0"][0] - first, -1000)
    np.testing.assert_allclose(table.time_edges - first,
                               [[0, 30], [30, 60], [60, 90], [90, 120]], atol=1e-5)
    np.testing.assert_array_equal(table.gains[3], table.gains[2])
    np.testing.assert_array_equal(table.gains[..., 0], raw["Sols"]["G"][..., 1, 1])
    assert table.meta["MSName"] == "L000008_SB000.ms"
    back = through_h5parm(table, tmp_path)
    np.testing.assert_allclose(back.gains, table.gains, rtol=1e-6)
    write_killms(back, tmp_path / "ours.npz")
    ours = np.load(tmp_path / "ours.npz")
    for key in ("t0", "G"):
        np.testing.assert_allclose(ours["Sols"][key], raw["Sols"][key], rtol=1e-6)
    assert ours["Sols"].dtype == raw["Sols"].dtype and set(raw.files) <= set(ours.files)
    for key in ("FreqDomains", "StationNames", "BeamTimes"):
        np.testing.assert_array_equal(ours[key], raw[key])


def test_what_killms_merged_and_smoothed_of_our_tables():
    """MergeSols has channels of the gap between two sets, all masked; SmoothSols leaves
    them out."""
    one = read_killms(HERE / "killms.CJ0.sols.npz")
    merged, smoothed = (read_killms(HERE / f"killms_{n}.npz") for n in ("merged", "smoothed"))
    np.testing.assert_allclose(merged.time_edges, one.time_edges, atol=1e-5)
    assert merged.gains.shape == (4, 5, 7, 3, 1) and smoothed.gains.shape == (4, 2, 7, 3, 1)
    np.testing.assert_array_equal(merged.flag.all(axis=(0, 2, 3, 4)), [0, 1, 1, 1, 0])
    assert not merged.flag[:, [0, 4]].any() and not smoothed.flag.any()
    # Phases of a direction are free: products of stations are not.
    for chan in (0, 4):
        np.testing.assert_allclose(merged.gains[:, chan] * merged.gains[:, chan, :1].conj(),
                                   one.gains[:, 0] * one.gains[:, 0, :1].conj(), atol=1e-5)
    np.testing.assert_allclose(smoothed.freq_edges, merged.freq_edges[[0, 4]])
    assert smoothed.meta["SmoothMode"] == "TEC,PolyAmp"
    turn = np.angle(smoothed.gains[:, 1] * smoothed.gains[:, 0].conj())
    # One TEC for both frequencies: phases go as 1 / nu.
    ratio = smoothed.freqs[0] / smoothed.freqs[1]
    phase = np.angle(smoothed.gains[:, 0] / smoothed.gains[:, 0, :1])
    small = np.abs(phase) < 1.0
    assert small.sum() > 20
    np.testing.assert_allclose((turn - turn[:, :1])[small], (phase * (ratio - 1))[small], atol=0.2)
