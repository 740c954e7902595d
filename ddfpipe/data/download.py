"""Fetch files over HTTP: resumed where they broke off, verified, and whole or absent.

A file grows under `.<name>.part` with a note of what it is part of, and gets its name when it is
complete: as long as the server said, and with the checksum where one is known.
"""

from __future__ import annotations

import errno
import fcntl
import http.client
import json
import os
import re
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from ddfpipe.data.atomic import atomic_write_json, fsync
from ddfpipe.data.checksums import Checksum, from_digest_header, parse_checksum
from ddfpipe.data.sizes import size_text
from ddfpipe.data.webclient import Client, Transient, length_of, length_of_unsatisfied
from ddfpipe.data.webindex import Remote
from ddfpipe.errors import DataError, DdfpipeError, ResourceError, StopRequested

PIECE_BYTES = 1 << 18
LONGEST_PAUSE_S = 60.0
WANT_DIGEST = "sha-256;q=1, md5;q=0.8, adler32;q=0.5"

Progress = Callable[[str, int, int], None]
"""Told (file name, bytes there, bytes in all)."""


@dataclass(frozen=True)
class Fetched:
    """A file that is now there.

    fetched: bytes that came over the network.  verified: "length", a kind of checksum, or "" where
    the server told neither.
    """

    path: Path
    size: int
    fetched: int
    verified: str


@dataclass
class Downloads:
    """What `download_all` did.  failed: messages."""

    done: list[Fetched] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Manner:
    """How patient a download is.

    retries: attempts in a row without a byte before giving up; pause: seconds after the first.
    check: raises to stop.  progress, say: are told what happens.
    """

    retries: int = 6
    pause: float = 2.0
    check: Callable[[], None] = lambda: None
    progress: Progress = lambda name, done, total: None
    say: Callable[[str], None] = lambda text: None


def download_all(client: Client, remotes: list[Remote], folder: Path,
                 checksums: Mapping[str, Checksum] | None = None, jobs: int = 2,
                 manner: Manner = Manner()) -> Downloads:
    """Fetch files into `folder`, `jobs` at a time; what fails does not hinder the others.

    checksums: by file name, besides those that the server gives.  Raises ResourceError when access
    is refused or the disk is too small for all of them, StopRequested when `manner.check` does;
    what has come by then is kept.
    """
    folder.mkdir(parents=True, exist_ok=True)
    known = dict(checksums or {})
    stop = threading.Event()

    def check() -> None:
        manner.check()
        if stop.is_set():
            raise StopRequested("stopped since another file could not be had")

    mine = Manner(manner.retries, manner.pause, check, manner.progress, manner.say)
    heads = [_head(client, remote, mine) for remote in remotes]
    _require_room(folder, remotes, heads)
    total = sum(head.size or 0 for head in heads)
    manner.say(f"{len(remotes)} file(s)" + (f", {size_text(total)}" if total else ""))

    def one(remote: Remote, head: Head) -> Fetched:
        try:
            checksum = known.get(remote.name) or _sidecar(client, remote, mine) or head.checksum
            return fetch(client, remote, folder, checksum, head.size, mine)
        except (ResourceError, StopRequested):
            stop.set()
            raise

    with ThreadPoolExecutor(max_workers=jobs) as pool:
        return _collect([pool.submit(one, *pair) for pair in zip(remotes, heads)])


def _collect(futures: list[Future]) -> Downloads:
    """Wait for all files; raise what ended the download, if something did."""
    result, fatal = Downloads(), None
    for future in futures:
        try:
            result.done.append(future.result())
        except (ResourceError, StopRequested) as error:
            # The first resource that is short is what a person must know of.
            if fatal is None or isinstance(fatal, StopRequested):
                fatal = error
        except DdfpipeError as error:
            result.failed.append(str(error))
    if fatal is not None:
        raise fatal
    return result


def read_text(client: Client, url: str, manner: Manner = Manner(), most: int = 8 << 20) -> str:
    """A page as text, at most `most` bytes of it.  Raises DataError when it cannot be had."""

    def get() -> str:
        with client.open(url) as answer:
            return answer.read(most).decode(answer.headers.get_content_charset() or "utf-8",
                                            errors="replace")

    return _patiently(url, get, manner)


@dataclass(frozen=True)
class Head:
    """What a server says of a file before it is fetched; None where it does not."""

    size: int | None = None
    checksum: Checksum | None = None


