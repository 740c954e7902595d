"""The four correlations of a measurement set, corrected, less a model, and on a flux scale.

Nothing is written: what a selection asks for is done to each slice of time when it is read.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ...calibration import apply
from ...calibration.gains import GainTable, as_jones, interpolate_index
from ...data import solutions
from ...data.scales import load_factors
from ...data.viscache import VisCache
from ...naming import factors_file


@dataclass(frozen=True)
class Taken:
    """What is taken out of the visibilities of a measurement set.

    vis : (time, bl, chan) complex64 Jy, of both parallel hands
    key : of what it was predicted from
    """

    vis: np.ndarray
    key: str


@dataclass(frozen=True)
class Reader:
    """The four correlations of a measurement set as a `VisSelection` asks for them.

    pre, di : tables applied first and last, or None; minus : what is taken out between the two;
    scale : what the data are multiplied by after that
    """

    cache: VisCache
    pre: GainTable | None = None
    minus: Taken | None = None
    di: GainTable | None = None
    scale: float = 1.0

    @property
    def tables(self) -> list[GainTable]:
        """The tables that are applied: a sample without any of them is of no use."""
        return [table for table in (self.pre, self.di) if table is not None]

    def __call__(self, part: slice) -> np.ndarray:
        """(time, bl, chan, 4) complex64 Jy of a slice of time; zero without a correction."""
        vis = np.ascontiguousarray(self.cache.vis[part])
        if self.pre is not None:
            vis = self._corrected(self.pre, part, vis)
        if self.minus is not None:
            vis = np.array(vis)
            vis[..., [0, 3]] -= self.minus.vis[part][..., None]
        if self.scale != 1.0:
            vis = vis * np.float32(self.scale)
        return vis if self.di is None else self._corrected(self.di, part, vis)

    def _corrected(self, table: GainTable, part: slice, vis: np.ndarray) -> np.ndarray:
        cache, good = self.cache, np.empty_like(vis)
        time_index, chan_index = interpolate_index(table, cache.time[part], cache.freq)
        apply.correct(
            vis, inverse_jones(table), time_index, chan_index, cache.ant1, cache.ant2, good
        )
        return good

    def stokes_i(self, part: slice) -> np.ndarray:
        """(time, bl, chan) complex64 Jy of a slice of time."""
        if self.tables:
            vis = self(part)
            return 0.5 * (vis[..., 0] + vis[..., 3])
        vis = self.cache.stokes_i(part.start, part.stop)
        vis = vis if self.minus is None else vis - self.minus.vis[part]
        return vis if self.scale == 1.0 else vis * np.float32(self.scale)

    def key(self) -> str:
        """Key of what was read (path, column, stations, contents) and what was done to it."""
        return self._key(self.cache.path.name)

    def content_key(self) -> str:
        """As `key`, but the same wherever the measurement set lies."""
        cache = self.cache
        return self._key(f"{cache.name} {cache.column} {cache.meta['drop_international']}")

    def _key(self, source: str) -> str:
        fingerprint = json.dumps(self.cache.meta["fingerprint"], sort_keys=True, default=str)
        digest = hashlib.sha256(f"{source} {fingerprint}".encode())
        if self.minus is not None:
            digest.update(f" minus {self.minus.key}".encode())
        if self.scale != 1.0:
            digest.update(f" scale {self.scale!r}".encode())
        for name, table in (("pre", self.pre), ("di", self.di)):
            if table is not None:
                digest.update(f" {name} ".encode())
                for array in (table.gains, table.flag, table.time_edges, table.freq_edges):
                    digest.update(np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()[:16]


def open_reader(
    cache: VisCache, selection, solsdir: Path, subtractor=None, workdir: Path | None = None
) -> Reader:
    """The visibilities of a cache as a selection (or a ColumnsJob) asks for them.

    subtractor : function of a cache to a `Taken`; needed where `selection.minus` is given
    workdir : folder of the flux-scale tables; needed where `selection.scale` is given

    Raises
    ------
    SolveError : a table of gains cannot be read; DataError : one of factors cannot
    """
    pre, di = (
        solutions.load_solution(solsdir, cache.name, name) if name else None
        for name in (selection.pre_di, selection.di)
    )
    minus = None
    if selection.minus is not None:
        if subtractor is None:
            raise AssertionError(f"{cache.name} is to be read without {selection.minus}, but "
                                 "nobody says how")
        minus = subtractor(cache)
    return Reader(cache, pre, minus, di, _scale(cache, selection.scale, workdir))


def _scale(cache: VisCache, root: str | None, workdir: Path | None) -> float:
    """Factor of a measurement set on the flux scale `root`, one without any."""
    if root is None:
        return 1.0
    if workdir is None:
        raise AssertionError(f"{cache.name} is to be read on the flux scale {root}, but nobody "
                             "says where its tables lie")
    return load_factors(workdir / factors_file(root, cache.observation)).of(cache.freq)


def inverse_jones(table: GainTable) -> np.ndarray:
    """(n_time, n_chan, n_ant, 4) inverse of the Jones matrices of a table's first direction.

    Zero where a table of any number of correlations is flagged or singular.
    """
    jones = as_jones(np.where(table.flag, 0, table.gains)[:, :, :, 0, :])
    return apply.invert_jones(jones.reshape(*jones.shape[:-2], 4))
