"""Smooth solutions in frequency and time: TEC phases and polynomial amplitudes.

Phases of a station and direction, relative to a reference station, are dispersive delays plus a
constant of the instrument: φ(t, ν) = -8.45e9 x(t) / ν + c, x in TECU.  The fit maximises
Σ_ν w cos(φ_obs - φ) over a grid of x, which knows no wraps, then refines; neighbouring times
decide between branches that the band alone cannot tell apart.  Log-amplitudes are polynomials in
frequency, whose coefficients change over time as smoothly as their noise lets one see (drift.py).
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numba import njit

from ddfpipe.calibration.drift import smooth_gains, smooth_series
from ddfpipe.calibration.gains import GainTable, reference_to
from ddfpipe.errors import SolveError
from ddfpipe.units import TEC_PHASE

MAX_TEC = 0.6
"""Reach of the search in TECU: some 40 rad at 120 MHz."""

GRID_PHASE = 0.4
"""Step of the search, in radians at the lowest frequency."""

TURN_COST = 0.5
"""Penalty, in units of the fit's weight for one radian squared, per squared radian (at mid band)
between neighbouring times."""

DEFAULT_ERROR = 0.1
"""Phase error in radians assumed for tables that state none."""


@njit(cache=True, nogil=True)
def _search(unit, weight, kappa, constant, centre, pull, grid, out):
    """Best x of each time: unit (n_time, n_chan) unit phasors, weight alike, centre (n_time,)."""
    n_time, n_chan = unit.shape
    rotor = np.empty(n_chan, np.complex128)
    value = np.empty(n_chan, np.complex128)
    for t in range(n_time):
        best = -1e300
        for f in range(n_chan):
            # The grid is uniform: one multiplication a step turns a phasor, no sine is needed.
            if grid.size > 1:
                rotor[f] = np.exp(-1j * kappa[f] * (grid[1] - grid[0]))
            if grid.size > 0:
                value[f] = weight[t, f] * unit[t, f] * np.exp(-1j * (kappa[f] * grid[0] + constant))
        for i in range(grid.size):
            score = -0.5 * pull[t] * (grid[i] - centre[t]) ** 2
            for f in range(n_chan):
                score += value[f].real
                value[f] *= rotor[f]
            if score > best:
                best = score
                out[t] = grid[i]
        for _ in range(4):  # Newton on the smooth maximum
            slope = -pull[t] * (out[t] - centre[t])
            curve = pull[t] + 1e-300
            for f in range(n_chan):
                turn = kappa[f] * out[t] + constant
                c, s = np.cos(turn), np.sin(turn)
                sine = unit[t, f].imag * c - unit[t, f].real * s
                cosine = unit[t, f].real * c + unit[t, f].imag * s
                slope += weight[t, f] * kappa[f] * sine
                curve += weight[t, f] * kappa[f] ** 2 * max(cosine, 0.1)
            out[t] += slope / curve


def _running_median(values: np.ndarray, known: np.ndarray, half: int = 2) -> np.ndarray:
    """Median of the known values within `half` places, (n,); the nearest known where none is."""
    n = len(values)
    where = np.flatnonzero(known)
    if not len(where):
        return np.zeros(n)
    out = np.empty(n)
    for t in range(n):
        near = where[np.abs(where - t) <= half]
        out[t] = np.median(values[near]) if len(near) else \
            values[where[np.argmin(np.abs(where - t))]]
    return out


def fit_tec(phasor: np.ndarray, weight: np.ndarray, freqs: np.ndarray,
            with_constant: bool) -> tuple[np.ndarray, float]:
    """TEC of one station and direction: (x (n_time,) in TECU, constant c in rad).

    phasor: (n_time, n_chan) complex, phases matter; weight: same shape, inverse phase variances,
    zero where flagged; freqs: (n_chan,) Hz.  with_constant: fit one c for all times (needs a band
    wide enough, three channels or more), else c = 0.
    """
    unit = np.exp(1j * np.angle(phasor))
    kappa = TEC_PHASE / freqs
    step = GRID_PHASE / np.abs(kappa).max()
    grid = step * np.arange(-int(MAX_TEC / step), int(MAX_TEC / step) + 1)
    known = weight.sum(axis=1) > 0
    weight = np.minimum(weight, 1e6)
    x = np.zeros(len(unit))
    if not known.any():
        return x, 0.0
    pull = TURN_COST * (kappa**2).mean() * weight.max(axis=1)
    pull[~known] = pull[known].max()
    constant = _first_constant(unit, weight, kappa, grid) if with_constant else 0.0
    # A first look that prefers small TEC by a hair, then neighbours decide between branches.
    _search(unit, weight, kappa, constant, x.copy(), 1e-3 * pull, grid, x)
    for _ in range(4):
        centre = _running_median(x, known)
        _search(unit, weight, kappa, constant, centre, 0.1 * pull, grid, x)
        if with_constant:
            constant = _refine_jointly(unit, weight, kappa, constant, x)
    none = np.zeros(len(unit))
    _search(unit, weight, kappa, constant, x.copy(), none, np.zeros(0), x)
    x[~known] = _running_median(x, known)[~known]
    return x, constant


def _first_constant(unit: np.ndarray, weight: np.ndarray, kappa: np.ndarray,
                    grid: np.ndarray) -> float:
    """The constant, on a grid of a twelfth of a turn, that lets a TEC fit the best times best."""
    best = np.argsort(-weight.sum(axis=1), kind="stable")[:16]
    unit, weight = np.ascontiguousarray(unit[best]), np.ascontiguousarray(weight[best])
    x, none = np.zeros(len(best)), np.zeros(len(best))
    score = []
    # Towards small constants first: of equally good ones the smallest is taken.
    trials = sorted(np.arange(-6, 6) * np.pi / 6, key=abs)
    for constant in trials:
        _search(unit, weight, kappa, constant, none, none, grid, x)
        fit = np.exp(-1j * (kappa * x[:, None] + constant))
        score.append(float((weight * (unit * fit).real).sum()))
    return float(trials[int(np.argmax(score))])


def _refine_jointly(unit: np.ndarray, weight: np.ndarray, kappa: np.ndarray, constant: float,
                    x: np.ndarray) -> float:
    """One linear least-squares step of all x (in place) and the constant together.

    Taking turns would crawl: over a narrow band a TEC and a constant look much alike.
    """
    residual = np.angle(unit * np.exp(-1j * (kappa * x[:, None] + constant)))
    square = (weight * kappa**2).sum(axis=1)
    square = np.where(square > 0, square, 1.0)
    lean = (weight * kappa).sum(axis=1) / square
    free = 1.0 - kappa * lean[:, None]  # the part of the constant that no x can imitate
    step = (weight * free * residual).sum() / max((weight * free * free).sum(), 1e-300)
    x += (weight * kappa * (residual - step)).sum(axis=1) / square
    return float(np.angle(np.exp(1j * (constant + step))))


def _phase_fit(table: GainTable, weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Smoothed phases like table.gains and, per (ant, dir, corr), whether the fit was taken.

    A fit is refused where its χ² is significantly above the number of its degrees of freedom:
    then the phases are no dispersive delay, and the solutions are better left alone.
    """
    n_time, n_chan, n_ant, n_dir, n_corr = table.gains.shape
    phases = np.angle(table.gains).astype(np.float64)
    taken = np.zeros((n_ant, n_dir, n_corr), bool)
    kappa = TEC_PHASE / table.freqs
    for p in range(n_ant):
        for d in range(n_dir):
            for h in range(n_corr):
                w = np.ascontiguousarray(weight[:, :, p, d, h])
                observed = np.ascontiguousarray(table.gains[:, :, p, d, h], np.complex128)
                if not w.any():
                    continue
                x, constant = fit_tec(observed, w, table.freqs, n_chan >= 3)
                fit = kappa * x[:, None] + constant
                miss = np.angle(observed * np.exp(-1j * fit))
                used = w > 0
                freedom = used.sum() - (used.any(axis=1).sum() + (n_chan >= 3))
                chi2 = float((w * miss**2).sum())
                limit = max(freedom, 0) + 5 * np.sqrt(2.0 * max(freedom, 1)) + freedom
                if chi2 <= limit or freedom <= 0:
                    taken[p, d, h] = True
                    phases[:, :, p, d, h] = fit if freedom > 0 else phases[:, :, p, d, h]
    return phases, taken


