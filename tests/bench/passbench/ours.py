"""The pass with the native engine, in a process of its own."""

from __future__ import annotations

import json
import shutil
import sys
import time
from pathlib import Path

import numpy as np


def operators(settings: dict, scratch: Path):
    """Operators of the pass: data read and weighted, facets, gains.

    settings: ms, field, folder, gains, threads, npix, cell; scratch: folder for arrays on disk.
    """
    from ddfpipe.engines.base import GainChoice, ImageJob, Silent, VisSelection
    from ddfpipe.engines.native.engine import NativeEngine
    from ddfpipe.engines.native.imager import Imager
    from ddfpipe.engines.native.visibilities import Scratch

    field = Path(settings["field"])
    engine = NativeEngine(
        workdir=field, cache_dir=Path(settings["folder"]) / "cache", solsdir=field / "SOLSDIR",
        threads=settings["threads"], memory_limit=2 << 30, beam_model="none",
    )
    job = ImageJob(
        name="ours", vis=VisSelection((Path(settings["ms"]),), "DATA", uv_km=(0.0, 1e4)),
        npix=settings["npix"], cell_arcsec=settings["cell"], robust=None, restoring_beam=None,
        peak_factor=0.0, rms_factor=3.0, auto_mask_sigma=None, major_cycles=0, n_bands=1,
        weights="spectrum", clusters="directions.npy",
        gains=GainChoice(("true",), "AP") if settings["gains"] else None,
    )
    return Imager(engine, job, Silent())._operators(Scratch(scratch))


def psf_side(operators, share: float) -> int:
    """Pixels on a side of PSFs of `share` times the largest facet."""
    largest = max(max(f.ny, f.nx) for f in operators.facets.facets)
    return 2 * round(share * largest / 2)


def ours(settings: dict) -> None:
    """The pass in this process; leaves the CPU seconds of its parts."""
    from ddfpipe.data.images import SkyGrid, write_image
    from ddfpipe.engines.native.imager import Imager  # noqa: F401

    last = time.process_time()
    parts = {"imports": last}

    def note(what: str) -> None:
        nonlocal last
        parts[what], last = time.process_time() - last, time.process_time()

    folder = Path(settings["folder"])
    shutil.rmtree(folder / "cache", ignore_errors=True)
    work = operators(settings, folder / "scratch")
    note("reading, weights, gains")
    work.set_residual(None)
    image = work.adjoint()
    note("dirty image")
    if settings["with_psf"]:
        psfs = work.psfs(psf_side(work, settings["psf"]))
        note("PSFs")
        np.save(folder / "ours.psf.npy", psfs)
    grid = SkyGrid(*work.data.phase_centre, *2 * (work.facets.npix,), work.facets.cell)
    write_image(folder / "ours.dirty.fits", image[0], grid, freq=work.data.mean_freq)
    note("writing")
    work.scratch.close()
    parts["all"] = time.process_time()
    (folder / "parts.json").write_text(json.dumps(parts))


if __name__ == "__main__":
    ours(json.loads(sys.argv[1]))
