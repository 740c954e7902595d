#!/usr/bin/env python3
"""One imaging pass, dirty image and PSFs through facets, by us, DDFacet and WSClean, side by side.

    python tests/bench/imaging_pass.py FOLDER [--ddf PLACE/bin/DDF.py] [--rounds N] [--small]
           [--threads N] [--slots N] [--gains no,yes] [--programs ddfpipe,ddfacet,wsclean]

simulates FOLDER/field (kept if it is there): Dutch stations, 8 s, 97.6 kHz channels, point sources
also at corners of facets and outside the image.  Then every program images the same measurement
set through the same 7 x 7 facets in turn, `rounds` times over, without and with gains of every
facet, and FOLDER/table.md and FOLDER/figures.json tell

* CPU seconds, user and system, of all processes; what a program needs before it does anything
  (imports, and for ours compiled code loaded from disk) is measured apart and not taken off;
* wall seconds and the greatest memory of all processes together (shared pages once);
* errors: the image's pixels against a Fourier sum in double precision over all visibilities,
  without averaging, through the gains of their facet, over the largest value of that sum: at the
  sources, at edges and corners of facets, anywhere.

`pip install ddfacet==1.0.0.0` in an environment of its own and Debian's wsclean provide the others;
what is not there is left out, with a line that says so.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

CENTRE = (210.0, 50.0)
"""Phase centre, degrees."""


@dataclass(frozen=True)
class Setting:
    """What is simulated and imaged.

    facets: on a side; psf: size of our PSFs over that of a facet.  DDFacet's is 1, and so is the
    default here; before a deconvolution our engine makes larger ones, up to 1024 pixels.
    """

    npix: int = 4096
    cell: float = 3.0
    facets: int = 7
    slots: int = 120
    channels: int = 20
    core: int = 48
    remote: int = 14
    points: int = 150
    noise: float = 1.0
    psf: float = 1.0

    @property
    def degrees(self) -> float:
        return self.npix * self.cell / 3600


# cells as small as the full size's: others leave out baselines beyond the cell's Nyquist frequency
SMALL = Setting(npix=480, cell=3.0, facets=3, slots=20, channels=6, core=10, remote=4, points=60,
                noise=0.1)


def directions(setting: Setting) -> tuple[np.ndarray, np.ndarray]:
    """(l, m) rad of the middles of the facets."""
    from ddfpipe.imaging.sky import pixel_to_lm

    # edges of facets lie between pixels, so that no pixel is as near to one as to another
    middle = (np.arange(setting.facets) + 0.5) * setting.npix / setting.facets - 0.5
    y, x = (a.ravel() for a in np.meshgrid(middle, middle, indexing="ij"))
    return pixel_to_lm(y, x, setting.npix, np.radians(setting.cell / 3600))


def centre() -> tuple[float, float]:
    return tuple(np.radians(CENTRE))


# -- the field -----------------------------------------------------------------------------------


def simulate_field(folder: Path, setting: Setting) -> Path:
    """The measurement set, simulated unless it is there."""
    from ddfpipe.imaging.sky import lm_to_radec
    from ddfpipe.simulate.run import simulate
    from ddfpipe.simulate.sky import Source, write_skymodel
    from ddfpipe.simulate.spec import SimulationSpec, update

    ms = folder / "L000007_SB000.ms"
    if (folder / "done").exists():
        return ms
    folder.mkdir(parents=True, exist_ok=True)
    rng, half = np.random.default_rng(7), np.radians(setting.degrees / 2)
    l, m = rng.uniform(-0.97 * half, 0.97 * half, (2, 30))
    step = 2 * half / setting.facets
    # at a corner of four facets, in the middle of an edge, near the image's corner, and outside it
    l = np.r_[l, 0.5 * step, -1.5 * step, half - 0.02 * step, 1.25 * half, -0.4 * half]
    m = np.r_[m, 0.5 * step, 0.02 * step, half - 0.02 * step, 0.3 * half, -1.3 * half]
    flux = np.r_[3.0 / np.arange(1, 31), 4.0, 2.0, 3.0, 5.0, 4.0]
    ra, dec = lm_to_radec(l, m, *centre())
    sources = [Source(f"s{k}", float(a), float(d), float(s), (-0.7,))
               for k, (a, d, s) in enumerate(zip(ra, dec, flux))]
    write_skymodel(sources, folder / "sky.skymodel")
    simulate(update(SimulationSpec(), {
        "companions": False, "subsamples": 2,
        "observation": {
            "ra_deg": CENTRE[0], "dec_deg": CENTRE[1], "hours": 1.0, "blocks": 1,
            "slots": setting.slots, "n_ms": 1, "channels": setting.channels, "first_mhz": 140.0,
            "last_mhz": 140.0, "core_fields": setting.core, "remote_stations": setting.remote,
            "name": "L000007", "small_list": 1,
        },
        "sky": {"model": str(folder / "sky.skymodel")}, "noise": {"sample_jy": setting.noise},
    }), folder, threads=2)
    np.savez(folder / "sky.npz", l=l, m=m)
    (folder / "done").touch()
    return ms


def write_gains(folder: Path, ms: Path, setting: Setting) -> None:
    """Directions, region file, and gains of every facet in the formats of all programs.

    Smooth phases of some tenths of a radian, no amplitudes: with those, programs divide by
    different norms.
    """
    from ddfpipe.calibration.gains import GainTable
    from ddfpipe.data import solutions
    from ddfpipe.data.clusters import make_directions, write_clusters
    from ddfpipe.data.ms import read_metadata
    from ddfpipe.data.h5parm import write_h5parm
    from ddfpipe.engines.native.modelsky import sky_facets
    from ddfpipe.engines.wsclean.facets import middle, polygons, write_regions
    from ddfpipe.imaging.sky import lm_to_radec

    info, (l, m) = read_metadata(ms), directions(setting)
    ra, dec = lm_to_radec(l, m, *centre())
    write_clusters(folder / "directions.npy", make_directions(ra, dec, np.ones(len(l))))
    rng = np.random.default_rng(3)
    times = np.unique(np.linspace(0, setting.slots, setting.slots // 4 + 1).astype(int))
    edge = np.asarray(info.times)[0] - 4.0 + 8.0 * times
    width = 97656.25 * setting.channels / 2
    freq = info.freqs[0] - 48828.125 + width * np.arange(3)
    shape = (len(edge) - 1, 2, len(info.ant_names), len(l), 1)
    slow = rng.uniform(0, 2 * np.pi, (1, 1, *shape[2:]))
    turn = np.arange(shape[0])[:, None, None, None, None] / 7.0
    phase = 0.3 * np.sin(slow + turn) * np.array([1.0, 0.98])[None, :, None, None, None]
    table = GainTable(
        np.stack([edge[:-1], edge[1:]], 1), np.stack([freq[:-1], freq[1:]], 1),
        np.exp(1j * phase).astype(np.complex64), info.ant_names, np.stack([ra, dec], 1),
    )
    solutions.save_solution(table, folder / "SOLSDIR", ms.name, "true")
    facets = sky_facets(setting.npix, np.radians(setting.cell / 3600), folder / "directions.npy",
                        centre())
    write_regions(folder / "facets.reg", facets, centre())
    middles = np.array([middle(p) for _, p in polygons(facets)])
    where = np.stack(lm_to_radec(middles[:, 0], middles[:, 1], *centre()), axis=1)
    order = [k for k, _ in polygons(facets)]
    write_h5parm(GainTable(
        table.time_edges, table.freq_edges, table.gains[:, :, :, order], table.ant_names, where,
        ant_pos=info.ant_pos,
    ), folder / "gains.h5")


# -- programs ------------------------------------------------------------------------------------


@dataclass
class Cost:
    """cpu, wall: seconds; memory: bytes of all processes together at once, shared ones once."""

    cpu: float
    wall: float
    memory: float


def _memory(pid: int) -> float:
    """Proportional set size of a process and its children, bytes."""
    import psutil

    total = 0.0
    try:
        family = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    except psutil.NoSuchProcess:
        return total
    for process in family:
        try:
            rollup = Path(f"/proc/{process.pid}/smaps_rollup").read_text()
        except OSError:
            continue
        total += sum(1024.0 * int(line.split()[1]) for line in rollup.splitlines()
                     if line.startswith("Pss:"))
    return total


def run(command: list, log: Path, cwd: Path, env: dict | None = None) -> Cost:
    """Run a program; raises RuntimeError, naming its log, when it fails."""
    cwd.mkdir(parents=True, exist_ok=True)
    one = {f"{name}_NUM_THREADS": "1" for name in ("OMP", "OPENBLAS", "MKL", "NUMEXPR")}
    peak, done = [0.0], threading.Event()
    start = time.monotonic()
    with open(log, "w") as out:
        child = subprocess.Popen([str(w) for w in command], stdout=out, stderr=subprocess.STDOUT,
                                 cwd=cwd, env={**os.environ, **one, **(env or {})})

        def watch():
            while not done.wait(0.2):
                peak[0] = max(peak[0], _memory(child.pid))

        watcher = threading.Thread(target=watch)
        watcher.start()
        _, status, usage = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
        wall = time.monotonic() - start
        done.set()
        watcher.join()
    if child.returncode != 0:
        raise RuntimeError(f"{command[0]} ended with {child.returncode}; see {log}")
    return Cost(usage.ru_utime + usage.ru_stime, wall, max(peak[0], usage.ru_maxrss * 1024.0))


@dataclass(frozen=True)
class Work:
    """One pass: the measurement set, whether through gains, and where the program may write."""

    ms: Path
    field: Path
    setting: Setting
    gains: bool
    folder: Path
    threads: int
    ddf: Path | None = None


def run_ddfpipe(work: Work) -> Cost:
    settings = {"ms": str(work.ms), "field": str(work.field), "gains": work.gains,
                "threads": work.threads, "folder": str(work.folder), **asdict(work.setting)}
    return run([sys.executable, __file__, "--ours", json.dumps(settings)],
               work.folder / "log", work.folder)


def run_ddfacet(work: Work) -> Cost:
    """DDFacet at its default decorrelation of 0.02, one band as ours, PSFs of the facets' size."""
    s = work.setting
    words = [
        "--Output-Name=ddf", "--Output-Mode=Dirty", f"--Data-MS={work.ms}",
        "--Data-ColName=DATA", f"--Image-NPix={s.npix}", f"--Image-Cell={s.cell:g}",
        f"--Facets-NFacets={s.facets}", f"--Parallel-NCPU={work.threads}",
        "--Weight-Mode=Natural", "--Freq-NBand=1", "--Freq-NDegridBand=1", "--Data-Sort=1",
        "--Cache-Dir=.", "--Cache-DirWisdomFFTW=.", "--Debug-Pdb=never", "--Log-Boring=1",
        "--Output-Clobber=1", "--Misc-ConserveMemory=0",
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
    "wsclean": (run_wsclean, "wsc-dirty.fits"),
}


