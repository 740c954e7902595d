"""Tables of stages for the terminal."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence


def table(rows: Sequence[Sequence[str]], heads: Sequence[str], right: Sequence[int] = ()) -> str:
    """Columns aligned with two spaces between; on a terminal the last one is cut to its width.

    right: numbers of the columns that are aligned to the right.
    """
    widths = [
        max(len(str(row[i])) for row in (heads, *rows)) for i in range(len(heads) - 1)
    ]
    room = None
    if sys.stdout.isatty():
        room = max(20, shutil.get_terminal_size().columns - sum(widths) - 2 * len(widths))
    lines = []
    for row in (heads, *rows):
        cells = [
            f"{row[i]:>{width}}" if i in right else f"{row[i]:<{width}}"
            for i, width in enumerate(widths)
        ]
        last = str(row[-1])
        cells.append(last if room is None or len(last) <= room else last[: room - 3] + "...")
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)
