"""Solved phases against the phases of the simulation, with the errors that the solver states."""

from __future__ import annotations

from pathlib import Path

import numpy as np

WELL_KNOWN = 0.1
"""Stated error in rad below which a phase has to keep its word."""


def true_gains(truth, index: int, owner: np.ndarray, n_dir: int, weight: np.ndarray) -> np.ndarray:
    """(time, ant, dir) gain towards each direction in the middle channel: station errors times
    ionosphere, the mean of what the direction's sources see, weighted by apparent flux."""
    towards = truth.direction_gains(index)
    middle = towards.shape[3] // 2
    towards = towards[..., middle]
    power = np.abs(towards).mean(axis=(0, 1)) ** 2
    share = weight * power
    out = np.zeros((*towards.shape[:2], n_dir), complex)
    for d in range(n_dir):
        mine = np.flatnonzero(owner == d)
        out[..., d] = (towards[..., mine] * share[mine]).sum(axis=-1) / max(share[mine].sum(), 1e-9)
    jones = truth.station_jones(index)[:, :, middle]
    return out * np.exp(1j * 0.5 * np.angle(jones[..., 0, 0] * jones[..., 1, 1]))[..., None]


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


def phases(run: Path, field: Path, sets: tuple[str, ...], di: str) -> dict:
    """Ratio of true to stated phase errors of the product of solution sets, gauge removed.

    sets: direction-dependent sets, the first one states the errors.  di: full-Jones set applied
    before.  The gauge is one phase a direction and time, common to all stations.
    """
    from ddfpipe.data.clusters import read_clusters
    from ddfpipe.data.solutions import load_solution
    from ddfpipe.naming import CLUSTERS
    from ddfpipe.simulate.truth import read_truth

    truth = read_truth(field)
    a = truth.arrays
    catalogue = read_clusters(run / CLUSTERS)
    lm = np.stack(catalogue.lm(*a["centre"]), axis=1)
    owner = np.argmin(np.hypot(*(a["source_lmn"][:, None, :2] - lm).transpose(2, 0, 1)), axis=1)
    ratios, errors = [], []
    for index, ms in enumerate(str(name) for name in a["ms"]):
        freq = float(a[f"freq_{index}"][len(a[f"freq_{index}"]) // 2])
        true = true_gains(truth, index, owner, len(lm), a["source_flux"])
        found, stated = at(load_solution(run / "SOLSDIR", ms, sets[0]), a["time"], freq)
        for name in sets[1:]:
            found = found * at(load_solution(run / "SOLSDIR", ms, name), a["time"], freq)[0]
        found = found * at(load_solution(run / "SOLSDIR", ms, di), a["time"], freq)[0]
        difference = np.exp(1j * np.angle(found * np.conj(true)))
        good = np.isfinite(stated) & (stated < WELL_KNOWN)
        weight = np.where(good, 1 / np.maximum(stated, 1e-3) ** 2, 0)
        gauge = (difference * weight).sum(axis=1, keepdims=True)
        left = np.angle(difference * np.conj(gauge))
        ratios.append(np.where(good, left / np.maximum(stated, 1e-6), np.nan))
        errors.append(np.where(good, left, np.nan))
    ratio, error = np.array(ratios), np.array(errors)
    per_direction = np.sqrt(np.nanmean(ratio**2, axis=(0, 1, 2)))
    return {
        "phases_well_known": float(np.isfinite(ratio).mean()),
        "phase_error_rms": float(np.sqrt(np.nanmean(error**2))),
        "phase_error_over_stated": float(np.sqrt(np.nanmean(ratio**2))),
        "phase_error_over_stated_median": float(1.4826 * np.nanmedian(np.abs(ratio))),
        "phase_error_over_stated_by_direction": [round(float(x), 2) for x in per_direction],
        "phase_error_by_direction":
            [round(float(x), 3) for x in np.sqrt(np.nanmean(error**2, axis=(0, 1, 2)))],
    }
