#!/usr/bin/env python3
"""Write compressed copies <ms>.archive of measurement sets, here or beside them."""

from pathlib import Path

from ddfpipe.cli import argument_parser, run_script, stop_asked
from ddfpipe.errors import DataError, StageFailed
from ddfpipe.naming import archive_name
from ddfpipe.pipeline.signals import StopFlag


def main(words: list[str]) -> None:
    """Archive every measurement set of the list."""
    options = arguments(words)
    stop = StopFlag(asked_by="SIGUSR1" if stop_asked() else None)
    stop.install()
    from ddfpipe.data.archive import archive_ms, describe
    from ddfpipe.data.ms import read_list
    from ddfpipe.report.monitor import RunMonitor
    from ddfpipe.report.progress import Progress

    screen = Progress()
    monitor = RunMonitor(screen, stop.check)
    failed = []
    for ms in read_list(options.mslist):
        folder = ms.parent if options.inmsdir else Path()
        try:
            made = archive_ms(
                ms, folder / archive_name(ms), options.column, monitor=monitor,
                skip_imaging_weights=options.skipimweights, preserve=options.preserve,
            )
        except DataError as error:
            failed.append(str(error))
            screen.text(f"{ms.name}: failed")
        else:
            screen.text(describe(made))
    screen.close()
    if failed:
        raise StageFailed("these were not archived:\n  - " + "\n  - ".join(failed))


def arguments(words: list[str]):
    """The command line taken apart."""
    parser = argument_parser("archivems.py", __doc__)
    parser.add_argument("-m", "--mslist", default="big-mslist.txt", metavar="FILE",
                        help="list of measurement sets (default: %(default)s)")
    parser.add_argument("-c", "--column", default="DATA_DI_CORRECTED", metavar="NAME",
                        help="column to keep, as DATA (default: %(default)s)")
    parser.add_argument("--inmsdir", action="store_true",
                        help="write beside each measurement set, not into this directory")
    parser.add_argument("--skipimweights", action="store_true", help="leave IMAGING_WEIGHT out")
    parser.add_argument("--preserve", action="store_true",
                        help="keep an archive that is there, whatever it was made from; else it is "
                        "renamed to <ms>.archive.1 and so on")
    return parser.parse_args(words)


if __name__ == "__main__":
    run_script(main)
