#!/usr/bin/env python3
"""usage: plot_factors.py RUN [OBS] [--show] [--output=FILE.png]

Print and plot the flux-scale factors of the bootstrap, the spectra of the sources behind them, and
their spectral indices.

RUN       1 or 2: the first or the final fit, in the current directory; or the directory of a run,
          whose final fits are taken
OBS       an observation, such as L123456; without it all of them
--show    open a window instead of writing factors_OBS_RUN.png
--output  name of the picture (of one observation)
"""

from pathlib import Path

from ddfpipe.cli import run_script
from ddfpipe.errors import ConfigError


def main(words: list[str]) -> None:
    """Print and plot what was asked for."""
    if set(words) & {"-h", "--help"}:
        print(__doc__)
        return
    show, output, plain = False, "", []
    for word in words:
        if word == "--show":
            show = True
        elif word.startswith("--output="):
            output = word.partition("=")[2]
        elif word.startswith("-"):
            raise ConfigError(f"{word}: there is no such option; see --help")
        else:
            plain.append(word)
    if not 1 <= len(plain) <= 2:
        raise ConfigError("give RUN and perhaps an observation; see --help")
    from ddfpipe.pipeline.fluxscale import scale_files, scaled_observations
    from ddfpipe.products.fluxscale.plots import draw_scale, load_scale, show_scale

    number = plain[0] in ("1", "2")
    fit, home = (int(plain[0]), Path()) if number else (2, Path(plain[0]))
    there = scaled_observations(home)
    chosen = plain[1:] or there
    if not set(chosen) <= set(there):
        raise ConfigError(f"no factors of {chosen[0]} lie here; there are those of "
                          f"{', '.join(there)}")
    if output and len(chosen) > 1:
        raise ConfigError(f"--output={output}: name one observation of {', '.join(chosen)}")
    for observation in chosen:
        files = scale_files(home, observation)
        print(load_scale(files, fit)[0].text())
        if show:
            show_scale(files, fit)
        else:
            print(draw_scale(files, Path(output or f"factors_{observation}_{fit}.png"), fit))


if __name__ == "__main__":
    run_script(main)
