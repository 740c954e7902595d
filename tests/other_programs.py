"""Programs of others in tests: where they are, or a loud skip."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from ddfpipe.engines.ddfacet import tools as ddfacet
from ddfpipe.engines.external.tools import find_tool
from ddfpipe.engines.wsclean import engine as wsclean
from ddfpipe.errors import ConfigError


def _given(name: str) -> str:
    return os.environ.get(f"DDFPIPE_TEST_{name.upper()}", "auto")


def _or_skip(find: Callable):
    try:
        return find()
    except ConfigError as error:
        pytest.skip(f"SKIPPED LOUDLY: {error}")


def found(name: str) -> Path | None:
    """A program as the installer leaves it, or where DDFPIPE_TEST_<NAME> (a path, or a folder with
    bin) says; None if it is not there.  name: "wsclean", "dp3", "ddfacet" or "killms"."""
    try:
        return find_tool(name, _given(name))
    except ConfigError:
        return None


def program(name: str) -> Path:
    """The same; the test is skipped, loudly, where there is none."""
    return _or_skip(lambda: find_tool(name, _given(name)))


def ddfacet_tools() -> dict:
    """DDFacet and killMS, probed, for their engine; skips loudly where one is missing."""
    return _or_skip(lambda: ddfacet.find_tools(_given("ddfacet"), _given("killms")))


def wsclean_tools() -> dict:
    """WSClean and DP3, probed, for their engine; skips loudly where one is missing."""
    return _or_skip(lambda: wsclean.find_tools(dp3=_given("dp3")))
