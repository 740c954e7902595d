"""Finding and probing programs, and working copies of measurement sets."""

from __future__ import annotations

import numpy as np
import pytest
from engine_fields import make_field, sources_at

from ddfpipe.data.ms import open_table, read_metadata
from ddfpipe.data.viscache import open_cache
from ddfpipe.engines.external import tools
from ddfpipe.engines.external.copies import clear_copies, copy_path, open_copy
from ddfpipe.errors import ConfigError


def test_a_tool_is_found_by_path_folder_or_where_the_installer_puts_it(
    program, tmp_path, monkeypatch
):
    path = program("print('DP3 6.6.0')", "DP3.py")
    monkeypatch.setenv("PATH", "")
    assert tools.find_tool("dp3", str(path)) == path == tools.find_tool("dp3", str(tmp_path))
    monkeypatch.setenv("DDFPIPE_TOOLS", str(tmp_path / "venv"))
    with pytest.raises(ConfigError, match=r"\[machine\] dp3.*install_lofar.sh"):
        tools.find_tool("dp3")
    (tmp_path / "venv/bin").mkdir(parents=True)
    path.rename(tmp_path / "venv/bin/DP3.py")
    assert tools.find_tool("dp3") == tmp_path / "venv/bin/DP3.py"
    assert tools.probe_dp3(tools.find_tool("dp3")).version == "6.6.0"


def test_abilities_are_tried_not_believed(program):
    source = ("print('WSClean version 3.9 (2030-01-01)'); print('IDG is available.')\n"
              "if '-use-idg' in sys.argv: print('was not compiled with IDG'); sys.exit(255)")
    tool = tools.probe_wsclean(program(source, "wsclean"))
    assert tool.version == "3.9" and tool.abilities == {"everybeam"}
    assert "3.9 with everybeam" in tool.text()


def test_a_program_that_is_something_else_is_refused(program):
    with pytest.raises(ConfigError, match="does not tell a version"):
        tools.probe_wsclean(program("print('hello')", "wsclean"))
    with pytest.raises(ConfigError, match="No module named numpy"):
        tools.probe_dp3(program("sys.exit('No module named numpy')", "DP3.py"))


def test_the_environment_of_dp3_names_tables_that_exist(tmp_path):
    found = tools.tool_environment(tmp_path)
    assert found["OPENBLAS_NUM_THREADS"] == "1"
    folder = open(found["CASARCFILES"]).read().split(": ")[1].strip()
    assert (tmp_path.__class__(folder) / "geodetic/TAI_UTC/table.dat").exists()


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    folder = tmp_path_factory.mktemp("copies")
    field = make_field(folder / "field", sources_at([(0.1, 0.1)], [1.0]),
                       observation=dict(n_ms=1, core_fields=4, remote_stations=2))
    return open_cache(field.ms[0], "DATA", folder / "cache")


def test_a_copy_is_a_measurement_set_of_the_same_grid(cache, tmp_path):
    before = sorted((p, p.stat().st_mtime_ns) for p in cache.ms_path.rglob("*"))
    copy = open_copy(cache, tmp_path)
    copy.write("DATA", lambda part: np.array(cache.vis[part]))
    copy.write("WEIGHT_SPECTRUM", lambda part: np.array(cache.weight[part]))
    again = open_cache(copy.path, "DATA", tmp_path / "again")
    assert np.array_equal(again.vis, cache.vis) and np.array_equal(again.uvw, cache.uvw)
    assert np.array_equal(again.weight, cache.weight)
    mine, theirs = read_metadata(copy.path), read_metadata(cache.ms_path)
    assert mine.phase_centre == theirs.phase_centre and mine.ant_names == theirs.ant_names
    assert before == sorted((p, p.stat().st_mtime_ns) for p in cache.ms_path.rglob("*"))


def test_columns_are_noted_only_when_whole(cache, tmp_path):
    copy = open_copy(cache, tmp_path)
    with copy.making("MODEL_DATA", "a"):
        copy.write("MODEL_DATA", lambda part: np.full(
            (part.stop - part.start, *copy.shape[1:]), 1 + 2j, np.complex64))
    assert open_copy(cache, tmp_path).note("MODEL_DATA") == "a"
    with pytest.raises(RuntimeError), copy.making("MODEL_DATA", "b"):
        raise RuntimeError
    assert copy.note("MODEL_DATA") is None
    copy.rename_column("MODEL_DATA", "DIR")
    assert np.all(copy.read("DIR", slice(1, 3)) == 1 + 2j)
    copy.remove_columns(["DIR", "NONE"])
    assert "DIR" not in copy.columns()
    piece = copy.slots(slice(1, 3), tmp_path / "piece.ms")
    with open_table(piece) as main:
        assert np.allclose(np.unique(main.getcol("TIME")), cache.time[1:3])


def test_a_copy_of_a_changed_source_is_made_anew(cache, tmp_path, monkeypatch):
    copy = open_copy(cache, tmp_path)
    with copy.making("DATA", "key"):
        pass
    monkeypatch.setitem(cache.meta, "fingerprint", {"table.f0": [1, 2]})
    assert open_copy(cache, tmp_path).note("DATA") is None
    clear_copies(tmp_path, [cache.ms_path])
    assert not copy_path(cache, tmp_path).exists()
