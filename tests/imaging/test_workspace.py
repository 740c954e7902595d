"""Buffers that a thread keeps."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np

from ddfpipe.imaging.workspace import workspace



def test_the_same_memory_again():
    first = workspace("a", (10, 100), np.float32)
    first[:] = 1.0
    again = workspace("a", (5, 40), np.complex64)
    assert again.shape == (5, 40) and again.dtype == np.complex64
    assert np.shares_memory(first, again)
    assert not np.shares_memory(first, workspace("b", (10, 100), np.float32))


def test_more_than_before():
    small = workspace("c", (10,), np.float32)
    large = workspace("c", (10_000,), np.float32)
    large[:] = 2.0
    assert large.size == 10_000 and not np.shares_memory(small, large)
    assert np.shares_memory(large, workspace("c", (10,), np.float32))


def test_every_thread_has_its_own():
    mine = workspace("d", (1000,), np.float32)
    with ThreadPoolExecutor(1) as pool:
        other = pool.submit(workspace, "d", (1000,), np.float32).result()
        again = pool.submit(workspace, "d", (1000,), np.float32).result()
    assert not np.shares_memory(mine, other) and np.shares_memory(other, again)
