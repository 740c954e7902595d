"""Fetch a catalogue tile by tile: what has come stays, what fails is tried again."""

from __future__ import annotations

import time
import urllib.error
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from ddfpipe.data.images import SkyGrid
from ddfpipe.errors import StageFailed
from ddfpipe.products.refcats.local import read_positions, write_positions
from ddfpipe.products.refcats.servers import SERVERS, BadAnswer, Server
from ddfpipe.products.refcats.tiling import Tile

TRIES = 6
FIRST_WAIT_S, LONGER_S = 5.0, 15.0
"""Wait before the second try, and how much longer before each further one."""


def fetch_catalogue(name: str, grid: SkyGrid, folder: Path, monitor: Any, *,
                    server: str | None = None, tries: int = TRIES,
                    sleep: Callable[[float], None] = time.sleep) -> tuple[np.ndarray, np.ndarray]:
    """(ra, dec) in radians of a catalogue over an image; tiles are kept in `folder`.

    name: key of SERVERS.  server: another address of the same kind.  monitor: is told progress,
    and asked whether to stop, between tiles and while waiting.
    Raises StageFailed when a tile cannot be had; tiles that have come are not fetched again.
    """
    source = SERVERS[name]
    folder.mkdir(parents=True, exist_ok=True)
    tiles = source.tiles(grid)
    files = [folder / f"{name}-{tile.name}.fits" for tile in tiles]
    missing = sum(not file.exists() for file in files)
    if missing:
        monitor.message(f"{name}: {missing} of {len(tiles)} tiles are fetched from "
                        f"{server or source.address}")
    for number, (tile, file) in enumerate(zip(tiles, files)):
        monitor.check()
        if not file.exists():
            found = _fetch(name, source, tile, server, tries, monitor, sleep)
            write_positions(file, *np.radians(found.T))
        monitor.progress("reference catalogue", number + 1, len(tiles))
    parts = [read_positions(file) for file in files]
    ra, dec = (np.concatenate([part[axis] for part in parts]) for axis in (0, 1))
    return unique_positions(ra, dec)


def unique_positions(ra: np.ndarray, dec: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Positions (n,) without the repetitions that overlapping tiles bring."""
    if ra.size == 0:
        return ra, dec
    # Tiles repeat an object to the last digit; no two objects lie within a milliarcsecond.
    key = np.stack([np.rint(np.degrees(ra) * 3.6e6), np.rint(np.degrees(dec) * 3.6e6)], axis=1)
    _, first = np.unique(key, axis=0, return_index=True)
    return ra[first], dec[first]


def _fetch(name: str, source: Server, tile: Tile, server: str | None, tries: int, monitor: Any,
           sleep: Callable[[float], None]) -> np.ndarray:
    """One tile, patiently."""
    why: object = ""
    for attempt in range(tries):
        if attempt:
            wait = FIRST_WAIT_S + LONGER_S * (attempt - 1)
            monitor.message(f"{name}, tile {tile.name}: {why}; again in {wait:.0f} s")
            _wait(wait, monitor, sleep)
        try:
            return source.fetch(tile, server)
        except urllib.error.HTTPError as error:
            why = f"the server refuses ({error.code} {error.reason})"
        except BadAnswer as error:
            why = f"the server's answer cannot be used: {error}"
        except OSError as error:
            why = f"the server cannot be reached ({getattr(error, 'reason', error)})"
    raise StageFailed(
        f"the reference catalogue {name} is not complete: {why}. Tiles that have come are kept; "
        "start again when the network is there, or set [offsets] catalogue_dir or method to files "
        "on disk, or method=None to finish without offsets. Nothing else is lost"
    )


def _wait(seconds: float, monitor: Any, sleep: Callable[[float], None]) -> None:
    """Wait, noticing a stop within a second."""
    while seconds > 0.0:
        monitor.check()
        sleep(min(1.0, seconds))
        seconds -= 1.0
