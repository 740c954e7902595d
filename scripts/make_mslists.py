#!/usr/bin/env python3
"""usage: make_mslists.py [force]

Write big-mslist.txt (all good measurement sets *.ms of the current directory) and mslist.txt
(every fourth of them).  Fewer than 18 good ones are a failure unless the word 'force' is given.
"""

from ddfpipe.cli import run_script
from ddfpipe.errors import ConfigError


def main(words: list[str]) -> None:
    """Make the lists and print the table."""
    if set(words) & {"-h", "--help"}:
        print(__doc__)
        return
    if words not in ([], ["force"]):
        raise ConfigError(f"only the word 'force' is understood, not {' '.join(words)}")
    from ddfpipe.data.mslists import make_mslists

    lists = make_mslists(".", force=bool(words))
    print(lists.table())
    print(f"big-mslist.txt: {len(lists.full)} measurement sets; mslist.txt: {len(lists.small)}")


if __name__ == "__main__":
    run_script(main)
