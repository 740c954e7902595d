"""Fluxes in the planes of made-up cubes, where true fluxes and noise are known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from ddfpipe.data.images import SkyGrid, write_image
from ddfpipe.data.model import PixelModel, save_model
from ddfpipe.errors import ImagingError
from ddfpipe.products.fluxscale.components import Deconvolution
from ddfpipe.products.fluxscale.measure import channel_fluxes
from ddfpipe.units import ARCSEC, DEGREE, FWHM_TO_SIGMA
from fluxscale_fields import CENTRE

CELL, BEAM = 4.5 * ARCSEC, 20.0 * ARCSEC
GRID = SkyGrid(*np.radians(CENTRE), 240, 240, CELL)
FREQ = np.array([125e6, 140e6, 160e6])
SCALE = np.array([0.85, 1.0, 1.2])


def spot(y, x, fwhm):
    """Gaussian of unit peak and `fwhm` rad on GRID."""
    rows, columns = np.mgrid[: GRID.ny, : GRID.nx]
    sigma = fwhm / CELL * FWHM_TO_SIGMA
    return np.exp(-((rows - y) ** 2 + (columns - x) ** 2) / (2 * sigma**2))


def make(folder, planes, mean, freq=FREQ):
    common = dict(beam=(BEAM, BEAM, 0.0))
    cube = write_image(folder / "cube.fits", planes.astype(np.float32), GRID, freq=freq, **common)
    flat = write_image(folder / "mean.fits", mean.astype(np.float32), GRID, freq=freq.mean(),
                       **common)
    return cube, flat


@pytest.fixture
def places():
    """Twenty-five places (y, x), nowhere on the centre of a pixel."""
    rng = np.random.default_rng(2)
    return np.stack(np.meshgrid(np.arange(40, 220, 40), np.arange(40, 220, 40)), -1).reshape(
        -1, 2) + rng.uniform(-0.5, 0.5, (25, 2))


def positions(places):
    return GRID.radec(*GRID.lm(*places.T))


def test_planes_off_the_common_scale_whatever_their_beam(tmp_path, places):
    """What differs from the mean has a dirty beam half as wide again as the restoring beam."""
    mean = sum(spot(y, x, BEAM) for y, x in places)
    wide = sum(spot(y, x, 1.5 * BEAM) for y, x in places)
    planes = np.stack([mean + (s - 1) * wide for s in SCALE])
    cube, flat = make(tmp_path, planes, mean)
    total = np.linspace(1.0, 2.0, 25)
    freq, flux, error = channel_fluxes(cube, flat, *positions(places), total, np.full(25, BEAM))
    np.testing.assert_array_equal(freq, FREQ)
    np.testing.assert_allclose(flux, total[:, None] * SCALE, rtol=5e-3)
    assert error.shape == (25, 3)


def test_errors_are_those_of_noise_with_a_beam(tmp_path, places):
    rng = np.random.default_rng(3)
    mean = sum(spot(y, x, BEAM) for y, x in places)
    sigma = np.array([0.01, 0.02, 0.03])
    noise = gaussian_filter(rng.standard_normal((3, 240, 240)),
                            (0, *2 * [BEAM / CELL * FWHM_TO_SIGMA]))
    noise *= (sigma / noise.std(axis=(1, 2)))[:, None, None]
    cube, flat = make(tmp_path, mean + noise, mean)
    _, flux, error = channel_fluxes(cube, flat, *positions(places), np.ones(25), np.full(25, BEAM))
    np.testing.assert_allclose(np.median(error, axis=0), sigma, rtol=0.2)
    pulls = (flux - 1) / error
    assert 0.75 < pulls.std() < 1.3 and abs(pulls.mean()) < 0.35


def test_extended_and_blank_and_absent_sources(tmp_path, places):
    size = 2 * BEAM
    mean = sum(spot(y, x, size) for y, x in places)
    planes = np.stack([s * mean for s in SCALE])
    planes[1] = np.nan
    mean[int(places[3, 0]) - 8 : int(places[3, 0]) + 9] = np.nan
    cube, flat = make(tmp_path, planes, mean)
    ra, dec = positions(np.vstack([places, [[500.0, 20.0]]]))
    _, flux, _ = channel_fluxes(cube, flat, ra, dec, np.full(26, 3.0), np.full(26, size))
    assert np.isnan(flux[:, 1]).all()
    blank = np.isnan(flux[:, 0])
    assert blank[[3, 25]].all() and blank.sum() <= 7
    np.testing.assert_allclose(flux[~blank][:, [0, 2]] / 3.0, SCALE[[[0, 2]]] * np.ones((
        (~blank).sum(), 2)), rtol=5e-3)


def test_images_on_different_grids_are_refused(tmp_path, places):
    cube, flat = make(tmp_path, np.ones((3, 240, 240)), np.ones((240, 240)))
    other = SkyGrid(GRID.ra, GRID.dec + DEGREE, 240, 240, CELL)
    write_image(flat, np.ones((240, 240)), other, freq=1.4e8, beam=(BEAM, BEAM, 0.0))
    with pytest.raises(ImagingError, match="not on one grid"):
        channel_fluxes(cube, flat, *positions(places), np.ones(25), np.full(25, BEAM))


def test_blurred_sources_have_their_flux_from_components(tmp_path, places):
    """Half of the flux in a halo at the lowest frequency, less at higher ones; wrong scales left
    in the residuals, which have a dirty beam of their own."""
    rng = np.random.default_rng(5)
    bands, reference = np.array([125e6, 160e6]), FREQ.mean()
    y, x, flux = [], [], []
    for row, column in places[::3]:
        around = rng.normal(0, 0.5 * BEAM / CELL, (40, 2))
        y += [row, *(row + around[:, 0])]
        x += [column, *(column + around[:, 1])]
        flux += [[0.5, 0.75], *[[0.5 / 40, 0.25 / 40]] * 40]
    model = PixelModel.from_points(GRID, bands, np.array(y), np.array(x),
                                   np.array(flux, np.float32).T)

    def dirty(y, x, freq):
        """The dirty beam, as much narrower as the frequency is higher."""
        scale = reference / freq
        return 0.8 * spot(y, x, 1.1 * BEAM * scale) + 0.2 * spot(y, x, 3 * BEAM * scale)

    def seen(freq, shape):
        return sum(f * shape(*at) for f, *at in zip(model.at([freq])[0], *model.place()))

    def restored(freq):
        return seen(freq, lambda y, x: spot(y, x, BEAM))

    planes = np.stack([restored(f) + (s - 1) * seen(f, lambda y, x: dirty(y, x, f))
                       for s, f in zip(SCALE, FREQ)])
    cube, flat = make(tmp_path, planes, restored(reference))
    save_model(tmp_path / "x.model.npz", model)
    write_image(tmp_path / "psf.fits", dirty(120, 120, reference), GRID, freq=reference)
    where = positions(places[::3])
    n = len(where[0])
    given = (cube, flat, *where, np.ones(n), np.full(n, 1.2 * BEAM))
    _, at_peaks, _ = channel_fluxes(*given)
    true = SCALE * [model.at([f]).sum() / n for f in FREQ]
    assert np.abs(np.median(at_peaks, axis=0) / true - 1).max() > 0.05
    components = Deconvolution.read(tmp_path / "x.model.npz", tmp_path / "psf.fits", flat)
    _, found, error = channel_fluxes(*given, components=components)
    np.testing.assert_allclose(found, true * np.ones((n, 1)), rtol=5e-3)
    assert error.shape == found.shape
    # nothing deconvolved, or a large source: peaks serve
    empty = replace(components, model=model.select(np.zeros(model.size, bool)),
                    y=np.zeros(0), x=np.zeros(0))
    np.testing.assert_array_equal(channel_fluxes(*given, components=empty)[1], at_peaks)
    large = (*given[:5], np.full(n, 3 * BEAM))
    np.testing.assert_array_equal(channel_fluxes(*large, components=components)[1],
                                  channel_fluxes(*large)[1])


def test_components_of_another_image_are_refused(tmp_path, places):
    _, flat = make(tmp_path, np.ones((3, 240, 240)), np.ones((240, 240)))
    other = SkyGrid(GRID.ra, GRID.dec, 120, 120, CELL)
    save_model(tmp_path / "x.model.npz", PixelModel.empty(other, FREQ[:2]))
    write_image(tmp_path / "psf.fits", np.ones((240, 240)), GRID, freq=1.4e8)
    with pytest.raises(ImagingError, match="not on one grid"):
        Deconvolution.read(tmp_path / "x.model.npz", tmp_path / "psf.fits", flat)
