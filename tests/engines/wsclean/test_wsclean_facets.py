"""The region file of facets as WSClean reads it."""

from __future__ import annotations

import re

import numpy as np

from ddfpipe.engines.wsclean.facets import polygons, write_regions
from ddfpipe.imaging.facets import voronoi_facets
from ddfpipe.imaging.sky import radec_to_lm

CENTRE = np.deg2rad([210.0, 50.0])
CELL = np.deg2rad(4.5 / 3600)
NPIX = 864


def test_corners_round_to_pixels_of_the_image(tmp_path):
    """WSClean 3.1 rounds corners to whole pixels, and ends where one lies outside: "Facet does not
    fit in main image"."""
    rng = np.random.default_rng(1)
    for count in (2, 5, 20):
        l, m = rng.uniform(-400 * CELL, 400 * CELL, (2, count))
        facets = voronoi_facets(npix=NPIX, cell=CELL, l=l, m=m, max_size_rad=1.0)
        text = write_regions(tmp_path / "facets.reg", facets, CENTRE).read_text()
        found = re.findall(r"polygon\((.*)\)", text)
        assert len(found) == len(polygons(facets))
        rounded = []
        for words in found:
            ra, dec = np.deg2rad(np.array(words.split(","), float).reshape(-1, 2)).T
            pixel = np.stack(radec_to_lm(ra, dec, *CENTRE)) / CELL * [[-1], [1]]
            rounded.append(np.sign(pixel) * np.floor(np.abs(pixel) + 0.5) + NPIX / 2)
        corners = np.concatenate(rounded, axis=1)
        assert corners.min() == 0 and corners.max() == NPIX  # all of the image, and no more
