"""Programs of others in tests: where they are, or a loud skip."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ddfpipe.engines.external.tools import find_tool
from ddfpipe.errors import ConfigError


def _find(name: str) -> Path:
    return find_tool(name, os.environ.get(f"DDFPIPE_TEST_{name.upper()}", "auto"))


def found(name: str) -> Path | None:
    """A program as the installer leaves it, or where DDFPIPE_TEST_<NAME> (a path, or a folder with
    bin) says; None if it is not there.  name: "wsclean", "dp3", "ddfacet" or "killms"."""
    try:
        return _find(name)
    except ConfigError:
        return None


def program(name: str) -> Path:
    """The same; the test is skipped, loudly, where there is none."""
    try:
        return _find(name)
    except ConfigError as error:
        pytest.skip(f"SKIPPED LOUDLY: {error}")
