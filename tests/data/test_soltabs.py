"""Mixtures of solution tables in one h5parm: TEC, clock, slow amplitudes, several sets."""

import h5py
import numpy as np
import pytest

from ddfpipe.data.h5parm import read_h5parm, write_h5parm
from ddfpipe.errors import SolveError

STATIONS, DIRECTIONS = ["CS001", "CS002", "RS305"], ["[a]", "[b]"]
RNG = np.random.default_rng(3)


def soltab(path, name, axes, val, *, solset="sol000", kind=None, times=None, freqs=None, pols=None,
           stations=STATIONS, directions=DIRECTIONS, weight=None):
    """Write one table with the axes named, as LoSoTo would."""
    with h5py.File(path, "a") as file:
        group = file.require_group(solset).create_group(name)
        group.attrs["TITLE"] = np.bytes_(kind or name.rstrip("0123456789"))
        weight = np.ones(val.shape) if weight is None else weight
        for key, data in (("val", val), ("weight", weight)):
            group.create_dataset(key, data=data).attrs["AXES"] = np.bytes_(axes)
        values = {"time": times, "freq": freqs, "pol": pols,
                  "ant": np.array(stations, "S"), "dir": np.array(directions, "S")}
        for axis in axes.split(","):
            group[axis] = np.array(values[axis], "S") if axis == "pol" else values[axis]
        if "source" not in file[solset]:
            source = np.zeros(2, [("name", "S128"), ("dir", "<f4", (2,))])
            source["name"], source["dir"] = [b"[b]", b"[a]"], [[-1.0, 0.5], [1.0, 0.6]]
            file[solset]["source"] = source


FREQS = np.array([1.2e8, 1.3e8, 1.4e8])
TIMES = 5e9 + 10.0 * np.arange(4)


def test_tec_and_clock(tmp_path):
    path = tmp_path / "a.h5"
    tec, clock = RNG.normal(0, 0.1, (2, 3, 4)), RNG.normal(0, 1e-8, (3,))
    soltab(path, "tec000", "dir,ant,time", tec, times=TIMES)
    soltab(path, "clock000", "ant", clock)
    table = read_h5parm(path, freqs=FREQS)
    phase = -8.44797245e9 * tec.transpose(2, 1, 0)[:, None] / FREQS[:, None, None] \
        + 2 * np.pi * FREQS[:, None, None] * clock[:, None]
    np.testing.assert_allclose(table.gains[..., 0], np.exp(1j * phase), rtol=1e-9)
    assert table.meta["SolutionTables"] == "tec000+clock000"
    assert table.meta["DirectionNames"] == "[a],[b]"
    np.testing.assert_allclose(table.directions, [[1.0, 0.6], [2 * np.pi - 1, 0.5]], rtol=1e-6)
    with pytest.raises(SolveError, match="tec000, clock000 need frequencies"):
        read_h5parm(path)


def test_slow_amplitudes_and_fast_phases(tmp_path):
    path = tmp_path / "a.h5"
    phase = RNG.normal(size=(4, 3, 3, 2))
    amplitude = RNG.uniform(0.5, 2, (3, 2, 2, 1, 2))  # ant, dir, time, freq, pol
    soltab(path, "phase000", "time,freq,ant,dir", phase, times=TIMES, freqs=FREQS)
    soltab(path, "amplitude000", "ant,dir,time,freq,pol", amplitude, times=TIMES[[0, 2]] + 5,
           freqs=[1.3e8], pols=["YY", "XX"], stations=STATIONS, directions=["[b]", "[a]"])
    table = read_h5parm(path)
    assert table.gains.shape == (4, 3, 3, 2, 2)
    slow = amplitude.transpose(2, 3, 0, 1, 4)[[0, 0, 1, 1]][:, :, :, ::-1, ::-1]
    np.testing.assert_allclose(table.gains, slow * np.exp(1j * phase)[..., None], rtol=1e-12)


def test_phases_without_frequency_come_with_tec(tmp_path):
    """DP3's tecandphase."""
    path = tmp_path / "a.h5"
    tec, phase = RNG.normal(0, 0.1, (4, 3, 2)), RNG.normal(size=(4, 3, 2))
    soltab(path, "tec000", "time,ant,dir", tec, times=TIMES)
    soltab(path, "phase000", "time,ant,dir", phase, times=TIMES, kind="scalarphase")
    table = read_h5parm(path, freqs=FREQS)
    want = np.exp(1j * (phase[:, None] - 8.44797245e9 * tec[:, None] / FREQS[:, None, None]))
    np.testing.assert_allclose(table.gains[..., 0], want, rtol=1e-9)


