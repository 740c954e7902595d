"""Small simulated fields, and the pipeline's script in a process of its own."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SCRIPTS = ROOT / "scripts"
WORDS = ("--control-nobar=True", "--control-quiet=True")
FINAL = "image_full_ampphase_di_m.NS"

TINY_FIELD = """\
seed = 11
beam = "array_factor"
companions = false
[observation]
hours = 4.0
blocks = 3
slots = 4
n_ms = 4
channels = 2
core_fields = 12
remote_stations = 8
name = "L000009"
small_list = 2
[sky]
n_sources = 12
radius_deg = 0.35
brightest_jy = 5.0
n_bright = 5
separation_deg = 0.2
[ionosphere]
diffractive_km = 12.0
[errors]
amplitude_rms = 0.03
phase_rms_rad = 0.2
clock_rms_ns = 0.1
[noise]
sample_jy = 0.1
flag_random = 0.02
"""
"""20 stations, 3 scans of 4 slots over 4 hours, 2 + 4 sets of 2 channels: seconds a stage."""

TINY_RUN = {
    "data": {"colname": "DATA"},
    "image": {"imsize": 512, "cellsize": 6.0, "psf_arcsec": 24.0, "final_psf_arcsec": 20.0,
              "uvmin": 0.05, "uvmax": 20.0},
    "solutions": {"ndir": 3, "dt_slow": 0.5, "dt_fast": 0.25, "dt_very_slow": 0.5,
                  "uvmin": 0.1, "uvmin_very_slow": 0.1},
    "machine": {"NCPU_DDF": 2, "NCPU_killms": 2},
}


def environment() -> dict[str, str]:
    """Few threads, and this checkout's package."""
    return os.environ | {"OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1", "MPLBACKEND": "Agg",
                         "PYTHONPATH": str(ROOT)}


def simulate(folder: Path, spec: str, *words: str) -> Path:
    """Simulated measurement sets, lists and truth in `folder`/field."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "field.toml").write_text(spec)
    command = [sys.executable, str(SCRIPTS / "simulate.py"), "--config",
               str(folder / "field.toml"), "--output", str(folder / "field"), *words]
    subprocess.run(command, check=True, env=environment(), capture_output=True, timeout=600)
    return folder / "field"


def write_config(path: Path, data: Path | None, sections: dict, full: bool = True) -> Path:
    """A configuration file; the lists are those of a simulated field."""
    merged = {name: dict(options) for name, options in sections.items()}
    if data is not None:
        merged.setdefault("data", {})["mslist"] = data / "mslist.txt"
        if full:
            merged["data"]["full_mslist"] = data / "big-mslist.txt"
    lines = []
    for section, options in merged.items():
        lines += [f"[{section}]"] + [f"{name} = {value}" for name, value in options.items()]
    path.write_text("\n".join(lines) + "\n")
    return path


@dataclass
class Run:
    """A working directory in which the script runs with one configuration file.

    wrapper: words of a command that runs the script (for mounts of its own).  python: words that
    run it in Python.
    """

    folder: Path
    config: Path
    wrapper: list[str] = field(default_factory=list)
    python: list[str] = field(default_factory=lambda: [sys.executable])

    def start(self, *words: str, shell: str = "") -> subprocess.Popen:
        """Start the script; `shell` is put before it (ulimit)."""
        self.folder.mkdir(parents=True, exist_ok=True)
        # Words such as "plan" come before the file, options after it.
        first = [word for word in words if not word.startswith("-")]
        last = [*WORDS, *(word for word in words if word.startswith("-"))]
        command = [*self.python, str(SCRIPTS / "pipeline.py"), *first, str(self.config), *last]
        if shell:
            command = ["bash", "-c", f'{shell}; exec "$@"', "bash", *command]
        command = [*self.wrapper, *command]
        return subprocess.Popen(command, cwd=self.folder, env=environment(), text=True,
                                stdout=subprocess.PIPE, stderr=subprocess.STDOUT)

    def __call__(self, *words: str, shell: str = "", timeout: float = 300) -> tuple[int, str]:
        """Run to the end: (exit code, everything printed)."""
        process = self.start(*words, shell=shell)
        try:
            text, _ = process.communicate(timeout=timeout)
        finally:
            process.kill()
        return process.returncode, text

    def products(self) -> dict[str, str]:
        """Digest of everything but records, logs and what tells times."""
        found = {}
        for path in sorted(self.folder.rglob("*")):
            name = str(path.relative_to(self.folder))
            if not path.is_file() or name.split("/")[0] in ("ddfpipe.state", "logs"):
                continue
            if name not in ("summary.txt", "report.html"):
                found[name] = hashlib.sha256(path.read_bytes()).hexdigest()
        return found

    def records(self) -> int:
        """Number of finished stages."""
        return len(list((self.folder / "ddfpipe.state").glob("[!_.]*.json")))


def tree_state(folder: Path) -> dict[str, tuple]:
    """Digest, size and time of change of every file below `folder`, times of its directories."""
    found = {}
    for path in sorted(folder.rglob("*")):
        status = path.stat()
        digest = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "folder"
        found[str(path.relative_to(folder))] = (digest, status.st_size, status.st_mtime_ns)
    return found


def peaks_over_truth(run: Path, data: Path, at_least: float) -> dict[int, float]:
    """(number, ratio of the final image's peak to the true flux) of sources of `at_least` Jy.

    The peak is a parabola's through the logarithms of the largest pixel within 3 pixels of the true
    place in the intrinsic image, and its neighbours.  Sources with another of at least their own
    flux within four beams are left out: their peaks are not their own.
    """
    import numpy as np

    from ddfpipe.data.images import read_image
    from ddfpipe.data.skymodel import read_skymodel

    image = read_image(run / f"{FINAL}.int.restored.fits")
    sky = read_skymodel(data / "truth.skymodel")
    flux = np.asarray(sky.flux(image.freq)).reshape(sky.size, -1)[:, 0]
    where = np.stack(image.grid.pixel_of(sky.ra, sky.dec), axis=1)
    inside = image.grid.inside(where[:, 0], where[:, 1])
    reach = 4 * image.beam[0] / image.grid.cell
    out = {}
    for i in np.flatnonzero((flux >= at_least) & inside):
        near = np.hypot(*(where - where[i]).T) < reach
        near[i] = False
        if not np.any(flux[near] >= flux[i]):
            out[int(i)] = peak_near(image.plane(), where[i]) / flux[i]
    return out


def peak_near(plane, place) -> float:
    """Interpolated peak of an image (y, x) within 3 pixels of `place` (y, x)."""
    import numpy as np

    y, x = np.rint(place).astype(int)
    box = plane[y - 3:y + 4, x - 3:x + 4]
    top, left = np.unravel_index(np.nanargmax(box), box.shape)
    y, x = y - 3 + top, x - 3 + left
    log = np.log(np.maximum(plane[y - 1:y + 2, x - 1:x + 2], 1e-9))
    rise = 0.0
    for low, middle, high in (log[:, 1], log[1]):
        rise += (low - high) ** 2 / (8 * (2 * middle - low - high))
    return float(np.exp(log[1, 1] + rise))
