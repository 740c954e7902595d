"""Checksums of files as archives give them: md5, sha1, sha256, sha512 and adler32."""

from __future__ import annotations

import base64
import hashlib
import re
import zlib
from dataclasses import dataclass
from pathlib import Path

from ddfpipe.errors import DataError

KIND_OF_LENGTH = {8: "adler32", 32: "md5", 40: "sha1", 64: "sha256", 128: "sha512"}
"""Digits of a checksum -> its kind."""
KINDS = tuple(KIND_OF_LENGTH.values())
PIECE_BYTES = 4 << 20

_BSD = re.compile(r"^(?P<kind>[\w-]+) \((?P<name>.+)\) = (?P<digits>[0-9a-fA-F]+)$")
_NAMED = re.compile(r"^(?P<name>.+?)\s+(?P<kind>[A-Za-z][\w-]*)[=:](?P<digits>[0-9a-fA-F]+)$")
_PLAIN = re.compile(r"^(?:(?P<kind>[A-Za-z][\w-]*):)?(?P<digits>[0-9a-fA-F]+)\s+\*?(?P<name>.+)$")
_LONE = re.compile(r"^(?:(?P<kind>[A-Za-z][\w-]*)[:=])?(?P<digits>[0-9a-fA-F]+)$")


@dataclass(frozen=True)
class Checksum:
    """kind: one of KINDS; digits: hexadecimal, lower case."""

    kind: str
    digits: str

    def of(self, path: Path) -> "Checksum":
        """The checksum of this kind of a file, read in pieces."""
        if self.kind == "adler32":
            value = 1
            for piece in _pieces(path):
                value = zlib.adler32(piece, value)
            return Checksum(self.kind, f"{value:08x}")
        digest = hashlib.new(self.kind)
        for piece in _pieces(path):
            digest.update(piece)
        return Checksum(self.kind, digest.hexdigest())


def _pieces(path: Path):
    with open(path, "rb") as stream:
        while piece := stream.read(PIECE_BYTES):
            yield piece


def parse_checksum(text: str) -> Checksum | None:
    """A checksum alone, as `d41d8cd9...`, `md5:d41d8cd9...` or `ADLER32=0a1b2c3d`."""
    match = _LONE.match(text.strip())
    return _checksum(match) if match else None


def read_checksums(path: str | Path) -> dict[str, Checksum]:
    """Checksums by file name (without folders) from a text file.

    Lines are those of md5sum, sha256sum or rclone (`d41d8... name`), of BSD (`MD5 (name) = ...`) or
    of dCache tools (`name ADLER32=...`); `#` begins a comment.  Raises DataError for a file that
    cannot be read, and for lines that are none of these.
    """
    path = Path(path)
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read as a list of checksums ({error})") from error
    found: dict[str, Checksum] = {}
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        known = _parse_line(line.strip())
        if known is None:
            raise DataError(f"{path}, line {number}: is no checksum and file name: {line.strip()}")
        found[known[0]] = known[1]
    return found


def _parse_line(line: str) -> tuple[str, Checksum] | None:
    for pattern in (_BSD, _PLAIN, _NAMED):
        match = pattern.match(line)
        checksum = _checksum(match) if match else None
        if checksum is not None:
            return Path(match["name"].strip()).name, checksum
    return None


def _checksum(match: re.Match) -> Checksum | None:
    digits = match["digits"].lower()
    kind = (match["kind"] or KIND_OF_LENGTH.get(len(digits), "")).lower().replace("-", "")
    # Leading zeros of an adler32 are left out by some tools.
    digits = digits.zfill(8) if kind == "adler32" else digits
    if KIND_OF_LENGTH.get(len(digits)) != kind:
        return None
    return Checksum(kind, digits)


def from_digest_header(text: str | None) -> Checksum | None:
    """The strongest checksum of an HTTP header `Digest` (RFC 3230), None if it has none we know."""
    found = []
    for item in (text or "").split(","):
        kind, _, value = item.strip().partition("=")
        kind = {"sha": "sha1"}.get(kind.lower(), kind.lower().replace("-", ""))
        if kind == "adler32":
            found.append(parse_checksum(f"adler32:{value}"))
        elif kind in KINDS:
            try:
                digits = base64.b64decode(value, validate=True).hex()
            except ValueError:
                continue
            found.append(parse_checksum(f"{kind}:{digits}"))
    known = [checksum for checksum in found if checksum is not None]
    return max(known, key=lambda checksum: KINDS.index(checksum.kind), default=None)
