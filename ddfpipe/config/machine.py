"""How many cores and how much memory this process may use.

Batch systems, control groups and CPU affinity each set a limit; the smallest holds.  Files are read
below `root`, so that tests can show a machine that is not there.
"""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Iterator, Mapping
from pathlib import Path

ROOT = Path("/")
UNLIMITED_V1 = 1 << 60
"""Version 1 control groups write a number near 2**63 for "no limit"."""


def cpu_count(environ: Mapping[str, str] | None = None, root: Path = ROOT) -> int:
    """Number of cores to use: the least of batch system, control group, affinity.

    Without a batch system the physical cores count, since two threads of one core share its
    floating point units.  Never less than one.
    """
    environ = os.environ if environ is None else environ
    limits = [pbs_cpus(environ) or slurm_cpus(environ) or physical_cores()]
    limits += [affinity_cpus(), cgroup_cpus(root)]
    return max(1, min(limit for limit in limits if limit is not None))


def pbs_cpus(environ: Mapping[str, str]) -> int | None:
    """Slots of this host in the PBS node file (all slots if the host is not named there)."""
    path = Path(environ.get("PBS_NODEFILE", ""))
    if not environ.get("PBS_NODEFILE") or not path.is_file():
        return None
    hosts = [line.strip() for line in path.read_text(errors="replace").splitlines() if line.strip()]
    here = socket.gethostname().split(".")[0]
    mine = sum(host.split(".")[0] == here for host in hosts)
    return mine or len(hosts) or None


def slurm_cpus(environ: Mapping[str, str]) -> int | None:
    """This node's entry of SLURM_JOB_CPUS_PER_NODE, written as 16, 16(x2) or 8(x2),4.

    SLURM_NODEID tells which node this is; without it the first entry is used.  A text that does
    not have this form gives None.
    """
    counts: list[int] = []
    for part in environ.get("SLURM_JOB_CPUS_PER_NODE", "").split(","):
        match = re.fullmatch(r"\s*(\d+)\s*(?:\(x(\d+)\))?\s*", part)
        if match is None:
            return None
        counts += [int(match[1])] * int(match[2] or 1)
    node = environ.get("SLURM_NODEID", "0")
    index = int(node) if node.isdecimal() and int(node) < len(counts) else 0
    return counts[index] or None


def physical_cores() -> int:
    """Cores of the machine, not counting hyper-threads."""
    import psutil

    return psutil.cpu_count(logical=False) or os.cpu_count() or 1


def affinity_cpus() -> int | None:
    """Logical CPUs this process may run on; None where the system does not tell."""
    if not hasattr(os, "sched_getaffinity"):
        return None
    return len(os.sched_getaffinity(0)) or None


def cgroup_cpus(root: Path = ROOT) -> int | None:
    """CPU quota of the control group and its parents, whole cores; None without a quota."""
    quotas = []
    for folder in _cgroup_folders(root, "cpu"):
        words = _words(folder / "cpu.max")
        if not words:
            words = _words(folder / "cpu.cfs_quota_us") + _words(folder / "cpu.cfs_period_us")
        numbers = [_number(word) for word in words]
        if len(numbers) == 2 and None not in numbers and numbers[0] > 0 and numbers[1] > 0:
            quotas.append(numbers[0] / numbers[1])
    return max(1, int(min(quotas) + 1e-6)) if quotas else None


def available_memory(root: Path = ROOT) -> int:
    """Bytes of memory that can still be had without swapping, within the control group's limit."""
    free = _meminfo(root)
    room = cgroup_memory(root)
    return free if room is None else max(0, min(free, room))


def cgroup_memory(root: Path = ROOT) -> int | None:
    """Bytes left below the tightest memory limit of the control group and its parents.

    Cached file pages that the kernel can drop count as free.  None without a limit.
    """
    rooms = []
    for folder in _cgroup_folders(root, "memory"):
        limit = _first_number(folder, "memory.max", "memory.limit_in_bytes")
        used = _first_number(folder, "memory.current", "memory.usage_in_bytes")
        if limit is None or limit >= UNLIMITED_V1:
            continue
        stat = _words(folder / "memory.stat")
        table = dict(zip(stat[::2], stat[1::2], strict=False))
        droppable = _number(table.get("total_inactive_file", table.get("inactive_file", "0")))
        rooms.append(limit - max(0, (used or 0) - (droppable or 0)))
    return max(0, min(rooms)) if rooms else None


def _meminfo(root: Path) -> int:
    """MemAvailable of /proc/meminfo in bytes; psutil's figure elsewhere."""
    words = _words(root / "proc/meminfo")
    if "MemAvailable:" in words:
        return int(words[words.index("MemAvailable:") + 1]) * 1024
    import psutil

    return int(psutil.virtual_memory().available)


def _cgroup_folders(root: Path, controller: str) -> Iterator[Path]:
    """Folders of this process's control group and its parents (versions 2 and 1)."""
    base = root / "sys/fs/cgroup"
    for line in _lines(root / "proc/self/cgroup"):
        parts = line.split(":", 2)
        if len(parts) != 3:
            continue
        names = parts[1].split(",")
        if parts[1] == "":
            mounts = [base, base / "unified"]
        elif controller in names:
            mounts = [base / parts[1], base / controller]
        else:
            continue
        for mount in mounts:
            if mount.is_dir():
                group = Path(parts[2].lstrip("/"))
                yield from (mount / folder for folder in (group, *group.parents))
                break


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text().splitlines()
    except (OSError, UnicodeDecodeError):
        return []


def _words(path: Path) -> list[str]:
    return " ".join(_lines(path)).split()


def _number(word: str) -> int | None:
    """Whole number, or None for words such as "max"."""
    try:
        return int(word)
    except ValueError:
        return None


def _first_number(folder: Path, *names: str) -> int | None:
    for name in names:
        words = _words(folder / name)
        if words:
            return _number(words[0])
    return None
