"""ds9 regions: a facet layout that DDFacet wrote, masks and positions."""

from __future__ import annotations

import numpy as np
import pytest

from ddfpipe.data.images import SkyGrid
from ddfpipe.data.regions import (
    FacetOutline,
    read_tessel,
    region_centres,
    region_mask,
    write_polygons,
    write_tessel,
)
from ddfpipe.errors import SkyModelError
from ddfpipe.units import ARCSEC, DEGREE

GRID = SkyGrid(3.65, 0.95, 100, 120, 10 * ARCSEC)


def test_ddfacets_own_layout_survives_reading_and_writing(shared_data, tmp_path):
    source = shared_data / "peer-products" / "ddfacet.tessel.reg"
    facets = read_tessel(source)
    assert len(facets) == 9 and {f.label for f in facets} == {
        "F0_S8", "F1_S6", "F2_S2", "F3_S7", "F4_S3", "F5_S4", "F6_S1", "F7_S5", "F8_S0"}
    assert all(len(f.polygon) >= 3 for f in facets)
    copy = write_tessel(tmp_path / "a.tessel.reg", facets)
    assert sorted(copy.read_text().splitlines()) == sorted(source.read_text().splitlines())
    again = read_tessel(copy)
    assert [f.label for f in again] == [f.label for f in facets]


def test_ddfacets_points_go_to_the_polygons_about_them(shared_data):
    """Only one of the nine points of this file is followed by the edges of its facet."""
    for facet in read_tessel(shared_data / "peer-products" / "ddfacet.tessel.reg"):
        (ra, dec), corners = facet.centre, facet.polygon
        # Turn angle about the point: a full turn inside, none outside.
        east, north = (corners[:, 0] - ra) * np.cos(dec), corners[:, 1] - dec
        angle = np.unwrap(np.arctan2(north, east)[[*range(len(corners)), 0]])
        assert abs(angle[-1] - angle[0]) == pytest.approx(2 * np.pi, abs=1e-6)


def test_points_outside_their_facets_stay_where_they_are(tmp_path):
    """A facet cut off by the edge of the image can lose its direction."""
    square = np.array([[0, 0], [1, 0], [1, 1], [0, 1]]) * DEGREE
    facets = [FacetOutline("out", (5 * DEGREE, 0.5 * DEGREE), square),
              FacetOutline("in", (1.5 * DEGREE, 0.5 * DEGREE), square + [DEGREE, 0])]
    assert [f.label for f in read_tessel(write_tessel(tmp_path / "a.reg", facets))] == ["out", "in"]


@pytest.mark.parametrize("labels", [True, False])
def test_polygons_for_other_programs(tmp_path, labels):
    square = np.array([[359.5, 50], [0.5, 50], [0.5, 51], [359.5, 51]]) * DEGREE
    facets = [FacetOutline("[dir00]", (0.0, 50.5 * DEGREE), square)]
    path = write_polygons(tmp_path / "a.reg", facets, labels=labels)
    assert ("text={[dir00]}" in path.read_text()) == labels == ("point" in path.read_text())
    (back,) = read_tessel(path)
    np.testing.assert_allclose(back.polygon, square, atol=1e-10)
    assert back.label == ("dir00" if labels else "F0")


def test_wscleans_polygons_are_read(tmp_path):
    path = tmp_path / "facets.reg"
    path.write_text("fk5\npolygon(10,50,11,50,11,51)\npoint(10.6,50.3) # text={dir1}\n"
                    "polygon(11,50,12,50,12,51,11,51)\npoint(11.5,50.5) # text={dir2}\n")
    facets = read_tessel(path)
    assert [f.label for f in facets] == ["dir1", "dir2"]
    assert np.allclose(facets[1].polygon[2] / DEGREE, [12, 51])
    assert np.allclose(np.array(facets[0].centre) / DEGREE, [10.6, 50.3])


@pytest.mark.parametrize("text", [
    "", "fk5\ncircle(1,2,3)\n", "fk5\nline(1,1,2,2)\nline(3,3,1,1)\nline(1,1,1,1)\n",
    "fk5\nline(1:00,1,2,2)\n",
])
def test_broken_layouts_are_named(tmp_path, text):
    path = tmp_path / "bad.reg"
    path.write_text(text)
    with pytest.raises(SkyModelError, match="bad.reg"):
        read_tessel(path)


def test_region_mask_marks_the_sky_it_says(tmp_path):
    ra, dec = (float(v) / DEGREE for v in GRID.radec(*GRID.lm(30.0, 40.0)))
    path = tmp_path / "m.reg"
    path.write_text(f'fk5\ncircle({ra:.6f},{dec:.6f},100")\n-circle({ra:.6f},{dec:.6f},30")\n')
    mask = region_mask(path, GRID)
    yy, xx = np.mgrid[:100, :120]
    distance = np.hypot(yy - 30, xx - 40)
    assert mask[(distance < 9) & (distance > 4)].all()
    assert not mask[distance > 11].any() and not mask[distance < 2].any()
    with pytest.raises(SkyModelError, match="none.reg"):
        region_mask(tmp_path / "none.reg", GRID)


def test_centres_and_labels(tmp_path):
    path = tmp_path / "dirs.reg"
    path.write_text("fk5\npoint(10.0,50.0) # text={one}\ncircle(359.9,20,10\")\n"
                    "polygon(359.5,-1,0.5,-1,0.5,1,359.5,1)\n")
    centres, names = region_centres(path)
    assert np.allclose(centres[:2] / DEGREE, [[10, 50], [359.9, 20]])
    assert np.allclose(np.sin(centres[2]), 0, atol=1e-9) and names[0] == "one"


def test_a_facet_without_centre_cannot_be_written(tmp_path):
    with pytest.raises(SkyModelError, match="centre"):
        write_tessel(tmp_path / "a.reg", [FacetOutline("F0", None, np.zeros((3, 2)))])
