"""Offsets of facets: recovered, with honest errors, and weak facets do not follow the noise."""

from __future__ import annotations

import json

import numpy as np
import pytest
from astropy.table import Table
from astrometry_fields import DENSITY, pairs_of, simulate

from ddfpipe.data.images import SkyGrid
from ddfpipe.data.surveys import read_survey
from ddfpipe.errors import DataError
from ddfpipe.products.astrometry import FacetOffsets, read_facet_offsets, write_facet_offsets
from ddfpipe.products.astrometry.field import CLEAR_GAIN, UNKNOWN, field_scatter, fit_field
from ddfpipe.products.astrometry.likelihood import Prior, fit_facet
from ddfpipe.products.astrometry.measure import measure_offsets
from ddfpipe.products.astrometry.selection import envelope, select_sources, smearing
from ddfpipe.products.astrometry.separations import find_separations
from ddfpipe.products.astrometry.tables import write_shift_list
from ddfpipe.products.crossmatch import isolated
from ddfpipe.units import ARCSEC, DEGREE


def fitted(method="chi2", **given):
    truth, field = simulate(**given)
    return truth, fit_field([pairs_of(field, k) for k in range(len(truth))], method)


@pytest.mark.parametrize("sources, limit", [(120, 0.05), (40, 0.09), (15, 0.15)])
def test_offsets_are_recovered_with_honest_errors(sources, limit):
    """rms error below `limit` arcsec an axis, and (found - true) / error of about one."""
    truth, fit = fitted(facets=40, sources=sources, tails=0.1, seed=sources)
    error = fit.offset - truth
    assert np.sqrt((error**2).mean()) < limit
    pulls = error / fit.error
    assert 0.8 < np.sqrt((pulls**2).mean()) < 1.3 and abs(pulls).max() < 4.5
    assert abs(fit.mean - truth.mean(axis=0)).max() < 0.1
    assert 0.15 < fit.width < 0.45


def test_sampling_and_maximum_agree():
    truth, field = simulate(facets=1, sources=80, seed=3)
    prior = Prior()
    best, mean = (fit_facet(pairs_of(field, 0), prior, m) for m in ("chi2", "mcmc"))
    np.testing.assert_allclose(best.offset, mean.offset, atol=0.3 * best.error.max())
    np.testing.assert_allclose(best.error, mean.error, rtol=0.3)
    assert mean.samples.shape == (24 * 800, 4) and best.samples.size == 0
    again = fit_facet(pairs_of(field, 0), prior, "mcmc")
    assert np.array_equal(mean.samples, again.samples), "the same data, the same numbers"


def test_weak_facets_get_the_field_and_its_scatter():
    """Two sources do not move a facet; its error covers what is not known of it."""
    counts = [60] * 16 + [2] * 2 + [0] * 2
    truth, fit = fitted(facets=20, sources=counts, mean=(1.5, -1.0), width=0.2, seed=5)
    weak = slice(16, 20)
    assert not fit.clear[weak].any() and fit.clear[:16].all()
    assert abs(fit.offset[weak] - [1.5, -1.0]).max() < 0.45
    assert (fit.error[weak] > 0.1).all() and (fit.error[weak] < 0.6).all()
    assert (abs(fit.offset[weak] - truth[weak]) < 3.5 * fit.error[weak]).all()
    assert fit.fits[18] is None and fit.fits[19] is None


@pytest.mark.parametrize("method", ["chi2", "mcmc"])
def test_without_counterparts_nothing_is_moved(method):
    """Only chance neighbours: no facet shows a peak, offsets are zero and said to be unknown."""
    _, fit = fitted(method, facets=12, sources=60, identified=0.0, seed=1)
    assert not fit.clear.any() and fit.width is None
    assert (fit.offset == 0).all() and (fit.error == UNKNOWN).all()


def test_one_good_facet_says_nothing_of_the_others():
    truth, fit = fitted(facets=4, sources=[150, 0, 1, 0], seed=2)
    assert fit.clear.tolist() == [True, False, False, False]
    assert abs(fit.offset[0] - truth[0]).max() < 0.15 and fit.error[0].max() < 0.1
    assert (fit.offset[1:] == 0).all() and (fit.error[1:] == UNKNOWN).all()


