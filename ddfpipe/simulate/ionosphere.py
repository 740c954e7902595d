"""A thin, frozen, turbulent screen of electrons blown over the array.

The two-dimensional power spectrum (k^2 + k_outer^2)^(-11/6) (von Karman) gives the structure
function D(r) = (r / r_diff)^(5/3) of Kolmogorov turbulence well below the outer scale; r_diff is
the diffractive scale at 150 MHz of Mevius et al. 2016 (Radio Science 51, 927).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import map_coordinates, spline_filter

from ddfpipe.simulate.spec import Ionosphere
from ddfpipe.units import DEGREE, TEC_PHASE

REFERENCE_FREQ = 150e6


def _amplitudes(spec: Ionosphere) -> np.ndarray:
    """Square root of the power of each mode of the grid, normalised to `diffractive_km`.

    The normalisation is of the ensemble: its structure function at the diffractive scale (or at
    four pixels, where that is larger) is that of the Kolmogorov law.
    """
    n, pixel = spec.npix, spec.pixel_km
    ky = np.fft.fftfreq(n, pixel)[:, None]
    kx = np.fft.rfftfreq(n, pixel)[None, :]
    power = (kx**2 + ky**2 + 1.0 / spec.outer_km**2) ** (-11.0 / 6.0)
    power[0, 0] = 0.0
    covariance = np.fft.irfft2(power, s=(n, n))
    lag = int(np.clip(round(spec.diffractive_km / pixel), 4, n // 8))
    wanted = (lag * pixel / spec.diffractive_km) ** (5.0 / 3.0)
    found = 2.0 * (covariance[0, 0] - covariance[0, lag])
    found *= (TEC_PHASE / REFERENCE_FREQ) ** 2
    return np.sqrt(power * wanted / found)


@dataclass(frozen=True)
class TecScreen:
    """Vertical TEC on a periodic grid, interpolated by cubic splines.

    grid (y, x) in TECU, spline-filtered; pixel in m; wind (east, north) in m/s; start in s.
    """

    grid: np.ndarray
    pixel: float
    wind: tuple[float, float]
    start: float

    def vertical(self, east: np.ndarray, north: np.ndarray, times: np.ndarray) -> np.ndarray:
        """TEC (TECU) above points (time, ...) on the array's tangent plane (m) at times (s)."""
        shape = (-1,) + (1,) * (east.ndim - 1)
        passed = (np.asarray(times) - self.start).reshape(shape)
        x = (east - self.wind[0] * passed) / self.pixel
        y = (north - self.wind[1] * passed) / self.pixel
        coordinates = [y.ravel(), x.ravel()]
        tec = map_coordinates(self.grid, coordinates, order=3, mode="grid-wrap", prefilter=False)
        return tec.reshape(x.shape)


def make_screen(spec: Ionosphere, start: float, rng: np.random.Generator) -> TecScreen:
    """Draw a screen; `start` (s) is the time at which it lies unshifted above the array."""
    noise = rng.standard_normal((spec.npix, spec.npix))
    # White noise filtered by the amplitudes has the covariance irfft2(power) used above.
    screen = np.fft.irfft2(np.fft.rfft2(noise) * _amplitudes(spec), s=noise.shape)
    angle = spec.wind_pa_deg * DEGREE
    wind = (spec.wind_m_s * np.sin(angle), spec.wind_m_s * np.cos(angle))
    grid = spline_filter(screen, order=3, mode="grid-wrap")
    return TecScreen(grid, spec.pixel_km * 1e3, wind, start)
