"""Small simulated fields, jobs on them, and how fluxes are read off the images."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
from scipy.optimize import least_squares

from ddfpipe.calibration.gains import GainTable
from ddfpipe.data.clusters import make_directions, write_clusters
from ddfpipe.data.images import FitsImage, SkyGrid, read_image, write_image
from ddfpipe.engines.base import ImageJob, VisSelection
from ddfpipe.engines.native.engine import NativeEngine
from ddfpipe.naming import image_product
from ddfpipe.simulate.run import Simulation, simulate
from ddfpipe.simulate.sky import Source, write_skymodel
from ddfpipe.simulate.spec import SimulationSpec, update
from ddfpipe.simulate.truth import read_truth
from ddfpipe.units import ARCSEC, DEGREE, FWHM_TO_SIGMA, SPEED_OF_LIGHT

CENTRE = (210.0, 50.0)
"""Phase centre of the simulated fields, degrees."""


class Listener:
    """A monitor that remembers what it was told."""

    def __init__(self):
        self.messages: list[str] = []

    def progress(self, what: str, done: int, total: int) -> None:
        assert 0 < done <= total

    def check(self) -> None:
        pass

    def message(self, text: str) -> None:
        self.messages.append(text)


def radec_of(l, m, centre=CENTRE) -> tuple[np.ndarray, np.ndarray]:  # noqa: E741
    """(ra, dec) in rad of direction cosines; written apart from the package (SIN projection)."""
    l, m = np.asarray(l, float), np.asarray(m, float)  # noqa: E741
    ra0, dec0 = np.radians(centre)
    n = np.sqrt(1 - l**2 - m**2)
    dec = np.arcsin(m * np.cos(dec0) + n * np.sin(dec0))
    return ra0 + np.arctan2(l, n * np.cos(dec0) - m * np.sin(dec0)), dec


def sources_at(offsets_deg, fluxes, index: float = 0.0) -> list[Source]:
    """Point sources at (east, north) degrees (as direction cosines) from CENTRE, Jy at 144 MHz."""
    out = []
    for k, ((east, north), flux) in enumerate(zip(offsets_deg, fluxes)):
        ra, dec = radec_of(east * DEGREE, north * DEGREE)
        out.append(Source(f"s{k}", float(ra), float(dec), float(flux), (index,)))
    return out


def make_field(folder: Path, sources: list[Source], **changes) -> Simulation:
    """Simulate `sources` without noise and errors; changes go to the specification."""
    folder.mkdir(parents=True, exist_ok=True)
    write_skymodel(sources, folder / "given.skymodel")
    base = {
        "companions": False, "subsamples": 4,
        "observation": {
            "ra_deg": CENTRE[0], "dec_deg": CENTRE[1], "core_fields": 14, "remote_stations": 5,
            "n_ms": 2, "channels": 3, "blocks": 6, "slots": 4, "hours": 6.0, "name": "L000007",
            "small_list": 2,
        },
        "sky": {"model": str(folder / "given.skymodel")},
    }
    return simulate(update(update(SimulationSpec(), base), changes), folder, threads=2)


def make_engine(folder: Path, threads: int = 1, **settings) -> NativeEngine:
    """An engine that keeps everything below `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    settings = {"beam_model": "none", **settings}
    return NativeEngine(
        workdir=folder, cache_dir=folder / "cache", solsdir=folder / "SOLSDIR", threads=threads,
        memory_limit=4 << 30, **settings,
    )


def make_job(name: str, simulation, npix: int, cell: float, **changes) -> ImageJob:
    """A job on the measurement sets of a simulation: natural weights, deep cleaning."""
    paths = tuple(getattr(simulation, "ms", simulation))
    uv_km = changes.pop("uv_km", (0.0, 8.0))
    column = changes.pop("column", "DATA")
    defaults = dict(
        robust=None, restoring_beam=None, major_cycles=4, peak_factor=0.001, rms_factor=3.0,
        auto_mask_sigma=10.0, n_bands=2,
    )
    return ImageJob(
        name=name, vis=VisSelection(paths, column, uv_km=uv_km), npix=npix, cell_arcsec=cell,
        **{**defaults, **changes},
    )


def product(folder: Path, name: str, kind: str) -> FitsImage:
    """Read an image that a job left."""
    return read_image(folder / image_product(name, kind))


@dataclasses.dataclass
class Fit:
    """Gaussian of the restoring beam fitted to an image near a source."""

    flux: float
    offset_beams: float
    y: float
    x: float


def fit_source(image: FitsImage, ra: float, dec: float) -> Fit:
    """Peak flux and distance from (ra, dec) rad, in beams, of the point source there."""
    plane = image.plane()
    major, minor, pa = image.beam
    cell = image.grid.cell
    y0, x0 = (float(np.ravel(v)[0]) for v in image.grid.pixel_of(ra, dec))
    half = max(2, int(round(0.7 * minor / cell)))
    ys, xs = np.mgrid[-half : half + 1, -half : half + 1]
    ys, xs = ys + round(y0), xs + round(x0)
    box = plane[ys, xs].astype(float)

    def gaussian(p):
        north, east = (ys - p[1]) * cell, -(xs - p[2]) * cell
        along = north * np.cos(pa) + east * np.sin(pa)
        across = -north * np.sin(pa) + east * np.cos(pa)
        a, b = major * FWHM_TO_SIGMA, minor * FWHM_TO_SIGMA
        return p[0] * np.exp(-0.5 * (along / a) ** 2 - 0.5 * (across / b) ** 2)

    start = np.array([box.max(), y0, x0])
    p = least_squares(lambda p: (gaussian(p) - box).ravel(), start, x_scale=[start[0], 1, 1]).x
    offset = np.hypot(p[1] - y0, p[2] - x0) * cell / np.sqrt(major * minor)
    return Fit(float(p[0]), float(offset), float(p[1]), float(p[2]))


def expected_flux(source: Source, freqs, weights) -> float:
    """Mean over the bands of a source's intrinsic flux, Jy."""
    x = np.log10(np.asarray(freqs) / source.ref_freq)
    return float(np.average(source.flux * 10 ** (source.spectral_index[0] * x), weights=weights))


def write_mask(folder: Path, name: str, npix: int, cell: float, sources, radius_pix: int = 6):
    """FITS mask of discs about the sources; returns its name for a job."""
    grid = SkyGrid(*np.radians(CENTRE), npix, npix, cell * ARCSEC)
    mask = np.zeros((npix, npix), np.float32)
    ys, xs = np.mgrid[:npix, :npix]
    for s in sources:
        y, x = (float(np.ravel(v)[0]) for v in grid.pixel_of(s.ra, s.dec))
        mask[np.hypot(ys - y, xs - x) <= radius_pix] = 1
    write_image(folder / name, mask, grid, freq=144e6, unit="")
    return Path(name)


def write_directions(folder: Path, sources, name: str = "directions.npy") -> Path:
    """Cluster catalogue with one direction a source; returns its name for a job."""
    directions = make_directions(
        [s.ra for s in sources], [s.dec for s in sources], [s.flux for s in sources]
    )
    write_clusters(folder / name, directions, tuple(np.radians(CENTRE)))
    return Path(name)


def true_table(folder: Path, ms: Path, sources, amplitude: bool) -> GainTable:
    """The simulator's gains towards its sources: one interval a slot and channel.

    amplitude False leaves the ionosphere alone (whose phase alone it is anyhow) by dividing out
    the beam's amplitude.
    """
    truth = read_truth(folder)
    number = truth.index(ms.name)
    gains = np.moveaxis(truth.direction_gains(number), (1, 2, 3), (2, 3, 1))[..., None]
    if not amplitude:
        gains = np.exp(1j * np.angle(gains))
    time, freq = truth.arrays["time"], truth.arrays[f"freq_{number}"]
    half = truth.spec["observation"]["interval_s"] / 2
    width = truth.spec["observation"]["channel_khz"] * 1e3 / 2
    return GainTable(
        np.stack([time - half, time + half], axis=1),
        np.stack([freq - width, freq + width], axis=1), gains.astype(np.complex64),
        [str(name) for name in truth.arrays["station"]],
        np.array([[s.ra, s.dec] for s in sources]), ant_pos=None,
    )


def direct_image(sets, vis, l, m, n_bands) -> np.ndarray:  # noqa: E741
    """(band, n) sum of w Re(V exp(-i phase)) at directions l, m (n,): a plain Fourier sum."""
    out = np.zeros((n_bands, len(l)))
    lmn = np.stack([l, m, np.sqrt(1 - l**2 - m**2) - 1])
    for s, v in zip(sets, vis):
        wv = np.asarray(s.weight, np.float64) * np.asarray(v, np.complex128)
        for k in range(len(l)):
            turns = (s.cache.uvw @ lmn[:, k])[..., None] * s.cache.freq / SPEED_OF_LIGHT
            per_chan = (wv * np.exp(-2j * np.pi * turns)).real.sum(axis=(0, 1))
            out[:, k] += np.bincount(s.band, per_chan, n_bands)
    return out
