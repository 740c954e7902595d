"""Mosaics of the images of several pointings; see docs/mosaics.md.

    from ddfpipe.products.mosaic import MosaicOptions, make_mosaic
    made = make_mosaic(MosaicOptions(directories=("P1", "P2"), find_noise=True))
"""

from typing import TYPE_CHECKING

from ddfpipe.products.mosaic.options import MosaicOptions

if TYPE_CHECKING:
    from ddfpipe.products.mosaic.combine import Mosaic, make_mosaic

__all__ = ["Mosaic", "MosaicOptions", "make_mosaic"]


def __getattr__(name: str):
    # A command line is parsed, or refused, before the numerical packages are loaded.
    if name in ("Mosaic", "make_mosaic"):
        from ddfpipe.products.mosaic import combine

        return getattr(combine, name)
    raise AttributeError(name)
