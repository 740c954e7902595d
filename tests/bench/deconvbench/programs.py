"""The programs of the comparison on a prepared field: costs and models."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from dataclasses import field as one
from pathlib import Path

import numpy as np
from checkout import own_modules
from programcost import run

from ddfpipe.data.dicomodel import read_dicomodel
from ddfpipe.data.model import ROUNDING, PixelModel, load_model
from ddfpipe.engines.ddfacet.commands import Cleaning, Imaging, image_command
from ddfpipe.engines.ddfacet.inputs import wide_grid, write_mask

from .field import Field, image_job

HERE = Path(__file__).resolve().parent
SIGMA = 3.0
"""Noises at which all programs stop."""

RADLER_SCALES = 5
HMP_SCALES = "[0,1,2,4,8,16]"


@dataclass
class Outcome:
    """cpu: s in the deconvolution, by major cycle.  start: CPU s of imports and reading.

    memory: bytes during the deconvolution.  whole: CPU s of all that the program did.
    model: what it found after the last cycle.
    """

    cpu: list[float]
    start: float
    memory: float
    model: PixelModel
    whole: float = 0.0
    notes: dict = one(default_factory=dict)


def run_ours(field: Field, folder: Path, majors: int, threads: int = 1,
             signed: bool = False) -> Outcome:
    """Our minor cycles, and residuals by our operators between them.

    signed: negative components are allowed, as in the recipe's images of all data.
    """
    job = image_job(field.folder, [], field.case, field.setting)
    fields = {"name": "ours", "npix": job.npix, "cell_arcsec": job.cell_arcsec,
              "robust": job.robust, "major_cycles": majors, "peak_factor": job.peak_factor,
              "rms_factor": SIGMA, "n_bands": job.n_bands, "allow_negative": signed}
    grid, out = field.grid, Outcome([], 0.0, 0.0, PixelModel.empty(
        field.grid, field.arrays["band_freq"]))
    residual, model = field.arrays["residual"], ""
    for cycle in range(majors):
        np.save(folder / "residual.npy", residual)
        words = {"work": str(field.folder / "work.npz"), "residual": "residual.npy",
                 "model": model, "out": f"model{cycle}.npz", "cost": "cost.json", "job": fields,
                 "grid": [grid.ra, grid.dec, grid.ny, grid.nx, grid.cell], "threads": threads}
        command = [sys.executable, "-m", "deconvbench.minor_ours"]
        done = _run_minor(folder, command, words, out, own_modules())
        model = words["out"]
        out.model = load_model(folder / model)
        out.notes.setdefault("cycles", []).append(done)
        if cycle + 1 < majors:
            residual = field.residual(out.model)
    return out


def _run_minor(folder: Path, command: list, words: dict, out: Outcome,
               env: dict | None = None) -> dict:
    """Run a minor cycle in a process of its own and add its cost to `out`."""
    (folder / "settings.json").write_text(json.dumps(words))
    spent = run([*command, "settings.json"], folder / "log", folder, env)
    cost = json.loads((folder / "cost.json").read_text())
    out.cpu.append(cost["cpu"])
    out.start = max(out.start, cost["start"])
    out.memory = max(out.memory, (spent.mapped() or spent.largest))
    out.whole += spent.cpu
    return cost


def run_radler(field: Field, folder: Path, majors: int, python: Path, algorithm: str,
               threads: int = 1) -> Outcome:
    """Radler's minor cycles, and residuals by our operators between them.

    As in WSClean the image is cleaned with the one PSF of its middle, joined over the bands with a
    spectrum of two terms.
    """
    arrays, grid = field.arrays, field.grid
    width = np.gradient(arrays["band_freq"])
    freq = np.stack([arrays["band_freq"] - width / 2, arrays["band_freq"] + width / 2], 1)
    np.save(folder / "psf.npy", arrays["whole_psf"])
    out = Outcome([], 0.0, 0.0, PixelModel.empty(grid, arrays["band_freq"]))
    residual, model = arrays["residual"], ""
    for cycle in range(majors):
        np.save(folder / "residual.npy", residual)
        words = {
            "algorithm": algorithm, "residual": "residual.npy", "psf": "psf.npy", "model": model,
            "mask": str(field.folder / "mask.fits"), "freq": freq.tolist(),
            "weight": arrays["band_weight"].tolist(), "beam": field.beam[0], "cell": grid.cell,
            "threshold": SIGMA * field.noise, "scales": RADLER_SCALES, "threads": threads,
            "cycle": cycle, "shape": list(grid.shape), "out": f"model{cycle}.npy",
            "cost": "cost.json",
        }
        done = _run_minor(folder, [python, HERE / "minor_radler.py"], words, out)
        model = words["out"]
        out.model = PixelModel.from_cube(np.load(folder / model), grid, arrays["band_freq"],
                                         ROUNDING)
        out.notes.setdefault("cycles", []).append(done)
        if cycle + 1 < majors:
            residual = field.residual(out.model)
    return out


def ddfacet_words(field: Field, folder: Path, majors: int, mode: str, threads: int) -> list[str]:
    """Options of DDF.py: those of our engine `ddfacet`, on the field's mask, facets and weights."""
    s, wide = field.setting, wide_grid(field.grid)
    mask = write_mask(folder / "mask.fits", field.arrays["mask"], field.grid, wide, 144e6)
    (folder / "sets.txt").write_text("".join(f"{ms}\n" for ms in field.ms))
    imaging = Imaging(
        program="", prefix="image", sets="sets.txt", w_max=1000 * s.uv_km[1], npix=wide.nx,
        cell_arcsec=s.cell, robust=s.robust, n_bands=field.case.bands, threads=threads,
        cache=".", wisdom=".", decorrelation=False,
    )
    cleaning = Cleaning(majors, 0.001, SIGMA, None, str(mask))
    words = image_command(imaging, cleaning, "DATA")[1:]
    words += [
        f"--Facets-NFacets={s.facets}", f"--Selection-UVRangeKm=[{s.uv_km[0]},{s.uv_km[1]}]",
        "--Comp-GridDecorr=0.002", "--Comp-DegridDecorr=0.002", "--Output-Clobber=1",
        f"--Deconv-Mode={mode}",
    ]
    if mode == "HMP":
        words += [f"--HMP-Scales={HMP_SCALES}", "--HMP-Alpha=[-2,1,7]", "--Deconv-AllowNegative=0"]
    return words


