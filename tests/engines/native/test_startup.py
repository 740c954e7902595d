"""A process that makes an image loads what images need, and is not searched for garbage twice."""

from __future__ import annotations

import json
import subprocess
import sys

PROGRAM = """
import gc, json, sys
import ddfpipe.engines.native
from ddfpipe.engines.native import NativeEngine
import ddfpipe.engines.native.imager
frozen = gc.get_freeze_count()
print(json.dumps({"modules": sorted(sys.modules), "frozen": frozen, "enabled": gc.isenabled(),
                  "tracked": len(gc.get_objects())}))
class Loud:
    def __del__(self):
        print("found by the last search")
loud = Loud()
loud.self = loud
del loud
"""

NOT_NEEDED = ("scipy.interpolate", "scipy.optimize", "scipy.special", "scipy.ndimage", "h5py",
              "matplotlib", "astropy", "everybeam", "casacore")
"""Slow to import; needed by solves, CLEAN, FITS headers or measurement sets, and not before."""


def test_start_and_end_of_an_imaging_process():
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    first, *rest = done.stdout.splitlines()
    state = json.loads(first)
    assert not [name for name in NOT_NEEDED if name in state["modules"]]
    assert state["frozen"] > 20_000, "modules are searched for garbage again and again"
    assert state["tracked"] < state["frozen"] / 10
    assert state["enabled"], "nobody searches for garbage any more"
    assert not rest, "all objects are searched and taken apart at the end of the process"
