"""Make one image with WSClean: PSFs, cycles of predict, dirty image, mask and clean; products."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from scipy.ndimage import distance_transform_edt

from ...data.images import SkyGrid, read_image, write_image
from ...data.model import ROUNDING, PixelModel, load_model
from ...errors import ImagingError
from ...imaging.mask import auto_mask
from ...imaging.multiscale import default_scales
from ...imaging.noise import robust_noise
from ...imaging.psf import fit_beam
from ...naming import image_product
from ...units import MHZ
from ..base import ImageJob, ImageResult
from ..external.ours import Bands, Outcome
from ..external.runner import Call, Runner
from ..external.view import RESIDUAL, cell_rad, open_view, subtract_model
from ..native.imager import (
    MAX_SCALE_BEAMS, MINOR_PASSES, STEADY_NOISE, Picture, external_mask, job_facets,
)
from ..native.products import (
    Writer, band_mean, middle_facet, record_cycle, write_products,
)
from ..native.visibilities import Scratch
from .commands import (
    MAJORS, Cleaning, clean_command, clean_progress, dirty_command, product, psf_command,
)
from .facets import write_gains
from .predicting import channel_count, model_kind, predict

WIDEST_BAND = 8 * MHZ
"""Sub-bands of WSClean are no wider: a model has one flux inside each."""

NOISE_FLOOR = 1.0
"""WSClean is not asked to clean below this many sigma: there it fits noise."""

DIVERGED = 1.3
"""A clean after which the noise is this many times what it was has diverged."""


class WSCleanImager:
    """One imaging job with WSClean."""

    def __init__(self, engine, job: ImageJob, monitor):
        self.engine, self.job, self.monitor = engine, job, monitor
        self.native, self.runner = engine.native, Runner(monitor)

    def run(self) -> ImageResult:
        """Make the image and its products.

        Raises ImagingError, DataError, SolveError, StageFailed and ResourceError (see `Runner`).
        """
        job = self.job
        self.engine.require(job)
        with Scratch(self.native.cache_dir / f"ddfpipe.scratch.{job.name}") as scratch:
            self.folder = scratch.folder.absolute()
            self._prepare(scratch)
            psf, beam = self._psf()
            self._external = external_mask(job, self.grid, self.native.workdir)
            model = self._start_model()
            picture, dirty, cycles = self._cycles(model, psf, beam)
            bands = Bands(self.weight, self.view.data.phase_centre)
            mean = float(np.average(self.freq, weights=self.weight))
            writer = self._writer(mean)
            return write_products(writer, Outcome(bands, self.facets), picture, dirty, cycles)

    # -- preparation -----------------------------------------------------------------------------

    def _prepare(self, scratch: Scratch) -> None:
        job, native = self.job, self.native
        self.view = open_view(
            native, job, self.monitor, scratch, job.weights, weights_from=job.weights_from,
            n_bands=job.n_bands,
        )
        centre = self.view.data.phase_centre
        self.facets = job_facets(job, centre, native.workdir)
        self.grid = SkyGrid(*centre, job.npix, job.npix, cell_rad(job.cell_arcsec))
        gains = write_gains(self.folder, job.gains, self.view, self.facets, native.solsdir)
        channels = channel_count(self.view, job.n_bands, WIDEST_BAND)
        self.gridding = self.engine.gridding(job, self.folder, channels, gains)
        self.monitor.message(
            f"{job.name}: WSClean on {len(self.view.copies)} measurement sets, {channels} bands, "
            f"{len(self.facets.facets) if gains else 'no'} facets, {job.npix} pixels of "
            f"{job.cell_arcsec:g} arcsec"
        )

    def _psf(self) -> tuple[np.ndarray, tuple[float, float, float]]:
        """PSFs (band, n, n) and the beam (rad) of their mean; also frequencies and weights."""
        self._run(psf_command(self.gridding, self.view.paths, "DATA"), ["psf"])
        images = [read_image(path) for path in self._files("psf")]
        self.freq = np.array([float(image.freq[0]) for image in images])
        self.weight = np.array([float(image.header["WSCIMGWG"]) for image in images])
        order = np.argsort(self.freq)
        if not np.array_equal(order, np.arange(len(order))):
            raise ImagingError("the sub-bands of WSClean are not in order of frequency; this "
                               "version of WSClean cannot be used")
        psf = np.stack([image.plane() for image in images])
        return psf, fit_beam(band_mean(psf, self.weight), self.grid.cell)

    def _start_model(self) -> PixelModel:
        if self.job.start_model is None:
            return PixelModel.empty(self.grid, self.freq)
        path = self.native.workdir / image_product(self.job.start_model, "model")
        return load_model(path).on_grid(self.grid).on_bands(self.freq)

    def _writer(self, mean_freq: float) -> Writer:
        return Writer(self.job, self.native.workdir, self.grid, mean_freq)

    # -- cycles ----------------------------------------------------------------------------------

    def _cycles(self, model: PixelModel, psf: np.ndarray, beam):
        """(picture, first dirty image, figures of the cycles)."""
        job = self.job
        residual, attenuation = self._dirty(model)
        dirty = band_mean(residual, self.weight)
        mask, cycles = None, []
        for cycle in range(1, job.major_cycles + 1):
            self.monitor.check()
            if cycle > 1:
                residual, attenuation = self._dirty(model)
            mask = self._mask(mask, model, residual, beam)
            model, residual = self._deepen(mask, model, residual, beam)
            cycles.append(self._tell(cycle, mask, model, residual))
        middle = middle_facet(self.facets)
        picture = Picture(
            self.grid, model, residual, attenuation, attenuation, {middle: psf}, mask
        )
        return picture, dirty, cycles

    def _dirty(self, model: PixelModel) -> tuple[np.ndarray, np.ndarray]:
        """Residual and attenuation (band, y, x): apparent Jy/beam, and apparent over intrinsic."""
        self.column = "DATA"
        if model.size:
            predict(self.runner, self.gridding, self.view, model, self.folder)
            subtract_model(self.view, self.monitor)
            self.column = RESIDUAL
        made = ["image", "image-pb"] if self.gridding.solutions else ["image"]
        self._run(dirty_command(self.gridding, self.view.paths, self.column), made)
        apparent = self._cube("image")
        if not self.gridding.solutions:
            return apparent, np.ones_like(apparent)
        return apparent, self._attenuation(apparent, self._cube("image-pb"))

    def _attenuation(self, apparent: np.ndarray, intrinsic: np.ndarray) -> np.ndarray:
        """WSClean's flux correction, which is one number for each facet and band."""
        owner = self.facets.facet_map()
        out = np.ones_like(apparent)
        for facet in self.facets.facets:
            here = owner == facet.index
            for plane, above, below in zip(out, apparent, intrinsic):
                good = here & (below != 0) & np.isfinite(below)
                if good.any():
                    plane[here] = np.median(above[good] / below[good])
        return out

    def _mask(self, mask, model: PixelModel, residual: np.ndarray, beam) -> np.ndarray:
        """Where to clean: the external mask, the model so far, and what stands out now."""
        job = self.job
        if mask is None:
            mask = np.zeros(self.grid.shape, bool)
            if self._external is not None:
                mask |= self._external
        mask = mask.copy()
        mask.flat[model.index] = True
        if job.auto_mask_sigma is not None:
            mask |= auto_mask(band_mean(residual, self.weight), job.auto_mask_sigma,
                              beam[0] / self.grid.cell, threads=self.native.threads)
        elif self._external is None:
            mask[:] = True
        return mask

    def _deepen(self, mask, model: PixelModel, residual: np.ndarray, beam):
        """(model, residual) after cleaning, again while that lowers the noise.

        WSClean ends at a number of sigmas of the noise that it met; sidelobes raise that at first.
        """
        for number in range(MINOR_PASSES):
            noise = robust_noise(band_mean(residual, self.weight))
            found = self._clean(mask, model, residual, beam)
            if found is None:
                break
            model, residual = found
            steady = robust_noise(band_mean(residual, self.weight)) > STEADY_NOISE * noise
            if steady or number + 1 == MINOR_PASSES:
                break
            residual, _ = self._dirty(model)
        return model, residual

    def _clean(self, mask, model: PixelModel, residual: np.ndarray, beam):
        """(model, residual) after cleaning; None where there is nothing to clean or it diverges.

        In crowds of masked pixels positive and negative components can drive each other up from one
        major iteration to the next; then WSClean tries again without negative ones.
        """
        job, mean = self.job, band_mean(residual, self.weight)
        peak = float(np.abs(mean[mask]).max(initial=0))
        noise = robust_noise(mean)
        sigma = max(job.rms_factor, NOISE_FLOOR)
        if peak <= sigma * noise:
            self.monitor.message(f"{job.name}: nothing above {1e3 * sigma * noise:.3g} mJy/beam is "
                                 "left to clean")
            return None
        path = write_image(self.folder / "mask.fits", mask.astype(np.float32), self.grid,
                           freq=float(self.freq.mean()), unit="")
        # What a start model has too much of can only be taken back with negative components.
        signed = job.allow_negative or model.size > 0
        cleaning = Cleaning(
            job.peak_factor * peak, sigma, MAJORS, str(path), min(2, job.n_bands), signed,
            mask_scales(mask, beam[0] / self.grid.cell),
        )
        for negative in (True, False) if signed else (False,):
            found, left = self._attempt(replace(cleaning, allow_negative=negative))
            after = robust_noise(band_mean(left, self.weight))
            if after <= DIVERGED * noise:
                return model.joined(found), left
            self.monitor.message(
                f"{job.name}: WSClean's clean {'with negative components ' if negative else ''}"
                f"diverged, from a noise of {1e3 * noise:.3g} to {1e3 * after:.3g} mJy/beam, and "
                "is not used"
            )
        return None

    def _attempt(self, cleaning: Cleaning) -> tuple[PixelModel, np.ndarray]:
        """Components found and residual of one run of WSClean."""
        kind = model_kind(self.gridding)
        self._run(clean_command(self.gridding, cleaning, self.view.paths, self.column),
                  [kind, "residual"], clean_progress(MAJORS))
        return (PixelModel.from_cube(self._cube(kind), self.grid, self.freq, ROUNDING),
                self._cube("residual"))

    def _tell(self, cycle: int, mask, model: PixelModel, residual: np.ndarray) -> dict:
        """Write mask and residual of a cycle and report it."""
        mean = band_mean(residual, self.weight)
        writer = self._writer(float(np.average(self.freq, weights=self.weight)))
        writer("mask", mask.astype(np.float32), unit="", cycle=cycle)
        writer("residual", mean, cycle=cycle)
        return record_cycle(self.job, self.monitor, cycle, mean, model)

    # -- WSClean ---------------------------------------------------------------------------------

    def _files(self, kind: str) -> list[Path]:
        g = self.gridding
        return [product(g.prefix, kind, k, g.channels) for k in range(g.channels)]

    def _cube(self, kind: str) -> np.ndarray:
        """(band, y, x) float32 of WSClean's files of a kind; not finite becomes zero."""
        planes = [read_image(path).plane() for path in self._files(kind)]
        return np.nan_to_num(np.stack(planes), nan=0.0, posinf=0.0, neginf=0.0)

    def _run(self, words: list[str], makes: list[str], parser=None) -> None:
        products = tuple(path for kind in makes for path in self._files(kind))
        self.runner.run(Call(tuple(words), self.folder, products, parser=parser))


def mask_scales(mask: np.ndarray, beam: float) -> tuple[float, ...]:
    """Scales in pixels that fit into the islands of a mask (y, x); beam : width in pixels.

    WSClean holds the middles of its scales to the mask, not their edges: larger ones would fill the
    image with faint components (measured: all 262,144 pixels of a small field of points).
    """
    room = min(2 * float(distance_transform_edt(np.pad(mask, 1)).max()), MAX_SCALE_BEAMS * beam)
    return tuple(float(v) for v in default_scales(beam, room, 2.0) if v <= room / 2 or v == 0)

