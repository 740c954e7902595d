"""Intervals, absolute noise and imaging weights."""

import numpy as np
import pytest

from ddfpipe.calibration.intervals import automatic_intervals, solution_intervals
from ddfpipe.calibration.noise_scale import absolute_weights, estimate_sigma
from ddfpipe.calibration.weights import clip_outliers, imaging_weights
from ddfpipe.errors import SolveError

N_ANT = 16
ANT1, ANT2 = np.triu_indices(N_ANT, 1)


def test_intervals_of_less_than_four_samples():
    times = 5e9 + 4 + 8.0 * np.arange(30)
    edges, index = solution_intervals(times, 8.0, 30.0)
    assert np.all(np.diff(index) >= 0)
    np.testing.assert_allclose(np.diff(edges, axis=1), 30.0)
    np.testing.assert_allclose(edges[1:, 0], edges[:-1, 1])
    assert np.all((times >= edges[index, 0]) & (times < edges[index, 1]))
    assert set(np.bincount(index)) == {3, 4}


def test_gaps_and_short_tails():
    times = np.concatenate([np.arange(10.0), 100 + np.arange(12.0)])
    edges, index = solution_intervals(times, 1.0, 5.0)
    assert np.bincount(index).min() > 0 and len(edges) < 10
    assert np.all((times >= edges[index, 0]) & (times <= edges[index, 1]))
    edges, index = solution_intervals(np.arange(11.0), 1.0, 5.0)
    assert len(edges) == 2 and edges[-1, 1] == 10.5 and np.bincount(index).tolist() == [5, 6]
    edges, index = solution_intervals(np.arange(3.0), 1.0, 50.0)
    assert len(edges) == 1 and index.tolist() == [0, 0, 0]
    with pytest.raises(SolveError):
        solution_intervals(np.array([]), 1.0, 5.0)


@pytest.mark.parametrize("flux,noise,n_chan,expected", [
    (100.0, 1.0, 20, (1, 1)), (1.0, 1.0, 20, (10, 10)), (1.0, 2.0, 20, (20, 20)),
    (1.0, 0.5, 20, (5, 5)), (1.0, 1.0, 7, (14, 7))])
def test_automatic_intervals(flux, noise, n_chan, expected):
    assert automatic_intervals(flux, noise, n_chan, 1000) == expected
    slots, step = expected
    assert n_chan % step == 0


def test_automatic_intervals_need_a_model():
    with pytest.raises(SolveError, match="model"):
        automatic_intervals(0.0, 1.0, 20, 100)
    assert automatic_intervals(0.01, 1.0, 4, 50) == (50, 4)


def noisy(rng, station, n_time=20, n_chan=16, fringe=0.3):
    sigma = np.sqrt(station[ANT1] * station[ANT2])
    shape = (n_time, len(ANT1), n_chan)
    weight = rng.uniform(0.5, 2.0, shape).astype(np.float32)
    noise = (rng.normal(size=shape) + 1j * rng.normal(size=shape)) * np.sqrt(0.5)
    phase = fringe * (np.arange(n_time)[:, None, None] + np.arange(n_chan)) * rng.uniform(
        -0.3, 0.3, len(ANT1))[:, None]
    data = 10 * np.exp(1j * phase) + noise * sigma[:, None] / np.sqrt(weight)
    return data.astype(np.complex64), weight, sigma


def test_noise_is_measured_beside_a_bright_sky_and_interference():
    rng = np.random.default_rng(0)
    station = rng.uniform(0.5, 3.0, N_ANT)
    data, weight, sigma = noisy(rng, station)
    bad = rng.random(data.shape) < 0.02
    data[bad] += 1000
    weight[rng.random(data.shape) < 0.1] = 0
    weight[:, 7] = 0
    block = np.repeat([0, 1], 8)
    found = estimate_sigma(data, weight, ANT1, ANT2, N_ANT, block)
    assert found.shape == (2, len(ANT1))
    ratio = found / sigma
    assert np.abs(np.median(ratio) - 1) < 0.05 and np.abs(ratio - 1).max() < 0.35
    assert np.abs(ratio[:, 7] - 1).max() < 0.2  # a baseline without data takes its stations'
    absolute = absolute_weights(weight, found, block)
    np.testing.assert_allclose(absolute[0, 3, 0] * found[0, 3] ** 2, weight[0, 3, 0], rtol=1e-5)
    assert absolute[:, 7].max() == 0


def test_noise_from_one_axis_only():
    rng = np.random.default_rng(1)
    data, weight, sigma = noisy(rng, np.ones(N_ANT), n_time=1, n_chan=200, fringe=0.01)
    found = estimate_sigma(data, weight, ANT1, ANT2, N_ANT)
    assert np.abs(found[0].mean() - 1) < 0.05
    with pytest.raises(SolveError, match="single"):
        estimate_sigma(data[:, :, :1], weight[:, :, :1], ANT1, ANT2, N_ANT)


def test_imaging_weights_follow_station_noise():
    rng = np.random.default_rng(2)
    station = rng.uniform(0.5, 4.0, N_ANT)
    truth = station[ANT1] + station[ANT2]
    count = np.full((30, len(ANT1)), 200)
    variance = truth * rng.gamma(200, 1 / 200, count.shape)
    variance[12, (ANT1 == 4) | (ANT2 == 4)] += 400.0  # one bad moment of one station
    count[20] = 0
    weight = imaging_weights(variance, count, ANT1, ANT2, N_ANT)
    assert weight.dtype == np.float32 and weight[20].max() == 0
    assert abs(np.median(weight[weight > 0]) - 1) < 1e-6
    assert weight[12, (ANT1 == 4) | (ANT2 == 4)].max() == 0
    fine = weight[0] * truth
    assert fine.std() / fine.mean() < 0.05
    assert imaging_weights(variance, count, ANT1, ANT2, N_ANT, None)[12].min() > 0


def test_clip_raises_suspiciously_small_variances():
    rng = np.random.default_rng(3)
    station = np.exp(0.1 * rng.normal(size=(40, 2)))
    station[5, 0], station[6, 1] = 1e-4, np.nan
    clipped = clip_outliers(station)
    assert 0.3 < clipped[5, 0] < 1.0 and np.isnan(clipped[6, 1])
