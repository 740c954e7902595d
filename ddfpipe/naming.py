"""Names of every product: the only place where one is put together or taken apart.

Image products hang on a *root* (``image_phase1``), masks on the image that was thresholded,
solution sets on a name (``DDS0``) and a measurement set.  The names are those of the LoTSS
pipeline (Shimwell et al. 2019, A&A 622, A1; Tasse et al. 2021, A&A 648, A1), since extraction and
VLBI tools read them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

MASK_SUFFIX = ".mask.fits"
CLUSTERS = "image_dirin_SSD_m.npy.ClusterCat.npy"
"""Catalogue of the calibration directions."""
DIFFUSE_MASK, NOISE_MAP, NOISE_MEAN = "MaskDiffuse.fits", "Noise.fits", "Noise.mean.fits"
"""What thresholding with `diffuse` leaves behind."""
EXTERNAL_MASK = "external_mask.fits"
EXTERNAL_MASK_DIFFUSE = "external_mask_diffuse.fits"
EXTERNAL_MASK_EXTENDED = "external_mask_ext.fits"
EXTERNAL_MASK_DEEP = "external_mask_ext-deep.fits"
FINAL_MASK = "final_mask.fits"
"""Where the final image is cleaned: what its forerunner shows, and deep extended emission."""
FINAL_IMAGE = "image_full_ampphase_di_m.NS"
WIDE_IMAGE = "image_full_wide"
WIDE_EXTERNAL_MASK = "wide_external_mask.fits"
WIDE_OUTSIDE = "image_full_wide_outside"
"""Root of the model of what lies outside the main field."""
LOW_IMAGE = "image_full_low_m"
LOW_CUBES, VERY_LOW_CUBES = "image_full_low", "image_full_vlow"
"""What the roots of cubes of polarisation begin with, by resolution."""
COMPRESSED_SUFFIX = ".fz"
"""What follows the name of a FITS file that fpack has compressed."""
SUMMARY = "summary.txt"
REPORT = "report.html"
PREVIEWS = "previews"
STATE_FOLDER = "ddfpipe.state"

FLUX_SCALE = "bootstrap"
"""Root of the tables of flux-scale factors, and of the masks from the images behind them."""
BOOTSTRAP_MEAN_IMAGE = "image_bootstrap.app.mean.fits"
"""Mean of the apparent images of all observations that the flux scale is measured on."""
BOOTSTRAP_MASK = "bootstrap_external_mask.fits"
BOOTSTRAP_SUFFIXES = {
    "crossmatch_1": "crossmatch-1.fits",
    "crossmatch_2": "crossmatch-2.fits",
    "frequencies": "frequencies.txt",
    "results_1": "crossmatch-results-1.npy",
    "results_2": "crossmatch-results-2.npy",
}
"""Kind of file of an observation's flux scale -> what follows the observation."""

IMAGE_SUFFIXES = {
    "app_restored": ".app.restored.fits",
    "int_restored": ".int.restored.fits",
    "app_model": ".app.model.fits",
    "int_model": ".int.model.fits",
    "app_residual": ".app.residual.fits",
    "int_residual": ".int.residual.fits",
    "dirty": ".dirty.fits",
    "dirty_corr": ".dirty.corr.fits",
    "psf": ".psf.fits",
    "norm": ".Norm.fits",
    "tessel": ".tessel.reg",
    "model": ".model.npz",
    "facet_coord": ".facetCoord.txt",
    "app_facet_restored": ".app.facetRestored.fits",
    "int_facet_restored": ".int.facetRestored.fits",
    "cube_app_restored": ".cube.app.restored.fits",
    "cube_int_restored": ".cube.int.restored.fits",
    "cube_dirty": ".cube.dirty.fits",
    "cube_dirty_corr": ".cube.dirty.corr.fits",
}
"""Kind of product -> what follows the root of the image."""

NUMBERED_SUFFIXES = {"mask": ".mask{:02d}.fits", "residual": ".residual{:02d}.fits"}
"""Kind of product that each major cycle leaves -> what follows the root."""

