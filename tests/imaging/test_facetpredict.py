"""Degridding of whole chunks against the reference gridder and against the fused pass."""

from __future__ import annotations

import numpy as np
import oracle
import pytest

from ddfpipe.imaging import facetpredict
from ddfpipe.imaging.facetgrid import FacetGrid
from ddfpipe.imaging.facetpass import grid_chunk
from ddfpipe.imaging.facetpredict import load_facet, reach
from ddfpipe.imaging.facets import regular_facets
from ddfpipe.imaging.gridding import facet_to_vis

CELL = np.radians(6 / 3600)
OB = oracle.observation(n_ant=10, n_time=300, n_chan=3, dt=16.0)


@pytest.fixture(scope="module")
def facet():
    facets = regular_facets(npix=3000, cell=CELL, max_size_rad=200 * CELL).facets
    return max(facets, key=lambda f: np.hypot(f.l0, f.m0))


def model(facet, seed=0):
    rng = np.random.default_rng(seed)
    image = np.zeros((facet.ny, facet.nx), np.float32)
    image.flat[rng.choice(image.size, 200)] = rng.normal(size=200)
    image[0, -1] = image[-1, 0] = 2.0
    return image


def facet_to_chunk(*, image, uvw, freq, facet, cell):
    """Visibilities of a facet's pixels, its grid laid out for them alone."""
    return load_facet(image, facet, cell, reach(uvw, freq)).chunk(uvw, freq)


def test_against_reference(facet):
    image = model(facet)
    args = dict(uvw=OB["uvw"], freq=OB["freq"], facet=facet, cell=CELL)
    want = facet_to_vis(image=image.astype("f8"), epsilon=1e-9, **args)
    got = facet_to_chunk(image=image, **args)
    assert got.dtype == np.complex64
    assert abs(got - want).max() < 1e-4 * abs(want).max()
    assert (got - want).std() < 1e-4 * want.std()
    assert not facet_to_chunk(image=0 * image, **args).any()


def test_large_grids_go_to_the_reference(facet, monkeypatch):
    args = dict(image=model(facet), uvw=OB["uvw"], freq=OB["freq"], facet=facet, cell=CELL)
    own = facet_to_chunk(**args)
    monkeypatch.setattr(facetpredict, "GRID_BYTES", 1.0)
    reference = facet_to_chunk(**args)
    assert not np.array_equal(own, reference)
    assert abs(own - reference).max() < 1e-4 * abs(own).max()


def test_adjoint_of_the_fused_pass(facet):
    image = model(facet, 1)
    rng = np.random.default_rng(2)
    shape = (*OB["uvw"].shape[:2], OB["freq"].size)
    y = (rng.normal(size=shape) + 1j * rng.normal(size=shape)).astype("c8")
    ax = facet_to_chunk(image=image, uvw=OB["uvw"], freq=OB["freq"], facet=facet, cell=CELL)
    waves = abs(OB["uvw"]).max(axis=(0, 1)) * OB["freq"].max() / oracle.C
    grid = FacetGrid(facet, CELL, waves[2], waves[:2].max())
    grid.use(np.zeros(grid.size, np.float32))
    grid_chunk(grids=[grid], buffer=grid.buffer, uvw=OB["uvw"], vis=y,
               weight=np.ones(shape, np.float32), freq=OB["freq"], chan_width=OB["width"],
               interval=OB["dt"], dec0=OB["dec"], dec=0.0)
    ax = ax.astype("c16")
    left, right = np.vdot(y, ax).real, np.vdot(grid.image().astype("f8"), image)
    assert abs(left - right) < 1e-6 * np.linalg.norm(ax) * np.linalg.norm(y)
