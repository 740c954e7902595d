"""The noise of long baselines beside bright sources; restarts that find nothing better."""

from __future__ import annotations

import numpy as np
import pytest

from ddfpipe.calibration.filter import FilterChain
from ddfpipe.calibration.noise_scale import absolute_weights, estimate_sigma
from ddfpipe.calibration.options import SolverOptions
from ddfpipe.calibration.residual_noise import differences, overestimated, residual
from ddfpipe.calibration.solver import DirectionalSolver
from tests.calibration.arrays import Simulation


def beside_a_bright_source(**more):
    """A field whose brightest source decorrelates between samples on the long baselines."""
    sim = Simulation(flux=(60.0, 3.0, 0.5), n_time=6, n_chan=12, sigma=1.0, **more)
    sim.lm *= 3.0
    return sim


def test_residual_is_data_less_the_model():
    sim = beside_a_bright_source()
    arguments, gains, _ = sim.next()
    model, data = arguments["model"], arguments["data"]
    left = residual(model, data, gains, sim.ant1, sim.ant2)
    b, t = 37, 2
    p, q = sim.ant1[b], sim.ant2[b]
    seen = sum(gains[p, d] * np.conj(gains[q, d]) * model[d, t, b] for d in range(sim.n_dir))
    np.testing.assert_allclose(left[t, b], data[t, b] - seen, atol=1e-4)
    assert abs(np.mean(np.abs(left) ** 2) - 1) < 0.03


def test_sky_between_samples_is_no_noise():
    sim = beside_a_bright_source()
    arguments, gains, _ = sim.next()
    data = arguments["data"]
    unit = np.ones(data.shape, np.float32)
    sigma = estimate_sigma(data, unit, sim.ant1, sim.ant2, sim.n_ant)
    far = sigma[0] > 3
    assert far.sum() > 10  # the differences of these hold the source
    weight = absolute_weights(unit, sigma)
    factor = overestimated(arguments["model"], data, weight, gains, sim.ant1, sim.ant2)
    noise = sigma[0] ** 2 / factor
    assert np.abs(noise[far] - 1).max() < 0.6 and abs(np.median(noise[far]) - 1) < 0.1
    assert (factor >= 1).all()


def test_errors_of_the_model_are_no_noise_either():
    sim = Simulation(sigma=1.0, n_time=6, n_chan=12)
    arguments, gains, _ = sim.next()
    arguments["data"] += np.complex64(5.0)  # the same in all samples
    factor = overestimated(arguments["model"], arguments["data"], arguments["weight"], gains,
                           sim.ant1, sim.ant2)
    assert np.mean(factor > 1) < 0.02


def test_too_few_samples_leave_weights_alone():
    assert differences(1, 1) == 0 and differences(1, 9) == 8 and differences(4, 3) == 6
    sim = Simulation(n_time=2, n_chan=4)
    arguments, gains, _ = sim.next()
    factor = overestimated(arguments["model"], arguments["data"], 0.01 * arguments["weight"],
                           gains, sim.ant1, sim.ant2)
    np.testing.assert_array_equal(factor, 1.0)


@pytest.mark.parametrize("mode", ["Scalar", "Diag"])
def test_solver_weighs_long_baselines_by_their_noise(mode):
    errors, chi2 = {}, {}
    for wanted in (False, True):
        sim = beside_a_bright_source(seed=4)
        options = SolverOptions(hyper=sim.hyper, residual_noise=wanted, mode=mode)
        solver = DirectionalSolver(**sim.array(), options=options)
        scale, truth = None, []
        for _ in range(4):
            arguments, true, _ = sim.next()
            unit = np.ones(arguments["data"].shape, np.float32)
            if scale is None:
                scale = estimate_sigma(arguments["data"], unit, sim.ant1, sim.ant2, sim.n_ant)
            arguments["weight"] = absolute_weights(unit, scale)
            if mode == "Diag":
                for name in ("data", "weight"):
                    arguments[name] = np.stack([arguments[name]] * 2, axis=-1)
            solver.add_interval(**arguments)
            truth.append(true)
        gains, _, _, facts = solver.finish()
        product = gains[:, 0, ..., 0] * np.conj(truth)
        product = product * np.conj(product.mean(axis=1, keepdims=True))
        errors[wanted] = np.sqrt(np.mean(np.angle(product)[:, 14:] ** 2))
        chi2[wanted] = facts["chi2"].sum() / facts["count"].sum()
        # residuals by baseline are in units of the weights as given
        share = facts["baseline_chi2"].sum() / facts["baseline_count"].sum()
        assert share < 0.9
    assert chi2[False] < 0.9 and 0.9 < chi2[True] < 1.1
    assert errors[True] < 0.85 * errors[False]


def test_restarts_in_vain_become_rare(monkeypatch):
    sim = Simulation(sigma=1.0)
    cold = []
    fit = FilterChain._fit
    monkeypatch.setattr(FilterChain, "_fit",
                        lambda self, *a: (cold.append(a[4]), fit(self, *a))[1])
    solver = DirectionalSolver(**sim.array(), options=SolverOptions(hyper=sim.hyper,
                                                                    residual_noise=False))
    rng = np.random.default_rng(3)
    for k in range(16):
        arguments, _, _ = sim.next()
        touched = (sim.ant1 == k) | (sim.ant2 == k)  # interference at one station after another
        size = 0.5 * touched[None, :, None]
        arguments["data"] += (size * rng.normal(size=(*arguments["data"].shape, 2)).view(complex)[
            ..., 0]).astype(np.complex64)
        solver.add_interval(**arguments)
    _, _, _, facts = solver.finish()
    tries = sum(cold[1:])
    assert 1 <= tries <= 6 and len(facts["chi2"]) == 16
