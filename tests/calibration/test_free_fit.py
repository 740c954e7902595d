"""Noise of baselines beside a sky: free gains explain the model, weights only rise."""

import numpy as np
import pytest

from ddfpipe.calibration.free_fit import DIRECTIONS, SAMPLES, free_variance, weight_factor
from ddfpipe.calibration.noise_scale import estimate_sigma
from ddfpipe.calibration.options import SolverOptions
from ddfpipe.calibration.solver import DirectionalSolver
from ddfpipe.calibration.statistics import block_statistics

from .arrays import Simulation

ANT1, ANT2 = np.triu_indices(12, 1)
N_BL = len(ANT1)


def block(rng, n_dir, n_time=8, n_chan=10, noise=1.0, weight=1.0, missing=0.0):
    """Statistics of one interval behind gains that no stations could have, and its weights."""
    shape = n_time, N_BL, n_chan
    flux = np.geomspace(20, 0.5, n_dir)[:, None, None, None]
    model = flux * np.exp(2j * np.pi * rng.uniform(size=(n_dir, *shape)))
    gain = rng.normal(size=(2, n_dir, N_BL))
    data = np.einsum("db,dtbc->tbc", gain[0] + 1j * gain[1], model)
    random = rng.normal(size=(4, *shape))
    data += (random[0] + 1j * random[1]) * np.sqrt(0.5) * np.reshape(noise, (-1, 1))
    data += missing * (random[2] + 1j * random[3])
    given = np.broadcast_to(np.reshape(weight, (-1, 1)), shape).astype(np.float32)
    stats = block_statistics(model.astype(np.complex64), data.astype(np.complex64), given)
    return stats, given.sum(axis=(0, 2), dtype=float)


def test_free_gains_leave_the_noise():
    rng = np.random.default_rng(1)
    noise = rng.uniform(0.5, 2.0, N_BL)
    blocks = [block(rng, 6, noise=noise)[0] for _ in range(4)]
    variance, free = free_variance(blocks)
    assert (free == 4 * (80 - 6)).all()
    error = np.log(variance / noise**2) * np.sqrt(free)
    assert np.abs(error.mean()) < 0.5 and 0.7 < error.std() < 1.3


@pytest.mark.parametrize(("n_dir", "n_time", "gains"), [(6, 2, 20 // SAMPLES), (30, 8, DIRECTIONS)])
def test_few_samples_and_many_directions_fit_the_brightest(n_dir, n_time, gains):
    rng = np.random.default_rng(2)
    stats, _ = block(rng, n_dir, n_time=n_time)
    variance, free = free_variance([stats])
    assert (free == 10 * n_time - gains).all()
    flux = np.geomspace(20, 0.5, n_dir)
    left = 1 + 2 * (flux[gains:] ** 2).sum()  # of the other directions, gains of variance two
    assert 0.6 * left < variance.mean() < 1.4 * left


def test_baselines_without_samples_tell_nothing():
    stats, _ = block(np.random.default_rng(3), 3)
    stats.count[:5] = (0, 1, 2, 3, 4)
    variance, free = free_variance([stats])
    assert np.isnan(variance[:4]).all() and free[4] == 3
    weight = np.where(stats.count > 0, 1.0, 0.0)
    assert (weight_factor([stats], weight, ANT1, ANT2, 12)[:4] == 1).all()


def test_weights_rise_to_those_of_the_noise():
    """As differences of samples would leave them: too small by much for some baselines."""
    rng = np.random.default_rng(4)
    station = rng.uniform(0.7, 1.4, 12)
    noise = station[ANT1] * station[ANT2]
    right = noise**-2.0
    given = np.where(ANT2 > 8, right / 30, right)
    made = [block(rng, 6, noise=noise, weight=given) for _ in range(3)]
    factor = weight_factor([stats for stats, _ in made], sum(total for _, total in made), ANT1,
                           ANT2, 12)
    assert (factor >= 1).all()
    assert np.abs(np.log(factor * given / right)).max() < 0.35
    assert np.log(factor * given / right).std() < 0.1


def test_flux_that_the_model_lacks_does_not_lower_weights():
    made = [block(np.random.default_rng(seed), 6, missing=3.0) for seed in (5, 6)]
    blocks, weight = [stats for stats, _ in made], made[0][1] + made[1][1]
    assert (free_variance(blocks)[0] > 8).all()
    assert np.allclose(weight_factor(blocks, weight, ANT1, ANT2, 12), 1)


def test_solver_weighs_long_baselines_beside_a_decorrelated_source():
    sim = Simulation(flux=(20.0, 8.0, 1.0, 0.4), sigma=1.0)
    rows = [sim.next()[0] for _ in range(6)]
    sigma = estimate_sigma(rows[0]["data"], rows[0]["weight"], sim.ant1, sim.ant2, sim.n_ant)[0]
    low = (sigma.astype(np.float32) ** -2)[None, :, None]
    solver = DirectionalSolver(**sim.array(), options=SolverOptions(hyper=sim.hyper))
    for arguments in rows:
        solver.add_interval(**{**arguments, "weight": arguments["weight"] * low})
    facts = solver.finish()[3]
    factor, wrong = facts["weight_factor"][0, :, 0], np.log(sigma**2)
    assert (wrong > 1).sum() > 20
    assert np.abs(np.log(factor) - wrong)[wrong > 1].max() < 0.5
    # χ² is told in the weights that were given
    chi2, count = facts["baseline_chi2"], facts["baseline_count"]
    assert np.allclose(facts["chi2"], chi2.sum(axis=2), rtol=1e-4)
    far = wrong > 1
    assert (chi2.sum(axis=0)[0, far, 0] / count.sum(axis=0)[0, far, 0] < 0.5).all()
