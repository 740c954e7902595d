"""DDFacet and killMS as an engine: images by the one, gains by the other."""

from .engine import DDFacetEngine

__all__ = ["DDFacetEngine"]
