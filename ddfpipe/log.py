"""One log file a stage: every line with date and time, the job first, the outcome last."""

from __future__ import annotations

import threading
from datetime import datetime
from pathlib import Path

from ddfpipe.naming import log_name


class StageLog:
    """Log of one stage in `folder`; without a folder nothing is written.

    An earlier log of the same stage is kept as ``NAME.log.1``, ``NAME.log.2`` and so on.  A disk
    that is full ends the log, not the stage: `trouble` says so then.
    """

    def __init__(self, folder: Path | None, stage: str) -> None:
        self.trouble: OSError | None = None
        self._lock = threading.Lock()
        self._stream = None
        if folder is None:
            return
        try:
            folder.mkdir(parents=True, exist_ok=True)
            path = folder / log_name(stage)
            _keep_earlier(path)
            self._stream = open(path, "w", encoding="utf-8")
        except OSError as error:
            self.trouble = error

    def line(self, text: str) -> None:
        """Write `text`, which may be several lines, each with the time in front."""
        stamp = datetime.now().strftime("%Y-%m-%d %H:%M:%S")
        with self._lock:
            if self._stream is None:
                return
            try:
                for part in text.splitlines() or [""]:
                    self._stream.write(f"{stamp}: {part}\n")
                self._stream.flush()
            except OSError as error:
                self.trouble = error
                self._drop()

    def close(self) -> None:
        """Finish the log."""
        with self._lock:
            self._drop()

    def _drop(self) -> None:
        stream, self._stream = self._stream, None
        if stream is not None:
            try:
                stream.close()
            except OSError as error:
                self.trouble = error


def _keep_earlier(path: Path) -> None:
    if not path.exists():
        return
    number = 1
    while path.with_name(f"{path.name}.{number}").exists():
        number += 1
    path.rename(path.with_name(f"{path.name}.{number}"))
