"""What is chosen from trials: the best, or the strictest that data do not reject."""

import numpy as np
import pytest

from ddfpipe.calibration.priors import Hyperparameters
from ddfpipe.calibration.tuning import Trial, _kept_or_narrowest

SCATTER = np.random.default_rng(4).normal(size=(5, 100))
SCATTER -= SCATTER.mean()


def trial(variance, worse):
    """Held-out χ² that is `worse` standard errors above that of the trial with 0.

    The differences scatter by 0.1 a baseline, or 1.0 over all 100.
    """
    unit = SCATTER.sum(axis=0)
    unit = unit / unit.std(ddof=1)
    held = np.full((5, 100), 10.0)
    if worse:
        held += (0.1 * unit + 0.01 * worse) / 5
    return Trial(Hyperparameters(variance=variance), held, 1.0)


@pytest.mark.parametrize("errors, now, chosen", [
    ({0.25: 3.0, 1.0: 1.6, 4.0: 0.7, 16.0: 0.0}, 1.0, 4.0),  # rejected: narrowest that is not
    ({0.25: 3.0, 1.0: 0.8, 4.0: 0.7, 16.0: 0.0}, 4.0, 4.0),  # within the error: stays
    ({0.25: 3.0, 1.0: 0.8, 4.0: 0.0, 16.0: 0.9}, 16.0, 16.0),
    ({0.25: 3.0, 1.0: 2.0, 4.0: 0.0, 16.0: 1.5}, 16.0, 4.0),
])
def test_strength_of_the_phases_stays_unless_data_reject_it(errors, now, chosen):
    trials = {v: trial(v, e) for v, e in errors.items()}
    current = trials.pop(now)
    assert _kept_or_narrowest(current, list(trials.values())).hyper.variance == chosen