def ours(settings: dict) -> None:
    """The pass with the native engine, in this process; leaves the CPU seconds of its parts."""
    begin = time.process_time()
    from ddfpipe.data.images import SkyGrid, write_image
    from ddfpipe.engines.base import GainChoice, ImageJob, VisSelection
    from ddfpipe.engines.native.engine import NativeEngine
    from ddfpipe.engines.native.imager import Imager
    from ddfpipe.engines.native.visibilities import Scratch

    parts, last = {"imports": time.process_time() - begin}, [time.process_time()]

    def note(what: str) -> None:
        now = time.process_time()
        parts[what], last[0] = now - last[0], now

    field, folder = Path(settings["field"]), Path(settings["folder"])
    shutil.rmtree(folder / "cache", ignore_errors=True)
    engine = NativeEngine(
        workdir=field, cache_dir=folder / "cache", solsdir=field / "SOLSDIR",
        threads=settings["threads"], memory_limit=2 << 30, beam_model="none",
    )
    job = ImageJob(
        name="ours", vis=VisSelection((Path(settings["ms"]),), "DATA", uv_km=(0.0, 1e4)),
        npix=settings["npix"], cell_arcsec=settings["cell"], robust=None, restoring_beam=None,
        peak_factor=0.0, rms_factor=3.0, auto_mask_sigma=None, major_cycles=0, n_bands=1,
        weights="spectrum", clusters="directions.npy",
        gains=GainChoice(("true",), "AP") if settings["gains"] else None,
    )
    with Scratch(folder / "cache" / "scratch") as scratch:
        operators = Imager(engine, job, Quiet())._operators(scratch)
        note("reading, weights, gains")
        operators.set_residual(None)
        image = operators.adjoint()
        note("dirty image")
        largest = max(max(f.ny, f.nx) for f in operators.facets.facets)
        psfs = operators.psfs(2 * round(settings["psf"] * largest / 2))
        note("PSFs")
        grid = SkyGrid(*operators.data.phase_centre, job.npix, job.npix, operators.facets.cell)
        write_image(folder / "ours.dirty.fits", image[0], grid, freq=operators.data.mean_freq)
        np.save(folder / "ours.psf.npy", psfs)
        note("writing")
    parts["all"] = time.process_time()
    (folder / "parts.json").write_text(json.dumps(parts))


