#!/usr/bin/env python3
"""One small simulated field through the whole recipe with every engine that is here; a table.

    python tests/bench/three_engines.py FOLDER [--engines native,wsclean,mixed,ddfacet,killms]
                                        [--field scans|hour|long|tiny] [--seed N]
                                        [WORD...]

simulates FOLDER/field (kept if it is there), runs `pipeline.py` unattended in FOLDER/<engine>
(finished stages are kept), images the noise alone and the error-free field with each run's own
weights, facets and mask, and writes FOLDER/figures.json and FOLDER/table.md.  Other words are
handed to pipeline.py, such as --machine-dp3=PLACE.  Engines whose programs are missing are left
out, with a line that says what to install.  "mixed" takes gains from our own engine and images
from WSClean, "killms" images from our own engine and gains from killMS.

The fields (`three_fields.py`) have no beam, for Linux distributions build WSClean without one.
Fluxes, artefacts and what is left of sources too faint for any mask are measured as in
`known_answer.py`, phases against the phases of the simulation as in `known_phases.py`.  Of "tiny",
which has no such sources, fewer figures are taken.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from contextlib import suppress
from pathlib import Path

import numpy as np
from checkout import ROOT, use_own_package
from known_answer import FINAL, artefacts, companions, fluxes, survival
from known_phases import Comparison, interval_means, without_shift
from programcost import run as run_program
from three_fields import FIELDS, chosen, peaks_over_truth, simulated

ENGINES = {
    "native": (), "wsclean": ("--machine-engine=wsclean",),
    "mixed": ("--machine-image_engine=wsclean",), "ddfacet": ("--machine-engine=ddfacet",),
    "killms": ("--machine-solve_engine=ddfacet",),
}
FAST, SLOW, DI = "DDS3_full", "DDS3_full_slow", "DIS2_full"
"""Solution sets behind the final image: fast and slow gains of directions, full-Jones gains."""


def missing(engine: str, words: list[str]) -> str | None:
    """What keeps an engine from being used here, None if nothing does."""
    from ddfpipe.config import load_config
    from ddfpipe.errors import DdfpipeError
    from ddfpipe.pipeline.engines import choose

    try:
        choose(load_config([*ENGINES[engine], *words], check=False).machine, None)
    except DdfpipeError as error:
        return str(error)
    return None


def run_recipe(engine: str, config: str, folder: Path, words: list[str]) -> dict:
    """Run the pipeline; CPU and wall time in s, memory in bytes, kept from the first whole run."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "field.cfg").write_text(config)
    note = folder / "cost.json"
    if note.exists():
        return json.loads(note.read_text())
    command = [sys.executable, ROOT / "scripts/pipeline.py", "field.cfg", "--control-nobar=True",
               "--control-quiet=True", *ENGINES[engine], *words]
    spent = run_program(command, folder / "pipeline.log", folder, one_thread=False)
    cost = {"cpu_s": spent.cpu, "wall_s": spent.wall, "memory_bytes": spent.mapped()}
    note.write_text(json.dumps(cost))
    return cost


# ---------------------------------------------------------------------- measuring


def applied_names(solsdir: Path, ms: str) -> list[str]:
    """Names of the solution sets that the final image applies."""
    from ddfpipe.data.solutions import solution_path

    names = [f"{FAST}_smoothed", f"{SLOW}_merged"]
    return [name for name in names if solution_path(solsdir, ms, name).exists()]


def phase_errors(run: Path, field: Path, sets: list[str] | None = None,
                 stations=slice(None)) -> dict:
    """Errors of the phases against the simulation, rad.

    sets: solution sets of directions to multiply, by default those of the final image.
    stations: numbers of those that count, all by default.
    What no calibration on one's own image can know is left out: one phase a direction and time,
    and a constant shift of each direction on the sky; so are intervals that a set says it did not
    solve.  Directions count by the flux of their sources, stations alike.
    """
    both = Comparison(run, field)
    flux = np.bincount(both.owner, both.flux, both.n_dir)
    lefts, weights = [], []
    for index, ms in enumerate(both.sets):
        names = [*(sets or applied_names(run / "SOLSDIR", ms)), di_set(run, ms)]
        found = both.of_set(index, names, both.flux)
        solved = np.isfinite(sum(found.errors))
        lefts.append(np.angle(found.gain[:, stations]))
        weights.append(np.floor(interval_means(solved, found.slots)[:, stations]))
    left, weight = np.array(lefts), np.array(weights)
    uv = interval_means(both.uv[:, stations], found.slots)
    left, shifts = without_shift(left, weight, uv, both.freqs)
    count = weight.sum(axis=(0, 1, 2))
    rms = np.sqrt((weight * left**2).sum(axis=(0, 1, 2)) / np.maximum(count, 1))
    order = np.argsort(-flux)
    return {
        "phase_error_rad": float(np.sqrt(np.average(rms**2, weights=flux * (count > 0)))),
        "phase_error_by_direction": [round(float(v), 3) for v in rms[order]],
        "shift_by_direction_arcsec": [round(float(v), 2) for v in np.hypot(*shifts.T)[order]],
    }


def di_set(run: Path, ms: str) -> str:
    """The full-Jones set that was applied to the data: merged where the recipe merges."""
    from ddfpipe.data.solutions import h5parm_path, solution_path

    there = [name for name in (f"{DI}_merged", f"{DI}_smoothed")
             if any(f(run / "SOLSDIR", ms, name).exists() for f in (h5parm_path, solution_path))]
    return there[0] if there else DI