def test_phases_with_frequency_do_not(tmp_path):
    """LoSoTo leaves the phases beside the TEC that was fitted to them."""
    path = tmp_path / "a.h5"
    soltab(path, "phase000", "freq,ant", RNG.normal(size=(3, 3)), freqs=FREQS)
    soltab(path, "tec000", "ant", RNG.normal(size=3))
    assert read_h5parm(path).meta["SolutionTables"] == "phase000"
    table = read_h5parm(path, soltabs=["tec000"], freqs=[1e8, 2e8])
    assert table.meta["SolutionTables"] == "tec000" and table.gains.shape[:2] == (1, 2)


def test_several_sets(tmp_path):
    path = tmp_path / "a.h5"
    for name, value in (("target", 1.0), ("calibrator", 2.0)):
        soltab(path, "phase000", "ant", np.full(3, value), solset=name)
    assert np.angle(read_h5parm(path, "calibrator").gains[0, 0, 0, 0, 0]) == pytest.approx(2.0)
    with pytest.raises(SolveError, match="calibrator, target"):
        read_h5parm(path)
    with pytest.raises(SolveError, match="no solution set nobody; name one of"):
        read_h5parm(path, "nobody")


def test_flags_of_any_table_count(tmp_path):
    path = tmp_path / "a.h5"
    weight = np.ones((4, 3))
    weight[1, 2] = 0
    soltab(path, "phase000", "time,ant", RNG.normal(size=(4, 3)), times=TIMES, weight=weight)
    amplitude = np.ones((4, 3))
    amplitude[3, 0] = np.nan
    soltab(path, "amplitude000", "time,ant", amplitude, times=TIMES)
    table = read_h5parm(path)
    assert np.argwhere(table.flag[:, 0, :, 0, 0]).tolist() == [[1, 2], [3, 0]]
    assert (table.gains[table.flag] == 1).all()


def test_names_survive(tmp_path):
    path = tmp_path / "a.h5"
    soltab(path, "phase000", "ant,dir", RNG.normal(size=(3, 2)), directions=DIRECTIONS)
    write_h5parm(read_h5parm(path), tmp_path / "b.h5")
    with h5py.File(tmp_path / "b.h5") as file:
        assert file["sol000/source"]["name"].tolist() == [b"[a]", b"[b]"]
        assert file["sol000/phase000/dir"][()].tolist() == [b"[a]", b"[b]"]
        assert not any("SolutionTables" in key for key in file["sol000"].attrs)


@pytest.mark.parametrize("pols, match", [
    (["RR", "LL"], "polarisations RR, LL"), (["XX", "XY"], "XX, XY"), (["a", "b", "c"], "3 pol")])
def test_polarisations(tmp_path, pols, match):
    soltab(tmp_path / "a.h5", "phase000", "ant,pol", RNG.normal(size=(3, len(pols))), pols=pols)
    with pytest.raises(SolveError, match=match):
        read_h5parm(tmp_path / "a.h5")


def test_what_does_not_fit_is_named(tmp_path):
    path = tmp_path / "a.h5"
    soltab(path, "phase000", "ant", np.zeros(3))
    soltab(path, "amplitude000", "ant", np.ones(2), stations=["CS001", "DE601"])
    soltab(path, "rotation000", "ant", np.ones(3))
    with pytest.raises(SolveError, match="different stations: CS002, DE601, RS305"):
        read_h5parm(path)
    with pytest.raises(SolveError, match="no solution table tec000; its tables are amplitude000"):
        read_h5parm(path, soltabs=["tec000"])
    with pytest.raises(SolveError, match="rotation000: not phases"):
        read_h5parm(path, soltabs=["rotation000"])
    assert read_h5parm(path, soltabs=["phase000"]).gains.shape == (1, 1, 3, 1, 1)


def test_degrees_and_axes_that_shrink_are_refused(tmp_path):
    path = tmp_path / "a.h5"
    soltab(path, "phase000", "time,dir", np.zeros((4, 2)), times=TIMES[::-1])
    with pytest.raises(SolveError, match="time axis of phase000 does not grow"):
        read_h5parm(path)
    path = tmp_path / "b.h5"
    soltab(path, "phase000", "dir", np.zeros(2))
    with h5py.File(path, "a") as file:
        source = file["sol000/source"][()]
        source["dir"] = [[210.0, 50.0], [211.0, 51.0]]
        file["sol000/source"][...] = source
    with pytest.raises(SolveError, match="must be in radians"):
        read_h5parm(path)
