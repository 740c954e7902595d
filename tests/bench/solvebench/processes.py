"""Run a program and count the CPU seconds of it and all its children."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path


class ProgramFailed(RuntimeError):
    """A program of the comparison ended with an error; the message names its log."""


@dataclass(frozen=True)
class Cost:
    """cpu: user and system seconds, children included.  memory: bytes of the largest process."""

    cpu: float
    memory: float


def run(command: list[str], log: Path, cwd: Path, env: dict[str, str] | None = None) -> Cost:
    """Run a command on one thread with its output in `log`.

    Raises ProgramFailed when it fails.
    """
    threads = {f"{name}_NUM_THREADS": "1" for name in ("OMP", "OPENBLAS", "MKL", "NUMEXPR")}
    with open(log, "w") as out:
        child = subprocess.Popen([str(word) for word in command], stdout=out,
                                 stderr=subprocess.STDOUT, cwd=cwd,
                                 env={**os.environ, **threads, **(env or {})})
        _, status, usage = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode != 0:
        raise ProgramFailed(f"{command[0]} ended with {child.returncode}; see {log}")
    return Cost(usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024.0)
