"""What the engine talks to while it works: progress, messages, and whether to stop."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping

from ddfpipe.log import StageLog
from ddfpipe.report.progress import Progress

NOTE_EVERY_S = 2.0
"""Least time between two notes of the progress for the status command."""
LOG_STEPS = 10
"""How many lines about one loop go into the log."""


class RunMonitor:
    """Monitor of a whole run; `log` is that of the stage at work.

    stop: raises StopRequested if a stop was asked for.  note: keeps the progress where the status
    command finds it.  May be called from any thread.
    """

    def __init__(self, progress: Progress, stop: Callable[[], None], quiet: bool = False,
                 note: Callable[[Mapping[str, tuple[int, int]]], None] | None = None) -> None:
        self.log: StageLog | None = None
        self._progress = progress
        self._stop = stop
        self._quiet = quiet
        self._note = note
        self._lock = threading.Lock()
        self._loops: dict[str, tuple[int, int]] = {}
        self._logged: dict[str, int] = {}
        self._noted = 0.0

    def progress(self, what: str, done: int, total: int) -> None:
        """Report `done` of `total` steps of the loop called `what`."""
        self._progress.update(what, done, total)
        with self._lock:
            if done < total:
                self._loops[what] = (done, total)
            else:
                self._loops.pop(what, None)
            step = done * LOG_STEPS // max(total, 1)
            fresh = self._logged.get(what) != step
            self._logged[what] = step
            loops, due = dict(self._loops), time.monotonic() - self._noted > NOTE_EVERY_S
            if due:
                self._noted = time.monotonic()
        if fresh and self.log is not None:
            self.log.line(f"{what}: {done} of {total}")
        if due and self._note is not None:
            self._note(loops)

    def check(self) -> None:
        """Raise StopRequested at a point where stopping loses nothing."""
        self._stop()

    def message(self, text: str) -> None:
        """A line for the stage's log, and for the screen unless quiet."""
        if self.log is not None:
            self.log.line(text)
        if not self._quiet:
            self._progress.text(f"    {text}")

    def detail(self, text: str) -> None:
        """A line for the stage's log alone."""
        if self.log is not None:
            self.log.line(text)

    def new_stage(self, log: StageLog) -> None:
        """Everything from now on belongs to another stage."""
        with self._lock:
            self.log = log
            self._loops.clear()
            self._logged.clear()