class Quiet:
    """A monitor that says nothing."""

    def progress(self, what, done, total):
        pass

    def check(self):
        pass

    def message(self, text):
        pass


# -- truth ---------------------------------------------------------------------------------------


def fourier_sum(vis, uvw, freq, l, m) -> np.ndarray:
    """(point,) float64 mean over visibilities (row, chan) of Re V exp(-2 pi i nu/c (u l + ...))."""
    from numba import njit

    @njit
    def add(vis, uvw, freq, l, m, n1, out):
        step = freq[1] - freq[0] if freq.size > 1 else 0.0
        for r in range(uvw.shape[0]):
            for k in range(l.size):
                path = -2.0 * np.pi / 299792458.0 * (
                    uvw[r, 0] * l[k] + uvw[r, 1] * m[k] + uvw[r, 2] * n1[k])
                c, s = np.cos(path * freq[0]), np.sin(path * freq[0])
                x, y = np.cos(path * step), np.sin(path * step)
                for i in range(freq.size):
                    out[k] += vis[r, i].real * c - vis[r, i].imag * s
                    c, s = c * x - s * y, c * y + s * x

    out = np.zeros(l.size)
    add(vis, uvw, freq, l, m, np.sqrt(1 - l**2 - m**2) - 1, out)
    return out / vis.size


