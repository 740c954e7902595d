"""DDFacet's sky models (`<root>.DicoModel`) read and written.

A DicoModel is a pickle of a dictionary: `Comp` with components keyed by pixel, `RefFreq` (Hz),
`ModelShape` (channels, polarisations, n, n), `Type` and `GD`, the options of the run.  By Type:

    SSD2     Vals [Poly0, Poly1, ...]  S = Poly0 exp(Poly1 x + Poly2 x^2 ...), x = ln(nu / RefFreq)
    SSD, GA  Vals [S, Alpha]           S (nu / RefFreq)^Alpha
    HMP      SolsArray, one flux for each of ListScales: a point or a drawn shape, with an index
    Hogbom   SolsArray(_I)             c0 + c1 y + c2 y^2 ..., y = nu / RefFreq

Pixel (a, b) has l = (a - n/2) cell and m = (b - n/2) cell with n odd: the first axis grows to the
east, so that FITS images of the same run hold it at row b, column n - 1 - a.  Fluxes are
intrinsic, in Jy.  Tasse et al. 2018, A&A 611, A87 (DDFacet); layout read off files of DDFacet 0.9
and 1.0 and checked against its model images.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ddfpipe.data.dicopickle import read_pickle, write_pickle
from ddfpipe.data.images import SkyGrid, read_image
from ddfpipe.data.model import MAX_SLOPE, PixelModel
from ddfpipe.data.skymodel import parse_dec, parse_ra
from ddfpipe.errors import ImagingError, SkyModelError
from ddfpipe.units import ARCSEC

_BESIDE = ("app.restored.fits", "int.restored.fits", "app.model.fits", "int.model.fits",
           "restored.fits", "model.fits", "dirty.fits", "residual.fits", "psf.fits")
_SPREAD = 0.2
_MANY = 11


@dataclass(frozen=True)
class DicoModel:
    """Components of a DicoModel; arrays over its n components.

    kind: the Type.  ref_freq: Hz.  size: pixels along a side.  a, b (n,): first and second pixel
    axis.  amplitude (n,): Jy at ref_freq when logarithmic.  terms (n, k): coefficients that follow
    it.  shape (n,): index in `shapes`, -1 for a point; shapes: drawn (s, s) images of unit flux as
    DDFacet has them, on axes (a, b).  parset: the options of the run, section -> option -> value.
    """

    kind: str
    ref_freq: float
    size: int
    a: np.ndarray
    b: np.ndarray
    amplitude: np.ndarray
    terms: np.ndarray
    shape: np.ndarray
    shapes: tuple[np.ndarray, ...] = ()
    logarithmic: bool = True
    parset: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @property
    def cell(self) -> float:
        """Pixel size in radians, 0 when the file does not tell."""
        value = _option(self.parset, "Image", "Cell")
        return float(value) * ARCSEC if isinstance(value, int | float) and value > 0 else 0.0

    @property
    def default_freq(self) -> np.ndarray:
        """Hz about ref_freq: k + 1 for spectra of k coefficients.

        _MANY where a spectrum is steeper than a `PixelModel` takes for a power law: between its
        bands that one is a straight line.
        """
        number = self.terms.shape[1] + 1
        if number == 1:
            return np.array([self.ref_freq])
        if self.logarithmic and (np.abs(self.terms[:, 0]) > 0.9 * MAX_SLOPE).any():
            number = max(number, _MANY)
        return self.ref_freq * np.linspace(1 - _SPREAD, 1 + _SPREAD, number)

    def flux(self, freq) -> np.ndarray:
        """(nfreq, n) float64 Jy at frequencies in Hz, as DDFacet evaluates them."""
        ratio = np.atleast_1d(np.asarray(freq, float))[:, None] / self.ref_freq
        x = np.log(ratio) if self.logarithmic else ratio
        total = np.zeros((ratio.size, self.amplitude.size))
        for k, c in enumerate(self.terms.T, start=1):
            total += c * x ** k
        return self.amplitude * np.exp(total) if self.logarithmic else self.amplitude + total

    def to_pixels(self, grid: SkyGrid, freq=None) -> PixelModel:
        """The model on `grid` with bands at `freq` (Hz; None: `default_freq`).

        Raises SkyModelError when the grid has another size or a flux is not finite.
        """
        if grid.shape != (self.size, self.size):
            raise SkyModelError(f"the model has {self.size} x {self.size} pixels, the image "
                                f"{grid.nx} x {grid.ny}; give an image of the same run.")
        freq = np.sort(np.atleast_1d(np.asarray(self.default_freq if freq is None else freq)))
        flux = self.flux(freq)
        x = self.size - 1 - self.a
        point = self.shape < 0
        points = PixelModel.from_points(grid, freq, self.b[point], x[point], flux[:, point])
        if point.all():
            return points
        cube = np.zeros((freq.size, *grid.shape), np.float32)
        for i in np.flatnonzero(~point):
            _paint(cube, self.shapes[self.shape[i]], int(self.b[i]), int(x[i]), flux[:, i])
        return points.joined(PixelModel.from_cube(cube, grid, freq))


def _paint(cube: np.ndarray, shape: np.ndarray, y: int, x: int, flux: np.ndarray) -> None:
    """Add a shape, on axes (a, b) about its middle pixel, at (y, x); what is outside is lost."""
    drawn = shape[::-1].T
    middle_y, middle_x = drawn.shape[0] // 2, shape.shape[0] - 1 - shape.shape[0] // 2
    ny, nx = cube.shape[1:]
    y0, x0 = y - middle_y, x - middle_x
    low_y, high_y = max(0, -y0), min(drawn.shape[0], ny - y0)
    low_x, high_x = max(0, -x0), min(drawn.shape[1], nx - x0)
    part = drawn[low_y:high_y, low_x:high_x]
    cube[:, y0 + low_y:y0 + high_y, x0 + low_x:x0 + high_x] += flux[:, None, None] * part


def read_dico(path: str | Path) -> DicoModel:
    """Read a DicoModel.  Raises SkyModelError: see `read_pickle`, or a kind that is not known."""
    path = Path(path)
    content = read_pickle(path)
    if not isinstance(content, dict) or "Comp" not in content or "ModelShape" not in content:
        raise SkyModelError(f"{path}: not a DicoModel: there are no components in it.")
    kind = str(content.get("Type", ""))
    readers = {"SSD2": _ssd, "SSD": _ssd, "GA": _ssd, "HMP": _hmp, "MSMF": _hmp, "Hogbom": _hogbom}
    if kind not in readers:
        raise SkyModelError(f"{path}: models of DDFacet's mode {kind or '(none)'} cannot be read; "
                            f"{', '.join(readers)} can. Its model image (.model.fits) can be "
                            "read instead.")
    parset = content.get("GD")
    try:
        shape = [int(n) for n in content["ModelShape"]]
        freq = float(np.ravel(content["RefFreq"])[0])
        places, amplitude, terms, number, shapes = readers[kind](content)
        model = DicoModel(kind, freq, shape[-1], *places.T.astype(np.int64), amplitude, terms,
                          number, shapes, kind != "Hogbom",
                          parset if isinstance(parset, dict) else {})
    except (KeyError, IndexError, TypeError, ValueError) as error:
        if isinstance(error, ValueError) and str(error).startswith("solved for"):
            raise SkyModelError(f"{path}: {error}") from None
        raise SkyModelError(f"{path}: damaged DicoModel of type {kind} "
                            f"({type(error).__name__}: {error}).") from error
    if shape[-1] != shape[-2] or min(shape) < 1 or not freq > 0:
        raise SkyModelError(f"{path}: damaged DicoModel: shape {shape}, frequency {freq:g} Hz.")
    inside = (places >= 0) & (places < shape[-1])
    if not inside.all():
        raise SkyModelError(f"{path}: damaged DicoModel: components outside its "
                            f"{shape[-1]} pixels.")
    return model


def _places(components: Mapping) -> np.ndarray:
    return np.array([tuple(key) for key in components], np.float64).reshape(-1, 2)


def _ssd(content: dict):
    """Places (n, 2), amplitude, terms, shape numbers and shapes of SSD and SSD2 components."""
    second = content["Type"] == "SSD2"
    names = [str(name) for name in content.get("SolveParam", ("S", "Alpha"))]
    wanted = [name for name in names if name.startswith("Poly")] if second \
        else ["S"] + ["Alpha"] * ("Alpha" in names)
    if set(names) - set(wanted):
        raise ValueError(f"solved for {', '.join(names)}; sizes of components (GSig) are not read. "
                         "Take the model image instead.")
    wanted.sort(key=lambda name: int(name[4:]) if second else name == "Alpha")
    order = [names.index(name) for name in wanted]
    places, values = [], []
    for key, component in content["Comp"].items():
        for row in component["Vals"]:
            places.append(tuple(key))
            values.append(np.asarray(row, float).ravel()[order])
    table = np.array(values, float).reshape(-1, len(order))
    n = len(table)
    return (np.array(places, float).reshape(-1, 2), table[:, 0], table[:, 1:],
            np.full(n, -1), ())


def _hmp(content: dict):
    scales = content["ListScales"]
    shapes, number = [], []
    for scale in scales:
        point = str(scale["ModelType"]) == "Delta"
        number.append(-1 if point else len(shapes))
        if not point:
            shapes.append(np.asarray(scale["Model"], float))
    table = np.array([np.asarray(c["SolsArray"], float).reshape(len(scales), -1)[:, 0]
                      for c in content["Comp"].values()]).reshape(-1, len(scales))
    which, scale = np.nonzero(table)
    index = np.array([float(s["Alpha"]) for s in scales])[scale]
    return (_places(content["Comp"])[which], table[which, scale], index[:, None],
            np.array(number, int)[scale], tuple(shapes))


def _hogbom(content: dict):
    rows, keys = [], []
    for key, component in content["Comp"].items():
        values = component.get("SolsArray_I", component.get("SolsArray"))
        if values is not None:
            rows.append(np.asarray(values, float).ravel())
            keys.append(key)
    longest = max((row.size for row in rows), default=1)
    table = np.array([np.pad(row, (0, longest - row.size)) for row in rows]).reshape(-1, longest)
    return _places(keys), table[:, 0], table[:, 1:], np.full(len(rows), -1), ()


def _option(parset: Mapping[str, Any], section: str, name: str) -> Any:
    part = parset.get(section)
    return part.get(name) if isinstance(part, Mapping) else None


def dico_grid(path: str | Path, model: DicoModel, image: str | Path | None = None) -> SkyGrid:
    """The grid of a DicoModel, whose file tells the pixel size but rarely the centre.

    Taken from `image`, else from an image of the same name and size beside the file, else from
    the option Image-PhaseCenterRADEC.  Raises SkyModelError when none tells.
    """
    path = Path(path)
    root = path.name.removesuffix(".DicoModel")
    found = [Path(image)] if image else [p for end in _BESIDE
                                         if (p := path.with_name(f"{root}.{end}")).is_file()]
    for one in found:
        try:
            grid = read_image(one).grid
        except ImagingError as error:
            raise SkyModelError(str(error)) from error
        if grid.shape == (model.size, model.size):
            return grid
        if image:
            raise SkyModelError(f"{one}: {grid.nx} x {grid.ny} pixels, the model {path} has "
                                f"{model.size}; give an image of the same run.")
    centre = _centre(_option(model.parset, "Image", "PhaseCenterRADEC"))
    if centre is None or not model.cell:
        raise SkyModelError(f"{path}: does not tell where on the sky it lies, and no image "
                            f"{root}.app.restored.fits or the like is beside it; name an image "
                            "of the same run.")
    return SkyGrid(*centre, model.size, model.size, model.cell)


def _centre(value: Any) -> tuple[float, float] | None:
    """(ra, dec) radians of `[HH:MM:SS, DD:MM:SS]`; None for none, or a word such as "align"."""
    words = re.split(r"[\[\],\s]+", value.strip("[] ")) if isinstance(value, str) else value
    if not isinstance(words, list | tuple) or len(words) != 2:
        return None
    try:
        return parse_ra(str(words[0])), parse_dec(str(words[1]))
    except ValueError:
        return None


def read_dicomodel(path: str | Path, *, image: str | Path | None = None,
                   grid: SkyGrid | None = None, freq=None) -> PixelModel:
    """A DicoModel as our model.

    grid or image: where it lies (see `dico_grid`).  freq: Hz, bands of the result (None: as many
    about the reference frequency as the spectra have coefficients).  Raises SkyModelError.
    """
    model = read_dico(path)
    where = dico_grid(path, model, image) if grid is None else grid
    try:
        return model.to_pixels(where, freq)
    except SkyModelError as error:
        raise SkyModelError(f"{path}: {error}") from error


def write_dicomodel(path: str | Path, model: PixelModel, *, ref_freq: float | None = None,
                    like: str | Path | None = None) -> int:
    """Write our model as a DicoModel of type SSD2, from which DDFacet and killMS can predict.

    Spectra become log-polynomials of as many terms as there are bands, at most 3, by least squares
    (exact for up to 3 bands).  Free points are shared among the pixels around them, as DDFacet has
    pixels only.  like: a DicoModel of the same size whose options are taken along; killMS needs
    them.  ref_freq: Hz, None for the middle of the bands.  Returns the number of components whose
    spectrum changes sign: such are written flat, with their mean flux.
    Raises SkyModelError when the image is not square, or even, which DDFacet cannot have.
    """
    grid = model.grid
    if grid.ny != grid.nx or grid.nx % 2 == 0:
        raise SkyModelError(f"{path}: DDFacet's models have an odd number of pixels on both sides, "
                            f"this one {grid.nx} x {grid.ny}; regrid it first.")
    pattern = None if like is None else read_dico(like)
    if pattern is not None and pattern.size != grid.nx:
        raise SkyModelError(f"{like}: {pattern.size} pixels, the model {grid.nx}; give a DicoModel "
                            "of the same image size.")
    ref_freq = float(ref_freq or np.mean(model.freq))
    flat = PixelModel.from_cube(model.cube(), grid, model.freq)
    values, changing = _log_polynomials(flat, ref_freq)
    y, x = flat.yx()
    components = {(int(grid.nx - 1 - i), int(j)): {"Vals": [row]}
                  for i, j, row in zip(x, y, values.astype(np.float32))}
    options = dict(pattern.parset) if pattern else {"Image": {"Cell": grid.cell / ARCSEC,
                                                              "NPix": grid.nx}}
    write_pickle(path, {
        # An array, as DDFacet 1.0 flattens it when it restores.
        "Type": "SSD2", "RefFreq": np.array(ref_freq), "Comp": components, "GD": options,
        "ModelShape": [1, 1, grid.nx, grid.nx],
        "SolveParam": [f"Poly{k}" for k in range(values.shape[1])],
    })
    return changing


def _log_polynomials(model: PixelModel, ref_freq: float) -> tuple[np.ndarray, int]:
    """(n, k) coefficients, flux first, and how many components have fluxes of both signs."""
    flux = model.flux.astype(float)
    steady = (np.sign(flux) == np.sign(flux[:1])).all(axis=0) & (flux[0] != 0.0)
    k = min(model.freq.size, 3)
    x = np.log(model.freq / ref_freq)
    values = np.zeros((model.size, k))
    values[:, 0] = flux.mean(axis=0)
    if steady.any():
        fit = np.polynomial.polynomial.polyfit(x, np.log(np.abs(flux[:, steady])), k - 1)
        values[steady, 0] = np.sign(flux[0, steady]) * np.exp(fit[0])
        values[steady, 1:] = fit[1:].T
    return values, int((~steady).sum())
