#!/usr/bin/env python3
"""One image of the full size, of little data: its time and memory.

    python tests/bench/full_image.py FOLDER [--npix 20000] [--facets 45] [--cycles 2]

simulates FOLDER/field (62 stations, 40 times of 8 s over 8 hours, two sets of 4 channels, 2000
sources over 8 degrees, noise), images it with our own engine in a process of its own, and writes
FOLDER/full_image.json.  What grows with the visibilities is in `imaging_pass.py --growth`; here is
what grows with pixels: grids, PSFs, minor cycles, products.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import numpy as np
from checkout import use_own_package
from programcost import run as run_program

CENTRE = (180.0, 55.0)
CELL = 1.5
SOURCES, RADIUS_DEG = 2000, 3.9
CONFIGURED_GB = 12.0
"""Memory that the engine is told to have."""


def simulated(folder: Path) -> Path:
    """The measurement sets, simulated unless they are there."""
    from ddfpipe.simulate.run import simulate
    from ddfpipe.simulate.sky import Source, write_skymodel
    from ddfpipe.simulate.spec import SimulationSpec, update

    field = folder / "field"
    if (field / "done").exists():
        return field
    field.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(4)
    ra, dec = places(rng, SOURCES)
    flux = 0.05 * rng.random(SOURCES) ** (-1 / 1.2)
    write_skymodel([Source(f"s{k}", float(a), float(d), float(min(s, 5.0)), (-0.7,))
                    for k, (a, d, s) in enumerate(zip(ra, dec, flux))], field / "sky.skymodel")
    simulate(update(SimulationSpec(), {
        "companions": False, "subsamples": 1,
        "observation": {
            "ra_deg": CENTRE[0], "dec_deg": CENTRE[1], "hours": 8.0, "blocks": 5, "slots": 8,
            "n_ms": 2, "channels": 4, "first_mhz": 130.0, "last_mhz": 158.0, "core_fields": 48,
            "remote_stations": 14, "name": "L000011", "small_list": 2,
        },
        "sky": {"model": str(field / "sky.skymodel")}, "noise": {"sample_jy": 0.5},
    }), field, threads=2)
    (field / "done").touch()
    return field


def places(rng, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Random directions (ra, dec) rad within the field."""
    from ddfpipe.imaging.sky import lm_to_radec

    radius = np.radians(RADIUS_DEG) * np.sqrt(rng.random(count))
    angle = rng.uniform(0, 2 * np.pi, count)
    return lm_to_radec(radius * np.cos(angle), radius * np.sin(angle), *np.radians(CENTRE))


def make_image(folder: Path, npix: int, facets: int, cycles: int) -> None:
    """The image itself, with the engine's own messages."""
    from ddfpipe.data.clusters import make_directions, write_clusters
    from ddfpipe.engines.base import ImageJob, Silent, VisSelection
    from ddfpipe.engines.native.engine import NativeEngine

    class Listener(Silent):
        def message(self, text): print(text, flush=True)

    place = folder / "image"
    place.mkdir(exist_ok=True)
    ra, dec = places(np.random.default_rng(9), facets)
    write_clusters(place / "directions.npy", make_directions(ra, dec, np.ones(facets)))
    engine = NativeEngine(
        workdir=place, cache_dir=place / "cache", solsdir=place / "SOLSDIR", threads=2,
        memory_limit=int(CONFIGURED_GB * 1e9), beam_model="none")
    sets = tuple(sorted((folder / "field").glob("*.ms")))
    engine.image(ImageJob(
        name="full", vis=VisSelection(sets, "DATA", uv_km=(0.1, 1000.0)), npix=npix,
        cell_arcsec=CELL, robust=-0.5, restoring_beam=(6.0, 6.0, 0.0), major_cycles=cycles,
        peak_factor=0.01, rms_factor=3.0, auto_mask_sigma=8.0, n_bands=2,
        clusters=Path("directions.npy")), Listener())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--npix", type=int, default=20000)
    parser.add_argument("--facets", type=int, default=45)
    parser.add_argument("--cycles", type=int, default=2)
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    use_own_package()
    folder = options.folder.resolve()
    if options.inside:
        make_image(folder, options.npix, options.facets, options.cycles)
        return
    simulated(folder)
    spent = run_program([sys.executable, "-u", __file__, folder, "--inside", *sys.argv[2:]],
                        folder / "image.log", folder)
    figures = {"npix": options.npix, "facets": options.facets, "cycles": options.cycles,
               "cpu_s": spent.cpu, "wall_s": spent.wall, "memory_bytes": spent.memory,
               "with_files_bytes": spent.mapped()}
    (folder / "full_image.json").write_text(json.dumps(figures, indent=1) + "\n")
    print(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
