"""Large arrays that a thread fills again and again.

Fresh memory is handed out page by page, cleared, and given back when an array is dropped: for a
facet's buffers of some 100 MB that takes longer than its Fourier transforms.  So each thread keeps
them until it ends.
"""

from __future__ import annotations

import threading

import numpy as np

_local = threading.local()


def workspace(name: str, shape: tuple[int, ...], dtype) -> np.ndarray:
    """An array of `shape` with any contents, in memory that this thread got under this name before.

    What the thread got under the name earlier is overwritten with it.
    """
    dtype = np.dtype(dtype)
    size = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
    kept = _local.__dict__.setdefault("kept", {})
    if name not in kept or kept[name].size < size:
        kept.pop(name, None)  # before the larger one is there
        kept[name] = np.empty(size, np.uint8)
    return kept[name][:size].view(dtype).reshape(shape)
