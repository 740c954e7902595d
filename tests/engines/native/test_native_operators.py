"""The native operators against Fourier sums, their adjoints, and what they promise of PSFs."""

from __future__ import annotations

import numpy as np
import pytest
from engine_fields import (
    Listener, direct_image, make_engine, make_job, true_table, write_directions,
)

from ddfpipe.data import solutions
from ddfpipe.data.images import SkyGrid
from ddfpipe.data.model import PixelModel
from ddfpipe.engines.base import GainChoice
from ddfpipe.engines.native import operators as module
from ddfpipe.engines.native.imager import Imager
from ddfpipe.engines.native.visibilities import Scratch
from ddfpipe.units import SPEED_OF_LIGHT

NPIX, CELL = 720, 12.0


@pytest.fixture
def operators(tmp_path, monkeypatch):
    """Function that makes the Operators of a job, with a given loss by averaging."""
    scratches = []

    def make(simulation, *, loss: float, npix=NPIX, prepare=None, beam_model="none", **changes):
        monkeypatch.setattr(module, "LOSS", loss)
        engine = make_engine(tmp_path / "work", beam_model=beam_model)
        if prepare is not None:
            prepare(engine)
        defaults = dict(robust=-0.5, uv_km=(0.2, 8.0), decorrelation=False)
        job = make_job("operators", simulation, npix, CELL, **{**defaults, **changes})
        scratches.append(Scratch(tmp_path / f"scratch{len(scratches)}"))
        return Imager(engine, job, Listener())._operators(scratches[-1])

    yield make
    for scratch in scratches:
        scratch.close()


def random_model(operators, n: int, seed: int = 0) -> PixelModel:
    """`n` pixels of random sign and flat spectrum."""
    rng = np.random.default_rng(seed)
    facets, data = operators.facets, operators.data
    grid = SkyGrid(*data.phase_centre, facets.npix, facets.npix, facets.cell)
    index = np.sort(rng.choice(facets.npix**2, n, replace=False))
    flux = np.repeat(rng.normal(size=(1, n)), data.n_bands, axis=0).astype(np.float32)
    return PixelModel(grid, data.band_freq, index, flux)


def asymmetry(operators, n: int) -> float:
    """|<Ax, y> - <x, A'y>| / |Ax||y| for a random model x and random visibilities y."""
    model, data = random_model(operators, n), operators.data
    rng = np.random.default_rng(1)
    y = [
        (rng.normal(size=s.shape) + 1j * rng.normal(size=s.shape)).astype(np.complex64)
        for s in data.sets
    ]
    operators._residual = y
    image = operators.adjoint()
    predictor, left, norm_ax, norm_y = operators.predictor(model), 0.0, 0.0, 0.0
    for i, s in enumerate(data.sets):
        ax = np.zeros(s.shape, np.complex64)
        predictor.subtract(s.cache, slice(0, s.shape[0]), s.band, operators.gains[i], ax)
        ax, w = -ax.astype(np.complex128), np.asarray(s.weight, np.float64)
        left += np.sum(w * (np.conj(ax) * y[i]).real)
        norm_ax += np.sum(w * np.abs(ax) ** 2)
        norm_y += np.sum(w * np.abs(y[i]) ** 2)
    # the adjoint divides each facet by sqrt(norm times sum of weights)
    scale = np.sqrt(operators.norm * data.band_weight)
    owner = operators.facets.facet_map().ravel()[model.index]
    right = sum(
        (image[b].ravel()[model.index].astype(float) * model.flux[b] * scale[owner, b]).sum()
        for b in range(data.n_bands)
    )
    return abs(left - right) / np.sqrt(norm_ax * norm_y)


@pytest.mark.parametrize("n", [60, 3000])
def test_adjoint_without_averaging(plain, operators, n):
    """Direct sums (60 pixels) and degridding (3000) are the adjoint of gridding."""
    assert asymmetry(operators(plain[0], loss=0.0), n) < 1e-6


