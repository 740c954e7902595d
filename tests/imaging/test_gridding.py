"""Gridding and degridding against brute-force Fourier sums, and against each other."""

from __future__ import annotations

import numpy as np
import oracle
import pytest

from ddfpipe.errors import ImagingError
from ddfpipe.imaging.facets import regular_facets, voronoi_facets
from ddfpipe.imaging.gridding import (facet_to_samples, facet_to_vis, samples_to_facet,
                                      vis_to_facet)

CELL = np.radians(6 / 3600)
OB = oracle.observation()
SHAPE = OB["uvw"].shape[:2] + (OB["freq"].size,)


@pytest.fixture(scope="module")
def far_facet():
    """A facet whose centre lies 3 degrees off axis, at the image's edge."""
    facets = regular_facets(npix=2800, cell=CELL, max_size_rad=200 * CELL)
    at = min(facets.facets, key=lambda f: abs(np.hypot(f.l0, f.m0) - np.radians(3)))
    assert abs(np.hypot(at.l0, at.m0) - np.radians(3)) < 3e-3
    return at


def noise(shape, dtype, seed=0):
    rng = np.random.default_rng(seed)
    z = rng.normal(size=shape)
    return (z + 1j * rng.normal(size=shape) if np.dtype(dtype).kind == "c" else z).astype(dtype)


@pytest.mark.parametrize("dtype, bound", [(np.complex128, 1e-8), (np.complex64, 1e-4)])
def test_dirty_against_direct_sum(far_facet, dtype, bound):
    """3 degrees off axis, sources at corners and elsewhere: error below 1e-4 of the peak."""
    f = far_facet
    l, m = oracle.box_lm(f, CELL)
    at = ([0, f.ny - 1, 17], [f.nx - 1, 0, 90])
    vis = oracle.vis_of_points(OB["uvw"], OB["freq"], l[at], m[at], [1, 2, 0.5])
    weight = np.random.default_rng(0).uniform(0.5, 2, SHAPE)
    dirty = vis_to_facet(uvw=OB["uvw"], freq=OB["freq"], vis=vis.astype(dtype), weight=weight,
                         facet=f, cell=CELL)
    truth = oracle.dirty_at(OB["uvw"], OB["freq"], vis, weight, l[::9, ::9].ravel(),
                            m[::9, ::9].ravel()).reshape(l[::9, ::9].shape)
    peaks = oracle.dirty_at(OB["uvw"], OB["freq"], vis, weight, l[at], m[at])
    assert dirty.dtype == np.dtype(dtype).type(0).real.dtype
    assert abs(dirty[::9, ::9] - truth).max() < bound * abs(dirty).max()
    assert abs(dirty[at] - peaks).max() < bound * abs(dirty).max()


@pytest.mark.parametrize("dtype, bound", [(np.float64, 1e-8), (np.float32, 1e-4)])
def test_degridding_against_direct_sum(far_facet, dtype, bound):
    f = far_facet
    image = np.zeros((f.ny, f.nx), dtype)
    at = ([0, f.ny - 1, 17], [f.nx - 1, 0, 90])
    image[at] = [1, 2, 0.5]
    l, m = oracle.box_lm(f, CELL)
    vis = facet_to_vis(image=image, uvw=OB["uvw"], freq=OB["freq"], facet=f, cell=CELL)
    truth = oracle.vis_of_points(OB["uvw"], OB["freq"], l[at], m[at], [1, 2, 0.5])
    assert vis.shape == SHAPE
    assert abs(vis - truth).max() < bound * 3.5


@pytest.mark.parametrize("real, cplx, bound", [("f8", "c16", 1e-10), ("f4", "c8", 1e-6)])
def test_adjoint(far_facet, real, cplx, bound):
    f = far_facet
    x, y = noise((f.ny, f.nx), real), noise(SHAPE, cplx, 1)
    ax = facet_to_vis(image=x, uvw=OB["uvw"], freq=OB["freq"], facet=f, cell=CELL)
    aty = vis_to_facet(vis=y, uvw=OB["uvw"], freq=OB["freq"], facet=f, cell=CELL)
    left = np.vdot(y.astype("c16"), ax).real
    right = np.vdot(aty.astype("f8"), x)
    assert abs(left - right) <= bound * np.linalg.norm(ax) * np.linalg.norm(y)


