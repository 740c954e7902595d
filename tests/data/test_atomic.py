"""Writing whole files or none."""

import json

import numpy as np
import pytest

from ddfpipe.data import atomic


def names(folder):
    return sorted(p.name for p in folder.iterdir())


def test_success_replaces_and_leaves_nothing_else(tmp_path):
    target = tmp_path / "a.fits"
    target.write_text("old")
    with atomic.atomic_path(target) as temporary:
        assert temporary.parent == tmp_path and temporary.suffix == ".fits"
        temporary.write_text("new")
        assert target.read_text() == "old"
    assert target.read_text() == "new"
    assert names(tmp_path) == ["a.fits"]


def test_failure_keeps_the_old_file(tmp_path):
    target = tmp_path / "a.txt"
    target.write_text("old")
    with pytest.raises(ZeroDivisionError):
        with atomic.atomic_path(target) as temporary:
            temporary.write_text("half")
            1 / 0
    assert target.read_text() == "old"
    assert names(tmp_path) == ["a.txt"]


def test_nothing_written_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError, match="a.txt"):
        with atomic.atomic_path(tmp_path / "a.txt"):
            pass


def test_directory_replaces_directory(tmp_path):
    target = tmp_path / "set"
    target.mkdir()
    (target / "old").write_text("1")
    with atomic.atomic_path(target) as temporary:
        temporary.mkdir()
        (temporary / "new").write_text("2")
    assert names(target) == ["new"]
    assert names(tmp_path) == ["set"]


def test_only_what_is_to_last_waits_for_the_disk(tmp_path, monkeypatch):
    waited = []
    monkeypatch.setattr(atomic, "fsync", lambda path: waited.append(path.name))
    atomic.atomic_write_json(tmp_path / "now.json", [1], durable=False)
    assert waited == [] and names(tmp_path) == ["now.json"]
    atomic.atomic_write_json(tmp_path / "record.json", [2])
    assert waited[0].endswith(".tmp.json") and waited[1] == tmp_path.name


def test_json_npz_text(tmp_path):
    atomic.atomic_write_text(tmp_path / "t", "Grüße\n")
    atomic.atomic_write_json(tmp_path / "j.json", {"b": [1, 2.5], "a": None})
    atomic.atomic_write_npz(tmp_path / "solutions", x=np.arange(3))
    assert (tmp_path / "t").read_text(encoding="utf-8") == "Grüße\n"
    assert json.loads((tmp_path / "j.json").read_text()) == {"a": None, "b": [1, 2.5]}
    assert np.load(tmp_path / "solutions")["x"].tolist() == [0, 1, 2]
    with pytest.raises(TypeError):
        atomic.atomic_write_json(tmp_path / "j.json", {"a": object()})
    assert json.loads((tmp_path / "j.json").read_text())["b"] == [1, 2.5]
    assert names(tmp_path) == ["j.json", "solutions", "t"]