ASTROMETRY_MAP = "astromap.fits"
"""Map of the errors of positions in the final image."""
SHIFT_LIST = "facet-offset.txt"
"""Offsets of its facets as DDFacet reads them."""
OFFSET_SUFFIXES = {
    "catalogue": ".offset_cat.fits",
    "gaussians": ".offset_gaul.fits",
    "rms": ".offset.rms.fits",
    "residual": ".offset.resid.fits",
    "mask": ".offset.pybdsfmask.fits",
    "regions": ".offset.cat.reg",
    "used": ".offset_cat_compact.fits",
}
"""Kind of file -> what follows the image's root in names of the sources that offsets come from."""
OFFSET_TABLES = {
    "reference": "{}-reference.fits",
    "offsets": "{}-facet_offsets.fits",
    "state": "{}-fit_state.json",
    "fits": "{}-fits.pdf",
    "chains": "{}-chains.pdf",
    "overview": "SKO-{}.pdf",
    "selection": "{}-compact.png",
}
"""Kind of file -> its name, with that of the reference catalogue."""

VERY_LOW_IMAGE, STOKES_V_IMAGE = "image_full_vlow_nocut_m", "image_full_high_stokesV"
"""Images of other programs that mosaics can be made of."""
WSCLEAN_LOW = "WSCLEAN_low-MFS-image-int.fits", "WSCLEAN_low-MFS-image.fits"
"""The same by WSClean: intrinsic, apparent."""
BAD_FACETS, IMAGE_CROP = "Badfacets.txt", "imcrop.txt"
"""Lists that a person keeps beside the images: facets not to be used, size of the good part."""

CATALOGUE_SUFFIXES = {
    "catalogue": ".cat.fits",
    "rms": ".rms.fits",
    "residual": ".resid.fits",
    "mask": ".pybdsmmask.fits",
    "regions": ".cat.reg",
}
"""Kind of file -> what follows the prefix of a source catalogue."""

_NUMBERED = re.compile(r"^(?P<root>.+)\.(?P<kind>mask|residual)(?P<cycle>\d{2,})\.fits$")
_SOLUTION = re.compile(r"^killMS\.(?P<name>.+)\.sols\.npz$")
_MERGED = re.compile(r"^(?P<name>.+)_(?P<start>\d+(?:\.\d+)?)_(?P<kind>merged|smoothed)\.npz$")


def image_product(root: str, kind: str, cycle: int | None = None) -> str:
    """File name of product `kind` of the image called `root`.

    cycle: number of the major cycle, from 1, for the kinds of `NUMBERED_SUFFIXES`.
    Raises KeyError for a kind that does not exist.
    """
    if kind in NUMBERED_SUFFIXES:
        if cycle is None:
            raise KeyError(f"product '{kind}' needs the number of its major cycle")
        return root + NUMBERED_SUFFIXES[kind].format(cycle)
    return root + IMAGE_SUFFIXES[kind]


@dataclass(frozen=True)
class ImageFile:
    """An image product's name, taken apart."""

    root: str
    kind: str
    cycle: int | None = None


def parse_image_product(name: str | Path) -> ImageFile | None:
    """Take the name of an image product apart; None if it is not one.

    A mask made from a product (``<product>.mask.fits``) is not a product of the image itself:
    see `masked_image`.
    """
    text = Path(name).name
    numbered = _NUMBERED.match(text)
    if numbered:
        return ImageFile(numbered["root"], numbered["kind"], int(numbered["cycle"]))
    for kind, suffix in sorted(IMAGE_SUFFIXES.items(), key=lambda item: -len(item[1])):
        if text.endswith(suffix) and len(text) > len(suffix):
            return ImageFile(text[: -len(suffix)], kind)
    return None


def mask_of(image: str | Path) -> str:
    """Name of the mask made from an image file: ``<image>.mask.fits``."""
    return str(image) + MASK_SUFFIX


def masked_image(mask: str | Path) -> str | None:
    """The image file that a mask was made from, None if the name is not that of such a mask."""
    text = str(mask)
    return text[: -len(MASK_SUFFIX)] if text.endswith(MASK_SUFFIX) else None


