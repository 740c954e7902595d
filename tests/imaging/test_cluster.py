"""Calibration directions."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ddfpipe.errors import SkyModelError
from ddfpipe.imaging.cluster import cluster_sources


def field(n=800, seed=0, slope=1.2):
    rng = np.random.default_rng(seed)
    l, m = rng.uniform(-0.04, 0.04, (2, n))  # noqa: E741
    return l, m, 0.01 * (1.0 + rng.pareto(slope, n))


def nearest(l, m, found):  # noqa: E741
    return np.argmin((l[:, None] - found.l) ** 2 + (m[:, None] - found.m) ** 2, axis=1)


@pytest.mark.parametrize("ndir", [1, 9, 45])
def test_number_labels_and_fluxes_agree(ndir):
    l, m, flux = field()  # noqa: E741
    found = cluster_sources(l, m, flux, ndir)
    assert found.l.size == ndir and not found.warnings
    assert np.array_equal(found.label, nearest(l, m, found))
    assert np.allclose(found.flux, np.bincount(found.label, flux, ndir))
    assert found.flux.sum() == pytest.approx(flux.sum())
    assert (np.diff(found.flux) <= 1e-12).all()


def test_cells_of_equal_sources_are_balanced():
    l, m, _ = field(1000, seed=4)  # noqa: E741
    flux = np.ones(l.size)
    found = cluster_sources(l, m, flux, 16)
    assert found.balance < 0.35
    assert found.flux.min() > 0.4 * found.flux.mean()
    crowded = flux * (1 + 40 * (l > 0.03))
    plain = cluster_sources(l, m, crowded, 16, balance=0.0).balance
    assert cluster_sources(l, m, crowded, 16, balance=2.0).balance < plain


def test_separated_groups_are_found_exactly():
    rng = np.random.default_rng(1)
    middles = np.array([[-0.03, 0.0], [0.03, 0.02], [0.0, -0.03], [0.01, 0.035]])
    places = (middles[:, None] + rng.normal(0, 5e-4, (4, 30, 2))).reshape(-1, 2)
    found = cluster_sources(places[:, 0], places[:, 1], np.ones(120), 4)
    got = np.stack([found.l, found.m], axis=1)
    assert np.linalg.norm(got[:, None] - middles[None], axis=2).min(axis=0).max() < 5e-4
    assert np.allclose(found.flux, 30.0)


def test_fewer_sources_than_directions_warns():
    found = cluster_sources(np.array([0.0, 0.01]), np.zeros(2), np.ones(2), 5)
    assert found.l.size == 2 and "only 2 of 5" in found.warnings[0]


def test_no_sources_is_an_error_with_advice():
    for l, flux in ((np.zeros(0), np.zeros(0)), (np.zeros(3), np.zeros(3))):  # noqa: E741
        with pytest.raises(SkyModelError, match="clusterfile"):
            cluster_sources(l, l, flux, 5)


def test_avoided_sources_draw_no_direction_but_are_labelled():
    l, m, flux = field(200)  # noqa: E741
    avoid = l > 0
    found = cluster_sources(l, m, flux, 6, avoid=avoid)
    assert found.l.max() < 0 and found.label.size == 200
    assert found.flux.sum() == pytest.approx(flux[~avoid].sum())


@settings(max_examples=15, deadline=None)
@given(st.integers(1, 20), st.integers(0, 500), st.floats(0.0, 0.02))
def test_directions_are_apart_deterministic_and_inside(ndir, seed, gap):
    l, m, flux = field(60, seed)  # noqa: E741
    found = cluster_sources(l, m, flux, ndir, min_separation=gap)
    again = cluster_sources(l, m, flux, ndir, min_separation=gap)
    assert np.array_equal(found.l, again.l) and np.array_equal(found.label, again.label)
    assert 1 <= found.l.size <= ndir and (found.flux > 0).all()
    assert (found.l.size == ndir) or found.warnings
    distance = np.hypot(found.l[:, None] - found.l, found.m[:, None] - found.m)
    np.fill_diagonal(distance, np.inf)
    assert distance.min() >= gap * 0.999
    assert np.abs(found.l).max() <= 0.04 and np.abs(found.m).max() <= 0.04
