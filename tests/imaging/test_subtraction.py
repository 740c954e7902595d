"""Components taken out of a residual: sums of PSFs, convolutions and a plain loop agree."""

from __future__ import annotations

import numpy as np
import pytest

from ddfpipe.imaging import subtraction
from ddfpipe.imaging.subtraction import subtract_boxes

SHAPE, N = (70, 90), 48


@pytest.fixture
def scene():
    """(PSFs of two facets and two bands, boxes with few and many pixels, in part outside)."""
    rng = np.random.default_rng(3)
    psf = rng.normal(size=(2, 2, N, N)).astype(np.float32)
    boxes = []
    for facet, y0, x0, h, w, share in ((0, 5, 8, 1, 1, 1.0), (1, -3, 80, 9, 14, 0.1),
                                       (0, 60, -4, 20, 12, 0.9), (1, 30, 30, 25, 2, 0.0)):
        box = rng.normal(size=(2, h, w)) * (rng.random((h, w)) < share)
        boxes.append((facet, y0, x0, box.astype(np.float32)))
    return psf, boxes


def looped(psf, boxes):
    """The same, pixel by pixel."""
    out = np.zeros((2, *SHAPE))
    for facet, y0, x0, box in boxes:
        for b, i, j in zip(*np.nonzero(box)):
            for y in range(SHAPE[0]):
                for x in range(SHAPE[1]):
                    k, m = y - (y0 + i) + N // 2, x - (x0 + j) + N // 2
                    if 0 <= k < N and 0 <= m < N:
                        out[b, y, x] -= box[b, i, j] * psf[facet, b, k, m]
    return out


@pytest.mark.parametrize("worth", [0, subtraction._TRANSFORM, np.inf])
def test_all_ways_agree(scene, worth, monkeypatch):
    psf, boxes = scene
    monkeypatch.setattr(subtraction, "_TRANSFORM", worth)
    residual = np.zeros((2, *SHAPE), np.float32)
    subtract_boxes(residual, psf, boxes)
    expected = looped(psf, boxes)
    assert np.abs(residual - expected).max() < 2e-5 * np.abs(expected).max()
    subtract_boxes(residual, psf, boxes, sign=-1.0)
    assert np.abs(residual).max() < 2e-5 * np.abs(expected).max()


def test_threads_change_nothing(scene, monkeypatch):
    psf, boxes = scene
    monkeypatch.setattr(subtraction, "_STRIP", 16)
    found = []
    for threads in (1, 3):
        residual = np.ones((2, *SHAPE), np.float32)
        subtract_boxes(residual, psf, boxes, threads=threads)
        found.append(residual)
    assert np.array_equal(*found)


def test_few_pixels_are_summed_and_many_transformed():
    """A point in a large image; a field full of pixels."""
    one, many = np.zeros((1, 400, 400), np.float32), np.ones((1, 40, 40), np.float32)
    one[0, 0, 0] = 1
    assert subtraction._few(one, 1024, (1000, 1000))
    assert not subtraction._few(many, 1024, (1000, 1000))
