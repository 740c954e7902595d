"""The visibility cache holds what the measurement set holds, in order."""

import errno
import json
import os
import tracemalloc
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from casacore import tables
from make_ms import Spec, grid, positions, snapshot, turn, write_ms

from ddfpipe.data import visbuild, viscache, visgrid
from ddfpipe.data.ms import read_metadata
from ddfpipe.data.viscache import cache_path, cache_size_bytes, clear_caches, open_cache
from ddfpipe.errors import DataError, ResourceError, StopRequested


class Recorder:
    """A monitor that notes progress and can ask to stop."""

    def __init__(self, stop_after=None):
        self.calls, self.checks, self.stop_after = [], 0, stop_after

    def progress(self, what, done, total):
        self.calls.append((what, done, total))

    def check(self):
        self.checks += 1
        if self.stop_after is not None and self.checks > self.stop_after:
            raise StopRequested("stop")


def expected(spec, rows):
    """The grid computed plainly from the unshuffled rows: vis, weight, uvw."""
    cross = rows["ant1"] != rows["ant2"]
    n_bl = spec.n_ant * (spec.n_ant - 1) // 2
    shape = (spec.n_time, n_bl, spec.n_chan)
    weight = np.where(rows["flag"].any(-1), 0, rows["weight"].mean(-1))[cross].reshape(shape)
    vis = rows["data"][cross].reshape(*shape, -1) * (weight > 0)[..., None]
    return vis, weight, rows["uvw"][cross].reshape(spec.n_time, n_bl, 3)


def test_every_sample_in_its_place_whatever_the_order_of_rows(tmp_path, monkeypatch):
    monkeypatch.setattr(visbuild, "READ_BYTES", 1500)  # many blocks
    spec = Spec(n_ant=6, n_time=5, shuffle=True, descending=True, swap=(1, 7, 8, 30))
    rows = grid(spec)
    rows["flag"][np.random.default_rng(1).random(rows["flag"].shape) < 0.1] = True
    write_ms(tmp_path / "a.ms", spec, rows)
    before = snapshot(tmp_path / "a.ms")
    monitor = Recorder()
    cache = open_cache(tmp_path / "a.ms", "DATA", tmp_path / "cache", monitor=monitor)
    vis, weight, uvw = expected(spec, rows)
    assert np.array_equal(cache.vis, vis)
    assert cache.weight == pytest.approx(weight, rel=1e-6)
    assert np.array_equal(cache.uvw, uvw)
    pairs = list(zip(*np.triu_indices(6, 1)))
    assert list(zip(cache.ant1, cache.ant2)) == pairs
    assert (cache.n_time, cache.n_bl, cache.n_chan, cache.n_ant) == (5, 15, 3, 6)
    assert cache.freq == pytest.approx(120e6 + 97656.25 * np.arange(3))
    assert (cache.chan_width > 0).all()
    assert cache.vis.dtype == np.complex64 and cache.weight.dtype == np.float32
    assert np.array_equal(cache.good, (weight > 0).sum((0, 2)))
    assert cache.stokes_i(1, 3) == pytest.approx((vis[1:3, ..., 0] + vis[1:3, ..., 3]) / 2)
    assert np.array_equal(cache.unit_weight(2, 4), (weight[2:4] > 0).astype("f4"))
    assert cache.unit_weight().shape == weight.shape
    assert monitor.calls[-1][1:] == (105, 105) and len(monitor.calls) > 5
    assert snapshot(tmp_path / "a.ms") == before
    with pytest.raises(ValueError):
        cache.vis[0] = 0


def test_missing_rows_and_times(tmp_path):
    spec = Spec(n_ant=6, n_time=5, autos=False)
    gone = [*range(15, 30), 31, 36, 37]  # the whole second slot, three rows of the third
    spec.drop = tuple(gone)
    rows = write_ms(tmp_path / "a.ms", spec)
    cache = open_cache(tmp_path / "a.ms", "DATA", tmp_path / "cache")
    assert cache.n_time == 4
    assert cache.time - spec.start == pytest.approx([4, 20, 28, 36], abs=1e-6)
    missing = np.zeros((4, 15), bool)
    missing[1, [1, 6, 7]] = True
    assert ((cache.weight == 0) == missing[:, :, None]).all()
    assert (cache.vis[missing] == 0).all()
    # the uvw of missing rows follows from the geometry of those that are there
    truth = rows["uvw"].reshape(5, 15, 3)[[0, 2, 3, 4]]
    assert cache.uvw == pytest.approx(truth, abs=1e-3)