def positions(run: Path, field: Path) -> dict:
    """Mean offset and scatter (arcsec) of the brighter sources from their true places."""
    from known_answer import centroid

    from ddfpipe.data.images import read_image
    from ddfpipe.data.skymodel import read_skymodel
    from ddfpipe.units import ARCSEC

    image = read_image(run / f"{FINAL}.int.restored.fits")
    sky = read_skymodel(field / "truth.skymodel")
    places = np.stack(image.grid.pixel_of(sky.ra, sky.dec), axis=1)
    half = int(round(image.beam[0] / image.grid.cell))
    real = [i for i, name in enumerate(sky.name) if not name.startswith("f")]
    offsets = np.array([centroid(image.plane(), places[i], half) for i in real])
    offsets *= image.grid.cell / ARCSEC
    return {"offset_arcsec": [round(float(v), 2) for v in np.median(offsets, axis=0)],
            "offset_scatter_arcsec": float(np.hypot(*(offsets - np.median(offsets, 0)).T).mean())}


def measure(run: Path, field: Path, faint: bool) -> dict:
    """All figures of a finished run; faint: of one with sources below every mask."""
    home = Path.cwd()
    os.chdir(run)
    try:
        if faint:
            companions(run)
            figures = fluxes(run, field) | survival(run, field) | artefacts(run, field)
        else:
            figures = peaks(run, field)
        figures |= positions(run, field) | phase_errors(run, field)
        figures["raw_phase_error_rad"] = phase_errors(run, field, [FAST])["phase_error_rad"]
        return figures | {"dynamic_range": brightest(run, field) / figures["noise"]}
    finally:
        os.chdir(home)


def peaks(run: Path, field: Path) -> dict:
    """Noise of the final image and flux of its model (Jy), and peaks over true fluxes."""
    from ddfpipe.data.images import read_image
    from ddfpipe.data.model import load_model
    from ddfpipe.imaging.noise import robust_noise

    ratio = np.array(list(peaks_over_truth(run, field, 0.1).values()))
    middle = float(np.median(ratio))
    return {"noise": robust_noise(read_image(run / f"{FINAL}.app.residual.fits").plane()),
            "model_jy": float(load_model(run / f"{FINAL}.model.npz").total_flux.mean()),
            "peak_over_truth": middle,
            "peak_scatter": float(1.4826 * np.median(np.abs(ratio - middle)))}


def brightest(run: Path, field: Path) -> float:
    """Largest pixel of the apparent restored image, Jy/beam."""
    from ddfpipe.data.images import read_image

    return float(np.nanmax(read_image(run / f"{FINAL}.app.restored.fits").plane()))


ROWS = {
    "noise of the final image, mJy/beam": lambda f: f"{1e3 * f['noise']:.2f}",
    "noise over that of the noise alone": lambda f: f"{f['noise_over_thermal']:.2f}",
    "the same without any error in the data":
        lambda f: f"{f['clean_companion_over_thermal']:.2f}",
    "flux of its model, Jy": lambda f: f"{f['model_jy']:.1f}",
    "peak over true flux: median, scatter":
        lambda f: f"{f['peak_over_truth']:.2f}, {f['peak_scatter']:.2f}",
    "dynamic range": lambda f: f"{f['dynamic_range']:.0f}",
    "flux over true flux: median, scatter":
        lambda f: f"{f['flux_over_truth']:.3f}, {f['flux_scatter']:.3f}",
    "flux left of sources below every mask":
        lambda f: f"{f['survival']:.2f} ± {f['survival_error']:.2f}",
    "positions: median offset, scatter, arcsec":
        lambda f: f"{f['offset_arcsec'][1]}, {f['offset_arcsec'][0]}; "
                  f"{f['offset_scatter_arcsec']:.2f}",
    "artefacts round the brightest, mJy/beam": lambda f: f"{1e3 * f['excess_final']:.2f}",
    "phase errors, applied (as solved), rad":
        lambda f: f"{f['phase_error_rad']:.3f} ({f['raw_phase_error_rad']:.3f})",
    "CPU, s": lambda f: f"{f['cpu_s']:.0f}",
    "wall, s": lambda f: f"{f['wall_s']:.0f}",
    "peak memory, programs included, MB": lambda f: f"{f['memory_bytes'] / 1e6:.0f}",
}


def table(figures: dict[str, dict]) -> str:
    """The figures as a table of Markdown, a column an engine."""
    names = list(figures)
    lines = ["| | " + " | ".join(names) + " |", "|---" * (len(names) + 1) + "|"]
    for title, text in ROWS.items():
        with suppress(KeyError):  # not taken of this field
            lines.append(f"| {title} | " + " | ".join(text(figures[n]) for n in names) + " |")
    return "\n".join(lines) + "\n"


def main() -> None:
    use_own_package()
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--engines", default=",".join(ENGINES))
    parser.add_argument("--field", choices=FIELDS, default="scans")
    parser.add_argument("--seed", type=int, help="of another field of the same kind")
    options, words = parser.parse_known_args()
    spec, config = chosen(options.field, options.seed)
    faint = options.field != "tiny"
    folder = options.folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    figures = {}
    for engine in options.engines.split(","):
        lacking = missing(engine, words)
        if lacking:
            print(f"== {engine} is left out: {lacking}", flush=True)
            continue
        print(f"== {engine}", flush=True)
        field = simulated(folder, spec, faint)
        cost = run_recipe(engine, config.format(field=field), folder / engine, words)
        figures[engine] = cost | measure(folder / engine, field, faint)
        (folder / "figures.json").write_text(json.dumps(figures, indent=1) + "\n")
        (folder / "table.md").write_text(table(figures))
    print(table(figures))


if __name__ == "__main__":
    main()
