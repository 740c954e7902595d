"""Files that are either whole or absent.

A product is written under a temporary name in the directory of its final name, synchronised to the
disk, and renamed.  POSIX promises that the rename is atomic, so a reader (or a run that is resumed
after a kill) never meets half a file.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np


def temporary_name(path: Path) -> Path:
    """Hidden name beside `path` that no other process or thread uses.

    The suffix stays that of `path`: many writers choose the format by it.
    """
    return path.with_name(f".{path.stem}.{os.getpid()}-{os.urandom(4).hex()}.tmp{path.suffix}")


def fsync(path: Path) -> None:
    """Wait until the file or directory `path` is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def atomic_path(path: str | Path, durable: bool = True) -> Iterator[Path]:
    """Give a temporary name to write to; it becomes `path` when the block ends well.

    durable: wait until it is on the disk.  Without that a kill leaves a whole file or none all the
    same, but a power failure may leave an empty one: for what is soon written again, or easily made
    again.

    When the block raises, the temporary file (or directory) is removed, `path` is as before, and
    the exception goes on.  Raises FileNotFoundError when the block wrote nothing.
    """
    path = Path(path)
    temporary = temporary_name(path)
    try:
        yield temporary
        if not temporary.exists():
            raise FileNotFoundError(f"{path}: nothing was written to its temporary name")
        if durable:
            fsync(temporary)
        replace(temporary, path, durable)
    finally:
        remove(temporary)


def replace(source: Path, target: Path, durable: bool = True) -> None:
    """Rename `source` to `target`, in place of what is there, and wait until the disk knows.

    A directory cannot be replaced in one step: the old one is renamed first, so that for an
    instant there is none, but never a mixture.
    """
    if source.is_dir() and target.is_dir():
        old = temporary_name(target)
        os.rename(target, old)
        try:
            os.rename(source, target)
        finally:
            remove(old)
    else:
        os.replace(source, target)
    if durable:
        fsync(target.parent)


def remove(path: Path) -> None:
    """Remove the file, link or directory `path` if there is one."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def atomic_write_text(path: str | Path, text: str, durable: bool = True) -> None:
    """Write `text` (UTF-8) to `path`, whole or not at all; see `atomic_path`."""
    with atomic_path(path, durable) as temporary:
        temporary.write_text(text, encoding="utf-8")


def atomic_write_json(path: str | Path, value: Any, durable: bool = True) -> None:
    """Write `value` as indented JSON.  Raises TypeError, `path` untouched, if it is not JSON."""
    atomic_write_text(path, json.dumps(value, indent=1, sort_keys=True) + "\n", durable)


def atomic_write_npz(path: str | Path, **arrays: Any) -> None:
    """Write named arrays as an uncompressed `.npz`; the name is exactly `path`."""
    with atomic_path(path) as temporary:
        with open(temporary, "wb") as stream:
            np.savez(stream, **arrays)
