"""Run a program and count what it costs, all its processes included."""

from __future__ import annotations

import os
import subprocess
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

LONGEST_PAUSE = 1.0
"""Seconds between looks at the memory; fewer at the start, more would miss peaks."""


class ProgramFailed(RuntimeError):
    """A program of the comparison ended with an error; the message names its log."""


@dataclass
class Cost:
    """What a program took.

    cpu, wall: seconds; cpu is user and system, of all processes.
    largest: bytes of the largest process, as the system counted them.
    samples: (s since the epoch, bytes without pages of files, bytes with them) of all processes
    together, shared pages once.
    """

    cpu: float = 0.0
    wall: float = 0.0
    largest: float = 0.0
    samples: list[tuple[float, float, float]] = field(default_factory=list)

    @property
    def memory(self) -> float:
        """Most bytes at once, without pages of files, which the system drops where it
        needs them."""
        return max((some for _, some, _ in self.samples), default=0.0)

    def mapped(self, spans=None) -> float:
        """Most bytes at once with pages of files, over all or within (from, to) `spans`."""
        return max((size for when, _, size in self.samples
                    if spans is None or any(a <= when <= b for a, b in spans)), default=0.0)


def memory_now(pid: int) -> tuple[float, float]:
    """Proportional set size of a process and its children, bytes: without and with files."""
    import psutil

    total = {"Pss": 0.0, "Pss_File": 0.0}
    try:
        family = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    except psutil.NoSuchProcess:
        return 0.0, 0.0
    for process in family:
        try:
            rollup = Path(f"/proc/{process.pid}/smaps_rollup").read_text()
        except OSError:
            continue
        for line in rollup.splitlines():
            name = line.split(":")[0]
            if name in total:
                total[name] += 1024.0 * int(line.split()[1])
    return total["Pss"] - total["Pss_File"], total["Pss"]


def _watch(pid: int, done: threading.Event, samples: list) -> None:
    pause = 0.05
    while not done.wait(pause):
        samples.append((time.time(), *memory_now(pid)))
        # Looking costs time too: less often where the program runs long.
        pause = min(1.05 * pause, LONGEST_PAUSE)


def run(command: list, log: Path, cwd: Path, env: dict | None = None,
        one_thread: bool = True) -> Cost:
    """Run a program with its output in `log`.

    one_thread: numerical libraries are told to use one.  Raises ProgramFailed when it fails.
    """
    cwd.mkdir(parents=True, exist_ok=True)
    libraries = ("OMP", "OPENBLAS", "MKL", "NUMEXPR") if one_thread else ()
    threads = {f"{name}_NUM_THREADS": "1" for name in libraries}
    cost, done, start = Cost(), threading.Event(), time.monotonic()
    with open(log, "w") as out:
        child = subprocess.Popen([str(word) for word in command], stdin=subprocess.DEVNULL,
                                 stdout=out, stderr=subprocess.STDOUT, cwd=cwd,
                                 env={**os.environ, **threads, **(env or {})})
        watcher = threading.Thread(target=_watch, args=(child.pid, done, cost.samples))
        watcher.start()
        _, status, usage = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
        cost.wall = time.monotonic() - start
        done.set()
        watcher.join()
    if child.returncode != 0:
        raise ProgramFailed(f"{command[0]} ended with {child.returncode}; see {log}")
    cost.cpu, cost.largest = usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024.0
    return cost
