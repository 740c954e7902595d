"""What our own engine does in a run whose images or gains are made by programs of others."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ...errors import ConfigError
from ..base import (
    ClusterJob, ColumnsJob, ImageJob, ImageResult, MaskJob, SmoothJob, SolveJob, SolveResult,
    SpectraJob,
)
from .copies import clear_copies
from .tools import Tool

if TYPE_CHECKING:  # status and plan need no compiler
    from ...imaging.facets import FacetSet


@dataclass
class Bands:
    """What `write_products` asks of the data: weights (band,), and the centre (ra, dec) rad."""

    band_weight: np.ndarray
    phase_centre: tuple[float, float]


@dataclass
class Outcome:
    """What `write_products` asks of an image that a program has made."""

    data: Bands
    facets: FacetSet


def is_ours(job) -> bool:
    """Whether a job of a run with programs of others is left to our own engine.

    These are images that are not cleaned in Stokes I alone (cubes over frequency; Q, U and V), and
    phases against a list of components seen through the beam.  Gains, models and masks have one
    format, so what is asked for fits the rest of the run.
    """
    if isinstance(job, ImageJob):
        return job.stokes != "I" or bool(job.cubes)
    return isinstance(job, SolveJob) and job.kind == "phase"


class BesideNative:
    """The verbs of `engines.base.Engine` with images and gains by programs of others.

    A subclass says how with `make_image` and `find_gains`; the rest is done by our own engine.

    Parameters
    ----------
    native : NativeEngine; its folders, threads and memory are used
    tools : the programs
    """

    def __init__(self, native, tools: dict[str, Tool]):
        self.native, self.tools = native, tools

    def refusals(self, job) -> list[str]:
        """Sentences on what stands against a job; none for a job that can be done."""
        raise AssertionError("a subclass says what its programs cannot do")

    def make_image(self, job: ImageJob, monitor) -> ImageResult:
        """An image by the programs."""
        raise AssertionError("a subclass says how its programs make images")

    def find_gains(self, job: SolveJob, monitor) -> SolveResult:
        """Gains by the programs."""
        raise AssertionError("a subclass says how its programs find gains")

    def require(self, job: ImageJob | SolveJob) -> None:
        """Raise ConfigError for what the programs cannot do; see `refusals`."""
        found = self.refusals(job)
        if found:
            raise ConfigError(f"{job.name}: " + "; ".join(found))

    def image(self, job: ImageJob, monitor) -> ImageResult:
        """Make an image and its products.  Raises ImagingError, DataError, StageFailed."""
        return self.native.image(job, monitor) if is_ours(job) else self.make_image(job, monitor)

    def solve(self, job: SolveJob, monitor) -> SolveResult:
        """Find gains of every measurement set of a job.  Raises SolveError, StageFailed."""
        return self.native.solve(job, monitor) if is_ours(job) else self.find_gains(job, monitor)

    def smooth(self, job: SmoothJob, monitor) -> SolveResult:
        """Merge and smooth the solutions of each observation."""
        return self.native.smooth(job, monitor)

    def mask(self, job: MaskJob, monitor) -> Path:
        """Threshold an image into a mask."""
        return self.native.mask(job, monitor)

    def mask_model(self, image: str, mask: Path, output: str, monitor) -> Path:
        """Keep only the model under a mask."""
        return self.native.mask_model(image, mask, output, monitor)

    def cluster(self, job: ClusterJob, monitor) -> Path:
        """Calibration directions from an image."""
        return self.native.cluster(job, monitor)

    def start_model(self, skymodel: Path, like: ImageJob, output: str, monitor) -> Path:
        """A text sky model as the model of an image on the grid of `like`."""
        return self.native.start_model(skymodel, like, output, monitor)

    def export_columns(self, job: ColumnsJob, monitor) -> int:
        """Write columns into measurement sets."""
        return self.native.export_columns(job, monitor)

    def archive(self, job: ColumnsJob, monitor) -> list:
        """Compressed copies of measurement sets."""
        return self.native.archive(job, monitor)

    def spectra(self, job: SpectraJob, monitor) -> Path:
        """Dynamic spectra of residuals."""
        return self.native.spectra(job, monitor)

    def clear_cache(self, ms) -> None:
        """Forget what is cached of some measurement sets, and every cached image."""
        clear_copies(self.native.cache_dir, ms)
        self.native.clear_cache(ms)
