"""The engine of DDFacet and killMS: the verbs of `engines.base.Engine`."""

from __future__ import annotations

from pathlib import Path

from ...errors import ConfigError, ResourceError
from ..base import (
    ClusterJob, ColumnsJob, ImageJob, ImageResult, MaskJob, SmoothJob, SolveJob, SolveResult,
    SpectraJob,
)
from ..external.copies import clear_copies
from ..external.ours import is_ours
from ..external.runner import Call
from ..external.tools import Tool
from .commands import fast_size
from .imager import DDFacetImager
from .shm import Leftovers, require_shared_memory
from .solver import KillMSSolve
from .tools import ddf_environment


class DDFacetEngine:
    """Images by DDFacet and gains by killMS; the rest by our own engine, `native`.

    Parameters
    ----------
    native : NativeEngine; its folders, threads and memory are used
    tools : as `tools.find_tools` gives them
    beam_at : where a beam is evaluated, "facet" or "tessel" (the cell of a direction)
    """

    def __init__(self, native, tools: dict[str, Tool], beam_at: str = "facet"):
        self.native, self.tools, self.beam_at = native, tools, beam_at

    @property
    def beam(self) -> str | None:
        """Where the programs evaluate the beam, None without one."""
        return None if self.native.beam_model == "none" else self.beam_at

    @property
    def leftovers(self) -> Leftovers:
        """What the programs of this working directory leave in shared memory."""
        return Leftovers(self.native.cache_dir / "ddfpipe.shm")

    def call(self, words: list[str], folder: Path, products: tuple[Path, ...] = (), **more) -> Call:
        """One run of a program in its environment, which leaves nothing in shared memory."""
        return Call(
            tuple(words), folder, products, started=self.leftovers.started,
            ended=self.leftovers.ended,
            environment=ddf_environment(self.native.cache_dir.absolute()), **more,
        )

    def require(self, job: ImageJob | SolveJob) -> None:
        """Raise ConfigError for what DDFacet or killMS cannot do; see `refusals`."""
        found = refusals(job, self.native.beam_model, self.tools)
        if found:
            raise ConfigError(f"{job.name}: " + "; ".join(found))

    def image(self, job: ImageJob, monitor) -> ImageResult:
        """Make an image and its products.  Raises ImagingError, DataError, StageFailed."""
        if is_ours(job):
            return self.native.image(job, monitor)
        self.leftovers.sweep()
        return DDFacetImager(self, job, monitor).run()

    def solve(self, job: SolveJob, monitor) -> SolveResult:
        """Find gains of every measurement set of a job.  Raises SolveError, StageFailed."""
        if is_ours(job):
            return self.native.solve(job, monitor)
        self.leftovers.sweep()
        return KillMSSolve(self, job, monitor).run()

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


BEAM = ("the engine ddfacet has no beam here: the LOFAR beam of DDFacet and killMS needs the "
        "Python module lofar.stationresponse in their environments, which no package index offers: "
        "set [image] beam_model = none if the data need none, or use [machine] engine = native")
BAND_IMAGES, MEAN_IMAGES = 6, 4
"""Images that DDFacet holds in shared memory at once, for a band and besides."""

BEAM_KINDS = ("auto", "LOFAR", "array_factor", "none")
"""Beams that DDFacet has in common with us: its array factor alone."""


def shared_bytes(job: ImageJob) -> int:
    """Shared memory that DDFacet's images of a job take: of every band image, grids, PSF, norm."""
    return 4 * fast_size(job.npix) ** 2 * (BAND_IMAGES * job.n_bands + MEAN_IMAGES)


def refusals(job, beam_model: str, tools: dict[str, Tool] | None) -> list[str]:
    """Sentences on what stands against a job; none for a job that can be done.

    tools : None where they are not known (they are missing, which is told elsewhere)
    """
    if is_ours(job):
        return []
    found = []
    if isinstance(job, (ImageJob, SolveJob)) and beam_model != "none":
        able = tools is not None and all("lofarbeam" in tool.abilities for tool in tools.values())
        if not able:
            found.append(BEAM)
        elif beam_model not in BEAM_KINDS:
            found.append(f"DDFacet and killMS apply the array factor alone: set [image] beam_model "
                         f"= array_factor instead of {beam_model}")
    if isinstance(job, ImageJob):
        try:
            require_shared_memory(shared_bytes(job))
        except ResourceError as error:
            found.append(str(error))
    if isinstance(job, ImageJob) and job.major_cycles and job.auto_mask_sigma is None \
            and job.external_mask is None:
        found.append("DDFacet's deconvolution needs a mask: set a threshold in [masking] "
                     "thresholds")
    return found
