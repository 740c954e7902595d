"""killMS's own files, and ours as killMS's readers would see them."""

import zipfile

import numpy as np
import pytest

from ddfpipe.data.killms import read_killms, read_npz, write_killms, write_npz
from ddfpipe.errors import SolveError


@pytest.mark.parametrize("name", ["killMS.DDS0.sols.npz", "killMS.CJ0.sols.npz"])
def test_real_files_round_trip(shared_data, tmp_path, name):
    path = shared_data / "peer-products" / name
    table = read_killms(path)
    assert table.gains.shape == (97, 1, 38, 9, 1) and table.gains.dtype == np.complex64
    assert table.meta["MSName"] == "sim_B0.MS" and table.ant_names[0] == "CS001HBA0"
    raw = np.load(path, allow_pickle=False)
    np.testing.assert_array_equal(table.gains[..., 0], raw["Sols"]["G"][..., 0, 0])
    np.testing.assert_array_equal(table.time_edges[:, 0], raw["Sols"]["t0"])
    np.testing.assert_array_equal(table.directions[:, 0], raw["ClusterCat"]["ra"])
    write_killms(table, tmp_path / "ours.npz")
    ours = np.load(tmp_path / "ours.npz", allow_pickle=False)
    assert ours["Sols"].dtype == raw["Sols"].dtype
    np.testing.assert_array_equal(ours["Sols"]["G"], raw["Sols"]["G"])
    for key in ("FreqDomains", "StationNames", "BeamTimes"):
        np.testing.assert_array_equal(ours[key], raw[key])
    assert ours["ClusterCat"].dtype == raw["ClusterCat"].dtype
    assert set(raw.files) - set(ours.files) == {"SourceCatSub"}  # the pickled one
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
