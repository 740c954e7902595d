"""The engine of WSClean and DP3 on small fields; skips loudly where the programs are missing."""

from __future__ import annotations

import os

import pytest
from engine_fields import make_engine

from ddfpipe.errors import ConfigError


@pytest.fixture(scope="session")
def tools():
    """WSClean and DP3 as the installer leaves them, or where DDFPIPE_TEST_DP3 says."""
    from ddfpipe.engines.wsclean.engine import find_tools

    try:
        return find_tools(dp3=os.environ.get("DDFPIPE_TEST_DP3", "auto"))
    except ConfigError as error:
        pytest.skip(f"SKIPPED LOUDLY: {error}")


@pytest.fixture
def engine(tools, tmp_path):
    """A WSCleanEngine in a folder of its own."""
    from ddfpipe.engines.wsclean import WSCleanEngine

    return WSCleanEngine(make_engine(tmp_path / "work"), tools)
