"""Other programs for tests of exchange: where they are, small fields, what was applied to data."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import numpy as np

from ddfpipe.calibration.gains import GainTable, as_jones, interpolate_index
from ddfpipe.data.ms import open_table, read_metadata
from ddfpipe.engines.external.tools import tool_environment
from ddfpipe.simulate.run import simulate
from ddfpipe.simulate.sky import Source, write_skymodel
from ddfpipe.simulate.spec import SimulationSpec, update

CENTRE = np.radians([210.0, 50.0])
PLACES = {"mid": (210.031127, 50.019996), "east": (211.263, 50.6933), "west": (208.585, 50.4915)}
"""Directions of the small field, degrees."""
FLUXES = (3.0, 2.0, 1.5)


def run(words, cwd: Path, timeout: float = 300.0) -> str:
    """Run a program and return what it printed; fails with its last words when it fails."""
    done = subprocess.run([str(w) for w in words], cwd=cwd, capture_output=True, text=True,
                          timeout=timeout, stdin=subprocess.DEVNULL,
                          env=os.environ | tool_environment(cwd))
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


def small_field(folder: Path, **changes):
    """Points and a Gaussian through phases of an ionosphere; 7 stations, 2 sets of 4 channels."""
    folder.mkdir(parents=True, exist_ok=True)
    sources = [Source(name, *np.radians(place), flux, (-0.7,))
               for (name, place), flux in zip(PLACES.items(), FLUXES)]
    wide = np.radians(300 / 3600), np.radians(200 / 3600), np.radians(30)
    sources.append(Source("wide", *np.radians((209.6, 49.7)), 4.0, (-0.7,), 144e6, *wide))
    write_skymodel(sources, folder / "given.skymodel")
    spec = update(SimulationSpec(), {
        "companions": False, "smearing": False, "sky": {"model": str(folder / "given.skymodel")},
        "ionosphere": {"diffractive_km": 5.0, "npix": 512},
        "observation": {"ra_deg": 210.0, "dec_deg": 50.0, "core_fields": 4, "remote_stations": 3,
                        "n_ms": 2, "channels": 4, "blocks": 1, "slots": 12, "hours": 0.1,
                        "name": "L000008", "small_list": 2}})
    return simulate(update(spec, changes), folder, threads=1)


def write_regions(path: Path) -> Path:
    """The directions of the small field as ds9 points."""
    path.write_text("fk5\n" + "".join(f"point({ra},{dec}) # text={{{name}}}\n"
                                      for name, (ra, dec) in PLACES.items()))
    return path


def column(ms: Path, name: str = "DATA") -> np.ndarray:
    """(row, chan, corr) of a measurement set."""
    with open_table(ms) as main:
        return main.getcol(name)


def fill(ms: Path, value: np.ndarray, name: str = "DATA") -> None:
    """Put `value`, broadcast to all rows and channels, into a column and clear all flags."""
    with open_table(ms, readonly=False) as main:
        data = main.getcol("DATA")
        data[...] = value
        main.putcol(name, data)
        main.putcol("FLAG", np.zeros(data.shape, bool))


def copy_set(ms: Path, target: Path) -> Path:
    """A copy of a measurement set."""
    shutil.copytree(ms, target)
    return target


def samples(ms: Path) -> dict[str, np.ndarray]:
    """What places the rows of a measurement set: time, ant1, ant2 (row,), freqs, names."""
    info = read_metadata(ms)
    found = {key: column(ms, name) for key, name in
             (("time", "TIME"), ("ant1", "ANTENNA1"), ("ant2", "ANTENNA2"))}
    return found | {"freqs": info.freqs, "names": np.array(info.ant_names)}


def corrupted(where: dict[str, np.ndarray], table: GainTable, direction: int,
              jones: np.ndarray) -> np.ndarray:
    """(row, chan, 4) of `jones` (2, 2) as seen through the gains of a table, looked up as its
    readers do: J_p M J_q^H at the nearest interval, stations by name.  where: see `samples`."""
    at, chan = interpolate_index(table, where["time"], where["freqs"])
    place = np.array([table.station(str(name)) for name in where["names"]])
    g = as_jones(table.gains[:, :, :, direction])
    first = g[at[:, None], chan[None], place[where["ant1"]][:, None]]
    second = g[at[:, None], chan[None], place[where["ant2"]][:, None]]
    out = first @ jones @ np.conj(np.swapaxes(second, -1, -2))
    return out.reshape(*out.shape[:2], 4)


def ddecal(dp3: Path, ms: Path, sky: Path, mode: str, h5: Path) -> Path:
    """DP3's solutions of a mode towards the patches of a list of sources."""
    run([dp3, f"msin={ms}", "msout=", "steps=[ddecal]", "numthreads=1", f"ddecal.mode={mode}",
         f"ddecal.h5parm={h5}", f"ddecal.sourcedb={sky}", "ddecal.solint=4", "ddecal.nchan=2",
         "ddecal.maxiter=30"], h5.parent)
    return h5


def corrections(mode: str) -> tuple[str, ...]:
    """Tables by which DP3 applies solutions of a mode."""
    return {"tec": ("tec000",), "tecandphase": ("tec000", "phase000"),
            "scalarphase": ("phase000",), "fulljones": ("fulljones",)}.get(
                mode, ("amplitude000", "phase000"))


def applied(dp3: Path, ms: Path, folder: Path, h5: Path, names, direction: str,
            jones: np.ndarray) -> np.ndarray:
    """(row, chan, 4) of `jones` in all rows after DP3 corrupted it with tables of an h5parm."""
    copy = copy_set(ms, folder / f"in_{h5.stem}.ms")
    fill(copy, jones.ravel())
    steps = ["applycal.correction=fulljones", "applycal.soltab=[amplitude000,phase000]"] \
        if names == ("fulljones",) else [
            f"applycal.steps=[{','.join(names)}]",
            *(f"applycal.{n}.correction={n}" for n in names)]
    run([dp3, f"msin={copy}", f"msout={folder}/out_{h5.stem}.ms", "steps=[applycal]",
         "numthreads=1", f"applycal.parmdb={h5}", "applycal.invert=false",
         f"applycal.direction={direction}", *steps], folder)
    return column(folder / f"out_{h5.stem}.ms")


def wsclean_sources(wsclean: Path, sets, name: str, scale: int, npix: int, cell: int,
                    folder: Path) -> Path:
    """WSClean's list of sources: points (scale 0) or Gaussians, with linear spectra."""
    run([wsclean, "-name", name, "-size", npix, npix, "-scale", f"{cell}asec", "-pol", "I",
         "-niter", 40, "-j", 1, "-no-update-model-required", "-multiscale",
         "-multiscale-scales", scale, "-taper-gaussian", "180asec", "-channels-out", 2,
         "-join-channels", "-fit-spectral-pol", 2, "-save-source-list", "-mgain", "0.5", *sets],
        folder)
    return folder / f"{name}-sources.txt"
