#!/usr/bin/env python3
"""usage: unpack.py

Unpack the measurement sets in the archives (*.tar.gz, *.tgz, *.tar) of the current directory.
What was unpacked before is skipped, so it may be run again at any time.  Archives whose name
contains tokens, LINC, cal_solutions, logs or inspection are left alone.
"""

from ddfpipe.cli import run_script
from ddfpipe.errors import ConfigError


def main(words: list[str]) -> None:
    """Unpack and tell what was done."""
    if set(words) & {"-h", "--help"}:
        print(__doc__)
        return
    if words:
        raise ConfigError(f"takes no arguments, not {' '.join(words)}")
    from ddfpipe.data.unpack import unpack_all

    result = unpack_all(".", say=lambda text: print(text, flush=True))
    for remark in result.remarks:
        print(f"note: {remark}")
    sets = sum(len(names) for names in result.unpacked.values()) + len(result.moved)
    print(f"{len(result.unpacked)} archive(s) unpacked, {len(result.done_before)} done before; "
          f"{sets} measurement set(s) brought here")


if __name__ == "__main__":
    run_script(main)
