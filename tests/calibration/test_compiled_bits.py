"""Gains have the same bits in a process that compiles and in those that load compiled code."""

from __future__ import annotations

from pathlib import Path

import pytest
from own_process import printed

SCRIPT = Path(__file__).with_name("compiled_bits.py")

CALLED = ("linalg.cholesky", "linalg.cholesky_solve", "linalg.hermitian_solve", "als.assemble",
          "als._sweep", "accelerate.mix", "polish._sweep")
"""Kernels that others call.  Were they functions of their own in the compiled code of their
callers, the copy that a process loads first would be everybody's."""


@pytest.mark.slow
def test_compiling_and_the_order_of_loading_change_no_bit(tmp_path):
    first = printed(SCRIPT, tmp_path)
    assert [line.split()[0] for line in first] == ["KAFCA", "CohJones"]
    assert list(tmp_path.rglob("*.nbc"))
    assert printed(SCRIPT, tmp_path) == first
    assert printed(SCRIPT, tmp_path, *CALLED) == first