def test_uvw_is_not_invented_when_geometry_does_not_fit():
    pos = positions(5)
    ant1, ant2 = np.triu_indices(5, 1)
    present = np.ones((2, 10), bool)
    present[:, 4] = False
    uvw = np.stack([(pos[ant2] - pos[ant1]) @ turn(np.array([4e9]))[0].T,
                    np.random.default_rng(0).normal(0, 1e3, (10, 3))])
    truth = uvw[0, 4].copy()
    assert visgrid.fill_uvw(uvw, present, ant1, ant2, pos) == 1
    assert uvw[0, 4] == pytest.approx(truth, abs=1e-6)
    assert (uvw[1, 4] == 0).all()


def test_bad_values_have_no_weight_and_spoil_nothing(tmp_path):
    spec = Spec(autos=False)
    rows = grid(spec)
    rows["data"][3, 1, 2] = np.nan
    rows["data"][4, 0, 0] = np.inf
    rows["flag"][5] = True
    rows["data"][5] = np.nan
    rows["weight"][6, 2, 1] = np.nan
    rows["weight"][7] = 0
    rows["weight"][8, 0] = -1
    rows["uvw"][9] = np.nan
    station = (rows["ant1"] == 3) | (rows["ant2"] == 3)
    rows["flag"][station] = True
    write_ms(tmp_path / "a.ms", spec, rows)
    cache = open_cache(tmp_path / "a.ms", "DATA", tmp_path / "cache")
    bad = np.zeros((40, 3), bool)
    bad[[3, 4, 6, 8], [1, 0, 2, 0]] = True
    bad[[5, 7, 9]] = True
    bad[station] = True
    assert np.array_equal(cache.weight.reshape(40, 3) == 0, bad)
    assert np.isfinite(cache.vis).all() and np.isfinite(cache.uvw).all()
    assert (cache.vis.reshape(40, 3, 4)[bad] == 0).all()
    assert (cache.vis.reshape(40, 3, 4)[~bad] == rows["data"][~bad]).all()
    assert cache.n_ant == 5 and cache.used_stations.all()
    assert cache.station_flagged[3] == 1 and cache.station_flagged[[0, 1, 2, 4]].max() < 1
    assert cache.flagged_fraction == pytest.approx(bad.mean())


@pytest.mark.parametrize("corr, stokes", [
    ((9, 12), "xx yy"), ((12, 9), "xx yy"), ((1,), "i"), ((1, 2, 3, 4), "iquv"),
    ((5, 6, 7, 8), "rl"), ((5, 8), "rr ll"), ((9, 10, 11, 12), "all")])
def test_other_correlations(tmp_path, corr, stokes):
    spec = Spec(corr=corr, autos=False, swap=(2, 5), shuffle=True)
    rows = write_ms(tmp_path / "a.ms", spec)
    cache = open_cache(tmp_path / "a.ms", "DATA", tmp_path / "cache")
    d = {c: rows["data"][..., k].reshape(4, 10, 3) for k, c in enumerate(corr)}
    i = (d[9] + d[12]) / 2 if 9 in d else (d[5] + d[8]) / 2 if 5 in d else d[1]
    assert cache.stokes_i() == pytest.approx(i, abs=1e-6)
    # the same polarised sky must come out of either kind of feed
    if 4 in d or 6 in d:
        q = d[2] if 4 in d else (d[6] + d[7]) / 2
        u = d[3] if 4 in d else (d[6] - d[7]) / 2j
        v = d[4] if 4 in d else (d[5] - d[8]) / 2
        assert (cache.vis[..., 0] - cache.vis[..., 3]) / 2 == pytest.approx(q, abs=1e-6)
        assert (cache.vis[..., 1] + cache.vis[..., 2]) / 2 == pytest.approx(u, abs=1e-6)
        assert cache.stokes_v() == pytest.approx(v, abs=1e-6)
    if stokes == "xx yy":
        assert np.array_equal(cache.vis[..., 0], d[9]) and (cache.vis[..., 1:3] == 0).all()


