"""Two engines in one run: images by one of them, gains by the other."""

from __future__ import annotations

from typing import Any

from .base import Engine, ImageJob, ImageResult, SolveJob, SolveResult


class MixedEngine:
    """An engine whose images and solves are those of others.

    Images, models, masks and solutions have one format, so what one engine makes the other reads.

    Parameters
    ----------
    image, solve : engines for these two verbs
    rest : engine for all other verbs
    """

    def __init__(self, image: Engine, solve: Engine, rest: Engine):
        self._image, self._solve, self._rest = image, solve, rest

    def __getattr__(self, verb: str) -> Any:
        return getattr(self._rest, verb)

    @property
    def tools(self) -> dict:
        """Programs of others that are used, see `external.tools`."""
        return getattr(self._image, "tools", {}) | getattr(self._solve, "tools", {})

    def image(self, job: ImageJob, monitor) -> ImageResult:
        """Make an image and its products."""
        return self._image.image(job, monitor)

    def solve(self, job: SolveJob, monitor) -> SolveResult:
        """Find gains of every measurement set of a job."""
        return self._solve.solve(job, monitor)

    def clear_cache(self, ms) -> None:
        """Forget what any of the engines has cached of some measurement sets."""
        for engine in {id(e): e for e in (self._image, self._solve, self._rest)}.values():
            engine.clear_cache(ms)
