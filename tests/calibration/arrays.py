"""A small array, a sky and gains with known statistics, for the tests of the solvers."""

from __future__ import annotations

import numpy as np

from ddfpipe.calibration import priors

SPEED_OF_LIGHT = 299792458.0


class Simulation:
    """Stations in a core and on arms; phases drawn from the priors' own family.

    Phases: Ornstein-Uhlenbeck in time with covariance over directions; log-amplitudes constant in
    time, their mean over stations zero in each direction.
    """

    def __init__(self, *, n_core=14, n_remote=8, flux=(10.0, 3.0, 1.0, 0.4), n_time=4, n_chan=8,
                 sigma=1.0, correlation_time=600.0, variance=4.0, length=0.04, amplitude=0.03,
                 common=0.0, seed=1, interval=60.0):
        self.rng = np.random.default_rng(seed)
        self.n_ant, self.n_dir = n_core + n_remote, len(flux)
        self.n_time, self.n_chan, self.sigma, self.interval = n_time, n_chan, sigma, interval
        self.ant1, self.ant2 = np.triu_indices(self.n_ant, 1)
        radius = np.append(self.rng.uniform(50, 1500, n_core), np.geomspace(4e3, 6e4, n_remote))
        angle = self.rng.uniform(0, 2 * np.pi, self.n_ant)
        self.position = np.stack([radius * np.cos(angle), radius * np.sin(angle),
                                  np.zeros(self.n_ant)], axis=1)
        self.lm = self.rng.uniform(-0.04, 0.04, (self.n_dir, 2))
        self.flux = np.asarray(flux, float)
        self.hyper = priors.Hyperparameters(length, variance, correlation_time, 1.0)
        factor = priors.station_factor(self.position)
        kernel = priors.direction_covariance(self.lm, length)
        self._root, self._size = np.linalg.cholesky(kernel), np.sqrt(variance * factor)[:, None]
        self._alpha = np.exp(-interval / correlation_time)
        self._phase = self._draw()
        log_amp = amplitude * self.rng.normal(size=(self.n_ant, self.n_dir))
        self.amplitude = np.exp(log_amp - log_amp.mean(axis=0))
        self.common = common * self.rng.normal(size=self.n_ant)
        self.step = 0

    def _draw(self):
        return self._size * (self.rng.normal(size=(self.n_ant, self.n_dir)) @ self._root.T)

    def predict(self, lm, flux):
        """Visibilities (n, n_time, n_bl, n_chan) of point sources on a rotating flat array."""
        uv = (self.position[self.ant2] - self.position[self.ant1])[:, :2]
        freqs = 150e6 + 2e5 * np.arange(self.n_chan)
        out = np.empty((len(flux), self.n_time, len(uv), self.n_chan), np.complex64)
        for t in range(self.n_time):
            turn = 7.3e-5 * self.interval * (self.step + t / self.n_time)
            rotation = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
            delay = (uv @ rotation) @ np.asarray(lm).T
            for s in range(len(flux)):
                out[s, t] = flux[s] * np.exp(2j * np.pi * delay[:, s, None] * freqs
                                             / SPEED_OF_LIGHT)
        return out

    def corrupt(self, gains, model):
        """Σ_d g_pd conj(g_qd) M_d, (n_time, n_bl, n_chan)."""
        return np.einsum("bd,dtbc->tbc", gains[self.ant1] * np.conj(gains[self.ant2]), model)

    def next(self, missing=None):
        """(arguments of add_interval, true gains (n_ant, n_dir), visibilities of the missing).

        missing: (lm (n, 2), flux (n,), direction index (n,)) of sources that the model lacks.
        """
        if self.step:
            self._phase = self._alpha * self._phase + np.sqrt(1 - self._alpha**2) * self._draw()
        gains = self.amplitude * np.exp(1j * (self._phase + self.common[:, None]))
        model = self.predict(self.lm, self.flux)
        vis = self.corrupt(gains, model)
        extra = None
        if missing is not None:
            lm, flux, index = missing
            extra = self.corrupt(gains[:, index], self.predict(lm, flux))
            vis = vis + extra
        noise = self.rng.normal(size=vis.shape) + 1j * self.rng.normal(size=vis.shape)
        data = (vis + self.sigma * np.sqrt(0.5) * noise).astype(np.complex64)
        weight = np.full(vis.shape, 1 / self.sigma**2 if self.sigma else 1.0, np.float32)
        edge = (self.interval * self.step, self.interval * (self.step + 1))
        self.step += 1
        arguments = dict(time_edge=edge, model=model, data=data, weight=weight,
                         chan_block=np.zeros(self.n_chan, int))
        return arguments, gains, extra

    def array(self):
        """Keyword arguments of DirectionalSolver that describe the array and the sky."""
        return dict(ant1=self.ant1, ant2=self.ant2, n_ant=self.n_ant, ant_pos=self.position,
                    directions=self.lm, freq_edges=np.array([[149e6, 152e6]]))
