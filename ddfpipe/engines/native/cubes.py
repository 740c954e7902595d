"""Cubes over frequency of an image: planes of many bands, a few bands at a time.

Deconvolution joins the data in few bands and describes spectra by few numbers.  What it leaves is
kept for every channel, so the planes of a cube need no more than one more gridding: each is the
exact residual of its band, plus the model at its frequency.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ...data.cubes import CubeFile
from ...errors import ImagingError
from ...imaging.noise import robust_noise
from ...naming import image_product
from .bands import Bands, cube_bands, select_bands
from .facetmaps import make_maps
from .gainfield import GainField, load_gains
from .operators import SAMPLE_BYTES, SAMPLE_LIMITS, Operators
from .products import restored_image

DIRTY_KINDS, RESTORED_KINDS = ("dirty", "dirty_corr"), ("app_restored", "int_restored")
MEMORY_SHARE = 0.25
"""Share of the memory that the planes of the bands in work may take."""
PLANES_A_BAND = 6
"""Planes that one band takes while it is in work: image, attenuation, and what makes them."""


@dataclass
class BandPlanes:
    """One band of a cube: apparent image and attenuation (y, x) float32, NaN without data."""

    band: int
    freq: float
    weight: float
    image: np.ndarray
    attenuation: np.ndarray

    def intrinsic(self, image: np.ndarray, floor: float) -> np.ndarray:
        """`image` over the attenuation, NaN where that is below `floor` of its largest."""
        blind = self.attenuation < floor * np.nanmax(self.attenuation, initial=0)
        return np.where(blind, np.nan, image / np.where(blind, 1, self.attenuation))


class BandImager:
    """Dirty images of the bands of a job.

    Parameters
    ----------
    engine : NativeEngine
    job : ImageJob
    operators : Operators of the whole job, weighted; its facets and weights serve
    monitor : Monitor
    """

    def __init__(self, engine, job, operators, monitor):
        self.engine, self.job, self.monitor = engine, job, monitor
        self.operators = operators
        self.bands: Bands = cube_bands(operators.data, job.band_mode, job.n_bands)

    def groups(self) -> list[range]:
        """Bands that are made together: as many as the memory holds."""
        plane = 4 * self.job.npix**2 * PLANES_A_BAND
        # besides the planes, every band keeps samples on their way to the gridder
        samples = SAMPLE_BYTES * SAMPLE_LIMITS[0] * self.engine.threads
        room = min(
            MEMORY_SHARE * self.engine.memory_limit / plane, self.operators.memory / samples
        )
        step = int(np.clip(room, 1, self.bands.size))
        return [range(b, min(b + step, self.bands.size)) for b in range(0, self.bands.size, step)]

    def operators_of(self, which: range) -> tuple[Operators, list[tuple[int, slice]]]:
        """Operators of the bands `which`, and where in the whole job's data theirs lie."""
        whole, job, engine = self.operators, self.job, self.engine
        data, origin = select_bands(whole.data, self.bands, which)
        beams = [engine.beam(s.cache.ms_path) for s in data.sets]
        gains = [
            GainField(s.cache, whole.facets, load_gains(job.gains, s.cache, engine.solsdir), beam)
            for s, beam in zip(data.sets, beams)
        ]
        # smearing inside facets is not undone in dirty images and residuals: no maps of it
        maps = make_maps(data, whole.facets, beams, decorrelation=False)
        return Operators(
            data, whole.facets, gains, maps, whole.scratch, decorrelation=whole.decorrelation,
            threads=engine.threads, memory=whole.memory, monitor=self.monitor,
        ), origin

    def planes(self, residuals):
        """Yield (key, BandPlanes) of every band for each of several residuals.

        residuals : dict of a key to the (time, bl, chan) arrays of the whole job's sets
        """
        for which in self.groups():
            part, origin = self.operators_of(which)
            attenuation = None
            for key, arrays in residuals.items():
                part.take_residual([arrays[number][..., chans] for number, chans in origin])
                images = part.adjoint()
                if attenuation is None:
                    attenuation = part.attenuation()
                for k, band in enumerate(which):
                    weight = float(part.data.band_weight[k])
                    if weight <= 0:
                        images[k] = attenuation[k] = np.nan
                    yield key, BandPlanes(
                        band, float(self.frequency[band]), weight, images[k], attenuation[k]
                    )

    @property
    def frequency(self) -> np.ndarray:
        """(band,) Hz that the planes are labelled with."""
        if self.job.band_mode == "equal":
            return self.operators.data.band_freq
        return self.bands.freq


def check_cubes(job) -> None:
    """Raise ImagingError for a kind of cube that cannot be made."""
    unknown = set(job.cubes) - set(DIRTY_KINDS) - set(RESTORED_KINDS)
    if unknown:
        raise ImagingError(
            f"{job.name}: no cubes of {', '.join(sorted(unknown))}; choose from "
            f"{', '.join((*DIRTY_KINDS, *RESTORED_KINDS))}"
        )


def write_cubes(engine, writer, operators, model, kinds, beam, floor, monitor) -> list[Path]:
    """Write cubes of the residual that `operators` now hold (of `model`, PixelModel).

    kinds : of DIRTY_KINDS or RESTORED_KINDS; beam : of all planes, rad
    floor : see BandPlanes.intrinsic

    Returns
    -------
    paths of the cubes
    """
    if not kinds:
        return []
    job = writer.job
    imager = BandImager(engine, job, operators, monitor)
    if operators.residual is None:
        operators.set_residual(model)
    paths = []
    with ExitStack() as stack:
        files = {}
        for kind in kinds:
            path = writer.workdir / image_product(job.name, f"cube_{kind}")
            files[kind] = stack.enter_context(CubeFile(
                path, writer.grid, freq=imager.frequency, width=imager.bands.width,
                beam=beam, history=[f"ddfpipe image {job.name}: cube {kind}"],
            ))
            paths.append(path)
        for _, planes in imager.planes({"I": operators.residual}):
            _put(files, planes, model, beam, floor)
            monitor.check()
    return paths


def _put(files, planes: BandPlanes, model, beam, floor: float) -> None:
    """Write one band into the cubes."""
    noise = robust_noise(planes.image)
    restored = None
    for kind, file in files.items():
        image = planes.image
        if kind in RESTORED_KINDS:
            if restored is None:
                flux = model.at([planes.freq])[0]
                restored = restored_image(model, flux, planes.attenuation, planes.image, beam)
            image = restored
        if kind in ("dirty_corr", "int_restored"):
            image = planes.intrinsic(image, floor)
        file.put(planes.band, "I", image, planes.weight, noise)
