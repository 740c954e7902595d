"""From the rows of a measurement set to the regular grid (time, baseline, channel, correlation).

Pure bookkeeping on arrays: which row belongs where, which correlations mean what, and the uvw of
rows that a measurement set lacks.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ddfpipe.errors import DataError

LINEAR = (9, 10, 11, 12)
_STOKES_OF = {
    # Hamaker & Bregman 1996, A&AS 117, 161: Stokes parameters in linear and circular feeds.
    "I": {"RR": 0.5, "LL": 0.5}, "Q": {"RL": 0.5, "LR": 0.5},
    "U": {"RL": -0.5j, "LR": 0.5j}, "V": {"RR": 0.5, "LL": -0.5},
}
_CIRCULAR = {5: "RR", 6: "RL", 7: "LR", 8: "LL"}
_FROM_STOKES = np.array([[1, 1, 0, 0], [0, 0, 1, 1j], [0, 0, 1, -1j], [1, -1, 0, 0]])


def correlation_matrix(types: tuple[int, ...]) -> np.ndarray:
    """Matrix (4, n_corr) c16 that turns stored correlations into XX, XY, YX, YY.

    `types` are CORR_TYPE numbers (Stokes, circular or linear, in any order, parallel hands only,
    or a single one).  What is not stored is taken as zero, a lone hand as unpolarised.  Raises
    DataError when Stokes I cannot be formed from `types`.
    """
    known = set(types)
    if known <= set(LINEAR) and known & {9, 12}:
        matrix = (np.array(LINEAR)[:, None] == np.array(types)).astype(complex)
        if 9 not in known or 12 not in known:
            matrix[0] = matrix[3] = matrix[0] + matrix[3]
        return matrix
    if known <= set(_CIRCULAR) and known & {5, 8}:
        stokes = np.array([[_STOKES_OF[s].get(_CIRCULAR[t], 0) for t in types] for s in "IQUV"])
        if not {5, 8} <= known:
            stokes[0] *= 2
            stokes[3] = 0
        return _FROM_STOKES @ stokes
    if known <= {1, 2, 3, 4} and 1 in known:
        return _FROM_STOKES[:, [t - 1 for t in types]].astype(complex)
    raise DataError(f"correlation types {types} are not supported: needed are XX and YY, RR and "
                    "LL, or Stokes I")


@dataclass(frozen=True, eq=False)
class RowMap:
    """Where each row of a measurement set lies on the grid.

    slot, bl: (n_rows,) i4; bl is -1 for rows that are left out.  swap: (n_rows,) bool, rows with
    ANTENNA1 > ANTENNA2.  ant1, ant2: (n_bl,) i4.  present: (n_time, n_bl) bool.
    """

    slot: np.ndarray
    bl: np.ndarray
    swap: np.ndarray
    ant1: np.ndarray
    ant2: np.ndarray
    present: np.ndarray


def map_rows(time: np.ndarray, ant1: np.ndarray, ant2: np.ndarray, slots: np.ndarray,
             keep_ant: np.ndarray) -> RowMap:
    """Place rows with `time` (s) and stations `ant1`, `ant2` on the slots (n_time,) given.

    Autocorrelations and rows with a station not in `keep_ant` (n_ant,) bool are left out.  Raises
    DataError when two rows fall on the same place, or none on any.
    """
    n_ant = len(keep_ant)
    low, high = np.minimum(ant1, ant2), np.maximum(ant1, ant2)
    use = (low != high) & keep_ant[low] & keep_ant[high]
    if not use.any():
        raise DataError("has no cross correlations of the stations asked for")
    pair = low.astype(np.int64) * n_ant + high
    pairs = np.flatnonzero(np.bincount(pair[use], minlength=1))
    number = np.full(n_ant * n_ant, -1, np.int32)
    number[pairs] = np.arange(len(pairs))
    bl = np.where(use, number[pair], -1).astype(np.int32)
    slot = np.searchsorted((slots[1:] + slots[:-1]) / 2, time).astype(np.int32)
    present = np.zeros((len(slots), len(pairs)), bool)
    present[slot[use], bl[use]] = True
    if np.count_nonzero(present) != np.count_nonzero(use):
        raise DataError(f"{np.count_nonzero(use) - np.count_nonzero(present)} rows repeat the "
                        "time and baseline of another row; the set was probably joined twice")
    return RowMap(slot, bl, ant1 > ant2, (pairs // n_ant).astype(np.int32),
                  (pairs % n_ant).astype(np.int32), present)


def to_linear(data: np.ndarray, types: tuple[int, ...]) -> np.ndarray:
    """`data` (rows, n_chan, n_corr) as XX, XY, YX, YY: (rows, n_chan, 4) c8."""
    if types == LINEAR:
        return data.astype(np.complex64, copy=False)
    matrix = correlation_matrix(types).astype(np.complex64)
    # Flagged samples may be infinite: their products with zero are of no consequence here.
    with np.errstate(invalid="ignore", over="ignore"):
        return data.astype(np.complex64, copy=False) @ matrix.T


def from_linear(vis: np.ndarray, types: tuple[int, ...]) -> np.ndarray:
    """Inverse of `to_linear` for what `types` can hold: (rows, n_chan, n_corr) c8."""
    if types == LINEAR:
        return vis.astype(np.complex64, copy=False)
    inverse = np.linalg.pinv(correlation_matrix(types)).astype(np.complex64)
    return vis.astype(np.complex64, copy=False) @ inverse.T


def swap_stations(vis: np.ndarray, rows: np.ndarray) -> None:
    """Exchange the two stations of the `rows` (bool) of `vis` (rows, chan, 4): V_qp = V_pq^H."""
    if rows.any():
        vis[rows] = vis[rows][..., [0, 2, 1, 3]].conj()


def fill_uvw(uvw: Any, present: np.ndarray, ant1: np.ndarray, ant2: np.ndarray,
             ant_pos: np.ndarray) -> int:
    """Fill the uvw (n_time, n_bl, 3; m) where not `present`, in place; returns how many slots.

    At one instant uvw is a linear function of the ITRF baseline (Thompson, Moran & Swenson 2017,
    eq. 4.1), found here from the baselines of the slot that are there.  A slot whose baselines do
    not fix it (fewer than three, all parallel, or not consistent with the station positions)
    keeps zeros; the weights of all these samples are zero in any case.
    """
    baseline = ant_pos[ant2] - ant_pos[ant1]
    filled = 0
    for slot in np.flatnonzero(~present.all(axis=1)):
        there = present[slot]
        uvw[slot, ~there] = 0
        if np.count_nonzero(there) < 3:
            continue
        known = np.asarray(uvw[slot, there])
        turn, _, rank, _ = np.linalg.lstsq(baseline[there], known, rcond=1e-6)
        error = np.abs(baseline[there] @ turn - known).max()
        if rank >= 2 and error <= 1e-3 * np.abs(known).max():
            uvw[slot, ~there] = baseline[~there] @ turn
            filled += 1
    return filled
