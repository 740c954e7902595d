"""Run a program and count what it costs, all its processes included."""

from __future__ import annotations

import os
import subprocess
import threading
import time
from dataclasses import dataclass
from pathlib import Path


@dataclass
class Cost:
    """What a program took.

    cpu, wall: seconds.
    memory: most bytes of all processes together at once, shared ones once, without pages of files;
    mapped: the same with the pages of mapped files, which the system drops where memory is short.
    """

    cpu: float
    wall: float
    memory: float
    mapped: float


def _memory(pid: int) -> tuple[float, float]:
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


def run(command: list, log: Path, cwd: Path, env: dict | None = None) -> Cost:
    """Run a program; raises RuntimeError, naming its log, when it fails."""
    cwd.mkdir(parents=True, exist_ok=True)
    one = {f"{name}_NUM_THREADS": "1" for name in ("OMP", "OPENBLAS", "MKL", "NUMEXPR")}
    peak, done = [0.0, 0.0], threading.Event()
    start = time.monotonic()
    with open(log, "w") as out:
        child = subprocess.Popen([str(w) for w in command], stdout=out, stderr=subprocess.STDOUT,
                                 cwd=cwd, env={**os.environ, **one, **(env or {})})

        def watch():
            pause = 0.1
            while not done.wait(pause):
                peak[:] = map(max, peak, _memory(child.pid))
                # looking costs time too: less often where the program runs long
                pause = min(1.05 * pause, 1.0)

        watcher = threading.Thread(target=watch)
        watcher.start()
        _, status, usage = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
        wall = time.monotonic() - start
        done.set()
        watcher.join()
    if child.returncode != 0:
        raise RuntimeError(f"{command[0]} ended with {child.returncode}; see {log}")
    return Cost(usage.ru_utime + usage.ru_stime, wall, *peak)
