#!/usr/bin/env python3
"""Write big-mslist.txt (all good measurement sets) and mslist.txt (every fourth of them).

Looks at every *.ms in the current directory.  Fewer than 18 good ones are a failure unless the
word 'force' is given.
"""

import argparse
import sys


def main() -> int:
    """Parse, make the lists, print the table; returns the exit code."""
    parser = argparse.ArgumentParser(prog="make_mslists.py", description=__doc__)
    parser.add_argument("force", nargs="?", choices=["force"],
                        help="make the lists even of fewer than 18 measurement sets")
    force = parser.parse_args().force is not None

    from ddfpipe.data.mslists import make_mslists
    from ddfpipe.errors import DdfpipeError

    try:
        lists = make_mslists(".", force=force)
    except DdfpipeError as error:
        print(f"make_mslists.py: {error}", file=sys.stderr)
        return error.exit_code
    print(lists.table())
    print(f"big-mslist.txt: {len(lists.full)} measurement sets; mslist.txt: {len(lists.small)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
