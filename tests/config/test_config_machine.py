"""Cores and memory, on machines made of a few files."""

from __future__ import annotations

import socket

import pytest
from ddfpipe.config import machine


@pytest.fixture
def tree(tmp_path):
    """Function that writes files below a root folder and returns that folder."""

    def write(files: dict[str, str]):
        for name, text in files.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return tmp_path

    return write


@pytest.fixture
def big_machine(monkeypatch):
    """A machine of 64 physical and 128 logical CPUs, without affinity limit."""
    monkeypatch.setattr(machine, "physical_cores", lambda: 64)
    monkeypatch.setattr(machine, "affinity_cpus", lambda: 128)


@pytest.mark.parametrize("text, node, expected", [
    ("16", None, 16), ("16(x2)", None, 16), ("8,4(x2)", None, 8), ("8,4(x2)", "2", 4),
    ("8(x2),4", "2", 4), ("8(x2),4", "9", 8), (" 72 ", None, 72), ("", None, None),
    ("many", None, None), ("16(2)", None, None), ("0", None, None),
])
def test_slurm(text, node, expected):
    environ = {"SLURM_JOB_CPUS_PER_NODE": text} | ({"SLURM_NODEID": node} if node else {})
    assert machine.slurm_cpus(environ) == expected


def test_pbs(tree):
    here = socket.gethostname()
    root = tree({"all": "node1\nnode1\n\nnode2\n", "mine": f"{here}\n{here}.x.org\nother\n",
                 "none": "\n"})
    assert machine.pbs_cpus({"PBS_NODEFILE": str(root / "all")}) == 3
    assert machine.pbs_cpus({"PBS_NODEFILE": str(root / "mine")}) == 2
    assert machine.pbs_cpus({"PBS_NODEFILE": str(root / "none")}) is None
    assert machine.pbs_cpus({"PBS_NODEFILE": str(root / "absent")}) is None
    assert machine.pbs_cpus({}) is None


@pytest.mark.parametrize("files, expected", [
    ({"proc/self/cgroup": "0::/job\n", "sys/fs/cgroup/job/cpu.max": "400000 100000\n",
      "sys/fs/cgroup/cpu.max": "max 100000\n"}, 4),
    ({"proc/self/cgroup": "0::/a/b\n", "sys/fs/cgroup/a/b/cpu.max": "max 100000\n",
      "sys/fs/cgroup/a/cpu.max": "250000 100000\n"}, 2),
    ({"proc/self/cgroup": "0::/a/b\n", "sys/fs/cgroup/a/b/cpu.max": "700000 100000\n",
      "sys/fs/cgroup/a/cpu.max": "500000 100000\n"}, 5),
    ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "50000 100000\n"}, 1),
    ({"proc/self/cgroup": "3:cpu,cpuacct:/j\n1:name=systemd:/j\n",
      "sys/fs/cgroup/cpu,cpuacct/j/cpu.cfs_quota_us": "300000\n",
      "sys/fs/cgroup/cpu,cpuacct/j/cpu.cfs_period_us": "100000\n"}, 3),
    ({"proc/self/cgroup": "3:cpu:/j\n", "sys/fs/cgroup/cpu/j/cpu.cfs_quota_us": "-1\n",
      "sys/fs/cgroup/cpu/j/cpu.cfs_period_us": "100000\n"}, None),
    ({"proc/self/cgroup": "0::/gone\n", "sys/fs/cgroup/x": ""}, None),
    ({}, None),
])
def test_cgroup_cpus(files, expected, tree):
    assert machine.cgroup_cpus(tree(files)) == expected


def test_least_limit_holds(big_machine, tree, monkeypatch):
    root = tree({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "800000 100000\n"})
    assert machine.cpu_count({}, root) == 8
    assert machine.cpu_count({"SLURM_JOB_CPUS_PER_NODE": "4(x2)"}, root) == 4
    assert machine.cpu_count({"SLURM_JOB_CPUS_PER_NODE": "96"}, root / "none") == 96
    assert machine.cpu_count({}, root / "none") == 64
    monkeypatch.setattr(machine, "affinity_cpus", lambda: 3)
    assert machine.cpu_count({}, root) == 3


def test_this_machine():
    import os

    assert 1 <= machine.cpu_count() <= os.cpu_count()
    assert 0 < machine.available_memory() < 1 << 50


MEMINFO = "MemTotal: 200 kB\nMemAvailable:   1000 kB\n"


@pytest.mark.parametrize("files, expected", [
    ({}, 1000 * 1024),
    ({"proc/self/cgroup": "0::/j\n", "sys/fs/cgroup/j/memory.max": "900000\n",
      "sys/fs/cgroup/j/memory.current": "500000\n",
      "sys/fs/cgroup/j/memory.stat": "anon 5\ninactive_file 100000\n"}, 500000),
    ({"proc/self/cgroup": "0::/j\n", "sys/fs/cgroup/j/memory.max": "max\n",
      "sys/fs/cgroup/memory.max": "300000\n"}, 300000),
    ({"proc/self/cgroup": "0::/j\n", "sys/fs/cgroup/j/memory.max": "400000\n",
      "sys/fs/cgroup/memory.max": "600000\n"}, 400000),
    ({"proc/self/cgroup": "9:memory:/j\n",
      "sys/fs/cgroup/memory/j/memory.limit_in_bytes": "700000\n",
      "sys/fs/cgroup/memory/j/memory.usage_in_bytes": "600000\n",
      "sys/fs/cgroup/memory/j/memory.stat": "inactive_file 1\ntotal_inactive_file 200000\n"},
     300000),
    ({"proc/self/cgroup": "9:memory:/\n",
      "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n"}, 1000 * 1024),
    ({"proc/self/cgroup": "0::/j\n", "sys/fs/cgroup/j/memory.max": "100\n",
      "sys/fs/cgroup/j/memory.current": "500\n"}, 0),
])
def test_available_memory(files, expected, tree):
    assert machine.available_memory(tree({"proc/meminfo": MEMINFO} | files)) == expected
