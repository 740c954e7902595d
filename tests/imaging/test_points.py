"""Points between pixels: footprints, and finding points in residuals of known skies."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_clean import BEAM, N, PSF, PSF_B, PSF_C, disc, gaussian, psf_noise, run, whole

from ddfpipe.imaging.clean import CleanOptions
from ddfpipe.imaging.footprint import HALF, WIDTH, footprint, spread
from ddfpipe.imaging.multiscale import default_scales
from ddfpipe.imaging.points import Points, spaced
from ddfpipe.imaging.restore import add_points, restore

PLACES = [(200.31, 210.44, 10.0), (300.5, 100.5, 1.0), (120.13, 329.62, 0.1), (224.7, 182.2, 3.0)]


def shifted(psf: np.ndarray, y: float, x: float) -> np.ndarray:
    """PSF (N, N) of a source at (y, x), by the shift theorem: nothing of the package."""
    fy, fx = np.fft.fftfreq(N)[:, None], np.fft.fftfreq(N)[None]
    phase = np.exp(-2j * np.pi * (fy * (y - N // 2) + fx * (x - N // 2)))
    return np.fft.ifft2(np.fft.fft2(psf.astype(float)) * phase).real


def dirty_image(psf, places=PLACES, ratio: float = 1.0) -> np.ndarray:
    return sum(ratio * flux * shifted(psf, y, x) for y, x, flux in places).astype(np.float32)


def mask_of(places=PLACES, radius: float = 7) -> np.ndarray:
    return np.any([disc(y, x, radius) for y, x, _ in places], axis=0)


def match(points: Points, places=PLACES) -> np.ndarray:
    """(place, 2 + band) offset y, offset x, fluxes of the nearest point of every place."""
    rows = []
    for y, x, _ in places:
        k = np.argmin(np.hypot(points.y - y, points.x - x))
        rows.append([points.y[k] - y, points.x[k] - x, *points.flux[:, k]])
    return np.array(rows)


@settings(max_examples=40, deadline=None)
@given(st.floats(-0.5, 0.5), st.floats(0.0, 0.37))
def test_footprints_carry_waves(offset, cycles):
    """A wave of so many cycles a pixel, summed with the weights, is the wave at the place."""
    w, dw = np.empty(WIDTH), np.empty(WIDTH)
    footprint(offset, w, dw)
    at = np.arange(-HALF, HALF + 1)
    wave = np.exp(2j * np.pi * cycles * at)
    exact = np.exp(2j * np.pi * cycles * offset)
    assert abs(wave @ w - exact) < 3e-4
    assert abs(wave @ dw - 2j * np.pi * cycles * exact) < 3e-3
    assert w.sum() == pytest.approx(1.0, abs=1e-12) and abs(dw.sum()) < 1e-12


def test_a_source_on_a_pixel_is_that_pixel():
    image = spread([5.0, 7.3], [6.0, 3.2], np.ones((2, 2)), np.zeros((2, 40, 40), np.float32))
    alone = spread([7.3], [3.2], np.ones((1, 1)), np.zeros((1, 40, 40), np.float32))
    assert image[0, 5, 6] - alone[0, 5, 6] == pytest.approx(1.0, abs=1e-6)
    assert np.array_equal(image[0], image[1])
    outside = spread([-3.0, 100.5], [5.0, 5.5], np.ones((1, 2)), np.zeros((1, 40, 40), np.float32))
    assert not outside.any()


def test_sources_between_pixels_are_recovered_exactly():
    """Two bands, four sources over two decades: those of 1 Jy and more to 4e-4 beams, 5e-4."""
    psf = np.stack([PSF, PSF_B])[None]
    residual = np.stack([dirty_image(PSF), dirty_image(PSF_B, ratio=1.2)])
    result = run(residual, psf, mask_of(), options=CleanOptions(rms_factor=0))
    found = match(result.points)
    flux = np.array([f for *_, f in PLACES])
    bright = flux >= 1
    assert np.abs(found[bright, :2]).max() < 4e-4 * BEAM
    # 0.1 Jy, ten times the level: residuals of the others are next to it
    assert np.abs(found[:, :2]).max() < 0.02 * BEAM
    assert np.abs(found[:, 2:] / flux[:, None] / [1.0, 1.2] - 1).max() < 0.02
    assert np.abs(found[bright, 2:] / flux[bright, None] / [1.0, 1.2] - 1).max() < 5e-4
    # beyond half its width from a source the PSF patch ends
    assert np.abs(residual[:, disc(200, 210, 100)]).max() < 2e-3 * 10
    assert np.count_nonzero(result.model) < 20


def test_without_free_points_rings_are_left():
    residual = dirty_image(PSF)[None]
    options = CleanOptions(rms_factor=0, n_terms=1, free_points=False)
    result = run(residual, PSF[None, None], mask_of(), options=options)
    assert result.points.size == 0 and np.abs(residual).max() > 0.01 * 10


def test_a_second_cycle_starts_from_points_and_improves_them():
    """Points of a worse first guess follow what is left of them."""
    truth = dirty_image(PSF)
    start = Points(np.array([200.1, 300.5]), np.array([210.5, 100.4]), np.array([[9.0, 1.2]]))
    places = list(zip(start.y, start.x, start.flux[0]))
    residual = (truth - dirty_image(PSF, places))[None]
    result = run(residual, PSF[None, None], mask_of(), start_points=start,
                 options=CleanOptions(rms_factor=0, n_terms=1))
    found = match(result.points)
    assert result.points.size == len(PLACES)
    assert np.abs(found[:2, :2]).max() < 2e-3 and np.abs(found[:2, 2] / [10, 1] - 1).max() < 1e-3


def test_pixels_of_a_start_model_give_way_to_points():
    start = np.zeros((1, N, N), np.float32)
    start[0, 200:202, 210:212] = 2.4
    pixels = [(float(y), float(x), 2.4) for y in (200, 201) for x in (210, 211)]
    residual = (dirty_image(PSF) - dirty_image(PSF, pixels))[None]
    result = run(residual, PSF[None, None], mask_of(), start_model=start,
                 options=CleanOptions(rms_factor=0, n_terms=1))
    assert np.abs(start + result.model)[0, 195:206, 205:216].max() < 1e-2
    assert match(result.points)[0, 2] == pytest.approx(10.0, rel=1e-3)


def test_extended_sources_stay_on_pixels():
    """They are no worse than without any points, and a point next to them is one."""
    sky = gaussian(190, 180, 5.0, 12.0) + gaussian(90, 250, 1.0, 4.0)
    dirty = np.fft.ifft2(np.fft.fft2(sky) * np.fft.fft2(np.fft.ifftshift(PSF))).real
    residual = (dirty + dirty_image(PSF, PLACES[1:2]) + psf_noise(PSF, 5e-4, 3))
    mask = disc(190, 180, 20) | disc(90, 250, 10) | mask_of(PLACES[1:2])
    results = [
        run(residual.astype(np.float32)[None], PSF[None, None], mask,
            options=CleanOptions(scales=default_scales(BEAM, 40.0), n_terms=1, free_points=free))
        for free in (True, False)
    ]
    with_points, without = results
    assert match(with_points.points, PLACES[1:2])[0, 2] == pytest.approx(1.0, rel=5e-3)
    elsewhere = with_points.points.select(np.abs(with_points.points.x - 100) > 20)
    assert elsewhere.flux.sum() < 0.02 * 6
    for y, x, radius in ((190, 180, 20), (90, 250, 10)):
        near = disc(y, x, radius)
        new, old = (whole(r)[0][near].sum() / sky[near].sum() for r in results)
        assert abs(new - 1) < max(1.2 * abs(old - 1), 0.01)
    assert with_points.residual.std() < without.residual.std()


def test_noise_is_not_turned_into_points():
    """Every pixel may be cleaned; nothing but noise: no point; a 20 sigma source: one."""
    noise = psf_noise(PSF, 1e-3, 11)
    everywhere = np.ones((N, N), bool)
    options = CleanOptions(rms_factor=2, n_terms=1)
    alone = run(noise.copy()[None], PSF[None, None], everywhere, options=options)
    assert alone.points.size == 0
    place = [(150.4, 170.3, 0.02)]
    with_source = (noise + dirty_image(PSF, place))[None]
    result = run(with_source, PSF[None, None], everywhere, options=options)
    assert result.points.size == 1
    found = match(result.points, place)[0]
    assert np.hypot(*found[:2]) < 0.2 and abs(found[2] / 0.02 - 1) < 0.12


def test_facets_use_their_own_psf_for_points():
    psf = np.stack([PSF, PSF_C])[:, None]
    facet_map = np.zeros((N, N), np.int16)
    facet_map[:, 200:] = 1
    places = [(150.4, 190.3, 4.0), (153.2, 206.6, 3.0)]
    residual = (dirty_image(PSF, places[:1]) + dirty_image(PSF_C, places[1:]))[None]
    result = run(residual, psf, mask_of(places, 4), facet_map=facet_map,
                 options=CleanOptions(rms_factor=0))
    found = match(result.points, places)
    assert np.abs(found[:, :2]).max() < 2e-3
    assert np.abs(found[:, 2] / [4, 3] - 1).max() < 1e-3


def test_any_number_of_threads_finds_the_same_points():
    dirty = dirty_image(PSF) + psf_noise(PSF, 1e-3, 5)
    results = [run(dirty.copy()[None], PSF[None, None], mask_of(), threads=t,
                   options=CleanOptions(n_terms=1)) for t in (1, 3)]
    for name in ("y", "x", "flux"):
        assert np.array_equal(*(getattr(r.points, name) for r in results))
    assert np.array_equal(results[0].residual, results[1].residual)


def test_blanked_pixels_and_borders_make_no_points():
    places = [(3.4, 200.2, 5.0), (200.3, 210.4, 5.0)]
    residual = dirty_image(PSF, places)[None]
    residual[0, 205, 215] = np.nan
    result = run(residual, PSF[None, None], mask_of(places),
                 options=CleanOptions(rms_factor=0, n_terms=1))
    assert result.points.size == 0 and np.isfinite(result.model).all()


def test_spaced_places_prefer_the_important():
    y, x = np.array([10.0, 11.0, 30.0, 32.9]), np.array([10.0, 12.0, 30.0, 30.0])
    assert set(spaced(y, x, [1.0, 2.0, 5.0, 4.0], 3.0).tolist()) == {1, 2}
    assert set(spaced(y, x, [1.0, 2.0, 5.0, 4.0], 1.0).tolist()) == {0, 1, 2, 3}


def test_restored_points_are_gaussians_at_their_place():
    beam, cell = (5e-5, 3e-5, 0.7), 1e-5
    y, x = 30.3, 41.8
    image = add_points(np.array([y, 2.0]), np.array([x, 90.0]), np.array([2.0, 1.0]), beam, cell,
                       np.zeros((60, 80), np.float32))
    yy, xx = np.mgrid[:60, :80]
    total = image[:, :70].sum()
    assert total == pytest.approx(2.0 * np.pi * 15 / (4 * np.log(2)), rel=2e-3)
    assert (image * yy).sum() / image.sum() == pytest.approx(y, abs=0.01)
    assert (image * xx).sum() / image.sum() == pytest.approx(x, abs=0.01)
    model = np.zeros((60, 80), np.float32)
    model[20, 30] = 1.5
    pixel = restore(model, np.zeros_like(model), beam, cell)
    point = restore(np.zeros_like(model), np.zeros_like(model), beam, cell,
                    points=([20.0], [30.0], [1.5]))
    assert np.abs(pixel - point).max() < 1e-4
