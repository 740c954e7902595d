"""The joint fit of islands against dense algebra, and on skies whose truth is known."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import binary_dilation, gaussian_filter
from test_clean import BEAM, PSF, PSF_B, PSF_C, N, convolve, disc, gaussian, psf_noise, run, whole

from ddfpipe.imaging import islandfit
from ddfpipe.imaging.clean import CleanOptions
from ddfpipe.imaging.islandfit import Normal, islands_of, solve
from ddfpipe.imaging.multiscale import default_scales
from ddfpipe.units import FWHM_TO_SIGMA

NOISE = 1e-3
WEIGHT, SLOPE = np.array([0.4, 0.6]), np.array([-0.12, 0.08])


def small_island(seed: int = 3):
    """(Normal, residual (2, 7, 9), model (7, 9)) of an island with a corner left out."""
    rng = np.random.default_rng(seed)
    support = np.ones((7, 9), bool)
    support[:3, :4] = False
    tau = np.stack([rng.uniform(0.5, 2.0, (7, 9)), rng.uniform(1.0, 5.0, (7, 9))]) * support
    norm = np.stack([np.full((7, 9), 0.9), np.full((7, 9), 0.6)])
    normal = Normal(np.stack([PSF, PSF_B]), 1e-3 * tau, norm, WEIGHT, SLOPE)
    residual = np.stack([convolve(rng.normal(size=(7, 9)) * 1e-2, p) for p in (PSF, PSF_B)])
    return normal, residual.astype(float), 3e-3 * rng.uniform(0.0, 1.0, (7, 9)) * support


def dense(normal: Normal, noise: float, residual) -> np.ndarray:
    """(band, h, w) the solution by a matrix; operators written out with sums over pixels."""
    h, w = normal.shape
    y, x = (v.ravel() for v in np.mgrid[:h, :w])
    dy, dx = (N // 2 + v[:, None] - v[None] for v in (y, x))
    size, left, right = h * w, 0.0, 0.0
    for b, psf in enumerate((PSF, PSF_B)):
        basis = np.concatenate([np.diag(normal.basis[t, b].ravel()) for t in (0, 1)], axis=1)
        left = left + WEIGHT[b] * basis.T @ psf[dy, dx].astype(float) @ basis
        right = right + WEIGHT[b] * basis.T @ residual[b].ravel()
    c = np.linalg.solve(left + noise**2 * np.eye(2 * size), right)
    return normal.flux(c.reshape(2, h, w))


def test_solution_is_that_of_the_matrix(monkeypatch):
    monkeypatch.setattr(islandfit, "STEPS", 400)
    normal, residual, _ = small_island()
    found = solve(normal, residual, None, NOISE, 0.0)
    expected = dense(normal, NOISE, residual)
    assert np.abs(found - expected).max() < 1e-4 * np.abs(expected).max()
    assert np.all(found[:, :3, :4] == 0.0)


def test_spectra_are_those_of_intrinsic_flux():
    """With a flat spectrum alone the bands' fluxes are in the ratio of norm."""
    normal, residual, _ = small_island()
    flat = Normal(np.stack([PSF, PSF_B]), normal.basis[:1, 0] / (0.9 / 0.72), np.stack(
        [np.full((7, 9), 0.9), np.full((7, 9), 0.6)]), WEIGHT, SLOPE)
    found = solve(flat, residual, None, NOISE, 0.0)
    used = found[0] != 0
    assert used.any() and np.allclose(found[1][used] / found[0][used], 0.6 / 0.9)


def test_model_stays_positive_and_the_fit_still_improves(monkeypatch):
    monkeypatch.setattr(islandfit, "STEPS", 100)
    normal, residual, model = small_island()

    def cost(flux):
        """Without the prior, which cannot be told from flux alone; T is large here."""
        return -normal.product(flux, residual - 0.5 * normal.seen(flux))

    free = np.tensordot(WEIGHT, solve(normal, residual, None, NOISE, 0.0), 1)
    assert (model + free).min() < -1e-4
    found = solve(normal, residual, model, NOISE, 0.0)
    assert (model + np.tensordot(WEIGHT, found, 1)).min() > -1e-12
    # the best of all that is positive is better than the free one cut at zero
    total = np.maximum(free, -model)
    cut = solve(normal, residual, None, NOISE, 0.0) * np.where(
        free < 0, total / np.where(free < 0, free, 1.0), 1.0)
    assert cost(found) < min(cost(cut), 0.0)


def test_islands_hold_every_pixel_once_and_are_cut_into_tiles():
    mask = disc(100, 90, 60) | disc(100, 320, 30) | disc(260, 250, 1)
    mask[255:258, 0:N] = True
    count = np.zeros((N, N), int)
    for island in islands_of(mask):
        count[island.box] += island.support
        rows, cols = island.box
        assert rows.start // islandfit.TILE == (rows.stop - 1) // islandfit.TILE
        assert cols.start // islandfit.TILE == (cols.stop - 1) // islandfit.TILE
        assert island.support.any(axis=1).all() and island.support.any(axis=0).all()
    assert np.array_equal(count, mask.astype(int))
    assert islands_of(np.zeros((5, 5), bool)) == []


def double_sky() -> np.ndarray:
    """Two lobes of a beam and a bridge, and a smooth halo; peaks of 1500 and 80 sigma."""
    return 5 * (gaussian(150, 150, 1.0, 4.0) + gaussian(158, 161, 0.6, 5.0)
                + gaussian(154, 155, 0.3, 9.0) + gaussian(260, 250, 3.0, 30.0))


