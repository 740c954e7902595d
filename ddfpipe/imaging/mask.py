"""Clean masks: threshold, automatic, diffuse; islands and their statistics; sanity.

Islands are kept as sorted lists of pixels, so a 20,000 x 20,000 mask costs memory for its true
pixels only.  Masks are bool arrays (ny, nx), true where components may be placed.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit

from ddfpipe.errors import ImagingError
from ddfpipe.imaging.noise import local_noise

NOISE_BOX_BEAMS = 60
"""Side in beams of the windows in which the automatic mask measures the local noise: larger than
most extended sources, which would otherwise hide in a noise of their own making."""

_ROWS = 512


@dataclass(frozen=True)
class Islands:
    """Connected sets of pixels (8 neighbours).

    index (n,) i8 sorted y * nx + x; label (n,) i8 from 0 in order of the first pixel; count;
    shape (ny, nx).
    """

    index: np.ndarray
    label: np.ndarray
    count: int
    shape: tuple[int, int]

    def sizes(self) -> np.ndarray:
        """(count,) pixels of each island."""
        return np.bincount(self.label, minlength=self.count)

    def mask(self, keep: np.ndarray | None = None) -> np.ndarray:
        """(ny, nx) bool of the islands where `keep` (count,) is true (None: all)."""
        out = np.zeros(self.shape, bool)
        chosen = self.index if keep is None else self.index[np.asarray(keep, bool)[self.label]]
        out.ravel()[chosen] = True
        return out


def find_islands(mask: np.ndarray) -> Islands:
    """Label the connected true pixels of a mask (ny, nx)."""
    index = np.flatnonzero(mask).astype(np.int64)
    root = _union(index, mask.shape[1])
    roots, label = np.unique(root, return_inverse=True)
    return Islands(index, label.astype(np.int64), roots.size, mask.shape)


@njit(cache=True, nogil=True)
def _union(index, nx):
    """Union-find over sorted pixel numbers; the root of an island is its first pixel."""
    n = index.size
    parent = np.arange(n)
    above = 0
    for i in range(n):
        x = index[i] % nx
        first = index[i] - nx - (1 if x > 0 else 0)
        last = index[i] - nx + (1 if x < nx - 1 else 0)
        while above < n and index[above] < first:
            above += 1
        j = above
        while j < i and index[j] <= last:
            _join(parent, i, j)
            j += 1
        if x > 0 and i > 0 and index[i - 1] == index[i] - 1:
            _join(parent, i, i - 1)
    for i in range(n):
        parent[i] = _root(parent, i)
    return parent


@njit(cache=True, nogil=True, forceinline=True)
def _root(parent, i):
    while parent[i] != i:
        parent[i] = parent[parent[i]]
        i = parent[i]
    return i


@njit(cache=True, nogil=True, forceinline=True)
def _join(parent, i, j):
    a, b = _root(parent, i), _root(parent, j)
    if a < b:
        parent[b] = a
    else:
        parent[a] = b


def threshold_mask(
    image: np.ndarray,
    noise: np.ndarray | float,
    sigma: float,
    *,
    mean: np.ndarray | float = 0.0,
    grow_sigma: float | None = None,
    grow: int = 0,
    min_pixels: int = 1,
) -> np.ndarray:
    """(ny, nx) bool where image - mean >= sigma * noise; NaN, zero noise and blanks are false.

    grow_sigma: islands reach out to this lower level as far as it is connected to a pixel above
    `sigma`; grow: then dilate by so many pixels; min_pixels: drop smaller islands (before
    dilation).  Raises ImagingError when sigma is not positive or grow_sigma above sigma.
    """
    if sigma <= 0 or (grow_sigma is not None and not 0 < grow_sigma <= sigma):
        raise ImagingError(f"mask threshold {sigma} (reaching out to {grow_sigma}) is not usable.")
    low = sigma if grow_sigma is None else grow_sigma
    mask = _above(image, noise, mean, low)
    if grow_sigma is not None or min_pixels > 1:
        islands = find_islands(mask)
        keep = islands.sizes() >= min_pixels
        if grow_sigma is not None:
            seeds = _above(image, noise, mean, sigma).ravel()[islands.index]
            keep &= np.bincount(islands.label, seeds, islands.count) > 0
        mask = islands.mask(keep)
    return dilate(mask, grow) if grow > 0 else mask


def _above(image, noise, mean, sigma) -> np.ndarray:
    """image - mean >= sigma * noise > 0, by strips of rows."""
    out = np.zeros(image.shape, bool)
    for y in range(0, image.shape[0], _ROWS):
        rows = slice(y, y + _ROWS)
        level = noise[rows] if np.ndim(noise) else noise
        offset = mean[rows] if np.ndim(mean) else mean
        with np.errstate(invalid="ignore"):
            value = image[rows] - offset
            out[rows] = (value >= sigma * level) & (level > 0) & np.isfinite(value) & (
                image[rows] != 0.0)
    return out


def dilate(mask: np.ndarray, radius: int) -> np.ndarray:
    """Mask grown by a disc of `radius` pixels."""
    ny, nx = mask.shape
    out = mask.copy()
    y, x = np.divmod(_edge(mask), nx)
    for dy in range(-radius, radius + 1):
        reach = int((radius * radius - dy * dy) ** 0.5)
        for dx in range(-reach, reach + 1):
            yy, xx = y + dy, x + dx
            ok = (yy >= 0) & (yy < ny) & (xx >= 0) & (xx < nx)
            out[yy[ok], xx[ok]] = True
    return out


def _edge(mask: np.ndarray) -> np.ndarray:
    """Flat index of true pixels with a false neighbour: the only ones that dilation needs."""
    inner = mask.copy()
    inner[1:] &= mask[:-1]
    inner[:-1] &= mask[1:]
    inner[:, 1:] &= mask[:, :-1]
    inner[:, :-1] &= mask[:, 1:]
    return np.flatnonzero(mask & ~inner)


def auto_mask(
    image: np.ndarray, sigma: float, beam_pixels: float, *, threads: int = 1
) -> np.ndarray:
    """Where a residual image (ny, nx) exceeds `sigma` times the noise around, grown by half a beam.

    The noise is that of windows of `NOISE_BOX_BEAMS` beams of `beam_pixels` pixels.
    """
    noise, mean = local_noise(image, (int(NOISE_BOX_BEAMS * beam_pixels), 2), threads)
    return threshold_mask(image, noise, sigma, mean=mean, grow=int(np.ceil(beam_pixels / 2)))


def diffuse_mask(
    image: np.ndarray,
    sigma: float,
    beam_pixels: float,
    *,
    smooth_beams: float = 5.0,
    min_beams: float = 50.0,
    box: int = 40,
    threads: int = 1,
) -> np.ndarray:
    """Mask of large faint emission in a residual image (ny, nx).

    The image is averaged in blocks and smoothed to `smooth_beams` beams; what stands above `sigma`
    of that smoothed image's local noise (windows of `box` smoothed resolution elements) in islands
    of at least `min_beams` beam areas is kept, at full resolution.
    """
    from scipy.ndimage import gaussian_filter

    ny, nx = image.shape
    fwhm = smooth_beams * beam_pixels
    block = max(1, int(fwhm / 4.0))
    small, valid = _block_mean(image, block)
    width = fwhm / block / 2.3548
    smoothed = gaussian_filter(np.where(valid > 0, small, 0.0), width)
    weight = gaussian_filter(valid, width)
    smoothed = np.where(weight > 0.3, smoothed / np.maximum(weight, 0.3), np.nan).astype(np.float32)
    size = max(8, int(box * fwhm / block))
    noise, mean = local_noise(smoothed, (size, 2), threads)
    mask = threshold_mask(smoothed, noise, sigma, mean=mean)
    islands = find_islands(mask)
    area = islands.sizes() * block ** 2 / (1.1331 * beam_pixels ** 2)
    mask = dilate(islands.mask(area >= min_beams), 1)
    out = np.zeros(image.shape, bool)
    y, x = np.nonzero(mask)
    for row, col in zip(y * block, x * block):
        out[row:min(row + block, ny), col:min(col + block, nx)] = True
    return out


def _block_mean(image: np.ndarray, block: int) -> tuple[np.ndarray, np.ndarray]:
    """Means of block x block pixels and the part of them that is valid, float32; edges padded."""
    ny, nx = (-(-n // block) for n in image.shape)
    mean = np.zeros((ny, nx), np.float32)
    valid = np.zeros((ny, nx), np.float32)
    columns = np.arange(0, image.shape[1], block)
    for i in range(ny):
        strip = np.asarray(image[i * block:(i + 1) * block], np.float32)
        good = np.isfinite(strip) & (strip != 0.0)
        sums = np.add.reduceat(np.where(good, strip, 0.0).sum(axis=0), columns)
        count = np.add.reduceat(good.sum(axis=0), columns)
        mean[i] = sums / np.maximum(count, 1)
        valid[i] = count / block ** 2
    return mean, valid


def merge_masks(*masks: np.ndarray | None) -> np.ndarray:
    """OR of masks of one shape (None is left out); ImagingError when shapes differ or none."""
    given = [mask for mask in masks if mask is not None]
    if not given:
        raise ImagingError("no mask to merge.")
    if len({mask.shape for mask in given}) != 1:
        raise ImagingError(f"masks of shapes {[m.shape for m in given]} cannot be merged.")
    out = given[0] != 0
    for mask in given[1:]:
        out |= mask != 0
    return out


def mask_warnings(mask: np.ndarray, valid: np.ndarray | None = None,
                  limit: float = 0.2) -> list[str]:
    """Sentences about a suspicious mask: empty, or more than `limit` of the valid pixels."""
    total = mask.size if valid is None else int(np.count_nonzero(valid))
    count = int(np.count_nonzero(mask))
    if count == 0:
        return ["the mask is empty: nothing will be cleaned; lower the threshold"]
    share = count / max(total, 1)
    if share > limit:
        return [f"the mask covers {100 * share:.0f} % of the image (over {100 * limit:.0f} %): "
                "artefacts are probably cleaned; raise the threshold"]
    return []
