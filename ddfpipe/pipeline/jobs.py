"""Jobs that are not the engine's own: masks from catalogues, masked models, start models."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ddfpipe.engines.base import ImageJob, SpectraJob


@dataclass(frozen=True)
class ExternalMaskJob:
    """Draw catalogue sources and regions on the grid of `grid` and OR a user's mask into it.

    tgss: FITS catalogue (Peak_flux in mJy); sources above `tgss_flux` become discs of
        `tgss_radius` pixels, and with `tgss_extended` those larger than `tgss_pointlike` arcsec
        become ellipses.
    region: ds9 regions.  fits_mask: mask on the same grid.
    """

    output: Path
    grid: Path
    tgss: Path | None = None
    tgss_radius: float = 8.0
    tgss_flux: float = 300.0
    tgss_extended: bool = False
    tgss_pointlike: float = 30.0
    region: Path | None = None
    fits_mask: Path | None = None


@dataclass(frozen=True)
class MergeMasksJob:
    """OR `masks`, all on one grid, into `output`."""

    output: Path
    masks: tuple[Path, ...]


@dataclass(frozen=True)
class ExtendedMaskJob:
    """Islands of extended emission in low-resolution `image`, on its grid and on `template`'s.

    An island counts if it is above `sigma` times the noise and its size lies between `min_pixels`
    and `max_pixels`.  facets: ds9 file of the facets for one noise a facet; None is one noise.
    """

    image: Path
    template: Path
    low: Path
    high: Path
    sigma: float
    min_pixels: int
    max_pixels: int = 25000
    facets: Path | None = None


@dataclass(frozen=True)
class MaskModelJob:
    """Keep the part of the model of `image` that lies under `mask`, as model root `output`."""

    image: str
    mask: Path
    output: str


@dataclass(frozen=True)
class OutsideModelJob:
    """Keep the model of `image` outside the central square of `pixels` a side, as root `output`."""

    image: str
    pixels: int
    output: str


@dataclass(frozen=True)
class DownloadModelJob:
    """Ask the server of `source` (GSM or TGSS) for the sky within `radius_deg` of the phase centre.

    ms: the measurement set whose phase centre it is, and no other.
    """

    source: str
    ms: tuple[Path, ...]
    radius_deg: float
    output: Path


@dataclass(frozen=True)
class DynspecJob:
    """Dynamic spectra of one observation.

    spectra: what the engine is asked for; its positions and output lie in the cache directory.
    catalogue: list of targets; bright_jy: peak flux from which sources of the image are targets;
    radius_deg: of the circle about the phase centre that holds all positions.
    """

    spectra: SpectraJob
    observation: str
    catalogue: Path | None
    bright_jy: float
    radius_deg: float


@dataclass(frozen=True)
class RemoveColumnsJob:
    """Remove what pipelines have written into measurement sets `ms`, but for columns `keep`."""

    ms: tuple[Path, ...]
    keep: tuple[str, ...] = ()


@dataclass(frozen=True)
class CompressJob:
    """Compress `files` with fpack, each into `ddfpipe.naming.compressed` of its name.

    quantisation: steps that the noise is divided into, 0 loses nothing.  delete: remove the files
    once their copies were read back well.
    """

    files: tuple[Path, ...]
    quantisation: int
    delete: bool


@dataclass(frozen=True)
class StartModelJob:
    """Turn a list of components into model root `output` on the grid of image job `like`."""

    skymodel: Path
    like: ImageJob
    output: str


@dataclass(frozen=True)
class FluxScaleJob:
    """Find factors that bring the bands of an observation to the flux scale of catalogues.

    cube, detection, flux: intrinsic restored cube, apparent and intrinsic restored image.
    model, psf: components and point spread function of that image.
    catalogues, names, frequencies (Hz), radii (arcsec), groups: one entry a catalogue.
    min_sources: fewer reference sources are a failure.  on_failure: "stop", or "unscaled": go on
        with factors of one.
    """

    observation: str
    cube: Path
    detection: Path
    flux: Path
    model: Path
    psf: Path
    catalogues: tuple[Path, ...]
    names: tuple[str, ...]
    frequencies: tuple[float, ...]
    radii: tuple[float, ...]
    groups: tuple[str, ...]
    min_sources: int
    on_failure: str


@dataclass(frozen=True)
class MeanImageJob:
    """Average `images`, all on one grid, into `output`."""

    images: tuple[Path, ...]
    output: Path
