"""The built-in engine: facet imaging on ducc0 and statistics-based gain solving, wheels only."""

from .startup import modules_stay

with modules_stay():
    from .engine import NativeEngine

__all__ = ["NativeEngine"]
