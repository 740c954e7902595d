#!/usr/bin/env python3
"""usage: offsets.py [--image=ROOT] [--shift] [FILE...] [--section-option=value]...

Measure the offsets of a finished image's facets from a reference catalogue, as section [offsets]
of the configuration says, in the current directory:

    offsets.py my.cfg                                     the final image of a run, again
    offsets.py my.cfg --offsets-method=wise --offsets-fit=chi2
    offsets.py --image=my_image --offsets-method=/data/catalogue.fits

ROOT.app.restored.fits, ROOT.int.restored.fits and ROOT.tessel.reg are read; without --image ROOT is
image_full_ampphase_di_m.NS.  --shift also writes the moved image.  --offsets-mode=test measures
what is left on the moved image.
"""

from ddfpipe.cli import run_script, stop_asked
from ddfpipe.pipeline.signals import StopFlag


def main(words: list[str]) -> None:
    """Measure and tell what was found."""
    if set(words) & {"-h", "--help"}:
        print(__doc__)
        return
    from ddfpipe.config import load_config
    from ddfpipe.naming import FINAL_IMAGE
    from ddfpipe.pipeline.remeasure import measure_again

    images = [word.partition("=")[2] for word in words if word.startswith("--image=")]
    rest = [word for word in words if not word.startswith("--image=") and word != "--shift"]
    config = load_config(rest, check=False)
    stop = StopFlag(asked_by="SIGUSR1" if stop_asked() else None)
    stop.install()
    for line in measure_again(config, images[-1] if images else FINAL_IMAGE, stop, correct=True,
                              move="--shift" in words):
        print(line)


if __name__ == "__main__":
    run_script(main)
