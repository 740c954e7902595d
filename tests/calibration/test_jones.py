"""Full-Jones solves with leakage: gains, gauge, continuity, errors, flags."""

import numpy as np
import pytest

from ddfpipe.calibration.gains import GainTable, align_gauge
from ddfpipe.calibration.jones import JonesSolver, natural_unitary
from ddfpipe.calibration.options import SolverOptions
from ddfpipe.errors import SolveError

N_ANT = 18
ANT1, ANT2 = np.triu_indices(N_ANT, 1)


def true_jones(rng, leakage=0.1):
    """(n_ant, 4): station phases, a few per cent of amplitude, leakage."""
    noise = rng.normal(size=(N_ANT, 2, 2)) + 1j * rng.normal(size=(N_ANT, 2, 2))
    jones = np.eye(2) + leakage * noise
    jones *= np.exp(1j * rng.uniform(-3, 3, (N_ANT, 1, 1)))
    return jones.reshape(N_ANT, 4)


def visibilities(rng, jones, sigma, n_time=4, n_chan=6):
    model = 4 * (rng.normal(size=(n_time, len(ANT1), n_chan))
                 + 1j * rng.normal(size=(n_time, len(ANT1), n_chan))).astype(np.complex64)
    matrix = jones.reshape(-1, 2, 2)
    product = np.einsum("bij,bkj->bik", matrix[ANT1], matrix[ANT2].conj()).reshape(-1, 4)
    data = model[..., None] * product[None, :, None, :]
    noise = rng.normal(size=data.shape) + 1j * rng.normal(size=data.shape)
    return model, (data + sigma * np.sqrt(0.5) * noise).astype(np.complex64)


def solver(**options):
    options.setdefault("max_sweeps", 60)
    return JonesSolver(ant1=ANT1, ant2=ANT2, n_ant=N_ANT, freq_edges=[[1e8, 1.1e8], [1.1e8, 1.2e8]],
                       options=SolverOptions(solver="CohJones", **options))


def run(rng, truths, sigma, weight_axis=False, **options):
    solve = solver(**options)
    for t, jones in enumerate(truths):
        model, data = visibilities(rng, jones, sigma)
        shape = data.shape if weight_axis else model.shape
        weight = np.full(shape, 1 / sigma**2 if sigma else 1e4, np.float32)
        solve.add_interval(time_edge=(t, t + 1), model=model, data=data, weight=weight,
                           chan_block=np.array([0, 0, 0, 1, 1, 1]))
    return solve.finish()


def test_noiseless_matrices_up_to_a_unitary():
    rng = np.random.default_rng(0)
    truth = true_jones(rng)
    gains, error, flag, _ = run(rng, [truth], 0.0, tolerance=1e-6, amplitude_mean="free")
    assert gains.shape == error.shape == flag.shape == (1, 2, N_ANT, 1, 4)
    target = np.broadcast_to(truth[:, None, :], gains.shape[1:])
    assert np.abs(align_gauge(gains[0], target) - target).max() < 1e-3


@pytest.mark.parametrize("weight_axis", [False, True])
def test_noise_chi_squared_and_stated_errors(weight_axis):
    rng = np.random.default_rng(1)
    truths = [true_jones(rng)] * 6
    gains, error, _, diagnostics = run(rng, truths, 1.0, weight_axis, amplitude_mean="free",
                                       tolerance=0.01)
    target = np.broadcast_to(truths[0][:, None, :], gains.shape)
    miss = align_gauge(gains, target) - target
    ratio = np.sqrt((np.abs(miss) ** 2).mean() / 2) / np.sqrt((error**2).mean())
    assert 0.8 < ratio < 1.2
    per_sample = diagnostics["chi2"] / diagnostics["count"]
    expected = 1 - 4 * N_ANT / diagnostics["count"]
    assert np.abs(per_sample - expected).max() < 5 / np.sqrt(diagnostics["count"].min())