DOUBLE, HALO = disc(154, 155, 12), disc(260, 250, 36)


def imaged(sky, *psfs, seed: int):
    return np.stack([convolve(sky, p) + psf_noise(p, 1.4 * NOISE, seed + k)
                     for k, p in enumerate(psfs)])


@pytest.fixture(scope="module")
def fitted():
    """Results without and with the fit on two realisations of the noise."""
    out = []
    for seed in (11, 21):
        dirty = imaged(double_sky(), PSF, PSF_B, seed=seed)
        out.append([run(dirty.copy(), np.stack([PSF, PSF_B])[None], DOUBLE | HALO, noise=NOISE,
                        options=CleanOptions(scales=default_scales(BEAM, 40.0), fit_islands=fit))
                    for fit in (False, True)])
    return out


def test_fit_brings_flux_and_residual_closer_to_the_truth(fitted):
    sky, parts = double_sky(), (DOUBLE, HALO)
    left = np.array([[result.residual.mean(axis=0)[DOUBLE].std() / NOISE for result in pair]
                     for pair in fitted])
    miss = np.array([[[abs(whole(result)[:, part].sum() / 2 / sky[part].sum() - 1)
                       for part in parts] for result in pair] for pair in fitted])
    assert (left[:, 1] < 0.8 * left[:, 0]).all() and (left[:, 1] < 1.0).all()
    assert (miss[:, 1] < 0.9 * miss[:, 0]).all() and miss[:, 1].max() < 6e-3


def test_fit_keeps_to_the_mask_and_its_residual_is_exact(fitted):
    result = fitted[0][1]
    assert np.all(result.model[:, ~(DOUBLE | HALO)] == 0.0)
    assert np.tensordot([0.5, 0.5], result.model, 1).min() > -1e-7
    dirty = imaged(double_sky(), PSF, PSF_B, seed=11)
    for b, psf in enumerate((PSF, PSF_B)):
        expected = dirty[b] - convolve(whole(result)[b], psf)
        assert np.abs(result.residual[b] - expected).max() < 5e-6 * dirty.max() + 1e-7


def test_noise_about_a_source_adds_no_flux():
    """Pixels that could not become negative would hold noise, and the residual would lack it."""
    sky = gaussian(150, 150, 1.0, 4.0) + gaussian(158, 161, 0.6, 5.0) + gaussian(154, 155, 0.3, 9.0)
    seen = gaussian_filter(sky, BEAM * FWHM_TO_SIGMA) * 1.1331 * BEAM**2
    near = binary_dilation(seen > 0.1 * seen.max(), iterations=3)
    left = []
    for seed in (11, 21, 31):
        options = CleanOptions(scales=default_scales(BEAM, 20.0), allow_negative=True)
        result = run(imaged(sky, PSF, PSF_B, seed=seed), np.stack([PSF, PSF_B])[None],
                     seen > 3 * NOISE, noise=NOISE, options=options)
        left.append(result.residual.mean(axis=0)[near].sum() / seen.sum())
    assert abs(np.mean(left)) < 1e-3


def test_faint_islands_stay_as_they_are():
    sky = gaussian(150, 150, 15 * NOISE, 5.0)
    dirty = imaged(sky, PSF, seed=5)
    mask = disc(150, 150, 9)
    results = [run(dirty.copy(), PSF[None, None], mask, noise=NOISE,
                   options=CleanOptions(scales=default_scales(BEAM, 8.0), fit_islands=fit))
               for fit in (False, True)]
    assert results[0].n_components > 0
    assert np.array_equal(results[0].model, results[1].model)


def test_islands_side_by_side_do_not_disturb_one_another():
    """A halo cut into strips with gaps of a pixel: each alone would take the whole residual."""
    mask = HALO.copy()
    mask[:, ::4] = False
    dirty = imaged(gaussian(260, 250, 15.0, 30.0), PSF, seed=6)
    before, after = (run(dirty.copy(), PSF[None, None], mask, noise=NOISE, options=CleanOptions(
        scales=default_scales(BEAM, 16.0), fit_islands=fit)).residual[0] for fit in (False, True))
    assert len(islands_of(mask)) > 15
    assert after[mask].std() < 1.05 * before[mask].std()


def test_facets_threads_and_negative_models():
    facet_map = np.zeros((N, N), np.int16)
    facet_map[:, 155:] = 1
    psf = np.stack([PSF, PSF_C])[:, None]
    sky = 0.2 * double_sky() - 0.5 * gaussian(60, 300, 1.0, 6.0)
    dirty = sum(convolve(np.where(facet_map == f, sky, 0.0), psf[f, 0]) for f in (0, 1))
    dirty = (dirty + psf_noise(PSF, NOISE, 7))[None]
    mask = DOUBLE | HALO | disc(60, 300, 12)
    results = [run(dirty.copy(), psf, mask, facet_map=facet_map, noise=NOISE, threads=threads,
                   options=CleanOptions(scales=default_scales(BEAM, 40.0), allow_negative=True))
               for threads in (1, 3)]
    assert np.array_equal(results[0].model, results[1].model)
    assert np.array_equal(results[0].residual, results[1].residual)
    assert abs(whole(results[0])[0][disc(60, 300, 12)].sum() / -0.5 - 1) < 0.02
    assert results[0].residual[0][DOUBLE].std() < 1.3 * NOISE
