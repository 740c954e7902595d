"""Brute-force Fourier sums in double precision: the truth for tiny problems.

Written from docs/conventions.md alone; shares no code with the package.
"""

from __future__ import annotations

import numpy as np

C = 299792458.0
OMEGA = 7.2921150e-5  # rad/s


def delay(uvw, l, m):
    """(u l + v m + w (n-1))/c in seconds: uvw (..., 3), l and m (k,) -> (..., k)."""
    l, m = np.asarray(l, float), np.asarray(m, float)
    return uvw @ np.stack([l, m, np.sqrt(1 - l**2 - m**2) - 1]) / C


def vis_of_points(uvw, freq, l, m, flux):
    """(..., chan) complex128 visibilities of points; flux (k,) or (k, chan)."""
    flux = np.asarray(flux, float)
    flux = flux[:, None] if flux.ndim == 1 else flux
    tau = delay(uvw, np.atleast_1d(l), np.atleast_1d(m))
    return (np.exp(2j * np.pi * tau[..., None] * np.asarray(freq)) * flux).sum(-2)


def dirty_at(uvw, freq, vis, weight, l, m):
    """Sum of w Re(V exp(-i phase)) at directions l, m (k,); all rows and channels."""
    tau = delay(uvw, np.atleast_1d(l), np.atleast_1d(m))
    phase = np.exp(-2j * np.pi * tau[..., None] * np.asarray(freq))
    wv = (np.asarray(weight) * vis)[..., None, :]
    return (wv * phase).real.sum(tuple(range(uvw.ndim - 1)) + (-1,))


def box_lm(facet, cell):
    """(l, m), each (ny, nx), of the pixels of a facet's box."""
    y = facet.y0 + np.arange(facet.ny)
    x = facet.x0 + np.arange(facet.nx)
    l, m = -(x - facet.npix // 2) * cell, (y - facet.npix // 2) * cell
    return np.broadcast_to(l[None], (y.size, x.size)), np.broadcast_to(m[:, None], (y.size, x.size))


def project(xyz, hour_angle, dec):
    """uvw (nt, n, 3) of equatorial baselines xyz (n, 3) m at hour angles (nt,) rad.

    Thompson, Moran & Swenson 2017, equation 4.1.
    """
    h = np.asarray(hour_angle)[:, None]
    x, y, z = xyz.T
    s, c, sd, cd = np.sin(h), np.cos(h), np.sin(dec), np.cos(dec)
    return np.stack([x * s + y * c, -sd * c * x + sd * s * y + cd * z,
                     cd * c * x - cd * s * y + sd * z], axis=-1)


def stations(n, rng, radius=20e3):
    """Equatorial station positions (n, 3), crowded in the middle like LOFAR's."""
    r = radius * rng.uniform(0, 1, n) ** 2
    a = rng.uniform(0, 2 * np.pi, n)
    lat = np.radians(52.9)
    e, nn, up = r * np.cos(a), r * np.sin(a), rng.normal(0, 10, n)
    return np.stack([-np.sin(lat) * nn + np.cos(lat) * up, e,
                     np.cos(lat) * nn + np.sin(lat) * up], axis=1)


def observation(n_ant=8, n_time=6, dt=8.0, n_chan=4, seed=0, radius=20e3, dec=0.9,
                freq0=140e6, width=97656.25, hour_angle=-0.4):
    """dict of ant1, ant2, uvw (time, bl, 3), freq, width, dt, dec, times, xyz baselines."""
    rng = np.random.default_rng(seed)
    pos = stations(n_ant, rng, radius)
    ant1, ant2 = np.triu_indices(n_ant, 1)
    xyz = pos[ant2] - pos[ant1]
    times = dt * np.arange(n_time)
    ha = hour_angle + OMEGA * times
    return dict(ant1=ant1, ant2=ant2, xyz=xyz, uvw=project(xyz, ha, dec), ha=ha, times=times,
                freq=freq0 + width * np.arange(n_chan), width=width, dt=dt, dec=dec, n_ant=n_ant)
