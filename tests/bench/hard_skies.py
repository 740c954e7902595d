#!/usr/bin/env python3
"""Skies that are hard, through the whole recipe with every engine that is here; a table.

    python tests/bench/hard_skies.py FOLDER [--skies a,b] [--engines native,wsclean] [WORD...]

simulates FOLDER/<sky>/field for each of the skies of `skies.py` (kept if it is there), runs
`pipeline.py` unattended in FOLDER/<sky>/<engine> (finished stages are kept), images the noise alone
and the error-free sky with each run's own weights, facets and mask, and writes figures.json there
and FOLDER/table.md, of all that has been measured so far.  Other words are handed to
pipeline.py.  Fluxes, artefacts, phases and what is left of sources below every mask are measured
as in `three_engines.py`.
"""

from __future__ import annotations

import argparse
import configparser
import io
import json
import os
import tomllib
from pathlib import Path

import numpy as np
from checkout import use_own_package
from known_answer import FINAL, artefacts, companions, fluxes, survival, write_sky
from programcost import ProgramFailed
from skies import SKIES, HardSky
from three_engines import FAST, missing, phase_errors, positions, run_recipe
from three_fields import CONFIG, FIELD

CENTRE_DEG = 0.35
"""Half width of the square in the middle of an image whose noise is measured."""

ENGINES = "native,wsclean"


# ---------------------------------------------------------------------- making


def toml_text(values: dict) -> str:
    """TOML of options and of sections of options."""
    plain = [f"{k} = {json.dumps(v)}" for k, v in values.items() if not isinstance(v, dict)]
    for name, section in values.items():
        if isinstance(section, dict):
            plain += [f"[{name}]", *(f"{k} = {json.dumps(v)}" for k, v in section.items())]
    return "\n".join(plain) + "\n"


def preset(sky: HardSky) -> dict:
    """Options of the simulation: those of three_engines' field and what differs."""
    values = tomllib.loads(FIELD)
    for key, value in sky.field.items():
        section, _, option = key.rpartition(".")
        (values[section] if section else values)[option] = value
    return values


def run_config(sky: HardSky, folder: Path) -> str:
    """The configuration of a run on the sky simulated in `folder`."""
    parser = configparser.ConfigParser(interpolation=None)
    parser.optionxform = str
    parser.read_string(CONFIG.format(field=folder / "field"))
    for key, value in sky.config.items():
        section, option = key.split(".")
        parser[section][option] = str(value)
    if sky.directions:
        parser["image"]["clusterfile"] = str(folder / "directions.txt")
    text = io.StringIO()
    parser.write(text)
    return text.getvalue()


