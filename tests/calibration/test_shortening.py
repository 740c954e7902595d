"""Intervals are shortened where bright sources turn within them, and nowhere else."""

import numpy as np
import pytest

from ddfpipe.calibration.options import SolverOptions
from ddfpipe.calibration.shortening import Samples
from ddfpipe.calibration.solver import DirectionalSolver

from .arrays import Simulation

SLOT = 8.0
SLOW, FAST = 1e5, 300.0
"""Correlation times in s of phases that stand still in 32 s, and of others that do not."""


def length(correlation_time, flux=(20.0, 3.0, 1.0), *, slots=32, dt=32.0, missing=None,
           n_remote=8, n_core=14, **options):
    """Length chosen for `slots` slots of 8 s."""
    sim = Simulation(n_time=1, interval=SLOT, correlation_time=correlation_time, flux=flux,
                     n_core=n_core, n_remote=n_remote)
    pieces = [sim.next(missing)[0] for _ in range(slots)]
    samples = Samples(
        np.concatenate([p["model"] for p in pieces], axis=1),
        np.concatenate([p["data"] for p in pieces]),
        np.concatenate([p["weight"] for p in pieces]),
        SLOT * (np.arange(slots) + 0.5), SLOT,
    )
    solver = DirectionalSolver(**sim.array(), options=SolverOptions(**options))
    return solver.fitting_length(samples, dt)


def test_bright_sources_that_turn_get_short_intervals():
    found = length(FAST)
    assert found.dt == SLOT
    assert list(found.chi2) == [32.0, 16.0, 8.0]
    assert found.chi2[8.0] < 0.5 * found.chi2[32.0]


@pytest.mark.parametrize("flux", [(20.0, 3.0, 1.0), (0.5, 0.3, 0.2)])
def test_gains_that_stand_still_keep_their_intervals(flux):
    found = length(SLOW, flux)
    assert found.dt == 32.0 and len(found.chi2) == 2


def test_turns_that_noise_hides_do_not_count():
    assert length(FAST, (0.5, 0.3, 0.2)).dt == 32.0


def test_flux_that_the_model_lacks_is_no_reason():
    rng = np.random.default_rng(4)
    lacking = rng.uniform(-0.04, 0.04, (12, 2)), np.full(12, 0.7), rng.integers(0, 3, 12)
    found = length(SLOW, missing=lacking)
    assert found.chi2[32.0] > 2  # it is seen
    assert found.dt == 32.0


def test_lengths_end_at_that_of_a_sample():
    assert list(length(FAST, dt=20.0).chi2) == [20.0, 10.0]
    assert length(FAST, dt=SLOT).chi2 == {SLOT: pytest.approx(1.0, abs=0.5)}


def test_with_little_to_choose_by_intervals_stay():
    assert length(FAST, n_core=5, n_remote=3).chi2 == {}
    assert length(FAST, slots=8).chi2 == {}
    assert length(FAST, hold_out=0.0).chi2 == {}
