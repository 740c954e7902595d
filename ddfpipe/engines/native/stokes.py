"""Dirty images and cubes of Stokes I, Q, U and V.

The four correlations go through the direction-independent Jones corrections, are combined into one
Stokes parameter at a time, and are imaged with the weights, gains and beams of Stokes I: for scalar
gains the adjoint is the same for every Stokes parameter.  Leakage that differs over the field is
left in.
"""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

import numpy as np

from ...data.cubes import CubeFile
from ...data.images import SkyGrid, write_image
from ...data.regions import write_tessel
from ...errors import ImagingError
from ...imaging.noise import robust_noise
from ...naming import image_product
from ..base import ImageJob, ImageResult
from .cubes import DIRTY_KINDS, BandImager
from .imager import Imager, psf_size
from .products import (
    ATTENUATION_FLOOR, beam_arcsec, facet_outlines, middle_facet, restoring_beam,
)
from .reader import Reader
from .visibilities import Scratch, kept_array, stokes_i, time_slices

COMBINATIONS = {
    "I": (0.5, 0, 0, 0.5),
    "Q": (0.5, 0, 0, -0.5),
    "U": (0, 0.5, 0.5, 0),
    "V": (0, -0.5j, 0.5j, 0),
}
"""Shares of XX, XY, YX, YY in each Stokes parameter (Hamaker & Bregman 1996, A&AS 117, 161)."""


def combine(vis: np.ndarray, stokes: str) -> np.ndarray:
    """One Stokes parameter (...) complex64 of visibilities (..., 4) = XX, XY, YX, YY."""
    out = np.zeros(vis.shape[:-1], np.complex64)
    for corr, share in enumerate(COMBINATIONS[stokes]):
        if share:
            out += np.complex64(share) * vis[..., corr]
    return out


def stokes_copy(reader: Reader, stokes: str, cache_dir: Path, monitor=None) -> np.ndarray:
    """Memory-mapped (time, bl, chan) complex64 of one Stokes parameter, made where it is not yet.

    Where a correction is missing or flagged the visibilities are zero.
    """
    if stokes == "I":
        return stokes_i(reader, cache_dir, monitor)

    def fill(out: np.ndarray) -> None:
        for part in time_slices(reader.cache):
            if monitor is not None:
                monitor.check()
            out[part] = combine(reader(part), stokes)

    return kept_array(reader.cache, f"{reader.key()}.{stokes}", cache_dir, fill)


def check_stokes(job: ImageJob) -> None:
    """Raise ImagingError for a combination that cannot be imaged or be one axis of a file."""
    codes = ["IQUV".find(name) for name in job.stokes]
    steps = np.diff(codes)
    if not codes or min(codes) < 0 or np.any(steps <= 0) or np.any(steps != steps[:1]):
        raise ImagingError(
            f"{job.name}: Stokes '{job.stokes}' cannot be one image; choose such as I, V, IV, QU, "
            "IQU, IQUV"
        )
    if job.major_cycles or job.start_model:
        raise ImagingError(
            f"{job.name}: images of Stokes {job.stokes} are dirty images: no major cycles and no "
            "model can be given"
        )
    wrong = set(job.cubes) - set(DIRTY_KINDS)
    if wrong:
        raise ImagingError(
            f"{job.name}: cubes of Stokes {job.stokes} are dirty, not {', '.join(sorted(wrong))}"
        )


