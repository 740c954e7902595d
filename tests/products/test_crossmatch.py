"""Matching: against direct computation, at awkward places of the sky, and on real surveys."""

from __future__ import annotations

import numpy as np
import pytest
from astropy import units as u
from astropy.coordinates import SkyCoord

from ddfpipe.data.surveys import SurveyCatalogue, read_survey
from ddfpipe.products.crossmatch import (
    friends, group_by, isolated, match, merge, nearest, separations, tangent_offsets,
)
from ddfpipe.units import ARCSEC, DEGREE


def catalogue(ra, dec, flux) -> SurveyCatalogue:
    ra, dec, flux = (np.asarray(v, float) for v in (ra, dec, flux))
    nan = np.full(ra.size, np.nan)
    return SurveyCatalogue(ra, dec, nan, nan, flux, nan, nan, nan, nan,
                           np.array([f"s{i}" for i in range(ra.size)]))


@pytest.fixture(params=[0.0, 1.2, 89.995], ids=["equator", "near", "pole"])
def cloud(request):
    """Positions around 0h within a degree or so."""
    rng = np.random.default_rng(3)
    dec = np.clip(request.param + rng.uniform(-0.5, 0.5, 80), -90, 89.9999) * DEGREE
    ra = rng.uniform(-0.5, 0.5, 80) * DEGREE / np.maximum(np.cos(dec), 1e-2)
    return np.mod(ra, 2 * np.pi), dec


def test_separations_and_nearest_agree_with_astropy(cloud):
    ra, dec = cloud
    one, two = SkyCoord(ra[:40], dec[:40], unit="rad"), SkyCoord(ra[40:], dec[40:], unit="rad")
    index, distance = nearest(ra[:40], dec[:40], ra[40:], dec[40:])
    theirs, apart, _ = one.match_to_catalog_sky(two)
    assert (index == theirs).all()
    np.testing.assert_allclose(distance, apart.rad, rtol=1e-7)
    np.testing.assert_allclose(separations(ra[:40], dec[:40], ra[40:], dec[40:]),
                               one.separation(two).rad, rtol=1e-7)
    assert nearest(ra, dec, [], [])[1].min() == np.inf


def test_offsets_are_exact_where_differences_of_numbers_are_not():
    here = SkyCoord(359.9999 * u.deg, 60 * u.deg)
    for angle in (0.0, 37.0, 90.0, 200.0):
        there = here.directional_offset_by(angle * u.deg, 5 * u.arcsec)
        east, north = tangent_offsets(there.ra.rad, there.dec.rad, here.ra.rad, here.dec.rad)
        np.testing.assert_allclose([east, north], 5 * ARCSEC * np.array(
            [np.sin(angle * DEGREE), np.cos(angle * DEGREE)]), atol=1e-6 * ARCSEC)


def test_isolated_counts_others_only(cloud):
    ra, dec = cloud
    radius = 3 * u.arcmin
    sky = SkyCoord(ra, dec, unit="rad")
    apart = sky[:, None].separation(sky[None, :])
    expected = (apart < radius).sum(axis=1) == 1
    assert 0 < expected.sum() < expected.size
    assert (isolated(ra, dec, radius.to_value("rad")) == expected).all()
    assert isolated(ra, dec, radius.to_value("rad"), ([], [])).all()
    assert not isolated(ra[:1], dec[:1], 1e-6, (ra, dec)).any()


def test_matches_are_one_to_one_and_the_closest_wins():
    ra1, dec1 = np.array([0.0, 3.0, 100.0]) * ARCSEC, np.zeros(3)
    ra2, dec2 = np.array([1.0, -2.5, 101.0, 500.0]) * ARCSEC, np.zeros(4)
    pairs = match(ra1, dec1, ra2, dec2, 4 * ARCSEC)
    # 0-0 is 1", 1-0 2", 0-1 2.5", 2-2 1": source 1 loses its only candidate.
    assert list(zip(pairs.first, pairs.second)) == [(0, 0), (2, 2)]
    np.testing.assert_allclose(pairs.separation, ARCSEC, rtol=1e-6)
    alone = match(ra1, dec1, ra2, dec2, 4 * ARCSEC, unambiguous=True)
    assert list(zip(alone.first, alone.second)) == [(2, 2)]
    assert match(ra1, dec1, [], [], ARCSEC).size == match([], [], ra2, dec2, ARCSEC).size == 0
    assert match(ra1, dec1, ra2 + 1.0, dec2, ARCSEC).size == 0


