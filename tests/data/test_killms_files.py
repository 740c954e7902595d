"""killMS's own files, and ours as killMS's readers would see them."""

import zipfile

import numpy as np
import pytest

from ddfpipe.calibration.gains import GainTable
from ddfpipe.data.killms import beam_times, read_killms, read_npz, write_killms, write_npz
from ddfpipe.errors import SolveError


@pytest.mark.parametrize("name", ["killMS.DDS0.sols.npz", "killMS.CJ0.sols.npz"])
def test_real_files_round_trip(shared_data, tmp_path, name):
    path = shared_data / "peer-products" / name
    table = read_killms(path)
    assert table.gains.shape == (97, 1, 38, 9, 1) and table.gains.dtype == np.complex64
    assert table.meta["MSName"] == "sim_B0.MS" and table.ant_names[0] == "CS001HBA0"
    raw = np.load(path, allow_pickle=False)
    np.testing.assert_array_equal(table.gains[..., 0], raw["Sols"]["G"][..., 0, 0])
    # killMS begins the first interval 1000 s before the data and ends the last one late.
    np.testing.assert_array_equal(table.time_edges[1:, 0], raw["Sols"]["t0"][1:])
    np.testing.assert_allclose(np.diff(table.time_edges, axis=1), 300.0)
    assert table.time_edges[0, 0] == raw["MSNameTime0"] == raw["Sols"]["t0"][0] + 1000
    np.testing.assert_array_equal(table.directions[:, 0], raw["ClusterCat"]["ra"])
    write_killms(table, tmp_path / "ours.npz")
    ours = np.load(tmp_path / "ours.npz", allow_pickle=False)
    assert ours["Sols"].dtype == raw["Sols"].dtype
    np.testing.assert_array_equal(ours["Sols"]["G"], raw["Sols"]["G"])
    for key in ("FreqDomains", "StationNames", "BeamTimes"):
        np.testing.assert_array_equal(ours[key], raw[key])
    assert ours["ClusterCat"].dtype == raw["ClusterCat"].dtype
    np.testing.assert_array_equal(ours["Sols"]["t0"], raw["Sols"]["t0"])
    assert ours["Sols"]["t1"][-1] >= raw["Sols"]["t1"][-1]
    assert not set(raw.files) - set(ours.files)
    np.testing.assert_array_equal(read_killms(tmp_path / "ours.npz").gains, table.gains)


def test_pickles_are_never_opened(tmp_path):
    class Trap:
        def __reduce__(self):
            return (open, (str(tmp_path / "sprung"), "w"))

    np.savez(tmp_path / "trap.npz", good=np.arange(3), bad=np.array([Trap()], object))
    arrays = read_npz(tmp_path / "trap.npz")
    assert list(arrays) == ["good"] and not (tmp_path / "sprung").exists()
    with pytest.raises(SolveError, match="pickled"):
        write_npz(tmp_path / "out.npz", {"x": np.array([Trap()], object)})
    assert not (tmp_path / "out.npz").exists()


def test_other_readers_find_a_plain_archive(shared_data, tmp_path):
    table = read_killms(shared_data / "peer-products" / "killMS.DDS0.sols.npz")
    flux, lm = np.arange(9.0), np.arange(18.0).reshape(9, 2)
    write_killms(table, tmp_path / "ours.npz", lm=lm, flux=flux)
    with zipfile.ZipFile(tmp_path / "ours.npz") as archive:
        assert archive.testzip() is None
    catalogue = np.load(tmp_path / "ours.npz", allow_pickle=False)["ClusterCat"]
    np.testing.assert_array_equal(catalogue["SumI"], flux)
    np.testing.assert_array_equal(catalogue["m"], lm[:, 1])


def small(flag=None, edges=((10.0, 20.0), (40.0, 50.0), (50.0, 60.0)), n_corr=2):
    shape = (len(edges), 2, 3, 2, n_corr)
    rng = np.random.default_rng(1)
    gains = (rng.normal(size=shape) + 1j * rng.normal(size=shape)).astype(np.complex64)
    return GainTable(edges, [[1.0e8, 1.1e8], [1.1e8, 1.2e8]], gains, ["CS001", "CS002", "RS305"],
                     [[1.0, 0.9], [1.1, 0.8]], flag=flag)


