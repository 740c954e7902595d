"""Direction-independent full-Jones errors: gains that drift, clocks, leakage."""

from __future__ import annotations

import numpy as np

from ddfpipe.simulate.spec import StationErrors
from ddfpipe.units import MINUTE

N_WAVES = 8


def _drifts(rng: np.random.Generator, shape: tuple[int, ...], times: np.ndarray, scale: float):
    """Smooth random functions (time, *shape) of unit variance, defined for all times.

    Each is a sum of waves with periods of 1 to 4 times 2 pi `scale` (s), so that the realisation
    does not depend on which times are asked for.
    """
    rate = 1.0 / (scale * rng.uniform(1.0, 4.0, (N_WAVES, *shape)))
    phase = rng.uniform(0, 2 * np.pi, (N_WAVES, *shape))
    out = np.zeros((len(times), *shape))
    for k in range(N_WAVES):
        out += np.cos(times.reshape((-1,) + (1,) * len(shape)) * rate[k] + phase[k])
    return out * np.sqrt(2.0 / N_WAVES)


def station_jones(
    spec: StationErrors, times: np.ndarray, freq: np.ndarray, n_ant: int, rng: np.random.Generator
) -> np.ndarray:
    """Jones matrices (time, ant, chan, 2, 2), complex128.

    times: s; freq: Hz.  The same `rng` state gives the same stations at any times and
    frequencies.  Station 0 has errors like the others: nothing is referenced.
    """
    times = times - times[0]
    scale = spec.timescale_min * MINUTE
    log_amp = spec.amplitude_rms * _drifts(rng, (n_ant, 2), times, scale)
    phase = spec.phase_rms_rad * _drifts(rng, (n_ant, 2), times, scale)
    clock = spec.clock_rms_ns * 1e-9 * rng.standard_normal(n_ant)
    leak = rng.standard_normal((n_ant, 2, 2)) @ np.array([1.0, 1.0j]) / np.sqrt(2.0)
    diagonal = np.exp(log_amp + 1j * phase)
    delay = np.exp(2j * np.pi * clock[:, None] * np.asarray(freq)[None, :])
    out = np.zeros((len(times), n_ant, len(freq), 2, 2), complex)
    for hand in range(2):
        gain = diagonal[:, :, None, hand] * delay[None]
        out[..., hand, hand] = gain
        out[..., hand, 1 - hand] = gain * (spec.leakage_rms * leak[:, hand])[None, :, None]
    return out
