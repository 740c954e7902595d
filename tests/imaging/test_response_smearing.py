"""Smearing against brute-force integration over time and frequency; responses over facets."""

from __future__ import annotations

import numpy as np
import oracle
import pytest

from ddfpipe.errors import ImagingError
from ddfpipe.imaging.facets import voronoi_facets
from ddfpipe.imaging.response import facet_response, response_nodes
from ddfpipe.imaging.smearing import mean_smearing, smearing_factor, uvw_rate

CELL = np.radians(20 / 3600)


def test_rate_is_the_derivative():
    ob = oracle.observation(n_time=2)
    step = 0.5
    for dec in (-0.3, 0.9):
        at = [oracle.project(ob["xyz"], ob["ha"] + oracle.OMEGA * s, dec)
              for s in (-step, 0, step)]
        want = (at[2] - at[0]) / (2 * step)
        assert np.allclose(uvw_rate(at[1], dec), want, atol=1e-6 * abs(want).max())


def test_rate_of_real_baselines(unpack_ms):
    """MSSS 3C48: uvw of neighbouring times of a measurement set differ by rate times interval."""
    tables = pytest.importorskip("casacore.tables")
    ms = str(unpack_ms("tNDPPP-generic.MS.tgz"))
    with tables.table(ms, ack=False) as t:
        time, uvw, a1, a2 = (t.getcol(c) for c in ("TIME", "UVW", "ANTENNA1", "ANTENNA2"))
    with tables.table(f"{ms}/FIELD", ack=False) as t:
        dec = t.getcol("PHASE_DIR")[0, 0, 1]
    times = np.unique(time)
    pick = [np.flatnonzero((time == x) & (a1 != a2)) for x in times[:3]]
    want = (uvw[pick[2]] - uvw[pick[0]]) / (times[2] - times[0])
    got = uvw_rate(uvw[pick[1]], dec)
    assert abs(got - want).max() < 5e-3 * abs(want).max()


def test_smearing_against_integration():
    """Mean over the interval and the channel of the turning baseline's visibility."""
    ob = oracle.observation(n_time=2, n_chan=3, radius=60e3, n_ant=6)
    l, m = np.array([0.03]), np.array([-0.035])
    got = smearing_factor(uvw=ob["uvw"], rate=uvw_rate(ob["uvw"], ob["dec"]), freq=ob["freq"],
                          chan_width=ob["width"], interval=ob["dt"], l=l[0], m=m[0])
    sub = (np.arange(60) + 0.5) / 60 - 0.5
    total = 0
    for s in sub:
        uvw = oracle.project(ob["xyz"], ob["ha"] + oracle.OMEGA * ob["dt"] * s, ob["dec"])
        tau = oracle.delay(uvw, l, m)[..., 0]
        freq = ob["freq"][:, None] + ob["width"] * sub
        total = total + np.exp(2j * np.pi * tau[..., None, None] * freq).mean(-1)
    total /= sub.size
    centre = oracle.vis_of_points(ob["uvw"], ob["freq"], l, m, [1])
    want = (total / centre).real
    assert want.min() < 0.7
    assert abs(got - want).max() < 3e-3
    assert abs(got - want)[want > 0.95].max() < 3e-4


def test_mean_smearing_is_the_weighted_mean():
    ob = oracle.observation(n_time=6, radius=40e3)
    rate = uvw_rate(ob["uvw"], ob["dec"])
    weight = np.random.default_rng(0).uniform(0, 1, rate.shape[:2] + (4,)).astype("f4")
    weight[2] = 0
    args = dict(uvw=ob["uvw"], rate=rate, freq=ob["freq"], chan_width=ob["width"],
                interval=ob["dt"])
    l, m = np.array([[0, 0.02], [0.04, -0.03]]), np.array([[0, 0.01], [0.03, 0.04]])
    total, norm = mean_smearing(weight=weight, l=l, m=m, **args)
    assert total.shape == l.shape and norm == pytest.approx(weight.sum(), rel=1e-5)
    for k in np.ndindex(2, 2):
        s = smearing_factor(l=l[k], m=m[k], **args)
        assert total[k] == pytest.approx((weight * s).sum(), rel=1e-5)
    assert total[0, 0] == pytest.approx(norm, rel=1e-6) and (total[1] < 0.97 * norm).all()
    thin, thin_norm = mean_smearing(weight=weight, l=l, m=m, step=3, **args)
    assert thin_norm == pytest.approx(weight[::3].sum(), rel=1e-5)
    assert np.allclose(thin / thin_norm, total / norm, atol=0.02)
    with pytest.raises(ImagingError, match="rates"):
        smearing_factor(l=0, m=0, **(args | {"rate": rate[:2]}))


def facets():
    rng = np.random.default_rng(4)
    l, m = rng.uniform(-0.6, 0.6, (2, 5)) * 400 * CELL
    return voronoi_facets(npix=400, cell=CELL, l=l, m=m, max_size_rad=1).facets


def lm_of_box(f):
    return oracle.box_lm(f, CELL)


def test_response_follows_a_beam():
    """A Gaussian beam of 4 degrees (FWHM) over facets of up to 2.2 degrees, 5 x 5 nodes."""
    def beam(l, m):
        return np.exp(-(l**2 + 0.8 * m**2 + 0.2 * l * m) / (2 * np.radians(1.7) ** 2))

    for f in facets():
        a = facet_response(beam(*response_nodes(f, CELL)), f, np.float64)
        error = abs(a - beam(*lm_of_box(f)))[f.mask]
        assert a.shape == (f.ny, f.nx) and error.max() < 1e-3


@pytest.mark.parametrize("n_y, n_x", [(1, 1), (1, 3), (2, 2), (3, 5)])
def test_response_is_exact_at_its_nodes(n_y, n_x):
    rng = np.random.default_rng(0)
    f = facets()[1]
    l, m = response_nodes(f, CELL, n_y, n_x)
    rows, cols = m[:, 0] / CELL - f.m0 / CELL, (f.l0 - l[0]) / CELL
    a = rng.normal(size=3)
    values = a[0] + (a[1] * rows[:, None] if n_y > 1 else 0) + (a[2] * cols if n_x > 1 else 0)
    values = np.broadcast_to(values, (n_y, n_x))
    got = facet_response(values, f, np.float64)
    y, x = np.mgrid[: f.ny, : f.nx]
    y, x = y - f.ny // 2, x - f.nx // 2
    y, x = np.clip(y, rows.min(), rows.max()), np.clip(x, cols.min(), cols.max())
    want = a[0] + (a[1] * y if n_y > 1 else 0) + (a[2] * x if n_x > 1 else 0)
    assert np.allclose(got, want, atol=1e-9 * abs(values).max())


def test_bad_response():
    with pytest.raises(ImagingError, match="finite"):
        facet_response([[np.nan, 1]], facets()[0])
