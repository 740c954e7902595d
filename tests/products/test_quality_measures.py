"""Each measure of quality against what was put into the data; limits of the measures."""

from __future__ import annotations

import math

import numpy as np
import pytest
from quality_fields import (
    BEAM, CELL, FREQUENCY, GRID, NOISE, add_source, catalogue, halves, noise_plane,
)

from ddfpipe.data.images import write_image
from ddfpipe.data.surveys import SurveyCatalogue
from ddfpipe.products.quality.comparison import (
    Comparison, chance_fraction, compare, figures_of, size_figures,
)
from ddfpipe.products.quality.facets import facet_map, facet_numbers, inside_polygon
from ddfpipe.products.quality.noise import dynamic_range, noise_figures
from ddfpipe.products.quality.statistics import binned_medians, bootstrap_median, spread
from ddfpipe.products.quality.verdict import FAILED, PASSED, UNKNOWN, judge
from ddfpipe.units import ARCSEC, DEGREE


def survey(ra, dec, flux, major=np.nan) -> SurveyCatalogue:
    n = len(ra)
    nan = np.full(n, np.nan)
    return SurveyCatalogue(np.asarray(ra), np.asarray(dec), nan, nan, np.asarray(flux, float), nan,
                           nan, np.full(n, major), nan, np.array([""] * n))


# ---------------------------------------------------------------------- statistics


def test_error_of_a_median():
    samples = np.random.default_rng(1).normal(3.0, 2.0, (60, 400))
    errors = [bootstrap_median(values, 200).error for values in samples]
    assert np.mean(errors) == pytest.approx(1.2533 * 2.0 / 20.0, rel=0.1)
    values = samples[0]
    found = bootstrap_median(np.append(values, np.nan), 200)
    assert found.n == 400 and found.value == np.median(values)
    assert bootstrap_median(values, 200) == found, "the same data give the same error"
    assert bootstrap_median(np.array([])).plain() == {"value": None, "error": None, "n": 0}
    assert bootstrap_median(np.array([2.0])).plain() == {"value": 2.0, "error": None, "n": 1}
    assert spread(values) == pytest.approx(2.0, rel=0.15)


def test_bins_with_few_values_are_left_out():
    x = np.array([0.1] * 6 + [1.5] * 3 + [2.5] * 7)
    rows = binned_medians(x, x * 2, np.array([0.0, 1.0, 2.0, 3.0]))
    assert [(r["low"], r["value"], r["n"]) for r in rows] == [(0.0, 0.2, 6), (2.0, 5.0, 7)]


# ---------------------------------------------------------------------- facets and noise


def test_facets_of_positions():
    facets = halves(GRID)
    y, x = np.array([50.0, 50.0, 128.0, 300.0]), np.array([10.0, 200.0, 127.9, 100.0])
    ra, dec = GRID.radec(*GRID.lm(y, x))
    assert facet_numbers(ra, dec, facets, GRID).tolist() == [1, 0, 1, -1]
    coarse = facet_map(facets, GRID, 8)
    assert coarse.shape == (32, 32) and (coarse[:, :16] == 1).all()
    assert (coarse[:-1, 17:] == 0).all()
    corners = np.array([[0, 0], [4, 0], [4, 4], [2, 1], [0, 4]], float)  # not convex
    assert inside_polygon(np.array([2.0, 2.0, 0.5]), np.array([0.5, 2.0, 2.0]),
                          corners).tolist() == [True, False, True]


