"""Which sources are references, what surveys cover, and how refusals read."""

from __future__ import annotations

import numpy as np
import pytest
from astropy.table import Table

from ddfpipe.errors import DataError, StageFailed
from ddfpipe.products.fluxscale.matching import (
    Reference, coverage, field_catalogues, match_sources,
)
from ddfpipe.units import ARCSEC, DEGREE
from fluxscale_fields import CENTRE, field_sources, sky_position, write_survey

HERE = (np.radians(CENTRE[0]), np.radians(CENTRE[1]))


def catalogue(path, places, flux, error=0.01, unit="Jy", **more):
    """places: (n, 2) degrees east and north of the centre."""
    ra, dec = np.array([sky_position(*np.radians(place)) for place in places]).T
    table = Table({"RA": np.degrees(ra), "DEC": np.degrees(dec),
                   "Total_flux": np.asarray(flux, float) * np.ones(len(places)),
                   "E_Total_flux": error * np.ones(len(places)), **more})
    for name in ("Total_flux", "E_Total_flux"):
        table[name].unit = unit
    table.write(path, overwrite=True)
    return ra, dec


@pytest.fixture
def surveys(tmp_path):
    """Three surveys: two of a group, of which each has half of the sources."""
    places = np.array([[0.1 * k, 0.3] for k in range(6)])
    ra, dec = catalogue(tmp_path / "low.fits", places, 2.0)
    catalogue(tmp_path / "one.fits", places[:3], 0.6)
    catalogue(tmp_path / "two.fits", places[3:], 200.0, error=10.0, unit="mJy")
    return ra, dec, [
        Reference(tmp_path / "low.fits", "low", 74e6, 40.0, "a"),
        Reference(tmp_path / "one.fits", "one", 327e6, 10.0, "b"),
        Reference(tmp_path / "two.fits", "two", 1400e6, 10.0, "b"),
    ]


def test_one_match_in_every_group(surveys):
    ra, dec, references = surveys
    found = match_sources(ra, dec, np.full(6, 1.0), HERE, references,
                          field_catalogues(references, HERE))
    np.testing.assert_array_equal(found.index, range(6))
    assert found.surveys.names == ("low", "one", "two")
    np.testing.assert_allclose(found.surveys.flux[0], [2.0, 0.6, np.nan])
    np.testing.assert_allclose(found.surveys.flux[5], [2.0, np.nan, 0.2])
    np.testing.assert_allclose(found.surveys.error[5, 2], 0.01)
    strict = [Reference(r.path, r.name, r.frequency, r.radius_arcsec, r.name) for r in references]
    with pytest.raises(StageFailed, match="0 reference sources.*in one: 3, in two: 3"):
        match_sources(ra, dec, np.full(6, 1.0), HERE, strict, field_catalogues(strict, HERE))


def test_bright_near_and_alone(surveys):
    ra, dec, references = surveys
    seen = field_catalogues(references, HERE)
    flux = np.array([1.0, 0.14, 1.0, 1.0, 1.0, 1.0, 0.02])
    ra = np.append(ra, ra[2] + 90 * ARCSEC / np.cos(dec[2]))
    dec = np.append(dec, dec[2])
    found = match_sources(ra, dec, flux, HERE, references, seen)
    assert list(found.index) == [0, 3, 4, 5]
    away = (HERE[0], HERE[1] - 2.18 * DEGREE)
    far = match_sources(ra, dec, flux, away, references, seen)
    assert list(far.index) == [0, 3]
    moved = match_sources(ra + 25 * ARCSEC / np.cos(dec), dec, flux, HERE, references, seen, 0)
    assert dict(moved.steps)["in low"] == 4 and dict(moved.steps)["in one"] == 0


def test_ambiguous_matches_are_dropped(tmp_path, surveys):
    ra, dec, references = surveys
    places = np.array([[0.1 * k, 0.3] for k in range(6)] + [[0.0, 0.3 + 20 / 3600]])
    catalogue(tmp_path / "low.fits", places, 2.0)
    found = match_sources(ra, dec, np.full(6, 1.0), HERE, references,
                          field_catalogues(references, HERE))
    assert list(found.index) == [1, 2, 3, 4, 5]


def test_a_single_frequency_tells_no_slope(surveys):
    ra, dec, references = surveys
    only = [Reference(references[0].path, "low", 74e6, 40.0, "a")]
    with pytest.raises(StageFailed, match="two frequencies"):
        match_sources(ra, dec, np.full(6, 1.0), HERE, only, field_catalogues(only, HERE), 3)


def test_coverage_is_told_before_the_run(tmp_path):
    sources = field_sources(12, 0.8, 1)
    write_survey(tmp_path / "low.fits", sources, 74e6)
    write_survey(tmp_path / "high.fits", sources[:9], 327e6)
    references = [Reference(tmp_path / "low.fits", "VLSS", 74e6, 20, "1"),
                  Reference(tmp_path / "high.fits", "WENSS", 327e6, 10, "2")]
    seen = coverage(references, HERE)
    assert seen.counts == (12, 9) and seen.common == 9 and seen.trouble(9) == ""
    assert coverage(references, HERE, 0.4 * DEGREE).common < 9
    south = (HERE[0], -HERE[1])
    text = coverage(references, south).trouble(5)
    for word in ("VLSS none, WENSS none", "high.fits (WENSS) has none here", "min_sources",
                 "on_failure=unscaled", "groups"):
        assert word in text
    assert "10 are needed" in seen.trouble(10) and "has none" not in seen.trouble(10)


def test_faint_sources_do_not_count_as_covered(tmp_path):
    places = np.array([[0.1 * k, 0.0] for k in range(4)])
    catalogue(tmp_path / "low.fits", places, [2.0, 2.0, 0.2, 0.2], error=0.001)
    catalogue(tmp_path / "high.fits", places, [0.6, 0.6, 0.05, 0.05], error=0.001)
    references = [Reference(tmp_path / f"{name}.fits", name, freq, 10, name)
                  for name, freq in (("low", 74e6), ("high", 327e6))]
    assert coverage(references, HERE).common == 2


def test_unsuitable_catalogues_are_named(tmp_path):
    catalogue(tmp_path / "x.fits", np.zeros((1, 2)), 1.0)
    table = Table.read(tmp_path / "x.fits")
    table.remove_column("E_Total_flux")
    table.write(tmp_path / "x.fits", overwrite=True)
    with pytest.raises(DataError, match="x.fits.*E_Total_flux"):
        field_catalogues([Reference(tmp_path / "x.fits", "x", 74e6)], HERE)
    with pytest.raises(DataError, match="none.fits"):
        coverage([Reference(tmp_path / "none.fits", "x", 74e6)], HERE)
