"""Columns of earlier runs: found, and removed without a trace on what was computed."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from casacore import tables
from make_ms import Spec, snapshot, write_ms

from ddfpipe.data.fingerprint import fingerprint
from ddfpipe.data.ms import read_metadata
from ddfpipe.data.mscolumn import export_column
from ddfpipe.data.oldcolumns import MADE_COLUMNS, find_columns, measurement_sets, remove_columns
from ddfpipe.data.viscache import open_cache
from ddfpipe.errors import ConfigError, DataError, ResourceError

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"
SPEC = Spec(columns=("DATA", "CORRECTED_DATA", "DATA_SUB", "DD_PREDICT", "MY_DATA"))


@pytest.fixture
def sets(tmp_path):
    paths = [tmp_path / f"L1_{k}.ms" for k in "abc"]
    for path in paths[:2]:
        write_ms(path, SPEC)
    write_ms(paths[2])
    (tmp_path / "list.txt").write_text("\n".join(map(str, paths)) + "\n")
    return paths


def test_what_pipelines_made_goes_and_nothing_else(sets):
    found = find_columns(sets)
    assert [(r.ms, r.columns) for r in found] == [
        (path, ("DD_PREDICT", "DATA_SUB")) for path in sets[:2]]
    info = read_metadata(sets[0])
    assert found[0].size == 2 * info.n_rows * info.n_chan * 4 * 8
    with tables.table(str(sets[0]), ack=False) as main:
        before = {c: main.getcol(c) for c in ("DATA", "MY_DATA", "FLAG", "WEIGHT_SPECTRUM")}
    said = []
    assert remove_columns(found, said.append) == 4 and len(said) == 2
    with tables.table(str(sets[0]), ack=False) as main:
        assert not set(main.colnames()) & set(MADE_COLUMNS)
        for name, values in before.items():
            assert np.array_equal(main.getcol(name), values)
    assert find_columns(sets) == []


def test_the_input_stays(sets):
    found = find_columns(sets, keep=("DATA_SUB",))
    assert {r.columns for r in found} == {("DD_PREDICT",)}
    remove_columns(found)
    assert "DATA_SUB" in read_metadata(sets[0]).data_columns


def test_only_names_that_pipelines_give(sets):
    with pytest.raises(ConfigError, match="CORRECTED_DATA: only columns that a pipeline made"):
        find_columns(sets, names=("SCALED_DATA", "CORRECTED_DATA"))
    assert not {"DATA", "CORRECTED_DATA", "MODEL_DATA", "FLAG", "UVW"} & set(MADE_COLUMNS)


def test_a_set_is_not_left_without_visibilities(tmp_path):
    path = tmp_path / "a.ms"
    write_ms(path, Spec(columns=("DATA_DI_CORRECTED",)))
    before = snapshot(path)
    with pytest.raises(DataError, match="all the visibilities that it has"):
        find_columns([path])
    with pytest.raises(DataError, match="gone.ms: does not exist"):
        find_columns([tmp_path / "gone.ms"])
    assert snapshot(path) == before


def test_what_was_computed_stays_valid(sets, tmp_path):
    cache = open_cache(sets[0], "DATA", tmp_path / "cache")
    inode, before = cache.path.stat().st_ino, fingerprint(sets[0])
    remove_columns(find_columns(sets))
    assert fingerprint(sets[0]) == before
    assert open_cache(sets[0], "DATA", tmp_path / "cache").path.stat().st_ino == inode
    export_column(cache, sets[0], "DD_PREDICT", np.asarray(cache.vis))
    remove_columns(find_columns(sets))
    assert fingerprint(sets[0]) == before
    with tables.table(str(sets[0]), readonly=False, ack=False) as main:
        main.putcol("DATA", 2 * main.getcol("DATA"))
    assert fingerprint(sets[0]) != before


def test_a_set_that_cannot_be_written(sets, monkeypatch):
    found = find_columns(sets)
    before = fingerprint(sets[0])

    def refuse(self, name):
        raise RuntimeError("no write access")

    monkeypatch.setattr(tables.table, "removecols", refuse)
    with pytest.raises(ResourceError, match="L1_a.ms: .*no write access"):
        remove_columns(found)
    assert fingerprint(sets[0]) == before and find_columns(sets) == found


def test_words_are_sets_or_lists(sets, tmp_path):
    assert measurement_sets([str(sets[1]), str(tmp_path / "list.txt")]) == [
        sets[1], sets[0], sets[2]]
    with pytest.raises(DataError, match="no such list"):
        measurement_sets(["gone"])


def call(folder, script, *words):
    done = subprocess.run([sys.executable, str(SCRIPTS / script), *words], cwd=folder, text=True,
                          capture_output=True, stdin=subprocess.DEVNULL, timeout=600)
    return done.returncode, done.stdout, done.stderr


def test_scripts(sets, tmp_path):
    before = [snapshot(path) for path in sets]
    code, out, err = call(tmp_path, "remove_columns.py", "list.txt", "--dry-run")
    assert code == 0 and "4 column(s) in 2 of 3 measurement set(s)" in out
    code, _, err = call(tmp_path, "remove_columns.py", "list.txt")
    assert code == 1 and "give --yes" in err
    code, _, err = call(tmp_path, "remove_bootstrap.py", "list.txt", "CORRECTED_DATA", "--yes")
    assert code == 1 and "only columns that a pipeline made" in err
    code, out, _ = call(tmp_path, "remove_bootstrap.py", "list.txt", "--yes")
    assert code == 0 and out.startswith("0 column(s)")
    assert [snapshot(path) for path in sets] == before
    code, out, _ = call(tmp_path, "remove_bootstrap.py", "list.txt", "DATA_SUB", "--yes")
    assert code == 0 and "2 column(s) removed" in out
    code, out, _ = call(tmp_path, "remove_columns.py", *map(str, sets), "--yes")
    assert code == 0 and "2 column(s) removed" in out
    assert find_columns(sets) == []
    code, _, err = call(tmp_path, "remove_columns.py")
    assert code == 1 and "usage: remove_columns.py" in err
