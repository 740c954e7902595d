"""The process in which PyBDSF runs: `python -m ddfpipe.products.bdsf_worker job.json`.

The job names the arguments of bdsf.process_image and the files to make in the working directory;
what came of it is written to result.json.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import traceback
from pathlib import Path

IMAGES = {"rms": "rms", "mean": "mean", "residual": "gaus_resid", "model": "gaus_model",
          "mask": "island_mask"}
"""Our names of images and those of PyBDSF."""
TUPLES = ("rms_box", "rms_box_bright", "trim_box")


def main(name: str) -> None:
    """Carry out the job in file `name`."""
    threading.Thread(target=_die_with_parent, daemon=True).start()
    job = json.loads(Path(name).read_text())
    try:
        found, error = _find(job), ""
    except BaseException as problem:
        traceback.print_exc()
        found, error = 0, f"{type(problem).__name__}: {problem}"
    part = Path("result.json.part")
    part.write_text(json.dumps({"sources": found, "error": error}))
    part.rename("result.json")


def _find(job: dict) -> int:
    import bdsf

    options = {key: tuple(value) if key in TUPLES else value
               for key, value in job["options"].items()}
    image = bdsf.process_image(options.pop("filename"), **options)
    found = int(getattr(image, "nsrc", 0))
    for kind, path in job["products"].items():
        if kind in IMAGES:
            image.export_image(outfile=path, img_format="fits", img_type=IMAGES[kind],
                               clobber=True)
        elif found:
            image.write_catalog(
                outfile=path, clobber=True, format="ds9" if kind == "regions" else "fits",
                catalog_type="gaul" if kind == "gaussians" else "srl",
                incl_chan=job["incl_chan"],
            )
    return found


def _die_with_parent() -> None:
    """Wait for the end of the input, which comes when the parent is gone; then end everything."""
    try:
        os.read(0, 1)
    finally:
        os.killpg(os.getpgrp(), signal.SIGKILL)


if __name__ == "__main__":
    # A signal that asks the pipeline to stop may reach us too; the pipeline ends us itself.
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    main(sys.argv[1])