def test_gauge_is_smooth_and_near_the_identity():
    """Corrected XX and YY stay apart and consecutive intervals agree."""
    rng = np.random.default_rng(2)
    truth = true_jones(rng, leakage=0.05)
    gains, *_ = run(rng, [truth] * 5, 0.3)
    steps = np.abs(np.diff(gains, axis=0)).max()
    assert steps < 0.1
    size = np.abs(gains[..., 0, :])
    assert size[..., [1, 2]].max() < 0.35 and size[..., [0, 3]].min() > 0.6
    # The natural gauge: the phase-aligned mean is Hermitian positive.
    matrices = gains[-1, 0, :, 0].reshape(-1, 2, 2)
    phase = np.exp(-1j * np.angle(np.trace(matrices, axis1=1, axis2=2)))
    mean = (matrices * phase[:, None, None]).mean(axis=0)
    np.testing.assert_allclose(mean, mean.conj().T, atol=1e-3)
    assert np.linalg.eigvalsh((mean + mean.conj().T) / 2).min() > 0.5


def test_natural_unitary_undoes_any_unitary():
    rng = np.random.default_rng(5)
    truth = true_jones(rng, leakage=0.03)
    random, _ = np.linalg.qr(rng.normal(size=(2, 2)) + 1j * rng.normal(size=(2, 2)))
    turned = (truth.reshape(-1, 2, 2) @ random).reshape(-1, 4)
    fixed = []
    for jones in (truth, turned):
        unitary = natural_unitary(jones, np.ones(N_ANT), np.eye(2, dtype=complex))
        matrices = jones.reshape(-1, 2, 2) @ unitary
        fixed.append(matrices * np.exp(-1j * np.angle(np.trace(matrices[0]))))
    np.testing.assert_allclose(*fixed, atol=1e-5)


def test_amplitude_mean_is_one_unless_free():
    rng = np.random.default_rng(3)
    truth = 3e-2 * true_jones(rng)
    tied, _, _, diagnostics = run(rng, [truth], 1e-3)
    size = np.sqrt((np.abs(tied[0, :, :, 0]) ** 2).sum(axis=-1) / 2)
    np.testing.assert_allclose(np.log(size).mean(axis=-1), 0, atol=1e-9)
    free = run(np.random.default_rng(3), [truth], 1e-3, amplitude_mean="free")[0]
    assert 0.02 < np.abs(free[0, 0, :, 0, 0]).mean() < 0.05
    assert 0.02 < diagnostics["scale"][0, 0] < 0.05


def test_missing_station_and_empty_interval():
    rng = np.random.default_rng(4)
    solve = solver()
    for t in range(3):
        model, data = visibilities(rng, true_jones(np.random.default_rng(9)), 0.5)
        weight = np.full(model.shape, 4.0, np.float32)
        weight[:, (ANT1 == 3) | (ANT2 == 3)] = 0
        if t == 1:
            weight[:] = 0
            data[:] = np.nan
        solve.add_interval(time_edge=(t, t + 1), model=model, data=data, weight=weight,
                           chan_block=np.array([0, 0, 0, 1, 1, -1]))
    gains, error, flag, _ = solve.finish()
    assert flag[:, :, 3].all() and flag[1].all() and np.isfinite(gains).all()
    assert not flag[[0, 2]][:, :, np.arange(N_ANT) != 3].any()
    assert np.isinf(error[1]).all()


def test_start_and_refusals():
    rng = np.random.default_rng(6)
    truth = true_jones(rng)
    table = GainTable([[0, 1]], [[1e8, 1.2e8]], truth[None, None, :, None, :],
                      [f"S{i}" for i in range(N_ANT)], [[0, 0]])
    warm = JonesSolver(ant1=ANT1, ant2=ANT2, n_ant=N_ANT, freq_edges=[[1e8, 1.2e8]], start=table)
    cold = JonesSolver(ant1=ANT1, ant2=ANT2, n_ant=N_ANT, freq_edges=[[1e8, 1.2e8]])
    model, data = visibilities(rng, truth, 0.1)
    for solve in (warm, cold):
        solve.add_interval(time_edge=(0, 1), model=model, data=data,
                           weight=np.full(model.shape, 100, np.float32),
                           chan_block=np.zeros(6, int))
    assert warm.finish()[3]["sweeps"][0, 0] < cold.finish()[3]["sweeps"][0, 0]
    with pytest.raises(SolveError, match="no interval"):
        solver().finish()
    with pytest.raises(SolveError, match="4 correlations"):
        cold.add_interval(time_edge=(1, 2), model=model, data=data[..., :2],
                          weight=np.ones(model.shape, np.float32), chan_block=np.zeros(6, int))
