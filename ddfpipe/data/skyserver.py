"""Sky models from the servers of the LOFAR global sky model and of TGSS.

Both answer with makesourcedb text for a circle on the sky.
"""

from __future__ import annotations

import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

from ddfpipe.data.atomic import atomic_path
from ddfpipe.data.skymodel import read_skymodel
from ddfpipe.errors import ResourceError, SkyModelError
from ddfpipe.units import DEGREE

SERVERS = {
    "GSM": "https://lcs165.lofar.eu/cgi-bin/gsmv1.cgi",
    "TGSS": "http://tgssadr.strw.leidenuniv.nl/cgi-bin/gsmv4.cgi",
}
TIMEOUT = 60.0
"""Seconds without an answer after which a server counts as unreachable."""


def download_skymodel(source: str, centre: tuple[float, float], radius: float, path: Path) -> int:
    """Write the components within `radius` (rad) of `centre` (ra, dec; rad) to `path`.

    Returns how many there are.  Raises ResourceError when the server cannot be reached or does not
    answer as it should; the message names the option for a file instead.
    """
    query = urllib.parse.urlencode({
        "coord": f"{centre[0] / DEGREE:.6f},{centre[1] / DEGREE:.6f}",
        "radius": f"{radius / DEGREE:g}", "unit": "deg", "deconv": "y",
    }, safe=",")
    address = f"{SERVERS[source]}?{query}"
    try:
        with urllib.request.urlopen(address, timeout=TIMEOUT) as answer:
            text = answer.read()
    except (OSError, urllib.error.URLError, ValueError) as error:
        raise ResourceError(_useless(source, address, getattr(error, "reason", error))) from error
    with atomic_path(path) as part:
        part.write_bytes(text)
        try:
            return read_skymodel(part).size
        except SkyModelError as error:
            what = str(error).replace(str(part), "its answer")
            raise ResourceError(_useless(source, address, what)) from error


def _useless(source: str, address: str, why: object) -> str:
    return (
        f"no sky model from the {source} server ({address}): {why}. Set [control] redo_DI_model to "
        "a file with a sky model of the field (makesourcedb text), or redo_DI=False"
    )
