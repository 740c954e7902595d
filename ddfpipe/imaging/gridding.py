"""Visibilities to a facet's pixels and back: an exact pair of adjoint operators.

Both are thin layers over the w-gridder of ducc0 (Arras et al. 2021, A&A 646, A58; Ye et al.
2022, MNRAS 510, 4110), whose shifted image centre lets every facet stay on the common tangent
plane.  Convention (docs/conventions.md), with (l, m) of box pixel (y, x):

    V(row, chan) = sum_yx I(y, x) exp(+2 pi i nu/c (u l + v m + w (n - 1)))

ducc0 computes it for (y, x) arrays when handed uvw = (-v, u, w), center_x = m0, center_y = -l0.
"""

from __future__ import annotations

import numpy as np
from ducc0.wgridder import dirty2vis, vis2dirty

from ddfpipe.errors import ImagingError
from ddfpipe.imaging.facets import Facet
from ddfpipe.units import SPEED_OF_LIGHT

EPSILON_SINGLE = 3e-5
EPSILON_DOUBLE = 1e-9
"""Default accuracy of the gridder for complex64 and complex128 data."""

_WAVELENGTHS = np.array([SPEED_OF_LIGHT])
"""Frequency at which a metre is a wavelength: hands samples in wavelengths to the gridder."""


def _swap(uvw: np.ndarray) -> np.ndarray:
    """(row, 3) contiguous float64 (-v, u, w) from uvw (..., 3)."""
    uvw = np.asarray(uvw, np.float64).reshape(-1, 3)
    out = np.empty_like(uvw)
    np.negative(uvw[:, 1], out=out[:, 0])
    out[:, 1] = uvw[:, 0]
    out[:, 2] = uvw[:, 2]
    return out


def _settings(facet: Facet, cell: float, epsilon: float, n_threads: int) -> dict:
    """Keywords common to both directions of the gridder."""
    return dict(pixsize_x=cell, pixsize_y=cell, center_x=facet.m0, center_y=-facet.l0,
                epsilon=epsilon, do_wgridding=True, divide_by_n=False, nthreads=n_threads)


def vis_to_facet(*, uvw, freq, vis, facet: Facet, cell: float, weight=None,
                 epsilon: float | None = None, n_threads: int = 1, out=None) -> np.ndarray:
    """Grid visibilities: sum of w Re(V exp(-2 pi i nu/c (u l + v m + w (n-1)))), unnormalised.

    uvw: (row, 3) or (time, bl, 3) float64, metres.  freq: (chan,) Hz.
    vis: (row, chan) or (time, bl, chan), complex64 (single precision) or complex128 (double).
    weight: like vis, float; entries of zero weight are skipped whatever vis holds there.  Without
        weights every visibility counts once.
    epsilon: accuracy, by default EPSILON_SINGLE or EPSILON_DOUBLE.
    out: (ny, nx) array to *add* to (chunks accumulate); made when None.
    Returns (ny, nx) float32 or float64.  Raises ImagingError when shapes disagree.
    """
    freq = np.atleast_1d(np.asarray(freq, np.float64))
    vis = np.asarray(vis)
    single = vis.dtype == np.complex64
    real = np.float32 if single else np.float64
    uvw = _swap(uvw)
    if vis.size != len(uvw) * freq.size or (weight is not None and np.size(weight) != vis.size):
        raise ImagingError(f"gridding: {len(uvw)} uvw and {freq.size} channels do not fit "
                           f"visibilities {vis.shape} and weights {np.shape(weight)}")
    extra = {}
    if weight is not None:
        extra["wgt"] = np.ascontiguousarray(weight, real).reshape(-1, freq.size)
        extra["mask"] = (extra["wgt"] != 0).view(np.uint8)
    dirty = np.zeros((facet.ny, facet.nx), real)
    if vis.size:
        epsilon = epsilon or (EPSILON_SINGLE if single else EPSILON_DOUBLE)
        vis = np.ascontiguousarray(vis, np.complex64 if single else np.complex128)
        vis2dirty(uvw=uvw, freq=freq, vis=vis.reshape(-1, freq.size), dirty=dirty, **extra,
                  **_settings(facet, cell, epsilon, n_threads))
    if out is None:
        return dirty
    out += dirty
    return out


def facet_to_vis(*, image, uvw, freq, facet: Facet, cell: float, epsilon: float | None = None,
                 n_threads: int = 1) -> np.ndarray:
    """Degrid: the visibilities of a facet's pixels; adjoint of `vis_to_facet` without weights.

    image: (ny, nx) flux a pixel, float32 (single precision) or float64.
    uvw: (row, 3) or (time, bl, 3) float64, metres; freq: (chan,) Hz.
    Returns (row, chan), or (time, bl, chan), complex64 or complex128.
    Raises ImagingError when the image does not have the facet's shape.
    """
    freq = np.atleast_1d(np.asarray(freq, np.float64))
    image = np.asarray(image)
    if image.shape != (facet.ny, facet.nx):
        raise ImagingError(f"degridding: image {image.shape} is not the facet's box "
                           f"{(facet.ny, facet.nx)}")
    single = image.dtype == np.float32
    image = np.ascontiguousarray(image, np.float32 if single else np.float64)
    shape = np.shape(uvw)[:-1] + (freq.size,)
    if 0 in shape or not image.any():
        return np.zeros(shape, np.complex64 if single else np.complex128)
    epsilon = epsilon or (EPSILON_SINGLE if single else EPSILON_DOUBLE)
    vis = dirty2vis(uvw=_swap(uvw), freq=freq, dirty=image,
                    **_settings(facet, cell, epsilon, n_threads))
    return vis.reshape(shape)


def samples_to_facet(*, uvw, vis, facet: Facet, cell: float, weight=None,
                     epsilon: float | None = None, n_threads: int = 1, out=None) -> np.ndarray:
    """`vis_to_facet` for samples whose uvw (n, 3) are in wavelengths; vis and weight are (n,)."""
    weight = None if weight is None else np.reshape(weight, (-1, 1))
    return vis_to_facet(uvw=uvw, freq=_WAVELENGTHS, vis=np.reshape(vis, (-1, 1)), weight=weight,
                        facet=facet, cell=cell, epsilon=epsilon, n_threads=n_threads, out=out)


def facet_to_samples(*, image, uvw, facet: Facet, cell: float, epsilon: float | None = None,
                     n_threads: int = 1) -> np.ndarray:
    """`facet_to_vis` for samples whose uvw (n, 3) are in wavelengths; returns (n,)."""
    return facet_to_vis(image=image, uvw=uvw, freq=_WAVELENGTHS, facet=facet, cell=cell,
                        epsilon=epsilon, n_threads=n_threads)[..., 0]
