#!/usr/bin/env python3
"""Move images facet by facet; `apply-astrometric-shifts.py --help` tells how."""

from pathlib import Path

from ddfpipe.cli import argument_parser, run_script, stop_asked
from ddfpipe.pipeline.signals import StopFlag

DESCRIPTION = """Move finished images facet by facet by measured offsets; only facets whose offset
is larger than its error.  The results are called ROOT_newshift.app.restored.fits and so on."""


def main(words: list[str]) -> None:
    """Move and tell what was done."""
    from ddfpipe.naming import FINAL_IMAGE, image_product

    parser = argument_parser("apply-astrometric-shifts.py", DESCRIPTION)
    parser.add_argument("images", nargs="*", type=Path, metavar="IMAGE",
                        help="FITS images (default: app and int of the final image)")
    parser.add_argument("--offsets", type=Path, default=Path("pslocal-facet_offsets.fits"),
                        metavar="TABLE", help="table of offsets (default: %(default)s)")
    parser.add_argument("--facets", type=Path, default=Path(image_product(FINAL_IMAGE, "tessel")),
                        metavar="REGIONS", help="facet layout (default: %(default)s)")
    parser.add_argument("--all", action="store_true", help="move every facet")
    given = parser.parse_args(words)
    from ddfpipe.pipeline.remeasure import apply_shifts

    stop = StopFlag(asked_by="SIGUSR1" if stop_asked() else None)
    stop.install()
    images = given.images or [Path(image_product(FINAL_IMAGE, kind))
                              for kind in ("app_restored", "int_restored")]
    for line in apply_shifts(images, given.offsets, given.facets, every=given.all,
                             check=stop.check):
        print(line)


if __name__ == "__main__":
    run_script(main)
