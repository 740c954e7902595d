"""Sizes of files as people read them, and the disks that they lie on."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path


def size_text(size: float) -> str:
    """Bytes with three digits and a decimal unit: ``812 bytes``, ``4.19 MB``, ``1.2 TB``."""
    for unit, factor in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if size >= 0.9995 * factor:
            return f"{size / factor:.3g} {unit}"
    return f"{size:.0f} bytes"


def rounded_size(size: float) -> str:
    """Bytes that are an estimate, with two digits: more would claim too much."""
    return size_text(float(f"{size:.2g}"))


def folder_bytes(folder: str | Path) -> int:
    """Bytes of all files below `folder`, links not followed."""
    return sum(path.stat().st_size for path in Path(folder).rglob("*")
               if path.is_file() and not path.is_symlink())


@dataclass(frozen=True)
class Shortage:
    """A disk that is too small.  folders: on it; needed, free: bytes."""

    folders: tuple[Path, ...]
    needed: float
    free: int


def existing_folder(folder: str | Path) -> Path:
    """The folder, or the nearest one above it that exists, absolute."""
    folder = Path(folder).absolute()
    while not folder.exists():
        folder = folder.parent
    return folder


def short_disks(needed: Mapping[str | Path, float]) -> list[Shortage]:
    """Disks with less free space than what `needed` (bytes by folder) puts there together.

    Folders need not exist yet.
    """
    by_device: dict[int, dict[Path, float]] = {}
    for folder, size in needed.items():
        place = existing_folder(folder)
        sums = by_device.setdefault(place.stat().st_dev, {})
        sums[place] = sums.get(place, 0.0) + size
    found = []
    for sums in by_device.values():
        # those that get nothing are not to blame
        folders = tuple(place for place, size in sums.items() if size)
        total, free = sum(sums.values()), shutil.disk_usage(next(iter(sums))).free
        if total > free:
            found.append(Shortage(folders, total, free))
    return found
