#!/usr/bin/env python3
"""What each solve takes of the flux of sources that no model holds, to a tenth of a per cent.

    python tests/bench/lost_flux.py FOLDER [--blocks 5]

FOLDER is one where known_answer.py has run.  The injected sources of its field are simulated alone,
behind the same ionosphere and stations, and taken out of copies of a few blocks of the data.  The
chain of solves of the full list runs on both, with the same noise and the same model; the
difference of the residuals along the visibilities of the injected sources is what is left of them.
Tables of one run put into the other say which solve takes what.  Figures go to
FOLDER/lost_flux.json.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
from checkout import ROOT, use_own_package
from known_answer import FINAL, Quiet

DI, FAST, SLOW = "DIS2_full_merged", "DDS3_full_smoothed", "DDS3_full_slow_merged"
CHAIN = ("DDS2_full", "DDS2_full_smoothed", "DIS2_full", DI, "DDS3_full", FAST, "DDS3_full_slow",
         SLOW)
SLOTS = 6
"""Times a block of the known-answer field."""
READ = ("image_ampphase1_di_masked.model", "image_full_ampphase_di_m_masked.model",
        "ClusterCat.npy", "image_dirin_SSD_m.")
"""What the solves read of the finished run: parts of the names."""


def simulate_injected(folder: Path) -> Path:
    """The injected sources alone behind the corruptions of the field, without noise."""
    place = folder / "lost_flux" / "injected"
    if (place / "big-mslist.txt").exists():
        return place
    lines = (folder / "field/sky.skymodel").read_text().splitlines()
    sky = folder / "lost_flux" / "injected.skymodel"
    sky.parent.mkdir(exist_ok=True)
    sky.write_text("\n".join([lines[0], ""] + [x for x in lines if x[:1] == "f"]) + "\n")
    script = ROOT / "scripts/simulate.py"
    settings = (f"sky.model={sky}", "noise.sample_jy=0", "noise.rfi_jy=0", "companions=false")
    command = [sys.executable, script, "--config", "known-answer", "--output", place]
    subprocess.run(command + [w for s in settings for w in ("--set", s)], check=True)
    return place


def cut(folder: Path, injected: Path, blocks: int) -> None:
    """Copies of some blocks: `with` and `less` the injected sources, which are NOISE_DATA of
    `with`."""
    from casacore.tables import table

    from ddfpipe.data.ms import read_list

    for path in read_list(folder / "field/big-mslist.txt"):
        homes = [folder / "lost_flux" / tag / "field" / path.name for tag in ("with", "less")]
        if homes[1].exists():
            continue
        with table(str(path), ack=False) as source, \
                table(str(injected / path.name), ack=False) as alone:
            times, slot = np.unique(source.getcol("TIME"), return_inverse=True)
            total = len(times) // SLOTS
            chosen = np.linspace(0, total - 1, blocks + 2)[1:-1].astype(int)
            rows = np.flatnonzero(np.isin(slot // SLOTS, chosen))
            for home in homes:
                home.parent.mkdir(parents=True, exist_ok=True)
                source.selectrows(rows).copy(str(home), deep=True).close()
            flux = alone.selectrows(rows).getcol("DATA")
        with table(str(homes[0]), readonly=False, ack=False) as out:
            out.putcol("NOISE_DATA", flux)
        with table(str(homes[1]), readonly=False, ack=False) as out:
            out.putcol("DATA", out.getcol("DATA") - flux)


class Run:
    """One chain of solves in its own folder, on the model of the finished run."""

    def __init__(self, folder: Path, tag: str):
        from ddfpipe.config import load_config
        from ddfpipe.data.ms import read_list
        from ddfpipe.engines.native import NativeEngine
        from ddfpipe.pipeline.selfcal import build_recipe

        self.tag, self.folder = tag, folder / "lost_flux" / tag
        finished = folder / "run"
        for path in finished.iterdir():
            here = self.folder / path.name
            if any(part in path.name for part in READ) and not here.exists():
                here.symlink_to(path)
        for name in ("mslist.txt", "big-mslist.txt"):
            (self.folder / "field" / name).write_text((folder / "field" / name).read_text())
        text = (finished / "field.cfg").read_text()
        (self.folder / "field.cfg").write_text(
            text.replace(f"{folder}/field", f"{self.folder}/field"))
        os.chdir(self.folder)
        config = load_config(["field.cfg"])
        small, full = (tuple(read_list(name)) for name in
                       (config.data.mslist, config.data.full_mslist))
        self.jobs = {s.name: s.job for s in build_recipe(config, small, full).stages}
        self.engine = NativeEngine(
            workdir=self.folder, cache_dir=self.folder, solsdir=self.folder / "SOLSDIR",
            threads=os.cpu_count(), memory_limit=6 * 10**9,
        )

    def solve(self) -> None:
        """The chain; what is done is kept."""
        for name in CHAIN:
            done = self.folder / f"{name}.done"
            if not done.exists():
                job = self.jobs[name]
                verb = self.engine.smooth if hasattr(job, "tie") else self.engine.solve
                verb(job, Quiet())
                done.touch()

    def data(self, column: str, each, with_model: bool = False) -> list:
        """each(measurement set, model (dir, time, bl, chan) or None) of what the last solve sees,
        with the weights and the range of baselines of the final image."""
        from ddfpipe.engines.native.operators import briggs
        from ddfpipe.engines.native.solving import Solve
        from ddfpipe.engines.native.visibilities import Scratch, open_data
        from ddfpipe.units import ARCSEC

        final, job = self.jobs[FINAL], self.jobs["DDS3_full"]
        vis = replace(job.vis, column=column, uv_km=final.vis.uv_km)
        solve = Solve(self.engine, replace(job, vis=vis), Quiet())
        with Scratch(self.folder / "scratch") as scratch:
            data = open_data(
                vis, cache_dir=self.folder, solsdir=self.folder / "SOLSDIR", scratch=scratch,
                weights="spectrum", drop_international=False, monitor=Quiet(),
                uv_down_weight=None, n_bands=solve._bands(), subtractor=None, workdir=self.folder,
            )
            briggs(data, final.npix, final.cell_arcsec * ARCSEC, final.robust, Quiet())
            sky = solve._sky(data) if with_model else None
            return [
                each(s, solve._model(s, slice(0, s.shape[0]), sky, solve._gain_field(s, sky))
                     if with_model else None)
                for s in data.sets
            ]

    def gains(self, ms: str, name: str, times: np.ndarray, freqs: np.ndarray) -> np.ndarray:
        """Gains (time, chan, ant, dir) of a table at the samples of a measurement set."""
        from ddfpipe.calibration.gains import interpolate_index
        from ddfpipe.data.solutions import load_solution

        table = load_solution(self.folder / "SOLSDIR", ms, name)
        time, chan = interpolate_index(table, times, freqs)
        return table.gains[time][:, chan][..., 0]


def corrupted(gains: list[np.ndarray], model: np.ndarray, cache) -> np.ndarray:
    """Sum over directions of the model behind the product of some gains, (time, bl, chan)."""
    g = np.prod(gains, axis=0)
    out = np.zeros(model.shape[1:], complex)
    for d in range(len(model)):
        pairs = g[:, :, cache.ant1, d] * np.conj(g[:, :, cache.ant2, d])
        out += pairs.transpose(0, 2, 1) * model[d]
    return out


def lost(first: Run, second: Run) -> dict:
    """Shares of the flux that each solve takes."""
    def keep(s, _):
        return np.array(s.vis[:])

    injected, without = first.data("NOISE_DATA", keep), second.data("DATA", keep)
    sums: dict[str, float] = dict.fromkeys(
        ("direction-independent", "fast", "fast phases", "fast amplitudes", "very slow",
         "all by direction", "all"), 0.0)
    power, index = [], iter(range(len(injected)))

    def each(s, model) -> None:
        k, cache = next(index), s.cache
        flux, weight = injected[k], np.array(s.weight[:])
        known = np.isfinite(s.vis[:]) & np.isfinite(without[k]) & np.isfinite(flux)
        weight = weight * known
        flux = np.where(known, flux, 0)
        power.append((weight * np.abs(flux) ** 2).sum())

        def along(difference) -> float:
            return float((weight * (flux.conj() * np.where(known, difference, 0)).real).sum())

        mine, theirs = (
            [run.gains(cache.name, name, cache.time, cache.freq) for name in (FAST, SLOW)]
            for run in (first, second)
        )
        here = corrupted(mine, model, cache)
        phases = np.abs(mine[0]) * np.exp(1j * np.angle(theirs[0]))
        sizes = np.abs(theirs[0]) * np.exp(1j * np.angle(mine[0]))
        for name, gains in (("fast", [theirs[0], mine[1]]), ("fast phases", [phases, mine[1]]),
                            ("fast amplitudes", [sizes, mine[1]]),
                            ("very slow", [mine[0], theirs[1]]), ("all by direction", theirs)):
            sums[name] += along(here - corrupted(gains, model, cache))
        sums["direction-independent"] -= along(np.array(s.vis[:]) - without[k] - flux)

    first.data("DATA", each, with_model=True)
    sums["all"] = sums["direction-independent"] + sums["all by direction"]
    return {name: round(float(value / sum(power)), 4) for name, value in sums.items()}


def main() -> None:
    use_own_package()
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--blocks", type=int, default=5, help="blocks of the observation (5)")
    words = parser.parse_args()
    folder = words.folder.resolve()
    cut(folder, simulate_injected(folder), words.blocks)
    runs = [Run(folder, tag) for tag in ("with", "less")]
    for run in runs:
        run.solve()
    figures = lost(*runs)
    (folder / "lost_flux.json").write_text(json.dumps(figures, indent=1) + "\n")
    print(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
