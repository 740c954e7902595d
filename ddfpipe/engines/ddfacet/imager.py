"""Make one image with DDFacet: a run of DDF.py for each major cycle; products by our own code."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from ...data.dicomodel import read_dicomodel
from ...data.images import SkyGrid, read_image
from ...data.model import PixelModel, load_model
from ...errors import ImagingError
from ...imaging.mask import auto_mask
from ...imaging.psf import fit_beam
from ...naming import image_product
from ..base import ImageJob, ImageResult
from ..external.ours import Bands, Outcome
from ..external.runner import Runner
from ..external.view import cell_rad, open_view
from ..native.imager import Picture, external_mask, job_facets
from ..native.products import (
    Writer, beam_arcsec, middle_facet, record_cycle, write_products,
)
from ..native.visibilities import Scratch
from .commands import Cleaning, clean_progress, image_command
from .inputs import cut, imaging_of, wide_grid, write_gains, write_mask, write_model
from .outputs import middle_psf

DICO = "DicoModel"
"""Suffix of DDFacet's models."""


def cycle_cleaning(job: ImageJob, cycle: int, mask: str | None) -> Cleaning:
    """What the run of a major cycle (from 1) is told; 0 is the one before, which cleans nothing."""
    return Cleaning(
        min(cycle, 1), job.peak_factor, job.rms_factor, job.auto_mask_sigma, mask,
        job.allow_negative, opening=("", "dirty", "residual")[min(cycle, 2)],
        keep=cycle < job.major_cycles,
    )