def test_correlations_without_stokes_i_are_refused(tmp_path):
    write_ms(tmp_path / "a.ms", Spec(corr=(10, 11)))
    with pytest.raises(DataError, match=r"a.ms.*correlation types \(10, 11\).*Stokes I"):
        open_cache(tmp_path / "a.ms", "DATA", tmp_path / "cache")
    assert not list((tmp_path / "cache").iterdir())


def test_weights_without_weight_spectrum(tmp_path):
    write_ms(tmp_path / "a.ms", Spec(weight_spectrum=False))
    cache = open_cache(tmp_path / "a.ms", "DATA", tmp_path / "cache")
    assert (cache.weight == 3.0).all()


def test_international_stations_can_be_left_out(tmp_path):
    spec = Spec(names=("CS001HBA0", "DE601HBA", "RS106HBA", "PL610HBA", "CS002HBA0"))
    rows = write_ms(tmp_path / "a.ms", spec)
    whole = open_cache(tmp_path / "a.ms", "DATA", tmp_path / "cache")
    dutch = open_cache(tmp_path / "a.ms", "DATA", tmp_path / "cache", drop_international=True)
    assert whole.n_bl == 10 and dutch.path != whole.path
    assert list(zip(dutch.ant1, dutch.ant2)) == [(0, 2), (0, 4), (2, 4)]
    assert dutch.n_ant == 5 and dutch.used_stations.tolist() == [1, 0, 1, 0, 1]
    vis, _, _ = expected(spec, rows)
    assert np.array_equal(dutch.vis, vis[:, [1, 3, 8]])


def test_rebuilt_only_when_the_source_changed(tmp_path):
    path, folder = tmp_path / "a.ms", tmp_path / "cache"
    write_ms(path)
    open_cache(path, "DATA", folder)
    monitor = Recorder()
    open_cache(path, "DATA", folder, monitor=monitor)
    assert not monitor.calls
    with tables.table(str(path), readonly=False, ack=False) as main:
        main.putcol("DATA", 2 * main.getcol("DATA"))
    doubled = open_cache(path, "DATA", folder, monitor=monitor)
    assert monitor.calls
    with tables.table(str(path), ack=False) as main:
        assert np.abs(doubled.vis).max() == np.abs(main.getcol("DATA")[doubled_cross(main)]).max()


def doubled_cross(main):
    return main.getcol("ANTENNA1") != main.getcol("ANTENNA2")


def test_damaged_caches_are_rebuilt(tmp_path):
    path, folder = tmp_path / "a.ms", tmp_path / "cache"
    rows = write_ms(path)
    vis = expected(Spec(), rows)[0]
    for damage in ("truncate", "no meta", "garbage", "old version"):
        cache = open_cache(path, "DATA", folder)
        if damage == "truncate":
            os.truncate(cache.path / "vis.npy", 1000)
        elif damage == "no meta":
            (cache.path / "meta.json").unlink()
        elif damage == "garbage":
            (cache.path / "meta.json").write_text("{")
        else:
            meta = json.loads((cache.path / "meta.json").read_text())
            (cache.path / "meta.json").write_text(json.dumps(meta | {"version": 0}))
        monitor = Recorder()
        cache = open_cache(path, "DATA", folder, monitor=monitor)
        assert monitor.calls and np.array_equal(cache.vis, vis), damage


