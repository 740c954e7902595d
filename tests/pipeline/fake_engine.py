"""An engine that computes nothing but depends on everything, fast.

Every product is noise seeded by the job and by the bytes of all files that the job refers to, so
two runs give the same products only if every stage saw the same inputs.
"""

from __future__ import annotations

import hashlib
import json
import time
from dataclasses import asdict
from pathlib import Path

import numpy as np

from ddfpipe.calibration.gains import GainTable
from ddfpipe.data.archive import Archived
from ddfpipe.data.clusters import make_directions, write_clusters
from ddfpipe.data.cubes import CubeFile
from ddfpipe.data.fingerprint import own_change
from ddfpipe.data.images import SkyGrid, read_image, write_image
from ddfpipe.data.model import PixelModel, save_model
from ddfpipe.data.regions import FacetOutline, write_tessel
from ddfpipe.data.solutions import link_solution, save_solution, save_table
from ddfpipe.data.spectra import create_piece
from ddfpipe.data.targets import read_positions
from ddfpipe.engines.base import ImageResult, SolveResult
from ddfpipe.naming import (
    archive_name, image_product, mask_of, merged_file, solution_file, solution_name,
)

PIXELS, FREQ, STATIONS = 24, 150e6, 4


class FakeEngine:
    """Keeps every job it was given in `jobs` as (verb, job).

    pause: seconds that an image or a solve takes, with checks of the monitor in between.
    trouble: {name: exception or function} raised or called when the job of that name begins.
    """

    def __init__(self, workdir: Path, solsdir: Path, pause: float = 0.0, trouble=None) -> None:
        self.workdir, self.solsdir = workdir, solsdir
        self.pause, self.trouble = pause, trouble or {}
        self.jobs: list[tuple[str, object]] = []
        self.cleared: list[tuple[str, ...]] = []

    def image(self, job, monitor) -> ImageResult:
        rng = self._begin("image", job, job.name, monitor)
        made = []
        kinds = ["dirty", "dirty_corr", "psf", "norm"]
        if job.major_cycles or job.start_model:
            kinds += ["app_restored", "int_restored", "app_model", "int_model", "app_residual",
                      "int_residual"]
        cubes = [f"cube_{kind}" for kind in job.cubes]
        kinds = kinds + cubes if job.stokes == "I" else cubes or ["dirty", "dirty_corr"]
        for kind in kinds:
            write = self._cube if kind in cubes else self._fits
            made.append(write(image_product(job.name, kind), rng))
        for cycle in range(1, job.major_cycles + 1):
            made.append(self._fits(image_product(job.name, "residual", cycle), rng))
        made.append(self._model(job.name, rng))
        if "app_restored" in kinds:
            made.append(self._tessel(job.name))
        return ImageResult(job.name, 1e-4, 0.5, 2.0, (12.0, 12.0, 0.0), tuple(made))

    def solve(self, job, monitor) -> SolveResult:
        rng = self._begin("solve", job, job.name, monitor)
        made = []
        for ms in job.vis.ms:
            monitor.check()
            made += save_solution(self._gains(rng), self.solsdir, ms, job.name)
        return SolveResult(job.name, tuple(made), {"chi2": 1.0})

    def smooth(self, job, monitor) -> SolveResult:
        rng = self._begin("smooth", job, job.name, monitor)
        smooth = job.smooth is not None
        merged = self.workdir / merged_file(job.name, 5e9, smooth)
        save_table(self._gains(rng), merged)
        name = solution_name(job.name, smooth)
        links = [link_solution(merged, self.solsdir, ms, name) for ms in job.ms]
        return SolveResult(name, (merged, *links))

    def mask(self, job, monitor) -> Path:
        self._begin("mask", job, str(job.image), monitor)
        image = read_image(self.workdir / job.image)
        bright = image.plane() > np.quantile(image.plane(), 0.9)
        if job.diffuse:
            for name in ("MaskDiffuse.fits", "Noise.fits", "Noise.mean.fits"):
                write_image(self.workdir / name, bright, image.grid, freq=FREQ)
        return write_image(self.workdir / mask_of(job.image), bright, image.grid, freq=FREQ)

    def mask_model(self, image, mask, output, monitor) -> Path:
        rng = self._begin("mask_model", (image, str(mask), output), output, monitor)
        return self._model(output, rng)

    def cluster(self, job, monitor) -> Path:
        rng = self._begin("cluster", job, "clusters", monitor)
        offset = rng.uniform(-0.01, 0.01, (2, job.ndir))
        return write_clusters(
            self.workdir / job.output, make_directions(1 + offset[0], 0.8 + offset[1])
        )

    def start_model(self, skymodel, like, output, monitor) -> Path:
        rng = self._begin("start_model", (str(skymodel), like, output), output, monitor)
        return self._model(output, rng)

    def export_columns(self, job, monitor) -> int:
        rng = self._begin("export_columns", job, "write_columns", monitor)
        for ms in job.ms:
            with own_change(ms):
                (ms / "table.dat").write_text(str(job.columns))
                (ms / "table.f1").write_bytes(rng.bytes(8))
        return 100 * len(job.ms) * len(job.columns)

    def archive(self, job, monitor) -> list[Archived]:
        rng = self._begin("archive", job, "archive_ms", monitor)
        made = []
        for ms in job.ms:
            path = self.workdir / archive_name(ms)
            path.mkdir(exist_ok=True)
            (path / "table.f0").write_bytes(rng.bytes(50))
            made.append(Archived(path, True, True, 0.001, 0.0005, 200, 50))
        return made

    def spectra(self, job, monitor) -> Path:
        rng = self._begin("spectra", job, job.name, monitor)
        count = len(read_positions(job.positions))
        for number, ms in enumerate(job.vis.ms):
            piece = create_piece(job.output, number, count, time=5e9 + 8.0 * np.arange(6),
                                 freq=FREQ + 1e5 * (2 * number + np.arange(2)), interval=8.0,
                                 width=1e5)
            piece.flux[:] = rng.normal(size=piece.flux.shape)
            piece.weight[:] = rng.uniform(1, 2, piece.weight.shape)
        return job.output

    def clear_cache(self, ms) -> None:
        self.cleared.append(tuple(path.name for path in ms))

    # ------------------------------------------------------------------ making things up

    def _begin(self, verb, job, name, monitor) -> np.random.Generator:
        self.jobs.append((verb, job))
        trouble = self.trouble.get(name)
        if isinstance(trouble, BaseException):
            raise trouble
        if trouble is not None:
            trouble()
        steps = 4
        for step in range(steps):
            monitor.check()
            monitor.progress(f"{verb} {name}", step, steps)
            time.sleep(self.pause / steps)
        monitor.progress(f"{verb} {name}", steps, steps)
        monitor.message(f"{verb} {name} finished")
        return np.random.default_rng(self._seed(job))

    def _seed(self, job) -> list[int]:
        values = asdict(job) if hasattr(job, "__dataclass_fields__") else list(job)
        # What an earlier run left under the job's own name must not matter.
        own = values[-1] if isinstance(values, list) else values.get("name")
        digest = hashlib.sha256()
        digest.update(repr(values).replace(str(self.workdir), "").encode())
        for text in sorted(set(_texts(values)) - {own}):
            for path in self._files(text):
                digest.update(path.read_bytes())
        return list(digest.digest())

    def _files(self, text: str) -> list[Path]:
        """Files that a text of a job stands for: itself, a model, a solution set."""
        found = [self.workdir / text, self.workdir / image_product(text, "model")]
        found += sorted(self.solsdir.glob(f"*/{solution_file(Path(), 'x', text).name}"))
        return [path for path in found if path.is_file()]

    def _grid(self) -> SkyGrid:
        return SkyGrid(1.0, 0.8, PIXELS, PIXELS, 1e-4)

    def _fits(self, name, rng) -> Path:
        data = rng.normal(size=(PIXELS, PIXELS)).astype(np.float32)
        return write_image(self.workdir / name, data, self._grid(), freq=FREQ,
                           beam=(3e-4, 2e-4, 0.3))

    def _cube(self, name, rng) -> Path:
        freq = np.array([FREQ, FREQ + 1e6])
        with CubeFile(self.workdir / name, self._grid(), freq=freq, width=[1e6, 1e6]) as file:
            for band in range(2):
                plane = rng.normal(size=(PIXELS, PIXELS)).astype(np.float32)
                file.put(band, "I", plane, 1.0, 1.0)
        return self.workdir / name

    def _model(self, root, rng) -> Path:
        index = np.sort(rng.choice(PIXELS**2, 5, replace=False)).astype(np.int64)
        model = PixelModel(self._grid(), np.array([FREQ]), index,
                           rng.uniform(size=(1, 5)).astype(np.float32))
        return save_model(self.workdir / image_product(root, "model"), model)

    def _tessel(self, root) -> Path:
        corners = np.array([[-1, -1], [-1, 1], [1, 1], [1, -1]]) * 1e-3 + [1.0, 0.8]
        return write_tessel(self.workdir / image_product(root, "tessel"),
                            [FacetOutline("S0", (1.0, 0.8), corners)])

    def _gains(self, rng) -> GainTable:
        edges = 5e9 + np.array([[0.0, 60.0], [60.0, 120.0], [120.0, 180.0]])
        gains = np.exp(1j * rng.normal(size=(3, 1, STATIONS, 2, 1)))
        return GainTable(
            edges, np.array([[149e6, 151e6]]), gains, [f"CS00{n}" for n in range(STATIONS)],
            np.array([[1.0, 0.8], [1.01, 0.81]]), ant_pos=np.ones((STATIONS, 3)),
        )


def _texts(value):
    """All strings and paths in nested values."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, (list, tuple)):
        for item in value:
            yield from _texts(item)
    elif isinstance(value, (str, Path)):
        yield str(value)
    elif hasattr(value, "__dataclass_fields__"):
        yield from _texts(asdict(value))


def fake_ms(path: Path) -> Path:
    """A folder that looks like a measurement set to a fingerprint."""
    for table in (".", "ANTENNA", "SPECTRAL_WINDOW", "FIELD"):
        (path / table).mkdir(parents=True, exist_ok=True)
        (path / table / "table.dat").write_text(json.dumps([path.name, table]))
        (path / table / "table.f0").write_bytes(b"data")
    return path
