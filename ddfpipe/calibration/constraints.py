"""Join the solutions of the frequency pieces of one observation; clip outliers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from ddfpipe.calibration.gains import GainTable, nearest_interval
from ddfpipe.errors import SolveError


def merge(tables: Sequence[GainTable], sigma_clip: float | None = None) -> GainTable:
    """One table on the union of the frequency intervals of several, ascending in frequency.

    tables: one a measurement set, of the same observation and directions.  The time grid is that
    of the table with most intervals; the others are looked up by nearest interval, flagged where
    they have none within half an interval.  Stations are the union, in order of first appearance;
    a station a table lacks is flagged in its channels.  sigma_clip: see `clip_amplitudes`.
    Raises SolveError when directions or correlations differ or no table is given.
    """
    if not tables:
        raise SolveError("no solutions to merge; give at least one table")
    tables = sorted(tables, key=lambda t: t.freq_edges[0, 0])
    grid = max(tables, key=lambda t: len(t.time_edges)).time_edges
    names = list(dict.fromkeys(name for t in tables for name in t.ant_names))
    first = tables[0]
    for other in tables[1:]:
        if other.n_corr != first.n_corr or other.directions.shape != first.directions.shape \
                or not np.allclose(other.directions, first.directions, atol=1e-6, equal_nan=True):
            raise SolveError("solutions to be merged differ in directions or correlations; solve "
                             "all measurement sets with the same cluster catalogue and mode")
    parts = [_regrid(t, grid, names) for t in tables]
    error = None
    if all(t.error is not None for t in tables):
        error = np.concatenate([p[1] for p in parts], axis=1)
    positions = None
    if all(t.ant_pos is not None for t in tables):
        where = {n: p for t in tables for n, p in zip(t.ant_names, t.ant_pos, strict=True)}
        positions = np.array([where[n] for n in names])
    merged = GainTable(grid.copy(), np.concatenate([t.freq_edges for t in tables]),
                       np.concatenate([p[0] for p in parts], axis=1), names, first.directions,
                       error=error, flag=np.concatenate([p[2] for p in parts], axis=1),
                       ant_pos=positions, meta=dict(first.meta))
    order = np.argsort(merged.freqs, kind="stable")
    merged = replace(merged, freq_edges=merged.freq_edges[order], gains=merged.gains[:, order],
                     error=None if error is None else error[:, order], flag=merged.flag[:, order])
    return merged if sigma_clip is None else clip_amplitudes(merged, sigma_clip)


def _regrid(table: GainTable, grid: np.ndarray,
            names: list[str]) -> tuple[np.ndarray, np.ndarray | None, np.ndarray]:
    """Gains, errors and flags of a table on a time grid and a list of stations."""
    centres = grid.mean(axis=1)
    index = nearest_interval(table.time_edges, centres)
    edges = table.time_edges[index]
    half = (grid[:, 1] - grid[:, 0]) / 2
    gap = np.maximum(np.maximum(edges[:, 0] - centres, centres - edges[:, 1]), 0.0)
    absent = gap > half + 1e-6
    shape = (len(grid), table.gains.shape[1], len(names)) + table.gains.shape[3:]
    gains = np.zeros(shape, table.gains.dtype)
    gains[..., [0, -1]] = 1.0
    error = None if table.error is None else np.full(shape, np.inf, table.error.dtype)
    flag = np.ones(shape, bool)
    where = [names.index(name) for name in table.ant_names]
    gains[:, :, where] = table.gains[index]
    flag[:, :, where] = table.flag[index] | absent[:, None, None, None, None]
    if error is not None:
        error[:, :, where] = table.error[index]
    return gains, error, flag


def clip_amplitudes(table: GainTable, sigma: float) -> GainTable:
    """Replace outlying amplitudes by the median over time; phases stay.

    An amplitude is an outlier when its logarithm is more than `sigma` robust standard deviations
    from the median over time of its channel, station, direction and hand.  Full-Jones matrices are
    scaled as a whole by the size of their diagonal.
    """
    size = np.abs(table.gains) if table.n_corr < 4 else np.sqrt(
        (np.abs(table.gains[..., [0]]) ** 2 + np.abs(table.gains[..., [3]]) ** 2) / 2)
    bad = table.flag if table.n_corr < 4 else table.flag.any(axis=-1, keepdims=True)
    log = np.where(bad, np.nan, np.log(np.maximum(size, 1e-12)))
    known = np.isfinite(log).any(axis=0)
    middle = np.zeros(log.shape[1:])
    middle[known] = np.nanmedian(log[:, known], axis=0)
    spread = np.zeros(log.shape[1:])
    spread[known] = 1.4826 * np.nanmedian(np.abs(log - middle)[:, known], axis=0)
    # Amplitudes that never vary (phase-only tables) have no outliers below one per mille.
    outlier = np.abs(log - middle) > sigma * np.maximum(spread, 1e-3)
    factor = np.where(outlier, np.exp(middle - np.where(outlier, log, 0.0)), 1.0)
    gains = table.gains * factor.astype(table.gains.real.dtype)
    error = None if table.error is None else (table.error * factor).astype(table.error.dtype)
    return replace(table, gains=gains, error=error)