def _head(client: Client, remote: Remote, manner: Manner) -> Head:
    """Ask for size and checksum.  A server that answers no such question is asked for the file."""

    def ask() -> Head:
        with client.open(remote.url, "HEAD", **{"Want-Digest": WANT_DIGEST}) as answer:
            return Head(length_of(answer.headers), from_digest_header(answer.headers.get("Digest")))

    try:
        return _patiently(remote.url, ask, manner)
    except DataError:
        return Head()


def _sidecar(client: Client, remote: Remote, manner: Manner) -> Checksum | None:
    """The checksum in a file beside the remote one, if there is such a file."""
    if remote.sidecar is None:
        return None
    text = read_text(client, remote.sidecar, manner, most=4096)
    found = parse_checksum(text.split()[0]) if text.split() else None
    if found is None:
        raise DataError(f"{remote.sidecar}: holds no checksum; give the right one with --checksums")
    return found


def _require_room(folder: Path, remotes: list[Remote], heads: list[Head]) -> None:
    """Raise ResourceError when the disk is too small for what is still to come."""
    missing = 0
    for remote, head in zip(remotes, heads):
        places = (folder / remote.name, part_of(folder / remote.name))
        there = max((path.stat().st_size for path in places if path.exists()), default=0)
        missing += max(0, (head.size or 0) - there)
    free = shutil.disk_usage(folder).free
    if missing > free:
        raise ResourceError(f"{folder.absolute()}: {size_text(missing)} are still to come, "
                            f"{size_text(free)} are free; make room or give --output")


def part_of(target: Path) -> Path:
    """Name under which a file grows."""
    return target.with_name(f".{target.name}.part")


def fetch(client: Client, remote: Remote, folder: Path, checksum: Checksum | None = None,
          size: int | None = None, manner: Manner = Manner()) -> Fetched:
    """Fetch one file, or find that it is there.  size: bytes that it should have, if known.

    Raises DataError when it cannot be had or is not what it should be, ResourceError when access
    is refused, the disk is full, or another process fetches it.
    """
    target = folder / remote.name
    there = _is_there(target, checksum, size, manner)
    if there is not None:
        return there
    with _part(target) as stream:
        transfer = _Transfer(client, remote, target, stream, checksum, manner)
        for attempt in (1, 2):
            _patiently(remote.url, transfer.run, manner, transfer)
            verified = transfer.verify()
            if verified is not None:
                break
            wrong = transfer.checksum
            transfer.discard()
            if attempt == 1:
                manner.say(f"{remote.name}: its {wrong.kind} is wrong; it is fetched anew")
        else:
            raise DataError(f"{remote.url}: has not the {wrong.kind} {wrong.digits}, twice; it is "
                            "damaged on the server or the list of checksums is wrong")
        os.replace(part_of(target), target)
        _note_of(target).unlink(missing_ok=True)
        fsync(folder)
    return Fetched(target, target.stat().st_size, transfer.received, verified)


def _is_there(target: Path, checksum: Checksum | None, size: int | None,
              manner: Manner) -> Fetched | None:
    """The file if it is there already and is what it should be."""
    if not target.is_file():
        return None
    there = target.stat().st_size
    if size is not None and size != there:
        manner.say(f"{target.name}: the one here has {there} bytes instead of {size}; it is "
                   "replaced")
        return None
    if checksum is not None:
        if checksum.of(target) != checksum:
            manner.say(f"{target.name}: the {checksum.kind} of the one here is wrong; it is "
                       "replaced")
            return None
        return Fetched(target, there, 0, checksum.kind)
    return Fetched(target, there, 0, "length" if size is not None else "")


@contextmanager
def _part(target: Path) -> Iterator[BinaryIO]:
    """The growing file, locked.  Raises ResourceError where that is not possible."""
    part = part_of(target)
    try:
        with open(part, "a+b") as stream:
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise ResourceError(f"{target}: another process is fetching it") from None
            try:
                yield stream
            finally:
                if part.exists() and part.stat().st_size == 0:
                    part.unlink()
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EACCES,
                               errno.EROFS, errno.EPERM):
            raise
        raise ResourceError(f"{target}: cannot be written ({error.strerror}); make room or mend "
                            "the permissions, and run again to go on") from error


def _note_of(target: Path) -> Path:
    return target.with_name(f".{target.name}.part.json")


