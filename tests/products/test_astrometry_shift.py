"""Facets of images are moved by their offsets, components and all, to a hundredth of a pixel."""

from __future__ import annotations

import numpy as np
import pytest

from ddfpipe.data.images import SkyGrid
from ddfpipe.data.regions import FacetOutline
from ddfpipe.errors import ImagingError
from ddfpipe.products.astrometry import (
    facet_labels, facet_of, offset_map, restore_shifted, shift_image, shift_in_pixels,
)
from ddfpipe.units import ARCSEC, DEGREE

CELL = 1.5 * ARCSEC
BEAM = (6 * ARCSEC, 6 * ARCSEC, 0.0)
SIZE = 160
GRID = SkyGrid(1.0 * DEGREE, 55 * DEGREE, SIZE, SIZE, CELL)


def outlines(corners_by_facet, grid=GRID):
    """Facets from pixel corners (y, x)."""
    made = []
    for k, corners in enumerate(corners_by_facet):
        l, m = grid.lm(*np.array(corners, float).T)  # noqa: E741
        made.append(FacetOutline(f"S{k}", None, np.stack(grid.radec(l, m), axis=1)))
    return made


LEFT_RIGHT = outlines([
    [(-0.5, -0.5), (-0.5, 79.5), (SIZE - 0.5, 79.5), (SIZE - 0.5, -0.5)],
    [(-0.5, 79.5), (-0.5, SIZE - 0.5), (SIZE - 0.5, SIZE - 0.5), (SIZE - 0.5, 79.5)],
])


def gaussians(places, fluxes, fwhm=4.0):
    y, x = np.mgrid[:SIZE, :SIZE]
    sigma = fwhm / 2.3548200450309493
    return sum(f * np.exp(-0.5 * ((y - b) ** 2 + (x - a) ** 2) / sigma**2)
               for (b, a), f in zip(places, fluxes)).astype(np.float32)


def test_every_pixel_has_one_facet():
    labels = facet_labels(LEFT_RIGHT, GRID)
    assert (labels[:, :80] == 0).all() and (labels[:, 80:] == 1).all()


def test_concave_facets_and_places_outside():
    shape = [(20, 20), (20, 120), (120, 120), (70, 70), (120, 20)]
    labels = facet_labels(outlines([shape]), GRID)
    assert labels[30, 70] == 0 and labels[110, 70] == -1 and labels[10, 70] == -1
    y, x = np.array([30.0, 110.0, 80.0]), np.array([70.0, 70.0, 40.0])
    found = facet_of(outlines([shape]), GRID, *GRID.radec(*GRID.lm(y, x)))
    assert found.tolist() == labels[y.astype(int), x.astype(int)].tolist() == [0, -1, 0]


def test_maps_have_one_value_a_facet():
    made = offset_map(np.array([[1.0, 2.0], [3.0, 4.0]]), LEFT_RIGHT, GRID)
    assert made.shape == (2, SIZE, SIZE)
    assert made[0, 5, 5] == 1 and made[1, 5, 100] == 4


def test_an_offset_to_the_north_east_moves_the_image_south_west():
    """The image has a source too far north and east; afterwards it is where it belongs."""
    east, north = np.array([1.2, 0.0]) * ARCSEC, np.array([0.7, 0.0]) * ARCSEC
    true = np.array([60.0, 40.0])
    seen = true + [north[0] / CELL, -east[0] / CELL]
    moved = shift_image(gaussians([seen], [1.0]), facet_labels(LEFT_RIGHT, GRID),
                        *shift_in_pixels(east, north, CELL))
    np.testing.assert_allclose(moved, gaussians([true], [1.0]), atol=2e-4)


def test_interpolation_keeps_peaks_and_goes_any_way():
    labels = facet_labels(LEFT_RIGHT, GRID)
    for dy, dx in ((0.5, 0.5), (-3.3, 7.8), (0.0, -0.25)):
        moved = shift_image(gaussians([(80, 40)], [1.0]), labels, np.array([dy, 0]),
                            np.array([dx, 0]))
        np.testing.assert_allclose(moved, gaussians([(80 + dy, 40 + dx)], [1.0]), atol=4e-4)


def test_facets_move_on_their_own_and_what_does_not_move_is_untouched():
    image = gaussians([(80, 40), (80, 120)], [1.0, 2.0])
    moved = shift_image(image, facet_labels(LEFT_RIGHT, GRID), np.array([0.4, 0]),
                        np.array([0, 0]))
    assert np.array_equal(moved[:, 80:], image[:, 80:])
    np.testing.assert_allclose(moved[:, :70], gaussians([(80.4, 40)], [1.0])[:, :70], atol=3e-4)


def test_blank_pixels_stay_blank():
    image = gaussians([(80, 40)], [1.0])
    image[:, :6] = np.nan
    moved = shift_image(image, facet_labels(LEFT_RIGHT, GRID), np.zeros(2), np.array([1.3, 0]))
    assert np.isnan(moved[:, 1:7]).all() and np.isfinite(moved[:, 7:]).all()


def test_components_are_restored_where_they_belong():
    """A component on an edge is drawn whole, also in the facet beside it."""
    model = np.zeros((SIZE, SIZE), np.float32)
    model[80, 79], model[40, 120], model[3, 3] = 1.0, 2.0, 4.0
    dy, dx = np.array([0.3, -1.6]), np.array([-0.45, 0.2])
    moved = restore_shifted(model, np.zeros_like(model), facet_labels(LEFT_RIGHT, GRID), dy, dx,
                            BEAM, CELL)
    wanted = gaussians([(80.3, 78.55), (38.4, 120.2), (3.3, 2.55)], [1.0, 2.0, 4.0])
    np.testing.assert_allclose(moved, wanted, atol=3e-5)


def test_without_offsets_it_is_an_ordinary_restored_image():
    from ddfpipe.imaging.restore import restore

    rng = np.random.default_rng(1)
    model = np.where(rng.uniform(size=(SIZE, SIZE)) > 0.999, 1.0, 0.0).astype(np.float32)
    residual = rng.standard_normal((SIZE, SIZE)).astype(np.float32)
    beam = (9 * ARCSEC, 6 * ARCSEC, 0.5)
    moved = restore_shifted(model, residual, facet_labels(LEFT_RIGHT[:1], GRID), np.zeros(1),
                            np.zeros(1), beam, CELL)
    np.testing.assert_allclose(moved, restore(model, residual, beam, CELL), atol=1e-4)


def test_shapes_that_differ_are_refused():
    labels = facet_labels(LEFT_RIGHT, GRID)
    with pytest.raises(ImagingError, match="differ"):
        shift_image(np.zeros((4, 4)), labels, np.zeros(2), np.zeros(2))
    with pytest.raises(ImagingError, match="pixels"):
        restore_shifted(np.zeros(labels.shape), np.zeros(labels.shape), labels, np.zeros(2),
                        np.zeros(2), (CELL, CELL, 0.0), CELL)
