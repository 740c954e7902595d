"""The streaming facet grid against direct sums, the reference gridder, and its own adjoint."""

from __future__ import annotations

import numpy as np
import oracle
import pytest
from scipy.special import jv

from ddfpipe.errors import ImagingError
from ddfpipe.imaging.facetgrid import FacetGrid, bessel_j
from ddfpipe.imaging.facets import regular_facets
from ddfpipe.imaging.gridding import samples_to_facet

CELL = np.radians(6 / 3600)
OB = oracle.observation(n_ant=12)
WAVES = (OB["uvw"][..., None, :] * OB["freq"][:, None] / oracle.C).reshape(-1, 3)
W_MAX = np.abs(WAVES[:, 2]).max()


def facet(size, where=3.0, npix=3000):
    facets = regular_facets(npix=npix, cell=CELL, max_size_rad=size * CELL).facets
    return min(facets, key=lambda f: abs(np.hypot(f.l0, f.m0) - np.radians(where)))


def noise(n, seed=0):
    rng = np.random.default_rng(seed)
    return (rng.normal(size=n) + 1j * rng.normal(size=n)).astype("c8")


@pytest.mark.parametrize("size, npix", [(100, 3000), (600, 3000), (100, 2999)])
def test_image_against_direct_sum(size, npix):
    """3 degrees off axis, few and many w planes: error below 1e-4 of the peak."""
    f = facet(size, npix=npix)
    l, m = oracle.box_lm(f, CELL)
    at = ([0, f.ny - 1, 17], [f.nx - 1, 0, 60])
    vis = oracle.vis_of_points(OB["uvw"], OB["freq"], l[at], m[at], [1, 2, 0.5])
    weight = np.random.default_rng(0).uniform(0.5, 2, vis.shape)
    grid = FacetGrid(f, CELL, W_MAX)
    half = vis.size // 2
    for part in (slice(0, half), slice(half, None)):
        grid.add(WAVES[part], vis.ravel()[part], weight.ravel()[part])
    got, step = grid.image(), f.ny // 12
    pl, pm = np.r_[l[::step, ::step].ravel(), l[at]], np.r_[m[::step, ::step].ravel(), m[at]]
    truth = oracle.dirty_at(OB["uvw"], OB["freq"], vis, weight, pl, pm)
    mine = np.r_[got[::step, ::step].ravel(), got[at]]
    assert abs(mine - truth).max() < 3e-5 * truth.max()


@pytest.mark.parametrize("size", [100, 600])
def test_predict_against_direct_sum(size):
    f = facet(size)
    l, m = oracle.box_lm(f, CELL)
    at = ([0, f.ny - 1, 17], [f.nx - 1, 0, 60])
    image = np.zeros((f.ny, f.nx), np.float32)
    image[at] = [1, 2, 0.5]
    grid = FacetGrid(f, CELL, W_MAX)
    grid.load(image)
    truth = oracle.vis_of_points(OB["uvw"], OB["freq"], l[at], m[at], [1, 2, 0.5]).ravel()
    assert abs(grid.predict(WAVES) - truth).max() < 1e-4 * 3.5


def test_deep_w():
    """Phases of w of 10 rad and more, where series in single precision would fail."""
    f, uvw = facet(600), OB["uvw"] * [1, 1, 6]
    waves = (uvw[..., None, :] * OB["freq"][:, None] / oracle.C).reshape(-1, 3)
    l, m = oracle.box_lm(f, CELL)
    at = ([0, f.ny - 1, 17], [f.nx - 1, 0, 60])
    vis = oracle.vis_of_points(uvw, OB["freq"], l[at], m[at], [1, 2, 0.5])
    grid = FacetGrid(f, CELL, np.abs(waves[:, 2]).max())
    assert grid.series(0).dtype == np.float64
    assert FacetGrid(f, CELL, 100.0).series(0).dtype == np.float32
    grid.add(waves, vis.ravel())
    got = grid.image()
    truth = oracle.dirty_at(uvw, OB["freq"], vis, np.ones(vis.shape), l[at], m[at])
    assert abs(got[at] - truth).max() < 3e-5 * truth.max()
    assert abs(got).max() < 1.01 * truth.max()


def test_adjoint():
    f = facet(150)
    x = np.random.default_rng(1).normal(size=(f.ny, f.nx)).astype("f4")
    y = noise(len(WAVES))
    grid, model = FacetGrid(f, CELL, W_MAX), FacetGrid(f, CELL, W_MAX)
    grid.add(WAVES, y)
    model.load(x)
    ax = model.predict(WAVES).astype("c16")
    left, right = np.vdot(y, ax).real, np.vdot(grid.image().astype("f8"), x)
    assert abs(left - right) < 1e-6 * np.linalg.norm(ax) * np.linalg.norm(y)


def test_noise_against_reference_and_repeats():
    """Flux from everywhere, outside the facet too, and the phase centre itself: no aliasing."""
    y, weight = noise(len(WAVES)), np.random.default_rng(0).uniform(0, 1, len(WAVES))
    for f in (facet(100, 0.0), facet(100, 2.0)):
        got = []
        for _ in range(2):
            grid = FacetGrid(f, CELL, W_MAX)
            grid.add(WAVES, y, weight)
            got.append(grid.image())
        want = samples_to_facet(uvw=WAVES, vis=y.astype("c16"), weight=weight, facet=f, cell=CELL)
        assert np.array_equal(*got)
        assert abs(got[0] - want).max() < 3e-5 * abs(want).max()
    far = oracle.vis_of_points(OB["uvw"], OB["freq"], [0.06], [-0.05], [1]).ravel()
    grid = FacetGrid(f, CELL, W_MAX)
    grid.add(WAVES, far)
    want = samples_to_facet(uvw=WAVES, vis=far, facet=f, cell=CELL)
    assert abs(grid.image() - want).max() < 3e-5 * len(WAVES)


def test_zero_weight_hides_anything():
    f, y, weight = facet(100), noise(len(WAVES)), np.ones(len(WAVES))
    weight[::7] = 0
    images = []
    for hidden in (0, np.nan):
        grid = FacetGrid(f, CELL, W_MAX)
        grid.add(WAVES, np.where(weight > 0, y, hidden), weight)
        images.append(grid.image())
    assert images[0].any() and np.array_equal(*images)


def test_empty_and_errors():
    f = facet(100)
    grid = FacetGrid(f, CELL, W_MAX / 2)
    assert not grid.image().any()
    with pytest.raises(ImagingError, match="planned"):
        grid.add(WAVES, noise(len(WAVES)))
    with pytest.raises(ImagingError, match="facet's box"):
        grid.load(np.zeros((3, 3)))
    with pytest.raises(ImagingError, match="load"):
        FacetGrid(f, CELL, W_MAX).predict(WAVES)


@pytest.mark.parametrize("z", [1e-3, 0.3, 1.0, 7.5, 60.0, 400.0])
def test_bessel_functions_against_scipy(z):
    n = 28 + int(2 * z)
    assert np.abs(bessel_j(n, z) - jv(np.arange(n), z)).max() < 1e-13
