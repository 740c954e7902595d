"""The checkout that a benchmark belongs to."""

from __future__ import annotations

import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def use_own_package() -> None:
    """Import ddfpipe from this checkout, here and in every program that is started from here.

    Else figures would be those of the package that is installed, which may be another checkout's.
    """
    sys.path.insert(0, str(ROOT))
    os.environ["PYTHONPATH"] = os.pathsep.join(
        word for word in (str(ROOT), os.environ.get("PYTHONPATH")) if word)