class StokesImager(Imager):
    """One job of other Stokes parameters than I alone.

    Parameters
    ----------
    engine : NativeEngine
    job : ImageJob; with `cubes` only these are written, else the mean over frequency
    monitor : Monitor
    """

    def run(self) -> ImageResult:
        """Make the images.  Raises ImagingError, DataError, SolveError."""
        job = self.job
        check_stokes(job)
        with Scratch(self.engine.cache_dir / f"ddfpipe.scratch.{job.name}") as scratch:
            operators = self._operators(scratch)
            data = operators.data
            self._beam = self._nominal_beam(operators)
            self._grid = SkyGrid(*data.phase_centre, job.npix, job.npix, operators.facets.cell)
            visibilities = {
                name: [
                    stokes_copy(s.reader, name, self.engine.cache_dir, self.monitor)
                    for s in data.sets
                ]
                for name in job.stokes
            }
            bands = BandImager(self.engine, job, operators, self.monitor)
            mean, paths = self._planes(bands, visibilities)
            if not job.cubes:
                paths = self._write_means(mean, data.mean_freq)
            outlines = facet_outlines(operators.facets, data.phase_centre)
            tessel = write_tessel(self.workdir / image_product(job.name, "tessel"), outlines)
            return self._result(mean, (*paths, tessel))

    def _nominal_beam(self, operators) -> tuple[float, float, float]:
        """The job's restoring beam, or that of the point spread function, rad."""
        if self.job.restoring_beam is not None:
            return restoring_beam(self.job, None, operators.facets.cell)
        index = middle_facet(operators.facets)
        operators.take_residual([s.vis for s in operators.data.sets])
        operators.norm[index] = operators.dirty_facet(index)[1]
        psf = operators.psf_facet(index, psf_size(operators.facets))
        weight = operators.data.band_weight
        mean = np.tensordot((weight / weight.sum()).astype(np.float32), psf, axes=1)
        return restoring_beam(self.job, mean, operators.facets.cell)

    def _planes(self, bands: BandImager, visibilities) -> tuple[Mean, list[Path]]:
        """Image every band; the mean over them, and the cubes that were written."""
        job, paths = self.job, []
        mean = Mean(job.stokes, self._grid.shape)
        with ExitStack() as stack:
            files = {}
            for kind in job.cubes:
                path = self.workdir / image_product(job.name, f"cube_{kind}")
                files[kind] = stack.enter_context(CubeFile(
                    path, self._grid, freq=bands.frequency, width=bands.bands.width,
                    stokes=job.stokes, beam=self._beam, stokes_axis=len(job.stokes) > 1,
                    history=[f"ddfpipe image {job.name}: cube {kind}, Stokes {job.stokes}"],
                ))
                paths.append(path)
            for name, planes in bands.planes(visibilities):
                mean.add(name, planes)
                noise = robust_noise(planes.image)
                for kind, file in files.items():
                    image = planes.image
                    if kind == "dirty_corr":
                        image = planes.intrinsic(image, ATTENUATION_FLOOR)
                    file.put(planes.band, name, image, planes.weight, noise)
                self.monitor.check()
        return mean, paths

    def _write_means(self, mean: Mean, freq: float) -> list[Path]:
        """The images averaged over frequency, apparent and intrinsic."""
        paths = []
        for kind, images in (("dirty", mean.apparent()), ("dirty_corr", mean.intrinsic())):
            path = self.workdir / image_product(self.job.name, kind)
            write_image(
                path, images[None], self._grid, freq=freq, stokes=self.job.stokes,
                beam=self._beam,
                history=[f"ddfpipe image {self.job.name}: {kind}, Stokes {self.job.stokes}"],
            )
            paths.append(path)
        return paths

    def _result(self, mean: Mean, paths) -> ImageResult:
        """Figures: noise and largest value of what is polarised (of I if nothing is)."""
        images = dict(zip(self.job.stokes, mean.apparent()))
        noise = {name: robust_noise(image) for name, image in images.items()}
        shown = [name for name in images if name != "I"] or ["I"]
        return ImageResult(
            name=self.job.name, noise=max(noise[name] for name in shown),
            peak=max(float(np.abs(images[name]).max()) for name in shown), model_flux=0.0,
            beam_arcsec=beam_arcsec(self._beam), products=tuple(paths),
            details={"planes": mean.count} | {f"noise_{k}": v for k, v in noise.items()},
        )


class Mean:
    """Mean over frequency of the planes of several Stokes parameters.

    Parameters
    ----------
    stokes : such as "QU"
    shape : (y, x)
    """

    def __init__(self, stokes: str, shape: tuple[int, int]):
        self.stokes, self.count = stokes, 0
        self._sum = np.zeros((len(stokes), *shape), np.float32)
        self._attenuation = np.zeros(shape, np.float32)
        self._weight = 0.0

    def add(self, name: str, planes) -> None:
        """Add one band (BandPlanes) of Stokes `name`; one without data adds nothing."""
        if planes.weight <= 0:
            return
        number = self.stokes.index(name)
        weight = np.float32(planes.weight)
        self._sum[number] += weight * planes.image
        if number == 0:
            self._attenuation += weight * planes.attenuation
            self._weight += planes.weight
            self.count += 1

    def apparent(self) -> np.ndarray:
        """(stokes, y, x) float32 Jy/beam."""
        return self._sum / np.float32(self._weight)

    def intrinsic(self) -> np.ndarray:
        """(stokes, y, x) float32 Jy/beam, NaN where next to nothing is seen."""
        seen = self._attenuation > ATTENUATION_FLOOR * self._attenuation.max()
        return np.where(seen, self._sum / np.where(seen, self._attenuation, 1), np.nan)
