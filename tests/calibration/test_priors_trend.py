"""The trend of amplitudes with the distance from the core."""

import numpy as np
import pytest

from ddfpipe.calibration.options import SolverOptions
from ddfpipe.calibration.priors import amplitude_trend, station_factor
from ddfpipe.errors import SolveError


@pytest.fixture
def array():
    rng = np.random.default_rng(4)
    position = rng.normal(0, 800, (30, 3))
    position[20:] += rng.normal(0, 40e3, (10, 3))
    return station_factor(position), rng


def test_trend_takes_out_mean_and_slope_and_leaves_the_scatter(array):
    factor, rng = array
    scatter = rng.normal(0, 0.03, (30, 4))
    made = scatter + np.array([0.1, -0.2, 0.0, 0.3]) + np.outer(factor, [0.2, 0.1, -0.3, 0.0])
    left = made - amplitude_trend(made, factor, np.ones(30, bool))
    assert np.abs(left.mean(axis=0)).max() < 1e-12
    assert np.abs((left * (factor - factor.mean())[:, None]).sum(axis=0)).max() < 1e-12
    assert np.corrcoef(left.ravel(), scatter.ravel())[0, 1] > 0.95


def test_stations_without_data_do_not_count(array):
    factor, _ = array
    seen = np.ones(30, bool)
    seen[3] = False
    log_amp = np.full((30, 2), 0.2)
    log_amp[3] = 50.0
    assert np.allclose(amplitude_trend(log_amp, factor, seen)[seen], 0.2)
    assert np.all(amplitude_trend(log_amp, factor, np.zeros(30, bool)) == 0)


def test_compact_array_has_a_mean_only():
    factor = np.full(12, 1e-3)
    log_amp = np.random.default_rng(1).normal(size=(12, 3))
    assert np.allclose(amplitude_trend(log_amp, factor, np.ones(12, bool)), log_amp.mean(axis=0))


def test_unknown_treatment_of_the_mean_is_refused():
    with pytest.raises(SolveError, match="flat"):
        SolverOptions(amplitude_mean="level")
