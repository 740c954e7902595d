"""Direct-sum prediction against the double-precision sum."""

from __future__ import annotations

import numpy as np
import oracle
import pytest

from ddfpipe.errors import ImagingError
from ddfpipe.imaging.components import channel_runs, predict_components
from ddfpipe.imaging.gains import GroupGains, StationGains, corrupt
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


def test_channel_runs():
    def edges(freq, block=None):
        return channel_runs(np.array(freq), block)[0].tolist()

    assert edges(1e8 + 1e5 * np.arange(40)) == [0, 24, 40]
    assert edges([1e8, 1.2e8, 1.4e8, 1.41e8, 1.42e8]) == [0, 1, 2, 5]
    assert edges([1e8]) == [0, 1]
    assert edges(1e8 + 1e5 * np.array([0, 1, 2, 5, 17, 30, 31])) == [0, 5, 7]
    assert edges(1e8 - 1e5 * np.array([0, 2, 3])) == [0, 3]
    assert edges(1e8 + 1e5 * np.arange(6), np.array([0, 0, 1, 1, 1, 0])) == [0, 2, 5, 6]
    _, unit, gap, at = channel_runs(1e8 + 1e5 * np.array([0, 1, 3, 5]))
    assert unit.tolist() == [1e5] and gap.tolist() == [1, 2, 2, 0]
    assert np.allclose(at, [0, 0.2, 0.6, 1])


@pytest.mark.parametrize("smeared", [False, True])
def test_channels_left_out(smeared):
    """The same as those channels of all, 1e-5 of the flux."""
    ob = oracle.observation(n_time=2, n_chan=30, radius=60e3, n_ant=6)
    l, m, flux = sky(20, 30)
    smear = (ob["width"], ob["dt"], uvw_rate(ob["uvw"], ob["dec"])) if smeared else None
    some = np.array([0, 1, 3, 7, 8, 16, 17, 20, 29])
    whole = predict_components(l=l, m=m, flux=flux, uvw=ob["uvw"], freq=ob["freq"], smear=smear)
    part = predict_components(l=l, m=m, flux=flux[:, some], uvw=ob["uvw"], freq=ob["freq"][some],
                              smear=smear)
    assert abs(part - whole[..., some]).max() < 1e-5 * flux.sum(0).max()


def test_gains_of_groups():
    """As every group by itself, seen through its gains."""
    ob = oracle.observation(n_time=3, n_chan=8, radius=60e3, n_ant=6)
    l, m, flux = sky(20, 8)
    rng = np.random.default_rng(1)
    group, blocks = np.repeat([0, 1, 2], [7, 1, 12]), np.array([0, 0, 0, 1, 1, 2, 2, 2])
    gain = (rng.normal(size=(3, 2, 3, 6)) + 1j * rng.normal(size=(3, 2, 3, 6))).astype(np.complex64)
    ant1, ant2 = ob["ant1"], ob["ant2"]
    share = np.array([0, 0.2, 0])
    gains = GroupGains(gain, group, [0, 0, 1], share, blocks, ant1, ant2)
    args = dict(uvw=ob["uvw"], freq=ob["freq"])
    got = predict_components(l=l, m=m, flux=flux, gains=gains, **args)
    want = 0
    for g in range(3):
        k = group == g
        vis = predict_components(l=l[k], m=m[k], flux=flux[k], **args)
        at = np.stack([gain[g, 0], 0.8 * gain[g, 0] + 0.2 * gain[g, 1], gain[g, 1]])
        want = want + corrupt(vis, StationGains(at, np.arange(3), blocks, ant1, ant2))
    assert abs(got - want).max() < 1e-5 * abs(want).max()
    with pytest.raises(ImagingError, match="do not fit"):
        predict_components(l=l[1:], m=m[1:], flux=flux[1:], gains=gains, **args)


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
