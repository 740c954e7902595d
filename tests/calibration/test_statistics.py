"""Statistics against direct sums, χ² against residuals, threads against one."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from ddfpipe.calibration.als import baseline_lookup, free_decrease, solve_complex
from ddfpipe.calibration.gains import align_gauge
from ddfpipe.calibration.statistics import (block_statistics, chi_squared,
                                            gradient_excess)
from ddfpipe.errors import SolveError

from .arrays import Simulation


def random_block(n_dir, seed=0, shape=(3, 10, 5)):
    rng = np.random.default_rng(seed)

    def noise(*shape):
        return (rng.normal(size=shape) + 1j * rng.normal(size=shape)).astype(np.complex64)

    weight = rng.uniform(0, 2, shape).astype(np.float32)
    weight[rng.random(weight.shape) < 0.3] = 0
    return noise(n_dir, *shape), noise(*shape), weight


@pytest.mark.parametrize("n_dir", [1, 2, 3, 6])
def test_statistics_equal_direct_sums(n_dir):
    model, data, weight = random_block(n_dir)
    channels = np.array([0, 2, 3])
    stats = block_statistics(model, data, weight, channels)
    m, d, w = model[..., channels], data[..., channels], weight[..., channels]
    full = np.einsum("tbc,dtbc,etbc->bde", w, m.conj(), m)
    row, col = np.tril_indices(n_dir)
    np.testing.assert_allclose(stats.a_re + 1j * stats.a_im, full[:, row, col], rtol=1e-4,
                               atol=1e-4)
    np.testing.assert_allclose(stats.c, np.einsum("tbc,dtbc,tbc->bd", w, m.conj(), d), rtol=1e-4,
                               atol=1e-4)
    np.testing.assert_allclose(stats.power, (w * np.abs(d) ** 2).sum(axis=(0, 2)), rtol=1e-5)
    np.testing.assert_array_equal(stats.count, (w > 0).sum(axis=(0, 2)))


@pytest.mark.parametrize("shape", [(7, 21, 9), (2, 17, 45), (1, 33, 81), (50, 3, 1)])
def test_groups_of_baselines_and_chunks_of_samples(shape):
    """More baselines than lanes, more times and channels than a chunk, ends that fill neither."""
    model, data, weight = random_block(3, shape=shape)
    weight[:, 1] = 0
    stats = block_statistics(model, data, weight)
    full = np.einsum("tbc,dtbc,etbc->bde", weight, model.conj(), model)
    row, col = np.tril_indices(3)
    np.testing.assert_allclose(stats.a_re + 1j * stats.a_im, full[:, row, col], rtol=1e-4,
                               atol=1e-4)
    np.testing.assert_allclose(stats.c, np.einsum("tbc,dtbc,tbc->bd", weight, model.conj(), data),
                               rtol=1e-4, atol=1e-4)
    np.testing.assert_array_equal(stats.count, (weight > 0).sum(axis=(0, 2)))
    assert not stats.a_re[1].any() and not stats.c[1].any() and stats.power[1] == 0


def test_free_gains_take_away_what_a_wrong_branch_costs():
    sim = Simulation(sigma=0.5)
    arguments, gains, _ = sim.next()
    stats = block_statistics(arguments["model"], arguments["data"], arguments["weight"])
    lookup = baseline_lookup(sim.ant1, sim.ant2, sim.n_ant)
    wrong = gains.copy()
    wrong[3] *= np.exp([2.5j, -2.0j, 2.2j, 2.0j])
    rise = (chi_squared(stats, wrong, sim.ant1, sim.ant2)
            - chi_squared(stats, gains, sim.ant1, sim.ant2)).sum()
    stations = np.array([3, 0, 7])
    fall = free_decrease(stats, lookup, wrong, stations)
    # the true gains and at most some noise more: one per parameter on average
    assert rise < fall[0] < rise + 8 * gains.shape[1]
    right = free_decrease(stats, lookup, gains, stations)
    assert np.all((right > 0) & (right < 8 * gains.shape[1]))
    use = (sim.ant1 != 3) & (sim.ant2 != 3)
    assert free_decrease(stats, lookup, wrong, stations, use)[0] == 0
    np.testing.assert_array_equal(wrong[:3], gains[:3])


def test_gradient_excess_equals_sums_over_residuals():
    model, data, weight = random_block(3)
    rng = np.random.default_rng(5)
    gains = rng.normal(size=(5, 3)) + 1j * rng.normal(size=(5, 3))
    ant1, ant2 = np.triu_indices(5, 1)
    use = np.arange(10) != 4
    found, expected = gradient_excess(block_statistics(model, data, weight), gains, ant1, ant2, use)
    seen = (gains[ant1] * gains[ant2].conj()).T[:, None, :, None] * model
    pulls = np.einsum("tbc,dtbc,tbc->db", weight, seen.conj(), data - seen.sum(axis=0))
    power = np.einsum("tbc,dtbc->db", weight, np.abs(seen) ** 2)
    np.testing.assert_allclose(found, (np.abs(pulls[:, use]) ** 2).sum(), rtol=1e-3)
    np.testing.assert_allclose(expected, power[:, use].sum(), rtol=1e-4)


def test_samples_that_are_not_finite_do_not_count():
    model, data, weight = random_block(2)
    weight[:] = 1
    clean = weight.copy()
    clean[1, 4, 2] = 0
    expected = block_statistics(model, data, clean)
    data[1, 4, 2] = np.nan
    got = block_statistics(model, data, weight)
    np.testing.assert_array_equal(got.a_re, expected.a_re)
    np.testing.assert_array_equal(got.c, expected.c)
    assert got.count.sum() == weight.size - 1


def test_chi_squared_equals_residual_power():
    sim = Simulation()
    arguments, gains, _ = sim.next()
    stats = block_statistics(arguments["model"], arguments["data"], arguments["weight"])
    residual = arguments["data"] - sim.corrupt(gains, arguments["model"])
    expected = (arguments["weight"] * np.abs(residual) ** 2).sum(axis=(0, 2))
    np.testing.assert_allclose(chi_squared(stats, gains, sim.ant1, sim.ant2), expected, rtol=5e-3,
                               atol=5e-2)


def test_threads_give_the_same_bits():
    sim = Simulation(n_core=26, n_remote=4)
    arguments, _, _ = sim.next()
    one = block_statistics(arguments["model"], arguments["data"], arguments["weight"])
    with ThreadPoolExecutor(3) as pool:
        many = block_statistics(arguments["model"], arguments["data"], arguments["weight"],
                                executor=pool)
    for name in ("a_re", "a_im", "c", "power", "count"):
        np.testing.assert_array_equal(getattr(one, name), getattr(many, name))


def test_shapes_that_disagree_are_refused():
    model, data, weight = random_block(2)
    with pytest.raises(SolveError, match="must agree"):
        block_statistics(model, data[:, :5], weight)


def test_complex_sweeps_find_noiseless_gains():
    sim = Simulation(sigma=0.0, common=2.0)
    arguments, gains, _ = sim.next()
    stats = block_statistics(arguments["model"], arguments["data"], arguments["weight"])
    lookup = baseline_lookup(sim.ant1, sim.ant2, sim.n_ant)
    found, sweeps = solve_complex(stats, lookup, np.ones(gains.shape), max_sweeps=200,
                                  tolerance=1e-9)
    error = np.abs(align_gauge(found[..., None], gains[..., None]) - gains[..., None])
    assert error.max() < 1e-3
    assert sweeps > 1


def test_reversed_baselines_give_the_same_gains():
    sim = Simulation()
    arguments, gains, _ = sim.next()
    model, data, weight = (arguments[k] for k in ("model", "data", "weight"))
    flip = np.arange(len(sim.ant1)) % 2 == 1
    ant1, ant2 = np.where(flip, sim.ant2, sim.ant1), np.where(flip, sim.ant1, sim.ant2)
    turned = [np.where(flip[:, None], x.conj(), x) for x in (model, data)]
    results = []
    for m, d, p, q in ((model, data, sim.ant1, sim.ant2), (*turned, ant1, ant2)):
        stats = block_statistics(m, d, weight)
        results.append(solve_complex(stats, baseline_lookup(p, q, sim.n_ant),
                                     np.ones(gains.shape), max_sweeps=6)[0])
    np.testing.assert_allclose(results[0], results[1], rtol=1e-3, atol=1e-4)


def test_lookup_refuses_doubles_and_strangers():
    with pytest.raises(SolveError, match="two baselines"):
        baseline_lookup([0, 1], [1, 0], 2)
    with pytest.raises(SolveError, match="there are 2"):
        baseline_lookup([0], [2], 2)
