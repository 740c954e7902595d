"""The fitted beam recovers Gaussians and the PSFs of real layouts."""

from __future__ import annotations

import numpy as np
import oracle
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ddfpipe.errors import ImagingError
from ddfpipe.imaging.facets import regular_facets
from ddfpipe.imaging.gridding import vis_to_facet
from ddfpipe.imaging.psf import fit_beam, gaussian_beam, psf_samples, psf_vis

CELL = np.radians(1.5 / 3600)


def apart(a, b):
    """Difference of two position angles, modulo pi."""
    return abs((a - b + np.pi / 2) % np.pi - np.pi / 2)


@settings(max_examples=40, deadline=None)
@example(minor=1.625, ratio=2.5, pa=0.25, scale=1.0)  # seven pixels of the lobe on one line
@given(minor=st.floats(1.6, 8), ratio=st.floats(1.05, 3), pa=st.floats(0, np.pi),
       scale=st.floats(1e-3, 1e6))
def test_fit_recovers_gaussians(minor, ratio, pa, scale):
    beam = gaussian_beam((128, 96), CELL, minor * ratio * CELL, minor * CELL, pa)
    a, b, got = fit_beam(scale * beam, CELL)
    assert a == pytest.approx(minor * ratio * CELL, rel=1e-4)
    assert b == pytest.approx(minor * CELL, rel=1e-4)
    assert apart(got, pa) < 1e-3 and 0 <= got <= np.pi


def test_position_angle_is_north_through_east():
    """pa = 30 degrees: the ridge runs to the north-east, which is up and left."""
    beam = gaussian_beam((64, 64), CELL, 12 * CELL, 4 * CELL, np.radians(30))
    up_left = beam[32 + round(6 * np.cos(np.pi / 6)), 32 - round(6 * np.sin(np.pi / 6))]
    up_right = beam[32 + round(6 * np.cos(np.pi / 6)), 32 + round(6 * np.sin(np.pi / 6))]
    assert up_left > 0.4 > 0.15 > up_right
    assert beam[32, 32] == 1 and beam[32 + 6, 32] < beam[32, 32]


def test_fit_to_a_real_psf():
    """Fit near the half-power contour of an interferometer's PSF, side lobes ignored."""
    ob = oracle.observation(n_ant=20, n_time=60, dt=300.0, n_chan=2)
    f = regular_facets(npix=256, cell=CELL, max_size_rad=1).facets[0]
    vis = psf_vis(ob["uvw"], ob["freq"], f.l0, f.m0, np.complex128)
    psf = vis_to_facet(uvw=ob["uvw"], freq=ob["freq"], vis=vis, facet=f, cell=CELL)
    assert psf[128, 128] == pytest.approx(vis.size, rel=1e-6) == psf.max()
    psf /= psf.max()
    major, minor, pa = fit_beam(psf, CELL)
    near = (psf > 0.4) & (np.hypot(*(np.mgrid[:256, :256] - 128)) < 3 * major / CELL)
    model = gaussian_beam(psf.shape, CELL, major, minor, pa)
    assert np.sqrt(np.mean((psf - model)[near] ** 2)) < 0.06
    assert 1.5 * CELL < minor <= major


def test_shifted_psf_vis():
    ob = oracle.observation(n_time=2)
    got = psf_vis(ob["uvw"], ob["freq"], 0.02, -0.03)
    want = oracle.vis_of_points(ob["uvw"], ob["freq"], [0.02], [-0.03], [1])
    assert got.dtype == np.complex64 and abs(got - want).max() < 1e-6
    waves = (ob["uvw"][..., None, :] * ob["freq"][:, None] / oracle.C).reshape(-1, 3)
    assert abs(psf_samples(waves, 0.02, -0.03) - want.ravel()).max() < 1e-6


def test_coarse_pixels():
    """Half-power width of 1.2 pixels: fewer than six pixels lie above the level."""
    beam = gaussian_beam((64, 64), CELL, 1.3 * CELL, 1.1 * CELL, 0.4)
    a, b, pa = fit_beam(beam, CELL)
    assert a == pytest.approx(1.3 * CELL, rel=1e-3) and b == pytest.approx(1.1 * CELL, rel=1e-3)


def test_lobe_larger_than_the_first_look():
    beam = gaussian_beam((300, 300), CELL, 70 * CELL, 20 * CELL, 2.0)
    a, b, pa = fit_beam(beam, CELL)
    assert (a, b) == pytest.approx((70 * CELL, 20 * CELL), rel=1e-4) and apart(pa, 2.0) < 1e-4


def test_no_psf():
    with pytest.raises(ImagingError, match="not positive"):
        fit_beam(np.zeros((64, 64)), CELL)
    with pytest.raises(ImagingError, match="not a Gaussian"):
        fit_beam(np.ones((64, 64)), CELL)
