"""The command line of scripts/simulate.py."""

from __future__ import annotations

import argparse
import sys
import time

from ddfpipe.errors import ConfigError, DdfpipeError


def _nested(settings: list[str]) -> dict:
    """{"sky": {"n_sources": 3}} of ["sky.n_sources=3"]; values are TOML, or else plain text."""
    import tomllib

    out: dict = {}
    for setting in settings:
        name, equals, text = setting.partition("=")
        if not equals:
            raise ConfigError(f"--set {setting}: give section.option=value")
        try:
            value = tomllib.loads(f"v = {text}")["v"]
        except tomllib.TOMLDecodeError:
            value = text
        target = out
        *sections, last = name.strip().split(".")
        for section in sections:
            target = target.setdefault(section, {})
        target[last] = value
    return out


class Parser(argparse.ArgumentParser):
    """Wrong use ends like any other bad input: exit code 1."""

    def error(self, message: str):
        self.print_usage(sys.stderr)
        self.exit(1, f"{self.prog}: {message}\n")


def parser() -> Parser:
    """The options of scripts/simulate.py."""
    out = Parser(
        prog="simulate.py",
        description="Write simulated LOFAR measurement sets, their lists and the truth.",
    )
    out.add_argument(
        "--config", default="example", metavar="FILE",
        help="TOML file, or a preset: example (default), known-answer",
    )
    out.add_argument("--output", required=True, metavar="DIR", help="folder to write into")
    out.add_argument(
        "--like", metavar="MS", default="",
        help="copy the metadata (uvw, stations, times, flags, weights) of this measurement set",
    )
    out.add_argument(
        "--set", action="append", default=[], metavar="SECTION.OPTION=VALUE",
        help="override one option, e.g. --set sky.n_sources=20; may be repeated",
    )
    out.add_argument("--threads", type=int, default=None, help="default: all CPUs")
    out.add_argument("--quiet", action="store_true", help="print nothing but errors")
    return out


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    args = parser().parse_args(argv)
    tell = (lambda text: None) if args.quiet else (lambda text: print(text, flush=True))
    start = time.monotonic()
    try:
        from ddfpipe.simulate.spec import load_spec

        overrides = _nested(args.set)
        if args.like:
            overrides["like"] = args.like
        spec = load_spec(args.config, overrides)
        from ddfpipe.simulate.run import simulate

        made = simulate(spec, args.output, args.threads, tell)
    except DdfpipeError as err:
        print(f"simulate.py: {err}", file=sys.stderr)
        return err.exit_code
    tell(
        f"{len(made.ms)} measurement sets, {made.mslist}, {made.big_mslist} and {made.truth} "
        f"in {time.monotonic() - start:.1f} s"
    )
    return 0
