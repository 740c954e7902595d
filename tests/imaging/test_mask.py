"""Masks and islands."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from ddfpipe.errors import ImagingError
from ddfpipe.imaging.mask import (
    auto_mask,
    diffuse_mask,
    dilate,
    find_islands,
    mask_warnings,
    merge_masks,
    threshold_mask,
)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 40), st.integers(1, 40), st.floats(0, 1), st.integers(0, 1000))
def test_islands_are_those_of_scipy(ny, nx, density, seed):
    mask = np.random.default_rng(seed).random((ny, nx)) < density
    islands = find_islands(mask)
    label, count = ndimage.label(mask, np.ones((3, 3)))
    assert islands.count == count
    assert np.array_equal(islands.label, label.ravel()[islands.index] - 1)
    assert np.array_equal(islands.mask(), mask)
    assert islands.sizes().sum() == mask.sum()


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 6), st.integers(0, 1000))
def test_dilation_is_by_a_disc(radius, seed):
    mask = np.random.default_rng(seed).random((40, 35)) < 0.02
    y, x = np.mgrid[-radius:radius + 1, -radius:radius + 1]
    expected = ndimage.binary_dilation(mask, y * y + x * x <= radius * radius)
    assert np.array_equal(dilate(mask, radius), expected | mask)


def test_threshold_with_reach_and_minimum_size():
    image = np.zeros((60, 60), np.float32)
    image[10:15, 10:15], image[12, 12] = 4.0, 10.0
    image[30, 30] = 20.0
    image[40:45, 40:45] = 4.0
    image[50, 50] = np.nan
    plain = threshold_mask(image, 1.0, 5.0)
    assert plain.sum() == 2
    reach = threshold_mask(image, 1.0, 5.0, grow_sigma=3.0)
    assert reach.sum() == 26 and not reach[42, 42]
    assert threshold_mask(image, 1.0, 5.0, grow_sigma=3.0, min_pixels=5).sum() == 25
    noise = np.full((60, 60), 1.0, np.float32)
    noise[25:35] = 10.0
    assert not threshold_mask(image, noise, 5.0)[30, 30]
    assert not threshold_mask(image, np.zeros((60, 60)), 5.0).any()
    with pytest.raises(ImagingError):
        threshold_mask(image, 1.0, 5.0, grow_sigma=6.0)


def test_auto_mask_finds_sources_and_a_source_does_not_hide_in_its_own_noise():
    rng = np.random.default_rng(1)
    image = rng.normal(0, 1e-3, (600, 600)).astype(np.float32)
    yy, xx = np.mgrid[:600, :600]
    places = [(50, 60), (200, 240), (450, 450)]
    for y, x in places:
        image += np.float32(0.05) * np.exp(-((yy - y) ** 2 + (xx - x) ** 2) / 8.0)
    # side lobes all over 50 pixels round the brightest raise the noise of boxes of that size
    beside = np.hypot(yy - 450, xx - 450) < 50
    image[beside] += rng.normal(0, 5e-3, beside.sum()).astype(np.float32)
    mask = auto_mask(image, 10.0, 4.0)
    assert all(mask[place] for place in places)
    assert find_islands(mask).count >= 3
    assert mask[50 - 2, 60] and not mask[50 - 20, 60]


def test_diffuse_mask_takes_large_faint_emission_only():
    rng = np.random.default_rng(2)
    image = rng.normal(0, 1e-3, (800, 800)).astype(np.float32)
    assert diffuse_mask(image, 5.0, 4.0).sum() == 0
    yy, xx = np.mgrid[:800, :800]
    halo = 2e-3 * np.exp(-0.5 * ((yy - 300) ** 2 + (xx - 420) ** 2) / 40.0 ** 2)
    image += halo.astype(np.float32)
    image[600, 200] += 0.02
    mask = diffuse_mask(image, 5.0, 4.0)
    assert mask[270:330, 390:450].all()
    assert find_islands(mask).count == 1 and not mask[600, 200]
    assert mask.sum() < 0.1 * mask.size


def test_merging_and_warnings():
    one, two = np.zeros((10, 10), bool), np.zeros((10, 10))
    one[0, 0], two[5, 5] = True, 1.0
    assert merge_masks(one, None, two).sum() == 2 and one.sum() == 1
    with pytest.raises(ImagingError):
        merge_masks(one, np.zeros((3, 3)))
    with pytest.raises(ImagingError):
        merge_masks(None)
    assert mask_warnings(one) == []
    assert "empty" in mask_warnings(np.zeros((10, 10)))[0]
    assert "raise the threshold" in mask_warnings(np.ones((10, 10)))[0]
    valid = np.zeros((10, 10), bool)
    valid[0, :2] = True
    assert len(mask_warnings(one, valid)) == 1
