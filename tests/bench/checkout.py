"""The checkout that a benchmark belongs to."""

from __future__ import annotations

import os
import sys
from pathlib import Path

BENCH = Path(__file__).resolve().parent
ROOT = BENCH.parents[1]


def use_own_package(*tests: str) -> None:
    """Import ddfpipe from this checkout, here and in every program that is started from here.

    Else figures would be those of the package that is installed, which may be another checkout's.
    tests: folders below tests/ whose modules are to be found here too.
    """
    sys.path[:0] = [str(ROOT), *(str(ROOT / "tests" / name) for name in tests)]
    os.environ["PYTHONPATH"] = _joined(ROOT)


def own_modules() -> dict[str, str]:
    """Environment in which `python -m PACKAGE.MODULE` finds this folder, and ddfpipe here."""
    return {"PYTHONPATH": _joined(ROOT, BENCH)}


def _joined(*folders: Path) -> str:
    words = [*map(str, folders), os.environ.get("PYTHONPATH")]
    return os.pathsep.join(word for word in words if word)
