"""The engine of DDFacet and killMS on small fields; skips loudly where the programs are missing."""

from __future__ import annotations

import os

import pytest
from engine_fields import make_engine

from ddfpipe.errors import ConfigError


@pytest.fixture(scope="session")
def tools():
    """Both as the installer leaves them, or where DDFPIPE_TEST_DDFACET and _KILLMS say."""
    from ddfpipe.engines.ddfacet.tools import find_tools

    try:
        return find_tools(os.environ.get("DDFPIPE_TEST_DDFACET", "auto"),
                          os.environ.get("DDFPIPE_TEST_KILLMS", "auto"))
    except ConfigError as error:
        pytest.skip(f"SKIPPED LOUDLY: {error}")


@pytest.fixture
def engine(tools, tmp_path):
    """A DDFacetEngine in a folder of its own."""
    from ddfpipe.engines.ddfacet import DDFacetEngine

    return DDFacetEngine(make_engine(tmp_path / "work"), tools)
