"""Direct-sum prediction against the double-precision sum."""

from __future__ import annotations

import numpy as np
import oracle
import pytest

from ddfpipe.errors import ImagingError
from ddfpipe.imaging.components import channel_blocks, predict_components
from ddfpipe.imaging.smearing import smearing_factor, uvw_rate


def sky(n, n_chan, seed=0):
    rng = np.random.default_rng(seed)
    l, m = rng.uniform(-0.05, 0.05, (2, n))
    return l, m, rng.uniform(0.1, 1, (n, n_chan)).astype(np.float32)


@pytest.mark.parametrize("n_chan", [1, 2, 20, 37])
@pytest.mark.parametrize("n", [1, 300])
def test_even_channels(n, n_chan):
    """Long baselines, 4 degrees off axis, more sources and rows than one block: 1e-5 of
    the flux."""
    ob = oracle.observation(n_time=2, n_chan=n_chan, radius=60e3, n_ant=6)
    l, m, flux = sky(n, n_chan)
    got = predict_components(l=l, m=m, flux=flux, uvw=ob["uvw"], freq=ob["freq"])
    want = oracle.vis_of_points(ob["uvw"], ob["freq"], l, m, flux)
    assert got.dtype == np.complex64
    assert abs(got - want).max() < 1e-5 * flux.sum(0).max()


def test_uneven_channels():
    ob = oracle.observation(n_time=2, radius=60e3, n_ant=6)
    freq = np.sort(np.random.default_rng(0).uniform(120e6, 168e6, 23))
    freq[8:15] = freq[8] + 1e5 * np.arange(7)
    freq.sort()
    l, m, flux = sky(20, freq.size)
    got = predict_components(l=l, m=m, flux=flux, uvw=ob["uvw"], freq=freq)
    want = oracle.vis_of_points(ob["uvw"], freq, l, m, flux)
    assert abs(got - want).max() < 1e-5 * flux.sum(0).max()


def test_channel_blocks():
    assert channel_blocks(1e8 + 1e5 * np.arange(40)).tolist() == [0, 24, 40]
    assert channel_blocks(np.array([1e8, 1.1e8, 1.2e8, 1.21e8, 1.22e8])).tolist() == [0, 3, 5]
    assert channel_blocks(np.array([1e8])).tolist() == [0, 1]


def test_smearing_of_each_component():
    ob = oracle.observation(n_time=2, n_chan=20, radius=60e3, n_ant=6)
    rate = uvw_rate(ob["uvw"], ob["dec"])
    l, m, flux = sky(5, 20)
    got = predict_components(l=l, m=m, flux=flux, uvw=ob["uvw"], freq=ob["freq"],
                             smear=(ob["width"], ob["dt"], rate))
    want = 0
    for k in range(5):
        s = np.sinc(ob["width"] * oracle.delay(ob["uvw"], l[k:k + 1], m[k:k + 1]))
        slip = oracle.delay(rate, l[k:k + 1], m[k:k + 1]) * ob["dt"]
        s = s * np.sinc(slip * ob["freq"])
        assert s.min() < 0.8
        want = want + s * oracle.vis_of_points(ob["uvw"], ob["freq"], l[k:k + 1], m[k:k + 1],
                                               flux[k:k + 1])
        fast = smearing_factor(uvw=ob["uvw"], rate=rate, freq=ob["freq"], chan_width=ob["width"],
                               interval=ob["dt"], l=l[k], m=m[k])
        assert abs(fast - s).max() < 2e-6
    assert abs(got - want).max() < 3e-5 * flux.sum(0).max()


def test_out_adds_and_repeats_are_identical():
    ob = oracle.observation(n_time=2)
    l, m, flux = sky(30, 4)
    args = dict(l=l, m=m, flux=flux, uvw=ob["uvw"], freq=ob["freq"])
    one = predict_components(**args)
    assert np.array_equal(one, predict_components(**args))
    out = np.ones_like(one)
    assert predict_components(out=out, **args) is out
    assert np.allclose(out, 1 + one, atol=1e-5)
    assert predict_components(out=out, add=False, **args) is out
    assert np.array_equal(out, one)
    flat = predict_components(l=l, m=m, flux=flux[:, 0], uvw=ob["uvw"], freq=ob["freq"])
    same = predict_components(l=l, m=m, flux=np.repeat(flux[:, :1], 4, 1), uvw=ob["uvw"],
                              freq=ob["freq"])
    assert np.array_equal(flat, same)


def test_shapes_that_do_not_fit():
    ob = oracle.observation(n_time=2)
    with pytest.raises(ImagingError, match="do not fit"):
        predict_components(l=[0, 0], m=[0], flux=[1], uvw=ob["uvw"], freq=ob["freq"])
