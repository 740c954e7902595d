"""Running a script in a process of its own, with compiled code kept in a given folder."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def printed(script: Path, cache: Path, *words: str) -> list[str]:
    """Lines that a script of the tests prints; compiled code is kept in `cache`."""
    env = {**os.environ, "NUMBA_CACHE_DIR": str(cache), "PYTHONPATH": f"{ROOT}:{script.parent}"}
    done = subprocess.run([sys.executable, str(script), *words], env=env, capture_output=True,
                          text=True, cwd=script.parent, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()
