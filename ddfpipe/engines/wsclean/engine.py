"""The engine of WSClean and DP3: the verbs of `engines.base.Engine`."""

from __future__ import annotations

from pathlib import Path

from ...errors import ConfigError
from ..base import ClusterJob, ColumnsJob, ImageJob, ImageResult, MaskJob, SmoothJob, SolveJob
from ..base import SolveResult, SpectraJob
from ..external.copies import clear_copies
from ..external.ours import is_ours
from ..external.tools import Tool, find_tool, probe_dp3, probe_wsclean
from .imager import WSCleanImager
from .predicting import gridding_of
from .solver import DP3Solve


def find_tools(wsclean: str = "auto", dp3: str = "auto", *, image: bool = True,
               solve: bool = True) -> dict[str, Tool]:
    """The programs, probed.  image, solve: what they are wanted for.

    Both images and solves need WSClean (it predicts); DP3 only solves.
    Raises ConfigError when one is missing or does not run.
    """
    tools = {"wsclean": probe_wsclean(find_tool("wsclean", wsclean))} if image or solve else {}
    if solve:
        tools["dp3"] = probe_dp3(find_tool("dp3", dp3))
    return tools


class WSCleanEngine:
    """Images by WSClean and gains by DP3; the rest by our own engine, `native`.

    Parameters
    ----------
    native : NativeEngine; its folders, threads and memory are used
    tools : as `find_tools` gives them
    """

    def __init__(self, native, tools: dict[str, Tool]):
        self.native, self.tools = native, tools

    def gridding(self, job, folder: Path, channels: int, gains):
        """WSClean's gridding for a job; gains : FacetGains or None."""
        return gridding_of(self.tools, self.native, job, folder, channels, gains)

    def require(self, job: ImageJob | SolveJob) -> None:
        """Raise ConfigError for what WSClean or DP3 cannot do; see `refusals`."""
        found = refusals(job, self.native.beam_model)
        if found:
            raise ConfigError(f"{job.name}: " + "; ".join(found))

    def image(self, job: ImageJob, monitor) -> ImageResult:
        """Make an image and its products.  Raises ImagingError, DataError, StageFailed."""
        if is_ours(job):
            return self.native.image(job, monitor)
        return WSCleanImager(self, job, monitor).run()

    def solve(self, job: SolveJob, monitor) -> SolveResult:
        """Find gains of every measurement set of a job.  Raises SolveError, StageFailed."""
        if is_ours(job):
            return self.native.solve(job, monitor)
        return DP3Solve(self, job, monitor).run()

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


BEAM = ("the engine wsclean images without a beam (its builds in Linux distributions lack "
        "EveryBeam): set [image] beam_model = none if the data need none, or use [machine] engine "
        "= native")


def refusals(job, beam_model: str) -> list[str]:
    """Sentences on what stands against a job; none for a job that can be done."""
    if is_ours(job):
        return []
    found = [BEAM] if isinstance(job, (ImageJob, SolveJob)) and beam_model != "none" else []
    if isinstance(job, SolveJob) and job.robust is not None:
        found.append("DP3 solves with the weights of the data: set [solutions] robust = None")
    return found
