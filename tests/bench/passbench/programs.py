"""The programs and how they are asked for the same pass."""

from __future__ import annotations

import json
import os
import shutil
import sys
from dataclasses import asdict
from functools import partial
from pathlib import Path

from checkout import own_modules
from programcost import Cost, run

from .setting import Work

LOSS = 0.0005
"""What our averaging may cost at a facet's corner, for DDFacet to be compared at that."""


def run_ddfpipe(work: Work) -> Cost:
    settings = {"ms": str(work.ms), "field": str(work.field), "gains": work.gains,
                "threads": work.threads, "folder": str(work.folder), "with_psf": work.psf,
                **asdict(work.setting)}
    return run([sys.executable, "-m", "passbench.ours", json.dumps(settings)], work.folder / "log",
               work.folder, own_modules())


def run_ddfacet(work: Work, loss: float = 0.02) -> Cost:
    """DDFacet, one band as ours, PSFs of the facets' size; loss: by averaging, 0.02 its default."""
    s = work.setting
    words = [
        "--Output-Name=ddf", "--Output-Mode=Dirty", f"--Data-MS={work.ms}",
        "--Data-ColName=DATA", f"--Image-NPix={s.npix}", f"--Image-Cell={s.cell:g}",
        f"--Facets-NFacets={s.facets}", f"--Parallel-NCPU={work.threads}",
        "--Weight-Mode=Natural", "--Freq-NBand=1", "--Freq-NDegridBand=1", "--Data-Sort=1",
        "--Cache-Dir=.", "--Cache-DirWisdomFFTW=.", "--Debug-Pdb=never", "--Log-Boring=1",
        "--Output-Clobber=1", "--Misc-ConserveMemory=0", f"--Comp-GridDecorr={loss:g}",
    ]
    if work.gains:
        words += ["--DDESolutions-DDSols=true", f"--DDESolutions-SolsDir={work.field / 'SOLSDIR'}",
                  "--DDESolutions-GlobalNorm=None", "--DDESolutions-DDModeGrid=AP",
                  "--DDESolutions-DDModeDeGrid=AP", "--Facets-DiamMax=10", "--Facets-DiamMin=0.01"]
    python = work.ddf.parent / "python"
    return run([python, work.ddf, *words], work.folder / "log", work.folder,
               {"PATH": f"{work.ddf.parent}:{os.environ['PATH']}"})


def run_wsclean(work: Work) -> Cost:
    s = work.setting
    words = [
        "wsclean", "-name", "wsc", "-size", s.npix, s.npix, "-scale", f"{s.cell:g}asec",
        "-pol", "I", "-weight", "natural", "-use-wgridder", "-niter", "0", "-make-psf",
        "-data-column", "DATA", "-no-update-model-required", "-j", work.threads,
        "-facet-regions", work.field / "facets.reg",
    ]
    if work.gains:
        words += ["-apply-facet-solutions", work.field / "gains.h5", "phase000"]
    return run([*words, work.ms], work.folder / "log", work.folder)


PROGRAMS = {
    "ddfpipe": (run_ddfpipe, "ours.dirty.fits"),
    "ddfacet": (run_ddfacet, "ddf.dirty.fits"),
    "ddfacet-equal": (partial(run_ddfacet, loss=LOSS), "ddf.dirty.fits"),
    "wsclean": (run_wsclean, "wsc-dirty.fits"),
}


def available(names, ddf: Path | None) -> list[str]:
    """Those of the programs that can be run here."""
    out = []
    for name in names:
        if name.startswith("ddfacet") and (ddf is None or not ddf.exists()):
            print("no DDFacet: pip install ddfacet==1.0.0.0 elsewhere, give --ddf PLACE/bin/DDF.py")
        elif name == "wsclean" and shutil.which("wsclean") is None:
            print("no WSClean: apt-get install wsclean")
        else:
            out.append(name)
    return out