def _amplitude_fit(table: GainTable, weight: np.ndarray, order: int) -> np.ndarray:
    """Smoothed log-amplitudes like table.gains: polynomial in frequency, smooth in time."""
    n_time, n_chan, n_ant, n_dir, n_corr = table.gains.shape
    log = np.log(np.maximum(np.abs(table.gains), 1e-6)).astype(np.float64)
    shape = (n_time, n_chan, n_ant * n_dir * n_corr)
    fit = smooth_series(
        log.reshape(shape), np.minimum(weight, 1e6).reshape(shape), table.times, table.freqs,
        np.repeat(np.arange(n_ant), n_dir * n_corr), order,
    )
    return fit.reshape(table.gains.shape)


def tie_table(table: GainTable) -> GainTable:
    """Gains of all times and channels smoothed as far as their noise asks for (see drift.py).

    For gains of slow causes, full Jones matrices included: stations, and what faster solutions have
    left.  Errors and flags stay what they were: the stated errors are upper bounds afterwards.
    """
    error = DEFAULT_ERROR * np.abs(table.gains) if table.error is None else table.error
    usable = ~table.flag & np.isfinite(error)
    if table.n_corr == 4:
        usable &= usable.all(axis=-1, keepdims=True)
    floor = np.maximum(error, 1e-4 * np.maximum(np.abs(table.gains), 1e-6))
    weight = np.where(usable, 1.0 / np.where(usable, floor, 1.0).astype(np.float64) ** 2, 0.0)
    gains = smooth_gains(table.gains.astype(np.complex128), weight, table.times, table.freqs)
    gains = np.where(usable, gains, table.gains).astype(table.gains.dtype)
    return replace(table, gains=gains, meta={**table.meta, "Tied": 1})