def test_noise_of_centre_facets_and_map(tmp_path):
    plane = noise_plane(np.random.default_rng(1), 256)
    plane[:, 128:] *= 2.0  # the western half
    add_source(plane, 40, 40, 0.5)
    path = write_image(tmp_path / "a.fits", plane, GRID, freq=FREQUENCY, beam=(BEAM, BEAM, 0))
    figures, shown = noise_figures(path, halves(GRID), central_pixels=64, box=32, threads=1)
    by_label = {row["label"]: row["noise_jy"] for row in figures["facets"]}
    assert by_label["east"] == pytest.approx(NOISE, rel=0.1)
    assert by_label["west"] == pytest.approx(2 * NOISE, rel=0.1)
    assert NOISE < figures["central_jy"] < 2 * NOISE
    assert figures["percentiles_jy"]["5"] < 1.2 * NOISE < 1.7 * NOISE < figures[
        "percentiles_jy"]["95"]
    assert np.median(shown[:, shown.shape[1] * 3 // 4:]) == pytest.approx(2 * NOISE, rel=0.2)


def test_dynamic_range_of_known_artefacts(tmp_path):
    plane = noise_plane(np.random.default_rng(1), 256, 1e-5)
    places = np.array([[60, 60], [60, 200], [200, 60], [200, 200], [128, 128]], float)
    peaks = [1.0, 0.8, 0.6, 0.5, 0.1]
    for k, ((y, x), peak) in enumerate(zip(places, peaks)):
        add_source(plane, y, x, peak)
        if k < 4:
            add_source(plane, y + 9, x, -peak / 200)  # an artefact beyond the core
    path = write_image(tmp_path / "a.fits", plane, GRID, freq=FREQUENCY, beam=(BEAM, BEAM, 0))
    ra, dec = GRID.radec(*GRID.lm(*places.T))
    table = catalogue(ra, dec, peaks)
    how = {"box_arcsec": 60.0, "max_size": 0.003 * DEGREE, "isolation": 30 * ARCSEC}
    figures = dynamic_range(path, table, min_peak=0.4, **how)
    assert figures["n"] == 4 and figures["median"] == pytest.approx(200, rel=0.08)
    faint = dynamic_range(path, table, min_peak=5.0, **how)
    assert faint["n"] == 5 and faint["threshold_jy"] == pytest.approx(0.1, rel=0.01)
    table["DC_Maj"] = 0.01
    assert dynamic_range(path, table, min_peak=0.4, **how)["median"] is None


# ---------------------------------------------------------------------- comparison


@pytest.fixture
def sky():
    """60 sources of the field, well apart, with fluxes."""
    rng = np.random.default_rng(7)
    y, x = np.meshgrid(np.arange(8) * 100.0, np.arange(8) * 100.0, indexing="ij")
    y, x = (v.ravel()[:60] + rng.uniform(-9, 9, 60) for v in (y, x))
    ra, dec = GRID.radec(*GRID.lm(y, x))
    return ra, dec, 10 ** rng.uniform(-2, 0, 60), rng


def how(**more) -> Comparison:
    usual = dict(name="X", radius=10 * ARCSEC, beam=6 * ARCSEC, frequency=1400e6,
                 image_frequency=FREQUENCY, samples=300)
    return Comparison(**{**usual, **more})


CENTRE = (GRID.ra, GRID.dec)


def test_offsets_and_ratios_are_those_put_in(sky):
    ra, dec, flux, rng = sky
    scatter = rng.normal(0, 0.3, (2, 60))
    east, north = (0.8 + scatter[0]) * ARCSEC, (-0.5 + scatter[1]) * ARCSEC
    table = catalogue(ra + east / np.cos(dec), dec + north, 1.15 * flux)
    other = survey(ra, dec, flux * (1400e6 / FREQUENCY) ** -0.7)
    matched = compare(table, other, how(), BEAM, CENTRE)
    facets = (ra > GRID.ra).astype(int)
    figures = figures_of(matched, how(), facets, other.size, 0.0)
    assert figures["position_matches"] == figures["flux_matches"] == 60
    for axis, value in (("ra", 0.8), ("dec", -0.5)):
        found = figures[f"offset_{axis}_arcsec"]
        assert abs(found["value"] - value) < 4 * found["error"] < 0.3
    assert figures["flux_ratio"]["value"] == pytest.approx(1.15, rel=1e-3)
    assert sum(row["n"] for row in figures["facets"]) == 60 and len(figures["facets"]) == 2
    assert figures["facets"][1]["ra"]["value"] == pytest.approx(0.8, abs=0.3)
    flat = figures_of(compare(table, other, how(index=0.0), BEAM, CENTRE), how(index=0.0), None, 60,
                      0.0)
    steep = 1.15 * (1400e6 / FREQUENCY) ** 0.7
    assert flat["flux_ratio"]["value"] == pytest.approx(steep, rel=1e-3)
    optical = how(frequency=None)
    assert "flux_ratio" not in figures_of(compare(table, other, optical, BEAM, CENTRE), optical,
                                          None, 60, 0.0)


def test_what_is_left_out(sky):
    ra, dec, flux, _ = sky
    table = catalogue(ra, dec, flux)
    table["DC_Maj"][0] = 20 / 3600  # extended: 20 arcsec, in degrees
    table["S_Code"][1] = "M"
    other = survey(ra, dec, flux)
    other.major[2] = 50 * ARCSEC
    wide = survey(np.append(ra, ra[3] + 20 * ARCSEC), np.append(dec, dec[3]), np.append(flux, 1.0))
    used = compare(table, other, how(frequency=FREQUENCY, max_size=40 * ARCSEC), BEAM, CENTRE)
    assert 2 not in used.row and used.row.size == 59
    good = set(used.row[used.good])
    assert not good & {0, 1} and len(good) == 57
    assert 0 not in used.row[used.fair] and 1 in used.row[used.fair]
    crowded = compare(table, wide, how(frequency=FREQUENCY), BEAM, CENTRE)
    assert 3 not in crowded.row[crowded.good] and 3 not in crowded.row[crowded.fair]
    bright = compare(table, other, how(frequency=FREQUENCY, min_flux=0.1), BEAM, CENTRE)
    assert set(bright.row[bright.fair]) == set(np.flatnonzero(flux >= 0.1)) - {0}
    near = compare(table, other, how(field=300 * CELL), BEAM, CENTRE)
    assert 0 < near.row.size < 60


def test_a_coarse_survey_sees_components_together(sky):
    ra, dec, flux, _ = sky
    parts = catalogue(np.concatenate([ra - 4 * ARCSEC, ra + 4 * ARCSEC]), np.tile(dec, 2),
                      np.tile(flux / 2, 2))
    coarse = how(frequency=FREQUENCY, beam=45 * ARCSEC)
    matched = compare(parts, survey(ra, dec, flux), coarse, BEAM, CENTRE)
    ratio = matched.ratio[matched.fair]
    assert ratio.size == 60 and np.allclose(ratio, 1.0)
    single = compare(parts, survey(ra, dec, flux), how(frequency=FREQUENCY), BEAM, CENTRE)
    assert single.row.size == 0, "two candidates for every source: ambiguous"


def test_matches_by_chance(sky):
    ra, dec, flux, rng = sky
    table = catalogue(ra, dec, flux)
    l, m = rng.uniform(-128, 672, (2, 4000)) * CELL  # noqa: E741
    crowd = survey(*GRID.radec(-l, m), np.ones(4000))
    dense = how(frequency=None, radius=8 * ARCSEC, isolation=0.0)
    found = compare(table, crowd, dense, BEAM, CENTRE).row.size
    assert found > 5
    assert chance_fraction(table, crowd, dense, BEAM, CENTRE, found) == pytest.approx(1, abs=0.5)
    assert chance_fraction(table, survey(ra, dec, flux), dense, BEAM, CENTRE, 60) == 0.0
    assert math.isnan(chance_fraction(table, crowd, dense, BEAM, CENTRE, 0))


def test_smearing_shows_in_total_over_peak(sky):
    ra, dec, flux, rng = sky
    table = catalogue(ra, dec, flux)
    radius = np.hypot(*GRID.lm_of(ra, dec)) / DEGREE
    table["Peak_flux"] = flux / (1.0 + radius)
    figures = size_figures(table, CENTRE, 30 * ARCSEC, 20.0)
    assert figures["n"] == 60
    for row in figures["by_radius"]:
        assert 1 + row["low"] <= row["value"] <= 1 + row["high"]
    table["S_Code"] = "M"
    assert size_figures(table, CENTRE, 30 * ARCSEC, 20.0)["n"] == 0


# ---------------------------------------------------------------------- limits


PARTS = {
    "sources": {"sources": 100}, "noise": {"central_jy": 8e-5}, "dynamic_range": {"median": None},
    "match_A": {"enough_positions": True, "enough_fluxes": True, "min_matches": 10,
                "offset_ra_arcsec": {"value": 0.1}, "offset_dec_arcsec": {"value": -0.4},
                "flux_ratio": {"value": 0.9}, "facets": [
                    {"facet": 3, "n": 12, "ra": {"value": 0.2}, "dec": {"value": -0.9}},
                    {"facet": 4, "n": 3, "ra": {"value": 9.0}, "dec": {"value": 9.0}}]},
    "match_B": {"enough_positions": False, "enough_fluxes": False, "min_matches": 10,
                "offset_ra_arcsec": {"value": 5.0}, "offset_dec_arcsec": {"value": 5.0},
                "flux_ratio": {"value": 3.0}},
    "match_C": {"problem": "no such file"},
}


@pytest.mark.parametrize("option, limit, outcome, value", [
    ("max_noise_ujy", 100.0, PASSED, 80.0), ("max_noise_ujy", 79.0, FAILED, 80.0),
    ("min_sources", 100, PASSED, 100), ("min_sources", 101, FAILED, 100),
    ("min_dynamic_range", 5.0, UNKNOWN, None), ("max_complete_mjy", 1.0, UNKNOWN, None),
    ("max_offset_arcsec", 0.5, PASSED, 0.4), ("max_offset_arcsec", 0.3, FAILED, 0.4),
    ("max_facet_offset_arcsec", 0.8, FAILED, 0.9), ("max_flux_error", 0.11, PASSED, 0.1),
    ("max_flux_error", 0.05, FAILED, 0.1), ("max_counts_error", 0.1, UNKNOWN, None),
])
def test_limits(option, limit, outcome, value):
    verdict, = judge(PARTS, {option: limit, "max_size_ratio": None})
    assert (verdict.outcome, verdict.good) == (outcome, outcome == PASSED)
    assert verdict.value == (value if value is None else pytest.approx(value))


def test_every_limit_has_its_measure():
    from ddfpipe.config.option import options_of
    from ddfpipe.config.sections_quality import QualityLimits
    from ddfpipe.products.quality.verdict import MEASURED

    assert set(MEASURED) == set(options_of(QualityLimits))
