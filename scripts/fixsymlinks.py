#!/usr/bin/env python3
"""Repair the links in SOLSDIR to merged solutions after a directory was moved or unpacked.

Broken and absolute links become relative ones, absent ones are made.
"""

from pathlib import Path

from ddfpipe.cli import argument_parser, run_script
from ddfpipe.errors import DataError


def main(words: list[str]) -> None:
    """Show what is wrong and mend it."""
    parser = argument_parser("fixsymlinks.py", __doc__)
    parser.add_argument("workdir", nargs="?", default=".", metavar="DIR",
                        help="folder of the merged solutions (default: here)")
    parser.add_argument("--solsdir", metavar="DIR", help="folder of solutions (default: SOLSDIR)")
    parser.add_argument("--tolerance", type=float, default=3600.0, metavar="SECONDS",
                        help="how far starts may be apart (default: %(default)g)")
    parser.add_argument("--dry-run", action="store_true", help="show only")
    options = parser.parse_args(words)
    from ddfpipe.data.links import find_repairs, repair_links

    repairs = find_repairs(Path(options.workdir), options.solsdir, options.tolerance)
    for repair in repairs:
        if repair.target is not None:
            print(f"{repair.link}: {repair.why}, leads to {repair.target.name}")
    hopeless = [f"{repair.link}: {repair.why}" for repair in repairs if repair.target is None]
    if options.dry_run:
        print(f"{len(repairs) - len(hopeless)} link(s) to mend")
    else:
        print(f"{repair_links(repairs)} link(s) mended")
    if hopeless:
        raise DataError("nothing fits these links:\n  - " + "\n  - ".join(hopeless))


if __name__ == "__main__":
    run_script(main)