class _Transfer:
    """One file on its way.

    received: bytes that came, over all attempts; furthest: most bytes that were here at a time.
    """

    def __init__(self, client: Client, remote: Remote, target: Path, stream: BinaryIO,
                 checksum: Checksum | None, manner: Manner) -> None:
        self.client, self.remote, self.target = client, remote, target
        self.stream, self.manner = stream, manner
        self.checksum = self.given = checksum
        self.received = self.furthest = 0
        self.total: int | None = None

    def run(self) -> None:
        """Fetch what is missing.  Raises Transient when the connection breaks."""
        have, headers = self._begin()
        with self.client.open(self.remote.url, **headers) as answer:
            if answer.status == 416 or (answer.status == 206 and not self._continues(answer, have)):
                if answer.status == 416 and length_of_unsatisfied(answer.headers) == have:
                    self.total = have
                    return
                self.discard()
                raise Transient("what is here does not belong to the file on the server")
            if answer.status != 206:
                have = self._restart(answer)
            self._copy(answer, have)

    def _begin(self) -> tuple[int, dict[str, str]]:
        """Bytes that are here and belong to the file, and the headers that ask for the rest."""
        headers = {"Want-Digest": WANT_DIGEST, "Accept-Encoding": "identity"}
        have = self.stream.seek(0, os.SEEK_END)
        note = self._read_note()
        if have == 0 or note is None:
            self.stream.truncate(0)
            return 0, headers
        self.total = note["size"]
        headers["Range"] = f"bytes={have}-"
        if note["validator"]:
            headers["If-Range"] = note["validator"]
        return have, headers

    def _read_note(self) -> dict[str, Any] | None:
        try:
            note = json.loads(_note_of(self.target).read_text(encoding="utf-8"))
            return note if note["url"] == self.remote.url and {"size", "validator"} <= set(note) \
                else None
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def _continues(self, answer: Any, have: int) -> bool:
        """Whether a partial answer goes on where the file here ends, and is of the same file."""
        match = re.match(r"bytes (\d+)-\d+/(\d+|\*)$", answer.headers.get("Content-Range", ""))
        if match is None or int(match[1]) != have:
            return False
        return self.total is None or match[2] in ("*", str(self.total))

    def _restart(self, answer: Any) -> int:
        """The server sends the whole file: begin with nothing, and note what it is."""
        self.stream.truncate(0)
        self.total = length_of(answer.headers)
        etag = answer.headers.get("ETag", "")
        # Weak tags do not promise the same bytes.
        validator = etag if etag and not etag.startswith("W/") else \
            answer.headers.get("Last-Modified", "")
        atomic_write_json(_note_of(self.target), {
            "url": self.remote.url, "size": self.total, "validator": validator})
        return 0

    def _copy(self, answer: Any, have: int) -> None:
        if self.checksum is None:
            self.checksum = from_digest_header(answer.headers.get("Digest"))
        try:
            while piece := answer.read(PIECE_BYTES):
                self.manner.check()
                self.stream.write(piece)
                have += len(piece)
                self.received += len(piece)
                self.furthest = max(self.furthest, have)
                if self.total:
                    self.manner.progress(self.remote.name, min(have, self.total), self.total)
        except (TimeoutError, ConnectionError, http.client.HTTPException) as error:
            raise Transient(f"the connection broke after {have} bytes") from error
        finally:
            self.stream.flush()
        if self.total is not None and have < self.total:
            raise Transient(f"the connection ended after {have} of {self.total} bytes")

    def verify(self) -> str | None:
        """How the file was found whole ("length", a kind of checksum, "" if it cannot be told);
        None for a wrong checksum."""
        if self.checksum is not None:
            right = self.checksum.of(part_of(self.target)) == self.checksum
            return self.checksum.kind if right else None
        return "" if self.total is None else "length"

    def discard(self) -> None:
        """Forget what is here."""
        self.stream.truncate(0)
        self.stream.seek(0)
        _note_of(self.target).unlink(missing_ok=True)
        self.total, self.checksum = None, self.given


def _patiently(url: str, action: Callable[[], Any], manner: Manner,
               transfer: _Transfer | None = None) -> Any:
    """Do `action`, again after a pause when it fails in a way that may pass.

    Raises DataError when that happened more than `manner.retries` times without a new byte.
    """
    failures = 0
    while True:
        manner.check()
        before = transfer.furthest if transfer else 0
        try:
            return action()
        except Transient as error:
            failures = 1 if transfer and transfer.furthest > before else failures + 1
            if failures > manner.retries:
                kept = "; what came is kept, run again to go on" if transfer else ""
                raise DataError(f"{url}: {error}, {failures} times{kept}") from error
            pause = min(LONGEST_PAUSE_S, manner.pause * 2 ** (failures - 1))
            if transfer:
                manner.say(f"{transfer.remote.name}: {error}; next try in {pause:.0f} s")
        end = time.monotonic() + pause
        while (left := end - time.monotonic()) > 0:
            manner.check()
            time.sleep(min(0.2, left))
