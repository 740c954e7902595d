"""The command line of mosaic.py."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from ddfpipe.products.commandline import Parser
from ddfpipe.products.mosaic.options import METHODS, PROJECTIONS, MosaicOptions

_DESCRIPTION = """\
Mosaic of the final images of several directories, each weighted by (beam / noise)^2.
Products: [band<n>-][<rootname>-]mosaic.fits, -weights.fits, -coverage.fits, -moc.fits, .png."""


def parse(words: Sequence[str], program: str = "mosaic.py") -> MosaicOptions:
    """MosaicOptions of a command line; ConfigError for wrong words.  --help prints and exits."""
    values = vars(parser(program).parse_args(list(words)))
    for name in ("directories", "noise", "scale", "centre", "size"):
        if values[name] is not None:
            values[name] = tuple(values[name])
    return MosaicOptions(**values)


def parser(program: str = "mosaic.py") -> Parser:
    """All arguments."""
    out = Parser(prog=program, description=_DESCRIPTION, allow_abbrev=False,
                 formatter_class=argparse.RawDescriptionHelpFormatter)
    out.add_argument("--directories", metavar="DIR", nargs="+", type=Path, required=True,
                     help="directories of finished runs")
    out.add_argument("--rootname", default="", metavar="NAME",
                     help="products are called NAME-mosaic.fits and so on")
    _add_images(out.add_argument_group("which images"))
    _add_weights(out.add_argument_group("fluxes and weights"))
    _add_facets(out.add_argument_group("facets and positions"))
    _add_grid(out.add_argument_group("grid of the mosaic"))
    _add_work(out.add_argument_group("work"))
    return out


def _flag(group, name: str, text: str) -> None:
    group.add_argument(f"--{name}", action="store_true", help=text)


def _add_images(group) -> None:
    group.add_argument("--band", type=int, metavar="N", help="images of band N")
    _flag(group, "use_shifted", "the images with corrected astrometry (_shift ... facetRestored)")
    _flag(group, "do_lowres", "image_full_low_m instead of the full resolution")
    _flag(group, "do_vlow", "image_full_vlow_nocut_m")
    _flag(group, "do_wsclean", "WSCLEAN_low-MFS-image-int")
    _flag(group, "do_stokesV", "Stokes V of image_full_high_stokesV")
    group.add_argument("--convolve", type=float, metavar="R",
                       help="convolve to R arcsec first; kept as <image>_convolved.fits")


def _add_weights(group) -> None:
    group.add_argument("--beamcut", type=float, default=0.3, metavar="B",
                       help="use each image where its beam is above B (default: 0.3)")
    group.add_argument("--noise", type=float, nargs="+", metavar="N",
                       help="noise at the centre of each image before --scale, Jy/beam")
    _flag(group, "find_noise", "measure the noise at the centre of each image")
    _flag(group, "read_noise", "noise by facet, <app>_facetnoise.fits, made if it is not there")
    group.add_argument("--scale", type=float, nargs="+", metavar="S",
                       help="factor for the flux of each image")
    _flag(group, "use_scalefactor", "multiply by the map <app>.scalefactors.fits")
    _flag(group, "use_imcrop", "keep only the central part that imcrop.txt tells")


def _add_facets(group) -> None:
    _flag(group, "apply_shift", "shift each facet by its measured offset")
    group.add_argument("--offsets", default="pslocal", metavar="METHOD",
                       help="offsets of <METHOD>-facet_offsets.fits (default: pslocal)")
    _flag(group, "facet_only", "mosaic by facet without a shift")
    _flag(group, "use_badfacet", "leave out the facets listed in Badfacets.txt")
    group.add_argument("--astromap_blank", type=float, metavar="X",
                       help="leave out where astromap.fits has errors above X arcsec")


def _add_grid(group) -> None:
    group.add_argument("--header", type=Path, metavar="FITS", help="grid of this image")
    _flag(group, "load_layout", "grid of the last mosaic of this name (mosaic-header.txt)")
    group.add_argument("--projection", metavar="P", help=f"{', '.join(PROJECTIONS)} "
                       "(default: as the first image)")
    group.add_argument("--pixel", type=float, metavar="ARCSEC",
                       help="side of a pixel (default: as the first image)")
    group.add_argument("--centre", type=float, nargs=2, metavar=("RA", "DEC"),
                       help="degrees (default: middle of what is covered)")
    group.add_argument("--size", type=int, nargs=2, metavar=("NX", "NY"),
                       help="pixels (default: all that is covered)")
    _flag(group, "four_axes", "write axes STOKES and FREQ too")


def _add_work(group) -> None:
    group.add_argument("--method", metavar="M",
                       help=f"{', '.join(METHODS)} (default: {METHODS[0]})")
    _flag(group, "exact", "the same as --method exact")
    _flag(group, "save", "keep reproject-<dir>.fits, weight-<dir>.fits, astroblank-<dir>.fits")
    _flag(group, "load", "take those up where they were made from the same files and options")
    _flag(group, "no_write", "no mosaic; with --save, only what that keeps")
    group.add_argument("--threads", type=int, metavar="N", help="default: all CPUs")
    group.add_argument("--tile", type=int, default=1024, metavar="PIXELS",
                       help="side of the pieces (default: 1024)")
