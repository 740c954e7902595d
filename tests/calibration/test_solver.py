"""Simulate, corrupt, solve: gains, uncertainties, χ², absorbed flux, gaps."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from ddfpipe.calibration.gains import GainTable, align_gauge
from ddfpipe.calibration.options import SolverOptions
from ddfpipe.calibration.priors import Hyperparameters
from ddfpipe.calibration.solver import DirectionalSolver
from ddfpipe.calibration.statistics import block_statistics, chi_squared
from ddfpipe.errors import SolveError

from .arrays import Simulation


def solve(sim, intervals, missing=None, executor=None, change=None, start=None, **options):
    """(gains, error, flag, diagnostics, true gains (n_time, 1, n_ant, n_dir, 1), χ² of truth)."""
    options.setdefault("hyper", sim.hyper)
    solver = DirectionalSolver(**sim.array(), options=SolverOptions(**options), start=start,
                               executor=executor)
    truth, chi2, kept = [], [], []
    for number in range(intervals):
        arguments, gains, extra = sim.next(missing)
        if change is not None:
            change(number, arguments)
        stats = block_statistics(arguments["model"], arguments["data"], arguments["weight"])
        chi2.append(chi_squared(stats, gains, sim.ant1, sim.ant2).sum()
                    / max(stats.count.sum(), 1))
        solver.add_interval(**arguments)
        truth.append(gains)
        kept.append((arguments, gains, extra))
    gains, error, flag, diagnostics = solver.finish()
    diagnostics["kept"] = kept
    return gains, error, flag, diagnostics, np.array(truth)[:, None, :, :, None], np.array(chi2)


def phase_errors(gains, error, truth):
    """Phase errors and stated errors (n_time, n_ant, n_dir) after alignment."""
    aligned = align_gauge(gains, truth, 1 / error[..., 0] ** 2)
    return (np.angle(aligned * np.conj(truth))[:, 0, ..., 0],
            (error / np.abs(gains))[:, 0, ..., 0])


@pytest.mark.parametrize("solver", ["KAFCA", "CohJones"])
def test_noiseless_gains_are_exact(solver):
    sim = Simulation(sigma=0.0, flux=(5.0, 2.0, 1.0), common=1.0)

    def sharp(_, arguments):  # a tiny noise level, so that the priors weigh nothing
        arguments["weight"][:] = 1e6

    gains, error, flag, _, truth, _ = solve(sim, 3, change=sharp, solver=solver, n_iter=40,
                                            tolerance=1e-4, max_sweeps=60)
    aligned = align_gauge(gains, truth)
    assert np.abs(aligned - truth).max() < 1e-3
    assert not flag.any()


def test_noisy_chi_squared_and_uncertainties():
    sim = Simulation(sigma=1.0, common=2.0, n_core=20, n_chan=16)
    gains, error, _, diagnostics, truth, true_chi2 = solve(sim, 16, tolerance=0.02)
    fitted = (diagnostics["chi2"] / diagnostics["count"])[:, 0, 0]
    # Fitting takes out about one unit a parameter: compare with that expectation.
    samples = diagnostics["count"][:, 0, 0]
    assert np.all(fitted < true_chi2 + 0.005)
    assert np.all(fitted > true_chi2 - 0.005 - 2 * sim.n_ant * sim.n_dir / samples)
    measured, stated = phase_errors(gains, error, truth)
    for d in range(sim.n_dir):
        ratio = np.sqrt((measured[2:, :, d] ** 2).mean() / (stated[2:, :, d] ** 2).mean())
        assert 0.8 < ratio < 1.2, (d, ratio)


def test_errors_reach_the_bayesian_bound():
    sim = Simulation(sigma=2.0, n_core=16, n_remote=8, seed=3)
    gains, _, _, diagnostics, truth, _ = solve(sim, 12, tolerance=0.02, smooth=False)
    # Bound of one interval on its own: information of data plus prior, gauge removed.
    arguments, true, _ = diagnostics["kept"][-1]
    bound = single_interval_bound(sim, arguments, true)
    measured, _ = phase_errors(gains, np.ones(gains.shape), truth)
    rms = np.sqrt((measured[2:] ** 2).mean())
    assert rms < 1.2 * bound


def single_interval_bound(sim, arguments, gains):
    """Root-mean-square phase error of the best estimator that knows the prior of one interval."""
    from ddfpipe.calibration.priors import direction_covariance, station_factor
    n, m = sim.n_ant, sim.n_dir
    information = np.zeros((n * m, n * m))
    model, weight = arguments["model"], float(arguments["weight"][0, 0, 0])
    for b, (p, q) in enumerate(zip(sim.ant1, sim.ant2)):
        v = (gains[p] * gains[q].conj())[:, None] * model[:, :, b, :].reshape(m, -1)
        block = 2 * weight * (v.conj() @ v.T).real
        for i, si in ((p, 1), (q, -1)):
            for j, sj in ((p, 1), (q, -1)):
                information[i * m:(i + 1) * m, j * m:(j + 1) * m] += si * sj * block
    kernel = direction_covariance(sim.lm, sim.hyper.length)
    factor = station_factor(sim.position)
    for p in range(n):
        prior = np.linalg.inv(sim.hyper.variance * factor[p] * kernel)
        information[p * m:(p + 1) * m, p * m:(p + 1) * m] += prior
    covariance = np.linalg.inv(information).reshape(n, m, n, m)
    # One phase per direction is free: remove its mean over stations.
    project = np.eye(n) - 1 / n
    variance = [np.trace(project @ covariance[:, d, :, d] @ project) / n for d in range(m)]
    return np.sqrt(np.mean(variance))


def test_smoothing_helps_where_signal_is_low():
    errors = {}
    for smooth in (True, False):
        sim = Simulation(sigma=6.0, flux=(10.0, 3.0, 0.5), correlation_time=3000.0, seed=4)
        gains, error, _, _, truth, _ = solve(sim, 16, smooth=smooth)
        measured, stated = phase_errors(gains, error, truth)
        errors[smooth] = np.sqrt((measured[3:-3, :, 1] ** 2).mean())
        assert 0.8 < errors[smooth] / np.sqrt((stated[3:-3, :, 1] ** 2).mean()) < 1.2
    assert errors[True] < 0.95 * errors[False]


def missing_sources(sim, share):
    rng = np.random.default_rng(9)
    index = np.repeat(np.arange(sim.n_dir), 3)
    lm = sim.lm[index] + rng.uniform(-0.008, 0.008, (len(index), 2))
    return lm, sim.flux[index] * share / 3, index


def absorbed(sim, gains, diagnostics):
    """Share of the missing sources' visibilities that the gains took up, beyond the truth's."""
    top, bottom = 0.0, 0.0
    for k, (arguments, true, extra) in enumerate(diagnostics["kept"][2:], 2):
        excess = (sim.corrupt(gains[k, 0, ..., 0], arguments["model"])
                  - sim.corrupt(true, arguments["model"]))
        top += np.vdot(extra, excess).real
        bottom += np.vdot(extra, extra).real
    return top / bottom


@pytest.mark.parametrize("share", [0.03, 0.15])
def test_missing_flux_is_hardly_absorbed(share):
    """Against the same solver without priors, and in absolute terms."""
    taken = {}
    loose = Hyperparameters(0.04, 400.0, 1.0, 1.0)
    for name, options in (("default", dict(hyper=None, tune_intervals=8)),
                          ("free", dict(hyper=loose, amplitude_prior=1.0, amplitude_time=0.0))):
        sim = Simulation(sigma=3.0, n_core=24, n_remote=10, n_chan=16, flux=(10.0, 3.0, 2.0, 1.0))
        gains, _, _, diagnostics, _, _ = solve(sim, 10, missing_sources(sim, share), **options)
        taken[name] = absorbed(sim, gains, diagnostics)
    assert taken["default"] < 0.06
    assert taken["default"] < 0.7 * taken["free"]


def test_wrong_flux_of_the_model_leaves_amplitudes_alone():
    sim = Simulation(sigma=1.0)

    def halve(_, arguments):
        arguments["model"][1] *= 0.5

    gains, _, _, diagnostics, truth, _ = solve(sim, 6, change=halve)
    level = np.exp(np.log(np.abs(gains)).mean(axis=2))
    np.testing.assert_allclose(level, 1.0, atol=1e-6)
    assert abs(diagnostics["flux_factor"][-1, 0, 1, 0] - 2.0) < 0.05
    assert np.abs(np.abs(gains / truth)[3:, :, :, :2] - 1).std() < 0.03
    sim = Simulation(sigma=1.0)
    gains, *_ = solve(sim, 6, change=halve, amplitude_mean="free")
    assert abs(np.exp(np.log(np.abs(gains[-1, 0, :, 1])).mean()) - np.sqrt(2)) < 0.02


def test_missing_station_and_flagged_interval():
    sim = Simulation(sigma=1.0)
    lost = (sim.ant1 == 5) | (sim.ant2 == 5)

    def damage(number, arguments):
        arguments["weight"][:, lost] = 0
        if number == 3:
            arguments["weight"][:] = 0
            arguments["data"][:] = np.nan

    gains, error, flag, diagnostics, truth, _ = solve(sim, 8, change=damage)
    assert flag[:, :, 5].all() and flag[3].all()
    assert not flag[[0, 1, 2, 4, 5, 6, 7]][:, :, np.arange(sim.n_ant) != 5].any()
    assert np.isfinite(gains).all() and np.isfinite(error).all()
    assert diagnostics["count"][3, 0, 0] == 0
    measured, _ = phase_errors(gains[4:], error[4:], truth[4:])
    good = np.arange(sim.n_ant) != 5
    assert np.sqrt((measured[:, good, 0] ** 2).mean()) < 0.05
    # A guess says so: its stated error is far above that of a measurement.
    assert error[3, 0, good, 0].mean() > 3 * error[4, 0, good, 0].mean()


def test_ragged_intervals_keep_their_meaning():
    """Intervals of 3 and 4 samples: fewer samples, larger error, no bias."""
    sim = Simulation(sigma=2.0, n_time=4)

    def shorten(number, arguments):
        if number % 2:
            for key in ("data", "weight"):
                arguments[key] = arguments[key][:3]
            arguments["model"] = arguments["model"][:, :3]

    gains, error, _, diagnostics, truth, _ = solve(sim, 12, change=shorten, smooth=False)
    count = diagnostics["count"][:, 0, 0]
    assert np.array_equal(count[1::2] * 4, count[::2] * 3)
    measured, stated = phase_errors(gains, error, truth)
    assert 0.75 < np.sqrt((measured[2:] ** 2).mean() / (stated[2:] ** 2).mean()) < 1.25


def test_noise_that_rises_restarts_nothing():
    """χ² of every station doubles, and no gains are to blame: sweeps stay as few as before."""
    sim = Simulation(sigma=0.5)

    def rise(number, arguments):
        if number == 5:
            noise = sim.rng.normal(size=(2, *arguments["data"].shape)) * np.sqrt(0.5) * 0.6
            arguments["data"] = (arguments["data"] + noise[0] + 1j * noise[1]).astype(np.complex64)

    _, _, _, diagnostics, _, _ = solve(sim, 8, change=rise)
    sample = (diagnostics["chi2"] / diagnostics["count"])[:, 0, 0]
    assert sample[5] > 2 * sample[:5].max()
    assert not diagnostics["restarted"].any()
    assert diagnostics["sweeps"][5, 0, 0] <= diagnostics["sweeps"][1:5].max() + 1


def test_sudden_jump_restarts_the_interval():
    sim = Simulation(sigma=0.5)
    turn = np.random.default_rng(2).uniform(-np.pi, np.pi, sim.n_ant)

    def jump(number, arguments):  # called once the interval is made: the next one differs
        if number == 5:
            sim.common = sim.common + turn

    gains, error, _, diagnostics, truth, _ = solve(sim, 9, change=jump)
    assert diagnostics["restarted"][6, 0, 0] and not diagnostics["restarted"][:6].any()
    measured, _ = phase_errors(gains, error, truth)
    assert np.sqrt((measured[7:, :, 0] ** 2).mean()) < 0.03


def test_phase_only_and_diagonal_modes():
    sim = Simulation(sigma=0.5, amplitude=0.0)
    gains, *_ = solve(sim, 3, phase_only=True)
    np.testing.assert_allclose(np.abs(gains), 1.0, rtol=1e-9)
    sim = Simulation(sigma=0.5)
    solver = DirectionalSolver(**sim.array(),
                               options=SolverOptions(mode="Diag", hyper=sim.hyper))
    turn = np.exp(1j * np.linspace(0, 1, sim.n_ant))
    truth = []
    for _ in range(3):
        arguments, true, _ = sim.next()
        other = sim.corrupt(true * turn[:, None], arguments["model"])
        arguments["data"] = np.stack([arguments["data"], other], axis=-1).astype(np.complex64)
        arguments["weight"] = np.stack([arguments["weight"]] * 2, axis=-1)
        truth.append(np.stack([true, true * turn[:, None]], axis=-1))
        solver.add_interval(**arguments)
    gains, error, flag, _ = solver.finish()
    truth = np.array(truth)[:, None]
    assert gains.shape == truth.shape == error.shape == flag.shape
    aligned = align_gauge(gains, truth)
    assert np.abs(np.angle(aligned * truth.conj()))[-1, 0, :, 0].max() < 0.05


def test_threads_do_not_change_results():
    results = []
    for workers in (None, 2):
        sim = Simulation(sigma=1.0, n_core=8, n_remote=6)
        pool = ThreadPoolExecutor(workers) if workers else None
        results.append(solve(sim, 5, executor=pool, hyper=None, tune_intervals=4)[0])
        if pool:
            pool.shutdown()
    np.testing.assert_array_equal(*results)


def test_tuning_finds_a_prior_that_predicts():
    """Chosen hyper-parameters beat absurd ones, and their record says what was done."""
    model_error = {}
    for name, options in (("tuned", dict(hyper=None, tune_intervals=6)),
                          ("absurd", dict(hyper=Hyperparameters(0.04, 1e-3, 300.0, 1.0)))):
        sim = Simulation(sigma=3.0, flux=(10.0, 3.0, 1.0, 0.5, 0.3))
        gains, _, _, diagnostics, truth, _ = solve(sim, 8, **options)
        model_error[name] = np.mean([
            (np.abs(sim.corrupt(gains[k, 0, ..., 0], a["model"])
                    - sim.corrupt(true, a["model"])) ** 2).mean()
            for k, (a, true, _) in enumerate(diagnostics["kept"]) if k > 1])
        if name == "tuned":
            assert diagnostics["tuning"]["trials"] > 10
            assert 0.9 < diagnostics["tuning"]["held_out_chi2"] < 1.2
    assert model_error["tuned"] < 0.5 * model_error["absurd"]


def test_temper_is_small_for_a_complete_sky_and_grows_with_what_it_lacks():
    """Residuals that look like the directions tell of unmodelled flux; noise does not.

    Of a complete sky two is still predicted as well as one.
    """
    temper = []
    for share in (0.0, 0.15, 0.3):
        sim = Simulation(sigma=3.0, n_core=24, n_remote=10, n_chan=16, flux=(10.0, 3.0, 2.0, 1.0))
        missing = missing_sources(sim, share) if share else None
        diagnostics = solve(sim, 5, missing, hyper=None, tune_intervals=5)[3]
        temper.append(diagnostics["hyperparameters"].temper)
    assert 1.0 <= temper[0] <= 2.0
    assert 2 * temper[0] < temper[1] < temper[2]


def test_options_change_the_result():
    """cov_q, lambda_kf, n_iter and start are not decoration."""
    def run(start=None, **options):
        sim = Simulation(sigma=3.0, flux=(5.0, 0.5))
        options.setdefault("hyper", None)
        return solve(sim, 6, start=start, tune_intervals=0, **options)[0]

    base = run()
    assert not np.allclose(base, run(cov_q=0.01), atol=1e-4)
    assert not np.allclose(base, run(lambda_kf=1.0), atol=1e-6)
    assert not np.allclose(base, run(n_iter=1, tolerance=1e-6), atol=1e-6)
    assert not np.allclose(base, run(amplitude_time=0.0), atol=1e-5)


def test_start_from_a_table():
    sim = Simulation(sigma=1.0)
    gains, error, flag, *_ = solve(sim, 4)
    table = GainTable(np.arange(8.0).reshape(4, 2), [[149e6, 152e6]], gains,
                      [f"S{i}" for i in range(sim.n_ant)], np.zeros((sim.n_dir, 2)), error=error,
                      flag=flag)
    again = Simulation(sigma=1.0)
    warm, _, _, diagnostics, truth, _ = solve(again, 2, start=table)
    cold = solve(Simulation(sigma=1.0), 2)[3]
    assert diagnostics["sweeps"][0, 0, 0] < cold["sweeps"][0, 0, 0]
    assert np.abs(np.angle(align_gauge(warm, truth) * truth.conj()))[:, 0, :, 0].max() < 0.1
    with pytest.raises(SolveError, match="starting gains"):
        DirectionalSolver(**sim.array(), start=GainTable(
            [[0, 1]], [[1, 2]], np.ones((1, 1, 3, 1, 1)), list("abc"), [[0, 0]]))


def test_bad_calls_are_refused():
    sim = Simulation()
    solver = DirectionalSolver(**sim.array())
    with pytest.raises(SolveError, match="no interval"):
        solver.finish()
    arguments, _, _ = sim.next()
    with pytest.raises(SolveError, match="directions"):
        solver.add_interval(**{**arguments, "model": arguments["model"][:2]})
    solver.add_interval(**{**arguments, "time_edge": (100.0, 160.0)})
    with pytest.raises(SolveError, match="time order"):
        solver.add_interval(**arguments)
    with pytest.raises(SolveError, match="Scalar"):
        SolverOptions(mode="scalar")
    with pytest.raises(SolveError, match="lambda_kf"):
        SolverOptions(lambda_kf=2.0)


def test_raw_data_of_another_scale():
    """Correlator units against a model in Jy: the free amplitude finds the factor."""
    sim = Simulation(sigma=1.0)

    def shrink(_, arguments):
        arguments["data"] *= 1e-4
        arguments["weight"] *= 1e8

    gains, error, _, diagnostics, truth, _ = solve(sim, 3, change=shrink, amplitude_mean="free")
    np.testing.assert_allclose(np.abs(gains / truth)[-1, 0, :, 0], 1e-2, rtol=0.1)
    np.testing.assert_allclose(diagnostics["flux_factor"][-1, 0, 0, 0], 1e-4, rtol=0.02)
    assert abs(diagnostics["chi2"].sum() / diagnostics["count"].sum() - 1) < 0.05
