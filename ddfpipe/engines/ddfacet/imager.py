"""Make one image with DDFacet: one run of DDF.py for all major cycles; products by our own code."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ...data.dicomodel import read_dicomodel
from ...data.images import SkyGrid, read_image
from ...data.model import PixelModel, load_model
from ...errors import ImagingError
from ...imaging.mask import auto_mask
from ...imaging.noise import robust_noise
from ...imaging.psf import fit_beam
from ...naming import image_product
from ..base import ImageJob, ImageResult
from ..external.ours import Bands, Outcome
from ..external.runner import Runner
from ..external.view import cell_rad, open_view
from ..native.imager import Picture, external_mask, job_facets
from ..native.products import Writer, beam_arcsec, middle_facet, write_products
from ..native.visibilities import Scratch
from .commands import Cleaning, clean_progress, image_command
from .inputs import cut, imaging_of, wide_grid, write_gains, write_mask, write_model
from .outputs import middle_psf

DICO = "DicoModel"
"""Suffix of DDFacet's models."""

OPENING = {"dirty": "dirty", "residual": "app_residual"}
"""What of an earlier image opens the first cycle -> product that shows it."""


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
            self._call()
            picture, cycles = self._picture()
            writer = self._writer()
            dirty = self._read("dirty")
            outcome = Outcome(
                Bands(self.data.band_weight, self.data.phase_centre), self.facets)
            return write_products(writer, outcome, picture, dirty, cycles)

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

    def _mask(self) -> str | None:
        """The mask of the job on DDFacet's grid; an empty one, which DDFacet refuses, is none.

        To it belongs what stands out where an earlier image opens the first cycle: a source raises
        the noise of the small boxes in which DDFacet's automatic mask measures it, by its side
        lobes, and may stay below its own threshold there.
        """
        mask, job = external_mask(self.job, self.grid, self.native.workdir), self.job
        if job.reuse_what and job.auto_mask_sigma is not None:
            kind = OPENING[job.reuse_what]
            opening = read_image(self.native.workdir / image_product(job.reuse, kind))
            found = auto_mask(opening.plane(), job.auto_mask_sigma,
                              opening.beam[0] / opening.grid.cell, threads=self.native.threads)
            mask = found if mask is None else mask | found
        if mask is None or not mask.any():
            return None
        path = self.folder / "mask.fits"
        return str(write_mask(path, mask, self.grid, self.wide, self.data.mean_freq))

    def _writer(self) -> Writer:
        return Writer(self.job, self.native.workdir, self.grid, self.data.mean_freq)

    # -- DDFacet ---------------------------------------------------------------------------------

    def _call(self) -> None:
        job, mask = self.job, self._mask()
        somewhere = mask is not None or job.auto_mask_sigma is not None
        majors = job.major_cycles if somewhere else 0
        cleaning = Cleaning(majors, job.peak_factor, job.rms_factor, job.auto_mask_sigma, mask,
                            job.allow_negative)
        made = ["psf", "dirty"]
        if majors:
            made += ["residual01", DICO]
        self.runner.run(self.engine.call(
            image_command(self.imaging, cleaning, "DATA"), self.folder,
            tuple(self._file(kind) for kind in made), parser=clean_progress(majors),
        ))

    def _file(self, kind: str) -> Path:
        return Path(f"{self.imaging.prefix}.{kind}{'' if kind.endswith(DICO) else '.fits'}")

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

    def _picture(self) -> tuple[Picture, list[dict]]:
        bands = len(self.data.band_freq)
        residual = self._read(self._last_residual())
        attenuation = np.ones(self.wide.shape, np.float32)
        if self._file("Norm").exists():
            attenuation = np.sqrt(np.maximum(self._plane("Norm"), 0))
        psf = middle_psf(self._plane("psf"), attenuation)
        attenuation = cut(attenuation, self.wide, self.grid)
        shape = (bands, *self.grid.shape)
        model = self._model()
        masks, cycles = self._cycles(model, residual)
        picture = Picture(
            self.grid, model, np.broadcast_to(residual, shape),
            np.broadcast_to(attenuation, shape), np.broadcast_to(attenuation, shape),
            {middle_facet(self.facets): np.broadcast_to(psf, (bands, *psf.shape))},
            masks[-1] if masks else None,
        )
        beam = beam_arcsec(fit_beam(psf, self.grid.cell))
        self.monitor.message(f"{self.job.name}: PSF {beam[0]:.1f} x {beam[1]:.1f} arcsec")
        return picture, cycles

    def _last_residual(self) -> str:
        """DDFacet takes a model to begin with out of what it calls dirty."""
        numbers = range(self.job.major_cycles, 0, -1)
        found = [f"residual{n:02d}" for n in numbers if self._file(f"residual{n:02d}").exists()]
        return found[0] if found else "dirty"

    def _model(self, kind: str = DICO) -> PixelModel:
        """DDFacet's model in the bands of the data, or the one to begin with."""
        path = self._file(kind)
        if not path.exists() and self.imaging.model is not None:
            path = Path(self.imaging.model)
        if not path.exists():
            return PixelModel.empty(self.grid, self.data.band_freq)
        model = read_dicomodel(path, grid=self.wide, freq=self.data.band_freq)
        return model.select((model.flux != 0).any(axis=0)).on_grid(self.grid)

    def _cycles(self, model: PixelModel, residual: np.ndarray):
        """(masks, figures) of the major cycles that DDFacet made; it stops when nothing is left."""
        masks, cycles, writer = [], [], self._writer()
        for cycle in range(1, self.job.major_cycles + 1):
            if not self._file(f"residual{cycle:02d}").exists():
                break
            here = self._read(f"residual{cycle:02d}")
            writer("residual", here, cycle=cycle)
            if self._file(f"mask{cycle:02d}").exists():
                masks.append(self._read(f"mask{cycle:02d}") > 0.5)
                writer("mask", masks[-1].astype(np.float32), unit="", cycle=cycle)
            between = f"{cycle:02d}.{DICO}"
            found = self._model(between) if self._file(between).exists() else model
            record = {
                "cycle": cycle, "noise": robust_noise(here), "peak": float(np.abs(here).max()),
                "flux": float(found.total_flux.mean()), "components": int(found.size),
            }
            cycles.append(record)
            self.monitor.message(
                f"{self.job.name}: cycle {cycle}: noise {1e3 * record['noise']:.3g} mJy/beam, "
                f"largest residual {1e3 * record['peak']:.3g} mJy/beam, model "
                f"{record['flux']:.4g} Jy in {found.size} components"
            )
        return masks, cycles
