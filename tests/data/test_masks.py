"""External masks on the image's grid."""

from __future__ import annotations

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table
from astropy.wcs import WCS

from ddfpipe.data.catalogues import Catalogue, read_tgss
from ddfpipe.data.images import SkyGrid
from ddfpipe.data.masks import catalogue_mask, external_mask, read_mask, write_mask
from ddfpipe.errors import DataError, ImagingError, SkyModelError
from ddfpipe.units import ARCSEC, DEGREE

GRID = SkyGrid(3.65, 0.95, 100, 120, 10 * ARCSEC)


def tgss_file(path, places, flux, major=30.0, minor=25.0, pa=0.0, **units):
    ra, dec = GRID.radec(*GRID.lm(*np.array(places, float).T))
    n = len(places)
    table = Table({"RA": ra / DEGREE, "DEC": dec / DEGREE, "Peak_flux": flux,
                   "Maj": np.full(n, major), "Min": np.full(n, minor), "PA": np.full(n, pa)})
    for column, unit in units.items():
        table[column].unit = unit
    table.write(path, overwrite=True)
    return path


def test_discs_of_tgss_sources(tmp_path):
    path = tgss_file(tmp_path / "t.fits", [(30, 40), (60, 80), (50, 500), (5, 5)],
                     [500.0, 100.0, 900.0, 400.0])
    mask = catalogue_mask(GRID, read_tgss(path), min_peak=0.3, radius=4)
    yy, xx = np.mgrid[:100, :120]
    expected = (np.hypot(yy - 30, xx - 40) <= 4) | (np.hypot(yy - 5, xx - 5) <= 4)
    assert np.count_nonzero(mask != expected) <= 8  # rim pixels
    assert not mask[60, 80]


def test_extended_sources_are_ellipses_at_their_position_angle(tmp_path):
    path = tgss_file(tmp_path / "t.fits", [(50, 60)], [500.0], major=300.0, minor=40.0, pa=45.0)
    mask = catalogue_mask(GRID, read_tgss(path), min_peak=0.3, radius=2, extended=True,
                          pointlike=30 * ARCSEC)
    # 45 degrees from north through east: up and left.
    assert mask[59, 51] and mask[41, 69] and not mask[59, 69] and not mask[41, 51]
    assert mask.sum() == pytest.approx(np.pi * 17 * 4, rel=0.08)
    disc = catalogue_mask(GRID, read_tgss(path), min_peak=0.3, radius=2)
    assert disc.sum() < 20


def test_units_columns_and_flux_cut_are_checked(tmp_path):
    jy = read_tgss(tgss_file(tmp_path / "jy.fits", [(50, 60)], [0.5], Peak_flux="Jy", Maj="deg"))
    assert jy.peak[0] == pytest.approx(0.5) and jy.major[0] == pytest.approx(30 * DEGREE)
    mjy = read_tgss(tgss_file(tmp_path / "mjy.fits", [(50, 60)], [500.0]))
    assert mjy.peak[0] == pytest.approx(0.5)
    with pytest.raises(SkyModelError, match="none of 1"):
        catalogue_mask(GRID, mjy, min_peak=10.0, radius=3)
    Table({"RA": [1.0], "DEC": [2.0]}).write(tmp_path / "few.fits")
    with pytest.raises(DataError, match="Peak_flux"):
        read_tgss(tmp_path / "few.fits")
    (tmp_path / "junk.fits").write_text("junk")
    for name in ("junk.fits", "none.fits"):
        with pytest.raises(DataError, match=name):
            read_tgss(tmp_path / name)


def test_masks_on_the_same_grid_are_exact(tmp_path):
    mask = np.random.default_rng(0).random(GRID.shape) < 0.1
    path = write_mask(tmp_path / "m.fits", mask, GRID, freq=1.4e8)
    assert np.array_equal(read_mask(path, GRID), mask)
    assert np.array_equal(read_mask(path, GRID, reproject=False), mask)


@pytest.mark.parametrize("ctype", ["SIN", "TAN"])
def test_masks_on_other_grids_are_looked_up_or_refused(tmp_path, ctype):
    other = SkyGrid(GRID.ra + 1e-3, GRID.dec - 5e-4, 300, 320, 4 * ARCSEC)
    ra, dec = GRID.radec(*GRID.lm(40.0, 70.0))
    header = other.wcs().to_header()
    header["CTYPE1"], header["CTYPE2"] = f"RA---{ctype}", f"DEC--{ctype}"
    cx, cy = WCS(header).all_world2pix(ra / DEGREE, dec / DEGREE, 0)
    yy, xx = np.mgrid[:300, :320]
    fits.writeto(tmp_path / "o.fits", (np.hypot(yy - cy, xx - cx) < 25).astype(np.float32), header)
    mask = read_mask(tmp_path / "o.fits", GRID)
    yy, xx = np.mgrid[:100, :120]
    distance = np.hypot(yy - 40, xx - 70)
    assert mask[distance < 9].all() and not mask[distance > 11].any()
    with pytest.raises(ImagingError, match="o.fits"):
        read_mask(tmp_path / "o.fits", GRID, reproject=False)


def test_damaged_masks_are_named(tmp_path):
    path = write_mask(tmp_path / "m.fits", np.ones(GRID.shape), GRID, freq=1.4e8)
    path.write_bytes(path.read_bytes()[:9000])
    for bad in (path, tmp_path / "none.fits"):
        with pytest.raises(ImagingError, match=bad.name):
            read_mask(bad, GRID)


def test_external_mask_is_the_union(tmp_path):
    one = np.zeros(GRID.shape, bool)
    one[3, 4] = True
    path = write_mask(tmp_path / "m.fits", one, GRID, freq=1.4e8)
    ra, dec = (float(v) / DEGREE for v in GRID.radec(*GRID.lm(50.0, 60.0)))
    region = tmp_path / "r.reg"
    region.write_text(f'fk5\ncircle({ra:.6f},{dec:.6f},40")\n')
    catalogue = np.zeros(GRID.shape, bool)
    catalogue[90, 90] = True
    mask = external_mask(GRID, catalogue=catalogue, regions=[region], fits_masks=[path])
    assert mask[3, 4] and mask[50, 60] and mask[90, 90] and mask.sum() < 70
    assert not external_mask(GRID).any()


def test_selecting_from_a_catalogue_keeps_rows_together():
    catalogue = Catalogue(*(np.arange(4.0) + 10 * k for k in range(6)))
    part = catalogue.select(np.array([False, True, False, True]))
    assert np.array_equal(part.ra, [1, 3]) and np.array_equal(part.pa, [51, 53])
