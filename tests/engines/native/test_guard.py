"""Major cycles that make an image worse are damped or taken back."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from ddfpipe.data.images import SkyGrid
from ddfpipe.data.model import PixelModel
from ddfpipe.engines.native.guard import Quality, settle

GRID, FREQ = SkyGrid(1.0, 0.8, 40, 40, 1e-5), np.array([1.4e8])
SOURCES = ([10.0, 20.3, 30.0], [10.0, 25.4, 8.0], [[3.0, 2.0, 1.0]])


def model_of(factor: float) -> PixelModel:
    """The sources with `factor` times their flux."""
    y, x, flux = SOURCES
    return PixelModel.from_points(GRID, FREQ, y, x, factor * np.array(flux))


class Exact:
    """Operators whose PSF is one pixel: the residual is noise and truth minus model."""

    def __init__(self):
        self.data = SimpleNamespace(band_weight=np.ones(1))
        self.noise = np.random.default_rng(1).normal(0, 0.01, (1, 40, 40)).astype(np.float32)
        self.calls = 0

    def set_residual(self, model) -> None:
        self.model = model

    def adjoint(self) -> np.ndarray:
        self.calls += 1
        return self.noise + model_of(1.0).cube() - self.model.cube()


def settled(factor: float):
    """(operators, picture, what was done, taken back) after a cycle that found `factor`."""
    operators = Exact()
    before = PixelModel.empty(GRID, FREQ)
    operators.set_residual(before)
    picture = SimpleNamespace(
        model=model_of(factor), residual=operators.adjoint(), mask=np.ones(GRID.shape, bool)
    )
    quality = Quality.of(picture.residual, operators.data.band_weight, picture.mask)
    operators.calls = 0
    return operators, picture, *settle(operators, picture, before, quality)


@pytest.mark.parametrize("factor, calls, kept", [(0.9, 1, 0.9), (1.8, 1, 1.8), (2.8, 2, 1.4),
                                                 (9.0, 3, 0.0)])
def test_a_cycle_is_kept_halved_or_taken_back(factor, calls, kept):
    operators, picture, trouble, back = settled(factor)
    assert operators.calls == calls
    assert picture.model.total_flux[0] == pytest.approx(6.0 * kept, rel=1e-5)
    assert bool(trouble) == (calls > 1) and back == (kept == 0.0)
    if calls > 1:
        assert "worse" in trouble
    expected = operators.noise + model_of(1.0).cube() - picture.model.cube()
    assert np.allclose(picture.residual, expected, atol=1e-6)


def test_growing_noise_counts_as_well():
    small, large = Quality(1.0, 5.0), Quality(1.2, 4.0)
    assert large.worse_than(small) and not small.worse_than(large)
    assert not Quality(1.04, 6.0).worse_than(small) and Quality(1.0, 7.0).worse_than(small)
