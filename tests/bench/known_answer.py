#!/usr/bin/env python3
"""The whole recipe on a simulated field whose answer is known, measured against its companions.

    python tests/bench/known_answer.py FOLDER [--config PRESET] [--quick]

simulates FOLDER/field (kept if it is there), runs `pipeline.py` in FOLDER/run (finished stages are
kept), images the noise alone and the field without any error with the very weights, facets and mask
of the final image, and writes FOLDER/figures.json.  --quick takes the small preset `example`.

Among the sources of the preset lie INJECTED ones too faint for any mask of the run.  No model ever
holds them, so the part of their flux that is left tells what calibration does to the unknown sky.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
from checkout import ROOT, use_own_package
from known_phases import phases

CONFIG = """\
[data]
mslist = {field}/mslist.txt
full_mslist = {field}/big-mslist.txt
colname = DATA
[image]
imsize = {imsize}
cellsize = 3.0
uvmax = 30
psf_arcsec = 12
final_psf_arcsec = 12
[solutions]
ndir = {ndir}
uvmin = 0.1
dt_di = 0.5
normalize = ['None', 'None', 'None']
NIterKF = [6, 6, 6, 6, 6, 6, 6]
[masking]
thresholds = [10, 5, 5, 5]
[control]
clearcache = False
clearcache_end = False
"""
FINAL = "image_full_ampphase_di_m.NS"
INJECTED, INJECTED_SIGMA = 300, 3.2
"""Number of faint sources, and their flux over the noise of the final image."""
DI_IMAGE = "image_dirin_SSD_m_c_di_m"


def prepare(folder: Path, preset: str, imsize: int, ndir: int) -> tuple[Path, Path]:
    """Simulate and run; (field, run) folders."""
    scripts = ROOT / "scripts"
    field, run = folder / "field", folder / "run"
    if not (field / "big-mslist.txt").exists():
        field.mkdir(parents=True, exist_ok=True)
        write_sky(preset, field / "sky.skymodel")
        command = [sys.executable, scripts / "simulate.py", "--config", preset, "--output", field,
                   "--set", f"sky.model={field / 'sky.skymodel'}"]
        subprocess.run(command, check=True)
    run.mkdir(parents=True, exist_ok=True)
    (run / "field.cfg").write_text(CONFIG.format(field=field, imsize=imsize, ndir=ndir))
    start = time.time()
    subprocess.run([sys.executable, scripts / "pipeline.py", "field.cfg"], cwd=run, check=True)
    print(f"pipeline: {time.time() - start:.0f} s in this call")
    return field, run


def write_sky(preset: str, path: Path) -> None:
    """The sky of a preset and the injected sources, called f0000 and so on, as a sky model."""
    from ddfpipe.simulate.run import make_layout, make_sky
    from ddfpipe.simulate.sky import Source, radec_of, write_skymodel
    from ddfpipe.simulate.spec import load_spec
    from ddfpipe.units import DEGREE

    spec = load_spec(preset)
    layout = make_layout(spec)[0]
    sources = make_sky(spec, layout)
    obs = spec.observation
    n_ant = obs.core_fields + obs.remote_stations
    samples = obs.blocks * obs.slots * obs.n_ms * obs.channels * n_ant * (n_ant - 1)
    # Robust weights and flags cost more than half of the sensitivity.
    flux = float(INJECTED_SIGMA * 2.3 * spec.noise.sample_jy / np.sqrt(samples))
    rng = np.random.default_rng(spec.seed + 1)
    for k in range(INJECTED):
        radius = np.sin(spec.sky.radius_deg * DEGREE * np.sqrt(rng.uniform()))
        angle = rng.uniform(0, 2 * np.pi)
        ra, dec = radec_of(radius * np.sin(angle), radius * np.cos(angle), layout.ra0, layout.dec0)
        sources.append(Source(f"f{k:04d}", float(ra), float(dec), flux, (-0.75,), 144e6))
    write_skymodel(sources, path)


def companions(run: Path) -> None:
    """Images of the noise and of the error-free field with the final image's weights and mask."""
    from ddfpipe.config import load_config
    from ddfpipe.data.ms import read_list
    from ddfpipe.engines.native import NativeEngine
    from ddfpipe.pipeline.selfcal import build_recipe

    config = load_config(["field.cfg"])
    small, full = (
        tuple(read_list(name)) for name in (config.data.mslist, config.data.full_mslist)
    )
    recipe = build_recipe(config, small, full)
    job = next(stage.job for stage in recipe.stages if stage.name == FINAL)
    engine = NativeEngine(
        workdir=Path("."), cache_dir=Path("."), solsdir=Path("SOLSDIR"), threads=os.cpu_count(),
        memory_limit=8 * 10**9, beam_model=config.image.beam_model,
    )
    for name, column, cycles in (("companion_noise", "NOISE_DATA", 0),
                                 ("companion_clean", "CLEAN_DATA", 2)):
        if Path(f"{name}.app.residual.fits").exists():
            continue
        vis = replace(job.vis, column=column, di=None)
        engine.image(
            replace(job, name=name, vis=vis, gains=None, start_model=None, reuse=None,
                    reuse_what=None, major_cycles=cycles), Quiet(),
        )