def test_friends_of_friends_chain():
    step = np.array([0, 1, 2, 3, 10, 11, 30]) * 5 * ARCSEC
    assert friends(step, np.full(7, 0.3), 5.2 * ARCSEC).tolist() == [0, 0, 0, 0, 1, 1, 2]
    shuffled = np.array([6, 4, 0, 5, 2, 1, 3])
    assert friends(step[shuffled], np.full(7, 0.3), 5.2 * ARCSEC).tolist() == [0, 1, 2, 1, 2, 2, 2]
    assert friends([], [], 1.0).size == 0


def test_merging_sums_flux_and_weights_positions():
    one = catalogue(np.array([-2.0, 4.0, 900.0]) * ARCSEC, np.zeros(3), [2.0, 1.0, 5.0])
    made = merge(one, np.array([0, 0, 1]))
    np.testing.assert_allclose(made.flux, [3.0, 5.0])
    east = tangent_offsets(made.ra, made.dec, 0.0, 0.0)[0] / ARCSEC
    np.testing.assert_allclose(east, [0.0, 900.0], atol=0.01)
    np.testing.assert_allclose(made.major[0] / ARCSEC, 8.0, rtol=1e-6)
    assert list(made.name) == ["s0", "s2"]
    dark = merge(catalogue([0.0, 2 * ARCSEC], [0.0, 0.0], [np.nan, np.nan]), np.array([0, 0]))
    np.testing.assert_allclose(dark.ra, ARCSEC, rtol=1e-6)
    assert np.isnan(dark.flux[0])


def test_grouping_by_a_coarser_survey():
    sharp = catalogue(np.array([0.0, 6.0, 200.0, 212.0, 900.0]) * ARCSEC, np.zeros(5),
                      [1.0, 1.0, 3.0, 1.0, 9.0])
    coarse = catalogue(np.array([203.0, 3.0]) * ARCSEC, np.zeros(2), [1.0, 1.0])
    made = group_by(sharp, coarse, 20 * ARCSEC)
    assert sorted(made.flux) == [2.0, 4.0]


@pytest.fixture(scope="module")
def field(shared_data):
    return {name: read_survey(shared_data / f"catalogues/expected.{name}.sky")
            for name in ("lotss", "nvss", "wenss", "tgss", "panstarrs")}


def medians(one, two, radius):
    pairs = match(one.ra, one.dec, two.ra, two.dec, radius * ARCSEC)
    east, north = tangent_offsets(two.ra[pairs.second], two.dec[pairs.second],
                                  one.ra[pairs.first], one.dec[pairs.first])
    ratio = two.flux[pairs.second] / one.flux[pairs.first]
    return (pairs.size, np.median(east) / ARCSEC, np.median(north) / ARCSEC, np.median(ratio),
            two.flux[pairs.second].sum() / one.flux[pairs.first].sum())


@pytest.mark.shared_data
def test_components_one_by_one_give_the_published_offsets_and_the_wrong_ratio(field):
    n, east, north, ratio, _ = medians(field["lotss"], field["nvss"], 10)
    assert n == 44
    assert (round(east, 2), round(north, 2)) == (0.14, 0.27)
    assert round(ratio, 2) == 0.54


@pytest.mark.shared_data
@pytest.mark.parametrize("name, beam, frequency, tolerance, least", [
    ("nvss", 45.0, 1400e6, 0.15, 40), ("wenss", 54.0, 325e6, 0.15, 20),
    ("tgss", 25.0, 147.5e6, 0.05, 2)])  # two sources of TGSS are all that this field has
def test_grouped_components_give_the_expected_ratio(field, name, beam, frequency, tolerance,
                                                    least):
    survey = field[name]
    grouped = group_by(field["lotss"], survey, beam / 2 * ARCSEC)
    n, east, north, ratio, total = medians(grouped, survey, 15)
    expected = (frequency / 140e6) ** -0.7
    assert n >= least
    assert ratio == pytest.approx(expected, rel=tolerance)
    assert total == pytest.approx(expected, rel=tolerance)
    assert abs(east) < 2 and abs(north) < 2


@pytest.mark.shared_data
def test_optical_positions(field):
    assert not np.isfinite(field["panstarrs"].flux).any()
    n, east, north, _, _ = medians(field["lotss"], field["panstarrs"], 1.5)
    assert n == 6 and abs(east) < 0.5 and abs(north) < 0.5