def places(values: dict, offsets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Right ascensions and declinations (rad) of offsets (n, 2) in degrees east and north."""
    from ddfpipe.simulate.sky import radec_of

    l, m = np.sin(np.deg2rad(np.asarray(offsets, float))).T
    centre = np.deg2rad([values["observation"]["ra_deg"], values["observation"]["dec_deg"]])
    return radec_of(l, m, *centre)


def simulated(sky: HardSky, folder: Path) -> Path:
    """Simulate the measurement sets of a sky unless they are there."""
    from ddfpipe.simulate.run import simulate
    from ddfpipe.simulate.sky import Source, read_skymodel, write_skymodel
    from ddfpipe.simulate.spec import load_spec

    field = folder / "field"
    if (field / "done").exists():
        return field
    field.mkdir(parents=True, exist_ok=True)
    values, model, toml = preset(sky), folder / "sky.skymodel", folder / "field.toml"
    toml.write_text(toml_text(values))
    write_sky(str(toml), model)
    more = []
    for extra in sky.extras:
        (ra,), (dec,) = places(values, [(extra.east, extra.north)])
        size = np.array([extra.major, extra.minor, 3600 * extra.pa]) * np.pi / 648000
        more.append(Source(extra.name, float(ra), float(dec), extra.flux, (-0.75,), 144e6, *size))
    write_skymodel(more + read_skymodel(model), model)
    if sky.directions:
        pairs = np.rad2deg(places(values, np.array(sky.directions))).T
        lines = [f"{ra:.6f} {dec:.6f}\n" for ra, dec in pairs]
        (folder / "directions.txt").write_text("".join(lines))
    simulate(load_spec(toml, {"sky": {"model": str(model)}}), field, tell=print)
    dig_gaps(sky, field)
    judged(sky, field)
    (field / "done").touch()
    return field


def dig_gaps(sky: HardSky, field: Path) -> None:
    """Flag what the gaps of a sky name."""
    from casacore.tables import table

    for index, path in enumerate(sorted(field.glob("*.ms"))):
        gaps = [gap for gap in sky.gaps if not gap.sets or index in gap.sets]
        if not gaps:
            continue
        with table(f"{path}::ANTENNA", ack=False) as antennas:
            names = antennas.getcol("NAME")
        with table(str(path), readonly=False, ack=False) as main:
            flag, scan = main.getcol("FLAG"), main.getcol("SCAN_NUMBER")
            scan = np.unique(scan, return_inverse=True)[1]
            ends = main.getcol("ANTENNA1"), main.getcol("ANTENNA2")
            for gap in gaps:
                numbers = [k for k, name in enumerate(names) if name.startswith(gap.station)]
                rows = np.isin(ends[0], numbers) | np.isin(ends[1], numbers)
                if gap.scans:
                    rows &= np.isin(scan, gap.scans)
                flag[rows] = True
            main.putcol("FLAG", flag)


def judged(sky: HardSky, field: Path) -> Path:
    """Folder with the truth to compare with: that of the field without what lies outside of it."""
    from ddfpipe.simulate.sky import read_skymodel, write_skymodel

    folder = field / "judged"
    folder.mkdir(exist_ok=True)
    sources = read_skymodel(field / "truth.skymodel")
    keep = np.array([source.name not in sky.outside for source in sources])
    write_skymodel([s for s, k in zip(sources, keep) if k], folder / "truth.skymodel")
    (folder / "truth.json").write_text((field / "truth.json").read_text())
    arrays = dict(np.load(field / "truth.npz"))
    for name, values in arrays.items():
        if name.startswith("source_"):
            arrays[name] = values[keep]
        elif name == "tec" or name.startswith("beam_"):
            arrays[name] = values[:, :, keep]
    np.savez(folder / "truth.npz", **arrays)
    for path in field.glob("*.ms"):
        link = folder / path.name
        if not link.is_symlink():
            link.symlink_to(path)
    return folder


# ---------------------------------------------------------------------- measuring


def complete_stations(sky: HardSky, field: Path) -> np.ndarray:
    """Numbers of the stations without any gap."""
    names = np.load(field / "truth.npz")["station"]
    return np.array([k for k, name in enumerate(names)
                     if not any(name.startswith(gap.station) for gap in sky.gaps)])


def rate(field: Path) -> float:
    """Rms change in 60 s, rad at 150 MHz, of the remote stations' phases against the mean of all:
    that between neighbouring integrations, continued by the law of Kolmogorov turbulence."""
    from ddfpipe.units import TEC_PHASE

    truth = np.load(field / "truth.npz")
    time, tec = truth["time"], truth["tec"]
    remote = np.char.startswith(truth["station"], "RS")
    phase = TEC_PHASE / 150e6 * (tec - tec.mean(axis=1, keepdims=True))[:, remote]
    step = np.diff(time)
    near = step < 1.5 * step.min()
    change = np.sqrt((np.diff(phase, axis=0)[near] ** 2).mean())
    return float(change * (60.0 / step.min()) ** (5 / 6))


def central_noise(run: Path) -> dict:
    """Noise in the middle of the final and of the error-free image, over that of noise alone."""
    from ddfpipe.data.images import read_image
    from ddfpipe.imaging.noise import robust_noise

    found = {}
    for name in (FINAL, "companion_noise", "companion_clean"):
        image = read_image(run / f"{name}.app.residual.fits")
        half = int(np.deg2rad(CENTRE_DEG) / image.grid.cell)
        y, x = (n // 2 for n in image.plane().shape)
        box = image.plane()[y - half:y + half, x - half:x + half]
        found[name] = robust_noise(np.ascontiguousarray(box))
    alone = found["companion_noise"]
    return {"central_over_thermal": found[FINAL] / alone,
            "central_clean_over_thermal": found["companion_clean"] / alone}


def extended_flux(sky: HardSky, run: Path, field: Path) -> dict:
    """Flux of the extended sources, summed about them and in each facet there, over the truth and
    over that of the error-free image."""
    from ddfpipe.data.clusters import read_clusters
    from ddfpipe.data.images import read_image
    from ddfpipe.data.skymodel import read_skymodel
    from ddfpipe.imaging.restore import beam_area
    from ddfpipe.naming import CLUSTERS

    if not sky.extended:
        return {}
    final, clean = (read_image(run / f"{n}.int.restored.fits") for n in (FINAL, "companion_clean"))
    model = read_skymodel(field / "truth.skymodel")
    y, x = final.grid.pixel_of(model.ra, model.dec)
    true = model.flux(final.freq)[0]
    mine = np.isin(model.name, sky.extended)
    middle = np.average(np.stack([y, x])[:, mine], axis=1, weights=true[mine])
    reach = 1.1 * np.deg2rad(max(e.major for e in sky.extras) / 3600) / final.grid.cell
    rows, columns = np.indices(final.plane().shape)
    near = np.hypot(rows - middle[0], columns - middle[1]) < reach
    inside = true[np.hypot(y - middle[0], x - middle[1]) < reach].sum()
    area = beam_area(final.beam, final.grid.cell)
    sums = [float(image.plane()[near].sum() / area) for image in (final, clean)]
    directions = read_clusters(run / CLUSTERS)
    dy, dx = final.grid.pixel_of(directions.ra, directions.dec)
    owner = np.argmin(np.hypot(rows[..., None] - dy, columns[..., None] - dx), axis=-1)
    parts = []
    for facet in range(directions.size):
        part = near & (owner == facet)
        shares = [float(image.plane()[part].sum() / area) for image in (final, clean)]
        if shares[1] > 0.1 * sums[1]:
            parts.append(round(shares[0] / shares[1], 3))
    return {"extended_over_truth": sums[0] / inside, "extended_clean_over_truth": sums[1] / inside,
            "extended_over_clean_by_facet": parts}


def note_directions(sky: HardSky, run: Path) -> None:
    """Given directions under the name of those that a run finds, where measurements look."""
    from ddfpipe.data.clusters import read_clusters, write_clusters
    from ddfpipe.naming import CLUSTERS

    if sky.directions:
        write_clusters(run / CLUSTERS, read_clusters(run.parent / "directions.txt"))


def brightest(run: Path, field: Path) -> dict:
    """Peak of the brightest point of the final image over that of the error-free one; the largest
    residual within 3 beams of it, over the peak."""
    from ddfpipe.data.images import read_image
    from ddfpipe.data.skymodel import read_skymodel

    sky = read_skymodel(field / "truth.skymodel")
    flux = np.where(sky.gaussian, 0, sky.flux([144e6])[0])
    names = (f"{FINAL}.app.restored", "companion_clean.app.restored", f"{FINAL}.app.residual")
    images = [read_image(run / f"{name}.fits") for name in names]
    grid, k = images[0].grid, int(np.argmax(flux))
    y, x = (int(round(float(v))) for v in grid.pixel_of(sky.ra[k], sky.dec[k]))
    half = int(round(3 * images[0].beam[0] / grid.cell))
    boxes = [i.plane()[y - half:y + half + 1, x - half:x + half + 1] for i in images]
    peak, clean, left = (float(np.abs(box).max()) for box in boxes)
    return {"brightest_over_clean": peak / clean, "brightest_jy": peak,
            "residual_at_brightest": left}


def measure(sky: HardSky, run: Path, field: Path) -> dict:
    """All figures of a finished run."""
    home, truth = Path.cwd(), field / "judged"
    note_directions(sky, run)
    os.chdir(run)
    try:
        companions(run)
        figures = fluxes(run, truth) | survival(run, truth) | artefacts(run, truth)
        figures |= brightest(run, truth) | central_noise(run) | extended_flux(sky, run, truth)
        figures |= positions(run, truth)
        use = complete_stations(sky, field)
        figures |= phase_errors(run, truth, stations=use)
        raw = phase_errors(run, truth, [FAST], stations=use)
        return figures | {"raw_phase_error_rad": raw["phase_error_rad"]}
    finally:
        os.chdir(home)


COLUMNS = {
    "noise, mJy/beam": lambda f: f"{1e3 * f['noise']:.2f}",
    "over noise alone": lambda f: f"{f['noise_over_thermal']:.2f}",
    "the same, no errors in the data": lambda f: f"{f['clean_companion_over_thermal']:.2f}",
    "in the middle (no errors)": lambda f: f"{f['central_over_thermal']:.2f} "
                                           f"({f['central_clean_over_thermal']:.2f})",
    "artefacts at the brightest, mJy/beam; before directions":
        lambda f: f"{1e3 * f['excess_final']:.2f}; {1e3 * f['excess_di']:.1f}",
    "peak of the brightest": lambda f: f"{f['brightest_over_clean']:.3f}",
    "flux: median, scatter (sources)":
        lambda f: f"{f['flux_over_truth']:.3f}, {f['flux_scatter']:.3f} ({f['sources']})",
    "extended flux": lambda f: (f"{f['extended_over_truth']:.3f}" if "extended_over_truth" in f
                                else ""),
    "faint flux left": lambda f: f"{f['survival']:.2f} ± {f['survival_error']:.2f}",
    "phases, rad": lambda f: f"{f['phase_error_rad']:.3f}",
    "CPU, s": lambda f: f"{f['cpu_s']:.0f}",
    "MB": lambda f: f"{f['memory_bytes'] / 1e6:.0f}",
}


def table(figures: dict[str, dict[str, dict]]) -> str:
    """The figures as a table of Markdown, a row a sky and engine."""
    lines = ["| sky | engine | " + " | ".join(COLUMNS) + " |",
             "|---" * (len(COLUMNS) + 2) + "|"]
    for sky, engines in figures.items():
        for engine, found in engines.items():
            cells = " | ".join(text(found) for text in COLUMNS.values())
            lines.append(f"| {sky} | {engine} | {cells} |")
    return "\n".join(lines) + "\n"


def measured(folder: Path) -> dict[str, dict[str, dict]]:
    """Figures of all skies and engines that have been measured in a folder."""
    found: dict[str, dict[str, dict]] = {}
    for sky in SKIES:
        for path in sorted((folder / sky).glob("*/figures.json")):
            found.setdefault(sky, {})[path.parent.name] = json.loads(path.read_text())
    return found


def main() -> None:
    use_own_package()
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--skies", default=",".join(SKIES))
    parser.add_argument("--engines", default=ENGINES)
    options, words = parser.parse_known_args()
    folder = options.folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    for name in options.skies.split(","):
        sky, place = SKIES[name], folder / name
        for engine in options.engines.split(","):
            lacking = missing(engine, words)
            if lacking or (sky.native_only and engine != "native"):
                print(f"== {name}, {engine}: left out, {lacking or 'no beam there'}", flush=True)
                continue
            print(f"== {name}, {engine}", flush=True)
            field, run = simulated(sky, place), place / engine
            try:
                found = run_recipe(engine, run_config(sky, place), run, words)
            except ProgramFailed as failure:
                print(failure, flush=True)
                continue
            found |= {"ionosphere_rad_a_minute": rate(field)} | measure(sky, run, field)
            (run / "figures.json").write_text(json.dumps(found, indent=1) + "\n")
            print(json.dumps(found, indent=1), flush=True)
    (folder / "table.md").write_text(table(measured(folder)))
    print(table(measured(folder)))


if __name__ == "__main__":
    main()
