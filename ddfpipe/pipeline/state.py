"""What is known of finished stages: one JSON record each, and the lock of the directory.

A record is written last, by renaming, so a stage without one is not done, whatever files lie
about.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import socket
import uuid
from collections.abc import Iterable, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TextIO

from ddfpipe.errors import LockError, ResourceError
from ddfpipe.naming import STATE_FOLDER

FORMAT = 1
WHOLE_BYTES = 8 << 20
"""Files up to this size are summed whole, larger ones by head, tail and time of change."""
PIECE_BYTES = 1 << 20


@dataclass(frozen=True)
class FileState:
    """A file as it was: size in bytes, time of change in ns, checksum (see `checksum`)."""

    path: str
    size: int
    mtime_ns: int
    checksum: str

    def difference(self, home: Path) -> str | None:
        """What has happened to the file since; None if nothing."""
        path = home / self.path
        try:
            status = path.stat()
        except OSError:
            return f"{self.path} is missing"
        if status.st_size != self.size:
            return f"{self.path} has {status.st_size} bytes instead of {self.size}"
        if self.size > WHOLE_BYTES and status.st_mtime_ns != self.mtime_ns:
            return f"{self.path} was changed"
        return None if checksum(path) == self.checksum else f"{self.path} was changed"


@dataclass(frozen=True)
class Record:
    """What is kept of a finished stage.

    key: stands for what the stage made (see `key_of`); records of later stages refer to it.
    identity: job and settings; options: the options behind them, for explanations.
    inputs: keys of the stages that it read; files: the user's files; ms: fingerprints by name.
    """

    stage: str
    key: str
    identity: Mapping[str, Any]
    options: Mapping[str, Any]
    inputs: Mapping[str, str]
    files: tuple[FileState, ...]
    ms: Mapping[str, str]
    outputs: tuple[FileState, ...]
    figures: Mapping[str, Any]
    versions: Mapping[str, str]
    finished: str
    seconds: float
    cpu_seconds: float
    peak_memory_bytes: int
    format: int = FORMAT


@dataclass
class Current:
    """The stage at work, or the one that a run ended in."""

    stage: str
    started: float
    pid: int
    host: str
    outcome: str = "running"
    error: str = ""
    progress: Mapping[str, tuple[int, int]] = field(default_factory=dict)


def checksum(path: Path) -> str:
    """sha256 of a file up to WHOLE_BYTES, of its first and last PIECE_BYTES if it is larger."""
    digest = hashlib.sha256()
    with open(path, "rb") as stream:
        size = os.fstat(stream.fileno()).st_size
        if size <= WHOLE_BYTES:
            digest.update(stream.read())
        else:
            digest.update(stream.read(PIECE_BYTES))
            stream.seek(-PIECE_BYTES, os.SEEK_END)
            digest.update(stream.read(PIECE_BYTES))
    return digest.hexdigest()


def file_states(paths: Iterable[str | Path], home: Path) -> tuple[FileState, ...]:
    """States of files (directories: of every file in them), relative names staying relative.

    Raises FileNotFoundError for one that does not exist.
    """
    found = []
    for name in dict.fromkeys(str(path) for path in paths):
        path = home / name
        members = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
        for member in members:
            label = name if member == path else str(Path(name) / member.relative_to(path))
            status = member.stat()
            found.append(
                FileState(label, status.st_size, status.st_mtime_ns, checksum(member))
            )
    return tuple(found)


def key_of(states: Iterable[FileState], home: Path) -> str:
    """A digest of names and whole contents of files.

    The same products have the same key, whenever they were made; without any product each call
    gives another one.
    """
    digest = None
    for state in states:
        digest = digest or hashlib.sha256()
        content = state.checksum
        if state.size > WHOLE_BYTES:
            with open(home / state.path, "rb") as stream:
                content = hashlib.file_digest(stream, "sha256").hexdigest()
        digest.update(f"{state.path}\0{content}\n".encode())
    return digest.hexdigest() if digest else uuid.uuid4().hex


class RunState:
    """The folder of records of one working directory.  Reading it creates nothing."""

    def __init__(self, workdir: Path) -> None:
        self.folder = workdir / STATE_FOLDER

    def read(self, stage: str) -> Record | None:
        """The record of a stage; None if there is none or it cannot be understood."""
        try:
            values = json.loads((self.folder / f"{stage}.json").read_text(encoding="utf-8"))
            if values.get("format") != FORMAT:
                return None
            for name in ("files", "outputs"):
                values[name] = tuple(FileState(**item) for item in values[name])
            return Record(**values)
        except (OSError, ValueError, TypeError, KeyError, AttributeError):
            return None

    def has_file(self, stage: str) -> bool:
        """Whether there is a record, readable or not."""
        return (self.folder / f"{stage}.json").exists()

    def write(self, record: Record) -> None:
        """Keep a record."""
        from ddfpipe.data.atomic import atomic_write_json

        atomic_write_json(self.folder / f"{record.stage}.json", asdict(record))

    def forget(self, stage: str) -> None:
        """Remove the record of a stage, so that it counts as not done."""
        (self.folder / f"{stage}.json").unlink(missing_ok=True)

    # ------------------------------------------------------------------ what is at work

    def set_current(self, current: Current) -> None:
        """Tell `status` what is being done."""
        from ddfpipe.data.atomic import atomic_write_json

        atomic_write_json(self.folder / "_current.json", asdict(current), durable=False)

    def current(self) -> Current | None:
        """What is being done, or what the last run ended in."""
        try:
            values = json.loads((self.folder / "_current.json").read_text(encoding="utf-8"))
            return Current(**values)
        except (OSError, ValueError, TypeError):
            return None

    def clear_current(self) -> None:
        """Nothing is being done any more."""
        (self.folder / "_current.json").unlink(missing_ok=True)

    # ------------------------------------------------------------------ lock

    @contextmanager
    def locked(self):
        """Hold the directory for the block.

        The lock goes with its process, so that of a killed run does not hinder the next one.
        Raises LockError naming the process that holds it, ResourceError where nothing can be
        written.
        """
        with self._open_lock() as stream:
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise LockError(
                    f"{self.folder.parent}: another run is at work here ({self.holder()}); wait "
                    "for it, stop it with SIGUSR1, or use another directory"
                ) from None
            except OSError:
                self._take_without_flock(stream)
            stream.seek(0)
            stream.truncate()
            stream.write(f"{os.getpid()} {socket.gethostname()}\n")
            stream.flush()
            try:
                yield
            finally:
                stream.seek(0)
                stream.truncate()

    def _open_lock(self) -> TextIO:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            return open(self.folder / "_lock", "a+", encoding="utf-8")
        except OSError as error:
            raise ResourceError(
                f"{self.folder.parent.absolute()}: cannot be written ({error.strerror}); change "
                "its permissions or run in another directory"
            ) from error

    def _take_without_flock(self, stream: Any) -> None:
        """File systems without locks: trust the process number that is written down."""
        stream.seek(0)
        words = stream.read().split()
        if len(words) == 2 and words[1] != socket.gethostname() or _alive(words):
            raise LockError(
                f"{self.folder.parent}: another run is noted here ({' on '.join(words)}); if it "
                f"is gone, delete {self.folder / '_lock'}"
            )

    def holder(self) -> str:
        """Process number and machine of the run at work; empty if none is."""
        try:
            with open(self.folder / "_lock", encoding="utf-8") as stream:
                words = stream.read().split()
                try:
                    fcntl.flock(stream, fcntl.LOCK_SH | fcntl.LOCK_NB)
                except BlockingIOError:
                    return f"process {' on '.join(words)}" if words else "just starting"
                except OSError:
                    return f"process {' on '.join(words)}" if _alive(words) else ""
                fcntl.flock(stream, fcntl.LOCK_UN)
        except OSError:
            return ""
        return ""


def _alive(words: list[str]) -> bool:
    """Whether the process noted as [number, machine] runs on this machine."""
    if len(words) != 2 or not words[0].isdigit() or words[1] != socket.gethostname():
        return False
    try:
        os.kill(int(words[0]), 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
