#!/usr/bin/env python3
"""usage: quality_pipeline.py FILE... [--section-option=value]...

Makes a source catalogue of a finished image and measures how good the image is: noise, dynamic
range, positions and fluxes against other surveys, source counts, completeness, false detections.
FILEs are configuration files (see examples/quality_pipeline.cfg); without any words the table of
all options is printed.  Exit code 6 means that the image does not keep the [limits].
"""

from ddfpipe.cli import EXIT_USAGE, run_script


def main(words: list[str]) -> int:
    """Do what the command line says; return the exit code."""
    if set(words) & {"-h", "--help"}:
        print(__doc__)
        return 0
    if "--version" in words:
        from ddfpipe import __version__

        print(f"ddfpipe {__version__}")
        return 0
    if not words:
        from ddfpipe.config.describe import describe_options
        from ddfpipe.config.quality import QUALITY_SECTIONS

        print("usage: quality_pipeline.py FILE... [--section-option=value]...   (see --help)\n")
        print(describe_options(sections=QUALITY_SECTIONS), end="")
        return EXIT_USAGE
    from ddfpipe.pipeline.quality import execute_quality

    return execute_quality(words)


if __name__ == "__main__":
    run_script(main)
