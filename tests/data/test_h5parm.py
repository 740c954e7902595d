"""h5parms of other programs: axis order, flags, layouts."""

import h5py
import numpy as np
import pytest

from ddfpipe.calibration.gains import GainTable
from ddfpipe.data.h5parm import centres_to_edges, read_h5parm, read_soltabs, write_h5parm
from ddfpipe.errors import SolveError


@pytest.mark.parametrize("name,shape", [
    ("solutions/dirtest1.h5", (48, 12, 29, 1, 2)),
    ("solutions/fulljones1.h5", (33, 3, 76, 1, 4)),
    ("solutions/rapthor_integration_field_solutions.h5", (2, 1, 8, 4, 1)),
    ("solutions/prefactor_3C48.h5", (1, 345, 74, 1, 2)),
    ("peer-products/dp3_ddecal_diagonal.h5", (2, 5, 62, 10, 2)),
    ("peer-products/dp3_ddecal_scalarphase.h5", (2, 5, 62, 10, 1))])
def test_peers_files_survive_a_round_trip(shared_data, tmp_path, name, shape):
    table = read_h5parm(shared_data / name)
    assert table.gains.shape == shape
    assert np.isfinite(table.gains).all()
    write_h5parm(table, tmp_path / "copy.h5")
    copy = read_h5parm(tmp_path / "copy.h5")
    good = ~table.flag
    np.testing.assert_allclose(copy.gains[good], table.gains[good], rtol=1e-9)
    np.testing.assert_array_equal(copy.flag, table.flag)
    np.testing.assert_allclose(copy.directions, table.directions, atol=1e-6)


def test_values_are_those_in_the_file(shared_data):
    path = shared_data / "peer-products/dp3_ddecal_diagonal.h5"
    table = read_h5parm(path)
    with h5py.File(path) as file:
        phase = file["sol000/phase000/val"][1, 3, 20, 4, 1]
        amplitude = file["sol000/amplitude000/val"][1, 3, 20, 4, 1]
        ra, dec = file["sol000/source"][4]["dir"]
        name = file["sol000/phase000/ant"][20].decode()
    np.testing.assert_allclose(table.gains[1, 3, 20, 4, 1], amplitude * np.exp(1j * phase))
    np.testing.assert_allclose(np.exp(1j * table.directions[4, 0]), np.exp(1j * ra), rtol=1e-9)
    assert table.directions[4, 1] == dec and table.ant_names[20] == name


def test_not_a_number_becomes_a_flag(shared_data):
    table = read_h5parm(shared_data / "solutions/rapthor_integration_field_solutions.h5")
    assert abs(table.flag.mean() - 0.125) < 1e-9
    assert np.isfinite(table.gains).all()


def test_axis_order_is_read_not_assumed(tmp_path):
    rng = np.random.default_rng(0)
    val = rng.normal(size=(3, 4, 2))  # ant, time, freq
    with h5py.File(tmp_path / "a.h5", "w") as file:
        soltab = file.create_group("sol000/phase000")
        soltab.attrs["TITLE"] = np.bytes_("phase")
        for name in ("val", "weight"):
            data = soltab.create_dataset(name, data=val if name == "val" else np.ones(val.shape))
            data.attrs["AXES"] = np.bytes_("ant,time,freq")
        soltab["ant"], soltab["time"] = np.array([b"A", b"B", b"C"]), np.arange(4.0)
        soltab["freq"] = np.array([1e8, 1.1e8])
    table = read_h5parm(tmp_path / "a.h5")
    np.testing.assert_allclose(np.angle(table.gains[:, :, :, 0, 0]), np.angle(np.exp(
        1j * val.transpose(1, 2, 0))))
    np.testing.assert_allclose(table.freq_edges, [[0.95e8, 1.05e8], [1.05e8, 1.15e8]])


def test_layout_is_the_one_other_programs_expect(shared_data, tmp_path):
    """Names, axes and types match what DP3 writes."""
    path = shared_data / "peer-products/dp3_ddecal_diagonal.h5"
    write_h5parm(read_h5parm(path), tmp_path / "ours.h5")
    with h5py.File(path) as theirs, h5py.File(tmp_path / "ours.h5") as ours:
        assert ours["sol000"].attrs["h5parm_version"] == theirs["sol000"].attrs["h5parm_version"]
        for kind in ("phase000", "amplitude000"):
            mine, other = ours["sol000"][kind], theirs["sol000"][kind]
            assert mine.attrs["TITLE"] == other.attrs["TITLE"]
            assert mine["val"].attrs["AXES"] == other["val"].attrs["AXES"]
            for axis in ("time", "freq"):
                np.testing.assert_allclose(mine[axis][()], other[axis][()])
            for axis in ("ant", "pol"):
                np.testing.assert_array_equal(mine[axis][()], other[axis][()])
            assert set(mine["dir"][()]) == set(ours["sol000/source"]["name"])
        assert ours["sol000/antenna"].dtype == theirs["sol000/antenna"].dtype
        assert ours["sol000/source"].dtype == theirs["sol000/source"].dtype
        assert np.abs(ours["sol000/source"]["dir"][:, 0]).max() <= np.pi


def test_refusals(tmp_path):
    with h5py.File(tmp_path / "empty.h5", "w"):
        pass
    with pytest.raises(SolveError, match="empty.h5"):
        read_soltabs(tmp_path / "empty.h5")
    with h5py.File(tmp_path / "tec.h5", "w") as file:
        soltab = file.create_group("sol000/tec000")
        soltab.attrs["TITLE"] = np.bytes_("tec")
        soltab.create_dataset("val", data=np.ones(3)).attrs["AXES"] = np.bytes_("time")
    with pytest.raises(SolveError, match="tec000"):
        read_h5parm(tmp_path / "tec.h5")
    np.testing.assert_array_equal(centres_to_edges(np.array([5.0])), [[5.0, 5.0]])


def test_intervals_keep_their_edges_where_times_are_missing(tmp_path):
    """Blocks of three intervals with gaps between them, through two files as in a merge."""
    starts = np.array([0.0, 16.0, 32.0, 1539.0, 1555.0, 1571.0, 3078.0, 3094.0, 3110.0]) + 5e9
    table = GainTable(np.stack([starts, starts + 16.0], axis=1), np.array([[1e8, 1.1e8]]),
                      np.ones((9, 1, 3, 2, 1), complex), ["A", "B", "C"], np.zeros((2, 2)))
    write_h5parm(table, tmp_path / "first.h5")
    once = read_h5parm(tmp_path / "first.h5")
    write_h5parm(once, tmp_path / "second.h5")
    for read in (once, read_h5parm(tmp_path / "second.h5")):
        np.testing.assert_array_equal(read.time_edges, table.time_edges)
