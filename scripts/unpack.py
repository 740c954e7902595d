#!/usr/bin/env python3
"""Unpack the measurement sets in the archives (*.tar.gz, *.tgz, *.tar) of the current directory.

May be run again at any time: what was unpacked before is skipped.  Archives whose name contains
tokens, LINC, cal_solutions, logs or inspection are left alone.
"""

import argparse
import sys


def main() -> int:
    """Parse, unpack, tell what was done; returns the exit code."""
    argparse.ArgumentParser(prog="unpack.py", description=__doc__).parse_args()

    from ddfpipe.data.unpack import unpack_all
    from ddfpipe.errors import DdfpipeError

    try:
        result = unpack_all(".", say=lambda text: print(text, flush=True))
    except DdfpipeError as error:
        print(f"unpack.py: {error}", file=sys.stderr)
        return error.exit_code
    for remark in result.remarks:
        print(f"note: {remark}")
    sets = sum(len(names) for names in result.unpacked.values()) + len(result.moved)
    print(f"{len(result.unpacked)} archive(s) unpacked, {len(result.done_before)} done before; "
          f"{sets} measurement set(s) brought here")
    return 0


if __name__ == "__main__":
    sys.exit(main())
