"""Arrays on disk that are written through memory maps."""

from __future__ import annotations

import mmap
import os
from pathlib import Path

import numpy as np


def allocate(path: Path, dtype, shape: tuple[int, ...]) -> np.memmap:
    """A new memory-mapped `.npy` file, zero at first, whose blocks the disk really has.

    A sparse file would be cheaper, but writing to it on a full disk kills the process (SIGBUS).
    Raises OSError when the disk is full.
    """
    array = np.lib.format.open_memmap(path, mode="w+", dtype=dtype, shape=shape)
    descriptor = os.open(path, os.O_RDWR)
    try:
        os.posix_fallocate(descriptor, 0, path.stat().st_size)
    finally:
        os.close(descriptor)
    return array


def release(*arrays: np.ndarray) -> None:
    """Let go of the pages of memory-mapped arrays: they stay in the disk's cache, not our memory.

    Arrays that are not maps of files, or views of them, are left alone.
    """
    for array in arrays:
        while array is not None and not isinstance(array, mmap.mmap):
            array = getattr(array, "base", None)
        if array is not None:
            array.madvise(mmap.MADV_DONTNEED)
