"""Deconvolution against skies whose truth is known: dirty images are made by convolution here."""

from __future__ import annotations

import gc
import weakref

import numpy as np
import pytest
from scipy.signal import fftconvolve

from ddfpipe.errors import ImagingError
from ddfpipe.imaging.clean import CleanOptions, deconvolve
from ddfpipe.imaging.footprint import spread
from ddfpipe.imaging.minorcycle import fit_spectrum
from ddfpipe.imaging.multiscale import default_scales, scale_kernel

N = 384
BEAM = 4.0


def synthesis_psf(n: int, stretch: float = 1.0, squash: float = 0.8) -> np.ndarray:
    """PSF (n, n) of elliptical uv tracks: positive semidefinite, with real sidelobes."""
    rng = np.random.default_rng(5)
    grid = np.zeros((n, n))
    radius = np.maximum(np.abs(rng.normal(0, 1, 300)) * n / BEAM * 0.37 * stretch, 1.0)
    start = rng.uniform(0, 2 * np.pi, radius.size)
    angle = np.linspace(0, np.pi, 400)
    u = np.rint(radius[:, None] * np.cos(angle + start[:, None])).astype(int).ravel()
    v = np.rint(squash * radius[:, None] * np.sin(angle + start[:, None])).astype(int).ravel()
    ok = (np.abs(u) < n // 2) & (np.abs(v) < n // 2)
    for sign in (1, -1):
        np.add.at(grid, (sign * v[ok] % n, sign * u[ok] % n), 1.0)
    grid /= 1.0 + 0.1 * grid
    psf = np.fft.fftshift(np.fft.ifft2(grid).real)
    return (psf / psf.max()).astype(np.float32)


PSF = synthesis_psf(N)
PSF_B = synthesis_psf(N, stretch=1.1)
PSF_C = synthesis_psf(N, squash=0.6)


def convolve(sky: np.ndarray, psf: np.ndarray) -> np.ndarray:
    half, shape = psf.shape[0] // 2, sky.shape
    full = fftconvolve(sky, psf, mode="full")
    return full[half:half + shape[0], half:half + shape[1]].astype(np.float32)


def psf_noise(psf: np.ndarray, sigma: float, seed: int) -> np.ndarray:
    """Noise with the PSF's power spectrum, as in a naturally weighted image."""
    white = np.fft.fft2(np.random.default_rng(seed).normal(size=psf.shape))
    power = np.maximum(np.fft.fft2(np.fft.ifftshift(psf)).real, 0.0)
    noise = np.fft.ifft2(white * np.sqrt(power)).real
    return (sigma * noise / noise.std()).astype(np.float32)


def disc(y: float, x: float, radius: float, n: int = N) -> np.ndarray:
    yy, xx = np.mgrid[:n, :n]
    return np.hypot(yy - y, xx - x) <= radius


def gaussian(y: float, x: float, flux: float, fwhm: float, n: int = N) -> np.ndarray:
    yy, xx = np.mgrid[:n, :n]
    out = np.exp(-0.5 * ((yy - y) ** 2 + (xx - x) ** 2) / (fwhm / 2.3548) ** 2)
    return flux * out / out.sum()


def run(residual, psf, mask, **more):
    options = more.pop("options", CleanOptions())
    n_band, ny, nx = residual.shape
    return deconvolve(
        residual=residual, psf=psf, facet_map=more.pop("facet_map", np.zeros((ny, nx), np.int16)),
        mask=mask, norm=more.pop("norm", None),
        band_freq=more.pop("band_freq", np.linspace(1.3e8, 1.5e8, n_band)),
        band_weight=more.pop("band_weight", np.ones(n_band)), options=options, **more,
    )


def whole(result) -> np.ndarray:
    """(band, ny, nx) added flux: pixels and, as footprints, points."""
    points = result.points
    return spread(points.y, points.x, points.flux, result.model.copy())


POINTS = [(200, 210, 10.0), (300, 100, 1.0), (120, 330, 0.1), (203, 222, 1.0)]


def point_sky() -> np.ndarray:
    sky = np.zeros((N, N))
    for y, x, flux in POINTS:
        sky[y, x] = flux
    return sky


def point_mask(radius: float = 5) -> np.ndarray:
    return np.any([disc(y, x, radius) for y, x, _ in POINTS], axis=0)


def test_point_sources_are_recovered_to_half_a_percent_in_every_band():
    sky, mask = point_sky(), point_mask()
    psf = np.stack([PSF, PSF_B])[None]
    residual = np.stack([convolve(sky, PSF), convolve(1.2 * sky, PSF_B)])
    residual += np.stack([psf_noise(PSF, 1e-3, 1), psf_noise(PSF_B, 1e-3, 2)])
    result = run(residual, psf, mask, noise=7e-4)
    assert result.stop_reason == "threshold" and result.threshold_reached
    for y, x, flux in POINTS[:2] + POINTS[3:]:
        near = disc(y, x, 3)
        assert abs(whole(result)[0][near].sum() / flux - 1.0) < 5e-3
        assert abs(whole(result)[1][near].sum() / (1.2 * flux) - 1.0) < 5e-3
    # The level is 10 mJy; pixels with components are cleaned on to a fifth of it.
    assert abs(whole(result)[0][disc(120, 330, 3)].sum() - 0.1) < 0.005
    assert np.all(result.model[:, ~mask] == 0.0)
    assert np.abs(result.residual[0][mask]).max() < 1.2 * result.threshold


def test_residual_is_exactly_the_dirty_image_minus_the_convolved_model():
    sky = point_sky() + gaussian(280, 280, 3.0, 25)
    dirty = convolve(sky, PSF)[None]
    result = run(dirty.copy(), PSF[None, None], point_mask(20) | disc(280, 280, 35),
                 options=CleanOptions(scales=default_scales(BEAM, 40.0), n_terms=1))
    expected = dirty[0] - convolve(whole(result)[0], PSF)
    assert np.abs(result.residual[0] - expected).max() < 5e-6 * np.abs(dirty).max() + 1e-7


def test_psfs_much_wider_than_the_image_are_used_as_far_as_they_reach():
    n = 96
    sky = gaussian(50, 40, 3.0, 10.0, n)
    sky[2, 3], sky[93, 60] = 1.0, 0.5
    dirty = convolve(sky, PSF)
    result = run(dirty[None].copy(), PSF[None, None], np.ones((n, n), bool), noise=1e-3,
                 options=CleanOptions(scales=default_scales(BEAM, 16.0), n_terms=1))
    assert result.n_components > 10
    left = dirty - convolve(whole(result)[0], PSF)
    assert np.abs(result.residual[0] - left).max() < 5e-6 * dirty.max() + 1e-7


@pytest.mark.parametrize(("fwhm", "radius"), [(15.0, 24), (45.0, 70)])
def test_extended_source_keeps_its_flux_to_two_percent(fwhm, radius):
    sky = gaussian(190, 180, 5.0, fwhm)
    sky[60, 60] = 2.0
    mask = disc(190, 180, radius) | disc(60, 60, 5)
    psf = np.stack([PSF, PSF_B])[None]
    residual = np.stack([convolve(sky, PSF), convolve(sky, PSF_B)])
    residual += np.stack([psf_noise(PSF, 5e-4, 3), psf_noise(PSF_B, 5e-4, 4)])
    result = run(residual, psf, mask, noise=4e-4,
                 options=CleanOptions(scales=default_scales(BEAM, 70.0)))
    assert result.stop_reason == "threshold"
    near = disc(190, 180, radius)
    truth = sky[near].sum()
    assert np.allclose(whole(result)[:, near].sum(axis=1), truth, rtol=0.02)
    assert np.allclose(whole(result)[:, disc(60, 60, 5)].sum(axis=1), 2.0, rtol=0.005)
    assert np.all(result.model[:, ~mask] == 0.0)


def test_every_facet_uses_its_own_psf_on_both_sides_of_a_border():
    psf = np.stack([PSF, PSF_C])[:, None]
    facet_map = np.zeros((N, N), np.int16)
    facet_map[:, 200:] = 1
    sky = np.zeros((N, N))
    sky[150, 198], sky[153, 206], sky[250, 100], sky[90, 300] = 4.0, 3.0, 1.0, 1.0
    residual = sum(convolve(np.where(facet_map == f, sky, 0.0), psf[f, 0]) for f in (0, 1))[None]
    mask = np.any([disc(y, x, 4) for y, x in np.argwhere(sky)], axis=0)
    own = run(residual.copy(), psf, mask, facet_map=facet_map, options=CleanOptions(rms_factor=0))
    for y, x in np.argwhere(sky):
        assert abs(whole(own)[0][disc(y, x, 3)].sum() / sky[y, x] - 1.0) < 4e-3
    # With one PSF for all the residual cannot go below the difference between PSFs.
    same = run(residual.copy(), psf[:1], mask, options=CleanOptions(rms_factor=0))
    assert own.residual.std() < 0.3 * same.residual.std()


def test_smeared_psf_gives_unsmeared_flux():
    psf = (0.7 * PSF)[None, None]
    residual = convolve(point_sky(), psf[0, 0])[None]
    result = run(residual, psf, point_mask(), options=CleanOptions(rms_factor=0))
    assert abs(whole(result)[0][disc(200, 210, 3)].sum() / 10.0 - 1.0) < 5e-3


def test_spectra_are_fitted_to_intrinsic_flux():
    """One term: flat intrinsic spectrum, so the bands' apparent fluxes are in the ratio of norm."""
    norm = np.stack([np.full((N, N), 0.9), np.full((N, N), 0.6)]).astype(np.float32)
    sky = point_sky()
    residual = np.stack([convolve(sky * n, PSF) for n in norm])
    residual[1] += psf_noise(PSF, 2e-2, 8)
    psf = np.stack([PSF, PSF])[None]
    result = run(residual, psf, point_mask(), norm=norm, noise=0.01,
                 options=CleanOptions(n_terms=1))
    used = whole(result)[0] > 0
    assert np.allclose(whole(result)[1][used] / whole(result)[0][used], 0.6 / 0.9, rtol=1e-3)
    assert abs((whole(result)[0] / 0.9)[disc(200, 210, 3)].sum() / 10 - 1) < 5e-3


def test_spectral_fit_weights_bands_by_their_information():
    out = np.empty(3)
    slope = np.array([-0.1, 0.0, 0.1])
    centre, norm, weight = np.array([1.0, 0.9, 0.8]), np.array([0.5, 1.0, 0.7]), np.ones(3) / 3
    truth = 2.0 + 3.0 * slope
    fit_spectrum(centre * norm * truth, centre, norm, weight, slope, 2, out)
    assert np.allclose(out, truth)
    design = (centre * norm)[:, None]
    values = np.array([1.0, 2.0, 0.5])
    w = np.diag(weight / centre)
    fit_spectrum(values, centre, norm, weight, slope, 1, out)
    assert np.allclose(out, np.linalg.solve(design.T @ w @ design, design.T @ w @ values))


def test_same_result_for_any_number_of_threads():
    facet_map = (np.arange(N)[:, None] // 130 * 3 + np.arange(N)[None] // 130).astype(np.int16)
    psf = np.stack([PSF] * 5 + [PSF_C] * 4)[:, None]
    sky = point_sky() + gaussian(250, 250, 3.0, 20)
    dirty = convolve(sky, PSF)[None] + psf_noise(PSF, 1e-3, 9)[None]
    mask = point_mask() | disc(250, 250, 30)
    options = CleanOptions(scales=(0.0, 8.0, 16.0), max_rounds=8)
    results = [run(dirty.copy(), psf, mask, facet_map=facet_map, options=options, threads=t)
               for t in (1, 2, 5)]
    for other in results[1:]:
        assert np.array_equal(other.model, results[0].model)
        assert np.array_equal(other.residual, results[0].residual)
        assert other.n_components == results[0].n_components


def test_model_stays_positive_and_a_wrong_start_model_is_corrected():
    sky, mask = point_sky(), point_mask()
    start = np.zeros((1, N, N), np.float32)
    start[0, 200, 210], start[0, 300, 100] = 12.0, 0.5
    residual = convolve(sky - start[0], PSF)[None]
    result = run(residual, PSF[None, None], mask, start_model=start, noise=1e-3,
                 options=CleanOptions(n_terms=1))
    total = start + whole(result)
    assert result.stop_reason == "threshold"
    assert (start + result.model).min() > -1e-6 and result.points.flux.min() > 0
    assert abs(total[0][disc(200, 210, 3)].sum() / 10.0 - 1.0) < 5e-3
    assert abs(total[0][disc(300, 100, 3)].sum() / 1.0 - 1.0) < 1e-2


def test_a_pixel_that_was_too_negative_is_filled_up():
    start = np.zeros((1, N, N), np.float32)
    start[0, 200, 210] = -1.0
    residual = 0.5 * convolve(-start[0], PSF)[None]
    result = run(residual, PSF[None, None], disc(200, 210, 1), start_model=start, noise=1e-3,
                 options=CleanOptions(n_terms=1, free_points=False))
    assert abs(result.model.sum() / 0.5 - 1.0) < 1e-2


def test_negative_sources_only_on_request():
    sky = np.zeros((N, N))
    sky[100, 100], sky[250, 250] = 2.0, -1.0
    mask = disc(100, 100, 4) | disc(250, 250, 4)
    dirty = convolve(sky, PSF)[None]
    positive = run(dirty.copy(), PSF[None, None], mask)
    both = run(dirty.copy(), PSF[None, None], mask, options=CleanOptions(allow_negative=True))
    assert positive.model.min() >= 0.0
    assert abs(whole(both)[0][disc(250, 250, 3)].sum() + 1.0) < 5e-3


def test_level_is_the_largest_of_the_four():
    dirty = convolve(point_sky(), PSF)[None]
    psf, mask = PSF[None, None], point_mask()

    def level(**options):
        return run(dirty.copy(), psf, mask, noise=0.01, options=CleanOptions(**options))

    assert level(rms_factor=5, peak_factor=1e-4).threshold == pytest.approx(0.05)
    result = level(rms_factor=0, peak_factor=0.2)
    assert result.threshold == pytest.approx(0.2 * result.first_peak)
    assert level(threshold=0.5).threshold == 0.5
    result = level(rms_factor=0, peak_factor=0, cycle_factor=3, patch_half=20)
    outside = np.abs(PSF.copy())
    outside[N // 2 - 20:N // 2 + 21, N // 2 - 20:N // 2 + 21] = 0
    assert result.sidelobe == pytest.approx(outside.max(), rel=1e-5)
    assert result.threshold == pytest.approx(3 * outside.max() * result.first_peak, rel=1e-5)
    assert level(threshold=100.0).stop_reason == "nothing to clean"


def test_limits_stop_the_loop():
    dirty = convolve(point_sky(), PSF)[None]
    few = run(dirty.copy(), PSF[None, None], point_mask(), options=CleanOptions(max_components=7))
    assert few.stop_reason == "components" and few.n_components == 7
    one = run(dirty.copy(), PSF[None, None], point_mask(), options=CleanOptions(max_rounds=1))
    assert one.stop_reason == "rounds" and one.n_rounds == 1 and not one.threshold_reached


def test_divergence_is_stopped_and_taken_back():
    """A PSF that is no PSF (negative main lobe beyond the centre) cannot be cleaned with."""
    wrong = -2.0 * np.ones((33, 33), np.float32)
    wrong[16, 16] = 1.0
    residual = convolve(point_sky(), PSF)[None]
    before = residual.copy()
    result = run(residual, wrong[None, None], point_mask(8), options=CleanOptions(patch_half=2))
    assert result.stop_reason in ("diverging", "stalled")
    assert np.abs(result.residual).max() <= 1.2 * np.abs(before).max()


def test_blanked_pixels_are_left_alone():
    residual = convolve(point_sky(), PSF)[None]
    residual[0, :40] = np.nan
    residual[0, 200, 214] = np.nan
    result = run(residual, PSF[None, None], point_mask(),
                 options=CleanOptions(scales=(0.0, 8.0), rms_factor=0))
    assert np.isfinite(whole(result)).all()
    assert abs(whole(result)[0][disc(200, 210, 3)].sum() / 10.0 - 1.0) < 5e-3


def test_images_go_when_nobody_needs_them():
    """Not only when Python looks for circles of references, which it seldom does."""
    dirty = convolve(point_sky(), PSF)[None].copy()
    kept = weakref.ref(dirty)
    gc.collect()
    gc.disable()
    try:
        result = run(dirty, PSF[None, None], point_mask())
        assert result.points.size
        model = weakref.ref(result.model)
        del dirty, result
        assert kept() is None and model() is None
    finally:
        gc.enable()


def test_progress_is_reported_and_may_stop():
    seen = []
    dirty = convolve(point_sky(), PSF)[None]
    result = run(dirty.copy(), PSF[None, None], point_mask(), progress=lambda *a: seen.append(a))
    assert seen[-1][0] == result.n_components and seen[-1][1] < result.threshold
    assert len(seen) == result.n_rounds

    def stop(*_):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(dirty.copy(), PSF[None, None], point_mask(), progress=stop)


@pytest.mark.parametrize("wrong", [
    {"gain": 0.0}, {"scales": ()}, {"scales": (-1.0,)}, {"n_terms": 3}, {"rms_factor": -1.0},
    {"depth": 1.0}, {"patch_half": 1},
])
def test_bad_options_are_refused(wrong):
    with pytest.raises(ImagingError, match="options"):
        CleanOptions(**wrong)


def test_arrays_that_do_not_fit_are_refused():
    dirty = convolve(point_sky(), PSF)[None]
    with pytest.raises(ImagingError, match="mask"):
        run(dirty.copy(), PSF[None, None], np.ones((3, 3), bool))
    with pytest.raises(ImagingError, match="facet 4"):
        run(dirty.copy(), PSF[None, None], None, facet_map=np.full((N, N), 4, np.int16))
    with pytest.raises(ImagingError, match="float32"):
        run(dirty.astype(float), PSF[None, None], None)
    with pytest.raises(ImagingError, match="psf"):
        run(np.repeat(dirty, 2, axis=0), PSF[None, None], None)


def test_scale_kernels_have_unit_sum_and_the_width_asked_for():
    for scale in (8.0, 30.0):
        kernel = scale_kernel(scale).astype(float)
        half = kernel.shape[0] // 2
        profile = kernel[half, half:] / kernel[half, half]
        width = 2 * np.interp(-0.5, -profile, np.arange(profile.size))
        assert kernel.sum() == pytest.approx(1.0, abs=1e-5)
        assert width == pytest.approx(scale, rel=0.02)
    assert default_scales(4.0, 33.0) == (0.0, 4.0, 8.0, 16.0, 32.0)
    assert default_scales(4.0, 33.0, 2.0) == (0.0, 8.0, 16.0, 32.0)