def test_a_stopped_or_killed_build_leaves_nothing_that_counts(tmp_path, monkeypatch):
    path, folder = tmp_path / "a.ms", tmp_path / "cache"
    write_ms(path)
    monkeypatch.setattr(visbuild, "READ_BYTES", 1500)
    with pytest.raises(StopRequested):
        open_cache(path, "DATA", folder, monitor=Recorder(stop_after=2))
    assert not list(folder.iterdir())
    final = cache_path(path, "DATA", folder)
    dead = folder / f"{final.name}.{os.uname().nodename}-4194304.part"
    elsewhere = folder / f"{final.name}.another-host-17.part"
    dead.mkdir()
    elsewhere.mkdir()
    open_cache(path, "DATA", folder)
    assert sorted(folder.iterdir()) == sorted([final, elsewhere])


def test_full_disk_is_told_and_cleaned_up(tmp_path, monkeypatch):
    path, folder = tmp_path / "a.ms", tmp_path / "cache"
    write_ms(path)

    def full(*args):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(ResourceError, match="No space left.*cache_dir"):
        open_cache(path, "DATA", folder)
    assert not list(folder.iterdir())
    monkeypatch.undo()
    usage = type("usage", (), {"free": 1000})
    monkeypatch.setattr(viscache.shutil, "disk_usage", lambda p: usage)
    with pytest.raises(ResourceError, match="needs .* free; .*cache_dir"):
        open_cache(path, "DATA", folder)


def test_size_estimate_bounds_the_truth(tmp_path):
    write_ms(tmp_path / "a.ms", Spec(n_ant=8, n_time=20, n_chan=16))
    cache = open_cache(tmp_path / "a.ms", "DATA", tmp_path / "cache")
    true = sum(f.stat().st_size for f in cache.path.iterdir())
    assert true <= cache_size_bytes(read_metadata(tmp_path / "a.ms")) < 1.2 * true + 65536


def test_wrong_column_and_repeated_rows(tmp_path):
    path = tmp_path / "a.ms"
    write_ms(path, Spec(columns=("DATA", "MODEL_DATA")))
    with pytest.raises(DataError, match="a.ms: has no data column CORRECTED_DATA.*DATA, MODEL"):
        open_cache(path, "CORRECTED_DATA", tmp_path / "cache")
    with tables.table(str(path), readonly=False, ack=False) as main:
        main.putcell("ANTENNA2", 1, 2)
    with pytest.raises(DataError, match="a.ms.*1 rows repeat"):
        open_cache(path, "DATA", tmp_path / "cache")


def test_same_name_in_two_places(tmp_path):
    for place in ("x", "y"):
        (tmp_path / place).mkdir()
        write_ms(tmp_path / place / "a.ms", Spec(seed=ord(place)))
    x, y = (open_cache(tmp_path / p / "a.ms", "DATA", tmp_path / "cache") for p in "xy")
    assert x.path != y.path and x.name == y.name and not np.array_equal(x.vis, y.vis)


def test_a_linked_set_goes_by_the_name_of_the_link(tmp_path):
    write_ms(tmp_path / "a.ms")
    (tmp_path / "L1_b.ms").symlink_to("a.ms")
    cache = open_cache(tmp_path / "L1_b.ms", "DATA", tmp_path / "cache")
    assert (cache.name, cache.observation) == ("L1_b.ms", "L1")


def test_threads_that_want_the_same_cache_build_it_once(tmp_path):
    write_ms(tmp_path / "a.ms", Spec(n_time=30))
    monitor = Recorder()
    with ThreadPoolExecutor(4) as pool:
        jobs = [pool.submit(open_cache, tmp_path / "a.ms", "DATA", tmp_path / "cache",
                            monitor=monitor) for _ in range(4)]
        caches = [job.result() for job in jobs]
    assert len(monitor.calls) == 1
    assert all(np.array_equal(c.vis, caches[0].vis) for c in caches)


def test_memory_stays_bounded(tmp_path, monkeypatch):
    monkeypatch.setattr(visbuild, "READ_BYTES", 1 << 20)
    spec = Spec(n_ant=30, n_time=60, n_chan=16, autos=False)
    write_ms(tmp_path / "a.ms", spec)
    tracemalloc.start()
    cache = open_cache(tmp_path / "a.ms", "DATA", tmp_path / "cache")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert cache.vis.nbytes > 13e6 and peak < 7e6


