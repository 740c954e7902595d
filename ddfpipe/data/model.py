"""The native sky model of an image: pixels, and points between them, with a flux in every band.

File `<root>.model.npz` (numpy's zip of plain arrays, no pickles), members

    version   int64       2
    centre    (2,) f8     right ascension and declination of the tangent point, radians
    shape     (2,) i8     ny, nx of the image
    cell      f8          radians
    freq      (band,) f8  Hz, increasing
    index     (n,) i8     y * nx + x of the nearest pixel, increasing
    offset    (n, 2) f4   (y, x) from there in pixels, within +-0.5; zero for a pixel's own flux
    flux      (band, n) f4  intrinsic Jy

A component with an offset is a free point: it lies just there, whatever the pixels.  Several may
share a nearest pixel.  Version 1 had no offsets.

Fluxes are intrinsic (corrected for the beam), so that a predicting step applies its own gains and
beams.  Between bands a pixel's spectrum is a power law where the fluxes allow it, see `at`.
"""

from __future__ import annotations

import zipfile
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ddfpipe.data.atomic import atomic_write_npz
from ddfpipe.data.images import SkyGrid
from ddfpipe.errors import SkyModelError

VERSION = 2
MAX_SLOPE = 4.0
"""Steepest spectral index that is extrapolated or interpolated as a power law."""
ROUNDING = 1e-8
"""Part of the largest pixel below which model images of other programs hold rounding: WSClean draws
its wider components by transforms, which leave 1e-13 to 1e-9 of it in every pixel."""


