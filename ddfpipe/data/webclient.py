"""HTTP requests for downloads: tokens, redirections, and errors told apart."""

from __future__ import annotations

import http.client
import re
import ssl
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from ddfpipe import __version__
from ddfpipe.errors import ConfigError, DataError, ResourceError

LOCAL = ("localhost", "127.0.0.1", "::1")
REFUSED = (401, 403, 407)
FOR_NOW = (408, 425, 429, 500, 502, 503, 504)
"""Answers after which it is worth trying again."""


class Transient(Exception):
    """A transfer failed in a way that may pass."""


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows redirections, but shows a token to nobody but the host that it was meant for, and
    not unencrypted."""

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any,
                         newurl: str) -> Any:
        new = super().redirect_request(req, fp, code, msg, headers, newurl)
        if new is not None and urlsplit(newurl)[:2] != urlsplit(req.full_url)[:2]:
            new.remove_header("Authorization")
        return new


@dataclass(frozen=True)
class Client:
    """Asks servers for files.

    token: sent as bearer token; token_from: the file that it came from, for messages.  ca_file:
    certificates to trust instead of the system's.  timeout: seconds without an answer.
    """

    token: str | None = None
    token_from: str = ""
    ca_file: str | None = None
    timeout: float = 120.0
    _opener: Any = field(init=False, repr=False)

    def __post_init__(self) -> None:
        try:
            context = ssl.create_default_context(cafile=self.ca_file)
        except OSError as error:
            raise ConfigError(f"--ca-file {self.ca_file}: cannot be used ({error})") from error
        handlers = (_Redirects(), urllib.request.HTTPSHandler(context=context))
        object.__setattr__(self, "_opener", urllib.request.build_opener(*handlers))

    def open(self, url: str, method: str = "GET", **headers: str) -> Any:
        """The answer of a server (status 200, 206 or 416), to be closed.

        Raises Transient for what may pass, ResourceError where access is refused, DataError for a
        file that is not there, ConfigError before a token goes out unencrypted.
        """
        parts = urlsplit(url)
        sent = {"User-Agent": f"ddfpipe/{__version__}"} | headers
        if self.token is not None:
            if parts.scheme != "https" and parts.hostname not in LOCAL:
                raise ConfigError(f"{url}: the token of {self.token_from} would travel "
                                  "unencrypted; use https")
            sent["Authorization"] = f"Bearer {self.token}"
        try:
            request = urllib.request.Request(url, headers=sent, method=method)
            return self._opener.open(request, timeout=self.timeout)
        except urllib.error.HTTPError as error:
            if error.code == 416:
                return error
            error.close()
            raise self._told(url, error) from error
        except urllib.error.URLError as error:
            if isinstance(error.reason, ssl.SSLCertVerificationError):
                raise ResourceError(
                    f"{parts.netloc}: its certificate is not one that this machine trusts "
                    f"({error.reason.verify_message}); give the issuer's with --ca-file"
                ) from error
            raise Transient(f"no connection ({error.reason})") from error
        except (OSError, http.client.HTTPException) as error:
            raise Transient(str(error) or type(error).__name__) from error
        except ValueError as error:
            raise DataError(f"{url}: is no address ({error})") from error

    def _told(self, url: str, error: urllib.error.HTTPError) -> Exception:
        answer = f"{error.code} {error.reason}"
        if error.code in REFUSED:
            if self.token is None:
                return ResourceError(f"{url}: access is refused ({answer}) and no token was sent; "
                                     "give one (a macaroon, or an rclone configuration) with "
                                     "--token FILE")
            return ResourceError(f"{url}: access is refused ({answer}) with the token of "
                                 f"{self.token_from}; it may have expired or be for another "
                                 "folder: get a new one")
        if error.code in FOR_NOW:
            return Transient(f"the server answers {answer}")
        if error.code in (404, 410):
            return DataError(f"{url}: is not on the server ({answer}); check the name")
        return DataError(f"{url}: the server answers {answer}")


def length_of(headers: Any) -> int | None:
    """Bytes of a file as an answer's headers tell them; None if they do not."""
    text = headers.get("Content-Length", "")
    return int(text) if text.isdigit() and headers.get("Content-Encoding") is None else None


def length_of_unsatisfied(headers: Any) -> int | None:
    """Bytes of a file that was asked for beyond its end (status 416), if the answer tells them."""
    match = re.match(r"bytes \*/(\d+)$", headers.get("Content-Range", ""))
    return int(match[1]) if match else None
