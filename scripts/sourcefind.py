#!/usr/bin/env python3
"""usage: sourcefind.py --intfile=IMAGE --appfile=IMAGE --prefix=NAME [--simple] [--threads=N]

Source catalogue of an image with PyBDSF: PREFIX.cat.fits, and PREFIX.rms.fits, .resid.fits,
.pybdsmmask.fits, .cat.reg.  Sources are detected on the apparent image (appfile) and measured on
the beam-corrected one (intfile).  Large islands are measured again as a whole in a second pass;
--simple makes one pass only.
"""

from ddfpipe.cli import run_script
from ddfpipe.errors import ConfigError
from ddfpipe.pipeline.signals import StopFlag

NAMES = ("intfile", "appfile", "prefix", "threads")


def main(words: list[str]) -> None:
    """Find the sources."""
    if set(words) & {"-h", "--help"}:
        print(__doc__)
        return
    given, simple = options(words)
    stop = StopFlag()
    stop.install()
    from ddfpipe.pipeline.sourcefind import find

    print(find(given["intfile"], given["appfile"], given["prefix"], simple=simple,
               threads=given.get("threads"), stop=stop))


def options(words: list[str]) -> tuple[dict[str, str], bool]:
    """(values by name, whether --simple was given) of `--name=value` or `--name value`."""
    given: dict[str, str] = {}
    simple, rest = False, list(words)
    while rest:
        word = rest.pop(0)
        name, equals, value = word.removeprefix("--").partition("=")
        if word == "--simple":
            simple = True
        elif word.startswith("--") and name in NAMES and (equals or rest):
            given[name] = value if equals else rest.pop(0)
        else:
            raise ConfigError(f"{word} is not understood; {__doc__.splitlines()[0]}")
    lacking = [f"--{name}" for name in NAMES[:3] if name not in given]
    if lacking:
        raise ConfigError(f"{' and '.join(lacking)} must be given; {__doc__.splitlines()[0]}")
    if not given.get("threads", "1").isdecimal() or given.get("threads") == "0":
        raise ConfigError(f"--threads={given['threads']}: a whole number above 0 is needed")
    return given, simple


if __name__ == "__main__":
    run_script(main)
