"""Writing columns back on request."""

import shutil
import subprocess
import sys

import numpy as np
import pytest
from casacore import tables
from make_ms import Spec, snapshot, write_ms

from ddfpipe.data import visbuild
from ddfpipe.data.fingerprint import fingerprint
from ddfpipe.data.mscolumn import STATE, export_column
from ddfpipe.data.viscache import open_cache
from ddfpipe.errors import DataError, ResourceError, StopRequested


@pytest.mark.parametrize("corr", [(9, 10, 11, 12), (9, 12), (1,), (5, 6, 7, 8)])
def test_round_trip_to_the_rows_they_came_from(tmp_path, monkeypatch, corr):
    monkeypatch.setattr(visbuild, "READ_BYTES", 1500)
    path = tmp_path / "a.ms"
    write_ms(path, Spec(shuffle=True, swap=(1, 2, 20), drop=(5, 17), descending=True, corr=corr))
    cache = open_cache(path, "DATA", tmp_path / "cache")
    filled = export_column(cache, path, "SCALED_DATA", lambda t0, t1: 2 * cache.vis[t0:t1])
    with tables.table(str(path), ack=False) as main:
        data, scaled = main.getcol("DATA"), main.getcol("SCALED_DATA")
        cross = main.getcol("ANTENNA1") != main.getcol("ANTENNA2")
        assert main.getcolkeyword("SCALED_DATA", STATE) == "complete"
    assert filled == cross.sum()
    assert scaled[cross] == pytest.approx(2 * data[cross], abs=1e-6)
    assert (scaled[~cross] == 0).all()


def test_own_export_does_not_outdate_the_cache(tmp_path):
    path = tmp_path / "a.ms"
    write_ms(path)
    cache = open_cache(path, "DATA", tmp_path / "cache")
    inode = cache.path.stat().st_ino
    export_column(cache, path, "IMAGING_WEIGHT", np.asarray(cache.weight))
    assert open_cache(path, "DATA", tmp_path / "cache").path.stat().st_ino == inode
    export_column(cache, path, "IMAGING_WEIGHT", np.asarray(cache.weight) * 2)
    with tables.table(str(path), ack=False) as main:
        weight = main.getcol("IMAGING_WEIGHT")
        mean = main.getcol("WEIGHT_SPECTRUM").mean(-1)
        cross = main.getcol("ANTENNA1") != main.getcol("ANTENNA2")
    assert weight.shape == mean.shape
    assert weight[cross] == pytest.approx(2 * mean[cross], rel=1e-5)


def test_refusals_leave_the_set_alone(tmp_path):
    path, other = tmp_path / "a.ms", tmp_path / "b.ms"
    write_ms(path, Spec(columns=("DATA", "CORRECTED_DATA")))
    write_ms(other, Spec(n_time=3))
    cache = open_cache(path, "CORRECTED_DATA", tmp_path / "cache")
    before = snapshot(path), snapshot(other)
    for column in ("DATA", "CORRECTED_DATA", "FLAG"):
        with pytest.raises(DataError, match=f"{column} holds observed data"):
            export_column(cache, path, column, np.asarray(cache.vis))
    with pytest.raises(DataError, match="b.ms: its times or channels differ"):
        export_column(cache, other, "NEW", np.asarray(cache.vis))
    assert (snapshot(path), snapshot(other)) == before


def test_dysco_source_gets_a_lossless_column(unpack_ms, tmp_path):
    path = tmp_path / "copy.ms"
    shutil.copytree(unpack_ms("A1775_LT10_010_4ch.ms.tgz"), path)
    cache = open_cache(path, "DATA", tmp_path / "cache")
    export_column(cache, path, "DATA_DI_CORRECTED", np.asarray(cache.vis))
    again = open_cache(path, "DATA_DI_CORRECTED", tmp_path / "cache")
    assert np.array_equal(again.vis, cache.vis)


def test_a_set_that_cannot_be_written(tmp_path, monkeypatch):
    path = tmp_path / "a.ms"
    write_ms(path)
    cache = open_cache(path, "DATA", tmp_path / "cache")
    real = tables.table

    def read_only(*args, **kwargs):
        if kwargs.get("readonly") is False:
            raise RuntimeError("Table a.ms cannot be opened for writing")
        return real(*args, **kwargs)

    monkeypatch.setattr(tables, "table", read_only)
    with pytest.raises(ResourceError, match="NEW cannot be written.*permissions"):
        export_column(cache, path, "NEW", np.asarray(cache.vis))


