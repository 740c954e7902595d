"""Imaging weights against a naive implementation on a full uv grid."""

from __future__ import annotations

import numpy as np
import oracle
import pytest

from ddfpipe.errors import ImagingError
from ddfpipe.imaging.weighting import DensityGrid, gaussian_taper, uv_mask

OB = oracle.observation(n_ant=14)
SHAPE = OB["uvw"].shape[:2] + (OB["freq"].size,)
NPIX, CELL = 600, np.radians(8 / 3600)


def naive(uvw, freq, weight, npix, cell, robust):
    """Briggs (1995) sample by sample, conjugates entered explicitly, dictionary of cells."""
    waves = uvw[:, :, None, :2] * freq[:, None] / oracle.C * npix * cell
    cells = [tuple(c) for c in np.rint(waves).astype(int).reshape(-1, 2)]
    flat = weight.ravel()
    density: dict = {}
    for c, w in zip(cells, flat):
        for key in (c, (-c[0], -c[1])):
            density[key] = density.get(key, 0.0) + w
    mine = np.array([density[c] for c in cells])
    if robust <= -2:
        return (flat / mine).reshape(weight.shape)
    mean = sum(d * d for d in density.values()) / sum(density.values())
    f2 = (5 * 10.0**-robust) ** 2 / mean
    return (flat / (1 + mine * f2)).reshape(weight.shape)


@pytest.mark.parametrize("robust", [-3, -2, -1.9, -0.5, 0, 1])
def test_briggs_against_naive(robust):
    weight = np.random.default_rng(0).uniform(0.2, 2, SHAPE).astype(np.float32)
    grid = DensityGrid(NPIX, CELL)
    for part in (slice(0, 2), slice(2, None)):
        grid.add(OB["uvw"][part], OB["freq"], weight[part])
    grid.finalize(robust)
    got = grid.apply(OB["uvw"], OB["freq"], weight)
    want = naive(OB["uvw"], OB["freq"], weight, NPIX, CELL, robust)
    assert got.dtype == np.float32
    assert np.allclose(got, want, rtol=1e-5)
    assert np.ptp(got / weight) > 0.01 * (got / weight).max()


def test_natural_flags_and_limits():
    weight = np.ones(SHAPE, np.float32)
    weight[0] = 0
    grid = DensityGrid(NPIX, CELL)
    grid.add(OB["uvw"], OB["freq"], weight)
    with pytest.raises(ImagingError, match="finalize"):
        grid.apply(OB["uvw"], OB["freq"], weight)
    grid.finalize(None)
    assert np.array_equal(grid.apply(OB["uvw"], OB["freq"], weight), weight)
    grid.finalize(0.0)
    briggs = grid.apply(OB["uvw"], OB["freq"], weight)
    assert not briggs[0].any() and (briggs[1:] > 0).all()
    grid.finalize(9.0)
    assert np.allclose(grid.apply(OB["uvw"], OB["freq"], weight), weight, rtol=1e-6)


def test_small_grid_and_merge():
    """uv_max only saves memory; merged grids count everything; the far uv plane gets no weight."""
    weight = np.ones(SHAPE, np.float32)
    longest = np.abs(OB["uvw"][..., :2]).max() * OB["freq"][-1] / oracle.C
    full, small, other = (DensityGrid(NPIX * 4, CELL / 4, u) for u in (None, longest, longest))
    full.add(OB["uvw"], OB["freq"], weight)
    small.add(OB["uvw"][:3], OB["freq"], weight[:3])
    other.add(OB["uvw"][3:], OB["freq"], weight[3:])
    small.merge(other)
    assert small.grid.size < full.grid.size
    for grid in (full, small):
        grid.finalize(-0.5)
    want = full.apply(OB["uvw"], OB["freq"], weight)
    assert np.allclose(small.apply(OB["uvw"], OB["freq"], weight), want, rtol=1e-6)
    coarse = DensityGrid(64, np.radians(60 / 3600))
    coarse.add(OB["uvw"], OB["freq"], weight)
    coarse.finalize(-2)
    out = coarse.apply(OB["uvw"], OB["freq"], weight)
    waves = np.abs(OB["uvw"][:, :, None, :2] * OB["freq"][:, None] / oracle.C).max(-1)
    beyond = np.rint(waves * 64 * coarse.cell) > 32
    assert beyond.any() and np.array_equal(out == 0, beyond)
    with pytest.raises(ImagingError, match="merged"):
        coarse.merge(full)


def test_uv_mask():
    uv = np.hypot(OB["uvw"][..., 0], OB["uvw"][..., 1])
    mask = uv_mask(OB["uvw"], 500.0, 5000.0)
    assert mask.any() and not mask.all()
    assert uv[mask].min() >= 500 and uv[mask].max() <= 5000
    assert ((uv[~mask] < 500) | (uv[~mask] > 5000)).all()


def test_taper_convolves_with_a_gaussian():
    """The Fourier transform of the taper has the width asked for."""
    fwhm = np.radians(20 / 3600)
    u = np.linspace(-6e4, 6e4, 4001)
    uvw = np.stack([u * oracle.C / 1.4e8, 0 * u, 0 * u], -1)
    taper = gaussian_taper(uvw, [1.4e8], fwhm)[:, 0]
    response = [(taper * np.cos(2 * np.pi * u * x)).sum() for x in (0, fwhm / 2, -fwhm / 2)]
    assert np.allclose(np.array(response[1:]) / response[0], 0.5, atol=1e-3)
