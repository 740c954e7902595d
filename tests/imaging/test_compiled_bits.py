"""Compiling, loading compiled code, and compiling a part of it give the same bits."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name("compiled_bits.py")


def hashes(cache: Path) -> list[str]:
    """What the script prints in a process of its own with compiled code kept in `cache`."""
    root = SCRIPT.parents[2]
    env = {**os.environ, "NUMBA_CACHE_DIR": str(cache), "PYTHONPATH": f"{root}:{SCRIPT.parent}"}
    done = subprocess.run([sys.executable, str(SCRIPT)], env=env, capture_output=True, text=True,
                          check=True, cwd=SCRIPT.parent)
    return done.stdout.split("\n")


@pytest.mark.slow
def test_compiling_changes_no_bit(tmp_path):
    """A fresh process that compiles, one that loads, one that compiles callers of loaded code."""
    first = hashes(tmp_path)
    assert len(first) == 6 and list(tmp_path.rglob("*.nbc"))
    assert hashes(tmp_path) == first
    callers = ("averaging._pass", "gains._multiply", "minorcycle.clean_list", "points._fit")
    gone = [p for p in tmp_path.rglob("*.nb?") if p.name.startswith(callers)]
    assert len(gone) >= 2 * len(callers)
    for path in gone:
        path.unlink()
    assert hashes(tmp_path) == first
