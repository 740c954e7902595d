"""What is known of gains before the data are looked at.

A gain is exp(a + i φ).  Log-amplitudes a scatter about the mean of their direction with a few per
cent.  Phases of a station are a part common to all directions (clock, the ionosphere overhead),
which may be anything and walks freely, plus a differential part with covariance

    S_p = s² f_p [(1 - ε) exp(-(θ/L)^1.5) + ε I]

over directions θ apart: ionospheric phase with the 5/3 law of Kolmogorov turbulence in the
distance d_p of the station from the array's centre, f_p = min(1, d_p / 40 km)^(5/3), and an
Ornstein-Uhlenbeck process of correlation time τ in time.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

NUGGET = 0.01
"""ε, the share of the differential phase that is independent from direction to direction."""

REACH = 40e3
"""Distance in metres at which a station sees the full differential phase."""

FLOOR = 1e-3
"""Least f_p: stations in the core still have small instrumental differences."""

COMMON_VARIANCE = np.pi**2
"""Variance in rad² of the phase common to all directions before the first interval."""

COMMON_RATE = 1.0 / 60.0
"""Growth of the variance of the common phase of the farthest stations, rad²/s."""


@dataclass(frozen=True)
class Hyperparameters:
    """length: L in radians.  variance: s² in rad².  correlation_time: τ in s.

    temper: factor F by which the statistics are divided: the model's own error is not white noise,
    and F > 1 keeps the gains from chasing it.
    amplitude: factor on the option amplitude_prior.
    """

    length: float = 0.04
    variance: float = 4.0
    correlation_time: float = 300.0
    temper: float = 1.0
    amplitude: float = 1.0


def direction_distance(directions: np.ndarray) -> np.ndarray:
    """(n_dir, n_dir) distances in radians of directions (n_dir, 2) in l, m."""
    difference = directions[:, None, :] - directions[None, :, :]
    return np.hypot(difference[..., 0], difference[..., 1])


def direction_covariance(directions: np.ndarray, length: float) -> np.ndarray:
    """(n_dir, n_dir) correlation matrix of the differential phase; length in radians."""
    kernel = np.exp(-(direction_distance(directions) / length) ** 1.5)
    return (1 - NUGGET) * kernel + NUGGET * np.eye(len(directions))


def station_factor(ant_pos: np.ndarray) -> np.ndarray:
    """f_p of each station, (n_ant,), from positions (n_ant, 3) in metres.

    The centre is the median position, which lies in the core of an array like LOFAR.
    """
    distance = np.linalg.norm(ant_pos - np.median(ant_pos, axis=0), axis=1)
    return np.clip(distance / REACH, FLOOR**0.6, 1.0) ** (5 / 3)


def amplitude_trend(log_amp: np.ndarray, factor: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """Mean of log-amplitudes and their trend with f_p, (n_ant, n_dir), by least squares.

    A model blurred by decoherence lacks flux on long baselines.  Amplitudes that grow outwards make
    up for it and so keep the blur in the next image; real stations do not know how far from the
    core they stand.  log_amp: (n_ant, n_dir); factor: (n_ant,) f_p; seen: (n_ant,) bool, stations
    that take part.  Arrays without extent have no trend, only a mean.
    """
    if not seen.any():
        return np.zeros(log_amp.shape)
    spread = factor - factor[seen].mean()
    basis = np.ones((len(factor), 1))
    if np.ptp(factor[seen]) > 0.1:
        basis = np.stack([np.ones(len(factor)), spread], axis=1)
    fit = np.linalg.lstsq(basis[seen], log_amp[seen], rcond=None)[0]
    return basis @ fit
