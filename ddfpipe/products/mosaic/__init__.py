"""Mosaics of the images of several pointings; see docs/mosaics.md."""

from ddfpipe.products.mosaic.combine import Mosaic, make_mosaic
from ddfpipe.products.mosaic.options import MosaicOptions

__all__ = ["Mosaic", "MosaicOptions", "make_mosaic"]
