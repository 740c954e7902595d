"""The native model file."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ddfpipe.data.images import SkyGrid
from ddfpipe.data.model import ROUNDING, PixelModel, load_model, save_model
from ddfpipe.errors import SkyModelError
from ddfpipe.units import ARCSEC

GRID = SkyGrid(3.65, 0.95, 50, 70, 1.5 * ARCSEC)
FREQ = np.array([1.2e8, 1.6e8])


def some_model() -> PixelModel:
    cube = np.zeros((2, *GRID.shape), np.float32)
    cube[:, 3, 4] = 2.0, 1.0
    cube[:, 40, 4] = 1.0, -0.5
    cube[:, 40, 60] = 0.0, 3.0
    return PixelModel.from_cube(cube, GRID, FREQ)


def test_cube_file_and_back(tmp_path):
    model = some_model()
    path = save_model(tmp_path / "a.model.npz", model)
    again = load_model(path)
    assert again.grid == model.grid and np.array_equal(again.cube(), model.cube())
    assert again.size == 3 and np.allclose(again.total_flux, [3.0, 3.5])
    assert save_model(tmp_path / "b.model.npz", again).read_bytes() == path.read_bytes()
    empty = load_model(save_model(tmp_path / "e.npz", PixelModel.empty(GRID, FREQ)))
    assert empty.size == 0 and empty.at(1.3e8).shape == (1, 0)


def test_positions_are_those_of_the_grid():
    l, m = some_model().lm()  # noqa: E741
    expected = GRID.lm(np.array([3, 40, 40]), np.array([4, 4, 60]))
    assert np.allclose(l, expected[0]) and np.allclose(m, expected[1])


def test_spectra():
    at = some_model().at([1.0e8, 1.2e8, 1.4e8, 1.6e8, 2.0e8])
    alpha = np.log(0.5) / np.log(1.6 / 1.2)
    assert np.allclose(at[:, 0], 2.0 * (np.array([1.0, 1.2, 1.4, 1.6, 2.0]) / 1.2) ** alpha)
    assert np.allclose(at[:, 1], [1.0, 1.0, 0.25, -0.5, -0.5])
    assert np.allclose(at[:, 2], [0.0, 0.0, 1.5, 3.0, 3.0])
    assert np.array_equal(some_model().image(1.6e8), some_model().cube()[1])


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(0, 1e4, width=32), min_size=3, max_size=3), st.floats(5e7, 3e8))
def test_a_positive_pixel_stays_positive_and_bounded(flux, freq):
    bands = np.array([1.2e8, 1.4e8, 1.6e8])
    model = PixelModel(GRID, bands, np.array([7]), np.array(flux, np.float32)[:, None])
    value = model.at(freq)[0, 0]
    assert np.isfinite(value) and value >= 0.0
    if 1.2e8 <= freq <= 1.6e8:
        assert min(flux) * 0.999 <= value <= max(flux) * 1.001 + 1e-30
    for band, expected in zip(bands, flux):
        assert model.at(band)[0, 0] == pytest.approx(expected, rel=1e-5, abs=1e-30)


def test_masking_keeps_what_is_under_the_mask():
    mask = np.zeros(GRID.shape)
    mask[40] = 1
    kept = some_model().masked(mask)
    assert kept.size == 2 and np.array_equal(kept.cube(), some_model().cube() * mask)
    with pytest.raises(SkyModelError, match="fit"):
        some_model().masked(np.zeros((3, 3)))


def test_other_grids_keep_the_flux_and_nearly_the_place():
    fine = SkyGrid(GRID.ra, GRID.dec, 200, 200, GRID.cell / 2)
    moved = some_model().on_grid(fine)
    assert np.allclose(moved.total_flux, some_model().total_flux)
    l0, m0 = some_model().lm()
    l1, m1 = moved.lm()
    order0, order1 = np.lexsort((l0, m0)), np.lexsort((l1, m1))
    shift = np.hypot(l0[order0] - l1[order1], m0[order0] - m1[order1])
    assert shift.max() < 1e-3 * fine.cell
    coarse = SkyGrid(GRID.ra, GRID.dec, 10, 10, GRID.cell * 10)
    assert np.allclose(some_model().on_grid(coarse).total_flux, [3.0, 3.5])
    assert some_model().on_grid(SkyGrid(0.0, 0.0, 10, 10, GRID.cell)).size == 0


def test_damaged_models_are_named(tmp_path):
    path = save_model(tmp_path / "a.npz", some_model())
    content = path.read_bytes()
    for keep in (0, 10, len(content) // 2, len(content) - 5):
        path.write_bytes(content[:keep])
        with pytest.raises(SkyModelError, match="a.npz"):
            load_model(path)
    with pytest.raises(SkyModelError, match="no such"):
        load_model(tmp_path / "none.npz")


@pytest.mark.parametrize("change", [
    {"index": [5, 4, 3]}, {"index": [0, 1, 10**7]}, {"flux": np.zeros((2, 2), np.float32)},
    {"freq": [2e8, 1e8]}, {"version": 9}, {"flux": np.full((2, 3), np.nan, np.float32)},
])
def test_inconsistent_models_are_refused(tmp_path, change):
    path = save_model(tmp_path / "a.npz", some_model())
    with np.load(path) as z:
        arrays = dict(z)
    np.savez(tmp_path / "b.npz", **{**arrays, **{k: np.array(v) for k, v in change.items()}})
    with pytest.raises(SkyModelError, match="b.npz"):
        load_model(tmp_path / "b.npz")


def test_cubes_that_do_not_fit_are_refused():
    with pytest.raises(SkyModelError, match="fit"):
        PixelModel.from_cube(np.zeros((1, 50, 70)), GRID, FREQ)
    cube = np.zeros((2, 50, 70))
    cube[0, 0, 0] = np.nan
    with pytest.raises(SkyModelError, match="NaN"):
        PixelModel.from_cube(cube, GRID, FREQ)


def a_model_with_points() -> PixelModel:
    points = PixelModel.from_points(
        GRID, FREQ, [10.25, 3.0, 39.6, 40.2, 200.0], [20.5, 4.0, 4.1, 3.9, 3.0],
        [[1.0, 0.5, 3.0, 0.2, 9.0], [0.8, 0.5, 2.0, 0.1, 9.0]],
    )
    return some_model().joined(points)


def test_points_keep_their_place_in_files_and_on_other_grids(tmp_path):
    model = a_model_with_points()
    assert model.size == 6 and model.free.sum() == 3  # (3, 4) is a pixel: joined with the one there
    assert np.allclose(model.total_flux, [3.0 + 4.7, 3.5 + 3.4])
    again = load_model(save_model(tmp_path / "a.npz", model))
    assert all(np.array_equal(a, b) for a, b in zip(again.arrays, model.arrays))
    fine = SkyGrid(GRID.ra, GRID.dec, 300, 300, GRID.cell / 2.7)
    moved = model.on_grid(fine)
    assert np.allclose(moved.total_flux, model.total_flux)
    places = [np.stack(m.points().lm(), axis=1) for m in (model, moved)]
    order = [np.lexsort(np.rint(p / 1e-9).T) for p in places]
    assert np.abs(places[0][order[0]] - places[1][order[1]]).max() < 1e-4 * GRID.cell
    back = load_model(save_model(tmp_path / "b.npz", moved)).on_grid(GRID)
    assert np.allclose(back.points().place(), model.points().place(), atol=1e-4)


def test_points_show_on_pixels_and_are_masked_by_the_nearest():
    model = a_model_with_points()
    shown = model.cube()
    assert np.allclose(shown.sum(axis=(1, 2)), model.total_flux, rtol=1e-6)
    assert shown[0, 10, 20] == pytest.approx(0.375) and shown[0, 11, 21] == pytest.approx(0.125)
    mask = np.zeros(GRID.shape)
    mask[40, 4] = 1
    kept = model.masked(mask)
    assert kept.size == 3 and kept.free.sum() == 2
    assert np.array_equal(model.pixels().joined(model.points()).flux, model.flux)
    assert np.array_equal(model.image(FREQ[1]), shown[1])


def test_models_of_the_first_version_are_read(tmp_path):
    path = save_model(tmp_path / "a.npz", some_model())
    with np.load(path) as z:
        arrays = {k: v for k, v in z.items() if k != "offset"}
    np.savez(tmp_path / "b.npz", **{**arrays, "version": np.int64(1)})
    old = load_model(tmp_path / "b.npz")
    assert np.array_equal(old.cube(), some_model().cube()) and not old.free.any()


@pytest.mark.parametrize("offset", [
    np.zeros((2, 2)), np.full((3, 2), 0.7), np.full((3, 2), np.nan),
])
def test_bad_offsets_are_refused(tmp_path, offset):
    path = save_model(tmp_path / "a.npz", some_model())
    with np.load(path) as z:
        arrays = dict(z)
    np.savez(tmp_path / "b.npz", **{**arrays, "offset": offset.astype(np.float32)})
    with pytest.raises(SkyModelError, match="offset"):
        load_model(tmp_path / "b.npz")


def test_models_of_other_grids_or_bands_are_not_joined():
    with pytest.raises(SkyModelError, match="joined"):
        some_model().joined(some_model().on_bands([1e8, 2e8]))
    with pytest.raises(SkyModelError, match="NaN"):
        PixelModel.from_points(GRID, FREQ, [1.0], [1.0], [[np.nan], [1.0]])


def test_rounding_of_transforms_is_no_model():
    cube = some_model().cube() + np.float32(2e-9)
    cube[0, 7, 7] = -3e-7
    assert PixelModel.from_cube(cube, GRID, FREQ).size == GRID.ny * GRID.nx
    assert PixelModel.from_cube(cube, GRID, FREQ, ROUNDING).size == some_model().size + 1
    assert PixelModel.from_cube(0 * cube, GRID, FREQ, ROUNDING).size == 0
    cube[1, 0, 0] = np.nan
    with pytest.raises(SkyModelError, match="NaN"):
        PixelModel.from_cube(cube, GRID, FREQ, ROUNDING)


def test_models_are_added_up_pixel_by_pixel():
    """What is left of a pixel after it was taken away to rounding is nothing."""
    first, change = some_model(), np.zeros((2, *GRID.shape), np.float32)
    change[:, 3, 4] = -2.0 * (1 - 1e-7), -1.0  # all but rounding
    change[:, 40, 4] = -0.5, 0.0
    change[:, 0, 69] = 0.1, 0.2
    both = first.plus(PixelModel.from_cube(change, GRID, FREQ), 1e-6)
    expected = first.cube() + change
    expected[:, 3, 4] = 0
    assert both.size == 3 and np.allclose(both.cube(), expected, rtol=1e-6)
    assert first.plus(PixelModel.empty(GRID, FREQ), 1e-6).size == first.size


def test_rasters_are_added_to_what_is_there():
    model, there = some_model(), np.ones((2, *GRID.shape), np.float32)
    assert model.raster(model.flux, there) is there
    assert np.array_equal(there, model.cube() + 1)
