"""A field with known gains: stations, sources in patches, gains, visibilities, measurement set.

The visibilities come from the simulator's own sums, which share no code with the solver.  Phases
are those of a turbulent screen over the real stations, not draws from the solver's priors; they
move within the intervals of the solutions, as real ones do.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ddfpipe.simulate import kernels, msio
from ddfpipe.simulate.geometry import earth_poles
from ddfpipe.simulate.realisation import Layout, Realisation
from ddfpipe.simulate.run import fresh_path, make_layout
from ddfpipe.simulate.sky import Source, radec_of
from ddfpipe.simulate.spec import Ionosphere, Noise, Observation, SimulationSpec
from ddfpipe.units import DEGREE


@dataclass(frozen=True)
class Case:
    """What is simulated.

    core, remote: stations.  n_dir: patches.  sources: sources in each, the first half as bright as
    all others of the patch together.  slots, channels: times of 8 s and channels of 97.6 kHz.
    brightest, faintest: flux of the brightest and the faintest patch in Jy, others on a power law.
    noise: standard deviation in Jy of the real part of one correlation.
    missing: flux, relative to a patch's own (1 Jy at most), of three more sources within the patch
        that no solver is told of.
    diagonal: gains of the two hands differ.  amplitude: rms of ln|g|.  ionosphere_km: diffractive
        scale of the screen at 150 MHz; wind: its speed in m/s.
    """

    core: int = 48
    remote: int = 14
    n_dir: int = 10
    sources: int = 4
    slots: int = 24
    interval: float = 8.0
    channels: int = 20
    channel_khz: float = 97.65625
    first_mhz: float = 143.0
    radius_deg: float = 2.0
    spread_deg: float = 0.1
    brightest: float = 10.0
    faintest: float = 0.2
    noise: float = 0.3
    missing: float = 0.0
    diagonal: bool = False
    amplitude: float = 0.03
    ionosphere_km: float = 15.0
    wind: float = 30.0
    seed: int = 1


@dataclass
class Sky:
    """Sources: l, m (n,) rad, flux (n,) Jy, owner (n,) patch; missing: whether solvers know it."""

    l: np.ndarray
    m: np.ndarray
    flux: np.ndarray
    owner: np.ndarray
    missing: np.ndarray


@dataclass
class Field:
    """One realisation.

    patches: (n_dir, 2) l, m in rad, the brightness-weighted places of the known sources.
    gains: (time, ant, n_dir, hand, chan) complex64.
    vis: (time, bl, hand, chan) complex64, corrupted sky without noise; missed: the part of it that
    the unknown sources make; data: with noise.
    """

    case: Case
    layout: Layout
    stations: list
    scans: np.ndarray
    freq: np.ndarray
    sky: Sky
    patches: np.ndarray
    gains: np.ndarray
    vis: np.ndarray
    missed: np.ndarray
    data: np.ndarray

    def true_gains(self, slots: list[slice], channels: list[slice]) -> np.ndarray:
        """Mean gain of each solution interval, (time, chan, ant, n, hand) complex128."""
        out = [[self.gains[t][..., c].mean(axis=(0, -1), dtype=np.complex128) for c in channels]
               for t in slots]
        return np.array(out)


def random_patches(case: Case, rng: np.random.Generator) -> np.ndarray:
    """(n_dir, 2) l, m in rad, spread over a disc with a distance between neighbours."""
    apart = 0.6 * case.radius_deg * np.sqrt(np.pi / case.n_dir) * DEGREE
    places: list[np.ndarray] = []
    while len(places) < case.n_dir:
        r = case.radius_deg * DEGREE * np.sqrt(rng.uniform())
        angle = rng.uniform(0, 2 * np.pi)
        place = r * np.array([np.cos(angle), np.sin(angle)])
        if all(np.hypot(*(place - other)) > apart for other in places):
            places.append(place)
    return np.array(places)


def random_sky(case: Case, rng: np.random.Generator) -> Sky:
    """Sources in patches whose fluxes follow a power law."""
    places = random_patches(case, rng)
    rank = np.arange(case.n_dir) / max(case.n_dir - 1, 1)
    power = np.log(case.faintest / case.brightest) / np.log(max(case.n_dir, 2))
    total = case.brightest * (1 + rank * (case.n_dir - 1)) ** power
    first = 0.5 if case.sources > 1 else 1.0
    share = np.append(first, np.full(case.sources - 1, (1 - first) / max(case.sources - 1, 1)))
    known = np.repeat(np.arange(case.n_dir), case.sources)
    extra = np.repeat(np.arange(case.n_dir), 3 if case.missing > 0 else 0)
    owner = np.concatenate([known, extra])
    flux = np.concatenate([(total[:, None] * share).ravel(),
                           np.minimum(case.missing * total, 1.0)[extra] / 3])
    lm = places[owner] + case.spread_deg * DEGREE * rng.normal(size=(len(owner), 2))
    leader = np.arange(case.n_dir) * case.sources
    lm[leader] = places
    return Sky(lm[:, 0], lm[:, 1], flux, owner, np.arange(len(owner)) >= len(known))


def patch_places(sky: Sky, n_dir: int) -> np.ndarray:
    """(n_dir, 2): mean place of the known sources of each patch, weighted by flux."""
    known = ~sky.missing
    weight = np.bincount(sky.owner[known], sky.flux[known], n_dir)
    return np.stack([np.bincount(sky.owner[known], sky.flux[known] * x[known], n_dir) / weight
                     for x in (sky.l, sky.m)], axis=1)


def specification(case: Case) -> SimulationSpec:
    """The simulator's specification of array, times, channels and screen."""
    hours = case.slots * case.interval / 3600.0
    return SimulationSpec(
        seed=case.seed,
        observation=Observation(
            hours=hours, blocks=1, slots=case.slots, interval_s=case.interval, n_ms=1,
            channels=case.channels, first_mhz=case.first_mhz, last_mhz=case.first_mhz,
            channel_khz=case.channel_khz, core_fields=case.core, remote_stations=case.remote,
        ),
        ionosphere=Ionosphere(diffractive_km=case.ionosphere_km, wind_m_s=case.wind,
                              centre_removed=0.9, npix=1024),
        noise=Noise(sample_jy=case.noise),
    )


