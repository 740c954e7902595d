"""Python's search for cyclic garbage, kept away from what lives as long as the process.

Modules and compiled code are some hundred thousand objects.  While they are loaded Python searches
them again and again for cycles that nobody refers to, and once more at the end of the process,
where it also takes them apart one by one: 0.7 s of CPU time in all, and nothing is ever found.
Files are written and closed by their context managers, so that nothing depends on that end.
"""

from __future__ import annotations

import atexit
import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def modules_stay() -> Iterator[None]:
    """Load modules within: no search while that lasts, and later ones pass them over.

    At the end of the process the system takes back what is left, as `gc.freeze` asks for.
    """
    searched = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if searched:
            gc.enable()
    atexit.register(gc.freeze)