def test_unused_samples_keep_what_another_column_holds(tmp_path):
    path = tmp_path / "a.ms"
    write_ms(path, Spec(shuffle=True, swap=(1, 2, 20), descending=True))
    with tables.table(str(path), readonly=False, ack=False) as main:
        flag = main.getcol("FLAG")
        flag[3, 1] = flag[20, 2] = True
        main.putcol("FLAG", flag)
    cache = open_cache(path, "DATA", tmp_path / "cache")
    export_column(cache, path, "NEW", lambda t0, t1: 2 * cache.vis[t0:t1], unused="DATA")
    with tables.table(str(path), ack=False) as main:
        data, new, flag = (main.getcol(name) for name in ("DATA", "NEW", "FLAG"))
        other = flag.any(-1) | (main.getcol("ANTENNA1") == main.getcol("ANTENNA2"))[:, None]
    assert other.any() and not other.all()
    assert np.array_equal(new[other], data[other])
    assert new[~other] == pytest.approx(2 * data[~other], abs=1e-6)
    with pytest.raises(DataError, match="no data column MODEL"):
        export_column(cache, path, "NEW", np.asarray(cache.vis), unused="MODEL")
    with pytest.raises(DataError, match="holds no visibilities"):
        export_column(cache, path, "NEW", np.asarray(cache.weight), unused="DATA")


KILLED = """
import os, sys
from ddfpipe.data.fingerprint import fingerprint
from ddfpipe.data.mscolumn import export_column
from ddfpipe.data.viscache import open_cache
cache = open_cache(sys.argv[1], "DATA", sys.argv[2])
calls = []
def piece(t0, t1):
    calls.append(t0)
    if len(calls) == 2:
        os._exit(9)
    return cache.vis[t0:t1]
export_column(cache, sys.argv[1], "NEW", piece)
"""


def test_a_set_stays_the_same_through_own_columns_and_kills(tmp_path):
    path, cached = tmp_path / "a.ms", tmp_path / "cache"
    write_ms(path)
    cache = open_cache(path, "DATA", cached)
    before, state = fingerprint(path), snapshot(path)
    words = [sys.executable, "-c", KILLED, str(path), str(cached)]
    assert subprocess.run(words).returncode == 9
    assert snapshot(path) != state and fingerprint(path) == before
    export_column(cache, path, "NEW", np.asarray(cache.vis))
    export_column(cache, path, "MORE", np.asarray(cache.weight))
    assert fingerprint(path) == before
    with tables.table(str(path), ack=False) as main:
        assert main.getcolkeyword("NEW", STATE) == "complete"
        assert np.abs(main.getcol("NEW")).max() > 0
    copy = tmp_path / "b.ms"
    shutil.copytree(path, copy)
    assert fingerprint(copy) == before


def test_changes_of_others_are_seen_in_spite_of_own_columns(tmp_path):
    path = tmp_path / "a.ms"
    write_ms(path)
    cache = open_cache(path, "DATA", tmp_path / "cache")
    before = fingerprint(path)
    export_column(cache, path, "NEW", np.asarray(cache.vis))
    with tables.table(str(path), readonly=False, ack=False) as main:
        main.putcol("DATA", main.getcol("DATA") * 2)
    changed = fingerprint(path)
    assert changed != before
    export_column(open_cache(path, "DATA", tmp_path / "cache"), path, "NEW", np.asarray(cache.vis))
    assert fingerprint(path) == changed
    assert subprocess.run([sys.executable, "-c", KILLED, str(path), str(tmp_path / "cache")]
                          ).returncode == 9
    with tables.table(str(path), readonly=False, ack=False) as main:
        main.putcol("DATA", main.getcol("DATA") * 2)
    assert fingerprint(path) not in (before, changed)


def test_a_failed_export_keeps_the_fingerprint(tmp_path):
    path = tmp_path / "a.ms"
    write_ms(path)
    cache = open_cache(path, "DATA", tmp_path / "cache")
    before = fingerprint(path)
    calls = []

    def piece(t0, t1):
        calls.append(t0)
        if len(calls) > 1:
            raise StopRequested("enough")
        return cache.vis[t0:t1]

    with pytest.raises(StopRequested):
        export_column(cache, path, "NEW", piece)
    assert fingerprint(path) == before
    with tables.table(str(path), ack=False) as main:
        assert main.getcolkeyword("NEW", STATE) == "incomplete"
