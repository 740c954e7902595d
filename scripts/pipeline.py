#!/usr/bin/env python3
"""Make images of a LOFAR field: pipeline.py [plan|status|config] FILE... [--section-option=value]

Calibration and imaging of all measurement sets of a field; see docs/manual.md.
"""

from ddfpipe.cli import answer, parse_arguments, run_script, stop_asked
from ddfpipe.pipeline.signals import StopFlag


def main(words: list[str]) -> int:
    """Do what the command line says; return the exit code."""
    arguments = parse_arguments(words)
    code = answer(arguments)
    if code is not None:
        return code
    stop = StopFlag(asked_by="SIGUSR1" if stop_asked() else None)
    from ddfpipe.pipeline.run import execute

    return execute(arguments.command, arguments.words, stop, arguments.estimate)


if __name__ == "__main__":
    run_script(main)
