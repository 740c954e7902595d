"""summary.txt: when, with what, and with which options a run was made."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any


def write_summary(path: Path, versions: Mapping[str, str], options: Mapping[str, Any],
                  ended: str) -> None:
    """Write ``key : value`` lines, keys padded to 20 characters, whole or not at all.

    ended: how the run ended, in words.  Options come last, under the names that ddf-pipeline
    gives them, so its readers of summary.txt find them.
    """
    from ddfpipe.data.atomic import atomic_write_text

    lines = [f"ddfpipe {ended}, {datetime.now().astimezone().isoformat(timespec='seconds')}", ""]
    lines += [f"{name + ' version':<20} : {text}" for name, text in versions.items()]
    lines += [""]
    lines += [f"{name:<20} : {value}" for name, value in options.items()]
    atomic_write_text(path, "\n".join(lines) + "\n")
