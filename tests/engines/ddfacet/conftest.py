"""The engine of DDFacet and killMS on small fields; skips loudly where the programs are missing."""

from __future__ import annotations

import pytest
from engine_fields import make_engine
from other_programs import ddfacet_tools


@pytest.fixture(scope="session")
def tools():
    """Both as the installer leaves them, or where DDFPIPE_TEST_DDFACET and _KILLMS say."""
    return ddfacet_tools()


@pytest.fixture
def engine(tools, tmp_path):
    """A DDFacetEngine in a folder of its own."""
    from ddfpipe.engines.ddfacet import DDFacetEngine

    return DDFacetEngine(make_engine(tmp_path / "work"), tools)
