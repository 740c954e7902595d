"""Quick-look pictures."""

import numpy as np
import pytest
from matplotlib import colormaps
from matplotlib.image import imread

from ddfpipe.calibration.gains import GainTable
from ddfpipe.data.images import SkyGrid, write_image
from ddfpipe.data.regions import FacetOutline, write_tessel
from ddfpipe.data.solutions import save_table
from ddfpipe.report.pictures import (
    NO_GAIN, block_mean, draw_image, draw_solutions, robust_level,
)
from ddfpipe.units import ARCSEC

GRID = SkyGrid(1.0, 0.9, 200, 200, 3 * ARCSEC)


def noisy_image(path, source_at=(150, 60)):
    rng = np.random.default_rng(1)
    data = rng.normal(0, 1e-4, GRID.shape).astype(np.float32)
    data[:3] = np.nan
    y, x = source_at
    data[y - 4:y + 5, x - 4:x + 5] = 1.0
    return write_image(path, data, GRID, freq=150e6, beam=(30 * ARCSEC, 12 * ARCSEC, 0.8))


def test_blocks_are_means_of_what_is_finite():
    plane = np.arange(12.0).reshape(3, 4)
    plane[0, 0] = np.nan
    mean, step = block_mean(plane, 2)
    assert step == 2 and mean.shape == (1, 2)
    np.testing.assert_allclose(mean, [[(1 + 4 + 5) / 3, (2 + 3 + 6 + 7) / 4]])
    empty, _ = block_mean(np.full((4, 4), np.nan), 2)
    assert np.isnan(empty).all()


def test_robust_level_is_not_moved_by_sources():
    values = np.random.default_rng(0).normal(2.0, 0.5, (100, 100))
    values[:3] = 1e4
    middle, sigma = robust_level(values)
    assert middle == pytest.approx(2.0, abs=0.05) and sigma == pytest.approx(0.5, rel=0.1)
    assert robust_level(np.full((2, 2), np.nan)) == (0.0, 1.0)
    assert robust_level(np.zeros((2, 2)))[1] == 1.0


def test_an_image_shows_source_and_facets_where_they_are(tmp_path):
    image = noisy_image(tmp_path / "a.app.restored.fits")
    draw_image(image, tmp_path / "previews/a.png")
    plain = imread(tmp_path / "previews/a.png")[..., :3]
    # The saturated source is bright yellow, in the upper right of the middle (y up, x as stored).
    bright = (plain[..., 0] > 0.95) & (plain[..., 1] > 0.95) & (plain[..., 2] > 0.5) \
        & (plain[..., 2] < 0.75)
    rows, columns = np.nonzero(bright[:, : int(0.8 * plain.shape[1])])
    assert rows.size > 50
    assert np.median(rows) < 0.45 * plain.shape[0] and np.median(columns) < 0.45 * plain.shape[1]
    y, x = np.array([20, 20, 180, 180.0]), np.array([20, 180, 180, 20.0])
    ra, dec = GRID.radec(*GRID.lm(y, x))
    facets = write_tessel(tmp_path / "a.tessel.reg", [
        FacetOutline("S0", (GRID.ra, GRID.dec), np.stack([ra, dec], axis=1))])
    draw_image(image, tmp_path / "b.png", facets)
    changed = np.abs(imread(tmp_path / "b.png")[..., :3] - plain).max(axis=2) > 0.1
    assert 300 < changed.sum() < 0.05 * changed.size


