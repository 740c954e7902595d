"""Unpack downloaded archives of measurement sets, safely and resumably."""

from __future__ import annotations

import json
import tarfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from ddfpipe.data import atomic
from ddfpipe.errors import DataError, ResourceError

TOKENS = ("tokens", "LINC", "cal_solutions", "logs", "inspection")
"""Archives with these in their name hold no measurement sets."""
ENDINGS = (".tar.gz", ".tgz", ".tar")
LEFT_BEHIND = ("prefactor/results", "results", "scratch/*/**/Output")
"""Where measurement sets lie that were unpacked by other means."""
RECORD = ".unpacked.json"


@dataclass
class Unpacked:
    """What `unpack_all` did: sets now in place by archive, archives done before, sets moved up,
    and remarks for the user."""

    unpacked: dict[str, list[str]] = field(default_factory=dict)
    done_before: list[str] = field(default_factory=list)
    moved: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)


def unpack_all(folder: str | Path = ".", say: Callable[[str], None] = lambda text: None
               ) -> Unpacked:
    """Bring every measurement set in the archives of `folder` up into `folder`.

    Each archive is unpacked under a temporary name and its `*.ms` are then renamed into place, so
    a set in place is whole, and a call after a kill goes on where the last one stopped.  Only
    what lies in a `*.ms` is unpacked; the archives stay.  A set that is there already is never
    overwritten.  say is told of each step.  Raises DataError, after all archives were tried, when
    some are damaged or would write outside `folder`; ResourceError when the disk is full.
    """
    folder = Path(folder)
    result, failed = Unpacked(), []
    record = _read_record(folder)
    for archive in _archives(folder):
        stat = archive.stat()
        stamp = [stat.st_size, stat.st_mtime_ns]
        known = record.get(archive.name)
        if known and known["stamp"] == stamp and all((folder / m).is_dir() for m in known["ms"]):
            result.done_before.append(archive.name)
            continue
        say(f"unpacking {archive.name}")
        try:
            names = _unpack(archive, folder, result)
        except DataError as error:
            failed.append(str(error))
            continue
        result.unpacked[archive.name] = names
        record[archive.name] = {"stamp": stamp, "ms": names}
        atomic.atomic_write_json(folder / RECORD, record)
    for pattern in LEFT_BEHIND:
        for place in sorted(p for p in folder.glob(pattern) if p.is_dir()):
            result.moved += _move_up(place, folder, result)
    if failed:
        raise DataError("archives that could not be unpacked; fetch them again:\n  - "
                        + "\n  - ".join(failed))
    return result


def _archives(folder: Path) -> list[Path]:
    return sorted(p for p in folder.iterdir()
                  if p.is_file() and p.name.endswith(ENDINGS) and not p.name.startswith(".")
                  and not any(token in p.name for token in TOKENS))


def _read_record(folder: Path) -> dict[str, dict]:
    try:
        record = json.loads((folder / RECORD).read_text())
    except (OSError, ValueError):
        return {}  # without a record everything is merely looked at again
    return record if isinstance(record, dict) else {}


def _unpack(archive: Path, folder: Path, result: Unpacked) -> list[str]:
    """Unpack one archive; returns the names of the measurement sets it holds."""
    part = folder / f".unpack-{archive.name}.part"
    atomic.remove(part)
    try:
        part.mkdir()
        with tarfile.open(archive) as tar:
            tar.extraction_filter = lambda member, path: member  # Python 3.11.2 has none
            for member in tar:
                if any(_is_ms(name) for name in PurePosixPath(member.name).parts):
                    member.name = member.name.lstrip("/")
                    _require_inside(archive, member)
                    tar.extract(member, part, set_attrs=False)
        found = _measurement_sets(part)
        if not found:
            result.remarks.append(f"{archive.name}: holds no measurement set")
        _move_up(part, folder, result)
    except (tarfile.TarError, EOFError, zlib.error) as error:
        raise DataError(f"{archive}: damaged or incomplete ({error})") from error
    except OSError as error:
        if error.errno is None:  # gzip reports a bad header or checksum so
            raise DataError(f"{archive}: damaged or incomplete ({error})") from error
        raise ResourceError(f"{archive}: cannot be unpacked ({error.strerror}); free some space "
                            "or mend the permissions, and run again") from error
    finally:
        atomic.remove(part)
    return [ms.name for ms in found]


def _require_inside(archive: Path, member: tarfile.TarInfo) -> None:
    """Raise DataError for what is no part of a measurement set or lies or leads out of it.

    Owners and permissions of the archive are not taken over either.
    """
    places = [member.name] + ([member.linkname] if member.issym() or member.islnk() else [])
    usual = member.isfile() or member.isdir() or len(places) > 1
    if not usual or any(PurePosixPath(p).is_absolute() or ".." in PurePosixPath(p).parts
                        for p in places):
        raise DataError(f"{archive}: would write outside its directory ({' -> '.join(places)}); it "
                        "is not an archive to trust")


def _is_ms(name: str) -> bool:
    return name.lower().endswith(".ms")


def _measurement_sets(place: Path) -> list[Path]:
    """Directories `*.ms` that hold a table, at any depth of `place`, but not within another."""
    found = [table.parent for table in place.rglob("table.dat") if _is_ms(table.parent.name)]
    return sorted(f for f in found
                  if not any(_is_ms(p) for p in f.relative_to(place).parts[:-1]))


def _move_up(place: Path, folder: Path, result: Unpacked) -> list[str]:
    """Rename the measurement sets under `place` into `folder`; returns the names moved."""
    moved = []
    for ms in _measurement_sets(place):
        target = folder / ms.name
        if target.exists():
            result.remarks.append(f"{ms.name}: is there already, the one there is kept")
            continue
        ms.rename(target)
        moved.append(ms.name)
    return moved
