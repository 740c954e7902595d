"""Where there is something to download: index pages, lists of addresses, access tokens."""

from __future__ import annotations

import re
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urljoin, urlsplit

from ddfpipe.errors import ConfigError, DataError

ENDINGS = (".tar", ".tar.gz", ".tgz")
SIDECARS = (".md5", ".sha1", ".sha256", ".sha512", ".adler32")
"""What follows the name of a file in the name of the file that holds its checksum."""


@dataclass(frozen=True)
class Remote:
    """A file to fetch.  sidecar: address of a file with its checksum, if one is listed."""

    url: str
    name: str
    sidecar: str | None = None


class _Links(HTMLParser):
    """Collects the links of a page as (address, file name, whether it is a button to download)."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, str, bool]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        if tag == "a" and values.get("href"):
            name = values.get("download") or name_of(values["href"])
            self.found.append((values["href"], name, "download" in values
                               or "Download" in values.get("title", "")))


def name_of(url: str) -> str:
    """File name of an address."""
    return unquote(urlsplit(url).path.rsplit("/", 1)[-1])


def parse_index(page: str, base: str, without: tuple[str, ...] = ("step1",)) -> list[Remote]:
    """Archives that an index page links to, each name once, in the order of the page.

    Links that are marked for download count (WebDAV pages of dCache); on a page without such, those
    to archives.  without: texts that forbid a name.
    """
    links = _Links()
    links.feed(page)
    # Where a name has several links, the one marked for download is put in last.
    ordered = sorted(links.found, key=lambda link: link[2])
    found = {name: urljoin(base, href) for href, name, _ in ordered}
    marked = {name for _, name, button in links.found if button}
    wanted: dict[str, Remote] = {}
    for _, name, _ in links.found:
        is_one = name in marked if marked else name.endswith(ENDINGS)
        if not is_one or name.endswith(SIDECARS) or any(text in name for text in without):
            continue
        sidecar = next((found[name + end] for end in SIDECARS if name + end in found), None)
        wanted[name] = Remote(found[name], safe_name(name), sidecar)
    return list(wanted.values())


def safe_name(name: str) -> str:
    """`name` if it is a plain file name; raises DataError for one that leads elsewhere."""
    if not name or name in (".", "..") or re.search(r"[/\\\0]", name) or name.startswith("."):
        raise DataError(f"{name!r}: is not the name of a file to write here; download it by hand")
    return name


def read_url_list(path: Path) -> list[Remote]:
    """Files whose addresses a text file names, one a line; `#` begins a comment.

    Raises DataError for a list that cannot be read or has lines that are no addresses, ConfigError
    when two files have one name.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read as a list of addresses ({error})") from error
    found: dict[str, Remote] = {}
    for number, line in enumerate(lines, 1):
        url = re.split(r"(?:^|\s)#", line, maxsplit=1)[0].strip()
        if not url:
            continue
        if urlsplit(url).scheme not in ("http", "https") or not name_of(url):
            raise DataError(f"{path}, line {number}: is not the address (http, https) of a file: "
                            f"{url}")
        remote = Remote(url, safe_name(name_of(url)))
        if found.get(remote.name, remote) != remote:
            raise ConfigError(f"{path}: names two files called {remote.name}; fetch them into "
                              "different folders")
        found[remote.name] = remote
    return list(found.values())


def read_token(path: str | Path) -> str:
    """An access token (a macaroon): a file with nothing else, or an rclone configuration with a
    line `bearer_token = ...`.  Raises ConfigError when there is none."""
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"--token {path}: cannot be read ({error})") from error
    named = re.search(r"^\s*bearer_token\s*=\s*(\S+)\s*$", text, re.MULTILINE)
    token = named[1] if named else text
    if not token or re.search(r"\s", token) or not token.isascii():
        raise ConfigError(f"--token {path}: holds no token; it should be the token alone, or an "
                          "rclone configuration with bearer_token")
    return token
