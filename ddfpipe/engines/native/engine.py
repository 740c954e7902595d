"""The native engine: the verbs of `engines.base.Engine` on our own imaging and calibration."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ...beam import make_beam
from ...data.ms import read_metadata
from ...data.viscache import clear_caches
from ..base import (
    ClusterJob, ColumnsJob, ImageJob, ImageResult, MaskJob, SmoothJob, SolveJob, SolveResult,
    SpectraJob,
)
from . import sky
from .imager import Imager
from .state import ImageCache
from .visibilities import clear_stokes


class NativeEngine:
    """Facet imaging and gain solving that needs nothing but wheels.

    Parameters
    ----------
    workdir : products
    cache_dir : visibility cache and scratch space; losing it costs time only
    solsdir : solutions
    threads, solve_threads : worker threads of imaging and of solving (None: as imaging)
    memory_limit : bytes
    beam_model : "auto", "LOFAR", "array_factor", "full" or "none"
    drop_international : leave stations outside the Netherlands out
    """

    def __init__(self, *, workdir: Path, cache_dir: Path, solsdir: Path, threads: int,
                 memory_limit: int, solve_threads: int | None = None, beam_model: str = "auto",
                 drop_international: bool = False):
        self.workdir, self.cache_dir, self.solsdir = Path(workdir), Path(cache_dir), Path(solsdir)
        self.threads, self.solve_threads = threads, solve_threads or threads
        self.memory_limit = memory_limit
        self.beam_model, self.drop_international = beam_model, drop_international
        self.images = ImageCache(self.cache_dir)
        self._beams: dict[Path, object] = {}

    def beam(self, ms: Path):
        """Beam of the stations of a measurement set, opened once."""
        ms = Path(ms)
        if ms not in self._beams:
            self._beams[ms] = make_beam(self.beam_model, ms)
        return self._beams[ms]

    def image(self, job: ImageJob, monitor) -> ImageResult:
        """Make an image and its products.  Raises ImagingError, DataError, SolveError."""
        if job.stokes == "I":
            return Imager(self, job, monitor).run()
        from .stokes import StokesImager

        return StokesImager(self, job, monitor).run()

    def solve(self, job: SolveJob, monitor) -> SolveResult:
        """Find gains of every measurement set of a job.  Raises SolveError, DataError."""
        from .phases import PhaseSolve
        from .solving import Solve

        return (PhaseSolve if job.kind == "phase" else Solve)(self, job, monitor).run()

    def smooth(self, job: SmoothJob, monitor) -> SolveResult:
        """Merge and smooth the solutions of each observation."""
        from .smoothing import smooth_solutions

        return smooth_solutions(self, job, monitor)

    def mask(self, job: MaskJob, monitor) -> Path:
        """Threshold an image into a mask."""
        return sky.make_mask(self.workdir, job, monitor, self.threads)

    def mask_model(self, image: str, mask: Path, output: str, monitor) -> Path:
        """Keep only the model under a mask."""
        return sky.mask_model(self.workdir, image, mask, output)

    def cluster(self, job: ClusterJob, monitor) -> Path:
        """Calibration directions from an image."""
        return sky.make_clusters(self.workdir, job, monitor, self.threads)

    def start_model(self, skymodel: Path, like: ImageJob, output: str, monitor) -> Path:
        """A text sky model as the model of an image on the grid of `like`."""
        info = read_metadata(like.vis.ms[0])
        freq = np.linspace(info.freqs.min(), info.freqs.max(), like.n_bands)
        grid = sky.job_grid(like, info.phase_centre)
        return sky.start_model(self.workdir, skymodel, grid, np.unique(freq), output)

    def export_columns(self, job: ColumnsJob, monitor) -> int:
        """Write columns into measurement sets.  Raises SolveError, DataError, ResourceError."""
        from .columns import Columns

        return Columns(self, job, monitor).run()

    def archive(self, job: ColumnsJob, monitor) -> list:
        """Compressed copies of measurement sets.  Raises SolveError, DataError, ResourceError."""
        from .archiving import make_archives

        return make_archives(self, job, monitor)

    def spectra(self, job: SpectraJob, monitor) -> Path:
        """Dynamic spectra towards positions.  Raises SkyModelError, SolveError, DataError."""
        from .dynspec import DynamicSpectra

        return DynamicSpectra(self, job, monitor).run()

    def clear_cache(self, ms) -> None:
        """Forget what is cached of some measurement sets, and every cached image."""
        clear_caches(self.cache_dir, ms)
        clear_stokes(self.cache_dir, ms)
        self.images.clear()
