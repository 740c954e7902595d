"""Sky models in any of the formats that we and other programs have, and between them.

Text models are lists of sources; ours, DDFacet's and FITS images have pixels.  From text to pixels
a grid is needed, the other way round every component becomes a point with a spectral index.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ddfpipe.data.dicomodel import read_dicomodel, write_dicomodel
from ddfpipe.data.images import SkyGrid, read_image, write_image
from ddfpipe.data.model import ROUNDING, PixelModel, load_model, save_model
from ddfpipe.data.skymodel import (
    TextSkyModel,
    from_pixels,
    read_skymodel,
    with_patches,
    write_skymodel,
)
from ddfpipe.errors import ImagingError, SkyModelError

Model = PixelModel | TextSkyModel


@dataclass(frozen=True)
class ModelChoices:
    """What a conversion of sky models may need to be told.

    grid: of pixel models.  freq: (n,) Hz, bands; None keeps those of the source.  ref_freq: Hz of
    text models and DicoModels, None for the middle of the bands.  like: a DicoModel whose options a
    new one takes along.  patches: (ra, dec, names) of directions that sources are given to.
    each_band: a FITS image a band, as WSClean has them.
    """

    grid: SkyGrid | None = None
    freq: np.ndarray | None = None
    ref_freq: float | None = None
    like: Path | None = None
    patches: tuple[np.ndarray, np.ndarray, Sequence[str]] | None = None
    each_band: bool = False


def read_model(kind: str, paths: Sequence[Path], choices: ModelChoices) -> Model:
    """A sky model of format `kind` (model, dicomodel, skymodel, modelimage).

    Several paths are the bands of a FITS model; other kinds have one.  Raises SkyModelError.
    """
    if kind == "modelimage":
        return read_model_images(paths)
    if len(paths) > 1:
        raise SkyModelError(f"{len(paths)} sky models given; one is converted at a time.")
    if kind == "skymodel":
        return read_skymodel(paths[0])
    if kind == "dicomodel":
        return read_dicomodel(paths[0], grid=choices.grid, freq=choices.freq)
    return load_model(paths[0])


def read_model_images(paths: Sequence[Path]) -> PixelModel:
    """FITS model images, Jy/pixel, one a band or with an axis of frequency, as one model.

    Raises SkyModelError when an image is restored rather than a model (units of Jy/beam, except in
    files of DDFacet, which writes that unit into its *.model.fits too), or grids differ.
    """
    parts = []
    for path in paths:
        try:
            image = read_image(path)
        except ImagingError as error:
            raise SkyModelError(str(error)) from error
        unit = image.unit.lower().replace(" ", "")
        if "pixel" not in unit and ".model" not in Path(path).name:
            raise SkyModelError(f"{path}: unit {image.unit or '(none)'}; a model image has "
                                "Jy/pixel. A restored image is no model.")
        if parts and not image.grid.same(parts[0].grid):
            raise SkyModelError(f"{path} and {paths[0]} have different pixels; give the bands of "
                                "one model.")
        cube = np.nan_to_num(image.cube())
        parts.append(PixelModel.from_cube(cube, image.grid, image.freq, ROUNDING))
    freq = np.concatenate([part.freq for part in parts])
    order = np.argsort(freq)
    if not (np.diff(freq[order]) > 0).all():
        raise SkyModelError(f"{paths[0]}: frequencies {np.sort(freq) / 1e6} MHz come twice; give "
                            "each band once.")
    cube = np.concatenate([part.cube() for part in parts])[order]
    return PixelModel.from_cube(cube, parts[0].grid, freq[order])


def as_pixels(model: Model, choices: ModelChoices) -> PixelModel:
    """The model on pixels: on the grid and bands chosen, else as it is.

    Raises SkyModelError when a list of sources comes without a grid.
    """
    if isinstance(model, TextSkyModel):
        if choices.grid is None:
            raise SkyModelError("a list of sources has no pixels: name an image whose grid the "
                                "model shall have (--image).")
        freq = choices.freq
        if freq is None:
            known = model.frequency[model.frequency > 0]
            if known.size == 0:
                raise SkyModelError("the sources tell no frequency: name those of the bands "
                                    "(--freq).")
            number = max(2, model.terms.shape[1] + 1)
            freq = np.median(known) * np.linspace(0.85, 1.15, number)
        return model.to_pixels(choices.grid, np.sort(freq))
    if choices.grid is not None:
        model = model.on_grid(choices.grid)
    return model if choices.freq is None else model.on_bands(np.sort(choices.freq))


def as_text(model: Model, choices: ModelChoices) -> TextSkyModel:
    """The model as a list of sources, in patches if there are any to be."""
    if isinstance(model, PixelModel):
        model = as_pixels(model, choices)
        if model.size == 0:
            raise SkyModelError("the model is empty; there are no sources to write.")
        model = from_pixels(model, choices.ref_freq or float(np.mean(model.freq)))
    return model if choices.patches is None else with_patches(model, *choices.patches)


def write_model(kind: str, path: Path, model: Model, choices: ModelChoices) -> list[str]:
    """Write a model in format `kind`; remarks for a person.  Raises SkyModelError."""
    if kind == "skymodel":
        text = as_text(model, choices)
        write_skymodel(path, text)
        return [f"{text.size} sources"]
    pixels = as_pixels(model, choices)
    what = f"{pixels.size} components, {pixels.freq.size} bands"
    if kind == "model":
        save_model(path, pixels)
        return [what]
    if kind == "dicomodel":
        flat = write_dicomodel(path, pixels, ref_freq=choices.ref_freq, like=choices.like)
        return [what] + ([f"{flat} with fluxes of both signs, written without spectra"] if flat
                         else [])
    for name, band in _images(path, pixels.freq.size, choices.each_band):
        write_image(name, pixels.cube()[band], pixels.grid, freq=pixels.freq[band],
                    unit="Jy/pixel")
    return [what]


def _images(path: Path, bands: int, each: bool) -> list[tuple[Path, slice]]:
    """Names of FITS files and their bands: WSClean's `x-0000-model.fits` for `x-model.fits`."""
    if not each:
        return [(path, slice(None))]
    if not path.name.endswith("-model.fits"):
        raise SkyModelError(f"{path}: with one image a band the name must end in -model.fits.")
    root = path.name.removesuffix("-model.fits")
    return [(path.with_name(f"{root}-{k:04d}-model.fits"), slice(k, k + 1)) for k in range(bands)]
