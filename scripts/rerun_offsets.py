#!/usr/bin/env python3
"""Measure the offsets of a run's final image once more; `rerun_offsets.py --help` tells how."""

from ddfpipe.cli import argument_parser, run_script, stop_asked
from ddfpipe.pipeline.signals import StopFlag

DESCRIPTION = """Measure the offsets of the final image's facets in the current directory, for
mosaics to use, without a configuration.  Corrections (facet-offset.txt, astromap.fits) are left
as they are."""


def main(words: list[str]) -> None:
    """Measure and tell what was found."""
    parser = argument_parser("rerun_offsets.py", DESCRIPTION)
    parser.add_argument("--method", default="pslocal",
                        help="reference catalogue, or the path of one (default: pslocal)")
    parser.add_argument("--catalogue_dir", metavar="DIR", help="folder of catalogues on disk")
    parser.add_argument("--server", metavar="URL", help="another server of the catalogue")
    parser.add_argument("--fit", choices=("mcmc", "chi2"), help="default: mcmc")
    parser.add_argument("--image", metavar="ROOT", help="default: image_full_ampphase_di_m.NS")
    given = parser.parse_args(words)
    from ddfpipe.config import Config
    from ddfpipe.naming import FINAL_IMAGE
    from ddfpipe.pipeline.remeasure import measure_again, with_offsets

    config = with_offsets(Config(), method=given.method, catalogue_dir=given.catalogue_dir,
                          server=given.server, fit=given.fit)
    stop = StopFlag(asked_by="SIGUSR1" if stop_asked() else None)
    stop.install()
    for line in measure_again(config, given.image or FINAL_IMAGE, stop, correct=False,
                              log="rerun_offsets"):
        print(line)


if __name__ == "__main__":
    run_script(main)
