"""Scales of the multi-scale CLEAN: kernels, PSFs between scales, lists of usable pixels.

A component of scale s is a Gaussian k_s of unit sum (a point for scale 0).  In the residual
convolved with k_s it looks like k_s * k_s * PSF.  The noise there is the image's times the root of
that PSF's centre, so the score

    (k_s * residual) / sqrt((k_s * k_s * PSF)(0))

is a matched filter: it compares scales fairly, and a point source scores highest at scale 0
(Cornwell 2008, IEEE JSTSP 2, 793, chooses scales by an empirical bias instead).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from ddfpipe.imaging.convolve import fft_convolve_full, fft_convolve_same, ordered_map
from ddfpipe.units import FWHM_TO_SIGMA

TILE = 512
"""Side in pixels of the tiles in which the residual is convolved with a scale."""

MASK_SHARE = 0.6
"""A scale is used at a pixel when at least this part of its kernel lies inside the mask."""


def scale_kernel(scale: float) -> np.ndarray:
    """Gaussian of FWHM `scale` pixels, float32, unit sum, going smoothly to zero at 3 sigma."""
    if scale <= 0.0:
        return np.ones((1, 1), np.float32)
    sigma = scale * FWHM_TO_SIGMA
    radius = max(1, math.ceil(3.0 * sigma))
    y, x = np.mgrid[-radius:radius + 1, -radius:radius + 1]
    kernel = np.exp(-0.5 * (x * x + y * y) / sigma ** 2) - math.exp(-4.5)
    kernel = np.clip(kernel, 0.0, None)
    return (kernel / kernel.sum()).astype(np.float32)


def default_scales(
    beam_pixels: float, largest_pixels: float, first: float = 1.0
) -> tuple[float, ...]:
    """0 and `first`, 2 `first`, 4 `first`, ... beams (FWHM in pixels) up to `largest_pixels`.

    Without the one of a beam, lobes that are hardly wider are described by components that are too
    wide and by points, and what is left of them are bowls.
    """
    scales, size = [0.0], first * beam_pixels
    while size <= largest_pixels:
        scales.append(size)
        size *= 2.0
    return tuple(scales)


@dataclass(frozen=True)
class PixelList:
    """Usable pixels in row-major order.

    rows, cols (n,) i4; row_start (ny + 1,) i8; facet (n,) i2; norm (band, n) f4, apparent over
    intrinsic flux.
    """

    rows: np.ndarray
    cols: np.ndarray
    row_start: np.ndarray
    facet: np.ndarray
    norm: np.ndarray

    @property
    def size(self) -> int:
        """Number of pixels."""
        return self.rows.size


@dataclass(frozen=True)
class Scale:
    """One scale of the deconvolution.

    kernel: unit sum; patch (facet, band, p, p) f4 of k*k*PSF; centre (facet, band) f8;
    outside: largest |k*k*PSF| beyond the patch over its centre; pixels; coef (band, n) f4, see
    `minorcycle.clean_list`; tiles: (y0, y1, x0, x1, positions in the list) of used tiles.
    """

    size: float
    kernel: np.ndarray
    patch: np.ndarray
    centre: np.ndarray
    outside: float
    pixels: PixelList
    coef: np.ndarray
    tiles: list


def make_scale(size, psf, mask, facet_map, norm, weight, patch_half, threads) -> Scale | None:
    """Prepare a scale; None when no pixel of the mask can hold it (arguments: `deconvolve`)."""
    kernel = scale_kernel(size)
    pixels = _usable_pixels(mask, facet_map, norm, kernel, psf.shape[1], threads)
    if pixels.size == 0:
        return None
    used = np.unique(pixels.facet)
    patch, outside = _scale_psf(psf, kernel, used, patch_half, threads)
    middle = patch.shape[-1] // 2
    centre = patch[:, :, middle, middle].astype(np.float64)
    # coef = w norm / sqrt(sum w centre norm^2), so that the score is in units of apparent flux.
    weighted = weight[:, None] * pixels.norm
    power = (weighted * pixels.norm * centre[pixels.facet].T).sum(axis=0)
    coef = np.where(power > 0.0, weighted / np.sqrt(np.maximum(power, 1e-300)), 0.0)
    return Scale(size, kernel, patch, centre, outside, pixels, coef.astype(np.float32),
                 _tiles(pixels))


def _usable_pixels(mask, facet_map, norm, kernel, n_band, threads) -> PixelList:
    """Pixels inside the mask with room for the kernel, with a facet and a positive norm."""
    ny, nx = mask.shape
    radius = kernel.shape[0] // 2

    def rows_of(band: tuple[int, int]) -> np.ndarray:
        y0, y1 = band
        good = np.asarray(mask[y0:y1], bool) & (facet_map[y0:y1] >= 0)
        if radius > 0 and good.any():
            top = max(0, y0 - radius)
            strip = np.asarray(mask[top:y1 + radius], np.float32)
            good &= fft_convolve_same(strip, kernel)[y0 - top:y0 - top + y1 - y0] >= MASK_SHARE
        return np.flatnonzero(good) + y0 * nx

    height = max(256, 4 * radius)
    bands = [(y, min(y + height, ny)) for y in range(0, ny, height)]
    flat = np.concatenate(list(ordered_map(rows_of, bands, threads)))
    if norm is None:
        at = np.ones((n_band, flat.size), np.float32)
    else:
        at = np.stack([plane.ravel()[flat] for plane in norm]).astype(np.float32)
        at[~np.isfinite(at)] = 0.0
        keep = (at > 0.0).any(axis=0)
        flat, at = flat[keep], np.ascontiguousarray(at[:, keep])
    rows, cols = np.divmod(flat, nx)
    row_start = np.searchsorted(rows, np.arange(ny + 1)).astype(np.int64)
    facet = facet_map.ravel()[flat].astype(np.int16)
    return PixelList(rows.astype(np.int32), cols.astype(np.int32), row_start, facet, at)


def _scale_psf(psf, kernel, used, patch_half, threads) -> tuple[np.ndarray, float]:
    """k*k*PSF around its centre for the facets in use, and the largest value left outside."""
    n_facet, n_band, n_psf, _ = psf.shape
    radius = kernel.shape[0] // 2
    half = patch_half + int(1.5 * radius)
    if radius == 0:
        half = min(half, n_psf // 2 - 1)
    patch = np.zeros((n_facet, n_band, 2 * half + 1, 2 * half + 1), np.float32)
    twice = kernel if radius == 0 else fft_convolve_full(kernel, kernel)
    reach = n_psf // 2 if radius == 0 else min(n_psf // 2, 2 * half + 2 * radius)
    middle = n_psf // 2

    def work(item: tuple[int, int]):
        facet, band = item
        near = slice(middle - reach, middle - reach + min(2 * reach + 1, n_psf))
        cut = np.ascontiguousarray(psf[facet, band, near, near], dtype=np.float32)
        if radius == 0:
            return item, cut, reach
        return item, fft_convolve_full(cut, twice), reach + twice.shape[0] // 2

    outside = 0.0
    items = [(int(f), b) for f in used for b in range(n_band)]
    for (facet, band), full, c in ordered_map(work, items, threads):
        low, high = c - half, c + half + 1
        inside = full[max(low, 0):high, max(low, 0):high]
        put = max(-low, 0)
        view = patch[facet, band, put:put + inside.shape[0], put:put + inside.shape[1]]
        view[...] = inside
        peak = patch[facet, band, half, half]
        rest = np.abs(full)
        rest[max(low, 0):high, max(low, 0):high] = 0.0
        outside = max(outside, float(rest.max()) / float(peak) if peak > 0.0 else 0.0)
    return patch, outside


def restricted(scale: Scale, keep: np.ndarray) -> Scale:
    """The same scale at the pixels of its list where `keep` (n,) is true."""
    old = scale.pixels
    row_start = np.concatenate([[0], np.cumsum(keep)])[old.row_start].astype(np.int64)
    pixels = PixelList(old.rows[keep], old.cols[keep], row_start, old.facet[keep],
                       np.ascontiguousarray(old.norm[:, keep]))
    coef = np.ascontiguousarray(scale.coef[:, keep])
    return replace(scale, pixels=pixels, coef=coef, tiles=_tiles(pixels))


def _tiles(pixels: PixelList) -> list:
    """Bounding boxes (y0, y1, x0, x1) of the listed pixels tile by tile, with their positions."""
    if pixels.size == 0:
        return []
    tile = (pixels.rows // TILE).astype(np.int64) * (1 << 20) + pixels.cols // TILE
    order = np.argsort(tile, kind="stable")
    cuts = np.flatnonzero(np.diff(tile[order])) + 1
    tiles = []
    for part in np.split(order, cuts):
        rows, cols = pixels.rows[part], pixels.cols[part]
        tiles.append((int(rows.min()), int(rows.max()) + 1, int(cols.min()), int(cols.max()) + 1,
                      part))
    return tiles


def gather(scale: Scale, residual: np.ndarray, threads: int) -> tuple[np.ndarray, np.ndarray]:
    """(vals (band, n), score (n,)) float32: residual (band, ny, nx) convolved with the scale.

    Only tiles with usable pixels are convolved.  Pixels that are not finite count as zero.
    """
    pixels = scale.pixels
    vals = np.empty((residual.shape[0], pixels.size), np.float32)
    radius = scale.kernel.shape[0] // 2

    def work(tile) -> None:
        y0, y1, x0, x1, part = tile
        rows, cols = pixels.rows[part], pixels.cols[part]
        top, left = max(0, y0 - radius), max(0, x0 - radius)
        for band, plane in enumerate(residual):
            box = plane[top:y1 + radius, left:x1 + radius]
            if radius:
                box = fft_convolve_same(np.nan_to_num(box, posinf=0.0, neginf=0.0), scale.kernel)
            vals[band, part] = np.nan_to_num(box[rows - top, cols - left], posinf=0.0, neginf=0.0)

    for _ in ordered_map(work, scale.tiles, threads):
        pass
    score = np.zeros(pixels.size, np.float32)
    for row, coef in zip(vals, scale.coef):
        score += row * coef
    return vals, score