def visibilities(work: Work):
    """(uvw (row, 3), weighted Stokes I (row, chan), ant1, ant2, time, freq) of the set."""
    from casacore.tables import table

    with table(str(work.ms), ack=False) as t:
        data, uvw, weight = t.getcol("DATA"), t.getcol("UVW"), t.getcol("WEIGHT_SPECTRUM")
        ant1, ant2, when = t.getcol("ANTENNA1"), t.getcol("ANTENNA2"), t.getcol("TIME")
        if t.getcol("FLAG").any():
            raise RuntimeError("the truth knows no flags")
    with table(f"{work.ms}/SPECTRAL_WINDOW", ack=False) as t:
        freq = t.getcol("CHAN_FREQ")[0]
    weight = weight[..., 0].astype(float)
    vis = weight / weight.mean() * 0.5 * (data[..., 0] + data[..., 3])
    return uvw, vis, ant1, ant2, when, freq


def true_values(work: Work, l, m) -> np.ndarray:
    """Apparent flux of the dirty image at directions l, m, each through its facet's gains."""
    from ddfpipe.calibration.gains import interpolate_index
    from ddfpipe.data import solutions

    uvw, vis, ant1, ant2, when, freq = visibilities(work)
    if not work.gains:
        return fourier_sum(vis, uvw, freq, l, m)
    table = solutions.load_solution(work.field / "SOLSDIR", work.ms.name, "true")
    times, rows = np.unique(when, return_inverse=True)
    t, c = interpolate_index(table, times, freq)
    dl, dm = directions(work.setting)
    owner = np.argmin((l[:, None] - dl) ** 2 + (m[:, None] - dm) ** 2, axis=1)
    out = np.empty(l.size)
    for k in np.unique(owner):
        gain = table.gains[t][:, c][..., k, 0][rows]
        one = np.arange(len(rows))[:, None], np.arange(freq.size)[None, :]
        turned = np.conj(gain[(*one, ant1[:, None])]) * gain[(*one, ant2[:, None])] * vis
        some = owner == k
        out[some] = fourier_sum(turned, uvw, freq, l[some], m[some])
    return out


