"""Facets partition the image; sky coordinates agree with astropy."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ddfpipe.data.images import SkyGrid
from ddfpipe.errors import ImagingError
from ddfpipe.imaging.facets import MIN_BOX, regular_facets, voronoi_facets
from ddfpipe.imaging.sky import lm_to_pixel, lm_to_radec, pixel_to_lm, radec_to_lm

CELL = np.radians(6 / 3600)


@pytest.mark.parametrize("npix", [8, 9])
def test_pixels_are_where_images_have_them(npix):
    """Odd sizes too: models lie on the grid of images, facets on this one."""
    grid, place = SkyGrid(0.1, 0.8, npix, npix, CELL), np.array([0.0, 2.5, 8.0])
    l, m = pixel_to_lm(place, place[::-1], npix, CELL)
    np.testing.assert_allclose((l, m), grid.lm(place, place[::-1]), atol=1e-18)
    np.testing.assert_allclose(lm_to_pixel(l, m, npix, CELL), (place, place[::-1]), atol=1e-9)


def count_owners(facets):
    owners = np.zeros((facets.npix, facets.npix), int)
    for f in facets.facets:
        image, box = f.slices
        owners[image] += f.mask[box]
        assert f.mask.sum() == f.mask[box].sum() == f.n_pixels > 0
    return owners


def check_boxes(facets, max_size):
    for k, f in enumerate(facets.facets):
        assert f.index == k
        assert f.ny % 2 == f.nx % 2 == 0 and min(f.ny, f.nx) >= MIN_BOX
        assert max(f.ny, f.nx) * facets.cell <= max(max_size + 3 * facets.cell,
                                                    MIN_BOX * facets.cell)
        l, m = pixel_to_lm(f.y0 + f.ny / 2, f.x0 + f.nx / 2, facets.npix, facets.cell)
        assert (f.l0, f.m0) == pytest.approx((l, m), abs=1e-15)


points = st.lists(st.tuples(st.integers(-30, 130), st.integers(-30, 130)), min_size=1,
                  max_size=12, unique=True)


@settings(max_examples=60, deadline=None)
@given(points=points, npix=st.integers(1, 100), size=st.integers(5, 80), jitter=st.floats(0, .49))
def test_voronoi_partition(points, npix, size, jitter):
    """Every pixel has one owner, and it is a nearest direction (ties included)."""
    at = np.array(points, float) + jitter
    l, m = pixel_to_lm(at[:, 0], at[:, 1], npix, CELL)
    facets = voronoi_facets(npix=npix, cell=CELL, l=l, m=m, max_size_rad=size * CELL)
    assert (count_owners(facets) == 1).all()
    check_boxes(facets, size * CELL)
    y, x = np.mgrid[:npix, :npix]
    d2 = (y[..., None] - at[:, 0]) ** 2 + (x[..., None] - at[:, 1]) ** 2
    owner = np.array([f.dir_index for f in facets.facets])[facets.facet_map()]
    mine = np.take_along_axis(d2, owner[..., None], -1)[..., 0]
    assert (mine <= d2.min(-1) + 1e-6).all()


@settings(max_examples=20, deadline=None)
@given(npix=st.integers(1, 150), size=st.floats(1, 200))
def test_regular_partition(npix, size):
    facets = regular_facets(npix=npix, cell=CELL, max_size_rad=size * CELL)
    assert (count_owners(facets) == 1).all()
    check_boxes(facets, size * CELL)
    assert len(facets.facets) == (-(-npix // int(size))) ** 2
    assert (facets.facet_map() >= 0).all()


def test_polygons_hold_their_pixels():
    """Vertices are corners of the cell: their hull has the area of the owned pixels."""
    rng = np.random.default_rng(2)
    l, m = rng.uniform(-0.7, 0.7, (2, 9)) * 200 * CELL
    facets = voronoi_facets(npix=200, cell=CELL, l=l, m=m, max_size_rad=1)
    total = 0.0
    for f in facets.facets:
        p = facets.polygons[f.dir_index] / CELL
        x, y = p.T
        area = 0.5 * abs(np.dot(x, np.roll(y, 1)) - np.dot(y, np.roll(x, 1)))
        total += area
        assert area == pytest.approx(f.n_pixels, abs=2 * np.hypot(*np.ptp(p, 0)) + 4)
        if len(p):
            d = np.hypot(l - facets.polygons[f.dir_index][:, :1],
                         m - facets.polygons[f.dir_index][:, 1:])
            assert (d[:, f.dir_index] <= d.min(1) + 1e-12).all()
    assert total == pytest.approx(200**2, rel=1e-9)


def test_cut_and_paste():
    """Boxes round the edge of the image are zero outside; pasting all facets restores it."""
    rng = np.random.default_rng(0)
    image = rng.normal(size=(2, 70, 70)).astype(np.float32)
    facets = voronoi_facets(npix=70, cell=CELL, l=[20 * CELL, -33 * CELL], m=[0, 33 * CELL],
                            max_size_rad=20 * CELL)
    back = np.full_like(image, np.nan)
    total = 0.0
    for f in facets.facets:
        box = f.cut(image)
        image_part, part = f.slices
        assert np.array_equal(box[(..., *part)], image[(..., *image_part)])
        assert np.count_nonzero(box) == box[(..., *part)].size
        total += f.cut(image, owned=True).sum(dtype=float)
        f.paste(box, back)
    assert np.array_equal(back, image)
    assert total == pytest.approx(image.sum(dtype=float), abs=1e-3)


def test_radius_reaches_the_farthest_corner():
    facets = voronoi_facets(npix=150, cell=CELL, l=[0, 50 * CELL], m=[0, 30 * CELL],
                            max_size_rad=1)
    for f in facets.facets:
        y, x = np.nonzero(f.mask)
        far = np.hypot(np.abs(y - f.ny / 2) + .5, np.abs(x - f.nx / 2) + .5).max() * CELL
        assert far <= f.radius(CELL) <= far + 1.5 * CELL


def test_bad_directions():
    with pytest.raises(ImagingError, match="coincide"):
        voronoi_facets(npix=50, cell=CELL, l=[0, 0], m=[0, 0], max_size_rad=1)
    with pytest.raises(ImagingError, match="finite"):
        voronoi_facets(npix=50, cell=CELL, l=[np.nan], m=[0], max_size_rad=1)
    with pytest.raises(ImagingError, match="hemisphere"):
        regular_facets(npix=5000, cell=1e-3, max_size_rad=1)


def test_sky_against_astropy():
    from astropy.coordinates import SkyCoord

    rng = np.random.default_rng(3)
    ra0, dec0 = 6.2, 0.96
    l, m = rng.uniform(-0.1, 0.1, (2, 50))
    ra, dec = lm_to_radec(l, m, ra0, dec0)
    assert np.allclose(radec_to_lm(ra, dec, ra0, dec0), (l, m), atol=1e-14)
    centre = SkyCoord(ra0, dec0, unit="rad")
    sky = SkyCoord(ra, dec, unit="rad")
    assert np.allclose(centre.separation(sky).rad, np.arcsin(np.hypot(l, m)), atol=1e-12)
    pa = centre.position_angle(sky).rad
    assert np.allclose(np.exp(1j * pa), (m + 1j * l) / np.hypot(l, m), atol=1e-10)
    assert np.isnan(radec_to_lm(ra0 + np.pi, -dec0, ra0, dec0)).all()
    assert np.allclose(lm_to_pixel(*pixel_to_lm(3.0, 7.0, 90, CELL), 90, CELL), (3, 7))
    # east is left: a larger right ascension has the smaller x
    y, x = lm_to_pixel(*radec_to_lm(ra0 + 1e-3, dec0, ra0, dec0), 90, 1e-4)
    assert x < 45
