"""How large a measurement set is, found at once: for estimates, where a scan would take minutes.

`ms.read_metadata` reads whole columns and checks every row; here a table of hundreds of gigabytes
is asked for a few rows, on the assumption that the rows of a time slot follow one another; where
they do not, all times are read and all stations are taken to be in use.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from ddfpipe.data.ms import open_table
from ddfpipe.data.stations import is_international
from ddfpipe.errors import DataError


@dataclass(frozen=True, eq=False)
class SetSize:
    """Extent of one measurement set.

    positions: (n_ant, 3) f8, ITRF metres, of the stations with cross correlations.
    times: (n_time,) f8, MJD seconds, ascending.  interval: seconds.
    freqs: (n_chan,) f8, Hz.
    """

    positions: np.ndarray
    times: np.ndarray
    interval: float
    freqs: np.ndarray

    @property
    def n_ant(self) -> int:
        """Stations."""
        return len(self.positions)

    @property
    def n_bl(self) -> int:
        """Baselines without autocorrelations."""
        return self.n_ant * (self.n_ant - 1) // 2

    @property
    def n_time(self) -> int:
        """Time slots."""
        return len(self.times)

    @property
    def n_chan(self) -> int:
        """Channels."""
        return len(self.freqs)

    @property
    def visibilities(self) -> int:
        """Samples of one correlation."""
        return self.n_time * self.n_bl * self.n_chan

    @cached_property
    def lengths(self) -> np.ndarray:
        """(n_bl,) f8, ascending: lengths of the baselines in metres."""
        first, second = np.triu_indices(self.n_ant, 1)
        apart = self.positions[first] - self.positions[second]
        return np.sort(np.sqrt(np.sum(apart**2, axis=1)))

    def share(self, low: float, high: float) -> float:
        """Part of the baselines between two lengths in metres."""
        if not self.n_bl:
            return 0.0
        return float(np.mean((self.lengths >= low) & (self.lengths <= high)))


def read_set_size(path: str | Path, drop_international: bool = False) -> SetSize:
    """Extent of the measurement set `path`, from a few of its rows.

    drop_international: leave out the stations that are not Dutch.
    Raises DataError when it is missing, cannot be read, or has no rows.
    """
    path = Path(path)
    if not path.is_dir():
        raise DataError(f"{path}: does not exist; check the name in the list of measurement sets")
    with open_table(path / "ANTENNA") as table:
        names = tuple(table.getcol("NAME"))
        positions = np.asarray(table.getcol("POSITION"), float)
    with open_table(path / "SPECTRAL_WINDOW") as table:
        freqs = np.asarray(table.getcell("CHAN_FREQ", 0), float)
    with open_table(path) as main:
        if main.nrows() == 0:
            raise DataError(f"{path}: has no rows; leave it out of the list")
        interval = float(main.getcell("INTERVAL", 0))
        stations, a_slot = _slot(main, len(names))
        times = _times(main, a_slot, interval)
    if drop_international:
        with open_table(path / "OBSERVATION") as table:
            telescope = str(table.getcell("TELESCOPE_NAME", 0))
        stations = [a for a in stations if not is_international(names[a], telescope)]
    return SetSize(positions[stations], times, interval, np.sort(freqs))


def _slot(main: Any, n_ant: int) -> tuple[list[int], int]:
    """(stations with cross correlations, rows of a time slot), from the head and the middle."""
    most = n_ant * (n_ant + 1) // 2
    rows, stations, a_slot, ordered = main.nrows(), set(), 1, True
    for start in (0, rows // 2):
        count = min(2 * most, rows - start)
        time, ant1, ant2 = (main.getcol(c, start, count) for c in ("TIME", "ANTENNA1", "ANTENNA2"))
        cross = ant1 != ant2
        stations |= set(ant1[cross].tolist()) | set(ant2[cross].tolist())
        ordered = ordered and bool(np.all(np.diff(time) >= 0))
        a_slot = max(a_slot, int(np.unique(time, return_counts=True)[1].max()))
    if not ordered or a_slot < len(stations) - 1:
        return list(range(n_ant)), 1
    return sorted(a for a in stations if a < n_ant), a_slot


def _times(main: Any, a_slot: int, interval: float) -> np.ndarray:
    """(n_time,) MJD seconds: the times of every `a_slot`-th row, each slot once."""
    count = -(-main.nrows() // a_slot)
    every = np.unique(main.getcol("TIME", 0, count, a_slot))
    return every[np.r_[True, np.diff(every) > 0.25 * interval]]
