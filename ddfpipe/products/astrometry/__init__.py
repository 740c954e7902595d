"""Astrometry: offsets of facets from a reference catalogue, and images moved by them.

    offsets = read_facet_offsets("pslocal-facet_offsets.fits")
    outlines = read_tessel("image.tessel.reg")
    labels = facet_labels(outlines, grid)
    moved = shift_image(plane, labels, *shift_in_pixels(offsets.east, offsets.north, grid.cell))
"""

from ddfpipe.products.astrometry.facetmap import coarse_grid, facet_labels, facet_of, offset_map
from ddfpipe.products.astrometry.shift import restore_shifted, shift_image, shift_in_pixels
from ddfpipe.products.astrometry.tables import (
    FacetOffsets, read_facet_offsets, write_facet_offsets,
)

__all__ = [
    "FacetOffsets", "coarse_grid", "facet_labels", "facet_of", "offset_map",
    "read_facet_offsets", "restore_shifted", "shift_image", "shift_in_pixels",
    "write_facet_offsets",
]