class Quiet:
    """A monitor that prints messages only."""

    def progress(self, what, done, total):
        pass

    def check(self):
        pass

    def message(self, text):
        print(text, flush=True)


def integrated(image, place, half: int) -> float:
    """Flux in Jy of a box of +-`half` pixels about `place` (y, x), over the beam area."""
    from ddfpipe.imaging.restore import beam_area

    y, x = np.rint(place).astype(int)
    box = image.plane()[y - half:y + half + 1, x - half:x + half + 1]
    return float(box.sum() / beam_area(image.beam, image.grid.cell))


def fluxes(run: Path, field: Path) -> dict:
    """Fluxes and places of isolated point sources above 20 sigma against truth and companion."""
    from ddfpipe.data.images import read_image
    from ddfpipe.data.skymodel import read_skymodel
    from ddfpipe.imaging.noise import robust_noise

    final, clean = (read_image(run / f"{n}.int.restored.fits") for n in (FINAL, "companion_clean"))
    norm = read_image(run / f"{FINAL}.Norm.fits").plane()
    noise = robust_noise(read_image(run / f"{FINAL}.app.residual.fits").plane())
    sky = read_skymodel(field / "truth.skymodel")
    grid, true = final.grid, sky.flux(final.freq)[0]
    places = np.stack(grid.pixel_of(sky.ra, sky.dec), axis=1)
    half = int(round(1.5 * final.beam[0] / grid.cell))
    rows = []
    for i, (y, x) in enumerate(places):
        if sky.name[i].startswith("f"):
            continue
        ok = np.isfinite(y) and min(y, x) > 40 and max(y, x) < grid.nx - 41
        near = np.hypot(*(places - places[i]).T) < 6 * half
        near[i] = False
        if not ok or sky.gaussian[i] or np.any(true[near] > 0.02 * true[i]):
            continue
        if true[i] * norm[int(round(y)), int(round(x))] < 20 * noise:
            continue
        flux, other = integrated(final, (y, x), half), integrated(clean, (y, x), half)
        dy, dx = centroid(final.plane(), (y, x), half)
        rows.append((flux / true[i], flux / other, np.hypot(dy, dx) * grid.cell / final.beam[0]))
    rows = np.array(rows)
    return {
        "sources": len(rows), "flux_over_truth": float(np.median(rows[:, 0])),
        "flux_scatter": float(1.4826 * np.median(np.abs(rows[:, 0] - np.median(rows[:, 0])))),
        "flux_over_companion": float(np.median(rows[:, 1])),
        "position_error_beams": float(np.median(rows[:, 2])),
    }


def centroid(plane, place, half: int) -> tuple[float, float]:
    """Offset (y, x) in pixels of the flux-weighted middle of a source from `place`."""
    y, x = np.rint(place).astype(int)
    box = np.maximum(plane[y - half:y + half + 1, x - half:x + half + 1], 0)
    at = np.arange(-half, half + 1)
    total = box.sum()
    return (float((box.sum(1) * at).sum() / total + y - place[0]),
            float((box.sum(0) * at).sum() / total + x - place[1]))