@dataclass(frozen=True)
class PixelModel:
    """Sparse model.

    freq (band,) Hz; index (n,) int64 nearest pixels in (ny, nx); flux (band, n) float32 Jy;
    offset (n, 2) float32 pixels (y, x) from there, None for zeros.
    """

    grid: SkyGrid
    freq: np.ndarray
    index: np.ndarray
    flux: np.ndarray
    offset: np.ndarray | None = None

    def __post_init__(self) -> None:
        if self.offset is None:
            object.__setattr__(self, "offset", np.zeros((len(self.index), 2), np.float32))

    @classmethod
    def empty(cls, grid: SkyGrid, freq) -> PixelModel:
        """A model without pixels."""
        freq = np.atleast_1d(np.asarray(freq, float))
        return cls(grid, freq, np.zeros(0, np.int64), np.zeros((freq.size, 0), np.float32))

    @classmethod
    def from_cube(cls, cube: np.ndarray, grid: SkyGrid, freq,
                  rounding: float = 0.0) -> PixelModel:
        """Keep the pixels of `cube` (band, ny, nx) that differ from zero in any band.

        rounding: part of the largest one up to which a pixel is nothing.
        """
        freq = np.atleast_1d(np.asarray(freq, float))
        if cube.shape != (freq.size, *grid.shape):
            raise SkyModelError(
                f"model cube {cube.shape} does not fit {freq.size} bands of {grid.shape} pixels."
            )
        used = np.zeros(grid.shape, bool)
        nothing = rounding * max((np.abs(plane).max() for plane in cube), default=0.0)
        for plane in cube:
            used |= ~(np.abs(plane) <= nothing)  # not a number is to be found below
        index = np.flatnonzero(used).astype(np.int64)
        flux = np.stack([plane.ravel()[index] for plane in cube]).astype(np.float32)
        if not np.isfinite(flux).all():
            raise SkyModelError("model cube holds NaN or infinite fluxes.")
        return cls(grid, freq, index, flux)

    @classmethod
    def from_points(cls, grid: SkyGrid, freq, y, x, flux) -> PixelModel:
        """Free points at fractional pixels y, x (n,), flux (band, n); those off the grid are lost.

        Raises SkyModelError when a flux is not finite.
        """
        freq = np.atleast_1d(np.asarray(freq, float))
        y, x = np.asarray(y, float), np.asarray(x, float)
        keep = grid.inside(y, x)
        y, x, flux = y[keep], x[keep], np.asarray(flux, float)[:, keep]
        if not np.isfinite(flux).all():
            raise SkyModelError("points of a model have NaN or infinite fluxes.")
        row, col = np.rint(y).astype(np.int64), np.rint(x).astype(np.int64)
        offset = np.stack([y - row, x - col], axis=1).astype(np.float32)
        index = row * grid.nx + col
        return _merged(grid, freq, index, offset, flux)

    @property
    def size(self) -> int:
        """Number of components."""
        return self.index.size

    @property
    def free(self) -> np.ndarray:
        """(n,) bool: components that lie between pixels."""
        return (self.offset != 0.0).any(axis=1)

    @property
    def arrays(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """What tells one model from another on the same grid and bands."""
        return self.index, self.offset, self.flux

    def points(self) -> PixelModel:
        """The components between pixels."""
        return self.select(self.free)

    def pixels(self) -> PixelModel:
        """The components on pixels."""
        return self.select(~self.free)

    def joined(self, other: PixelModel) -> PixelModel:
        """The sum of two models of one grid and the same bands."""
        if other.grid != self.grid or not np.array_equal(other.freq, self.freq):
            raise SkyModelError("models of different grids or bands cannot be joined.")
        return _merged(
            self.grid, self.freq, np.append(self.index, other.index),
            np.concatenate([self.offset, other.offset]),
            np.concatenate([self.flux, other.flux], axis=1),
        )

    def plus(self, other: PixelModel, rounding: float) -> PixelModel:
        """The sum of two models on pixels; less than `rounding` of what this one had is nothing."""
        both = self.joined(other)
        before = np.zeros_like(both.flux)
        before[:, np.searchsorted(both.index, self.index)] = self.flux
        flux = np.where(np.abs(both.flux) <= rounding * np.abs(before), 0, both.flux)
        return replace(both, flux=flux.astype(np.float32)).select((flux != 0).any(axis=0))

    def scaled(self, factor: float) -> PixelModel:
        """The model with all fluxes times `factor`."""
        return replace(self, flux=(self.flux * np.float32(factor)))

    @property
    def total_flux(self) -> np.ndarray:
        """(band,) Jy."""
        return self.flux.sum(axis=1, dtype=np.float64)

    def yx(self) -> tuple[np.ndarray, np.ndarray]:
        """Nearest pixels (y, x) of the components."""
        return np.divmod(self.index, self.grid.nx)

    def place(self) -> tuple[np.ndarray, np.ndarray]:
        """Fractional pixels (y, x) of the components."""
        y, x = self.yx()
        return y + self.offset[:, 0].astype(float), x + self.offset[:, 1].astype(float)

    def lm(self) -> tuple[np.ndarray, np.ndarray]:
        """Direction cosines (l, m) of the components."""
        return self.grid.lm(*self.place())

    def cube(self) -> np.ndarray:
        """(band, ny, nx) float32 image of intrinsic Jy per pixel, see `raster`."""
        return self.raster(self.flux)

    def raster(self, flux: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
        """(k, ny, nx) float32 image of component fluxes (k, n), added to `out` if that is given.

        A free point is shared by the four pixels around it in bilinear parts: flux and centroid are
        kept.  Such an image is for looking at, masking and measuring; what is computed exactly
        takes free points from their place.
        """
        if out is None:
            out = np.zeros((len(flux), *self.grid.shape), np.float32)
        flat, free = out.reshape(len(flux), -1), self.free
        flat[:, self.index[~free]] += flux[:, ~free]
        if free.any():
            index, share, which = _bilinear(self.select(free))
            for plane, row in zip(flat, np.asarray(flux)[:, free]):
                np.add.at(plane, index, (share * row[which]).astype(np.float32))
        return out

    def at(self, freq) -> np.ndarray:
        """Fluxes (nfreq, n) float32 in Jy at frequencies in Hz.

        Between two bands whose fluxes have the same sign, and whose spectral index is within
        +-4, a power law (extended beyond the outermost bands); otherwise linear in frequency,
        kept at the nearest band's flux outside.  So a positive pixel never turns negative.
        """
        freq = np.atleast_1d(np.asarray(freq, float))
        return np.stack([_spectrum_at(self.freq, self.flux, f) for f in freq])

    def image(self, freq: float) -> np.ndarray:
        """(ny, nx) float32 image at one frequency."""
        return self.raster(self.at(freq))[0]

    def select(self, keep: np.ndarray) -> PixelModel:
        """The components where `keep` (n,) is true."""
        return replace(
            self, index=self.index[keep], flux=self.flux[:, keep], offset=self.offset[keep]
        )

    def masked(self, mask: np.ndarray) -> PixelModel:
        """Only the components under `mask` (ny, nx), true to keep."""
        if mask.shape != self.grid.shape:
            raise SkyModelError(
                f"mask of {mask.shape} pixels does not fit the model's {self.grid.shape}."
            )
        return self.select(np.asarray(mask).ravel()[self.index].astype(bool))

    def on_bands(self, freq) -> PixelModel:
        """The same model described at other band frequencies (Hz)."""
        freq = np.atleast_1d(np.asarray(freq, float))
        return replace(self, freq=freq, flux=self.at(freq))

    def on_grid(self, grid: SkyGrid) -> PixelModel:
        """The model on another grid: pixels move to the nearest pixel there, points keep their
        place.

        Pixels move by at most half a pixel; flux is kept; what falls outside is left out.
        """
        if grid == self.grid:
            return self
        y, x = grid.pixel_of(*self.grid.radec(*self.lm()))
        fixed = ~self.free
        y[fixed], x[fixed] = np.rint(y[fixed]), np.rint(x[fixed])
        return PixelModel.from_points(grid, self.freq, y, x, self.flux)


def _merged(grid: SkyGrid, freq, index, offset, flux) -> PixelModel:
    """A model in order of pixel and offset; components of one place are added up."""
    order = np.lexsort((offset[:, 1], offset[:, 0], index))
    index, offset, flux = index[order], offset[order], np.asarray(flux)[:, order]
    new = np.ones(index.size, bool)
    new[1:] = (np.diff(index) != 0) | (np.diff(offset, axis=0) != 0).any(axis=1)
    number = np.cumsum(new) - 1
    total = np.stack([np.bincount(number, row, int(new.sum())) for row in flux])
    return PixelModel(grid, freq, index[new], total.astype(np.float32), offset[new])


def _bilinear(points: PixelModel):
    """Pixels, shares and component numbers of points among the four pixels around them."""
    y, x = points.place()
    low_y, low_x = np.floor(y).astype(np.int64), np.floor(x).astype(np.int64)
    pixel, share = [], []
    for down in (0, 1):
        for right in (0, 1):
            row = np.clip(low_y + down, 0, points.grid.ny - 1)
            col = np.clip(low_x + right, 0, points.grid.nx - 1)
            pixel.append(row * points.grid.nx + col)
            share.append(np.abs(1 - down - (y - low_y)) * np.abs(1 - right - (x - low_x)))
    return np.concatenate(pixel), np.concatenate(share), np.tile(np.arange(y.size), 4)


def _spectrum_at(band_freq: np.ndarray, flux: np.ndarray, freq: float) -> np.ndarray:
    """(n,) fluxes at `freq` from those of the bands (band, n)."""
    n_band = band_freq.size
    if n_band == 1:
        return flux[0].astype(np.float32)
    upper = int(np.clip(np.searchsorted(band_freq, freq), 1, n_band - 1))
    low, high = flux[upper - 1].astype(float), flux[upper].astype(float)
    f_low, f_high = band_freq[upper - 1], band_freq[upper]
    inside = np.clip((freq - f_low) / (f_high - f_low), 0.0, 1.0)
    out = (1.0 - inside) * low + inside * high
    same = low * high > 0.0
    slope = np.zeros_like(out)
    slope[same] = np.log(high[same] / low[same]) / np.log(f_high / f_low)
    power = same & (np.abs(slope) <= MAX_SLOPE)
    out[power] = low[power] * (freq / f_low) ** slope[power]
    return out.astype(np.float32)


def save_model(path: Path | str, model: PixelModel) -> Path:
    """Write `model`; the file appears complete or not at all.  The same model, the same bytes."""
    path = Path(path)
    grid = model.grid
    atomic_write_npz(
        path, version=np.int64(VERSION), centre=np.array([grid.ra, grid.dec]),
        shape=np.array(grid.shape, np.int64), cell=np.float64(grid.cell),
        freq=np.asarray(model.freq, float), index=np.asarray(model.index, np.int64),
        offset=np.asarray(model.offset, np.float32), flux=np.asarray(model.flux, np.float32),
    )
    return path


def load_model(path: Path | str) -> PixelModel:
    """Read a model; SkyModelError names the file and what is wrong with it."""
    path = Path(path)
    try:
        with np.load(path, allow_pickle=False) as z:
            version = int(z["version"])
            if version not in (1, VERSION):
                raise SkyModelError(f"{path}: model format {version}; 1 and {VERSION} are known.")
            (ra, dec), (ny, nx) = z["centre"].tolist(), z["shape"].tolist()
            model = PixelModel(
                SkyGrid(ra, dec, ny, nx, float(z["cell"])), z["freq"], z["index"], z["flux"],
                z["offset"] if version > 1 else None,
            )
    except FileNotFoundError as err:
        raise SkyModelError(f"{path}: there is no such model; make that image first.") from err
    except (OSError, ValueError, KeyError, EOFError, TypeError, zipfile.BadZipFile) as err:
        raise SkyModelError(f"{path}: not a readable model ({err}); make it again.") from err
    _check(model, path)
    return model


def _ordered(model: PixelModel) -> bool:
    """Whether places grow, first by pixel and within a pixel by offset, and none comes twice."""
    if model.offset.shape != (model.index.size, 2):
        return True  # named by the check before
    step = np.diff(model.index)
    down, right = np.diff(model.offset, axis=0).T
    return bool(((step > 0) | ((step == 0) & ((down > 0) | ((down == 0) & (right > 0))))).all())


def _check(model: PixelModel, path: Path) -> None:
    """Raise SkyModelError unless the arrays fit each other."""
    index, size = model.index, model.grid.ny * model.grid.nx
    problems = (
        (model.flux.shape != (model.freq.size, index.size), "flux does not fit freq and index"),
        (index.size > 0 and (index[0] < 0 or index[-1] >= size), "pixels outside the image"),
        (model.offset.shape != (index.size, 2), "offset does not fit index"),
        (not (np.abs(model.offset) <= 0.5).all(), "an offset is more than half a pixel"),
        (not _ordered(model), "components are not in order"),
        (bool((np.diff(model.freq) <= 0).any()), "frequencies are not increasing"),
        (not np.isfinite(model.flux).all(), "fluxes are not finite"),
    )
    for wrong, what in problems:
        if wrong:
            raise SkyModelError(f"{path}: damaged model: {what}.")
