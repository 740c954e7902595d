"""What costs are made of, and what reading data costs: `pipeline.py plan --estimate`.

Unit costs, here, in imagecosts.py and in solvecosts.py, are CPU times of the machine of
docs/performance.md, fitted to the records of the runs in tests/data/recorded_runs.json and to the
growth measured there; another machine may take half or twice as much.  What nobody knows before a
run (how much there is to clean, how often intervals are shortened) is taken as it was in those.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING

from ddfpipe.engines.base import VisSelection
from ddfpipe.units import KM, MHZ

if TYPE_CHECKING:
    from ddfpipe.data.setsize import SetSize

NS = 1e-9
FLOAT = 4
READ, STOKES, WEIGHT = 200 * NS, 30 * NS, 40 * NS
"""A visibility: read from its measurement set, corrected to Stokes I, weighted."""
START = 0.4
"""Seconds of loading compiled code in the first stage of a start."""
BASE_MEMORY = 0.33e9
"""Bytes of the program, its packages and compiled code."""
PAGES = 1e9
"""Most bytes of memory-mapped visibilities that stay in memory where there is room."""


@dataclass(frozen=True)
class Cost:
    """What a stage takes.

    parallel_s, serial_s: CPU seconds of what threads share, and of what one does.
    memory_bytes: peak; mapped_bytes: pages of files in it, which go where room is short.
    product_bytes: below the working directory.  cache_bytes: below the cache directory, kept for
    later stages.  scratch_bytes: there too, while the stage is at work.
    """

    parallel_s: float = 0.0
    serial_s: float = 0.0
    memory_bytes: float = BASE_MEMORY
    mapped_bytes: float = 0.0
    product_bytes: float = 0.0
    cache_bytes: float = 0.0
    scratch_bytes: float = 0.0

    @property
    def cpu_s(self) -> float:
        """CPU seconds."""
        return self.parallel_s + self.serial_s

    @property
    def held_bytes(self) -> float:
        """Memory that the stage cannot do without."""
        return self.memory_bytes - self.mapped_bytes

    @property
    def disk_bytes(self) -> float:
        """Products, caches and scratch."""
        return self.product_bytes + self.cache_bytes + self.scratch_bytes

    def wall_s(self, threads: int) -> float:
        """Seconds on a machine that does nothing else."""
        return self.parallel_s / threads + self.serial_s

    def plus(self, **more: float) -> "Cost":
        """The same and more; of memory the larger."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        for name, value in more.items():
            values[name] = max(values[name], value) if name == "memory_bytes" \
                else values[name] + value
        return Cost(**values)

    def scaled(self, factor: float) -> "Cost":
        """The same with `factor` times the CPU seconds."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        return Cost(**values | {"parallel_s": factor * self.parallel_s,
                                "serial_s": factor * self.serial_s})


@dataclass(frozen=True)
class World:
    """What costs depend on besides a job.

    sets: size of every measurement set.  n_dir: calibration directions.  threads, solve_threads:
    of images and of solves.  memory: bytes that the engine may use.  npix, cell_arcsec: of the
    main images.
    """

    sets: Mapping[Path, "SetSize"]
    n_dir: int
    threads: int
    solve_threads: int
    memory: float
    npix: int
    cell_arcsec: float

    def of(self, ms: Iterable[Path], mhz: tuple[float, float] | None = None) -> list["SetSize"]:
        """Sizes of some measurement sets, those whose mean frequency lies in lo <= f < hi.

        Sets of unknown size count nothing.
        """
        low, high = mhz or (0.0, math.inf)
        return [s for s in (self.sets[path] for path in ms if path in self.sets)
                if low <= s.freqs.mean() / MHZ < high]


def visibilities(sets: Iterable["SetSize"]) -> float:
    """Samples of one correlation of measurement sets."""
    return float(sum(s.visibilities for s in sets))


def used_visibilities(sets: Iterable["SetSize"], vis: VisSelection) -> float:
    """Those on baselines of the selection's lengths."""
    low, high = (length * KM for length in vis.uv_km)
    return float(sum(s.visibilities * s.share(low, high) for s in sets))


def mapped(sets: Iterable["SetSize"], each: float) -> float:
    """Bytes of mapped visibilities that stay in memory where there is room; each: of a sample."""
    return min(each * visibilities(sets), PAGES)


def first_reading(sets: Iterable["SetSize"]) -> Cost:
    """Cost of copying measurement sets into the cache: four correlations, weights, coordinates."""
    sets = list(sets)
    kept = sum(36 * s.visibilities + 24 * s.n_time * s.n_bl for s in sets)
    return Cost(serial_s=READ * visibilities(sets), cache_bytes=kept)


def stokes_copy(sets: Iterable["SetSize"]) -> Cost:
    """Cost of a copy of corrected visibilities in one Stokes parameter."""
    amount = visibilities(sets)
    return Cost(serial_s=STOKES * amount, cache_bytes=8 * amount)
