"""Series tied over times and channels: as smooth as their noise asks for, and not smoother."""

import numpy as np
import pytest

from ddfpipe.calibration.drift import smooth_component, smooth_gains, smooth_series
from ddfpipe.calibration.gains import GainTable
from ddfpipe.calibration.smooth import tie_table

TIMES = 5e9 + 30.0 * np.arange(120)
FREQS = np.linspace(120e6, 168e6, 12)


def process(rng, shape, times, tau):
    """Ornstein-Uhlenbeck processes of unit variance, (n_time, *shape)."""
    out = [rng.standard_normal(shape)]
    for step in np.diff(times):
        a = np.exp(-step / tau)
        out.append(a * out[-1] + np.sqrt(1 - a**2) * rng.standard_normal(shape))
    return np.array(out)


@pytest.mark.parametrize("tau, sigma", [(3600.0, 0.2), (600.0, 0.05), (60.0, 0.5)])
def test_one_component_is_as_good_as_with_known_parameters(tau, sigma):
    """The exact Gaussian conditional mean with the true parameters is the best there can be."""
    rng = np.random.default_rng(3)
    n, noise = 60, 0.1
    true = 1.0 + sigma * process(rng, n, TIMES, tau)
    value = true + noise * rng.standard_normal(true.shape)
    got = smooth_component(value.T.copy(), np.full(value.T.shape, noise**2), TIMES,
                           np.arange(n) // 6).T
    lag = np.abs(TIMES[:, None] - TIMES)
    prior = sigma**2 * np.exp(-lag / tau) + 1e4  # the constant may be anything
    best = 1.0 + prior @ np.linalg.solve(prior + noise**2 * np.eye(len(TIMES)), value - 1.0)
    assert np.std(got - true) < 1.03 * np.std(best - true)
    if sigma < noise:
        assert np.std(got - true) < 0.5 * noise


def test_a_constant_with_noise_becomes_its_mean():
    rng = np.random.default_rng(5)
    value = 0.3 + 0.1 * rng.standard_normal((40, len(TIMES)))
    got = smooth_component(value, np.full(value.shape, 0.01), TIMES, np.arange(40) // 4)
    mean = value.mean(axis=1, keepdims=True)
    np.testing.assert_allclose(got, mean + np.zeros_like(got), atol=0.02)


def test_stations_that_change_more_are_smoothed_less():
    rng = np.random.default_rng(8)
    sigma = np.repeat([0.002, 0.3], 20)
    true = (sigma * process(rng, 40, TIMES, 900.0)).T
    value = true + 0.05 * rng.standard_normal(true.shape)
    got = smooth_component(value, np.full(value.shape, 0.05**2), TIMES, np.repeat([0, 1], 20))
    error = np.std(got - true, axis=1)
    assert error[:20].mean() < 0.015 and error[20:].mean() < 0.045


def test_the_shape_of_the_band_stays_and_channels_help_each_other():
    rng = np.random.default_rng(1)
    band = rng.standard_normal((1, len(FREQS), 30))
    true = band + 0.1 * process(rng, 30, TIMES, 1800.0)[:, None]
    value = true + 0.1 * rng.standard_normal(true.shape)
    weight = np.full(value.shape, 100.0)
    group = np.arange(30)
    got = smooth_series(value, weight, TIMES, FREQS, group)
    assert np.std(got - true) < 0.03
    low = smooth_series(value, weight, TIMES, FREQS, group, order=1)
    slopes = np.polynomial.polynomial.polyfit(FREQS / 1e8, low[7], 1)
    line = np.polynomial.polynomial.polyval(FREQS / 1e8, slopes).T
    np.testing.assert_allclose(low[7], line, atol=1e-9)


def test_missing_values_and_outliers_spoil_nothing():
    rng = np.random.default_rng(2)
    true = 0.2 * process(rng, 20, TIMES, 1800.0)[:, None] + 0.1 * np.arange(12)[:, None]
    value = true + 0.05 * rng.standard_normal(true.shape)
    weight = np.full(value.shape, 400.0)
    weight[30:40] = 0  # a gap
    weight[:, 3] = np.where(rng.random(value[:, 3].shape) < 0.5, 0, 400.0)
    weight[:, :, 7] = 0  # a series of nothing
    value[weight == 0] = 1e3
    value[60, 5] += 3.0
    got = smooth_series(value, weight, TIMES, FREQS, np.arange(20))
    assert np.array_equal(got[:, :, 7], value[:, :, 7])
    good = np.delete(got - true, 7, axis=2)
    assert np.std(np.delete(good, np.s_[30:40], axis=0)) < 0.03
    assert np.abs(good[60]).max() < 0.2 and np.abs(good[30:40]).max() < 0.3


@pytest.mark.parametrize("n_corr", [1, 2, 4])
def test_gains_that_turn_over_the_band_are_tied(n_corr):
    """Cable lengths turn phases many times over the band; only their change has to be smooth."""
    rng = np.random.default_rng(n_corr)
    n_ant, n_dir = 12, 2 if n_corr < 4 else 1
    delay = 50e-9 * rng.standard_normal((n_ant, n_dir))
    turn = np.exp(2j * np.pi * delay * FREQS[:, None, None])
    drift = 0.15 * process(rng, (2, n_ant, n_dir), TIMES, 3600.0)
    scalar = turn * np.exp(drift[:, 0] + 1j * drift[:, 1])[:, None]
    element = {1: [1.0], 2: [1.0, 1.1], 4: [1.0, 0.02j, -0.01, 1.1]}[n_corr]
    true = scalar[..., None] * np.array(element)
    noise = 0.05
    gains = true + noise * (rng.standard_normal(true.shape) + 1j * rng.standard_normal(true.shape))
    error = np.full(gains.shape, noise)
    flag = np.zeros(gains.shape, bool)
    flag[:, :, 4] = True
    gains[:, :, 4] = 1.0
    edges = np.stack([TIMES - 15, TIMES + 15], axis=1)
    bands = np.stack([FREQS - 1e6, FREQS + 1e6], axis=1)
    table = GainTable(edges, bands, gains, [f"S{i}" for i in range(n_ant)],
                      np.zeros((n_dir, 2)), error=error, flag=flag)
    got = tie_table(table)
    left = np.delete(got.gains - true, 4, axis=2)
    assert np.sqrt(np.mean(np.abs(left) ** 2)) < 0.25 * noise * np.sqrt(2)
    assert np.array_equal(got.flag, flag) and np.all(got.gains[:, :, 4] == 1.0)
    assert got.meta["Tied"] == 1


def test_fast_phases_stay_as_they_are():
    """Phases that are new in every solution must not be pulled towards their neighbours."""
    rng = np.random.default_rng(9)
    shape = (len(TIMES), 4, 8, 1, 1)
    true = np.exp(2j * np.pi * rng.random(shape))
    gains = true + 0.02 * (rng.standard_normal(shape) + 1j * rng.standard_normal(shape))
    got = smooth_gains(gains, np.full(shape, 2500.0), TIMES, FREQS[:4])
    assert np.std(got - true) < 1.05 * np.std(gains - true)


def test_one_interval_of_one_channel_stays():
    gains = np.exp(1j * np.arange(6.0)).reshape(1, 1, 6, 1, 1)
    got = smooth_gains(gains, np.ones(gains.shape), TIMES[:1], FREQS[:1])
    np.testing.assert_allclose(got, gains, atol=1e-12)
