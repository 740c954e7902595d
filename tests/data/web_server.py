"""A server on this machine that behaves badly in known ways."""

from __future__ import annotations

import base64
import hashlib
import re
import threading
import zlib
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

TOKEN = "MDAxY2xvY2F0aW9u"


@dataclass
class Site:
    """files: content by path; kinds: how a path is served (see `Handler`); requests: what came, as
    (method, path, Range, Authorization)."""

    files: dict[str, bytes] = field(default_factory=dict)
    kinds: dict[str, str] = field(default_factory=dict)
    requests: list[tuple] = field(default_factory=list)
    drop_after: int = 1000
    busy: int = 2
    version: int = 1
    elsewhere: str = ""

    def gets(self) -> list[str | None]:
        """Range headers of the GET requests."""
        return [request[2] for request in self.requests if request[0] == "GET"]


class Handler(BaseHTTPRequestHandler):
    """Kinds: "" well; "drops" ends every answer early; "no-range"; "drops-no-range"; "lies" tells
    too large a length; "auth" wants TOKEN; "changes" is another file at every GET; "busy" is not
    there at first; "digest-adler32", "digest-md5"; "wrong-digest"; "no-length"; "short-chunks";
    "no-head"; "redirect"; "resets" breaks the connection; "shifted" goes on at the wrong place."""

    protocol_version = "HTTP/1.1"
    site: Site

    def log_message(self, *words) -> None:
        pass

    def do_HEAD(self) -> None:
        self._answer(False)

    def do_GET(self) -> None:
        self._answer(True)

    def _answer(self, body: bool) -> None:
        site, path = self.site, self.path
        site.requests.append((self.command, path, self.headers["Range"],
                              self.headers["Authorization"]))
        kind = site.kinds.get(path, "")
        if path not in site.files and kind != "redirect":
            return self._refuse(404)
        if kind == "auth" and self.headers["Authorization"] != f"Bearer {TOKEN}":
            return self._refuse(403 if self.headers["Authorization"] else 401)
        if kind == "no-head" and not body:
            return self._refuse(501)
        if kind == "busy" and site.busy > 0:
            site.busy -= 1
            return self._refuse(503)
        if kind == "redirect":
            self.send_response(302)
            self.send_header("Location", site.elsewhere + path)
            self.send_header("Content-Length", "0")
            return self.end_headers()
        content = site.files[path]
        if kind == "changes" and body:
            site.version += 1
            content = content[::-1] if site.version % 2 else content
        self._send(kind, content, body)

    def _refuse(self, code: int) -> None:
        self.send_response(code)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _send(self, kind: str, content: bytes, body: bool) -> None:
        start, tag = 0, f'"{zlib.crc32(content)}-{self.site.version}"'
        asked = re.match(r"bytes=(\d+)-", self.headers["Range"] or "")
        same = self.headers["If-Range"] in (None, tag)
        ranges = kind not in ("no-range", "drops-no-range", "lies")
        if asked and ranges and same:
            start = int(asked[1])
            if start >= len(content):
                self.send_response(416)
                self.send_header("Content-Range", f"bytes */{len(content)}")
                self.send_header("Content-Length", "0")
                return self.end_headers()
            self.send_response(206)
            shown = start + (kind == "shifted")
            self.send_header("Content-Range", f"bytes {shown}-{len(content) - 1}/{len(content)}")
        else:
            self.send_response(200)
        rest = content[start:]
        self.send_header("ETag", tag)
        self._digest(kind, content)
        if kind in ("no-length", "short-chunks"):
            return self._chunks(rest, body, kind == "no-length")
        self.send_header("Content-Length", str(len(rest) + 500 * (kind == "lies")))
        self.end_headers()
        if not body:
            return
        if kind in ("drops", "drops-no-range", "changes", "shifted", "resets"):
            rest = rest[:self.site.drop_after]
            self.close_connection = len(rest) < len(content) - start
        if kind == "lies":
            self.close_connection = True
        self.wfile.write(rest)
        if kind == "resets" and self.close_connection:
            self.connection.setsockopt(1, 13, b"\1\0\0\0\0\0\0\0")  # SO_LINGER 0: a reset

    def _digest(self, kind: str, content: bytes) -> None:
        if kind == "wrong-digest":
            self.send_header("Digest", "adler32=00000001")
        if kind == "digest-adler32":
            self.send_header("Digest", f"adler32={zlib.adler32(content):08x}")
        if kind == "digest-md5":
            digest = base64.b64encode(hashlib.md5(content).digest()).decode()
            self.send_header("Digest", f"unknown=x, md5={digest}")

    def _chunks(self, rest: bytes, body: bool, ends: bool) -> None:
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        if not body:
            return
        self.wfile.write(f"{len(rest):x}\r\n".encode() + rest + b"\r\n")
        if ends:
            self.wfile.write(b"0\r\n\r\n")
        else:
            self.close_connection = True


def serve(site: Site) -> tuple[ThreadingHTTPServer, str]:
    """A running server and its address."""
    handler = type("SiteHandler", (Handler,), {"site": site})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    return server, f"http://127.0.0.1:{server.server_port}"
