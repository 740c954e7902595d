"""The fused pass against averaging and gridding one after the other, and against Fourier sums."""

from __future__ import annotations

import numpy as np
import oracle
import pytest

from ddfpipe.errors import ImagingError
from ddfpipe.imaging.facetgrid import FacetGrid, open_grids
from ddfpipe.imaging.facetpass import grid_chunk, run_ends
from ddfpipe.imaging.facets import regular_facets
from ddfpipe.imaging.gains import StationGains, apply_adjoint, corrupt
from ddfpipe.imaging.gridding import vis_to_facet
from ddfpipe.imaging.smearing import smearing_factor, uvw_rate

CELL = np.radians(6 / 3600)
N_TIME, N_CHAN = 150, 20


@pytest.fixture(scope="module")
def field():
    """A flagged, corrupted observation with a gap in time and one in frequency, and two facets."""
    ob = oracle.observation(n_ant=12, n_time=N_TIME, n_chan=N_CHAN, radius=30e3)
    ob["times"] = ob["times"] + 900.0 * (np.arange(N_TIME) >= 37)
    ob["freq"] = ob["freq"] + 1e6 * (np.arange(N_CHAN) >= 13)
    ob["uvw"] = oracle.project(ob["xyz"], -0.4 + oracle.OMEGA * ob["times"], ob["dec"])
    rng = np.random.default_rng(5)
    facets = regular_facets(npix=2400, cell=CELL, max_size_rad=150 * CELL).facets
    far = sorted(facets, key=lambda f: f.l0 + f.m0)
    f, g = far[-1], far[60]
    l, m = oracle.box_lm(f, CELL)
    at = ([2, f.ny - 4], [f.nx - 3, 5])
    # the third source lies outside both facets
    l, m = np.r_[l[at], 0.004], np.r_[m[at], -0.01]
    model = oracle.vis_of_points(ob["uvw"], ob["freq"], l, m, [1, 0.7, 0.5]).astype("c8")
    values = rng.uniform(0.6, 1.4, (2, 5, 3, 12)) \
        * np.exp(1j * rng.uniform(-3, 3, (2, 5, 3, 12)))
    gains = [StationGains(v, np.arange(N_TIME) // 30, np.arange(N_CHAN) // 7, ob["ant1"],
                          ob["ant2"]) for v in values]
    vis = corrupt(model, gains[0])
    weight = rng.uniform(0.5, 1.5, vis.shape).astype("f4")
    weight[rng.uniform(size=weight.shape) < 0.15] = 0
    weight[:, 5] = 0
    vis[weight == 0] = np.nan
    ob.update(facets=(f, g), gains=gains, vis=vis, weight=weight)
    return ob


def run(ob, dec, facets=None, **kwargs):
    """Images and sums of `grid_chunk`."""
    facets = facets or ob["facets"]
    waves = ob["uvw"] * ob["freq"].max() / oracle.C
    grids = [FacetGrid(f, CELL, abs(waves[..., 2]).max(), abs(waves[..., :2]).max())
             for f in facets]
    buffer = open_grids(grids, np.zeros(sum(g.size for g in grids), np.float32))
    args = dict(uvw=ob["uvw"], vis=ob["vis"], weight=ob["weight"], freq=ob["freq"],
                chan_width=ob["width"], interval=ob["dt"], times=ob["times"], dec0=ob["dec"],
                gains=ob["gains"][:len(facets)]) | kwargs
    sums = grid_chunk(grids=grids, buffer=buffer, dec=dec, **args)
    return [g.image() for g in grids], sums


def reference(ob, k, vis=None, weight=None):
    """Unaveraged image of facet k through its gains, in double precision."""
    vis = ob["vis"] if vis is None else vis
    weight = ob["weight"] if weight is None else weight
    vis = np.nan_to_num(apply_adjoint(vis, ob["gains"][k])).astype("c16")
    return vis_to_facet(uvw=ob["uvw"], freq=ob["freq"], vis=vis, weight=weight,
                        facet=ob["facets"][k], cell=CELL)


def power(ob, k):
    """w|K|² of facet k."""
    one = np.ones(ob["weight"].shape, np.complex64)
    return ob["weight"] * abs(apply_adjoint(corrupt(one, ob["gains"][k]), ob["gains"][k]))


@pytest.mark.parametrize("dec, bound", [(0, 1e-5), (2e-4, 1e-4), (2e-3, 1e-3), (2e-2, 2e-2)])
def test_images_of_two_facets(field, dec, bound):
    """Flags, gains, gaps, corner sources: error of the whole box within the stated loss."""
    images, sums = run(field, dec)
    peak = abs(reference(field, 0)).max()
    for k in range(2):
        assert abs(images[k] - reference(field, k)).max() < bound * peak
        assert sums[k] == pytest.approx(power(field, k).sum(dtype=float), rel=1e-5)


def test_facets_do_not_depend_on_their_company(field):
    together, _ = run(field, 5e-4)
    for k in range(2):
        alone, _ = run(field, 5e-4, facets=[field["facets"][k]], gains=[field["gains"][k]])
        assert np.array_equal(alone[0], together[k])


def test_without_gains(field):
    ob = field
    images, sums = run(ob, 0, gains=None)
    want = vis_to_facet(uvw=ob["uvw"], freq=ob["freq"], vis=np.nan_to_num(ob["vis"]).astype("c16"),
                        weight=ob["weight"], facet=ob["facets"][1], cell=CELL)
    assert abs(images[1] - want).max() < 1e-5 * abs(want).max()
    assert sums == pytest.approx(ob["weight"].sum(dtype=float), rel=1e-5)


@pytest.mark.parametrize("smear", [False, True])
@pytest.mark.parametrize("dec, bound", [(0, 1e-5), (2e-3, 2e-3)])
def test_psf(field, smear, dec, bound):
    """The image of w|K|² with the phases of the facet's centre, smeared there or not."""
    ob = field
    images, _ = run(ob, dec, vis=None, smear=smear)
    for k, f in enumerate(ob["facets"]):
        share = power(ob, k)
        if smear:
            share = share * smearing_factor(
                uvw=ob["uvw"], rate=uvw_rate(ob["uvw"], ob["dec"]), freq=ob["freq"],
                chan_width=ob["width"], interval=ob["dt"], l=f.l0, m=f.m0)
        centre = oracle.vis_of_points(ob["uvw"], ob["freq"], [f.l0], [f.m0], [1])
        want = vis_to_facet(uvw=ob["uvw"], freq=ob["freq"], vis=centre, weight=share, facet=f,
                            cell=CELL)
        assert abs(images[k] - want).max() < bound * want.max()
        assert np.unravel_index(images[k].argmax(), want.shape) == (f.ny // 2, f.nx // 2)


def test_runs_end_at_gaps(field):
    ends = run_ends(field["times"], N_TIME, field["dt"])
    assert (ends[:37] == 37).all() and (ends[37:] == N_TIME).all()
    assert (run_ends(None, 5, 8.0) == 5).all()


def test_nothing_and_errors(field):
    images, sums = run(field, 1e-3, weight=np.zeros_like(field["weight"]))
    assert not np.any(images) and not sums.any()
    with pytest.raises(ImagingError, match="do not fit"):
        run(field, 0, weight=field["weight"][:, :, :3])
    with pytest.raises(ImagingError, match="do not fit"):
        run(field, 0, gains=field["gains"][:1])