def survival(run: Path, field: Path) -> dict:
    """Part of the flux of the injected sources that calibration has left, by comparing their mean
    peak with that in the error-free companion (same noise, same weights); and its error."""
    from ddfpipe.data.images import read_image
    from ddfpipe.data.skymodel import read_skymodel

    final, clean = (
        read_image(run / f"{n}.app.restored.fits") for n in (FINAL, "companion_clean")
    )
    noise = read_image(run / "companion_noise.app.residual.fits")
    sky = read_skymodel(field / "truth.skymodel")
    y, x = final.grid.pixel_of(sky.ra, sky.dec)
    faint = np.array([name.startswith("f") for name in sky.name])
    far = np.array([np.hypot(y[~faint] - b, x[~faint] - a).min() > 20 for a, b in zip(x, y)])
    use = np.flatnonzero(faint & far)
    at = np.rint(y[use]).astype(int), np.rint(x[use]).astype(int)
    level = [image.plane()[at].astype(float) for image in (final, clean, noise)]
    ratio = float(level[0].mean() / level[1].mean())
    spread = (level[0] - ratio * level[1]).std() / np.sqrt(len(use)) / level[1].mean()
    return {"injected": len(use), "survival": ratio, "survival_error": float(spread),
            "injected_over_noise": float(level[1].mean() / level[2].std())}


def artefacts(run: Path, field: Path) -> dict:
    """Noise of the final image over that of the noise alone; artefacts round the brightest."""
    from ddfpipe.data.images import read_image
    from ddfpipe.data.skymodel import read_skymodel
    from ddfpipe.imaging.noise import robust_noise

    planes = {n: read_image(run / f"{n}.app.residual.fits") for n in
              (FINAL, DI_IMAGE, "companion_noise", "companion_clean")}
    sky = read_skymodel(field / "truth.skymodel")
    grid = planes[FINAL].grid
    bright = int(np.argmax(sky.flux([144e6])[0]))
    y0, x0 = grid.pixel_of(sky.ra[bright], sky.dec[bright])
    y, x = np.indices(grid.shape)
    beam = planes[FINAL].beam[0] / grid.cell
    ring = (np.hypot(y - y0, x - x0) > 2 * beam) & (np.hypot(y - y0, x - x0) < 25 * beam)
    rms = {n: float(image.plane()[ring].std()) for n, image in planes.items()}
    thermal = robust_noise(planes["companion_noise"].plane())
    excess = {n: float(np.sqrt(max(v**2 - rms["companion_noise"] ** 2, 0))) for n, v in rms.items()}
    return {
        "noise": robust_noise(planes[FINAL].plane()), "thermal": thermal,
        "noise_over_thermal": robust_noise(planes[FINAL].plane()) / thermal,
        "clean_companion_over_thermal": robust_noise(planes["companion_clean"].plane()) / thermal,
        "di_artefact_peak_over_thermal":
            float(np.abs(planes[DI_IMAGE].plane()[ring]).max() / thermal),
        "excess_di": excess[DI_IMAGE], "excess_final": excess[FINAL],
        "excess_ratio": excess[FINAL] / max(excess[DI_IMAGE], 1e-12),
    }


def main() -> None:
    use_own_package()
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--config", default="known-answer")
    parser.add_argument("--quick", action="store_true")
    words = parser.parse_args()
    preset, imsize, ndir = ("example", 2880, 12) if words.quick else (words.config, 3840, 20)
    field, run = prepare(words.folder.resolve(), preset, imsize, ndir)
    os.chdir(run)
    companions(run)
    figures = fluxes(run, field) | survival(run, field) | artefacts(run, field)
    figures |= phases(run, field, ("DDS3_full",), "DIS2_full_merged")
    (field.parent / "figures.json").write_text(json.dumps(figures, indent=1) + "\n")
    print(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
