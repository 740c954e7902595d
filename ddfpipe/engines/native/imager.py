"""Make one image: weights, facets, PSFs, major cycles, products."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from ...data.images import SkyGrid, read_image
from ...data.model import PixelModel, load_model
from ..base import ImageJob, ImageResult
from ...errors import ImagingError
from ...imaging.clean import CleanOptions, CleanResult, deconvolve
from ...imaging.facets import FacetSet
from ...imaging.mask import auto_mask
from ...imaging.multiscale import default_scales
from ...imaging.points import Points
from ...imaging.psf import fit_beam
from ...naming import image_product
from ...units import ARCSEC
from .cubes import DIRTY_KINDS, RESTORED_KINDS, check_cubes, write_cubes
from .facetmaps import make_maps
from .gainfield import GainField, load_gains
from .guard import Quality, settle
from .modelsky import sky_facets
from .operators import Operators, briggs
from .products import (
    ATTENUATION_FLOOR, Writer, band_mean, middle_facet, record_cycle, restoring_beam,
    write_products,
)
from .solveweights import load_weights
from .state import digest, gridding_key
from .subtraction import subtractor
from .visibilities import Scratch, open_data

PSF_SIZES = (256, 1024)
"""Smallest and largest PSF patch in pixels."""

FEW_FACETS, FEW_FACETS_PSF = 64, 512
"""Up to so many facets the smallest patch is this: it costs little there, and side lobes beyond the
patches, which are the noise that the first minor cycle ends at, need another major cycle."""

MINOR_PASSES, STEADY_NOISE = 4, 0.9
"""Most minor cycles of a major one; the noise must fall below this part of the last to go on."""

ROUNDING = 1e-6
"""Share of a pixel's flux under which what is left of it is nothing."""

SAMPLE_SHARE = 0.3
"""Share of the memory for samples on their way to the gridder."""

MAX_SCALE_BEAMS = 16
"""Largest scale of the multi-scale clean, in beams."""


def job_facets(job: ImageJob, phase_centre, workdir) -> FacetSet:
    """Facets of a job: Voronoi cells of its cluster catalogue, or regular ones."""
    clusters = workdir / job.clusters if job.clusters else None
    return sky_facets(job.npix, job.cell_arcsec * ARCSEC, clusters, phase_centre)


def external_mask(job: ImageJob, grid: SkyGrid, workdir) -> np.ndarray | None:
    """(y, x) bool of the external mask of a job, None if it has none.

    Raises ImagingError when the file is on another grid.
    """
    if job.external_mask is None:
        return None
    image = read_image(workdir / job.external_mask)
    if not image.grid.same(grid):
        raise ImagingError(
            f"{job.external_mask} is not on the grid of {job.name} "
            f"({grid.nx} pixels of {grid.cell / ARCSEC:g} arcsec): make the mask again"
        )
    return image.plane() > 0


def psf_size(facets: FacetSet) -> int:
    """Side in pixels of the PSF patches: twice the largest facet's, within limits, and even.

    So a source at one edge of a facet is taken out of the other edge as well.
    """
    largest = max(max(f.ny, f.nx) for f in facets.facets)
    least, most = PSF_SIZES
    if len(facets.facets) <= FEW_FACETS:
        least = FEW_FACETS_PSF
    size = int(np.clip(2 * largest, least, most))
    return min(size + size % 2, 2 * facets.npix)


@dataclass
class Picture:
    """Arrays of an image in the making, on the grid `grid`.

    residual : (band, y, x) float32 apparent Jy/beam
    attenuation : (band, y, x) float32 apparent over intrinsic flux
    norm : (band, y, x) float32 attenuation times smearing within the facet
    psf : (facet, band, n, n) float32
    mask : (y, x) bool of the last major cycle
    """

    grid: SkyGrid
    model: PixelModel
    residual: np.ndarray
    attenuation: np.ndarray
    norm: np.ndarray
    psf: np.ndarray
    mask: np.ndarray | None = None


