"""A clean of WSClean that diverges is done again without negative components, or not used."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from engine_fields import Listener

from ddfpipe.data.images import SkyGrid
from ddfpipe.data.model import PixelModel
from ddfpipe.engines.base import ImageJob, VisSelection
from ddfpipe.engines.wsclean.imager import WSCleanImager
from ddfpipe.imaging.noise import robust_noise

NPIX, CELL = 64, 1e-5
BEAM = (4 * CELL, 4 * CELL, 0.0)


class Programless(WSCleanImager):
    """An imager whose runs of WSClean have a noise that a test decides."""

    def __init__(self, folder, signed: float, positive: float):
        job = ImageJob("img", VisSelection((), "DATA"), NPIX, 2.0, None, None, 1, 0.001)
        super().__init__(SimpleNamespace(native=None), job, Listener())
        self.folder, self.grid = folder, SkyGrid(1.0, 0.5, NPIX, NPIX, CELL)
        self.freq, self.weight = np.array([144e6]), np.ones(1)
        self.noise, self.tried = {True: signed, False: positive}, []

    def _attempt(self, cleaning):
        self.tried.append(cleaning.allow_negative)
        found = PixelModel.from_points(self.grid, [144e6], [20], [20 + len(self.tried)], [[1.0]])
        return found, picture(self.noise[cleaning.allow_negative])


def picture(noise):
    """(1, y, x) of normal noise of unit standard deviation times `noise`, the same every time."""
    values = np.random.default_rng(1).normal(size=(1, NPIX, NPIX))
    return (noise * values).astype(np.float32)


def clean(folder, signed, positive, start=True):
    """(imager, what `_clean` gives) for a residual with noise 1 and a source of 100."""
    imager = Programless(folder, signed, positive)
    grid = imager.grid
    model = (PixelModel.from_points(grid, [144e6], [40], [40], [[2.0]]) if start
             else PixelModel.empty(grid, [144e6]))
    residual = picture(1.0)
    residual[0, 20, 20] = 100.0
    mask = np.zeros(grid.shape, bool)
    mask[18:23, 18:23] = True
    return imager, imager._clean(mask, model, residual, BEAM)


@pytest.mark.parametrize("signed, tried, flux", [(0.5, [True], 3.0), (9.0, [True, False], 3.0)])
def test_the_first_clean_that_converges_is_used(tmp_path, signed, tried, flux):
    imager, (model, left) = clean(tmp_path, signed, 0.7)
    assert imager.tried == tried
    assert float(model.total_flux.mean()) == pytest.approx(flux)
    want = robust_noise(picture(imager.noise[tried[-1]])[0])
    assert robust_noise(left[0]) == pytest.approx(want)
    assert len([m for m in imager.monitor.messages if "diverged" in m]) == len(tried) - 1


def test_a_clean_that_never_converges_is_not_used(tmp_path):
    imager, found = clean(tmp_path, 9.0, 5.0)
    assert found is None and imager.tried == [True, False]
    assert "from a noise of" in imager.monitor.messages[-1]


def test_without_a_start_model_components_are_positive_from_the_first(tmp_path):
    imager, _ = clean(tmp_path, 9.0, 0.7, start=False)
    assert imager.tried == [False]


def test_rounding_of_wide_components_is_no_model(tmp_path, monkeypatch):
    """WSClean draws them by transforms, which leave something in every pixel of the image."""
    imager = Programless(tmp_path, 1.0, 1.0)
    drawn = np.random.default_rng(2).normal(size=(1, NPIX, NPIX)).astype(np.float32) * 1e-11
    drawn[0, 30:34, 30:34] = 0.5
    imager.view = SimpleNamespace(paths=[])
    monkeypatch.setattr(imager, "_run", lambda *_: None)
    monkeypatch.setattr(imager, "_cube", lambda kind: drawn)
    monkeypatch.setattr("ddfpipe.engines.wsclean.imager.model_kind", lambda gridding: "model")
    monkeypatch.setattr("ddfpipe.engines.wsclean.imager.clean_command", lambda *_: [])
    imager.gridding = imager.column = None
    model, _ = WSCleanImager._attempt(imager, None)
    assert model.size == 16 and model.total_flux.tolist() == [8.0]
