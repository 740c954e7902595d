"""Servers of reference catalogues: what is asked, and how answers are read.

Pan-STARRS: the catalogue interface of MAST (Chambers et al. 2016, arXiv:1612.05560; Flewelling et
al. 2020, ApJS 251, 7).  AllWISE: TAP of IRSA (Cutri et al. 2013).  Gaia DR3: TAP of VizieR (Gaia
Collaboration 2023, A&A 674, A1).  Pan-STARRS in HEALPix tiles: as the surveys keep it.
"""

from __future__ import annotations

import socket
import urllib.error
import urllib.parse
import urllib.request
from dataclasses import dataclass

import numpy as np

from ddfpipe.data.images import SkyGrid
from ddfpipe.products.refcats.tiling import Tile, circles, healpix_tiles
from ddfpipe.units import DEGREE

TIMEOUT_S = 300.0
MOST_ROWS = 2_000_000
PAGE = 50_000
LEAST_DETECTIONS = 6
"""Objects that Pan-STARRS saw less often may be artefacts."""


class BadAnswer(Exception):
    """A server answered, but not with what was asked for."""


@dataclass(frozen=True)
class Server:
    """A catalogue's server.

    kind: "mast", "tap" or "tiles"; table, ra, dec: names at the server.
    """

    address: str
    kind: str
    table: str = ""
    ra: str = "ra"
    dec: str = "dec"

    def tiles(self, grid: SkyGrid) -> list[Tile]:
        """The tiles in which this server hands out a field."""
        return healpix_tiles(grid) if self.kind == "tiles" else circles(grid)

    def fetch(self, tile: Tile, address: str | None = None) -> np.ndarray:
        """(n, 2) right ascensions and declinations in degrees of a tile.

        Raises OSError when the server cannot be reached or refuses, BadAnswer for nonsense.
        """
        address = address or self.address
        if self.kind == "mast":
            return self._pages(tile, address)
        if self.kind == "tap":
            return self._tap(tile, address)
        return parse_plain(_get(f"{address.rstrip('/')}/{tile.name}"))

    def _pages(self, tile: Tile, address: str) -> np.ndarray:
        """All pages of a circle from MAST."""
        parts = []
        while not parts or len(parts[-1]) == PAGE:
            parts.append(parse_csv(_get(address, {
                "ra": f"{tile.ra / DEGREE:.6f}", "dec": f"{tile.dec / DEGREE:.6f}",
                "radius": f"{tile.radius / DEGREE:.4f}",
                "nDetections.gte": str(LEAST_DETECTIONS),
                "columns": f"[{self.ra},{self.dec}]", "pagesize": str(PAGE),
                "page": str(len(parts) + 1),
            }), self.ra, self.dec))
        return np.concatenate(parts)

    def _tap(self, tile: Tile, address: str) -> np.ndarray:
        """One circle from a TAP server."""
        circle = ", ".join(f"{v / DEGREE:.6f}" for v in (tile.ra, tile.dec, tile.radius))
        query = (f"SELECT {self.ra}, {self.dec} FROM {self.table} WHERE "
                 f"1 = CONTAINS(POINT('ICRS', {self.ra}, {self.dec}), CIRCLE('ICRS', {circle}))")
        found = parse_csv(_get(address, {
            "REQUEST": "doQuery", "LANG": "ADQL", "FORMAT": "csv", "MAXREC": str(MOST_ROWS),
            "QUERY": query,
        }), self.ra, self.dec)
        if len(found) >= MOST_ROWS:
            raise BadAnswer(f"{len(found)} rows, as many as are allowed: some are missing")
        return found


SERVERS: dict[str, Server] = {
    "panstarrs": Server("https://catalogs.mast.stsci.edu/api/v0.1/panstarrs/dr2/mean.csv", "mast",
                        ra="raMean", dec="decMean"),
    "wise": Server("https://irsa.ipac.caltech.edu/TAP/sync", "tap", "allwise_p3as_psd"),
    "gaia": Server("https://tapvizier.cds.unistra.fr/TAPVizieR/tap/sync", "tap",
                   '"I/355/gaiadr3"', "RA_ICRS", "DE_ICRS"),
    "pslocal": Server("http://uhhpc.herts.ac.uk/panstarrs-healpix", "tiles"),
}
"""Servers by the names that [offsets] method accepts."""


def _get(address: str, query: dict[str, str] | None = None) -> str:
    """Text of an answer; OSError (urllib's errors are such) when none comes."""
    if query:
        address = f"{address}?{urllib.parse.urlencode(query)}"
    request = urllib.request.Request(address, headers={"User-Agent": "ddfpipe"})
    with urllib.request.urlopen(request, timeout=TIMEOUT_S) as answer:
        return answer.read().decode("utf-8", "replace")


def parse_csv(text: str, ra: str, dec: str) -> np.ndarray:
    """(n, 2) degrees from comma-separated text with a header that names both columns."""
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    head = [name.strip().strip('"').lower() for name in lines[0].split(",")] if lines else []
    try:
        columns = [head.index(name.lower()) for name in (ra, dec)]
    except ValueError:
        raise BadAnswer(f"no columns {ra} and {dec} in: {text.strip()[:150]!r}") from None
    try:
        rows = [line.split(",") for line in lines[1:]]
        found = np.array([[float(row[c] or "nan") for c in columns] for row in rows], float)
    except (ValueError, IndexError) as error:
        raise BadAnswer(f"not a table of numbers ({error})") from error
    return _checked(found.reshape(-1, 2))


def parse_plain(text: str) -> np.ndarray:
    """(n, 2) degrees from lines that begin with right ascension and declination."""
    rows = [line.replace(",", " ").split()[:2] for line in text.splitlines()
            if line.strip() and line.lstrip()[0] in "+-.0123456789"]
    if text.lstrip()[:1] == "<" or (text.strip() and not rows):
        raise BadAnswer(f"not a list of positions: {text.strip()[:150]!r}")
    try:
        found = np.array(rows, float).reshape(-1, 2)
    except ValueError as error:
        raise BadAnswer(f"not a list of positions ({error})") from error
    return _checked(found)


def _checked(found: np.ndarray) -> np.ndarray:
    found = found[np.isfinite(found).all(axis=1)]
    if found.size and (abs(found[:, 1]).max() > 90.0 or abs(found[:, 0]).max() > 360.0):
        raise BadAnswer("positions that are no degrees")
    return found


def reachable(address: str, timeout: float = 5.0) -> bool:
    """Whether anything answers at the host of an address (no catalogue is asked for)."""
    parts = urllib.parse.urlsplit(address)
    port = parts.port or {"http": 80, "https": 443}.get(parts.scheme, 80)
    try:
        with socket.create_connection((parts.hostname or "", port), timeout=timeout):
            return True
    except OSError:
        return False
