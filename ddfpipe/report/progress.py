"""Progress on the screen: bars on a terminal, now and then a line elsewhere."""

from __future__ import annotations

import sys
import threading
import time
from typing import Any, TextIO

LINE_EVERY_S = 60.0
"""Least time between two lines about one loop where there is no terminal."""


class Progress:
    """Shows loops that are under way.

    bars: False shows none (option nobar).  quiet: nothing at all.  May be called from any thread.
    """

    def __init__(self, bars: bool = True, quiet: bool = False,
                 stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stdout
        self._bars = bars and not quiet and self._stream.isatty()
        self._lines = not quiet and not self._stream.isatty() and bars
        self._lock = threading.Lock()
        self._display: Any = None
        self._tasks: dict[str, Any] = {}
        self._started: dict[str, float] = {}
        self._told: dict[str, float] = {}

    def update(self, what: str, done: int, total: int) -> None:
        """`done` of `total` steps of the loop `what`; it disappears when all are done."""
        with self._lock:
            if self._bars:
                self._update_bar(what, done, total)
            elif self._lines:
                self._update_line(what, done, total)

    def text(self, line: str) -> None:
        """Print a line above the bars."""
        with self._lock:
            if self._display is not None:
                self._display.console.print(line, markup=False, highlight=False)
            else:
                print(line, file=self._stream, flush=True)

    def close(self) -> None:
        """Take the bars away."""
        with self._lock:
            if self._display is not None:
                self._display.stop()
            self._display = None
            self._tasks.clear()
            self._started.clear()
            self._told.clear()

    def _update_bar(self, what: str, done: int, total: int) -> None:
        if self._display is None:
            self._display = _bars(self._stream)
            self._display.start()
        if what not in self._tasks:
            self._tasks[what] = self._display.add_task(what, total=total)
        self._display.update(self._tasks[what], completed=done, total=total)
        if done >= total:
            self._display.remove_task(self._tasks.pop(what))

    def _update_line(self, what: str, done: int, total: int) -> None:
        now = time.monotonic()
        start = self._started.setdefault(what, now)
        if done >= total:
            self._started.pop(what)
            self._told.pop(what, None)
            return
        if now - self._told.get(what, start) < LINE_EVERY_S:
            return
        self._told[what] = now
        left = (now - start) * (total - done) / done if done else float("nan")
        remaining = f", {duration(left)} left" if done else ""
        print(f"    {what}: {done} of {total}{remaining}", file=self._stream, flush=True)


def _bars(stream: TextIO) -> Any:
    from rich.console import Console
    from rich.progress import (
        BarColumn, MofNCompleteColumn, Progress as Bars, TextColumn, TimeElapsedColumn,
        TimeRemainingColumn,
    )

    return Bars(
        TextColumn("    {task.description}"), BarColumn(), MofNCompleteColumn(),
        TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn(),
        console=Console(file=stream), transient=True, refresh_per_second=4,
    )


def duration(seconds: float) -> str:
    """Seconds for people: ``0.3 s``, ``45 s``, ``12 min 30 s``, ``3 h 12 min``, ``2 d 4 h``."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    for unit, small, size in (("d", "h", 86400), ("h", "min", 3600), ("min", "s", 60)):
        if whole >= size:
            part = {"h": 3600, "min": 60, "s": 1}[small]
            return f"{whole // size} {unit} {whole % size // part} {small}"
    return f"{whole} s"
