"""Run one program of others: watched, stoppable, with a reason when it fails.

A program is given as a list of words, never as text for a shell.  It gets a process group of its
own, so that stopping it stops what it started too, and it dies with us.  Every line that it prints
goes into the stage's log.  It has succeeded when it ends with code zero *and* the products that
the caller named are there: some programs end well without having made anything.
"""

from __future__ import annotations

import ctypes
import os
import queue
import re
import shlex
import shutil
import signal
import subprocess
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from ...errors import ConfigError, DdfpipeError, ResourceError, StageFailed

POLL_S, GRACE_S, LAST_LINES, MOST_STUMBLES = 0.2, 10.0, 12, 9
"""Seconds between looks at the monitor, seconds from SIGTERM to SIGKILL, lines in an error, tries
after failures by chance."""

NO_MEMORY = re.compile(r"bad_alloc|cannot allocate memory|out of memory|MemoryError", re.I)
NO_DISK = re.compile(r"no space left on device|disk quota exceeded|disk full", re.I)
TRANSIENT = (signal.SIGSEGV, signal.SIGBUS, signal.SIGABRT, signal.SIGFPE)
"""Deaths after which another try may succeed, where the caller says that it is safe."""

_PR_SET_PDEATHSIG = 1

Parser = Callable[[str], "tuple[str, int, int] | None"]
"""Function of a line to (what, done, total), or None for a line that tells no progress."""


@dataclass(frozen=True)
class Call:
    """One run of a program.

    words: program and arguments.  cwd: where it runs.
    products: files or folders that must exist, newer than the start, when it has ended.
    partial: what to remove when it fails or is stopped; products always are.
    environment: added to ours.  timeout: seconds, None for none.
    retries: further tries after a death by one of the signals `TRANSIENT`, after a time-out, or
        after ending well without a product; only for programs that begin anew each time.
    parser: finds progress in the output.
    fatal: pattern of lines after which it will never end well; it is ended soon after one.
    stumble: pattern in the last lines of a failure that was chance, after which it is tried again
        at once, at most MOST_STUMBLES times.
    started: called with the process id once it runs.
    ended: called with the process id when it has ended, however it did, to clear what it left.
    """

    words: tuple[str, ...]
    cwd: Path
    products: tuple[Path, ...] = ()
    partial: tuple[Path, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    timeout: float | None = None
    retries: int = 0
    parser: Parser | None = None
    fatal: re.Pattern | None = None
    stumble: re.Pattern | None = None
    started: Callable[[int], object] | None = None
    ended: Callable[[int], object] | None = None

    @property
    def name(self) -> str:
        """The program's name without its folder."""
        return Path(self.words[0]).name

    def text(self) -> str:
        """The command as one could type it."""
        given = [f"{key}={shlex.quote(value)}" for key, value in sorted(self.environment.items())]
        return " ".join([*given, shlex.join(self.words)])


class ToolError(StageFailed):
    """A program failed.  transient: another try may succeed; stumbled: by chance, see `Call`."""

    transient = stumbled = False


class Runner:
    """Runs programs for a stage.

    monitor: see `engines.base.Monitor`; a method `detail(text)`, where it has one, takes lines for
        the log alone.
    dry_run: function that is handed the text of each command instead of its being run.
    """

    def __init__(self, monitor, dry_run: Callable[[str], None] | None = None):
        self.monitor, self.dry_run = monitor, dry_run
        self._detail = getattr(monitor, "detail", None) or (lambda text: None)

    def run(self, call: Call) -> list[str]:
        """Run a program to its end; returns the last lines that it printed.

        Raises
        ------
        StageFailed : it failed, or left a product unmade; the message tells why and the last lines
        ResourceError : memory or disk were exhausted
        ConfigError : there is no such program
        StopRequested : the monitor asked for a stop; the program is gone and so are its products
        """
        if self.dry_run is not None:
            self.dry_run(call.text())
            return []
        tries = {False: call.retries, True: MOST_STUMBLES}
        while True:
            try:
                return self._once(call)
            except ToolError as error:
                again = error.stumbled or error.transient
                if not again or tries[error.stumbled] == 0:
                    raise StageFailed(str(error)) from error
                tries[error.stumbled] -= 1
                self.monitor.message(f"{call.name} is tried again after: {error}")

    # -- one try ---------------------------------------------------------------------------------

    def _once(self, call: Call) -> list[str]:
        _clear(call.products)
        self._detail(f"$ {call.text()}")
        process = _start(call)
        if call.started is not None:
            call.started(process.pid)
        lines: deque[str] = deque(maxlen=200)
        try:
            with _guarded(process.pid):
                reason = self._follow(call, process, lines)
        except BaseException:
            _end(process)
            _clear((*call.products, *call.partial))
            raise
        finally:
            if call.ended is not None:
                call.ended(process.pid)
        self._detail(f"{call.name} ended with {process.returncode}")
        try:
            if reason:
                raise _transient(f"{call.name} was stopped: {reason}{_tail(lines)}")
            _judge(call, process.returncode, lines)
        except DdfpipeError:
            _clear((*call.products, *call.partial))
            raise
        return list(lines)

    def _follow(self, call: Call, process, lines: deque) -> str:
        """Log the output till the program has ended; why it had to be ended, or nothing."""
        output: queue.SimpleQueue = queue.SimpleQueue()
        threading.Thread(target=_pump, args=(process.stdout, output), daemon=True).start()
        start, broken, open_ = time.monotonic(), None, True
        while open_ or process.poll() is None:
            self.monitor.check()
            now = time.monotonic()
            if call.timeout is not None and now - start > call.timeout:
                _end(process)
                return f"it took longer than {call.timeout:g} s"
            if broken is not None and now - broken > GRACE_S:
                _end(process)
                return "one of its own processes died, which it did not notice"
            if not open_:  # it may close its output and work on
                time.sleep(POLL_S)
                continue
            open_, fatal = self._take(call, output, lines)
            broken = now if fatal and broken is None else broken
        return ""

    def _take(self, call: Call, output, lines: deque) -> tuple[bool, bool]:
        """Take what was printed since the last look: (not yet its end, a fatal line was in it)."""
        fatal = False
        try:
            text = output.get(timeout=POLL_S)
            while True:
                if text is None:
                    return False, fatal
                lines.append(text)
                self._detail(text)
                fatal |= call.fatal is not None and call.fatal.search(text) is not None
                found = call.parser(text) if call.parser else None
                if found is not None:
                    self.monitor.progress(*found)
                text = output.get_nowait()
        except queue.Empty:
            return True, fatal


def _start(call: Call) -> subprocess.Popen:
    try:
        return subprocess.Popen(
            list(call.words), cwd=call.cwd, env=os.environ | dict(call.environment),
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            text=True, errors="replace", start_new_session=True, preexec_fn=_die_with_parent,
        )
    except OSError as error:
        raise ConfigError(
            f"{call.words[0]} cannot be started ({error.strerror or error}): install it with "
            "misc/install_lofar.sh or misc/install_ddfacet.sh, or name its place in section "
            "[machine]"
        ) from error


try:
    _PRCTL = ctypes.CDLL(None, use_errno=True).prctl
except (OSError, AttributeError):  # not Linux
    _PRCTL = None


def _die_with_parent() -> None:
    """Between fork and exec: a program must not write on when we are killed."""
    if _PRCTL is not None:
        _PRCTL(_PR_SET_PDEATHSIG, signal.SIGKILL)


@contextmanager
def _guarded(group: int) -> Iterator[None]:
    """While the block runs, the death of this process is that of a whole process group.

    The kernel sees to the program itself alone (`_die_with_parent`), not to processes that it
    started.  A shell waits for the end of a pipe that nobody else holds; a line tells it that all
    is well.
    """
    words = ["/bin/sh", "-c", f"read line || kill -9 -{group}"]
    guard = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL,
                             stderr=subprocess.DEVNULL, start_new_session=True)
    try:
        yield
    finally:
        guard.communicate(b"ended\n")


