#!/usr/bin/env python3
"""Show where the time of a run went; also of one that is at work or broke off.

Reads the records and logs of this program, and logs of ddf-pipeline.
"""

from ddfpipe.cli import argument_parser, run_script


def main(words: list[str]) -> None:
    """Print the table; write what is asked for."""
    parser = argument_parser("analyse_logs.py", __doc__)
    parser.add_argument("folder", nargs="?", default=".", metavar="DIR",
                        help="working directory of the run, or a folder of logs (default: here)")
    parser.add_argument("--csv", metavar="FILE", help="also write every stage and attempt here")
    parser.add_argument("--plot", metavar="FILE", help="also draw a picture (PNG)")
    options = parser.parse_args(words)
    from ddfpipe.report.timing import draw_times, read_spans, time_table, write_csv

    spans = read_spans(options.folder)
    print(time_table(spans))
    if options.csv:
        write_csv(spans, options.csv)
    if options.plot:
        draw_times(spans, options.plot)


if __name__ == "__main__":
    run_script(main)
