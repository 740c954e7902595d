#!/usr/bin/env python3
"""Fetch archives of measurement sets; run it again to go on where it ended.

Each SOURCE is the address of a file or (ending in a slash) of an index page, a text file that names
files one a line, a place REMOTE:PATH for rclone, or the name of an observation on --server.
"""

from pathlib import Path

from ddfpipe.cli import argument_parser, run_script, stop_asked
from ddfpipe.errors import DataError
from ddfpipe.pipeline.signals import StopFlag

SERVER = "https://lofar-webdav.grid.sara.nl/SKSP/"
MEGABYTE = 1_000_000


def main(words: list[str]) -> None:
    """Fetch everything that is asked for."""
    options = arguments(words)
    stop = StopFlag(asked_by="SIGUSR1" if stop_asked() else None)
    stop.install()
    from ddfpipe.data import rclone
    from ddfpipe.report.progress import Progress

    screen = Progress()
    failed: list[str] = []
    try:
        for source in options.sources:
            try:
                if rclone.is_remote(source):
                    rclone.copy(source, Path(options.output or "."),
                                rclone.find_config(options.config), jobs=options.jobs,
                                without=tuple(options.exclude), say=screen.text)
                else:
                    failed += fetch_source(source, options, stop, screen)
            except DataError as error:
                failed.append(str(error))
    finally:
        screen.close()
    if failed:
        raise DataError("not everything could be fetched:\n  - " + "\n  - ".join(failed))


def fetch_source(source: str, options, stop: StopFlag, screen) -> list[str]:
    """Fetch the files of one source over HTTP; what failed."""
    from ddfpipe.data.checksums import read_checksums
    from ddfpipe.data.download import Manner, download_all
    from ddfpipe.data.sizes import size_text
    from ddfpipe.data.webclient import Client
    from ddfpipe.data.webindex import read_token

    token = read_token(options.token) if options.token else None
    client = Client(token, options.token or "", options.ca_file)

    def progress(name: str, done: int, total: int) -> None:
        steps = 1 + total // MEGABYTE
        screen.update(f"{name} (MB)", steps if done >= total else done // MEGABYTE, steps)

    manner = Manner(options.retries, check=stop.check, progress=progress, say=screen.text)
    remotes, folder = find_files(source, options, client, manner)
    checksums = read_checksums(options.checksums) if options.checksums else None
    made = download_all(client, remotes, folder, checksums, options.jobs, manner)
    for one in made.done:
        how = f"verified by its {one.verified}" if one.verified else \
            "NOT VERIFIED: neither length nor checksum are known"
        what = f"{size_text(one.size)} fetched" if one.fetched else "there already"
        screen.text(f"{one.path}: {what}, {how}")
    return made.failed


def find_files(source: str, options, client, manner):
    """(files of a source, folder for them).  Raises DataError when there are too few."""
    from ddfpipe.data.download import read_text
    from ddfpipe.data.webindex import Remote, name_of, parse_index, read_url_list, safe_name

    folder, expected = Path(options.output or "."), options.expect
    if "://" not in source and Path(source).is_file():
        return read_url_list(Path(source)), folder
    if "://" not in source:
        folder = Path(options.output or safe_name(source.strip("/")))
        expected = 24 if expected is None else expected
        source = f"{options.server.rstrip('/')}/{source.strip('/')}/"
    if not source.endswith("/") and not source.endswith((".html", ".htm")):
        return [Remote(source, safe_name(name_of(source)))], folder
    found = parse_index(read_text(client, source, manner), source, tuple(options.exclude))
    if len(found) < max(1, expected or 0):
        raise DataError(f"{source}: the page links to {len(found)} archive(s) instead of at least "
                        f"{max(1, expected or 0)}; look at it, or give --expect 1")
    return found, folder


def arguments(words: list[str]):
    """The command line taken apart."""
    parser = argument_parser("download.py", __doc__)
    parser.add_argument("sources", nargs="+", metavar="SOURCE")
    parser.add_argument("--output", metavar="DIR", help="folder to write into (default: this one; "
                        "for an observation one of its name)")
    parser.add_argument("--token", metavar="FILE", help="macaroon or other bearer token, alone or "
                        "in an rclone configuration")
    parser.add_argument("--checksums", metavar="FILE", help="checksums of the files, as md5sum, "
                        "rclone or dCache tools write them; *.md5 and the like on an index page "
                        "and those that the server tells are used without being asked for")
    parser.add_argument("--config", metavar="FILE", help="configuration of rclone, also looked up "
                        "in RCLONE_CONFIG_DIR and MACAROON_DIR")
    parser.add_argument("--server", default=SERVER, metavar="URL",
                        help="where observations are (default: %(default)s)")
    parser.add_argument("--expect", type=int, metavar="N", help="fail if an index page links to "
                        "fewer archives (default: 24 for an observation, else 1)")
    parser.add_argument("--exclude", action="append", default=["step1"], metavar="TEXT",
                        help="leave out files with TEXT in their name (always: step1)")
    parser.add_argument("--jobs", type=int, default=2, choices=range(1, 17), metavar="N",
                        help="files at a time (default: %(default)s)")
    parser.add_argument("--retries", type=int, default=6, metavar="N",
                        help="attempts in a row without progress (default: %(default)s)")
    parser.add_argument("--ca-file", metavar="FILE", help="certificates to trust instead of the "
                        "system's")
    return parser.parse_args(words)


if __name__ == "__main__":
    run_script(main)