class Imager:
    """One imaging job on the native engine."""

    def __init__(self, engine, job: ImageJob, monitor):
        self.engine, self.job, self.monitor = engine, job, monitor
        self.workdir = engine.workdir

    def run(self) -> ImageResult:
        """Make the image and its products."""
        check_cubes(self.job)
        with Scratch(self.engine.cache_dir / f"ddfpipe.scratch.{self.job.name}") as scratch:
            operators = self._operators(scratch)
            picture = self._first_picture(operators)
            self._external = external_mask(self.job, picture.grid, self.workdir)
            self._writer = Writer(self.job, self.workdir, picture.grid, operators.data.mean_freq)
            dirty = scratch.image(picture.grid.shape)
            dirty[...] = band_mean(picture.residual, operators.data.band_weight)
            self._cubes(operators, picture, DIRTY_KINDS)
            cycles = self._major_cycles(operators, picture)
            self._cubes(operators, picture, RESTORED_KINDS)
            return write_products(self._writer, operators, picture, dirty, cycles)

    def _cubes(self, operators, picture, kinds) -> None:
        """Those of the job's cubes that are of `kinds`."""
        wanted = [kind for kind in kinds if kind in self.job.cubes]
        if not wanted:
            return
        psf = band_mean(picture.psf[middle_facet(operators.facets)], operators.data.band_weight)
        self._writer.written += write_cubes(
            self.engine, self._writer, operators, picture.model, wanted,
            restoring_beam(self.job, psf, picture.grid.cell), ATTENUATION_FLOOR, self.monitor,
        )

    # -- preparation -----------------------------------------------------------------------------

    def _operators(self, scratch) -> Operators:
        job, engine = self.job, self.engine
        data = open_data(
            job.vis, cache_dir=engine.cache_dir, solsdir=engine.solsdir, scratch=scratch,
            weights=job.weights, weights_from=job.weights_from, n_bands=job.n_bands,
            drop_international=engine.drop_international, monitor=self.monitor,
            subtractor=subtractor(engine, job.vis.minus, job.decorrelation, self.monitor),
            workdir=engine.workdir,
        )
        facets = job_facets(job, data.phase_centre, self.workdir)
        briggs(data, job.npix, facets.cell, job.robust, self.monitor)
        data.refresh_bands()
        beams = [engine.beam(s.cache.ms_path) for s in data.sets]
        gains = [
            GainField(s.cache, facets, load_gains(job.gains, s.cache, engine.solsdir), beam)
            for s, beam in zip(data.sets, beams)
        ]
        maps = make_maps(data, facets, beams, job.decorrelation)
        self.monitor.message(
            f"{job.name}: {len(data.sets)} measurement sets, {data.n_bands} bands, "
            f"{len(facets.facets)} facets, {job.npix} pixels of {job.cell_arcsec:g} arcsec"
        )
        return Operators(
            data, facets, gains, maps, scratch, decorrelation=job.decorrelation,
            threads=engine.threads, memory=SAMPLE_SHARE * engine.memory_limit,
            monitor=self.monitor,
        )

    def _keys(self, operators) -> str:
        """Key of the gridding: everything but the model."""
        job, engine = self.job, self.engine
        caches = [s.cache for s in operators.data.sets]
        used = [t.gains for field in operators.gains for t in field.loaded.tables]
        used += [s.reader.key() for s in operators.data.sets]
        if job.weights == "imaging":
            used += [load_weights(engine.solsdir, c.name, job.weights_from).factor for c in caches]
        fingerprints = [c.meta["fingerprint"] for c in caches]
        extra = [*used, fingerprints, engine.beam_model, engine.drop_international]
        return gridding_key(job, extra, self.workdir)

    def _start_model(self, grid: SkyGrid, freq) -> PixelModel:
        if self.job.start_model is None:
            return PixelModel.empty(grid, freq)
        path = self.workdir / image_product(self.job.start_model, "model")
        model = load_model(path)
        return model.on_grid(grid).on_bands(freq)

    def _first_picture(self, operators) -> Picture:
        job, data = self.job, operators.data
        npix = job.npix
        grid = SkyGrid(*data.phase_centre, npix, npix, operators.facets.cell)
        model = self._start_model(grid, data.band_freq)
        key = self._keys(operators)
        self._key = key
        saved = self._saved("psf", key)
        if saved is not None:
            operators.norm = saved.array("norm")
        residual = self._first_residual(operators, model, key)
        if saved is not None:
            psf = saved.array("psf")
        else:
            psf = operators.psfs(psf_size(operators.facets))
        self.engine.images.save(
            job.name, "psf", gridding=key, model="", psf=psf, norm=operators.norm
        )
        return Picture(grid, model, residual, operators.attenuation(), operators.seen(), psf)

    def _saved(self, what: str, key: str, model: str | None = None):
        """Cached state of this image or of the one whose PSF is reused, if it still fits."""
        for name in (self.job.name, self.job.reuse):
            saved = self.engine.images.load(name, what) if name else None
            if saved and saved.gridding == key and (model is None or saved.model == model):
                return saved
        return None

    def _first_residual(self, operators, model: PixelModel, key: str) -> np.ndarray:
        job, images = self.job, self.engine.images
        wanted = digest(*model.arrays)
        for what in (("dirty", "residual") if job.reuse_what else ()):
            saved = images.load(job.reuse, what)
            if saved and (saved.gridding, saved.model) == (key, wanted) and operators.norm.any():
                self.monitor.message(f"{job.name}: {what} image of {job.reuse} taken over")
                residual = operators.scratch.image((len(model.freq), *model.grid.shape))
                saved.read("residual", residual)
                break
        else:
            operators.set_residual(model)
            residual = operators.adjoint()
        images.save(job.name, "dirty", gridding=key, model=wanted, residual=residual)
        return residual

    # -- major cycles ----------------------------------------------------------------------------

    def _major_cycles(self, operators, picture: Picture) -> list[dict]:
        job, data = self.job, operators.data
        facet_map = operators.facets.facet_map()
        self._middle = middle_facet(operators.facets)
        cycles = []
        for cycle in range(1, job.major_cycles + 1):
            picture.mask = self._cycle_mask(picture, data)
            before = picture.model
            quality = Quality.of(picture.residual, data.band_weight, picture.mask)
            result = self._minor_cycles(operators, picture, facet_map)
            trouble, back = settle(operators, picture, before, quality)
            cycles.append(self._record_cycle(cycle, picture, data, result) | {"trouble": trouble})
            if trouble:
                self.monitor.message(f"{job.name}: cycle {cycle}: {trouble}")
            if back:
                break
        return cycles

    def _minor_cycles(self, operators, picture: Picture, facet_map) -> CleanResult:
        """Deconvolve; again while it was the noise that ended it and the noise has fallen since.

        Sidelobes raise the noise at first.  Going on below `peak_factor` would only fit the
        approximations of the PSF patches.
        """
        data, options = operators.data, self._clean_options(operators, picture)
        noise, count, reason = np.inf, 0, ""
        for _ in range(MINOR_PASSES):
            result = deconvolve(
                residual=picture.residual, psf=picture.psf, facet_map=facet_map,
                mask=picture.mask, norm=picture.norm, band_freq=data.band_freq,
                band_weight=data.band_weight, options=options,
                start_model=self._seen(operators, picture), start_points=self._points(picture),
                threads=self.engine.threads, model=operators.scratch.image(picture.residual.shape),
                progress=lambda *_: self.monitor.check(),
            )
            self._take_model(picture, result)
            count += result.n_components
            reason = result.stop_reason if result.n_components or not reason else reason
            by_noise = options.rms_factor * result.noise >= 0.999 * result.threshold
            steady = result.noise > STEADY_NOISE * noise or result.n_components == 0
            if steady or not by_noise:
                break
            floor = max(options.threshold, options.peak_factor * result.first_peak)
            options, noise = replace(options, threshold=floor, peak_factor=0.0), result.noise
        return replace(result, n_components=count, stop_reason=reason)

    @staticmethod
    def _seen(operators, picture: Picture) -> np.ndarray:
        """(band, y, x) apparent flux of the model's pixels."""
        pixels = picture.model.pixels()
        flux = pixels.flux * picture.norm[:, *pixels.yx()]
        return pixels.raster(flux, operators.scratch.image(picture.residual.shape))

    @staticmethod
    def _points(picture: Picture) -> Points:
        """The model's free points with apparent fluxes."""
        points = picture.model.points()
        return Points(*points.place(), points.flux * picture.norm[:, *points.yx()].astype(float))

    @staticmethod
    def _take_model(picture: Picture, result: CleanResult) -> None:
        """Add what was found on pixels to the model, and make the points its points."""
        found = PixelModel.from_cube(result.model, picture.grid, picture.model.freq)
        points = result.points
        seen, at_points = (np.maximum(picture.norm[:, *places], 1e-12)
                           for places in (found.yx(), points.pixels()))
        # what points took the place of leaves rounding errors behind
        pixels = picture.model.pixels().plus(replace(found, flux=found.flux / seen), ROUNDING)
        picture.model = pixels.joined(PixelModel.from_points(
            picture.grid, found.freq, points.y, points.x, points.flux / at_points))

    def _cycle_mask(self, picture: Picture, data) -> np.ndarray:
        """Where this cycle may clean: where the one before could, and what stands out now."""
        mask = picture.mask if picture.mask is not None else self._first_mask(picture)
        if self.job.auto_mask_sigma is not None:
            found = auto_mask(
                band_mean(picture.residual, data.band_weight), self.job.auto_mask_sigma,
                self._beam_pixels(picture), threads=self.engine.threads,
            )
            mask = found if mask is None else (mask | found)
        if mask is None:
            mask = np.ones(picture.grid.shape, bool)
        return mask

    def _first_mask(self, picture: Picture) -> np.ndarray | None:
        """The external mask and the pixels of the start model.

        A model made through worse gains is wrong in places; cleaning may take it away there.
        """
        if picture.model.size == 0:
            return self._external
        known = np.zeros(picture.grid.shape, bool)
        known.flat[picture.model.index] = True
        return known if self._external is None else known | self._external

    def _beam_pixels(self, picture: Picture) -> float:
        """Width of the PSF's main lobe in pixels."""
        psf = picture.psf[self._middle].mean(axis=0)
        return fit_beam(psf, picture.grid.cell)[0] / picture.grid.cell

    def _clean_options(self, operators, picture: Picture) -> CleanOptions:
        job = self.job
        beam = self._beam_pixels(picture)
        largest = min(MAX_SCALE_BEAMS * beam, picture.psf.shape[-1] / 6)
        return CleanOptions(
            peak_factor=job.peak_factor, rms_factor=job.rms_factor,
            allow_negative=job.allow_negative, scales=default_scales(beam, largest),
            n_terms=min(2, operators.data.n_bands),
        )

    def _record_cycle(self, cycle, picture, data, result) -> dict:
        """Write mask and residual of a cycle, keep its state, and report it."""
        job = self.job
        residual = band_mean(picture.residual, data.band_weight)
        self._writer("mask", picture.mask.astype(np.float32), unit="", cycle=cycle)
        self._writer("residual", residual, cycle=cycle)
        self.engine.images.save(
            job.name, "residual", gridding=self._key,
            model=digest(*picture.model.arrays), residual=picture.residual,
        )
        return record_cycle(job, self.monitor, cycle, residual, picture.model,
                            components=result.n_components, ending=result.stop_reason)