@pytest.mark.parametrize("n", [30, 2000])
def test_points_are_predicted_at_their_place(plain, operators, n):
    """Summed directly (30) or spread over pixels and degridded (2000): the same Fourier sum."""
    made = operators(plain[0], loss=0.0)
    data, facets = made.data, made.facets
    rng = np.random.default_rng(5)
    grid = SkyGrid(*data.phase_centre, facets.npix, facets.npix, facets.cell)
    y, x = rng.uniform(1, facets.npix - 2, (2, n))
    flux = np.repeat(rng.uniform(0.5, 1, (1, n)), data.n_bands, axis=0)
    model = PixelModel.from_points(grid, data.band_freq, y, x, flux)
    predictor = made.predictor(model)
    assert any(not part.bright.all() for part in predictor.parts) == (n > 1000)
    s = data.sets[0]
    vis = np.zeros(s.shape, np.complex64)
    predictor.add(s.cache, slice(0, s.shape[0]), s.band, made.gains[0], vis)
    l, m = -(x - facets.npix // 2) * facets.cell, (y - facets.npix // 2) * facets.cell  # noqa: E741
    lmn = np.stack([l, m, np.sqrt(1 - l**2 - m**2) - 1])
    rows = rng.choice(vis[..., 0].size, 200, replace=False)
    uvw = s.cache.uvw[:].reshape(-1, 3)[rows]
    length = np.hypot(uvw[:, 0], uvw[:, 1]) * s.cache.freq[1] / SPEED_OF_LIGHT
    uvw, rows = uvw[length < 0.4 / facets.cell], rows[length < 0.4 / facets.cell]
    true = np.exp(2j * np.pi * (uvw @ lmn) * s.cache.freq[1] / SPEED_OF_LIGHT) @ flux[0]
    assert rows.size > 100
    worst = np.abs(vis.reshape(-1, s.shape[2])[rows, 1] - true).max() / np.sqrt(n)
    assert worst < (2e-5 if n < 1000 else 1e-3)


def test_adjoint_with_averaging(plain, operators):
    assert asymmetry(operators(plain[0], loss=0.002), 60) < 3e-4


def test_adjoint_through_gains(disturbed, operators):
    """Gains of every slot and channel, amplitudes included, in Voronoi facets."""
    simulation, sources, folder = disturbed

    def prepare(engine):
        write_directions(engine.workdir, sources)
        for ms in simulation.ms:
            solutions.save_solution(
                true_table(folder, ms, sources, True), engine.solsdir, ms, "true"
            )

    made = operators(
        simulation, loss=0.0, prepare=prepare, gains=GainChoice(("true",), "AP"),
        clusters="directions.npy",
    )
    assert asymmetry(made, 300) < 1e-6
    averaged = operators(
        simulation, loss=0.002, prepare=prepare, gains=GainChoice(("true",), "AP"),
        clusters="directions.npy",
    )
    assert asymmetry(averaged, 300) < 3e-4


@pytest.mark.parametrize("loss, bound", [(0.0, 1e-5), (0.002, 1e-3)])
def test_dirty_image_against_fourier_sum(plain, operators, loss, bound):
    simulation, sources = plain
    made = operators(simulation, loss=loss)
    made.set_residual(None)
    image = made.adjoint()
    grid = SkyGrid(*made.data.phase_centre, NPIX, NPIX, made.facets.cell)
    rng = np.random.default_rng(0)
    y, x = rng.integers(0, NPIX, (2, 120))
    at = np.rint([np.ravel(grid.pixel_of(s.ra, s.dec)) for s in sources]).astype(int)
    y, x = np.append(y, at[:, 0]), np.append(x, at[:, 1])
    sets = made.data.sets
    truth = direct_image(sets, [s.vis for s in sets], *grid.lm(y, x), made.data.n_bands)
    truth /= made.data.band_weight[:, None]
    assert truth.max() > 2.5
    assert np.abs(image[:, y, x] - truth).max() < bound * truth.max()


@pytest.mark.parametrize("loss, bound", [(0.0, 1e-4), (0.002, 1e-3)])
def test_dirty_facet_three_degrees_off_axis(wide, operators, loss, bound):
    """The corner facet of a six-degree image, with a source of 8 Jy in it."""
    made = operators(wide("none")[0], loss=loss, npix=1800)
    made.set_residual(None)
    facet = max(made.facets.facets, key=lambda f: np.hypot(f.l0, f.m0))
    dirty, norm = made.dirty_facet(facet.index)
    assert np.degrees(np.hypot(facet.l0, facet.m0)) > 3
    y, x = np.random.default_rng(0).integers(0, facet.ny, (2, 60))
    peak = np.unravel_index(np.abs(dirty[0]).argmax(), dirty[0].shape)
    y, x = np.append(y, peak[0]), np.append(x, peak[1])
    grid = SkyGrid(*made.data.phase_centre, 1800, 1800, made.facets.cell)
    l, m = grid.lm(y + facet.y0, x + facet.x0)  # noqa: E741
    sets = made.data.sets
    truth = direct_image(sets, [s.vis for s in sets], l, m, made.data.n_bands)
    np.testing.assert_allclose(norm, made.data.band_weight, rtol=1e-5)
    whole = max(s.flux for s in wide("none")[1]) * norm.max()
    assert np.abs(dirty[:, y, x] - truth).max() < bound * whole


def test_psf_is_the_image_of_a_source(wide, operators):
    """Through smearing: peak below one by the mean decorrelation at the facet's centre."""
    made = operators(wide("none")[0], loss=0.0, npix=1800, decorrelation=True)
    made.set_residual(None)
    facet = max(made.facets.facets, key=lambda f: np.hypot(f.l0, f.m0))
    made.norm[facet.index] = made.dirty_facet(facet.index)[1]
    psf = made.psf_facet(facet.index, 128)
    sets, n_bands = made.data.sets, made.data.n_bands
    weighted = [
        made._centre_smearing(s.cache, slice(0, s.shape[0]), slice(0, s.shape[2]), facet)
        for s in sets
    ]
    y, x = np.array([64, 64, 60, 10, 90]), np.array([64, 66, 61, 100, 30])
    dl, dm = -(x - 64) * made.facets.cell, (y - 64) * made.facets.cell
    vis = []
    for s, share in zip(sets, weighted):
        lmn = np.array([facet.l0, facet.m0, np.sqrt(1 - facet.l0**2 - facet.m0**2) - 1])
        turns = (s.cache.uvw @ lmn)[..., None] * s.cache.freq / SPEED_OF_LIGHT
        vis.append(share * np.exp(2j * np.pi * turns))
    truth = direct_image(sets, vis, facet.l0 + dl, facet.m0 + dm, n_bands)
    truth /= made.data.band_weight[:, None]
    assert np.abs(psf[:, y, x] - truth).max() < 1e-5
    assert np.all(truth[:, 0] < 0.995) and np.all(truth[:, 0] > 0.9)


def test_psf_through_gains_has_unit_peak(disturbed, operators):
    """Weighted by |K|², whatever the gains' amplitudes."""
    simulation, sources, folder = disturbed

    def prepare(engine):
        write_directions(engine.workdir, sources)
        for ms in simulation.ms:
            table = true_table(folder, ms, sources, True)
            table.gains *= np.float32(1.7)
            solutions.save_solution(table, engine.solsdir, ms, "true")

    made = operators(
        simulation, loss=0.002, prepare=prepare, gains=GainChoice(("true",), "AP"),
        clusters="directions.npy",
    )
    made.set_residual(None)
    made.adjoint()
    psfs = made.psfs(64)
    # PSFs have as many planes in w as a loss of 2 % needs
    np.testing.assert_allclose(psfs[:, :, 32, 32], 1, atol=3e-4)
    assert np.all(psfs.max(axis=(2, 3)) < 1.0003)
    # a far facet sees less through the beam: norms are those of the table
    ratio = made.norm / made.data.band_weight
    assert ratio.max() < 1.7**4 * 1.01 and ratio.min() < 0.9 * ratio.max()
