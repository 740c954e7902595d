"""Signals that ask a run to stop at the next safe point."""

from __future__ import annotations

import os
import signal
import sys
from types import FrameType

from ddfpipe.errors import StopRequested

EXIT_STOPPED = StopRequested.exit_code


class StopFlag:
    """Remembers that a stop was asked for, and by what.

    `install` takes over SIGUSR1, SIGINT and SIGTERM.  A second SIGINT ends the process at once,
    which loses no finished product: they appear by renaming only.
    """

    def __init__(self, asked_by: str | None = None) -> None:
        self.asked_by = asked_by
        self._interrupts = 0

    def install(self, catch_usr1: bool = True) -> None:
        """Handle the signals from now on; without `catch_usr1`, SIGUSR1 kills as it used to."""
        signal.signal(signal.SIGUSR1, self._note if catch_usr1 else signal.SIG_DFL)
        signal.signal(signal.SIGTERM, self._note)
        signal.signal(signal.SIGINT, self._note)

    def check(self) -> None:
        """Raise StopRequested if a stop was asked for."""
        if self.asked_by is not None:
            raise StopRequested(
                f"stopped because of {self.asked_by}; start again to go on from here"
            )

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.asked_by = signal.Signals(number).name
        if number == signal.SIGINT:
            self._interrupts += 1
            if self._interrupts > 1:
                _say("second interrupt: leaving at once")
                os._exit(EXIT_STOPPED)
            _say("stopping at the next safe point; interrupt again to leave at once")


def _say(text: str) -> None:
    # Only os.write is safe here: the signal may have come in the middle of a print.
    os.write(sys.__stderr__.fileno() if sys.__stderr__ else 2, f"\n{text}\n".encode())
