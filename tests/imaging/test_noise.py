"""Noise estimates on noise of known strength."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ddfpipe.errors import ImagingError
from ddfpipe.imaging.noise import local_noise, robust_noise


def noise_image(shape=(400, 500), sigma=1e-3, seed=0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, sigma, shape).astype(np.float32)


def test_robust_noise_ignores_sources_blanks_and_nan():
    image = noise_image()
    image[100:120, 100:160] += 1.0
    image[:50] = 0.0
    image[350:] = np.nan
    assert robust_noise(image) == pytest.approx(1e-3, rel=0.02)
    assert np.isnan(robust_noise(np.full((10, 10), np.nan)))


@settings(max_examples=15, deadline=None)
@given(st.floats(1e-6, 1e3), st.floats(-5, 5), st.integers(0, 100))
def test_robust_noise_scales_and_does_not_see_an_offset(scale, offset, seed):
    image = noise_image((150, 150), 1.0, seed).astype(float)
    base = robust_noise(image)
    assert base == pytest.approx(1.0, rel=0.05)
    assert robust_noise(scale * (image + offset)) == pytest.approx(scale * base, rel=1e-2)


def test_local_noise_follows_a_change_of_noise_and_mean():
    image = noise_image((600, 600))
    image[:, 300:] *= 5
    image[300:] += 0.02
    noise, mean = local_noise(image, (50, 2))
    assert noise.shape == image.shape and noise.dtype == np.float32
    for rows in (slice(60, 240), slice(360, 540)):
        assert np.median(noise[rows, 60:240]) == pytest.approx(1e-3, rel=0.03)
        assert np.median(noise[rows, 360:540]) == pytest.approx(5e-3, rel=0.03)
    assert np.abs(mean[60:240, 60:240]).max() < 2e-4
    assert np.median(mean[360:540, 60:240]) == pytest.approx(0.02, rel=0.01)


def test_local_noise_is_not_raised_by_a_bright_source_and_fills_blanks():
    image = noise_image((600, 600))
    image[290:320, 290:320] += 10.0
    image[:, :100] = np.nan
    image[:120] = 0.0
    noise, mean = local_noise(image, (50, 2))
    assert np.isfinite(noise).all() and np.isfinite(mean).all()
    assert noise.max() < 1.4e-3 and noise.min() > 0.7e-3


def test_local_noise_is_the_same_for_any_number_of_threads():
    image = noise_image()
    for one, many in zip(local_noise(image, threads=1), local_noise(image, threads=3)):
        assert np.array_equal(one, many)


@pytest.mark.parametrize("box", [(4, 2), (50, 0)])
def test_bad_boxes_are_refused(box):
    with pytest.raises(ImagingError, match="box"):
        local_noise(noise_image(), box)


def test_an_image_without_pixels_is_refused():
    with pytest.raises(ImagingError, match="no valid pixels"):
        local_noise(np.zeros((100, 100), np.float32))