def smooth_table(table: GainTable, mode: str = "TEC,PolyAmp", amp_order: int = 3) -> GainTable:
    """Smoothed gains at the table's own time and frequency intervals.

    mode: comma-separated: "TEC" fits phases, "PolyAmp" amplitudes.  amp_order: order of the
    polynomial in frequency (lower with few channels; with a single channel phases stay, since one
    phase is always a TEC, and amplitudes are smoothed in time).
    Weights come from the table's errors.  Flagged gains are filled from the fit where any channel
    of that time, station and direction had data, and lose their flag.  Phases come out relative to
    the best station.  Raises SolveError for full-Jones tables and unknown modes.
    """
    kinds = [kind.strip() for kind in mode.split(",") if kind.strip()]
    unknown = set(kinds) - {"TEC", "PolyAmp"}
    if unknown or not kinds:
        raise SolveError(f"unknown smoothing {mode!r}; use TEC, PolyAmp or TEC,PolyAmp")
    if table.n_corr == 4:
        raise SolveError("full-Jones solutions cannot be smoothed as TEC or amplitude; only merge "
                         "them")
    station = int(np.argmin(table.flag.sum(axis=(0, 1, 3, 4))))
    referenced = reference_to(table, table.ant_names[station])
    amplitude = np.maximum(np.abs(referenced.gains), 1e-6)
    relative = DEFAULT_ERROR if table.error is None else table.error / amplitude
    relative = np.broadcast_to(np.maximum(relative, 1e-4), table.gains.shape)
    # Phases relative to the reference carry its noise too.
    own = relative[:, :, [station]]
    relative = np.hypot(relative, np.where(np.isfinite(own), own, 0.0))
    # Where the reference is missing, phases are relative to another station: no use to a fit.
    usable = ~table.flag & np.isfinite(relative) & ~table.flag[:, :, [station]]
    weight = np.where(usable, 1.0 / np.where(usable, relative, 1.0) ** 2, 0.0)
    phases, log_amp = np.angle(referenced.gains), np.log(amplitude)
    filled = np.zeros(table.flag.shape, bool)
    if "TEC" in kinds:
        phases, taken = _phase_fit(referenced, weight)
        filled = taken[None, None] & (weight > 0).any(axis=1, keepdims=True)
    if "PolyAmp" in kinds:
        fit = _amplitude_fit(referenced, weight, amp_order)
        log_amp = np.where(weight.any(axis=(0, 1)), fit, log_amp)
    gains = np.exp(log_amp + 1j * phases).astype(table.gains.dtype)
    return replace(table, gains=gains, flag=table.flag & ~filled,
                   meta={**table.meta, "SmoothMode": mode})