def band_image(number: int) -> str:
    """Root of the final image in band `number` alone, from 0."""
    return f"{FINAL_IMAGE}_Band{number}"


def shifted_image(root: str) -> str:
    """Root of an image whose facets were moved to the positions of a reference catalogue."""
    return f"{root}_shift"


def offset_sources(root: str, kind: str) -> str:
    """File of the sources of image `root` that offsets come from (kinds of `OFFSET_SUFFIXES`)."""
    return root + OFFSET_SUFFIXES[kind]


def reference_label(method: str) -> str:
    """Word for a reference catalogue in names of products: its name, or that of its file."""
    return re.sub(r"[^A-Za-z0-9_+-]", "_", Path(method).name.split(".")[0]) or "reference"


def offsets_file(label: str, kind: str) -> str:
    """File of offsets from the catalogue with this label (kinds of `OFFSET_TABLES`)."""
    return OFFSET_TABLES[kind].format(label)


def polarisation_cube(resolution: str, stokes: str, split: bool = False) -> str:
    """Root of a cube of polarisation.

    resolution: LOW_CUBES or VERY_LOW_CUBES.  split: the cube holds one Stokes parameter of several
    that were asked for.
    """
    return f"{resolution}_Stokes{stokes}" if split else f"{resolution}_{stokes}"


def stokes_v_image(observation: str) -> str:
    """Root of the Stokes V image of an observation."""
    return f"image_full_high_stokesV_{observation}"


def compressed(path: str | Path) -> str:
    """Name of the copy of a FITS file that fpack makes."""
    return str(path) + COMPRESSED_SUFFIX


def solution_name(name: str, smooth: bool) -> str:
    """Name of a solution set after merging: ``<name>_smoothed``, or ``<name>_merged``."""
    return name + ("_smoothed" if smooth else "_merged")


def solution_file(solsdir: Path, ms: str | Path, name: str) -> Path:
    """``<solsdir>/<measurement set>/killMS.<name>.sols.npz``."""
    return Path(solsdir) / Path(ms).name / f"killMS.{name}.sols.npz"


def parse_solution_file(path: str | Path) -> tuple[str, str] | None:
    """(measurement set, solution set) of a solution file; None if it is not one."""
    path = Path(path)
    match = _SOLUTION.match(path.name)
    return (path.parent.name, match["name"]) if match else None


def solution_h5parm(solsdir: Path, ms: str | Path, name: str) -> Path:
    """``<solsdir>/<measurement set>/<name>.h5``: the same solutions as h5parm."""
    return Path(solsdir) / Path(ms).name / f"{name}.h5"


def solution_table(path: str | Path) -> Path | None:
    """The h5parm beside a solution file (``<name>.h5``); None if `path` is not a solution file."""
    parsed = parse_solution_file(path)
    return solution_h5parm(Path(path).parent.parent, *parsed) if parsed else None


def merged_file(name: str, start: float, smooth: bool) -> str:
    """Solutions of all measurement sets of the observation that starts at `start` (MJD s)."""
    return f"{name}_{start:.2f}_{'smoothed' if smooth else 'merged'}.npz"


def parse_merged_file(path: str | Path) -> tuple[str, float, bool] | None:
    """(solution set, start in MJD s, smoothed?) of a merged file; None if it is not one."""
    match = _MERGED.match(Path(path).name)
    if match is None:
        return None
    return match["name"], float(match["start"]), match["kind"] == "smoothed"


def extended_masks(root: str) -> tuple[str, str]:
    """(low, high) resolution masks of extended emission: ``<root>-mask-low.fits``, ``-high``."""
    return f"{root}-mask-low.fits", f"{root}-mask-high.fits"


def catalogue_model(source: str) -> str:
    """Sky model that was downloaded from `source` (GSM or TGSS) for redo_DI."""
    return f"redo_DI_{source}.skymodel"


def observation_of(ms: str | Path) -> str:
    """Observation that a measurement set belongs to: its name up to the first underscore."""
    return Path(ms).stem.split("_")[0]


def spectra_folder(observation: str) -> str:
    """Folder of the dynamic spectra of an observation."""
    return f"DynSpecs_{observation}" if observation else "DynSpecs"


