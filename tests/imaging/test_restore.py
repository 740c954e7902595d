"""Restored images and the sources found in them."""

from __future__ import annotations

import math

import numpy as np
import pytest

from ddfpipe.errors import ImagingError
from ddfpipe.imaging.restore import beam_area, convolve_model, restore
from ddfpipe.imaging.sourcelist import find_sources
from ddfpipe.units import ARCSEC

CELL = 1.5 * ARCSEC


def direct(model: np.ndarray, beam) -> np.ndarray:
    """Sum of Gaussians, position angle from +y (north) towards -x (east)."""
    yy, xx = np.mgrid[:model.shape[0], :model.shape[1]].astype(float)
    out = np.zeros(model.shape)
    sigma = [b / CELL / 2.354820045 for b in beam[:2]]
    for y, x in np.argwhere(model):
        along = (yy - y) * math.cos(beam[2]) - (xx - x) * math.sin(beam[2])
        across = (yy - y) * math.sin(beam[2]) + (xx - x) * math.cos(beam[2])
        out += model[y, x] * np.exp(-0.5 * ((along / sigma[0]) ** 2 + (across / sigma[1]) ** 2))
    return out


def test_restoring_equals_a_direct_sum_across_tiles_and_edges(monkeypatch):
    monkeypatch.setattr("ddfpipe.imaging.restore.TILE", 64)
    model = np.zeros((150, 170), np.float32)
    for y, x, flux in ((0, 0, 1.0), (63, 64, 2.0), (64, 63, -0.5), (149, 169, 1.0), (75, 20, 3.0)):
        model[y, x] = flux
    beam = (9 * ARCSEC, 6 * ARCSEC, 0.6)
    image = convolve_model(model, beam, CELL)
    assert np.abs(image - direct(model, beam)).max() < 2e-4
    for threads in (2, 4):
        assert np.array_equal(convolve_model(model, beam, CELL, threads=threads), image)


def test_restored_image_is_residual_plus_model_and_flux_is_kept():
    rng = np.random.default_rng(0)
    residual = rng.normal(0, 1e-3, (200, 200)).astype(np.float32)
    residual[3, 4] = np.nan
    model = np.zeros((200, 200), np.float32)
    model[100:110, 90:120] = 0.01
    beam = (6 * ARCSEC, 6 * ARCSEC, 0.0)
    image = restore(model, residual, beam, CELL)
    assert np.isnan(image[3, 4])
    flux = np.nansum(image - residual) / beam_area(beam, CELL)
    assert flux == pytest.approx(3.0, rel=1e-3)


def test_a_beam_of_less_than_one_and_a_half_pixels_is_refused():
    for beam in ((1e-7, 1e-7, 0.0), (6 * ARCSEC, 9 * ARCSEC, 0.0), (math.nan, 1e-5, 0.0)):
        with pytest.raises(ImagingError, match="beam"):
            convolve_model(np.zeros((9, 9), np.float32), beam, CELL)


def test_sources_are_found_with_their_flux_and_place():
    rng = np.random.default_rng(3)
    model = np.zeros((300, 300), np.float32)
    truth = [(50, 60, 1.0), (200, 240, 0.5), (150, 150, 0.1)]
    for y, x, flux in truth:
        model[y, x] = flux
    beam = (8 * ARCSEC, 6 * ARCSEC, 0.3)
    image = restore(model, rng.normal(0, 1e-4, model.shape).astype(np.float32), beam, CELL)
    found = find_sources(image, 1e-4, beam_area(beam, CELL), sigma=7.0)
    assert found.size == 3
    for i, (y, x, flux) in enumerate(truth):
        assert math.hypot(found.y[i] - y, found.x[i] - x) < 0.05
        assert found.peak[i] == pytest.approx(flux, rel=5e-3)
        assert found.flux[i] == pytest.approx(flux, rel=0.02)
        assert found.radius[i] == pytest.approx(7 / 1.5 / 2.355 * 1.41, rel=0.15)
    assert (np.diff(found.flux) <= 0).all() and np.allclose(found.noise, 1e-4)
