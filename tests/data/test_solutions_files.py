"""Names and links of solution sets."""

import os

import numpy as np
import pytest

from ddfpipe.calibration.gains import GainTable
from ddfpipe.data.solutions import (link_solution, load_solution, load_table, merged_path,
                                    observation_start, save_solution, save_table, solution_path)
from ddfpipe.errors import SolveError


def table(n_corr=1, seed=0):
    rng = np.random.default_rng(seed)
    shape = (3, 2, 4, 2, n_corr)
    gains = np.exp(0.1 * rng.normal(size=shape) + 1j * rng.normal(size=shape))
    flag = rng.random(shape) < 0.2
    edges = 5e9 + 30.0 * np.arange(4)
    return GainTable(np.stack([edges[:-1], edges[1:]], 1), [[1.2e8, 1.21e8], [1.21e8, 1.22e8]],
                     gains, ["CS001HBA0", "CS002HBA0", "RS305HBA", "RS509HBA"],
                     [[3.6, 0.95], [3.7, 0.96]], error=np.abs(gains) * 0.1, flag=flag,
                     ant_pos=rng.normal(size=(4, 3)) * 1e3, meta={"MSName": "a.ms"})


@pytest.mark.parametrize("suffix", [".h5", ".npz"])
@pytest.mark.parametrize("n_corr", [1, 2, 4])
def test_round_trip(tmp_path, suffix, n_corr):
    before = table(n_corr)
    save_table(before, tmp_path / f"t{suffix}")
    after = load_table(tmp_path / f"t{suffix}")
    np.testing.assert_array_equal(after.flag, before.flag)
    good = ~before.flag
    np.testing.assert_allclose(after.gains[good], before.gains[good], rtol=1e-6)
    assert np.isfinite(after.gains).all()
    np.testing.assert_allclose(after.error[good], before.error[good], rtol=1e-6)
    np.testing.assert_allclose(after.time_edges, before.time_edges, atol=1e-6)
    np.testing.assert_allclose(after.freq_edges, before.freq_edges)
    np.testing.assert_allclose(after.directions, before.directions)
    np.testing.assert_allclose(after.ant_pos, before.ant_pos, rtol=1e-6)
    assert after.ant_names == before.ant_names and after.meta["MSName"] == "a.ms"


@pytest.mark.parametrize("suffix", [".h5", ".npz"])
def test_bytes_are_the_same_every_time(tmp_path, suffix):
    for name in ("one", "two"):
        save_table(table(), tmp_path / f"{name}{suffix}")
    one, two = ((tmp_path / f"{n}{suffix}").read_bytes() for n in ("one", "two"))
    assert one == two


def test_solsdir_layout_and_relative_links(tmp_path):
    solsdir, ms = tmp_path / "SOLSDIR", tmp_path / "elsewhere" / "L1_SB0.ms"
    npz, h5 = save_solution(table(), solsdir, ms, "DDS0")
    assert npz == solsdir / "L1_SB0.ms" / "killMS.DDS0.sols.npz"
    assert h5 == solsdir / "L1_SB0.ms" / "DDS0.h5"
    assert load_solution(solsdir, ms, "DDS0").gains.shape == (3, 2, 4, 2, 1)
    h5.unlink()
    assert load_solution(solsdir, ms, "DDS0").gains.dtype == np.complex64
    start = observation_start(table())
    merged = merged_path(tmp_path, "DDS0", start, "smoothed")
    assert merged.name == "DDS0_5000000000.00_smoothed.npz"
    save_table(table(seed=1), merged)
    for _ in range(2):  # the second time replaces the first
        link = link_solution(merged, solsdir, ms, "DDS0_smoothed")
    assert link == solution_path(solsdir, ms, "DDS0_smoothed")
    assert os.readlink(link) == "../../DDS0_5000000000.00_smoothed.npz"
    moved = tmp_path.rename(tmp_path.with_name(tmp_path.name + "_moved"))
    assert load_solution(moved / "SOLSDIR", ms, "DDS0_smoothed").gains.shape[0] == 3


def test_errors_name_the_file(tmp_path):
    with pytest.raises(SolveError, match="nothing.npz"):
        load_table(tmp_path / "nothing.npz")
    for name in ("bad.h5", "bad.npz"):
        (tmp_path / name).write_bytes(b"not a solution file")
        with pytest.raises(SolveError, match=name):
            load_table(tmp_path / name)
    save_table(table(), tmp_path / "cut.npz")
    (tmp_path / "cut.npz").write_bytes((tmp_path / "cut.npz").read_bytes()[:-2000])
    with pytest.raises(SolveError, match="cut.npz"):
        load_table(tmp_path / "cut.npz")
    np.savez(tmp_path / "other.npz", a=np.arange(3))
    with pytest.raises(SolveError, match="FreqDomains"):
        load_table(tmp_path / "other.npz")
    with pytest.raises(SolveError, match=".txt"):
        save_table(table(), tmp_path / "t.txt")


def test_a_small_table_is_read_once_while_it_stays_as_it_is(tmp_path, monkeypatch):
    from ddfpipe.data import h5parm, solutions

    read = []
    original = h5parm.read_h5parm
    monkeypatch.setattr(h5parm, "read_h5parm", lambda path: read.append(path) or original(path))
    merged = tmp_path / "DDS0_1.00_merged.npz"
    for target in (merged.with_suffix(".h5"), merged):
        save_table(table(), target)
    for ms in ("a.ms", "b.ms"):
        link_solution(merged, tmp_path / "SOLSDIR", ms, "DDS0_merged")
    first = load_solution(tmp_path / "SOLSDIR", "a.ms", "DDS0_merged")
    first.gains[:] = 0
    second = load_solution(tmp_path / "SOLSDIR", "b.ms", "DDS0_merged")
    assert len(read) == 1 and np.abs(second.gains).min() > 0.5
    save_table(table(seed=1), merged.with_suffix(".h5"))
    third = load_solution(tmp_path / "SOLSDIR", "a.ms", "DDS0_merged")
    assert len(read) == 2 and not np.allclose(third.gains, second.gains)
    monkeypatch.setattr(solutions, "SMALL_BYTES", 0)
    load_solution(tmp_path / "SOLSDIR", "a.ms", "DDS0_merged")
    load_solution(tmp_path / "SOLSDIR", "a.ms", "DDS0_merged")
    assert len(read) == 4
