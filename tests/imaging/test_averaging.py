"""Averaged against unaveraged images; gains; plans."""

from __future__ import annotations

import numpy as np
import oracle
import pytest

from ddfpipe.errors import ImagingError
from ddfpipe.imaging.averaging import average_to_facet, plan_averaging
from ddfpipe.imaging.facets import regular_facets
from ddfpipe.imaging.gains import StationGains, apply_adjoint, corrupt
from ddfpipe.imaging.gridding import samples_to_facet, vis_to_facet
from ddfpipe.imaging.psf import psf_samples
from ddfpipe.imaging.smearing import uvw_rate

CELL = np.radians(6 / 3600)


@pytest.fixture(scope="module")
def field():
    """A flagged, corrupted observation of two sources near the corners of a far facet."""
    ob = oracle.observation(n_ant=12, n_time=40, n_chan=20, radius=30e3)
    rng = np.random.default_rng(5)
    facets = regular_facets(npix=2400, cell=CELL, max_size_rad=150 * CELL).facets
    f = max(facets, key=lambda f: f.l0 + f.m0)
    l, m = oracle.box_lm(f, CELL)
    at = ([2, f.ny - 4], [f.nx - 3, 5])
    model = oracle.vis_of_points(ob["uvw"], ob["freq"], l[at], m[at], [1, 0.7]).astype("c8")
    gain = rng.uniform(0.6, 1.4, (5, 3, 12)) * np.exp(1j * rng.uniform(-3, 3, (5, 3, 12)))
    gains = StationGains(gain, np.arange(40) // 8, np.arange(20) // 7, ob["ant1"], ob["ant2"])
    vis = corrupt(model, gains)
    weight = rng.uniform(0.5, 1.5, vis.shape).astype("f4")
    weight[rng.uniform(size=weight.shape) < 0.15] = 0
    weight[:, 5] = 0
    vis[weight == 0] = np.nan
    ob.update(facet=f, vis=vis, weight=weight, gains=gains, model=model, at=at,
              rate=uvw_rate(ob["uvw"], ob["dec"]))
    return ob


def plan(ob, dec, **kwargs):
    return plan_averaging(uvw=ob["uvw"], rate=ob["rate"], freq=ob["freq"], facet=ob["facet"],
                          chan_width=ob["width"], interval=ob["dt"], cell=CELL, dec=dec, **kwargs)


def run(ob, dec, **kwargs):
    args = dict(uvw=ob["uvw"], vis=ob["vis"], weight=ob["weight"], freq=ob["freq"],
                facet=ob["facet"], gains=ob["gains"]) | kwargs
    return average_to_facet(plan=plan(ob, dec), **args)


def image(ob, samples):
    return samples_to_facet(uvw=samples.uvw, vis=samples.vis.astype("c16"),
                            weight=samples.weight, facet=ob["facet"], cell=CELL)


def unaveraged(ob):
    vis = np.nan_to_num(apply_adjoint(ob["vis"], ob["gains"])).astype("c16")
    return vis_to_facet(uvw=ob["uvw"], freq=ob["freq"], vis=vis, weight=ob["weight"],
                        facet=ob["facet"], cell=CELL)


def test_no_averaging_is_exact(field):
    got = run(field, 0)
    assert got.vis.size == np.count_nonzero(field["weight"])
    want = unaveraged(field)
    assert abs(image(field, got) - want).max() < 1e-6 * abs(want).max()


@pytest.mark.parametrize("dec, bound", [(2e-3, 1e-3), (2e-4, 1e-4), (2e-2, 2e-2)])
def test_loss_is_within_what_is_stated(field, dec, bound):
    """Sources at the facet's corners lose at most dec; the whole image is off by little more."""
    samples = run(field, dec)
    want, got = unaveraged(field), image(field, samples)
    assert samples.vis.size < 0.9 * run(field, 0).vis.size
    assert abs(got - want).max() < bound * abs(want).max()
    loss = 1 - got[field["at"]] / want[field["at"]]
    assert (loss < dec).all() and (loss > -0.1 * dec).all()


def test_every_baseline_keeps_the_stated_loss(field):
    """Sample by sample: an even mean of a corner source is at least 1 - dec in amplitude."""
    ob, dec = field, 5e-3
    f = ob["facet"]
    l, m = oracle.box_lm(f, CELL)
    one = oracle.vis_of_points(ob["uvw"], ob["freq"], l[0, :1], m[0, :1], [1])
    samples = run(ob, dec, vis=one.astype("c8"), weight=np.ones(one.shape, "f4"), gains=None)
    amplitude = abs(samples.vis)
    assert amplitude.min() > 1 - dec and amplitude.min() < 1 - dec / 4
    # and its phase is that of the source at the centroid, to the same order
    path = oracle.delay(samples.uvw, l[0, :1], m[0, :1])[:, 0] * oracle.C
    assert abs(np.angle(samples.vis * np.exp(-2j * np.pi * path))).max() < dec / 2


def test_sums_and_psf(field):
    """Totals are those of the data; unit source with norm equals |K|² weighted visibilities."""
    ob = field
    k2 = abs(apply_adjoint(corrupt(np.ones_like(ob["vis"]), ob["gains"]), ob["gains"]))
    wk2 = ob["weight"].astype(float) * k2
    for dec in (0, 2e-3):
        s = run(ob, dec)
        assert s.sum_weight == pytest.approx(ob["weight"].sum(dtype=float), rel=1e-6)
        assert s.sum_norm == pytest.approx(wk2.sum(), rel=1e-5)
        assert s.weight.sum(dtype=float) == pytest.approx(s.sum_weight, rel=1e-5)
        assert s.norm.sum(dtype=float) == pytest.approx(s.sum_norm, rel=1e-5)
        f = ob["facet"]
        psf = samples_to_facet(uvw=s.uvw, vis=psf_samples(s.uvw, f.l0, f.m0, "c16"),
                               weight=s.norm, facet=f, cell=CELL)
        centre = oracle.vis_of_points(ob["uvw"], ob["freq"], [f.l0], [f.m0], [1])
        want = vis_to_facet(uvw=ob["uvw"], freq=ob["freq"], vis=centre, weight=wk2, facet=f,
                            cell=CELL)
        assert abs(psf - want).max() < 2e-3 * want.max()
        assert np.unravel_index(psf.argmax(), psf.shape) == (f.ny // 2, f.nx // 2)


def test_gaps_are_not_bridged(field):
    """Samples of two scans and of two separate bands never share a mean."""
    ob = dict(field)
    times = ob["times"] + 3600.0 * (np.arange(40) >= 17)
    ob["uvw"] = oracle.project(ob["xyz"], -0.4 + oracle.OMEGA * times, ob["dec"])
    ob["rate"] = uvw_rate(ob["uvw"], ob["dec"])
    ob["freq"] = ob["freq"] + 1e7 * (np.arange(20) >= 9)
    p = plan(ob, 1e-2, times=times)
    assert p.last.nonzero()[0].tolist() == [16, 39]
    assert all(9 in row[: n + 1] for row, n in zip(p.edges[1:], p.n_groups[1:]))
    whole = plan(ob, 1e-2)
    assert whole.n_samples < p.n_samples
    f = ob["facet"]
    l, m = oracle.box_lm(f, CELL)
    vis = oracle.vis_of_points(ob["uvw"], ob["freq"], l[ob["at"]], m[ob["at"]], [1, 1])
    args = dict(uvw=ob["uvw"], vis=vis, weight=np.ones(vis.shape), freq=ob["freq"], facet=f)
    want = vis_to_facet(cell=CELL, **args)
    got = image(ob, average_to_facet(plan=p, **args))
    assert abs(got - want).max() < 1e-2 * want.max()


def test_plan_averages_short_baselines_more(field):
    p, length = plan(field, 2e-3), np.hypot(*field["uvw"][0, :, :2].T)
    per_sample = p.n_time * p.n_chan
    order = np.argsort(length)
    assert per_sample[order[:10]].mean() > 4 * per_sample[order[-10:]].mean()
    assert (plan(field, 0).n_time == 1).all() and (plan(field, 0).n_chan == 1).all()


def test_zero_gain_and_all_flagged(field):
    gain = field["gains"].gain.copy()
    gain[:, :, 3] = 0
    g = field["gains"]
    dead = StationGains(gain, g.time_index, g.chan_index, g.ant1, g.ant2)
    for dec in (0, 2e-3):
        s = run(field, dec, gains=dead)
        assert np.isfinite(s.vis).all() and (s.norm > 0).all()
        assert s.sum_weight == pytest.approx(field["weight"].sum(dtype=float), rel=1e-6)
        assert s.sum_norm < run(field, dec).sum_norm
        none = run(field, dec, weight=np.zeros_like(field["weight"]))
        assert none.vis.size == 0 and none.sum_weight == 0


def test_repeated_calls_are_identical(field):
    a, b = run(field, 2e-3), run(field, 2e-3)
    assert all(np.array_equal(x, y) for x, y in zip(a, b))


def test_gains_against_numpy(field):
    g, model = field["gains"], field["model"]
    station = g.gain[np.ix_(g.time_index, g.chan_index)]
    k = (station[..., g.ant1] * station[..., g.ant2].conj()).transpose(0, 2, 1)
    assert np.allclose(corrupt(model, g), k * model, atol=1e-5)
    assert np.allclose(apply_adjoint(model, g), k.conj() * model, atol=1e-5)
    out = model.copy()
    assert corrupt(model, g, scale=-1, out=out) is out
    assert np.allclose(out, model - k * model, atol=1e-5)


def test_errors(field):
    g = field["gains"]
    with pytest.raises(ImagingError, match="time_index"):
        StationGains(g.gain, np.arange(40), g.chan_index, g.ant1, g.ant2)
    with pytest.raises(ImagingError, match="do not fit"):
        corrupt(field["model"][:3], g)
    with pytest.raises(ImagingError, match="do not fit"):
        run(field, 0, weight=field["weight"][:, :, :3])
