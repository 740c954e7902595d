"""Quick-look pictures."""

import numpy as np
import pytest
from matplotlib.image import imread

from ddfpipe.calibration.gains import GainTable
from ddfpipe.data.images import SkyGrid, write_image
from ddfpipe.data.regions import FacetOutline, write_tessel
from ddfpipe.data.solutions import save_table
from ddfpipe.report.pictures import block_mean, draw_image, draw_solutions, robust_level
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


def test_solutions_are_drawn(tmp_path):
    rng = np.random.default_rng(2)
    edges = 5e9 + np.arange(21.0)
    gains = np.exp(1j * rng.normal(0, 0.3, (20, 3, 70, 9, 1))) * 1.1
    flag = np.zeros(gains.shape, bool)
    flag[:, :, 5] = True
    table = GainTable(
        np.stack([edges[:-1], edges[1:]], axis=1), np.array([[1.0, 2], [2, 3], [3, 4]]) * 1e8,
        gains, [f"CS{n:03d}" for n in range(70)], rng.uniform(0, 1, (9, 2)), flag=flag,
        ant_pos=np.ones((70, 3)),
    )
    save_table(table, tmp_path / "killMS.DDS0.sols.npz")
    draw_solutions(tmp_path / "killMS.DDS0.sols.npz", tmp_path / "out.png")
    picture = imread(tmp_path / "out.png")
    assert picture.shape[0] > 800 and picture[..., :3].std() > 0.05