def test_clear_caches_takes_only_its_own(tmp_path):
    folder = tmp_path / "cache"
    for name in ("a.ms", "b.ms"):
        write_ms(tmp_path / name)
        open_cache(tmp_path / name, "DATA", folder)
    a = cache_path(tmp_path / "a.ms", "DATA", folder)
    (folder / "mine.ddfvis").mkdir()
    (folder / "mine.ddfvis" / "vis.npy").write_text("precious")
    (folder / "mslist.txt.ddfcache").mkdir()
    (folder / "link.ddfvis").symlink_to(a)
    assert clear_caches(folder, [tmp_path / "b.ms"]) > 1000
    assert a.is_dir() and len(list(folder.iterdir())) == 4
    part = folder / "a.ms.DATA.0.ddfvis.host-1.part"
    part.mkdir()
    (part / "FORMAT").write_text("ddfpipe visibility cache 1\n")
    clear_caches(folder)
    assert sorted(p.name for p in folder.iterdir()) == ["link.ddfvis", "mine.ddfvis",
                                                        "mslist.txt.ddfcache"]
    assert clear_caches(tmp_path / "nowhere") == 0


@pytest.mark.parametrize("archive, column, autos", [
    ("tNDPPP-generic.MS.tgz", "DATA", False),
    ("tAWImager2_3C295.in_MS.tgz", "CORRECTED_DATA", True),
    ("A1775_LT10_010_4ch.ms.tgz", "DATA", False),
    ("lsmtool_test_midbands_PREDICTED_DATA.ms.tgz", "MODEL_DATA", False)])
def test_real_sets(unpack_ms, tmp_path, archive, column, autos):
    path = unpack_ms(archive)
    before = snapshot(path)
    cache = open_cache(path, column, tmp_path)
    assert snapshot(path) == before
    with tables.table(str(path), ack=False) as main:
        rows = {c: main.getcol(c) for c in ("TIME", "ANTENNA1", "ANTENNA2", "UVW", "FLAG", column)}
    cross = rows["ANTENNA1"] != rows["ANTENNA2"]
    assert autos == (not cross.all())
    for k in np.random.default_rng(0).choice(np.flatnonzero(cross), 150, replace=False):
        slot = int(np.abs(cache.time - rows["TIME"][k]).argmin())
        bl = int(np.flatnonzero((cache.ant1 == rows["ANTENNA1"][k])
                                & (cache.ant2 == rows["ANTENNA2"][k]))[0])
        good = ~rows["FLAG"][k].any(-1)
        assert np.array_equal(cache.weight[slot, bl] > 0, good)
        assert np.array_equal(cache.vis[slot, bl][good], rows[column][k][good])
        assert np.array_equal(cache.uvw[slot, bl], rows["UVW"][k])


def test_flux_of_3c295_survives(unpack_ms, tmp_path):
    cache = open_cache(unpack_ms("tAWImager2_3C295.in_MS.tgz"), "CORRECTED_DATA", tmp_path)
    core = [k for k, n in enumerate(cache.ant_names) if n.startswith("CS")]
    use = np.isin(cache.ant1, core) & np.isin(cache.ant2, core)
    weight = cache.unit_weight()[:, use]
    mean = (weight * np.abs(cache.stokes_i()[:, use])).sum() / weight.sum()
    assert mean == pytest.approx(106.5, abs=3)


@pytest.mark.parametrize("archive", [
    "tNDPPP-generic.MS.tgz", "lsmtool_test_midbands_PREDICTED_DATA.ms.tgz"])
def test_uvw_of_real_sets_follow_from_a_part_of_them(unpack_ms, tmp_path, archive):
    cache = open_cache(unpack_ms(archive), "DATA", tmp_path)
    present = np.random.default_rng(0).random((cache.n_time, cache.n_bl)) > 0.3
    uvw = np.array(cache.uvw)
    assert visgrid.fill_uvw(uvw, present, cache.ant1, cache.ant2, cache.ant_pos) == cache.n_time
    assert np.abs(uvw - cache.uvw).max() < 1e-3
