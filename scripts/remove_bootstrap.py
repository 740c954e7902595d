#!/usr/bin/env python3
"""Remove one column that a pipeline made, such as SCALED_DATA, from the measurement sets of a list.

Shows what would go and asks first.
"""

from ddfpipe.cli import argument_parser, run_script


def main(words: list[str]) -> None:
    """Show, ask, remove."""
    from ddfpipe.pipeline.removal import add_arguments, remove_by_hand

    parser = argument_parser("remove_bootstrap.py", __doc__)
    parser.add_argument("sets", metavar="LIST|MS", help="list of sets, or a set")
    parser.add_argument("column", nargs="?", default="SCALED_DATA", metavar="COLUMN",
                        help="its name (default: SCALED_DATA)")
    add_arguments(parser)
    options = parser.parse_args(words)
    remove_by_hand([options.sets], [options.column], options)


if __name__ == "__main__":
    run_script(main)
