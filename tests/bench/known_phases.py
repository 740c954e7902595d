"""Solved phases against the phases of the simulation, with the errors that the solver states."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from pathlib import Path

import numpy as np

WELL_KNOWN = 0.1
"""Stated error in rad below which a phase has to keep its word."""

ROUNDS = 20
"""Times that phases are wrapped anew around the shift of their direction."""

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


def station_uvw(ms: Path) -> np.ndarray:
    """(time, ant, 2) u, v in m of every station, from its baseline with the first one."""
    from casacore.tables import table

    with table(str(ms), ack=False) as main:
        ant1, ant2 = main.getcol("ANTENNA1"), main.getcol("ANTENNA2")
        time, uvw = main.getcol("TIME"), main.getcol("UVW")
    first = (ant1 == 0) & (ant2 != 0)
    n_ant = int(ant2.max()) + 1
    _, slot = np.unique(time[first], return_inverse=True)
    out = np.zeros((slot.max() + 1, n_ant, 2))
    out[slot, ant2[first]] = uvw[first, :2]
    return out


def without_shift(left: np.ndarray, weight: np.ndarray, uv: np.ndarray, freq: np.ndarray):
    """(phases less those of a constant shift of each direction, shifts (dir, 2) in arcsec).

    Whoever calibrates on his own image cannot know where on the sky a direction lies, nor the phase
    that all stations share.  Far stations turn by more than half a circle for a shift that is
    nothing beside the beam, so phases are wrapped anew around each shift that is found.
    left, weight: (ms, time, ant, dir); uv: (time, ant, 2) m; freq: (ms,) Hz.
    """
    basis = 2 * np.pi * uv[None] * (freq / 299792458.0)[:, None, None, None]
    out, shifts = np.empty_like(left), []
    for d in range(left.shape[-1]):
        w = weight[..., d]
        # The gauge of each time goes with the mean over stations.
        centred = basis - (basis * w[..., None]).sum(2, keepdims=True) / np.maximum(
            w.sum(2), 1e-9)[:, :, None, None]
        normal = np.einsum("mtai,mtaj,mta->ij", centred, centred, w)
        shift = np.zeros(2)
        for _ in range(ROUNDS):
            turned = np.exp(1j * (left[..., d] - basis @ shift))
            rest = np.angle(turned * np.conj((turned * w).sum(2, keepdims=True)))
            pull = np.einsum("mtai,mta,mta->i", centred, rest, w)
            step = np.linalg.lstsq(normal, pull)[0]
            shift += step
        out[..., d] = rest - centred @ step
        shifts.append(np.rad2deg(shift) * 3600)
    return out, np.array(shifts)


@dataclass
class Difference:
    """Gains that a run found in a measurement set over those of the simulation."""

    gain: np.ndarray
    """(interval, ant, dir) means over solution intervals; only its phases mean anything."""
    errors: list
    """(time, ant, dir) rad that each solution set states; infinite where it did not solve."""
    slots: np.ndarray
    """(time,) solution interval of each time."""
    spread: np.ndarray
    """(ant, dir) rad, as of `true_gains`."""


class Comparison:
    """The gains of a run beside those of the simulation, measurement set by measurement set.

    Truth is averaged over each interval of the first solution set, for a gain is constant there.
    """

    def __init__(self, run: Path, field: Path):
        from ddfpipe.data.clusters import read_clusters
        from ddfpipe.naming import CLUSTERS
        from ddfpipe.simulate.truth import read_truth

        self.solutions, self.truth = run / "SOLSDIR", read_truth(field)
        a = self.truth.arrays
        lm = np.stack(read_clusters(run / CLUSTERS).lm(*a["centre"]), axis=1)
        apart = a["source_lmn"][:, None, :2] - lm
        self.owner = np.argmin(np.hypot(*apart.transpose(2, 0, 1)), axis=1)
        self.n_dir = len(lm)
        self.flux, self.size = a["source_flux"], a["source_size"][:, 0]
        self.sets = [str(name) for name in a["ms"]]
        channels = [a[f"freq_{index}"] for index in range(len(self.sets))]
        self.freqs = np.array([freq[len(freq) // 2] for freq in channels])
        self.uv = station_uvw(field / self.sets[0])

    def of_set(self, index: int, names: list[str], flux: np.ndarray) -> Difference:
        """The product of solution sets over the truth; sources count by `flux` (source,)."""
        from ddfpipe.calibration.gains import interpolate_index
        from ddfpipe.data.solutions import load_solution

        times, freq = self.truth.arrays["time"], self.freqs[index]
        true, spread = true_gains(self.truth, index, self.owner, self.n_dir, flux)
        tables = [load_solution(self.solutions, self.sets[index], name) for name in names]
        gains, errors = zip(*(at(table, times, freq) for table in tables), strict=True)
        slots = interpolate_index(tables[0], times, np.array([freq]))[0]
        unit = np.exp(1j * np.angle(prod(gains) * np.conj(true)))
        return Difference(interval_means(unit, slots), list(errors), slots, spread)


def phases(run: Path, field: Path, sets: tuple[str, ...], di: str) -> dict:
    """Ratio of true to stated phase errors of the product of solution sets, gauge removed.

    sets: direction-dependent sets, the first one states the errors.  di: full-Jones set applied
    before.  The gauge is one phase a direction and time, common to all stations.  "Expected" adds
    the spread of what the sources of a direction see to the stated error, and leaves its shift on
    the sky out.
    """
    both = Comparison(run, field)
    compact = np.where(both.size < LARGE, both.flux, 0)
    lefts, known, spreads = [], [], []
    for index in range(len(both.sets)):
        found = both.of_set(index, [*sets, di], compact)
        stated = interval_means(found.errors[0], found.slots)
        good = np.isfinite(stated) & (stated < WELL_KNOWN)
        weight = np.where(good, 1 / np.maximum(stated, 1e-3) ** 2, 0)
        gauge = (found.gain * weight).sum(axis=1, keepdims=True)
        left = np.angle(found.gain * np.conj(gauge))
        lefts.append(left)
        known.append(np.where(good, np.maximum(stated, 1e-6), np.inf))
        spreads.append(np.broadcast_to(found.spread, left.shape))
    left, known = np.array(lefts), np.array(known)
    moved, shifts = without_shift(
        left, np.where(np.isfinite(known), known**-2.0, 0), interval_means(both.uv, found.slots),
        both.freqs,
    )
    ratio = np.where(np.isfinite(known), left / known, np.nan)
    error = np.where(np.isfinite(known), left, np.nan)
    held = np.where(np.isfinite(known), moved / np.hypot(known, np.array(spreads)), np.nan)
    per_direction = np.sqrt(np.nanmean(ratio**2, axis=(0, 1, 2)))
    return {
        "phase_error_over_expected": float(np.sqrt(np.nanmean(held**2))),
        "phase_error_over_expected_by_direction":
            [round(float(x), 2) for x in np.sqrt(np.nanmean(held**2, axis=(0, 1, 2)))],
        "shift_of_directions_arcsec": [round(float(x), 2) for x in np.hypot(*shifts.T)],
        "phases_well_known": float(np.isfinite(ratio).mean()),
        "phase_error_rms": float(np.sqrt(np.nanmean(error**2))),
        "phase_error_over_stated": float(np.sqrt(np.nanmean(ratio**2))),
        "phase_error_over_stated_median": float(1.4826 * np.nanmedian(np.abs(ratio))),
        "phase_error_over_stated_by_direction": [round(float(x), 2) for x in per_direction],
        "phase_error_by_direction":
            [round(float(x), 3) for x in np.sqrt(np.nanmean(error**2, axis=(0, 1, 2)))],
    }