def test_scatter_of_a_field():
    rng = np.random.default_rng(0)
    error = np.full((200, 2), 0.1)
    offset = np.array([1.0, -2.0]) + rng.standard_normal((200, 2)) * np.hypot(0.1, 0.4)
    mean, width, mean_error = field_scatter(offset, error)
    np.testing.assert_allclose(mean, [1.0, -2.0], atol=0.1)
    assert width == pytest.approx(0.4, rel=0.1)
    assert mean_error == pytest.approx(np.hypot(0.1, 0.4) / np.sqrt(200), rel=0.15)


@pytest.mark.parametrize("dec", [-30.0, 0.0, 89.7, 90.0])
def test_axes_are_those_of_the_image_anywhere(dec):
    """At a pole too: a displacement along l and m is found as such."""
    truth, field = simulate(facets=4, sources=60, mean=(1.0, 2.0), width=0.0, seed=7, dec=dec)
    fit = fit_field([pairs_of(field, k) for k in range(4)], "chi2")
    assert abs(fit.offset - truth).max() < 0.2


def test_places_without_reference_do_not_count():
    _, field = simulate(facets=1, sources=50, seed=9)
    east = field.grid.lm_of(*field.reference)[0] > 0
    ra, dec = field.reference
    half = find_separations(field.ra, field.dec, field.error, field.facet, (ra[east], dec[east]),
                            field.grid)
    inside = field.grid.lm_of(field.ra, field.dec)[0] > 0
    assert (half.covered == inside).mean() > 0.85
    assert half.pairs(0).sources == half.covered.sum() < 50
    assert half.pairs(0).density == pytest.approx(DENSITY, rel=0.35)
    none = find_separations(field.ra, field.dec, field.error, field.facet, (ra[:0], dec[:0]),
                            field.grid)
    assert none.pairs(0).east.size == 0
    assert fit_field([none.pairs(0)], "chi2").error[0, 0] == UNKNOWN


# ---------------------------------------------------------------------- choosing sources


def bdsf_like(field, rng):
    """A PyBDSF catalogue of a simulated field, and the number of good sources at its start."""
    n = field.ra.size
    snr = 3.0 / (field.error / ARCSEC)
    scatter = np.exp(rng.standard_normal(n) * np.hypot(0.03, 1.0 / snr))
    table = Table({
        "RA": field.ra / DEGREE, "DEC": field.dec / DEGREE, "E_RA": field.error / DEGREE,
        "E_DEC": field.error / DEGREE, "Peak_flux": snr * 1e-4, "Total_flux": snr * 1e-4 * scatter,
        "Isl_rms": np.full(n, 1e-4), "Maj": np.full(n, 6.1 / 3600), "S_Code": np.full(n, "S"),
    })
    return table


def test_resolved_crowded_and_uncertain_sources_are_left_out():
    _, field = simulate(facets=9, sources=60, seed=11)
    rng = np.random.default_rng(1)
    table = bdsf_like(field, rng)
    table["S_Code"][0] = "M"
    table["E_RA"][1] = 3.0 / 3600
    table["Maj"][2] = 13.0 / 3600
    table["Total_flux"][3:13] *= 8.0
    table["RA"][14], table["DEC"][14] = table["RA"][13], table["DEC"][13] + 5.0 / 3600
    table["Peak_flux"][15], table["Total_flux"][15] = 3e-4, 3e-4
    chosen = select_sources(table, field.grid, 6 * ARCSEC)
    assert not chosen.kept[:16].any()
    assert chosen.kept[16:].mean() > 0.9
    assert chosen.removed["multiple"] == 1 and chosen.removed["long"] == 1
    assert chosen.removed["resolved"] >= 10
    with pytest.raises(DataError, match="lacks Isl_rms"):
        table.remove_column("Isl_rms")
        select_sources(table, field.grid, 6 * ARCSEC)


def test_smearing_is_not_taken_for_size():
    rng = np.random.default_rng(2)
    radius = np.sqrt(rng.uniform(0, 1, 3000)) * 0.05
    snr = 7 * rng.uniform(0, 1, 3000) ** (-1 / 1.2)
    true = 0.05 + 0.4 * (radius / 0.05) ** 2
    ratio = true + rng.standard_normal(3000) * np.hypot(0.03, 0.8 / snr)
    found = smearing(ratio, radius, snr > 20)
    assert abs(found - true).max() < 0.06
    limit = envelope(ratio - found, snr, np.ones(3000, bool))
    assert 0.97 < (abs(ratio - found) < limit).mean() < 1.0
    assert (smearing(ratio, radius, np.zeros(3000, bool)) == 0).all()


