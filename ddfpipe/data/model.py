"""The native sky model of an image: pixels with a flux in every band.

File `<root>.model.npz` (numpy's zip of plain arrays, no pickles), members

    version   int64       1
    centre    (2,) f8     right ascension and declination of the tangent point, radians
    shape     (2,) i8     ny, nx of the image
    cell      f8          radians
    freq      (band,) f8  Hz, increasing
    index     (n,) i8     y * nx + x, strictly increasing
    flux      (band, n) f4  intrinsic Jy per pixel

Fluxes are intrinsic (corrected for the beam), so that a predicting step applies its own gains and
beams.  Between bands a pixel's spectrum is a power law where the fluxes allow it, see `at`.
"""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ddfpipe.data.atomic import atomic_write_npz
from ddfpipe.data.images import SkyGrid
from ddfpipe.errors import SkyModelError

VERSION = 1
MAX_SLOPE = 4.0
"""Steepest spectral index that is extrapolated or interpolated as a power law."""


@dataclass(frozen=True)
class PixelModel:
    """Sparse model.  freq (band,) Hz; index (n,) int64 into (ny, nx); flux (band, n) float32 Jy."""

    grid: SkyGrid
    freq: np.ndarray
    index: np.ndarray
    flux: np.ndarray

    @classmethod
    def empty(cls, grid: SkyGrid, freq) -> PixelModel:
        """A model without pixels."""
        freq = np.atleast_1d(np.asarray(freq, float))
        return cls(grid, freq, np.zeros(0, np.int64), np.zeros((freq.size, 0), np.float32))

    @classmethod
    def from_cube(cls, cube: np.ndarray, grid: SkyGrid, freq) -> PixelModel:
        """Keep the pixels of `cube` (band, ny, nx) that differ from zero in any band."""
        freq = np.atleast_1d(np.asarray(freq, float))
        if cube.shape != (freq.size, *grid.shape):
            raise SkyModelError(
                f"model cube {cube.shape} does not fit {freq.size} bands of {grid.shape} pixels."
            )
        used = np.zeros(grid.shape, bool)
        for plane in cube:
            used |= plane != 0.0
        index = np.flatnonzero(used).astype(np.int64)
        flux = np.stack([plane.ravel()[index] for plane in cube]).astype(np.float32)
        if not np.isfinite(flux).all():
            raise SkyModelError("model cube holds NaN or infinite fluxes.")
        return cls(grid, freq, index, flux)

    @property
    def size(self) -> int:
        """Number of pixels."""
        return self.index.size

    @property
    def total_flux(self) -> np.ndarray:
        """(band,) Jy."""
        return self.flux.sum(axis=1, dtype=np.float64)

    def yx(self) -> tuple[np.ndarray, np.ndarray]:
        """Pixel coordinates (y, x) of the components."""
        return np.divmod(self.index, self.grid.nx)

    def lm(self) -> tuple[np.ndarray, np.ndarray]:
        """Direction cosines (l, m) of the components."""
        return self.grid.lm(*self.yx())

    def cube(self) -> np.ndarray:
        """(band, ny, nx) float32 image of intrinsic Jy per pixel."""
        out = np.zeros((self.freq.size, self.grid.ny * self.grid.nx), np.float32)
        out[:, self.index] = self.flux
        return out.reshape(self.freq.size, *self.grid.shape)

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
        out = np.zeros(self.grid.ny * self.grid.nx, np.float32)
        out[self.index] = self.at(freq)[0]
        return out.reshape(self.grid.shape)

    def select(self, keep: np.ndarray) -> PixelModel:
        """The components where `keep` (n,) is true."""
        return PixelModel(self.grid, self.freq, self.index[keep], self.flux[:, keep])

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
        return PixelModel(self.grid, freq, self.index, self.at(freq))

    def on_grid(self, grid: SkyGrid) -> PixelModel:
        """The model on another grid: every component moves to its nearest pixel there.

        Positions change by at most half a pixel; flux is kept; what falls outside is left out.
        """
        if grid == self.grid:
            return self
        y, x = grid.pixel_of(*self.grid.radec(*self.lm()))
        keep = grid.inside(y, x)
        flat = np.rint(y[keep]).astype(np.int64) * grid.nx + np.rint(x[keep]).astype(np.int64)
        index, where = np.unique(flat, return_inverse=True)
        flux = np.stack([np.bincount(where, row, index.size) for row in self.flux[:, keep]])
        return PixelModel(grid, self.freq, index, flux.astype(np.float32))


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
        flux=np.asarray(model.flux, np.float32),
    )
    return path


def load_model(path: Path | str) -> PixelModel:
    """Read a model; SkyModelError names the file and what is wrong with it."""
    path = Path(path)
    try:
        with np.load(path, allow_pickle=False) as z:
            version = int(z["version"])
            if version != VERSION:
                raise SkyModelError(f"{path}: model format {version}; {VERSION} is known.")
            (ra, dec), (ny, nx) = z["centre"].tolist(), z["shape"].tolist()
            model = PixelModel(
                SkyGrid(ra, dec, ny, nx, float(z["cell"])), z["freq"], z["index"], z["flux"]
            )
    except FileNotFoundError as err:
        raise SkyModelError(f"{path}: there is no such model; make that image first.") from err
    except (OSError, ValueError, KeyError, EOFError, TypeError, zipfile.BadZipFile) as err:
        raise SkyModelError(f"{path}: not a readable model ({err}); make it again.") from err
    _check(model, path)
    return model


def _check(model: PixelModel, path: Path) -> None:
    """Raise SkyModelError unless the arrays fit each other."""
    index, size = model.index, model.grid.ny * model.grid.nx
    problems = (
        (model.flux.shape != (model.freq.size, index.size), "flux does not fit freq and index"),
        (index.size > 0 and (index[0] < 0 or index[-1] >= size), "pixels outside the image"),
        (bool((np.diff(index) <= 0).any()), "pixel index is not increasing"),
        (bool((np.diff(model.freq) <= 0).any()), "frequencies are not increasing"),
        (not np.isfinite(model.flux).all(), "fluxes are not finite"),
    )
    for wrong, what in problems:
        if wrong:
            raise SkyModelError(f"{path}: damaged model: {what}.")
