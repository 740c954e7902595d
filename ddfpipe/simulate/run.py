"""From a specification to measurement sets and the truth beside them."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ddfpipe.errors import DataError
from ddfpipe.simulate import geometry, msio, sky
from ddfpipe.simulate.realisation import (
    Corruptions,
    Layout,
    Realisation,
    draw_flags,
    random_stream,
)
from ddfpipe.simulate.spec import SimulationSpec, check
from ddfpipe.simulate.stations import Station, baselines, dutch_stations
from ddfpipe.simulate.truth import write_truth
from ddfpipe.units import DEGREE

COMPANIONS = ("NOISE_DATA", "CLEAN_DATA")


@dataclass(frozen=True)
class Simulation:
    """What was written: the measurement sets, the two lists of them, and the truth."""

    ms: tuple[Path, ...]
    mslist: Path
    big_mslist: Path
    truth: Path


def make_layout(spec: SimulationSpec) -> tuple[Layout, np.ndarray, list[Station]]:
    """Times, stations and baselines of `spec.observation`; the scan of each time; the stations."""
    obs = spec.observation
    ra0, dec0 = obs.ra_deg * DEGREE, obs.dec_deg * DEGREE
    stations = dutch_stations(obs.core_fields, obs.remote_stations)
    positions = np.array([s.position for s in stations])
    ant1, ant2 = baselines(len(stations), obs.autocorrelations)
    times, scans = geometry.schedule(obs)
    rotation = geometry.earth_rotations(times, ra0, dec0)
    uvw = geometry.baseline_uvw(rotation, positions, ant1, ant2)
    layout = Layout(times, obs.interval_s, ra0, dec0, positions, ant1, ant2, uvw, rotation)
    return layout, scans, stations


def make_sky(spec: SimulationSpec, layout: Layout) -> list[sky.Source]:
    """The sources of the specification: read, or drawn about the phase centre."""
    if spec.sky.model:
        return sky.read_skymodel(Path(spec.sky.model))
    rng = random_stream(spec.seed, "sky")
    return sky.random_field(spec.sky, layout.ra0, layout.dec0, rng)


def fresh_path(path: Path) -> Path:
    """`path`, after removing what an earlier simulation left there; never anything else."""
    if path.exists():
        if not (path / "table.dat").is_file():
            raise DataError(f"simulation: {path} exists and is not a measurement set; move it away")
        shutil.rmtree(path)
    return path


def write_lists(output: Path, paths: list[Path], small: int) -> tuple[Path, Path]:
    """mslist.txt (an evenly spread part) and big-mslist.txt (all), one path a line."""
    chosen = np.unique(np.linspace(0, len(paths) - 1, min(small, len(paths))).round().astype(int))
    lists = output / "mslist.txt", output / "big-mslist.txt"
    for file, some in zip(lists, ([paths[i] for i in chosen], paths)):
        file.write_text("".join(f"{p.name}\n" for p in some))
    return lists


def columns_of(
    spec: SimulationSpec, real: Realisation, index: int, freq: np.ndarray, width: float,
    gains: Corruptions, threads: int, metadata: dict[str, np.ndarray] | None = None,
) -> dict[str, np.ndarray]:
    """The tiled columns of one measurement set, each (time, bl, chan, corr).

    metadata: FLAG and WEIGHT_SPECTRUM of a copied set, used instead of drawn ones.
    """
    vis = real.visibilities(index, freq, width, gains, threads)
    lay = real.layout
    if metadata is None:
        flags, random = draw_flags(spec, lay, index, len(freq))
        variance = real.station_noise[lay.ant1] * real.station_noise[lay.ant2]
        weights = np.broadcast_to((1e4 / variance)[None, :, None, None], flags.shape)
        metadata = {"FLAG": flags, "WEIGHT_SPECTRUM": weights.astype(np.float32)}
    else:
        random = metadata["FLAG"]
    data = vis.corrupted + vis.noise
    if spec.noise.rfi_jy > 0:
        rng = random_stream(spec.seed, "flags", 1000003 + index)
        phase = rng.uniform(0, 2 * np.pi, int(random.sum()))
        data[random] += (spec.noise.rfi_jy * np.exp(1j * phase)).astype(np.complex64)
    data *= np.float32(real.flux_scale(index))
    out = {"DATA": data, **metadata}
    if spec.companions:
        out["NOISE_DATA"] = vis.noise
        out["CLEAN_DATA"] = vis.clean + vis.noise
    return out


def corruptions(spec: SimulationSpec, real: Realisation, path: Path, freq) -> Corruptions:
    """All gains of the measurement set at `path` (its station tables make the beam)."""
    beam = None
    if spec.beam != "none":
        from ddfpipe.simulate.stationbeam import station_beam

        beam = station_beam(path, real.layout, real.lmn, freq, spec.beam == "full")
    return Corruptions(beam, real.ionosphere(freq), real.jones(freq))


def simulate(
    spec: SimulationSpec, output: str | Path, threads: int | None = None,
    tell: Callable[[str], None] = lambda text: None,
) -> Simulation:
    """Write the simulation `spec` into the folder `output` (made when missing).

    threads: for the Fourier sums (all CPUs when None); the result does not depend on it.
    tell: is called with a line of progress now and then.
    Raises ConfigError for a spec that makes no sense, DataError when something else is in the way.
    """
    check(spec)
    threads = threads or len(os.sched_getaffinity(0))
    output = Path(output)
    output.mkdir(parents=True, exist_ok=True)
    if spec.like:
        from ddfpipe.simulate.like import simulate_like

        return simulate_like(spec, output, threads, tell)
    obs = spec.observation
    layout, scans, stations = make_layout(spec)
    real = Realisation(spec, layout, make_sky(spec, layout))
    width = obs.channel_khz * 1e3
    paths, per_ms = [], []
    for index, freq in enumerate(geometry.band(obs)):
        path = fresh_path(output / f"{obs.name}_SB{index:03d}.ms")
        tell(f"{path.name}: {freq[0] / 1e6:.3f} MHz, {len(real.sources)} sources")
        extra = list(COMPANIONS) if spec.companions else []
        msio.create_ms(path, layout, stations, freq, width, scans, extra)
        gains = corruptions(spec, real, path, freq)
        msio.put_tiled(path, columns_of(spec, real, index, freq, width, gains, threads))
        msio.note_applied_beam(path, spec.beam, layout.ra0, layout.dec0)
        paths.append(path)
        per_ms.append((path.name, freq, gains))
    lists = write_lists(output, paths, obs.small_list)
    truth = write_truth(output, spec, real, [s.name for s in stations], per_ms)
    return Simulation(tuple(paths), *lists, truth)
