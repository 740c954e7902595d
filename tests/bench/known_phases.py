"""Solved phases against the phases of the simulation, with the errors that the solver states."""

from __future__ import annotations

from pathlib import Path

import numpy as np

WELL_KNOWN = 0.1
"""Stated error in rad below which a phase has to keep its word."""

LARGE = 60 * np.pi / 648000
"""Sources of this width (60 arcsec) and more say nothing of the gains of long baselines."""


def true_gains(truth, index: int, owner: np.ndarray, n_dir: int, weight: np.ndarray) -> tuple:
    """Gain towards each direction in the middle channel, and the spread of phases about it.

    (time, ant, dir): station errors times ionosphere, the mean of what the direction's sources see,
    weighted by the square of the apparent flux: sources far apart are incoherent, and a fit follows
    the power of each.  (ant, dir) rad: their rms about that mean, less its own mean over stations,
    within which no one phase is the true one.
    """
    towards = truth.direction_gains(index)
    middle = towards.shape[3] // 2
    towards = towards[..., middle]
    power = (np.abs(towards) ** 2).mean(axis=(0, 1))
    share = (weight * power) ** 2
    out = np.zeros((*towards.shape[:2], n_dir), complex)
    spread = np.zeros((towards.shape[1], n_dir))
    for d in range(n_dir):
        mine = np.flatnonzero(owner == d)
        part = share[mine] / max(share[mine].sum(), 1e-12)
        out[..., d] = towards[..., mine] @ part
        apart = np.angle(towards[..., mine] * np.conj(out[..., d, None]))
        apart -= apart.mean(axis=1, keepdims=True)
        spread[:, d] = np.sqrt(((apart**2) @ part).mean(axis=0))
    jones = truth.station_jones(index)[:, :, middle]
    station = np.exp(1j * 0.5 * np.angle(jones[..., 0, 0] * jones[..., 1, 1]))
    return out * station[..., None], spread


def at(table, times: np.ndarray, freq: float):
    """(gain (time, ant, dir), error in rad (time, ant, dir)) of a scalar or diagonal table."""
    from ddfpipe.calibration.gains import interpolate_index

    time_index, chan_index = interpolate_index(table, times, np.array([freq]))
    gain, bad = table.gains[time_index, chan_index[0]], table.flag[time_index, chan_index[0]]
    error = np.zeros(gain.shape)
    if table.error is not None:
        error = table.error[time_index, chan_index[0]] / np.maximum(np.abs(gain), 1e-9)
    error = np.where(bad, np.inf, error)
    if gain.shape[-1] > 1:
        hands = [0, -1]
        phase = 0.5 * np.angle(np.prod(gain[..., hands], axis=-1))
        return np.exp(1j * phase), np.sqrt((error[..., hands] ** 2).mean(axis=-1))
    return gain[..., 0], error[..., 0]


def interval_means(values: np.ndarray, slots: np.ndarray) -> np.ndarray:
    """Means over the times (first axis) that share a solution interval; `slots` (time,)."""
    return np.stack([values[slots == k].mean(axis=0) for k in np.unique(slots)])


def phases(run: Path, field: Path, sets: tuple[str, ...], di: str) -> dict:
    """Ratio of true to stated phase errors of the product of solution sets, gauge removed.

    sets: direction-dependent sets, the first one states the errors.  di: full-Jones set applied
    before.  The gauge is one phase a direction and time, common to all stations.  Truth is averaged
    over each solution interval, for a gain is constant there.
    """
    from ddfpipe.calibration.gains import interpolate_index
    from ddfpipe.data.clusters import read_clusters
    from ddfpipe.data.solutions import load_solution
    from ddfpipe.naming import CLUSTERS
    from ddfpipe.simulate.truth import read_truth

    truth = read_truth(field)
    a = truth.arrays
    catalogue = read_clusters(run / CLUSTERS)
    lm = np.stack(catalogue.lm(*a["centre"]), axis=1)
    owner = np.argmin(np.hypot(*(a["source_lmn"][:, None, :2] - lm).transpose(2, 0, 1)), axis=1)
    ratios, errors, ambiguous = [], [], []
    for index, ms in enumerate(str(name) for name in a["ms"]):
        freq = float(a[f"freq_{index}"][len(a[f"freq_{index}"]) // 2])
        compact = np.where(a["source_size"][:, 0] < LARGE, a["source_flux"], 0)
        true, spread = true_gains(truth, index, owner, len(lm), compact)
        table = load_solution(run / "SOLSDIR", ms, sets[0])
        found, stated = at(table, a["time"], freq)
        slots = interpolate_index(table, a["time"], np.array([freq]))[0]
        for name in sets[1:]:
            found = found * at(load_solution(run / "SOLSDIR", ms, name), a["time"], freq)[0]
        found = found * at(load_solution(run / "SOLSDIR", ms, di), a["time"], freq)[0]
        difference = interval_means(np.exp(1j * np.angle(found * np.conj(true))), slots)
        stated = interval_means(stated, slots)
        good = np.isfinite(stated) & (stated < WELL_KNOWN)
        weight = np.where(good, 1 / np.maximum(stated, 1e-3) ** 2, 0)
        gauge = (difference * weight).sum(axis=1, keepdims=True)
        left = np.angle(difference * np.conj(gauge))
        ratios.append(np.where(good, left / np.maximum(stated, 1e-6), np.nan))
        errors.append(np.where(good, left, np.nan))
        ambiguous.append(left / np.hypot(np.maximum(stated, 1e-6), spread))
    ratio, error = np.array(ratios), np.array(errors)
    per_direction = np.sqrt(np.nanmean(ratio**2, axis=(0, 1, 2)))
    defined = np.where(np.isfinite(ratio), np.array(ambiguous), np.nan)
    return {
        "phase_error_over_stated_and_spread": float(np.sqrt(np.nanmean(defined**2))),
        "phase_error_over_stated_and_spread_by_direction":
            [round(float(x), 2) for x in np.sqrt(np.nanmean(defined**2, axis=(0, 1, 2)))],
        "phases_well_known": float(np.isfinite(ratio).mean()),
        "phase_error_rms": float(np.sqrt(np.nanmean(error**2))),
        "phase_error_over_stated": float(np.sqrt(np.nanmean(ratio**2))),
        "phase_error_over_stated_median": float(1.4826 * np.nanmedian(np.abs(ratio))),
        "phase_error_over_stated_by_direction": [round(float(x), 2) for x in per_direction],
        "phase_error_by_direction":
            [round(float(x), 3) for x in np.sqrt(np.nanmean(error**2, axis=(0, 1, 2)))],
    }