def spectra_archive(observation: str) -> str:
    """Archive of that folder."""
    return f"{spectra_folder(observation)}.tgz"


def archive_name(ms: str | Path) -> str:
    """Name of the compressed copy of a measurement set: ``<ms>.archive``."""
    return f"{Path(ms).name}.archive"


def in_archive(path: str | Path) -> bool:
    """Whether a path leads to the compressed copy of a measurement set, or into one."""
    return any(part.endswith(".archive") for part in Path(path).parts)


def factors_file(root: str, observation: str) -> str:
    """Flux-scale factors of an observation (``<root>_<observation>_factors.json``)."""
    return f"{root}_{observation}_factors.json"


def parse_factors_file(path: str | Path, root: str) -> str | None:
    """The observation that a file of factors belongs to; None if it is not one of `root`."""
    match = re.match(rf"^{re.escape(root)}_(.+)_factors\.json$", Path(path).name)
    return match[1] if match else None


def bootstrap_image(observation: str) -> str:
    """Root of the image cube of an observation that its flux scale is measured on."""
    return f"image_bootstrap_{observation}"


def bootstrap_product(observation: str, kind: str) -> str:
    """A file of the flux scale of an observation: a kind of `BOOTSTRAP_SUFFIXES`."""
    return observation + BOOTSTRAP_SUFFIXES[kind]


def log_name(stage: str) -> str:
    """Name of a stage's log."""
    return f"{stage}.log"


def parse_log_name(path: str | Path) -> str | None:
    """The stage that a log belongs to (``NAME.log``; older ones are ``NAME.log.1`` and so on)."""
    match = re.match(r"^(.+)\.log(?:\.\d+)?$", Path(path).name)
    return match[1] if match else None


def catalogue_product(prefix: str, kind: str) -> str:
    """A source catalogue with this prefix, or a companion of it (`CATALOGUE_SUFFIXES`)."""
    return prefix + CATALOGUE_SUFFIXES[kind]


def match_product(prefix: str, survey: str, filtered: bool) -> str:
    """Sources of a catalogue that a survey has too; `filtered`: those that are compared."""
    suffix = CATALOGUE_SUFFIXES["catalogue"]
    return f"{prefix}{suffix}_{survey}_match{'_filtered' if filtered else ''}.fits"


def quality_report(name: str) -> tuple[str, str, str]:
    """(figures, page, folder of parts and pictures) of the quality report called `name`."""
    return f"{name}.json", f"{name}.html", name


def preview_name(product: str | Path) -> str:
    """Quick-look picture of a product."""
    return f"{PREVIEWS}/{Path(product).name}.png"


def beside_image(image: str | Path, kind: str) -> str:
    """Name of a map that belongs to a FITS image and lies beside it.

    kind: "convolved" (to a larger beam), "facetnoise" (noise map), "scalefactors" (flux factors).
    Raises KeyError for another.
    """
    suffix = {"convolved": "_convolved.fits", "facetnoise": "_facetnoise.fits",
              "scalefactors": ".scalefactors.fits"}[kind]
    return str(image).removesuffix(".fits") + suffix


MOSAIC_PRODUCTS = {
    "mosaic": "mosaic.fits",
    "weights": "mosaic-weights.fits",
    "coverage": "mosaic-coverage.fits",
    "moc": "mosaic-moc.fits",
    "preview": "mosaic.png",
    "layout": "mosaic-header.txt",
    "reproject": "reproject-{}.fits",
    "weight": "weight-{}.fits",
    "astroblank": "astroblank-{}.fits",
}
"""Kind of product of a mosaic -> its name; the last three are one a directory."""


def mosaic_product(kind: str, root: str = "", band: int | None = None, field: str = "") -> str:
    """``[band<n>-][<root>-]mosaic.fits`` and the like; `field` is the name of a directory.

    Raises KeyError for a kind that does not exist.
    """
    prefix = ("" if band is None else f"band{band}-") + (f"{root}-" if root else "")
    return prefix + MOSAIC_PRODUCTS[kind].format(field)
