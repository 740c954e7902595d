#!/usr/bin/env python3
"""Make a mosaic of the images of several directories; `mosaic.py --help` lists the arguments."""

from ddfpipe.cli import run_script, stop_asked
from ddfpipe.pipeline.signals import StopFlag


def main(words: list[str]) -> None:
    """Do what the command line says."""
    from ddfpipe.products.mosaic.arguments import parse

    options = parse(words)
    stop = StopFlag(asked_by="SIGUSR1" if stop_asked() else None)
    stop.install()
    from ddfpipe.products.mosaic import make_mosaic
    from ddfpipe.report.progress import Progress

    screen = Progress()

    def progress(what: str, done: int, total: int) -> None:
        stop.check()
        screen.update(what, done, total)

    try:
        made = make_mosaic(options, progress=progress)
    finally:
        screen.close()
    for text in made.remarks:
        print(f"note: {text}")
    for name, noise in made.noise.items():
        print(f"{name}: noise {noise:.4g} Jy/beam")
    print(", ".join(f"{key} {value:.6g}" for key, value in made.figures.items()))
    for path in made.products.values():
        print(path)


if __name__ == "__main__":
    run_script(main)
