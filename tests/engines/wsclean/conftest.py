"""The engine of WSClean and DP3 on small fields; skips loudly where the programs are missing."""

from __future__ import annotations

import pytest
from engine_fields import make_engine
from other_programs import wsclean_tools


@pytest.fixture(scope="session")
def tools():
    """WSClean and DP3 as the installer leaves them, or where DDFPIPE_TEST_DP3 says."""
    return wsclean_tools()


@pytest.fixture
def engine(tools, tmp_path):
    """A WSCleanEngine in a folder of its own."""
    from ddfpipe.engines.wsclean import WSCleanEngine

    return WSCleanEngine(make_engine(tmp_path / "work"), tools)
