"""Compiling, loading compiled code, and compiling a part of it give the same bits."""

from __future__ import annotations

from pathlib import Path

import pytest
from own_process import printed

SCRIPT = Path(__file__).with_name("compiled_bits.py")


@pytest.mark.slow
def test_compiling_changes_no_bit(tmp_path):
    """A fresh process that compiles, one that loads, one that compiles callers of loaded code."""
    first = printed(SCRIPT, tmp_path)
    assert len(first) == 5 and list(tmp_path.rglob("*.nbc"))
    assert printed(SCRIPT, tmp_path) == first
    callers = ("averaging._pass", "gains._multiply", "minorcycle.clean_list", "points._fit")
    gone = [p for p in tmp_path.rglob("*.nb?") if p.name.startswith(callers)]
    assert len(gone) >= 2 * len(callers)
    for path in gone:
        path.unlink()
    assert printed(SCRIPT, tmp_path) == first
