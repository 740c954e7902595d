"""What lies between nodes against what is worked out everywhere."""

from __future__ import annotations

import numpy as np
import oracle
import pytest

from ddfpipe.imaging import nodes
from ddfpipe.imaging.components import predict_components
from ddfpipe.imaging.gains import StationGains, corrupt
from ddfpipe.imaging.nodes import Axis, Chunk, spread_nodes, time_blocks
from ddfpipe.imaging.sky import n_minus_one

RADIUS = np.radians(0.7)
L0, M0 = np.radians([1.5, -2.0])


def even(n):
    return np.linspace(-1.0, 1.0, n)


@pytest.mark.parametrize("kappa", [0.1, 1.0, 5.0, 12.0, 50.0])
@pytest.mark.parametrize("n", [1, 2, 7, 20, 32])
def test_signals_of_the_band_come_back(n, kappa):
    """Few nodes where the signal is slow, all where it is fast; never a large weight."""
    axis = Axis.of([np.arange(n)], even(n), kappa, 2.0)
    for k in np.linspace(-kappa, kappa, 41):
        signal = np.exp(1j * k * even(n))
        back = np.array([axis.weight[i, :axis.count[i]] @ signal[axis.nodes][
            axis.first[i]:axis.first[i] + axis.count[i]] for i in range(n)])
        assert abs(back - signal).max() < 10 * nodes.ACCURACY
    assert axis.nodes.size <= min(n, 1.2 * kappa + 6)
    assert abs(axis.weight).sum(axis=1).max() < 10
    if kappa < 0.2 and n > 4:
        assert axis.nodes.size <= 4


def test_blocks_end_at_gaps():
    time = np.r_[0:40, 100:103, 200.0]
    sizes = [block.size for block in time_blocks(time, 1.0)]
    assert sizes == [20, 20, 3, 1]
    assert np.array_equal(np.concatenate(time_blocks(time, 1.0)), np.arange(44))


def field(n_time=70, n_chan=20, n_ant=40, radius=20e3):
    """(observation, chunk) with a gap in time and two sub-bands."""
    ob = oracle.observation(n_time=n_time, n_chan=n_chan, n_ant=n_ant, radius=radius, dt=8.0)
    time = ob["times"].copy()
    bands = np.repeat([0, 1], [n_chan - n_chan // 4, n_chan // 4])
    return ob, Chunk.of(ob["uvw"], ob["freq"], time, 8.0, ob["dec"], bands)


def sources(n=30, seed=0):
    rng = np.random.default_rng(seed)
    r, angle = RADIUS * np.sqrt(rng.uniform(size=n)), rng.uniform(0, 2 * np.pi, n)
    r[:4] = RADIUS
    return L0 + r * np.cos(angle), M0 + r * np.sin(angle), rng.uniform(0.1, 1, n)


def gains(ob, chunk, seed=1):
    rng = np.random.default_rng(seed)
    n_t, n_c, n_ant = chunk.time.size, chunk.freq.size, ob["ant2"].max() + 1
    values = rng.normal(size=(n_t, 3, n_ant, 2)) @ [1, 1j]
    return StationGains(values, np.arange(n_t), np.arange(n_c) * 3 // n_c, ob["ant1"], ob["ant2"])


def test_a_facet_from_its_nodes():
    """Sources up to the edge, through gains of every sample: 3e-4 of the flux, from a third of the
    samples."""
    ob, chunk = field()
    l, m, flux = sources()
    jump = np.where(np.arange(chunk.freq.size) < chunk.chans[1][0], 1.0, 1.5)
    flux = (flux[:, None] * jump).astype(np.float32)
    depth = abs(n_minus_one(l, m) - n_minus_one(L0, M0)).max()
    classes = chunk.classes(RADIUS * (1 + 1e-9), depth)
    assert chunk.share(classes) < 0.35 and len(classes) > 3
    assert np.array_equal(np.sort(np.concatenate([c.baselines for c in classes])),
                          np.arange(ob["ant1"].size))
    k = gains(ob, chunk)
    want = corrupt(predict_components(l=l, m=m, flux=flux, uvw=chunk.uvw, freq=chunk.freq), k)
    scale = abs(corrupt(np.ones_like(want), k)) * flux.sum(axis=0)
    got = np.zeros_like(want)
    centre = L0, M0, float(n_minus_one(L0, M0))
    for kind in classes:
        b = kind.baselines
        if kind.time is None:
            got[:, b] = 0.5 * want[:, b]
            continue
        t, c = kind.time.nodes, kind.chan.nodes
        vis = predict_components(l=l, m=m, flux=flux[:, c], uvw=chunk.uvw[np.ix_(t, b)],
                                 freq=chunk.freq[c])
        spread_nodes(vis, chunk, kind, centre, k, 0.5, got)
        assert abs(got[:, b] - 0.5 * want[:, b]).max() > 0
    assert (abs(got - 0.5 * want) / scale).max() < 3e-4


def test_sources_beyond_the_reach_do_not_come_back():
    """The radius matters: three times as far out the same nodes err."""
    ob, chunk = field(n_time=32, n_ant=12)
    kind = next(c for c in reversed(chunk.classes(RADIUS / 3, 0.0)) if c.time is not None)
    l, m = np.array([L0 + RADIUS]), np.array([M0])
    b, t, c = kind.baselines, kind.time.nodes, kind.chan.nodes
    args = dict(l=l, m=m)
    want = predict_components(flux=np.ones((1, 20)), uvw=chunk.uvw, freq=chunk.freq, **args)
    vis = predict_components(flux=np.ones((1, c.size)), uvw=chunk.uvw[np.ix_(t, b)],
                             freq=chunk.freq[c], **args)
    one = StationGains(np.ones((1, 1, 12)), np.zeros(32), np.zeros(20), ob["ant1"], ob["ant2"])
    got = np.zeros_like(want)
    spread_nodes(vis, chunk, kind, (L0, M0, float(n_minus_one(L0, M0))), one, 1.0, got)
    assert abs(got - want)[:, b].max() > 1e-2


def test_few_baselines_of_a_class_join_the_next(monkeypatch):
    _, chunk = field()
    several = len(chunk.classes(RADIUS, 0.01))
    monkeypatch.setattr(nodes, "FEW", chunk.size)
    joined = chunk.classes(RADIUS, 0.01)
    assert several > 1 == len(joined)
    assert joined[0].baselines.size == chunk.uv.size


def test_baselines_without_coordinates_stand_alone():
    """Zeros at one time must not reach the others: all samples of those baselines."""
    ob, _ = field()
    uvw = ob["uvw"].copy()
    uvw[5, [3, 100]] = 0
    chunk = Chunk.of(uvw, ob["freq"], ob["times"], 8.0, ob["dec"], np.zeros(20))
    classes = chunk.classes(RADIUS, 0.01)
    assert classes[0].baselines.tolist() == [3, 100] and classes[0].time is None
    assert sum(c.baselines.size for c in classes) == ob["ant1"].size
