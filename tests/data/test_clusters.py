"""Cluster catalogues: killMS's own file, ours, and what users hand over."""

from __future__ import annotations

import numpy as np
import pytest

from ddfpipe.data.clusters import make_directions, read_clusters, write_clusters
from ddfpipe.errors import SkyModelError
from ddfpipe.units import DEGREE


def test_killms_catalogue_is_read_and_rewritten_alike(shared_data, tmp_path):
    source = shared_data / "peer-products" / "killms.ClusterCat.npy"
    theirs = np.load(source, allow_pickle=False)
    directions = read_clusters(source)
    ours = np.load(write_clusters(tmp_path / "c.npy", directions), allow_pickle=False)
    assert ours.dtype == theirs.dtype
    for field in ("ra", "dec", "SumI", "Cluster", "l", "m"):
        assert np.array_equal(ours[field], theirs[field])


def test_lm_are_about_the_centre_and_other_field_orders_are_read(tmp_path):
    directions = make_directions([1.0, 1.01], [0.5, 0.5], [3.0, 2.0], ["a", ""])
    path = write_clusters(tmp_path / "c.npy", directions, centre=(1.0, 0.5))
    table = np.load(path)
    assert table["l"][1] == pytest.approx(np.cos(0.5) * np.sin(0.01)) and table["l"][0] == 0
    assert [n.decode() for n in table["Name"]] == ["a", "dir01"]
    np.save(tmp_path / "d.npy", table[["Name", "ra", "dec", "SumI", "Cluster", "l", "m"]][::-1])
    assert np.array_equal(read_clusters(tmp_path / "d.npy").ra, [1.01, 1.0])


def test_text_and_regions_of_users(tmp_path):
    text = tmp_path / "dirs.csv"
    text.write_text("ra,dec,flux\n10.0, 50.0, 2.5\n# far one\n11.5 49.0\n")
    directions = read_clusters(text)
    assert np.allclose(directions.ra / DEGREE, [10, 11.5])
    assert np.array_equal(directions.flux, [2.5, 0.0])
    region = tmp_path / "dirs.reg"
    region.write_text("fk5\npoint(10.0,50.0) # text={A}\npoint(11.5,49.0)\n")
    directions = read_clusters(region)
    assert np.allclose(directions.dec / DEGREE, [50, 49]) and directions.names == ("A", "dir01")


@pytest.mark.parametrize(("name", "content"), [
    ("empty.csv", ""), ("words.csv", "north south\n"), ("dec.csv", "10 100\n"),
    ("twice.csv", "10 50\n10 50\n"), ("nan.csv", "nan 50\n"), ("binary.npy", "not numpy"),
    ("single.csv", "10\n"),
])
def test_unusable_files_are_named(tmp_path, name, content):
    (tmp_path / name).write_text(content)
    with pytest.raises(SkyModelError, match=name):
        read_clusters(tmp_path / name)


def test_pickles_and_missing_fields_and_files_are_refused(tmp_path):
    np.save(tmp_path / "p.npy", np.array([{"ra": 1}], dtype=object), allow_pickle=True)
    np.save(tmp_path / "f.npy", np.zeros(3))
    np.save(tmp_path / "deg.npy", np.array([(200.0, 50.0)], dtype=[("ra", "f8"), ("dec", "f8")]))
    for name in ("p.npy", "f.npy", "deg.npy", "none.npy"):
        with pytest.raises(SkyModelError, match=name):
            read_clusters(tmp_path / name)