def _pump(stream, output) -> None:
    """Lines of the output into a queue; bars that redraw a line come as lines of their own."""
    for line in stream:
        for part in line.rstrip("\n").split("\r"):
            if part:
                output.put(part)
    output.put(None)


def _end(process: subprocess.Popen) -> None:
    """End a process group: kindly first."""
    for number, patience in ((signal.SIGTERM, GRACE_S), (signal.SIGKILL, None)):
        try:
            os.killpg(process.pid, number)
        except ProcessLookupError:
            pass
        try:
            process.wait(patience)
        except subprocess.TimeoutExpired:
            continue
        if not _group_alive(process.pid):
            return


def _group_alive(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except (ProcessLookupError, PermissionError):
        return False
    return True


def _clear(paths) -> None:
    for path in paths:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def _judge(call: Call, code: int, lines) -> None:
    """Raise what the end of a program means."""
    if code == 0:
        lacking = [p.name for p in call.products if not _made(p)]
        if lacking:
            raise _transient(f"{call.name} ended well but did not make "
                             f"{', '.join(lacking)}{_tail(lines)}")
        return
    text = "\n".join(lines)
    number = -code if code < 0 else code - 128 if 128 < code < 160 else 0
    if number == signal.SIGKILL or NO_MEMORY.search(text):
        raise ResourceError(
            f"{call.name} was killed or could not allocate, most likely for lack of memory: lower "
            f"[machine] memory_limit_gb or NCPU_DDF, or use a larger machine{_tail(lines)}"
        )
    if NO_DISK.search(text):
        raise ResourceError(f"{call.name}: the disk is full: make room, or set [control] cache_dir "
                            f"to a larger disk{_tail(lines)}")
    if number == signal.SIGBUS:
        raise _transient(f"{call.name} died of a bus error: shared memory (/dev/shm) or the disk "
                         f"under its files is full or failing{_tail(lines)}")
    if number:
        name = signal.Signals(number).name if number in iter(signal.Signals) else str(number)
        raised = _transient if number in TRANSIENT else ToolError
        raise raised(f"{call.name} was ended by {name}{_tail(lines)}")
    error = ToolError(f"{call.name} failed with exit code {code}{_tail(lines)}")
    error.stumbled = call.stumble is not None and call.stumble.search(text) is not None
    raise error


def _made(path: Path) -> bool:
    return path.is_dir() or (path.is_file() and path.stat().st_size > 0)


def _transient(text: str) -> ToolError:
    error = ToolError(text)
    error.transient = True
    return error


def _tail(lines) -> str:
    """The last lines that a program printed, for an error."""
    last = [line for line in _without_aftermath(lines) if line.strip()][-LAST_LINES:]
    return "; it printed nothing" if not last else ":\n  " + "\n  ".join(last)


def _without_aftermath(lines) -> Iterator[str]:
    """Lines less the errors of objects that Python clears away: they hide what went wrong."""
    ignored = False
    for line in lines:
        if line.startswith("Exception ignored in"):
            ignored = True
        elif ignored:
            ignored = line.startswith((" ", "Traceback"))  # up to the line that names the error
        else:
            yield line