def run_ddfacet(field: Field, folder: Path, majors: int, program: Path, mode: str,
                threads: int = 2) -> Outcome:
    """DDFacet from the measurement sets; what its deconvolution machine does is counted."""
    python = program.parent / "python"
    words = ddfacet_words(field, folder, majors, mode, threads)
    spent = run([python, HERE / "run_ddfacet.py", "calls.json", *words], folder / "log", folder,
                {"PATH": f"{program.parent}:{os.environ['PATH']}"})
    calls = json.loads((folder / "calls.json").read_text())
    cpu, pending = [], 0.0
    for call in calls:
        pending += call["cpu"]
        if call["call"] == "Deconvolve":
            cpu.append(pending)
            pending = 0.0
    model = read_dicomodel(folder / "image.DicoModel", grid=wide_grid(field.grid),
                           freq=field.arrays["band_freq"]).on_grid(field.grid)
    memory = spent.mapped([(c["from"], c["to"]) for c in calls])
    return Outcome(cpu, spent.cpu - sum(cpu) - pending, memory, model, spent.cpu,
                   {"calls": calls})


def has_radler(python: Path | None) -> bool:
    """Whether a Python has Radler."""
    if python is None or not shutil.which(str(python)):
        return False
    return subprocess.run([python, "-c", "import radler"], capture_output=True).returncode == 0
