"""Run a program, with the memory of it and its children over time."""

from __future__ import annotations

import os
import subprocess
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path


class ProgramFailed(RuntimeError):
    """A program of the comparison ended with an error; the message names its log."""


@dataclass
class Run:
    """cpu: user and system s of all processes.  memory: (s since the epoch, bytes) samples."""

    cpu: float
    memory: list[tuple[float, float]] = field(default_factory=list)

    def peak(self, spans=None) -> float:
        """Most bytes, over all or within (from, to) `spans`."""
        return max((size for when, size in self.memory
                    if spans is None or any(a <= when <= b for a, b in spans)), default=0.0)


def _memory(pid: int) -> float:
    """Proportional set size of a process and its children, bytes: shared pages count once."""
    import psutil

    total = 0.0
    try:
        family = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    except psutil.NoSuchProcess:
        return total
    for process in family:
        try:
            lines = Path(f"/proc/{process.pid}/smaps_rollup").read_text().splitlines()
        except OSError:
            continue
        total += sum(1024.0 * int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    return total


def run(command: list, log: Path, cwd: Path, env: dict | None = None, every: float = 0.5) -> Run:
    """Run a command with its output in `log`; raises ProgramFailed when it fails."""
    cwd.mkdir(parents=True, exist_ok=True)
    one = {f"{name}_NUM_THREADS": "1" for name in ("OMP", "OPENBLAS", "MKL", "NUMEXPR")}
    out, done = Run(0.0), threading.Event()
    with open(log, "w") as text:
        child = subprocess.Popen([str(w) for w in command], stdout=text, stderr=subprocess.STDOUT,
                                 cwd=cwd, env={**os.environ, **one, **(env or {})})

        def watch():
            while not done.wait(every):
                out.memory.append((time.time(), _memory(child.pid)))

        watcher = threading.Thread(target=watch)
        watcher.start()
        _, status, usage = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
        done.set()
        watcher.join()
    if child.returncode != 0:
        raise ProgramFailed(f"{command[0]} ended with {child.returncode}; see {log}")
    out.cpu = usage.ru_utime + usage.ru_stime
    if len(out.memory) < 4:
        out.memory.append((time.time(), usage.ru_maxrss * 1024.0))
    return out