def sample_points(work: Work) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """(l, m) rad of places to compare: at sources, along the edges of facets, and anywhere."""
    rng, s = np.random.default_rng(11), work.setting
    half = np.radians(s.degrees / 2)
    with np.load(work.field / "sky.npz") as sky:
        inside = (np.abs(sky["l"]) < half) & (np.abs(sky["m"]) < half)
        at = np.stack([sky["l"][inside], sky["m"][inside]])
    n, step, limit = s.points, 2 * half / s.facets, 0.99 * half
    edge = rng.uniform(-limit, limit, (2, n))
    # half of them near sources, where errors are largest
    edge[:, : n // 2] = at[:, rng.integers(0, at.shape[1], n // 2)]
    swap = rng.integers(0, 2, n)
    line = np.rint((edge[swap, np.arange(n)] + half) / step).clip(1, s.facets - 1) * step - half
    edge[swap, np.arange(n)] = line + rng.uniform(-2, 2, n) * np.radians(s.cell / 3600)
    return {"sources": tuple(at), "edges": tuple(edge.clip(-limit, limit)),
            "anywhere": tuple(rng.uniform(-limit, limit, (2, n)))}


def errors(work: Work, image: Path) -> dict[str, float]:
    """Largest errors of an image over the largest true value, by kind of place; see the top."""
    from astropy.io import fits

    with fits.open(image) as hdus:
        head, plane = hdus[0].header, np.squeeze(hdus[0].data).astype(float)
    scale = np.radians(head["CDELT1"]), np.radians(head["CDELT2"])
    pixels = {}
    for kind, (l, m) in sample_points(work).items():
        x = np.rint(l / scale[0] + head["CRPIX1"] - 1).astype(int)
        y = np.rint(m / scale[1] + head["CRPIX2"] - 1).astype(int)
        good = (x >= 0) & (y >= 0) & (x < plane.shape[1]) & (y < plane.shape[0])
        pixels[kind] = y[good], x[good]
    y, x = (np.concatenate([p[k] for p in pixels.values()]) for k in (0, 1))
    truth = true_values(work, (x - head["CRPIX1"] + 1) * scale[0],
                        (y - head["CRPIX2"] + 1) * scale[1])
    miss, out, at = np.abs(plane[y, x] - truth) / np.abs(truth).max(), {}, 0
    for kind, (rows, _) in pixels.items():
        out[kind] = float(miss[at:at + len(rows)].max())
        at += len(rows)
    out["rms"] = float(np.sqrt(np.mean(miss**2)))
    return out


# -- the comparison ------------------------------------------------------------------------------


def available(names, ddf: Path | None) -> list[str]:
    """Those of the programs that can be run here."""
    out = []
    for name in names:
        if name == "ddfacet" and (ddf is None or not ddf.exists()):
            print("no DDFacet: pip install ddfacet==1.0.0.0 elsewhere, give --ddf PLACE/bin/DDF.py")
        elif name == "wsclean" and shutil.which("wsclean") is None:
            print("no WSClean: apt-get install wsclean")
        else:
            out.append(name)
    return out


def compare(folder: Path, setting: Setting, names, gains, rounds: int, threads: int,
            ddf: Path | None) -> dict:
    """Run everything; figures[gains][program] = costs, errors and, of ours, parts."""
    field = folder / "field"
    ms = simulate_field(field, setting)
    write_gains(field, ms, setting)
    names, figures = available(names, ddf), {}
    if "ddfpipe" in names:
        # compiled code lies on disk from here on
        small = folder / "compile"
        run_ddfpipe(Work(ms, field, setting, False, small, threads))
        shutil.rmtree(small)
    for through in gains:
        costs = {name: [] for name in names}
        kept = figures.setdefault("gains" if through else "no gains", {})
        for number in range(rounds):
            for name in names:
                program, image = PROGRAMS[name]
                work = Work(ms, field, setting, through,
                            folder / f"{name}.{'gains' if through else 'plain'}", threads, ddf)
                shutil.rmtree(work.folder, ignore_errors=True)
                costs[name].append(program(work))
                kept.setdefault(name, {})
                print(f"{name}, {'with' if through else 'without'} gains: {costs[name][-1]}",
                      flush=True)
                if number == 0:
                    kept[name]["error"] = errors(work, work.folder / image)
                    if name == "ddfpipe":
                        kept[name]["parts"] = json.loads((work.folder / "parts.json").read_text())
                shutil.rmtree(work.folder / "cache", ignore_errors=True)
                best = min(costs[name], key=lambda cost: cost.cpu)
                kept[name].update(
                    cpu=best.cpu, all_cpu=[c.cpu for c in costs[name]], wall=best.wall,
                    memory=max(c.memory for c in costs[name]))
                (folder / "figures.json").write_text(json.dumps(figures, indent=1))
                (folder / "table.md").write_text(table_of(figures))
    return figures


def table_of(figures: dict) -> str:
    """The figures as a table."""
    lines = ["| | program | CPU s | of it start-up | wall s | memory GB | error at sources | "
             "at facet edges | anywhere | rms |", "|---|---|---|---|---|---|---|---|---|---|"]
    for which, programs in figures.items():
        for name, f in programs.items():
            start = f"{f['parts']['imports']:.1f}" if "parts" in f else ""
            e = f["error"]
            lines.append(
                f"| {which} | {name} | {f['cpu']:.1f} | {start} | {f['wall']:.0f} | "
                f"{f['memory'] / 1e9:.2f} | {e['sources']:.1e} | {e['edges']:.1e} | "
                f"{e['anywhere']:.1e} | {e['rms']:.1e} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, nargs="?")
    parser.add_argument("--ddf", type=Path)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--slots", type=int, help="integrations of 8 s instead of the 120")
    parser.add_argument("--psf", type=float, default=1.0, help="size of our PSFs over a facet's")
    parser.add_argument("--gains", default="no,yes")
    parser.add_argument("--programs", default=",".join(PROGRAMS))
    parser.add_argument("--ours", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.ours:
        ours(json.loads(options.ours))
        return
    if options.folder is None:
        parser.error("FOLDER is missing")
    setting = SMALL if options.small else Setting()
    setting = replace(setting, slots=options.slots or setting.slots, psf=options.psf)
    compare(options.folder.resolve(), setting, options.programs.split(","),
            [word == "yes" for word in options.gains.split(",")], options.rounds, options.threads,
            options.ddf)
    print((options.folder / "table.md").read_text())


if __name__ == "__main__":
    main()
