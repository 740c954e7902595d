"""Phases of stations against known ones."""

from __future__ import annotations

import numpy as np
import pytest
from ddfpipe.calibration.phases import PhaseSolver, synchronise
from ddfpipe.errors import SolveError

N_ANT = 20
ANT1, ANT2 = np.triu_indices(N_ANT, 1)


def visibilities(rng, noise, n_time=3, n_chan=4):
    """(model, data, weight, phases (ant, 2)) of a two-source sky and random station phases."""
    shape = (n_time, len(ANT1), n_chan)
    model = 2 + np.exp(2j * np.pi * rng.uniform(size=(1, len(ANT1), 1))) * np.ones(shape)
    phases = rng.uniform(-np.pi, np.pi, (N_ANT, 2))
    gain = np.exp(1j * phases)
    data = np.zeros((*shape, 4), np.complex64)
    for hand, corr in enumerate((0, 3)):
        data[..., corr] = 7.0 * model * (gain[ANT1, hand] * gain[ANT2, hand].conj())[:, None]
    data += noise * np.sqrt(0.5) * (rng.normal(size=data.shape) + 1j * rng.normal(size=data.shape))
    weight = np.full(shape, 1 / max(noise, 1e-3) ** 2, np.float32)
    return model.astype(np.complex64), data, weight, phases


def solve(model, data, weight):
    solver = PhaseSolver(ant1=ANT1, ant2=ANT2, n_ant=N_ANT, freq_edges=np.array([[1e8, 2e8]]))
    solver.add_interval(time_edge=(0, 8), model=model, data=data, weight=weight,
                        chan_block=np.zeros(model.shape[2], int))
    return solver.finish()


def relative(phases):
    return np.angle(np.exp(1j * (phases - phases[:1])))


@pytest.mark.parametrize("seed", range(5))
def test_any_phases_are_found_whatever_the_scale(seed):
    model, data, weight, phases = visibilities(np.random.default_rng(seed), 0.0)
    gains, error, flag, facts = solve(model, data, weight)
    assert gains.shape == (1, 1, N_ANT, 1, 2) and not flag.any()
    wrong = np.angle(np.exp(1j * (relative(np.angle(gains[0, 0, :, 0])) - relative(phases))))
    assert np.abs(wrong).max() < 1e-4
    assert np.abs(np.abs(gains) - 1).max() < 1e-12


def test_errors_and_chi_squared_are_those_of_the_noise():
    pulls, chi2 = [], []
    for seed in range(12):
        model, data, weight, phases = visibilities(np.random.default_rng(100 + seed), 30.0)
        gains, error, flag, facts = solve(model, data, weight)
        wrong = np.angle(np.exp(1j * (np.angle(gains[0, 0, :, 0]) - phases)))
        # the common phase is free: compare with the mean
        wrong = np.angle(np.exp(1j * (wrong - np.angle(np.exp(1j * wrong).mean(axis=0)))))
        pulls.append(wrong / error[0, 0, :, 0])
        chi2.append(facts["chi2"][0, 0] / facts["count"][0, 0])
    assert 0.85 < np.std(pulls) < 1.15
    assert 0.97 < np.mean(chi2) < 1.03


def test_a_station_without_data_is_flagged_and_harms_nobody():
    model, data, weight, phases = visibilities(np.random.default_rng(3), 0.0)
    weight[:, (ANT1 == 0) | (ANT2 == 0)] = 0
    gains, error, flag, _ = solve(model, data, weight)
    assert flag[0, 0, 0].all() and not flag[0, 0, 1:].any() and np.isinf(error[0, 0, 0]).all()
    assert (gains[0, 0, 0] == 1).all()
    found = relative(np.angle(gains[0, 0, 1:, 0]))
    assert np.abs(np.angle(np.exp(1j * (found - relative(phases[1:]))))).max() < 1e-4


def test_one_reference_for_all_times_and_hands():
    rng = np.random.default_rng(5)
    solver = PhaseSolver(ant1=ANT1, ant2=ANT2, n_ant=N_ANT, freq_edges=np.array([[1e8, 2e8]]))
    for slot in range(4):
        model, data, weight, _ = visibilities(rng, 1.0, n_time=1)
        if slot == 2:
            weight[:, (ANT1 == 0) | (ANT2 == 0)] = 0
        solver.add_interval(time_edge=(8 * slot, 8 * slot + 8), model=model, data=data,
                            weight=weight, chan_block=np.zeros(4, int))
    gains, _, flag, _ = solver.finish()
    reference = np.argmax(np.abs(np.angle(gains)).max(axis=(0, 1, 3, 4)) < 1e-12)
    assert reference > 0 and not flag[:, :, reference].any()


def test_nothing_to_synchronise():
    gain, pull = synchronise(np.zeros((3, 3), np.complex128))
    assert (gain == 1).all() and (pull == 0).all()
    solver = PhaseSolver(ant1=[0], ant2=[1], n_ant=2, freq_edges=np.array([[1e8, 2e8]]))
    with pytest.raises(SolveError, match="no interval"):
        solver.finish()
