"""The engine of WSClean and DP3: the verbs of `engines.base.Engine`."""

from __future__ import annotations

from pathlib import Path

from ..base import ImageJob, ImageResult, SolveJob, SolveResult
from ..external.ours import BesideNative, is_ours
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


class WSCleanEngine(BesideNative):
    """Images by WSClean and gains by DP3; the rest by our own engine, `native`.

    Parameters
    ----------
    native : NativeEngine; its folders, threads and memory are used
    tools : as `find_tools` gives them
    """

    def gridding(self, job, folder: Path, channels: int, gains):
        """WSClean's gridding for a job; gains : FacetGains or None."""
        return gridding_of(self.tools, self.native, job, folder, channels, gains)

    def refusals(self, job) -> list[str]:
        """See `refusals` of this module."""
        return refusals(job, self.native.beam_model)

    def make_image(self, job: ImageJob, monitor) -> ImageResult:
        """An image by WSClean."""
        return WSCleanImager(self, job, monitor).run()

    def find_gains(self, job: SolveJob, monitor) -> SolveResult:
        """Gains by DP3."""
        return DP3Solve(self, job, monitor).run()


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
