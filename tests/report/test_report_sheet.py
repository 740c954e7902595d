"""Sheets that pictures are drawn on."""

import numpy as np
import pytest
from matplotlib import colormaps
from matplotlib.image import imread

from ddfpipe.report import sheet as module
from ddfpipe.report.colours import COLOURS
from ddfpipe.report.sheet import CYAN, GREYS, Sheet, palette, ticks


def saved(sheet, tmp_path) -> np.ndarray:
    sheet.save(tmp_path / "sheet.png")
    return np.round(255 * imread(tmp_path / "sheet.png")[..., :3]).astype(int)


@pytest.mark.parametrize("name", COLOURS)
def test_colour_maps_are_those_that_people_know(name):
    found = palette((name,))[:256 - GREYS - 1].astype(float)
    known = 255 * colormaps[name](np.linspace(0, 1, len(found)))[:, :3]
    assert np.abs(found - known).max() < 6 and np.abs(found - known).mean() < 1


def test_a_panel_shows_values_from_the_top_and_what_is_missing(tmp_path):
    sheet = Sheet(60, 50, ("twilight", "viridis"))
    values = np.array([[0.0, 1.0, 5.0], [0.5, np.nan, -np.inf]])
    sheet.panel(10, 20, (20, 30), values, "viridis", (0.0, 1.0), missing=0.7)
    page = saved(sheet, tmp_path)
    assert page.shape == (50, 60, 3)
    ends = [255 * np.array(colormaps["viridis"](x)[:3]) for x in (0.0, 0.5, 1.0)]
    centres = [page[y, x] for y in (25, 35) for x in (15, 25, 35)]
    grey = np.full(3, 0.7 * 255)
    for found, wanted in zip(centres, (ends[0], ends[2], ends[2], ends[1], grey, grey)):
        np.testing.assert_allclose(found, wanted, atol=6)
    assert (page[19, 9:41] == 0).all() and (page[40, 9:41] == 0).all()  # framed
    assert (page[19:41, 9] == 0).all() and (page[19:41, 40] == 0).all()
    assert (page[:19] == 255).all() and (page[:, 41:] == 255).all()


def test_lines_cover_a_pixel_for_each_step_and_stay_on_the_panel(tmp_path):
    cover = np.zeros((40, 60), np.float32)
    module._cover(cover, np.array([5.0, 10.25]), np.array([55.0, 30.25]))
    np.testing.assert_allclose(cover.sum(axis=0)[5:56], 1.0, atol=1e-5)
    assert cover[:, :5].sum() == 0 and cover[:, 56:].sum() == 0
    rows = (cover * np.arange(40)[:, None]).sum(axis=0)[5:56]
    np.testing.assert_allclose(rows, 10.25 + 0.4 * np.arange(51), atol=1e-4)
    same = np.zeros((40, 60), np.float32)
    module._cover(same, np.array([55.0, 30.25]), np.array([5.0, 10.25]))
    np.testing.assert_allclose(same, cover, atol=1e-5)

    def drawn(x, y, **how):
        sheet = Sheet(60, 40, ("inferno",))
        panel = sheet.panel(0, 0, (40, 60), np.zeros((1, 1)), "inferno", (0.0, 1.0), x=(1.0, 0.0))
        panel.line(x, y, **how)
        return saved(sheet, tmp_path).max(axis=2)

    assert drawn([0.9, np.nan, 0.1], [0.5, 0.5, 0.5]).max() < 10
    assert drawn([9.0, 8.0], [0.5, 0.4]).max() < 10
    level = drawn([2.0, -1.0], [0.5125, 0.5125], alpha=0.6)
    assert (np.abs(level[20] - 0.6 * 255) < 12).all() and level[:19].max() < 10
    left = drawn([0.95, 0.85], [0.25, 0.25])  # x runs backwards
    assert left[10, :12].max() > 100 and left[:, 12:].max() < 10


def test_the_beam_is_drawn_as_it_lies_on_the_sky(tmp_path):
    """45 degrees from north through east: from the lower right to the upper left."""
    from ddfpipe.data.images import SkyGrid, write_image
    from ddfpipe.report.pictures import draw_image
    from ddfpipe.units import ARCSEC

    grid = SkyGrid(1.0, 0.9, 100, 60, 3 * ARCSEC)
    image = write_image(tmp_path / "a.fits", np.zeros(grid.shape, np.float32), grid, freq=1e8,
                        beam=(24 * ARCSEC, 6 * ARCSEC, np.pi / 4))
    draw_image(image, tmp_path / "a.png")
    page = np.round(255 * imread(tmp_path / "a.png")[..., :3])
    rows, columns = np.nonzero(np.abs(page - CYAN).max(axis=2) < 100)
    assert np.corrcoef(rows, columns)[0, 1] > 0.6
    assert np.hypot(np.ptp(rows), np.ptp(columns)) == pytest.approx(24 / 3 * 592 / 100, rel=0.1)
    assert page.shape[0] / page.shape[1] > 1.15  # as the image, more high than wide


def test_ticks_are_round_and_few():
    def labels(*ends, **how):
        return [label for _, label in ticks(*ends, **how)]

    assert labels(-0.43, 0.43) == [f"{n / 10:.1f}" for n in range(-4, 5)]
    assert labels(0.0, 2.0) == [f"{n / 4:.2f}" for n in range(9)]
    assert labels(0, 100, most=4) == ["0", "25", "50", "75", "100"]
    for low, high in ((1e-7, 3e-6), (-3e5, 8e5), (99.0, 101.0), (-np.pi, np.pi)):
        found = ticks(low, high)
        places = np.array([value for value, _ in found])
        assert 3 <= len(found) <= 10 and places.min() >= low - 1e-9 and places.max() <= high + 1e-9
        np.testing.assert_allclose([float(label) for _, label in found], places, rtol=1e-9,
                                   atol=1e-15)


def test_words_stand_where_they_are_put(tmp_path, monkeypatch):
    sheet = Sheet(300, 200, ("inferno",))
    sheet.text(150, 30, "two\nlines of words", 14)
    sheet.upright(30, 100, "upright", 14)
    ink = saved(sheet, tmp_path).min(axis=2) < 128
    rows, columns = np.nonzero(ink[:60])
    assert columns.min() + columns.max() == pytest.approx(300, abs=6) and rows.mean() < 45
    upper = np.nonzero(ink[:30])[1]
    assert upper.min() + upper.max() == pytest.approx(300, abs=8), "lines are centred"
    rows, columns = np.nonzero(ink[:, :60])
    assert rows.min() + rows.max() == pytest.approx(200, abs=8)
    assert np.ptp(rows) > 2 * np.ptp(columns)
    # without the font of matplotlib that of Pillow serves, which has no sign of minus
    module._font.cache_clear()
    monkeypatch.setattr(module, "FONT_FILE", "no/such/font.ttf")
    other = Sheet(100, 40, ("inferno",))
    other.text(50, 20, "-", 30)
    assert np.ptp(np.nonzero(saved(other, tmp_path).min(axis=2) < 128)[0]) < 6
    module._font.cache_clear()
