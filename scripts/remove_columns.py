#!/usr/bin/env python3
"""Remove the columns that pipelines put into measurement sets, after showing them and asking.

Columns of other names are never touched.
"""

from ddfpipe.cli import argument_parser, run_script


def main(words: list[str]) -> None:
    """Show, ask, remove."""
    from ddfpipe.pipeline.removal import add_arguments, remove_by_hand

    parser = argument_parser("remove_columns.py", __doc__)
    parser.add_argument("sets", nargs="+", metavar="LIST|MS", help="list of sets, or a set")
    add_arguments(parser)
    options = parser.parse_args(words)
    remove_by_hand(options.sets, None, options)


if __name__ == "__main__":
    run_script(main)
