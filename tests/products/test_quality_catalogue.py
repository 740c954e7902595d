"""What a catalogue holds and what it lacks: counts, completeness, false detections, two passes."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from quality_fields import (
    BEAM, CELL, FREQUENCY, GRID, NOISE, add_source, catalogue, make_field, noise_plane, response,
)

from ddfpipe.data.images import read_image, write_image
from ddfpipe.errors import ImagingError
from ddfpipe.products.quality import completeness as complete
from ddfpipe.products.quality import counts as counting
from ddfpipe.units import ARCSEC, DEGREE


# ---------------------------------------------------------------------- counts


def drawn_sky(scale: float, area_sr: float, published) -> np.ndarray:
    """Fluxes drawn from published counts over an area, multiplied by `scale`."""
    rng = np.random.default_rng(11)
    edges = np.geomspace(published.low, published.high, 400)
    fluxes = [rng.uniform(low, high, rng.poisson(published.number(low, high) * area_sr))
              for low, high in zip(edges[:-1], edges[1:])]
    return scale * np.concatenate(fluxes)


@pytest.mark.parametrize("name", counting.PUBLISHED)
@pytest.mark.parametrize("scale", [1.0, 1.25])
def test_scale_of_fluxes_from_counts(name, scale):
    published = counting.PUBLISHED[name]
    square_degree = DEGREE ** 2
    flux = drawn_sky(scale, 10 * square_degree, published) * (
        FREQUENCY / published.frequency) ** -0.7
    flux = flux[flux > 20 * NOISE]
    table = catalogue(np.zeros(flux.size), np.zeros(flux.size), flux)
    rms = np.full((50, 50), NOISE)
    figures = counting.count_figures(table, rms, 10 * square_degree / 2500, published, FREQUENCY,
                                     -0.7, min_snr=20.0, n_bins=20, fit=True)
    assert figures["area_deg2"] == pytest.approx(10)
    found = figures["scale"]
    assert abs(found["value"] - scale) < 4 * found["error"] and found["error"] < 0.05
    if scale == 1.0:
        inside = [r for r in figures["bins"] if r["n"] > 20]
        assert len(inside) > 8
        for row in inside:
            assert abs(row["n"] - row["expected_n"]) < 4.5 * math.sqrt(row["expected_n"])
            assert row["counts"] == pytest.approx(row["expected"], rel=5 / math.sqrt(row["n"]))


def test_faint_sources_are_counted_where_they_can_be_seen():
    rms = np.array([1.0, 2.0, 4.0, np.nan, 0.0])
    assert counting.visible_area(rms, 2.0, np.array([0.5, 1.0, 3.0, 9.0])).tolist() == [0, 2, 4, 6]


def test_published_counts_agree_with_each_other():
    """Both at 150 MHz; the second set of coefficients came another way."""
    one, two = (counting.PUBLISHED[n] for n in ("mandal2021", "franzen2019"))
    shift = (one.frequency / two.frequency) ** -0.7
    flux = np.geomspace(1e-3, 10, 50)
    ratio = two.euclidean(flux / shift) * shift ** 1.5 / one.euclidean(flux)
    assert 0.78 < ratio.min() and ratio.max() < 1.22
    assert one.number(0.1, 10.0) * DEGREE ** 2 == pytest.approx(8.3, rel=0.01)


def test_counts_that_fit_nothing_give_no_scale():
    published = counting.PUBLISHED["mandal2021"]
    table = catalogue(np.zeros(30), np.zeros(30), np.geomspace(0.01, 0.1, 30))
    tiny = counting.count_figures(table, np.full((5, 5), NOISE), 1e-9, published, FREQUENCY, -0.7,
                                  min_snr=20.0, n_bins=5, fit=True)
    assert tiny["scale"]["value"] is None
    few = counting.count_figures(table[:1], np.full((5, 5), NOISE), 1e-9, published, FREQUENCY,
                                 -0.7, min_snr=20.0, n_bins=5, fit=True)
    assert few["scale"] is None and few["sources"] == 1


# ---------------------------------------------------------------------- completeness


def test_injected_beams_have_the_right_flux_and_orientation():
    plane = np.zeros((80, 80), np.float32)
    beam = (12 * ARCSEC, 6 * ARCSEC, 30 * DEGREE)
    complete.add_beams(plane, np.array([40.3]), np.array([39.6]), np.array([2.0]), beam, CELL)
    area = 2 * math.pi * (12 / 1.5 / 2.3548) * (6 / 1.5 / 2.3548)
    assert plane.sum() == pytest.approx(2.0 * area, rel=1e-3)
    rows, columns = np.mgrid[:80, :80]
    east, north = -(columns - 39.6), rows - 40.3
    moments = [float((plane * a * b).sum()) for a, b in ((east, east), (east, north),
                                                         (north, north))]
    angle = 0.5 * math.atan2(2 * moments[1], moments[2] - moments[0])
    assert angle / DEGREE == pytest.approx(30, abs=0.2)
    edge = np.zeros((20, 20))
    complete.add_beams(edge, np.array([0.0]), np.array([19.0]), np.array([1.0]), beam, CELL)
    assert edge[0, 19] == pytest.approx(1.0)


def test_response_of_the_residuals():
    rng, att = np.random.default_rng(1), response(64)
    plane = rng.normal(size=(64, 64))
    plane[30, 30] = 0.0
    y, x = np.array([10.2, 30.0, 0.0]), np.array([50.7, 30.0, 63.0])
    found = complete.response_at(plane, plane / att, y, x)
    assert found == pytest.approx(att[np.rint(y).astype(int), np.rint(x).astype(int)], rel=0.03)


def test_levels_of_a_known_curve():
    from scipy.special import ndtr

    rng = np.random.default_rng(2)
    flux = np.exp(rng.uniform(math.log(1.5), math.log(40), 5000))
    found = rng.uniform(size=5000) < ndtr(np.log(flux / 5.0) / 0.2)
    half, most = complete.levels(flux, found)
    assert half == pytest.approx(5.0, rel=0.03) and most == pytest.approx(
        5.0 * math.exp(0.2 * 1.2816), rel=0.03)
    assert all(math.isnan(v) for v in complete.levels(flux, flux > 100))


@pytest.fixture(scope="module")
def noise_field(tmp_path_factory):
    folder = tmp_path_factory.mktemp("noise")
    make_field(folder, n=512, per_side=2, seed=9)
    return folder


def test_completeness_is_what_noise_alone_gives(noise_field):
    """A source of true peak S is found if S plus noise exceeds 5 sigma: half of them at 5.

    A little more in fact, since the sources themselves raise the finder's noise; with 1400 sources
    the value is 5.1 to 5.4, here its standard error is 0.25.
    """
    from ddfpipe.products.sourcefinding import FinderSettings

    rms = NOISE / response(512)
    figures = complete.completeness_figures(
        noise_field / "root.app.residual.fits", noise_field / "root.int.residual.fits", rms,
        FinderSettings(thresh_isl=4.0, thresh_pix=5.0, rms_map=False), fraction=1.0, sources=400,
        threads=1, folder=noise_field)
    assert figures["injected"] >= 200
    assert figures["snr_50"] == pytest.approx(5.3, abs=0.7)
    assert 5.0 < figures["snr_90"] < 8.0
    assert figures["flux_recovery"]["value"] == pytest.approx(1.0, abs=0.05)
    assert figures["by_snr"][0]["completeness"] == 0.0
    assert all(r["completeness"] == 1.0 for r in figures["by_snr"] if r["low"] > 8)
    assert not list(noise_field.glob(".*"))


def test_no_room_for_sources(noise_field):
    image = read_image(noise_field / "root.int.residual.fits")
    with pytest.raises(ImagingError, match="room for"):
        complete.draw_sources(image, np.full((512, 512), np.nan), 1.0, 100)
    with pytest.raises(ImagingError, match="room for"):
        complete.draw_sources(image, np.ones((512, 512)), 0.1, 100)


def test_false_detections_are_those_put_in(tmp_path):
    from ddfpipe.products.sourcefinding import FinderSettings

    plane = noise_plane(np.random.default_rng(1), 100)
    for y, x in ((20, 20), (20, 75), (75, 50)):
        add_source(plane, y, x, -20 * NOISE)
    add_source(plane, 75, 15, 1000 * NOISE)
    grid = replace(GRID, ny=100, nx=100)
    path = write_image(tmp_path / "a.fits", plane, grid, freq=FREQUENCY, beam=(BEAM, BEAM, 0))
    table = catalogue([0.0] * 10, [0.0] * 10, [20 * NOISE] * 10)
    settings = FinderSettings(thresh_isl=4.0, thresh_pix=5.0, rms_map=False)
    figures = complete.false_figures(path, path, table, settings, fraction=1.0, threads=1,
                                     folder=tmp_path)
    assert (figures["negative"], figures["positive"]) == (3, 10)
    assert figures["fraction"] == pytest.approx(0.3)
    by_low = {row["low"]: row for row in figures["by_snr"]}
    assert by_low[10.0]["negative"] + by_low[20.0]["negative"] == 3
    assert sum(r["positive"] for r in figures["by_snr"]) == 10
    assert sum(r["negative"] for r in figures["by_snr"]) == 3


# ---------------------------------------------------------------------- two passes


@pytest.mark.slow
def test_an_extended_source_counts_once(tmp_path):
    from ddfpipe.products.quality.tiers import Tiers, make_catalogue, positions
    from ddfpipe.products.sourcefinding import FinderSettings

    plane = noise_plane(np.random.default_rng(3), 240)
    add_source(plane, 120, 120, 0.4, size=40)          # 60 arcsec wide
    add_source(plane, 128, 110, 0.02)                  # a knot in it
    for y, x in ((30, 30), (30, 210), (210, 30)):
        add_source(plane, y, x, 0.01)
    grid = replace(GRID, ny=240, nx=240)
    path = write_image(tmp_path / "a.fits", plane, grid, freq=FREQUENCY, beam=(BEAM, BEAM, 0))
    first = FinderSettings(thresh_isl=4.0, thresh_pix=5.0, rms_box=(20, 7), group_tol=1.0)
    table = make_catalogue(path, path, Tiers(first, extended_beams=6.0),
                           {"rms": tmp_path / "rms.fits"}, threads=1)
    y, x = grid.pixel_of(*positions(table))
    middle = np.hypot(y - 120, x - 120) < 40
    assert middle.sum() == 1 and table["Pass"][middle][0] == 2
    assert float(table["Total_flux"][middle][0]) == pytest.approx(0.42, rel=0.1)
    assert len(set(table["Source_id"])) == len(table)
    outside = table[~middle]
    bright = np.asarray(outside["Total_flux"]) > 5e-3
    assert bright.sum() == 3 and (outside["Pass"] == 1).all()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.fits", "rms.fits"]


def test_which_source_replaces_which():
    from ddfpipe.products.quality.tiers import Islands, merge_passes

    number = np.zeros((256, 256), int)
    number[100:140, 100:140], number[20:24, 20:24], number[200:240, 200:240] = 1, 2, 3
    islands = Islands(number, np.array([56.0, 5.0, 56.0]), GRID)

    def at(*places, flux):
        ra, dec = GRID.radec(*GRID.lm(*np.array(places, float).T))
        return catalogue(ra, dec, flux)

    first = at((105, 105), (130, 130), (22, 22), (220, 220), (60, 60),
               flux=[1.0, 1.0, 1.0, 1.0, 1.0])
    second = at((120, 120), (22, 22), (221, 221), flux=[3.0, 9.0, 1.02])
    drop, keep, count = merge_passes(first, second, islands, 20.0)
    assert drop.tolist() == [True, True, False, False, False]
    assert keep.tolist() == [True, False, False] and count.tolist() == [2]
    second["Total_flux"][2] = 1.5  # a large one of which the first pass has two thirds
    drop, keep, count = merge_passes(first, second, islands, 20.0)
    assert drop.tolist() == [True, True, False, True, False] and count.tolist() == [2, 1]