def test_orientation():
    """East (l > 0) is left of the centre, north is up: peak at the pixel of the convention."""
    f = regular_facets(npix=64, cell=CELL, max_size_rad=1).facets[0]
    vis = oracle.vis_of_points(OB["uvw"], OB["freq"], [10 * CELL], [-20 * CELL], [1])
    dirty = vis_to_facet(uvw=OB["uvw"], freq=OB["freq"], vis=vis, facet=f, cell=CELL)
    assert np.unravel_index(dirty.argmax(), dirty.shape) == (32 - 20, 32 - 10)
    assert dirty.max() == pytest.approx(vis.size, rel=1e-6)


def test_facet_is_a_piece_of_the_whole_image():
    """Facets of one plane: every box equals the same pixels of the image made at once."""
    vis, weight = noise(SHAPE, "c16"), np.ones(SHAPE)
    args = dict(uvw=OB["uvw"], freq=OB["freq"], vis=vis, weight=weight, cell=CELL)
    whole = vis_to_facet(facet=regular_facets(npix=120, cell=CELL, max_size_rad=1).facets[0],
                         **args)
    facets = voronoi_facets(npix=120, cell=CELL, l=np.array([30, -45, 5]) * CELL,
                            m=np.array([10, 50, -40]) * CELL, max_size_rad=60 * CELL)
    assert len(facets.facets) > 3
    for f in facets.facets:
        box = vis_to_facet(facet=f, **args)
        image, part = f.slices
        assert np.allclose(box[part], whole[image], atol=1e-7 * abs(whole).max())


def test_zero_weight_hides_anything(far_facet):
    vis, weight = noise(SHAPE, "c8"), np.ones(SHAPE, "f4")
    weight[1, 3], weight[2, :, 1] = 0, 0
    good = np.where(weight > 0, vis, 0)
    bad = np.where(weight > 0, vis, np.nan).astype("c8")
    args = dict(uvw=OB["uvw"], freq=OB["freq"], weight=weight, facet=far_facet, cell=CELL)
    assert np.array_equal(vis_to_facet(vis=bad, **args), vis_to_facet(vis=good, **args))


def test_samples_out_and_repeats(far_facet):
    """Samples in wavelengths equal rows and channels; out adds; repeated calls are identical."""
    vis = noise(SHAPE, "c16")
    waves = (OB["uvw"][..., None, :] * OB["freq"][:, None] / oracle.C).reshape(-1, 3)
    rows = vis_to_facet(uvw=OB["uvw"], freq=OB["freq"], vis=vis, facet=far_facet, cell=CELL)
    again = vis_to_facet(uvw=OB["uvw"], freq=OB["freq"], vis=vis, facet=far_facet, cell=CELL)
    assert np.array_equal(rows, again)
    out = rows.copy()
    got = samples_to_facet(uvw=waves, vis=vis.ravel(), weight=np.full(vis.size, 2.0),
                           facet=far_facet, cell=CELL, out=out)
    assert got is out
    assert np.allclose(out, 3 * rows, atol=1e-7 * abs(rows).max())
    model = facet_to_vis(image=rows, uvw=OB["uvw"], freq=OB["freq"], facet=far_facet, cell=CELL)
    flat = facet_to_samples(image=rows, uvw=waves, facet=far_facet, cell=CELL)
    assert np.allclose(flat, model.ravel(), atol=1e-7 * abs(model).max())


def test_nothing_to_grid(far_facet):
    none = vis_to_facet(uvw=np.zeros((0, 3)), freq=OB["freq"], vis=np.zeros((0, 4), "c8"),
                        facet=far_facet, cell=CELL)
    assert none.shape == (far_facet.ny, far_facet.nx) and not none.any()
    flagged = vis_to_facet(uvw=OB["uvw"], freq=OB["freq"], vis=noise(SHAPE, "c8"),
                           weight=np.zeros(SHAPE), facet=far_facet, cell=CELL)
    assert not flagged.any()


def test_shapes_that_do_not_fit(far_facet):
    with pytest.raises(ImagingError, match="do not fit"):
        vis_to_facet(uvw=OB["uvw"], freq=OB["freq"], vis=noise((3, 4), "c8"), facet=far_facet,
                     cell=CELL)
    with pytest.raises(ImagingError, match="facet's box"):
        facet_to_vis(image=np.zeros((4, 4)), uvw=OB["uvw"], freq=OB["freq"], facet=far_facet,
                     cell=CELL)