def test_one_flag_does_not_cost_the_whole_channel(tmp_path):
    """DDFacet takes MaskedSols[0, chan, 0, 0, 0, 0] as the mask of a channel."""
    flag = np.zeros((3, 2, 3, 2, 2), bool)
    flag[0, 0, 0, 0] = True
    flag[:, 1] = True
    write_killms(small(flag), tmp_path / "a.npz")
    raw = np.load(tmp_path / "a.npz")
    assert raw["MaskedSols"][0, :, 0, 0, 0, 0].tolist() == [0, 1]
    assert raw["MaskedSols"][:, 1].all() and not raw["MaskedSols"][:, 0].any()
    np.testing.assert_array_equal(raw["Sols"]["G"][0, 0, 0, 0], np.eye(2))
    np.testing.assert_array_equal(read_killms(tmp_path / "a.npz").flag, flag)


def test_every_time_has_an_interval(tmp_path):
    """killMS moves all samples after a gap by the length of the gap."""
    table = small()
    write_killms(table, tmp_path / "a.npz")
    sols = np.load(tmp_path / "a.npz")["Sols"]
    np.testing.assert_array_equal(sols["t0"][1:], sols["t1"][:-1])
    assert sols["t0"][0] < 10.0 - 500 and sols["t1"][-1] > 60.0 + 500 and sols["t0"][1] == 30.0
    np.testing.assert_array_equal(read_killms(tmp_path / "a.npz").time_edges, table.time_edges)


def test_merged_files_have_holes_in_frequency(tmp_path):
    """MergeSols makes channels of zeros where no measurement set was, and masks them."""
    write_killms(small(), tmp_path / "a.npz")
    raw = dict(np.load(tmp_path / "a.npz"))
    for key in ("Flags", "TimeEdges", "Correlations"):
        del raw[key]
    raw["Sols"] = raw["Sols"].copy()
    raw["Sols"]["G"][:, 1] = 0
    raw["MaskedSols"][:, 1] = 1
    raw["MSName"] = np.array([b"a.ms", b""], "S200")
    write_npz(tmp_path / "merged.npz", raw)
    table = read_killms(tmp_path / "merged.npz")
    assert table.flag[:, 1].all() and not table.flag[:, 0].any()
    assert (table.gains[:, 1] == 1).all() and "MSName" not in table.meta


def test_few_intervals_are_set_right_by_the_first_time(tmp_path):
    write_killms(small(edges=((5000.0, 5300.0), (5300.0, 5600.0))), tmp_path / "a.npz")
    raw = dict(np.load(tmp_path / "a.npz"))
    del raw["TimeEdges"]
    write_npz(tmp_path / "b.npz", raw)
    np.testing.assert_allclose(read_killms(tmp_path / "b.npz").time_edges,
                               [[5000, 5300], [5300, 5600]])


def test_names_directions_and_beam_times_are_kept(tmp_path):
    table = small()
    table.meta["DirectionNames"] = "Patch_0,Patch_1"
    write_killms(table, tmp_path / "a.npz", centre=(1.0, 0.9), beam=np.array([1.0, 2.0]))
    raw = np.load(tmp_path / "a.npz")
    assert raw["ClusterCat"]["Name"].tolist() == [b"Patch_0", b"Patch_1"]
    np.testing.assert_allclose(raw["SkyModel"]["l"], [0.0, np.cos(0.8) * np.sin(0.1)], atol=1e-12)
    assert read_killms(tmp_path / "a.npz").meta["DirectionNames"] == "Patch_0,Patch_1"
    np.testing.assert_array_equal(beam_times(tmp_path / "a.npz"), [1.0, 2.0])


@pytest.mark.parametrize("change, match", [
    ({"Sols": None}, "Sols"), ({"StationNames": np.array(["A"])}, "1 stations"),
    ({"FreqDomains": np.zeros((5, 2))}, "damaged"), ({"Sols": np.zeros(3)}, "of Sols")])
def test_damage_is_named(tmp_path, change, match):
    write_killms(small(), tmp_path / "a.npz")
    raw = {**np.load(tmp_path / "a.npz"), **change}
    write_npz(tmp_path / "b.npz", {k: v for k, v in raw.items() if v is not None})
    with pytest.raises(SolveError, match=match):
        read_killms(tmp_path / "b.npz")
