"""Sizes of files as people read them."""

from __future__ import annotations

from pathlib import Path


def size_text(size: float) -> str:
    """Bytes with three digits and a decimal unit: ``812 bytes``, ``4.19 MB``, ``1.2 TB``."""
    for unit, factor in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if size >= 0.9995 * factor:
            return f"{size / factor:.3g} {unit}"
    return f"{size:.0f} bytes"


def folder_bytes(folder: str | Path) -> int:
    """Bytes of all files below `folder`, links not followed."""
    return sum(path.stat().st_size for path in Path(folder).rglob("*")
               if path.is_file() and not path.is_symlink())
