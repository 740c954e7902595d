"""Look-up, joining, referencing, gauge and normalisation of gain tables."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ddfpipe.calibration.gains import (GainTable, align_gauge, concatenate, interpolate_index,
                                       nearest_interval, normalize, phases_only, reference_to)
from ddfpipe.errors import SolveError


def table(n_corr=1, seed=0, n_time=3, n_chan=2, n_ant=5, n_dir=2):
    rng = np.random.default_rng(seed)
    shape = (n_time, n_chan, n_ant, n_dir, n_corr)
    gains = np.exp(0.2 * rng.normal(size=shape) + 3j * rng.normal(size=shape))
    times, freqs = 100 + 10.0 * np.arange(n_time), 1e8 + 1e6 * np.arange(n_chan)
    return GainTable(np.stack([times, times + 10], 1), np.stack([freqs, freqs + 1e6], 1), gains,
                     [f"S{i}" for i in range(n_ant)], rng.uniform(0, 1, (n_dir, 2)),
                     error=np.full(shape, 0.1))


def test_look_up_takes_the_interval_or_the_nearest():
    edges = np.array([[0.0, 10.0], [10.0, 20.0], [40.0, 50.0]])
    values = [-5, 0, 9.99, 10, 19, 29, 31, 45, 99]
    assert nearest_interval(edges, values).tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    time, chan = interpolate_index(table(), np.array([99.0, 115, 1e9]), np.array([0.0, 1.015e8]))
    assert time.tolist() == [0, 1, 2] and chan.tolist() == [0, 1]


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(0.1, 10), min_size=2, max_size=12), st.floats(-20, 80))
def test_look_up_is_nearest(lengths, value):
    starts = np.cumsum([0.0, *lengths])[::2]
    ends = np.cumsum(lengths)[::2]
    n = min(len(starts), len(ends))
    edges = np.stack([starts[:n], ends[:n]], axis=1)
    distance = np.maximum(np.maximum(edges[:, 0] - value, value - edges[:, 1]), 0)
    found = nearest_interval(edges, np.array([value]))[0]
    assert distance[found] <= distance.min() + 1e-9


def test_shapes_are_checked():
    good = table()
    with pytest.raises(SolveError, match="axes say"):
        GainTable(good.time_edges, good.freq_edges, good.gains[:, :, :3], good.ant_names,
                  good.directions)
    with pytest.raises(SolveError, match="3 correlations"):
        GainTable(good.time_edges, good.freq_edges, np.ones((3, 2, 5, 2, 3)), good.ant_names,
                  good.directions)


def test_concatenate_orders_in_time():
    early, late = table(), table(seed=1)
    late.time_edges += 1000
    late.directions[:] = early.directions
    joined = concatenate([late, early])
    assert np.all(np.diff(joined.times) > 0)
    np.testing.assert_array_equal(joined.gains, np.concatenate([early.gains, late.gains]))
    late.freq_edges += 1e6
    with pytest.raises(SolveError, match="differ in stations"):
        concatenate([early, late])


@pytest.mark.parametrize("n_corr", [1, 2, 4])
def test_reference_keeps_visibilities(n_corr):
    before = table(n_corr)
    before.flag[1, 0, 2] = True
    after = reference_to(before, "S2")
    baseline = before.gains[:, :, 0] * before.gains[:, :, 3].conj()
    np.testing.assert_allclose(after.gains[:, :, 0] * after.gains[:, :, 3].conj(), baseline,
                               atol=1e-12)
    trace = after.gains[..., 0] + (after.gains[..., 3] if n_corr == 4 else 0)
    good = ~before.flag[:, :, 2, :, 0]
    assert np.abs(np.angle(trace[:, :, 2][good])).max() < 1e-9
    with pytest.raises(SolveError, match="S9"):
        reference_to(before, "S9")


@pytest.mark.parametrize("n_corr", [1, 2, 4])
def test_gauge_is_removed(n_corr):
    rng = np.random.default_rng(3)
    truth = table(n_corr).gains
    if n_corr == 4:
        unitary, _ = np.linalg.qr(rng.normal(size=(3, 2, 2, 2, 2))
                                  + 1j * rng.normal(size=(3, 2, 2, 2, 2)))
        matrices = truth.reshape(truth.shape[:-1] + (2, 2))
        turned = np.einsum("tcadij,tcdjk->tcadik", matrices, unitary).reshape(truth.shape)
    else:
        turned = truth * np.exp(1j * rng.uniform(0, 6, (3, 2, 1, 2, n_corr)))
    assert np.abs(turned - truth).max() > 0.1
    np.testing.assert_allclose(align_gauge(turned, truth), truth, atol=1e-9)


def test_normalisations_make_the_named_mean_one():
    start = table(2, n_dir=3)
    start.gains *= np.array([0.5, 1.0, 2.0])[:, None]
    start.flag[0, 0, 1] = True
    start.gains[0, 0, 1] = 50.0

    def pairs(t):
        p, q = np.triu_indices(5, 1)
        size, good = np.abs(t.gains), ~t.flag
        return size[:, :, p] * size[:, :, q], good[:, :, p] & good[:, :, q]

    product, good = pairs(normalize(start, "BLBased"))
    for d in range(3):
        assert abs(product[:, :, :, d][good[:, :, :, d]].mean() - 1) < 1e-9
    whole = normalize(start, "SumBLBased")
    product, good = pairs(whole)
    assert abs(product[good].mean() - 1) < 1e-9
    ratio = np.abs(whole.gains / start.gains)
    assert np.ptp(ratio) < 1e-9  # one factor in all
    mean = normalize(start, "Mean")
    station = normalize(start, "MeanAbsAnt")
    for d in range(3):
        assert abs(np.abs(mean.gains[:, :, :, d])[~start.flag[:, :, :, d]].mean() - 1) < 1e-9
        assert abs(np.abs(station.gains[:, :, 3, d]).mean() - 1) < 1e-9
    np.testing.assert_allclose(np.angle(mean.gains), np.angle(start.gains))
    np.testing.assert_allclose(mean.error / np.abs(mean.gains), start.error / np.abs(start.gains))
    assert normalize(start, None) is start
    with pytest.raises(SolveError, match="BLBased"):
        normalize(start, "median")


def test_phases_only():
    one = phases_only(table(2))
    np.testing.assert_allclose(np.abs(one.gains), 1)
    np.testing.assert_allclose(np.angle(one.gains), np.angle(table(2).gains))
    full = phases_only(table(4)).gains.reshape(3, 2, 5, 2, 2, 2)
    product = full @ np.conj(np.swapaxes(full, -1, -2))
    np.testing.assert_allclose(product, np.broadcast_to(np.eye(2), product.shape), atol=1e-9)