class DDFacetImager:
    """One imaging job with DDFacet."""

    def __init__(self, engine, job: ImageJob, monitor):
        self.engine, self.job, self.monitor = engine, job, monitor
        self.native, self.runner = engine.native, Runner(monitor)

    def run(self) -> ImageResult:
        """Make the image and its products.

        Raises ImagingError, DataError, SolveError, StageFailed and ResourceError (see `Runner`).
        """
        self.engine.require(self.job)
        with Scratch(self.native.cache_dir / f"ddfpipe.scratch.{self.job.name}") as scratch:
            self.folder = scratch.folder.absolute()
            self._prepare(scratch)
            self._begin()
            dirty = self.residual
            cycles = self._cycles()
            outcome = Outcome(
                Bands(self.data.band_weight, self.data.phase_centre), self.facets)
            return write_products(self._writer(), outcome, self._picture(), dirty, cycles)

    # -- preparation -----------------------------------------------------------------------------

    def _prepare(self, scratch: Scratch) -> None:
        job, native = self.job, self.native
        self.view = open_view(
            native, job, self.monitor, scratch, job.weights, weights_from=job.weights_from,
            n_bands=job.n_bands,
        )
        self.data = self.view.data
        self.grid = SkyGrid(*self.data.phase_centre, job.npix, job.npix, cell_rad(job.cell_arcsec))
        self.wide = wide_grid(self.grid)
        self.facets = job_facets(job, self.data.phase_centre, native.workdir)
        names = write_gains(self.folder / "gains", job.gains, self.view, native.solsdir)
        self.imaging = imaging_of(
            self.engine, self.wide.nx, job.cell_arcsec, self.folder, self.view, robust=job.robust,
            n_bands=self.data.n_bands, decorrelation=job.decorrelation,
            smooth_beam=job.smooth_beam, mode=job.gains.mode if job.gains else "AP",
            solutions=names, model=self._start_model(),
            nodes=native.workdir.absolute() / job.clusters if job.clusters else None,
        )
        self.monitor.message(
            f"{job.name}: DDFacet on {len(self.view.copies)} measurement sets, "
            f"{self.data.n_bands} bands, {'gains of ' + ', '.join(names) if names else 'no gains'}"
            f", {job.npix} ({self.wide.nx}) pixels of {job.cell_arcsec:g} arcsec"
        )

    def _start_model(self) -> Path | None:
        """The model to begin with as a DicoModel; an empty one is none."""
        if self.job.start_model is None:
            return None
        path = self.native.workdir / image_product(self.job.start_model, "model")
        model = load_model(path).on_grid(self.wide).on_bands(self.data.band_freq)
        if model.size == 0:
            return None
        return write_model(self.folder / f"start.{DICO}", model, self.data.mean_freq,
                           monitor=self.monitor)

    def _writer(self) -> Writer:
        return Writer(self.job, self.native.workdir, self.grid, self.data.mean_freq)

    # -- cycles ----------------------------------------------------------------------------------

    def _begin(self) -> None:
        """PSFs, and the image of what the model to begin with leaves."""
        self.model = Path(self.imaging.model) if self.imaging.model else None
        self._call(0, ("psf", "dirty"))
        self.residual = self._read("dirty")
        self.attenuation = np.ones(self.wide.shape, np.float32)
        if self._file("Norm").exists():
            self.attenuation = np.sqrt(np.maximum(self._plane("Norm"), 0))
        self.psf = middle_psf(self._plane("psf"), self.attenuation)
        self.beam = fit_beam(self.psf, self.grid.cell)
        beam = beam_arcsec(self.beam)
        self.monitor.message(f"{self.job.name}: PSF {beam[0]:.1f} x {beam[1]:.1f} arcsec")

    def _cycles(self) -> list[dict]:
        """Major cycles, a run of DDFacet each; none where no mask tells where to clean."""
        job, cycles = self.job, []
        self.mask = external_mask(job, self.grid, self.native.workdir)
        for cycle in range(1, job.major_cycles + 1):
            self._widen_mask()
            if job.auto_mask_sigma is None and not self.mask.any():
                break
            self._call(cycle, ("residual01", DICO))
            self.model, self.residual = self._file(DICO), self._read("residual01")
            cycles.append(self._tell(cycle))
        return cycles

    def _widen_mask(self) -> None:
        """Add what stands out to the mask, as our own engine does.

        A source raises the noise of the small boxes in which DDFacet's automatic mask measures it,
        by its side lobes, and may stay below the threshold there.
        """
        if self.job.auto_mask_sigma is None:
            return
        found = auto_mask(self.residual, self.job.auto_mask_sigma, self.beam[0] / self.grid.cell,
                          threads=self.native.threads)
        self.mask = found if self.mask is None else self.mask | found

    def _call(self, cycle: int, made: tuple[str, ...]) -> None:
        """One run of DDF.py: without cleaning (cycle 0), or a major cycle on what is left."""
        job, mask = self.job, None
        self.prefix = f"{self.imaging.prefix}{cycle}"
        if cycle and self.mask is not None and self.mask.any():  # it refuses an empty one
            mask = str(write_mask(self.folder / "mask.fits", self.mask, self.grid, self.wide,
                                  self.data.mean_freq))
        imaging = replace(self.imaging, prefix=self.prefix,
                          model=None if self.model is None else str(self.model))
        self.runner.run(self.engine.call(
            image_command(imaging, cycle_cleaning(job, cycle, mask), "DATA"), self.folder,
            tuple(self._file(kind) for kind in made),
            parser=clean_progress(cycle, job.major_cycles),
        ))

    def _file(self, kind: str) -> Path:
        return Path(f"{self.prefix}.{kind}{'' if kind == DICO else '.fits'}")

    def _read(self, kind: str) -> np.ndarray:
        """(y, x) float32 image of DDFacet on the job's grid; not finite becomes zero."""
        return cut(self._plane(kind), self.wide, self.grid)

    def _plane(self, kind: str) -> np.ndarray:
        """(y, x) float32 image of DDFacet on its own grid; not finite becomes zero."""
        image = read_image(self._file(kind))
        if image.grid.shape != self.wide.shape:
            raise ImagingError(f"DDFacet made {image.grid.nx} pixels where {self.wide.nx} were "
                               "asked for; this version of DDFacet cannot be used")
        return np.nan_to_num(image.plane(), nan=0.0, posinf=0.0, neginf=0.0)

    # -- results ---------------------------------------------------------------------------------

    def _picture(self) -> Picture:
        bands = len(self.data.band_freq)
        attenuation = cut(self.attenuation, self.wide, self.grid)
        shape = (bands, *self.grid.shape)
        return Picture(
            self.grid, self._sky(), np.broadcast_to(self.residual, shape),
            np.broadcast_to(attenuation, shape), np.broadcast_to(attenuation, shape),
            {middle_facet(self.facets): np.broadcast_to(self.psf, (bands, *self.psf.shape))},
            self.mask,
        )

    def _sky(self) -> PixelModel:
        """DDFacet's model in the bands of the data."""
        if self.model is None:
            return PixelModel.empty(self.grid, self.data.band_freq)
        model = read_dicomodel(self.model, grid=self.wide, freq=self.data.band_freq)
        return model.select((model.flux != 0).any(axis=0)).on_grid(self.grid)

    def _tell(self, cycle: int) -> dict:
        """Write mask and residual of a cycle and report it."""
        writer, here = self._writer(), self.residual
        writer("residual", here, cycle=cycle)
        if self._file("mask01").exists():
            self.mask = self._read("mask01") > 0.5
            writer("mask", self.mask.astype(np.float32), unit="", cycle=cycle)
        return record_cycle(self.job, self.monitor, cycle, here, self._sky())
