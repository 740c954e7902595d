"""Gains against the truth, gauge removed; what of the unknown flux they took up."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ddfpipe.calibration.gains import align_gauge

from .field import Field, observe


@dataclass(frozen=True)
class Quality:
    """phase: rms phase error in rad by (core, remote) and third of the directions by flux (2, 3).
    amplitude: rms error of ln|g| over all.  model_error: power of the error of the model's
    visibilities over that of the noise.  absorbed: share of the unknown flux that went into gains
    (nan where there is none)."""

    phase: np.ndarray
    amplitude: float
    model_error: float
    absorbed: float

    @property
    def overall(self) -> float:
        """rms phase error of all stations and directions, rad."""
        return float(np.sqrt(np.mean(self.phase**2)))


def thirds(n_dir: int) -> list[np.ndarray]:
    """Directions, in order of falling flux, in three parts."""
    return np.array_split(np.arange(n_dir), 3)


def judge(field: Field, gains: np.ndarray, slots: list[slice], channels: list[slice]) -> Quality:
    """Gains (time, chan, ant, dir, hand) of the intervals `slots` x `channels` against the truth.

    One phase for each direction, hand and interval is free and taken out with the core's weight.
    """
    truth = field.true_gains(slots, channels)
    if gains.shape[-1] > truth.shape[-1]:
        truth = np.repeat(truth, gains.shape[-1], axis=-1)
    elif gains.shape[-1] < truth.shape[-1]:
        gains = np.repeat(gains, truth.shape[-1], axis=-1)
    gains = np.where(np.isfinite(gains), gains, 1.0)
    aligned = align_gauge(gains, truth)
    error = np.angle(aligned * np.conj(truth))
    core = np.arange(error.shape[2]) < field.case.core
    phase = np.array([[np.sqrt(np.mean(error[:, :, part][:, :, :, some] ** 2))
                       for some in thirds(error.shape[3])] for part in (core, ~core)])
    size = np.log(np.maximum(np.abs(aligned), 1e-3) / np.abs(truth))
    model_error, absorbed = visibilities(field, gains, truth, slots, channels)
    return Quality(phase, float(np.sqrt(np.mean(size**2))), model_error, absorbed)


def spread_gains(gains: np.ndarray, field: Field, slots, channels) -> np.ndarray:
    """(time, chan, ant, dir, hand) of intervals to (time, ant, dir, hand, chan) of samples."""
    n_time, n_chan = len(field.layout.times), len(field.freq)
    out = np.ones((n_time, *gains.shape[2:], n_chan), np.complex64)
    for i, t in enumerate(slots):
        for j, c in enumerate(channels):
            out[t, ..., c] = gains[i, j][..., None]
    return out


def visibilities(field: Field, gains, truth, slots, channels) -> tuple[float, float]:
    """(model error, absorbed share): see Quality."""
    sky, known = field.sky, ~field.sky.missing
    apart = []
    for some in (gains, truth):
        each = spread_gains(some, field, slots, channels)[:, :, sky.owner]
        apart.append(observe(field.layout, field.freq, sky, known, each))
    excess = apart[0] - apart[1]
    noise = 2 * max(field.case.noise, 1e-9) ** 2
    error = float(np.mean(np.abs(excess) ** 2, dtype=np.float64)) / noise
    if field.missed.size == 1:
        return error, float("nan")
    hands = excess.shape[2] // field.missed.shape[2]
    missed = np.repeat(field.missed, hands, axis=2)
    power = np.vdot(missed, missed).real
    return error, float(np.vdot(missed, excess).real / power)