def test_gains_of_every_direction_station_and_interval_are_drawn(tmp_path):
    """Eight intervals with a gap in the middle, four stations, two directions; a part flagged."""
    edges = 5e9 + np.stack([np.arange(8.0), np.arange(1.0, 9.0)], axis=1)
    edges[4:] += 3600
    phase = np.zeros((8, 1, 4, 2, 1))
    phase[:4, :, 1, 1] = np.pi / 2
    flag = np.zeros(phase.shape, bool)
    flag[4:, :, 3, 1] = True
    table = GainTable(edges, np.array([[1e8, 2e8]]), 1.1 * np.exp(1j * phase),
                      [f"CS{n:03d}" for n in range(4)], np.full((2, 2), 0.1), flag=flag,
                      ant_pos=np.ones((4, 3)))
    save_table(table, tmp_path / "killMS.DDS0.sols.npz")
    draw_solutions(tmp_path / "killMS.DDS0.sols.npz", tmp_path / "out.png")
    picture = imread(tmp_path / "out.png")[..., :3]
    colours = colormaps["twilight"].with_extremes(bad=str(NO_GAIN))
    panel = picture[:, : int(0.46 * picture.shape[1])]  # phases, without their colour bar

    def places(colour) -> np.ndarray:
        return np.argwhere(np.abs(panel - np.array(colour[:3])).max(axis=2) < 0.02)

    zero, quarter, grey = (places(c) for c in (colours(0.5), colours(0.75), colours.get_bad()))
    # of 64 cells four have another phase and four are flagged
    assert len(quarter) == pytest.approx(len(zero) * 4 / 56, rel=0.2)
    assert len(grey) == pytest.approx(len(zero) * 4 / 56, rel=0.2)
    (top, left), (bottom, right) = zero.min(axis=0), zero.max(axis=0)
    for found, row, column in ((quarter, 5.5 / 8, 0.25), (grey, 7.5 / 8, 0.75)):
        y, x = found.mean(axis=0)
        assert (y - top) / (bottom - top) == pytest.approx(row, abs=0.03)
        assert (x - left) / (right - left) == pytest.approx(column, abs=0.03)
    edge = quarter[:, 1].max()
    gap = picture[top + 3 : top + 20, edge - 3 : edge + 6].mean(axis=(0, 2))
    assert gap.max() > np.mean(colours(0.5)[:3]) + 0.15, "a line marks the gap"


def test_of_many_gains_some_are_drawn(tmp_path):
    rng = np.random.default_rng(2)
    edges = 5e9 + np.arange(1201.0)
    gains = np.exp(1j * rng.normal(0, 0.3, (1200, 3, 70, 9, 1))) * 1.1
    table = GainTable(
        np.stack([edges[:-1], edges[1:]], axis=1), np.array([[1.0, 2], [2, 3], [3, 4]]) * 1e8,
        gains, [f"CS{n:03d}" for n in range(70)], rng.uniform(0, 1, (9, 2)),
        flag=np.zeros(gains.shape, bool), ant_pos=np.ones((70, 3)),
    )
    save_table(table, tmp_path / "killMS.DDS0.sols.npz")
    draw_solutions(tmp_path / "killMS.DDS0.sols.npz", tmp_path / "out.png")
    picture = imread(tmp_path / "out.png")
    assert 500 < picture.shape[0] < 900 and picture[..., :3].std() > 0.05


def test_nothing_of_one_picture_is_left_in_the_next(tmp_path):
    """Figures are used again: an image drawn after others is that drawn first."""
    image = noisy_image(tmp_path / "a.app.restored.fits")
    other = write_image(tmp_path / "b.fits", np.ones((300, 260), np.float32),
                        SkyGrid(1.0, 0.9, 300, 260, 5 * ARCSEC), freq=150e6, unit="K")
    y, x = np.array([20, 20, 180, 180.0]), np.array([20, 180, 180, 20.0])
    facets = write_tessel(tmp_path / "a.tessel.reg", [
        FacetOutline("S0", (GRID.ra, GRID.dec),
                     np.stack(GRID.radec(*GRID.lm(y, x)), axis=1))])
    draw_image(image, tmp_path / "first.png")
    draw_image(image, tmp_path / "facets.png", facets)
    draw_image(other, tmp_path / "other.png")
    draw_image(image, tmp_path / "last.png")
    first, last = (imread(tmp_path / f"{name}.png") for name in ("first", "last"))
    assert not np.array_equal(first, imread(tmp_path / "facets.png"))
    assert np.array_equal(first, last)
