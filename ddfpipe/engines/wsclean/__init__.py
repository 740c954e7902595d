"""WSClean and DP3 as an engine: images by the one, gains by the other."""

from .engine import WSCleanEngine

__all__ = ["WSCleanEngine"]
