"""The engine of DDFacet and killMS: the verbs of `engines.base.Engine`."""

from __future__ import annotations

from pathlib import Path

from ...errors import ResourceError
from ..base import ImageJob, ImageResult, SolveJob, SolveResult
from ..external.ours import BesideNative, is_ours
from ..external.runner import Call
from ..external.tools import Tool
from .commands import fast_size
from .imager import DDFacetImager
from .shm import VANISHED, Leftovers, require_shared_memory
from .solver import KillMSSolve
from .tools import ddf_environment


class DDFacetEngine(BesideNative):
    """Images by DDFacet and gains by killMS; the rest by our own engine, `native`.

    Parameters
    ----------
    native : NativeEngine; its folders, threads and memory are used
    tools : as `tools.find_tools` gives them
    beam_at : where a beam is evaluated, "facet" or "tessel" (the cell of a direction)
    """

    def __init__(self, native, tools: dict[str, Tool], beam_at: str = "facet"):
        super().__init__(native, tools)
        self.beam_at = beam_at

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
            environment=ddf_environment(self.native.cache_dir.absolute()), stumble=VANISHED, **more,
        )

    def refusals(self, job) -> list[str]:
        """See `refusals` of this module."""
        return refusals(job, self.native.beam_model, self.tools)

    def make_image(self, job: ImageJob, monitor) -> ImageResult:
        """An image by DDFacet."""
        self.leftovers.sweep()
        return DDFacetImager(self, job, monitor).run()

    def find_gains(self, job: SolveJob, monitor) -> SolveResult:
        """Gains by killMS."""
        self.leftovers.sweep()
        return KillMSSolve(self, job, monitor).run()


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
