"""What is observed, with what, and the visibilities that follow."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from ddfpipe.simulate import kernels
from ddfpipe.simulate.geometry import earth_poles, itrf_directions, pierce_points
from ddfpipe.simulate.ionosphere import make_screen
from ddfpipe.simulate.sky import Source, brightness_roots, fluxes, lmn_of, uv_shapes
from ddfpipe.simulate.spec import SimulationSpec
from ddfpipe.simulate.stationerrors import station_jones
from ddfpipe.units import TEC_PHASE

STREAMS = ("sky", "screen", "stations", "noise", "flags", "scale")


def random_stream(seed: int, what: str, index: int = 0) -> np.random.Generator:
    """Independent random numbers for each ingredient, so that switching one off, or changing the
    number of measurement sets, leaves the others as they were."""
    return np.random.default_rng([seed, STREAMS.index(what), index])


@dataclass(frozen=True)
class Layout:
    """Metadata shared by the measurement sets of an observation.

    times (time,): centres, MJD UTC s.  interval: s.  ra0, dec0: phase centre, rad.
    positions (ant, 3): ITRF m.  ant1, ant2 (bl,).  uvw (time, bl, 3): m.
    rotation (time, 3, 3): ITRF to the uvw frame.
    """

    times: np.ndarray
    interval: float
    ra0: float
    dec0: float
    positions: np.ndarray
    ant1: np.ndarray
    ant2: np.ndarray
    uvw: np.ndarray
    rotation: np.ndarray

    @property
    def n_ant(self) -> int:
        return len(self.positions)


@dataclass(frozen=True)
class Corruptions:
    """Gains of one measurement set.

    beam: None, (time, ant, src, chan) or (time, ant, src, chan, 2, 2), complex64.
    ionosphere: None or (time, ant, src, chan) complex64 of unit modulus.
    jones: (time, ant, chan, 2, 2) complex128 of the stations.
    """

    beam: np.ndarray | None
    ionosphere: np.ndarray | None
    jones: np.ndarray


@dataclass(frozen=True)
class Visibilities:
    """(time, bl, chan, corr) complex64 in Jy, XX, XY, YX, YY: data = J sky J^H + noise."""

    corrupted: np.ndarray
    clean: np.ndarray
    noise: np.ndarray


class Realisation:
    """One draw of sky, screen and stations over a layout."""

    def __init__(self, spec: SimulationSpec, layout: Layout, sources: list[Source]):
        self.spec = spec
        self.layout = layout
        self.sources = sources
        ra, dec = np.array([[s.ra, s.dec] for s in sources]).reshape(-1, 2).T
        self.lmn = lmn_of(ra, dec, layout.ra0, layout.dec0)

    @cached_property
    def tec(self) -> np.ndarray | None:
        """Slant TEC (time, ant, src) in TECU, less `centre_removed` times that of the phase centre;
        None without an ionosphere."""
        spec = self.spec.ionosphere
        if spec.diffractive_km <= 0:
            return None
        lay = self.layout
        screen = make_screen(spec, float(lay.times[0]), random_stream(self.spec.seed, "screen"))
        towards = np.concatenate([np.zeros((1, 3)), self.lmn])
        directions = itrf_directions(lay.rotation, towards)
        east, north, slant = pierce_points(lay.positions, directions, spec.height_km * 1e3)
        tec = screen.vertical(east, north, lay.times) * slant
        return tec[..., 1:] - spec.centre_removed * tec[..., :1]

    @cached_property
    def station_noise(self) -> np.ndarray:
        """Noise of each station relative to the nominal one, in amplitude."""
        rng = random_stream(self.spec.seed, "noise")
        spread = self.spec.noise.station_spread
        return np.exp(spread * rng.standard_normal(self.layout.n_ant))

    def ionosphere(self, freq: np.ndarray) -> np.ndarray | None:
        """Phase factors (time, ant, src, chan) complex64."""
        if self.tec is None:
            return None
        return np.exp(1j * self.tec[..., None] * (TEC_PHASE / freq)).astype(np.complex64)

    def jones(self, freq: np.ndarray) -> np.ndarray:
        """Station errors (time, ant, chan, 2, 2) complex128."""
        rng = random_stream(self.spec.seed, "stations")
        return station_jones(self.spec.errors, self.layout.times, freq, self.layout.n_ant, rng)

    def sky_visibilities(
        self, freq: np.ndarray, width: float, gain: np.ndarray | None, threads: int = 1
    ) -> np.ndarray:
        """Direct sum over sources (time, bl, chan, 4) complex128 with gains `gain` (or none)."""
        steps = np.diff(freq)
        if len(steps) and np.ptp(steps) > 1e-9 * abs(freq[0]):
            # The sum over channels is a recurrence in even steps: uneven ones go one by one.
            parts = []
            for c in range(len(freq)):
                some = None if gain is None else gain[:, :, :, c : c + 1]
                parts.append(self.sky_visibilities(freq[c : c + 1], width, some, threads))
            return np.concatenate(parts, axis=2)
        lay = self.layout
        smear = self.spec.smearing
        flux = fluxes(self.sources, freq)
        if gain is None:
            gain = np.ones((1, lay.n_ant, *flux.shape), np.complex64)
            gain = np.broadcast_to(gain, (len(lay.times), *gain.shape[1:]))
        roots = brightness_roots(self.sources, freq)
        if roots is not None:
            matrix = gain if gain.ndim == 6 else gain[..., None, None] * np.eye(2)
            gain = (matrix @ roots).astype(np.complex64)
        full = gain.ndim == 6
        kernel = kernels.predict_jones if full else kernels.predict_scalar
        shape = (*lay.uvw.shape[:2], len(freq))
        out = np.zeros((*shape, 4) if full else shape, complex)
        poles = earth_poles(lay.rotation)
        shapes = uv_shapes(self.sources)

        def part(piece: slice) -> None:
            kernel(
                lay.uvw[piece], poles[piece], lay.ant1, lay.ant2,
                np.ascontiguousarray(gain[piece]), self.lmn, shapes, flux, freq,
                lay.interval if smear else 0.0, width if smear else 0.0,
                self.spec.subsamples if smear else 1, out[piece],
            )

        with ThreadPoolExecutor(max(1, threads)) as pool:
            list(pool.map(part, [slice(t, t + 1) for t in range(shape[0])]))
        if full:
            return out
        vis = np.zeros((*shape, 4), complex)
        vis[..., 0] = vis[..., 3] = out
        return vis

    def flux_scale(self, index: int) -> float:
        """Factor on the visibilities of measurement set `index`."""
        rng = random_stream(self.spec.seed, "scale", index)
        return float(np.exp(self.spec.errors.flux_scale_rms * rng.standard_normal()))

    def noise(self, index: int, shape: tuple[int, ...]) -> np.ndarray:
        """Noise (time, bl, chan, 4) complex64 of measurement set `index`."""
        rng = random_stream(self.spec.seed, "noise", index + 1)
        draw = rng.standard_normal((*shape, 2), dtype=np.float32).view(np.complex64)[..., 0]
        factor = self.station_noise[self.layout.ant1] * self.station_noise[self.layout.ant2]
        sigma = self.spec.noise.sample_jy * np.sqrt(factor)
        return draw * sigma[None, :, None, None].astype(np.float32)

    def visibilities(
        self, index: int, freq: np.ndarray, width: float, gains: Corruptions, threads: int = 1
    ) -> Visibilities:
        """Corrupted and clean sky (without noise) and noise of measurement set `index`."""
        clean = self.sky_visibilities(freq, width, gains.beam, threads)
        through = clean
        if gains.ionosphere is not None:
            gain = gains.ionosphere
            if gains.beam is not None:
                extra = (1, 1) if gains.beam.ndim == 6 else ()
                gain = gains.beam * gain.reshape(gain.shape + extra)
            through = self.sky_visibilities(freq, width, gain, threads)
        corrupted = np.empty_like(through)
        lay = self.layout
        kernels.apply_stations(lay.ant1, lay.ant2, gains.jones, through, corrupted)
        noise = self.noise(index, clean.shape)
        return Visibilities(corrupted.astype(np.complex64), clean.astype(np.complex64), noise)


def draw_flags(spec: SimulationSpec, layout: Layout, index: int, n_chan: int):
    """Flags (time, bl, chan, 4), and which of them are random samples (interference).

    Flagged slots and stations are common to all measurement sets; all correlations of a sample
    are flagged together, as LOFAR's flagger leaves them.
    """
    noise = spec.noise
    common = random_stream(spec.seed, "flags")
    n_time = len(layout.times)
    slots = common.permutation(n_time)[: round(noise.flag_slots * n_time)]
    stations = common.permutation(layout.n_ant)[: noise.flag_stations]
    rng = random_stream(spec.seed, "flags", index + 1)
    random = rng.random((n_time, len(layout.ant1), n_chan), dtype=np.float32) < noise.flag_random
    flags = random.copy()
    flags[slots] = True
    flags[:, np.isin(layout.ant1, stations) | np.isin(layout.ant2, stations)] = True
    return np.repeat(flags[..., None], 4, axis=-1), np.repeat(random[..., None], 4, axis=-1)