def draw_gains(case: Case, spec: SimulationSpec, layout: Layout, freq: np.ndarray,
               places: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """(time, ant, n, hand, chan) complex64: screen, amplitudes, and a phase between the hands."""
    ra, dec = radec_of(places[:, 0], places[:, 1], layout.ra0, layout.dec0)
    sources = [Source(str(i), a, d, 1.0) for i, (a, d) in enumerate(zip(ra, dec, strict=True))]
    phases = Realisation(spec, layout, sources).ionosphere(freq)
    if phases is None:
        phases = np.ones((len(layout.times), layout.n_ant, len(places), len(freq)), np.complex64)
    hands = 2 if case.diagonal else 1
    shape = (layout.n_ant, len(places), hands)
    size = case.amplitude * rng.normal(size=shape)
    size -= size.mean(axis=0)  # the flux scale is not at issue
    turn = np.zeros(shape)
    if case.diagonal:
        turn += 0.1 * rng.normal(size=(layout.n_ant, 1, hands))
    factor = np.exp(size + 1j * turn).astype(np.complex64)
    return phases[:, :, :, None, :] * factor[..., None]


def observe(layout: Layout, freq: np.ndarray, sky: Sky, which: np.ndarray,
            gains: np.ndarray) -> np.ndarray:
    """Visibilities (time, bl, hand, chan) complex64 of some sources through gains, one a source."""
    index = np.flatnonzero(which)
    n1 = -(sky.l**2 + sky.m**2) / (1 + np.sqrt(1 - sky.l**2 - sky.m**2))
    lmn = np.stack([sky.l, sky.m, n1], axis=1)[index]
    flux = np.repeat(sky.flux[index, None], len(freq), axis=1)
    n_time, n_bl = layout.uvw.shape[:2]
    hands = gains.shape[3]
    out = np.zeros((n_time, n_bl, hands, len(freq)), np.complex64)
    poles = earth_poles(layout.rotation)
    for t in range(n_time):
        for hand in range(hands):
            gain = np.ascontiguousarray(gains[t : t + 1, :, :, hand][:, :, index])
            part = np.zeros((1, n_bl, len(freq)), complex)
            kernels.predict_scalar(
                layout.uvw[t : t + 1], poles[t : t + 1], layout.ant1, layout.ant2, gain, lmn,
                np.zeros((len(index), 3)), flux, freq, 0.0, 0.0, 1, part,
            )
            out[t, :, hand] = part[0]
    return out


def make_field(case: Case) -> Field:
    """Draw a field; the same case gives the same field."""
    rng = np.random.default_rng(case.seed)
    spec = specification(case)
    layout, scans, stations = make_layout(spec)
    freq = (case.first_mhz * 1e3 + case.channel_khz * np.arange(case.channels)) * 1e3
    sky = random_sky(case, rng)
    patches = patch_places(sky, case.n_dir)
    gains = draw_gains(case, spec, layout, freq, patches, rng)
    each = gains[:, :, sky.owner]
    vis = observe(layout, freq, sky, ~sky.missing, each)
    missed = np.zeros((1, 1, 1, 1), np.complex64)
    if sky.missing.any():
        missed = observe(layout, freq, sky, sky.missing, each)
    vis = vis + missed
    hands = 2
    shape = (*vis.shape[:2], hands, len(freq))
    noise = rng.standard_normal((*shape, 2), dtype=np.float32).view(np.complex64)[..., 0]
    data = vis + np.float32(case.noise) * noise
    return Field(case, layout, stations, scans, freq, sky, patches, gains, vis, missed, data)


def write_ms(field: Field, path: Path) -> Path:
    """The field as a measurement set; cross hands hold noise alone."""
    case, layout = field.case, field.layout
    path = fresh_path(Path(path))
    msio.create_ms(path, layout, field.stations, field.freq, case.channel_khz * 1e3, field.scans,
                   [])
    n_time, n_bl, _, n_chan = field.data.shape
    rng = np.random.default_rng([case.seed, 77])
    noise = rng.standard_normal((n_time, n_bl, n_chan, 2, 2), dtype=np.float32)
    data = np.empty((n_time, n_bl, n_chan, 4), np.complex64)
    data[..., [0, 3]] = np.moveaxis(field.data, 2, -1)
    data[..., 1:3] = np.float32(case.noise) * noise.view(np.complex64)[..., 0]
    weight = np.ones(data.shape, np.float32)
    flags = np.zeros(data.shape, bool)
    msio.put_tiled(path, {"DATA": data, "FLAG": flags, "WEIGHT_SPECTRUM": weight})
    return path
