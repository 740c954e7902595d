"""Prints hashes of gains found by either solver; run by test_compiled_bits.

Words name kernels, as module.function, that are loaded before anything else.
"""

from __future__ import annotations

import hashlib
import importlib
import sys

from tests.calibration.arrays import Simulation
from tests.calibration.test_solver import solve


def load(word: str) -> None:
    """Compiled code of a kernel for all types that are in the cache."""
    module, name = word.split(".")
    kernel = getattr(importlib.import_module(f"ddfpipe.calibration.{module}"), name)
    index = kernel._cache._cache_file._load_index()
    for signature, *_ in index:
        kernel.compile(signature)
    assert index and sum(kernel.stats.cache_hits.values()) == len(index)


def main() -> None:
    for word in sys.argv[1:]:
        load(word)
    for solver in ("KAFCA", "CohJones"):
        gains, *_ = solve(Simulation(sigma=0.3), 5, solver=solver, smooth=True)
        print(solver, hashlib.sha256(gains.tobytes()).hexdigest()[:20], flush=True)


if __name__ == "__main__":
    main()
