"""Time and memory that a stage takes, and the versions of what computed it."""

from __future__ import annotations

import platform
import resource
import time
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from ddfpipe import __version__

PACKAGES = ("numpy", "scipy", "numba", "ducc0", "astropy", "python-casacore", "everybeam")
KIB = 1024


class Usage:
    """Measures from its construction on."""

    def __init__(self) -> None:
        self._reset = _reset_peak()
        self._start = time.monotonic()
        self._cpu = _cpu_seconds()

    @property
    def seconds(self) -> float:
        """Wall time so far."""
        return time.monotonic() - self._start

    @property
    def cpu_seconds(self) -> float:
        """CPU time of all threads and finished children so far."""
        return _cpu_seconds() - self._cpu

    @property
    def peak_memory_bytes(self) -> int:
        """Largest resident memory; that of the whole process where Linux cannot tell more."""
        peak = _peak_since_reset() if self._reset else None
        if peak is None:
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * KIB
        return peak


def _cpu_seconds() -> float:
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


def _reset_peak() -> bool:
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    except OSError:
        return False
    return True


def _peak_since_reset() -> int | None:
    try:
        for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * KIB
    except (OSError, ValueError):
        pass
    return None


@cache
def _installed(package: str) -> str:
    """Looked up once: every look-up reads the folders of installed packages."""
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def versions(engine: object = None) -> dict[str, str]:
    """Versions of ddfpipe, Python, the packages that compute and the programs of an engine."""
    found = {"ddfpipe": __version__, "python": platform.python_version()}
    found |= {name: _installed(name) for name in PACKAGES}
    tools = getattr(engine, "tools", {})
    return found | {name: tool.text() for name, tool in tools.items()}
