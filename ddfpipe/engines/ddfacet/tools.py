"""DDFacet and killMS on this machine: where, which version, and whether they really work together.

They are Python packages, and the newest of each do not fit: killMS 3.3 was written for DDFacet 0.9
and ends at once with 1.0.  So each is asked, once, from inside its own interpreter.
"""

from __future__ import annotations

import json
import os
import subprocess
from functools import lru_cache
from pathlib import Path

from ...errors import ConfigError
from ..external.tools import PROBE_S, Tool, find_tool, installer, tool_environment
from .shm import clean_shared_memory

MARK = "ddfpipe-probe "
PROBE = f"""
import importlib.metadata, json, os
found = {{"version": importlib.metadata.version("DDFacet")}}
try:
    found["killms"] = importlib.metadata.version("killMS")
except importlib.metadata.PackageNotFoundError:
    pass
import DDFacet
from DDFacet.Parset import ReadCFG
from DDFacet.cbuild.Gridder import _pyGridderSmearPols3x
from DDFacet.Other import AsyncProcessPool
place = os.path.join(os.path.dirname(DDFacet.__file__), "Parset", "DefaultParset.cfg")
found["options"] = ReadCFG.Parset(place).value_dict
found["abilities"] = ["pool"] if hasattr(AsyncProcessPool, "_init_default") else []
try:
    import lofar.stationresponse
    found["abilities"].append("lofarbeam")
except ImportError:
    pass
print("{MARK}" + json.dumps(found))
"""
"""Runs in the tool's own interpreter."""

THREADS = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "NUMEXPR_NUM_THREADS": "1",
           "MKL_NUM_THREADS": "1", "PYTHONPATH": "", "PYTHONNOUSERSITE": "1", "MPLBACKEND": "Agg"}
"""Both start processes of their own, a thread each; nothing of our Python may reach theirs."""


def find_tools(ddfacet: str = "auto", killms: str = "auto", *, image: bool = True,
               solve: bool = True) -> dict[str, Tool]:
    """The programs, probed.  image, solve: what they are wanted for.

    Solves need DDFacet too: it predicts.  Raises ConfigError when one is missing or does not run.
    """
    tools = {}
    if image or solve:
        tools["ddfacet"] = probe_ddfacet(find_tool("ddfacet", ddfacet))
    if solve:
        tools["killms"] = probe_killms(find_tool("killms", killms))
    return tools


def ddf_environment(folder: Path) -> dict[str, str]:
    """Environment of both; folder: where the file about measures tables is kept."""
    return tool_environment(folder) | THREADS


def probe_ddfacet(path: Path) -> Tool:
    """Version and abilities of a DDF.py; ConfigError when it does not run."""
    found = _ask(path, "ddfacet")
    return Tool("ddfacet", path, found["version"], _abilities(found))


def probe_killms(path: Path) -> Tool:
    """Version of a kMS.py; ConfigError when it does not run, or not with the DDFacet beside it."""
    found = _ask(path, "killms")
    if "killms" not in found:
        raise ConfigError(f"[machine] killms: the Python of {path} has no killMS; install it with "
                          f"{installer('killms')}")
    if "pool" not in found["abilities"]:
        raise ConfigError(
            f"[machine] killms: killMS {found['killms']} does not work with DDFacet "
            f"{found['version']} in one environment ({path}): it needs DDFacet 0.9; "
            f"{installer('killms')} makes an environment for each"
        )
    return Tool("killms", path, f"{found['killms']} on DDFacet {found['version']}",
                _abilities(found))


def default_options(tool: Tool) -> dict:
    """Options of the DDFacet that a tool has: section -> option -> value, a copy."""
    options = json.loads(json.dumps(_ask(tool.path, tool.name)["options"]))
    return {section: {k: v for k, v in part.items() if k != "_Help"}
            for section, part in options.items()}


def _abilities(found: dict) -> frozenset[str]:
    return frozenset(found["abilities"]) - {"pool"}


@lru_cache(maxsize=None)
def _ask(path: Path, name: str) -> dict:
    """What the interpreter of a script says of the packages that it has."""
    python = _interpreter(path, name)
    try:
        process = subprocess.Popen(
            [python, "-c", PROBE], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True, errors="replace", env=os.environ | THREADS,
        )
    except OSError as error:
        raise ConfigError(f"[machine] {name}: {python}, the Python of {path}, cannot be started "
                          f"({error.strerror or error}); run {installer(name)} again") from error
    try:
        text, _ = process.communicate(timeout=PROBE_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        raise ConfigError(f"[machine] {name}: {path} did not answer within {PROBE_S:g} s") from None
    finally:
        clean_shared_memory(process.pid)
    for line in text.splitlines():
        if line.startswith(MARK):
            return json.loads(line.removeprefix(MARK))
    last = " ".join(text.strip().splitlines()[-2:])
    raise ConfigError(f"[machine] {name}: {path} does not work: {last[-300:] or 'no answer'}; "
                      f"install it with {installer(name)}")


def _interpreter(path: Path, name: str) -> str:
    """The Python that runs a script, by its first line."""
    try:
        with open(path, "rb") as stream:
            line = stream.readline(1000).decode("utf-8", "replace")
    except OSError as error:
        raise ConfigError(f"[machine] {name}: {path} cannot be read ({error})") from error
    words = line.strip().removeprefix("#!").split()
    if words[:1] == ["/usr/bin/env"]:
        words = words[1:]
    if not words or "python" not in Path(words[0]).name:
        raise ConfigError(f"[machine] {name}: {path} is not one of the scripts that come with "
                          f"DDFacet and killMS; {installer(name)} installs them")
    return words[0]
