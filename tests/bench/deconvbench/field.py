"""One case prepared: dirty image, PSFs and mask, and the residual that a model leaves."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ddfpipe.data.clusters import make_directions, write_clusters
from ddfpipe.data.images import SkyGrid, write_image
from ddfpipe.data.model import PixelModel
from ddfpipe.engines.base import ImageJob, Silent, VisSelection
from ddfpipe.engines.native.engine import NativeEngine
from ddfpipe.engines.native.imager import Imager, psf_size
from ddfpipe.engines.native.visibilities import Scratch
from ddfpipe.imaging.psf import fit_beam
from ddfpipe.imaging.sky import lm_to_radec, pixel_to_lm

from .skies import CENTRE, Case, Setting, simulate_case, sources_of
from .truth import Truth

MASK_SIGMA = 3.0
"""The mask is where the restored sky without noise exceeds this."""


def directions_file(folder: Path, setting: Setting) -> None:
    """Write the catalogue of the facets' middles, directions.npy."""
    middle = (np.arange(setting.facets) + 0.5) * setting.npix / setting.facets - 0.5
    y, x = (a.ravel() for a in np.meshgrid(middle, middle, indexing="ij"))
    l, m = pixel_to_lm(y, x, setting.npix, np.radians(setting.cell / 3600))  # noqa: E741
    ra, dec = lm_to_radec(l, m, *np.radians(CENTRE))
    write_clusters(folder / "directions.npy", make_directions(ra, dec, np.ones(len(l))))


def image_job(folder: Path, ms, case: Case, setting: Setting, column: str = "DATA") -> ImageJob:
    """The job of a case: what of it concerns the deconvolution is the same for all programs."""
    return ImageJob(
        name=case.name, vis=VisSelection(tuple(ms), column, uv_km=setting.uv_km),
        npix=setting.npix, cell_arcsec=setting.cell, robust=setting.robust, restoring_beam=None,
        peak_factor=0.001, rms_factor=3.0, auto_mask_sigma=None, major_cycles=2,
        n_bands=case.bands, weights="spectrum", clusters=Path("directions.npy"),
        decorrelation=False, external_mask=Path("mask.fits"),
    )


@dataclass
class Field:
    """A prepared case.

    arrays: residual (band, y, x), psf (facet, band, n, n), norm (band, y, x), facet_map (y, x),
    mask (y, x), band_freq (band,), band_weight (band,), whole_psf (band, y, x).
    noise: rms of the image of the noise alone.  beam: (major, minor, position angle) rad.
    """

    folder: Path
    case: Case
    setting: Setting
    ms: list[Path]
    grid: SkyGrid
    arrays: dict[str, np.ndarray]
    noise: float
    beam: tuple[float, float, float]
    truth: Truth

    @property
    def weight(self) -> np.ndarray:
        """(band,) shares of the bands."""
        return self.arrays["band_weight"] / self.arrays["band_weight"].sum()

    def mean(self, cube: np.ndarray) -> np.ndarray:
        """Band mean of (band, y, x)."""
        return np.tensordot(self.weight, cube.astype(float), 1)

    def residual(self, model: PixelModel) -> np.ndarray:
        """(band, y, x) what a model leaves, through our own operators."""
        with Scratch(self.folder / "cache" / "scratch") as scratch:
            operators = self._operators(scratch)
            operators.set_residual(model)
            return operators.adjoint()

    def _operators(self, scratch, column: str = "DATA"):
        engine = NativeEngine(workdir=self.folder, cache_dir=self.folder / "cache",
                              solsdir=self.folder / "SOLSDIR", threads=2, memory_limit=2 << 30,
                              beam_model="none")
        job = image_job(self.folder, self.ms, self.case, self.setting, column)
        return Imager(engine, job, Silent())._operators(scratch)


def prepare(folder: Path, case: Case, setting: Setting) -> Field:
    """Simulate and image a case; what is there already is read."""
    folder = folder / case.name
    ms = simulate_case(folder, case, setting)
    cell = np.radians(setting.cell / 3600)
    grid = SkyGrid(*np.radians(CENTRE), setting.npix, setting.npix, cell)
    field = Field(folder, case, setting, ms, grid, {}, 0.0, (0.0, 0.0, 0.0), None)
    if not (folder / "field.json").exists():
        directions_file(folder, setting)
        _make_arrays(field)
    facts = json.loads((folder / "field.json").read_text())
    with np.load(folder / "work.npz") as file:
        field.arrays.update({name: file[name] for name in file.files})
    field.noise, field.beam = facts["noise"], tuple(facts["beam"])
    field.truth = Truth(sources_of(case, setting), grid, field.arrays["band_freq"], field.beam)
    return field


def _make_arrays(field: Field) -> None:
    """Dirty image, PSFs, noise and mask, into work.npz, field.json and mask.fits."""
    folder, setting = field.folder, field.setting
    with Scratch(folder / "cache" / "scratch") as scratch:
        operators = field._operators(scratch)
        operators.set_residual(None)
        residual = operators.adjoint()
        psf = operators.psfs(psf_size(operators.facets))
        middle = len(operators.facets.facets) // 2
        whole = operators.psf_facet(middle, setting.npix)
        data, facet_map = operators.data, operators.facets.facet_map()
        field.arrays |= {
            "residual": residual, "psf": psf, "norm": operators.attenuation(),
            "facet_map": facet_map, "band_freq": data.band_freq, "band_weight": data.band_weight,
            "whole_psf": whole,
        }
    with Scratch(folder / "cache" / "scratch") as scratch:
        operators = field._operators(scratch, "NOISE_DATA")
        operators.set_residual(None)
        noise = float(field.mean(operators.adjoint()).std())
    beam = fit_beam(psf[middle].mean(axis=0), field.grid.cell)
    truth = Truth(sources_of(field.case, setting), field.grid, field.arrays["band_freq"], beam)
    mask = field.mean(truth.image) > MASK_SIGMA * noise
    field.arrays["mask"] = mask & (facet_map >= 0)
    write_image(folder / "mask.fits", field.arrays["mask"].astype(np.float32), field.grid,
                freq=float(data.band_freq.mean()), unit="")
    np.savez(folder / "work.npz", **field.arrays)
    (folder / "field.json").write_text(json.dumps({"noise": noise, "beam": list(beam)}))