def test_from_catalogues_to_the_table(tmp_path):
    """All together: positions in, table of facets out, and back from its file."""
    truth, field = simulate(facets=4, sources=[150, 150, 150, 3], seed=4)
    outlines = field.outlines
    made = measure_offsets(bdsf_like(field, np.random.default_rng(3)), 6 * ARCSEC, outlines,
                           field.grid, field.reference, "chi2")
    assert (made.facet == field.facet).all()
    found = np.stack([made.offsets.east, made.offsets.north], axis=1) / ARCSEC
    assert abs(found - truth)[:3].max() < 0.15
    figures = made.figures()
    assert figures["clear_facets"] == 3 and figures["sources"] > 350
    path = write_facet_offsets(tmp_path / "pslocal-facet_offsets.fits", made.offsets, outlines, {})
    again = read_facet_offsets(path)
    for name in FacetOffsets.__dataclass_fields__:
        np.testing.assert_allclose(getattr(again, name), getattr(made.offsets, name), rtol=1e-12)
    good = again.peak > 2.0 * again.peak_error
    assert good[:3].all(), "the test that other tools make of a peak"
    write_shift_list(tmp_path / "list.txt", again, outlines, 1.5 * ARCSEC)
    ra, dec, x, y = np.loadtxt(tmp_path / "list.txt").T
    np.testing.assert_allclose(x * 1.5, -found[:, 0], atol=1e-5)
    np.testing.assert_allclose(y * 1.5, found[:, 1], atol=1e-5)
    np.testing.assert_allclose(ra, [o.centre[0] for o in outlines], atol=1e-9)


def test_tables_of_ddf_pipeline_are_read(tmp_path):
    columns = {"Facet_id": [1, 0], "N_Sources": [9, 5], "RA_offset": [0.5, 0.1],
               "DEC_offset": [0.2, 0.3], "RA_error": [0.1, 100.0], "DEC_error": [0.1, 100.0],
               "RA_peak": [30.0, 1.0], "DEC_peak": [30.0, 1.0], "RA_peak_error": [5.0, 5.0],
               "DEC_peak_error": [5.0, 5.0]}
    Table(columns).write(tmp_path / "t.fits")
    made = read_facet_offsets(tmp_path / "t.fits")
    assert made.clear.tolist() == [False, True] and made.sources.tolist() == [5, 9]
    assert made.east[1] == pytest.approx(0.5 * ARCSEC)
    assert made.significant().tolist() == [False, True]
    columns["Facet_id"] = [1, 3]
    Table(columns).write(tmp_path / "u.fits")
    with pytest.raises(DataError, match="without gaps"):
        read_facet_offsets(tmp_path / "u.fits")
    with pytest.raises(DataError, match="no such table"):
        read_facet_offsets(tmp_path / "none.fits")
    (tmp_path / "v.fits").write_text(json.dumps({}))
    with pytest.raises(DataError, match="not a table"):
        read_facet_offsets(tmp_path / "v.fits")


@pytest.mark.shared_data
def test_lofar_against_panstarrs(shared_data):
    """Real lists of one field.  Only a dozen of the 326 optical objects have a radio source, at
    arcseconds from the components of split sources; LoTSS is known to agree to 0.2 arcsec."""
    lofar = read_survey(shared_data / "catalogues/expected.lotss.sky")
    optical = read_survey(shared_data / "catalogues/expected.panstarrs.sky")
    grid = SkyGrid(200.0 * DEGREE, 45.0 * DEGREE, 1600, 1600, 3 * ARCSEC)
    sources = lofar.select(isolated(lofar.ra, lofar.dec, 15 * ARCSEC)
                           & (lofar.major < 10 * ARCSEC))
    found = find_separations(sources.ra, sources.dec, np.full(sources.size, 0.3 * ARCSEC),
                             np.zeros(sources.size, int), (optical.ra, optical.dec), grid)
    assert sources.size > 700
    for method in ("chi2", "mcmc"):
        fit = fit_facet(found.pairs(0), Prior(), method)
        assert fit.gain > CLEAR_GAIN and 5 < fit.matched < 15
        assert abs(fit.offset).max() < 1.0 and fit.error.max() < 1.0
        assert (abs(fit.offset) < 3.0 * fit.error).all()
