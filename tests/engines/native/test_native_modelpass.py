"""A model is taken out of the data, the same whatever the chunks, the memory and the threads."""

from __future__ import annotations

import numpy as np
import pytest
from engine_fields import Listener, make_engine, make_job, write_directions

from ddfpipe.data.images import SkyGrid
from ddfpipe.data.model import PixelModel
from ddfpipe.engines.native import facetmodel, modelpass, predictor
from ddfpipe.engines.native.imager import Imager
from ddfpipe.engines.native.visibilities import MSData, Scratch
from ddfpipe.imaging import facetpredict

NPIX, CELL = 480, 18.0


@pytest.fixture
def left(plain, tmp_path, monkeypatch):
    """Function that takes a model of 3000 pixels in Voronoi facets out; (what is left, grids)."""
    simulation, sources = plain
    monkeypatch.setattr(facetmodel, "DIRECT_BRIGHT", 5)
    count = []

    def counted(self, *args):
        count.append(1)
        return load(self, *args)

    load = predictor.Predictor.load
    monkeypatch.setattr(predictor.Predictor, "load", counted)

    def take(chunk_bytes=None, memory=1e9, threads=1, n=3000):
        count.clear()
        with monkeypatch.context() as patch:
            if chunk_bytes:
                whole = MSData.chunks
                patch.setattr(MSData, "chunks", lambda s, most=chunk_bytes: whole(s, most))
            folder = tmp_path / "work"
            folder.mkdir(exist_ok=True)
            write_directions(folder, sources)
            job = make_job("pass", simulation, NPIX, CELL, clusters="directions.npy")
            with Scratch(tmp_path / "scratch") as scratch:
                o = Imager(make_engine(folder, threads), job, Listener())._operators(scratch)
                o.memory = memory
                o.set_residual(model(o, n))
                return [np.array(r) for r in o.residual], len(count)

    return take


def model(o, n: int) -> PixelModel:
    """Pixels of random flux and spectrum."""
    rng = np.random.default_rng(5)
    grid = SkyGrid(*o.data.phase_centre, o.facets.npix, o.facets.npix, o.facets.cell)
    index = np.sort(rng.choice(o.facets.npix**2, n, replace=False))
    flux = rng.normal(size=(o.data.n_bands, n)).astype(np.float32)
    return PixelModel(grid, o.data.band_freq, index, flux)


def apart(first, second) -> float:
    """Largest difference over the largest value."""
    return max(np.abs(a - b).max() / np.abs(b).max() for a, b in zip(first, second))


def test_chunks_memory_and_threads_change_nothing(left, monkeypatch):
    monkeypatch.setattr(facetpredict, "DIRECT", 1e6)  # grids always pay
    whole, none = left()
    assert none == 0  # one chunk: no grid is kept
    chunked, kept = left(chunk_bytes=1e5)
    facets = kept
    assert facets > 3 and apart(chunked, whole) < 2e-5
    for memory in (3e6, 1e3):  # room for some grids, and for none
        again, kept = left(chunk_bytes=1e5, memory=memory)
        assert 0 < kept < facets if memory > 1e6 else kept == 0
        assert apart(again, chunked) < 2e-5
    threaded, _ = left(chunk_bytes=1e5, threads=3)
    assert all(np.array_equal(a, b) for a, b in zip(threaded, chunked))


def test_sums_and_grids_agree(left, monkeypatch):
    """Spectra that differ are exact in sums, the mean's in grids."""
    monkeypatch.setattr(facetpredict, "DIRECT", 1e6)
    grids, _ = left(chunk_bytes=1e5)
    monkeypatch.setattr(facetpredict, "DIRECT", 0.0)
    sums, kept = left(chunk_bytes=1e5)
    assert kept == 0 and apart(sums, grids) < 2e-3


def test_an_empty_model_leaves_the_data(left):
    empty, _ = left(chunk_bytes=1e5, n=0)
    some, _ = left(chunk_bytes=1e5, n=4)
    assert apart(some, empty) > 0.01


def test_groups_fill_the_memory(monkeypatch):
    """Ten facets, every third without a grid."""

    class Ten:
        def occupied(self):
            return list(range(10))

        def crowded(self, cache):
            return [i for i in range(10) if i % 3]

        def limits(self, cache):
            return 1.0, 1.0

        class facets:  # noqa: N801
            cell = 1.0

        parts = [type("Piece", (), {"facet": None})] * 10

    monkeypatch.setattr(modelpass, "grid_size", lambda *_: 25)
    groups = modelpass.facet_groups(Ten(), None, memory=250)
    assert [i for group, _ in groups for i in group] == list(range(10))
    assert [c for _, c in groups] == [{1: 25, 2: 25}, {4: 25, 5: 25}, {7: 25, 8: 25}]
    assert modelpass.facet_groups(Ten(), None, memory=50) == [(list(range(10)), {})]
