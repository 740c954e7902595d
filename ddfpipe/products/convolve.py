"""Images convolved to a larger beam.

In units of Jy/beam an image of beam b becomes one of beam B when it is convolved with the Gaussian
K, b * K = B, of unit integral, and multiplied by the ratio of the beams' areas.  A model in
Jy/pixel is convolved with B itself.  A restored image is model * b + residual, so that model * B
plus the residual convolved with K is the same as the restored image convolved with K.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ddfpipe import naming
from ddfpipe.data.atomic import atomic_path
from ddfpipe.errors import ConfigError, DataError
from ddfpipe.imaging.convolve import ordered_map
from ddfpipe.imaging.restore import beam_area
from ddfpipe.products.beams import Beam, arcsec, covariance, deconvolved_beam, same_beam
from ddfpipe.products.planes import Plane, create_plane, open_plane, pixel_scale, tiles, widened
from ddfpipe.products.primarybeam import primary_beam
from ddfpipe.units import DEGREE

IDENTITY = "DDFCONV"
"""Header key: digest of the source and beam of a convolved image."""
TILE = 1024
REACH = 7.0
"""Pieces overlap by this many sigma of the kernel, and by _RINGING pixels for kernels so narrow
that pixels do not sample them well."""
_RINGING = 24


@dataclass(frozen=True)
class _Term:
    """An image to be convolved: plane, covariance of the kernel (radians^2), factor."""

    plane: Plane
    kernel: np.ndarray
    factor: float


def convolve_image(source: Path, beam: Beam, output: Path | None = None, *, model: bool = False,
                   residual: Path | None = None, threads: int = 1) -> Path:
    """Convolve a FITS image to `beam` and write it; returns the path.

    source: restored image, Jy/beam, or with `model` a model, Jy/pixel, to which the `residual`
    (Jy/beam, with its beam in the header) is added after it was convolved as well.
    output: None for ``<source>_convolved.fits``.  Blank pixels count as zero and stay blank.
    Raises ImagingError when an image cannot be read, DataError when it has several planes, no
    beam, or one that is not smaller than `beam`, ConfigError for a residual without a model.
    """
    output = output or Path(naming.beside_image(source, "convolved"))
    plane = _single(source)
    cell = pixel_scale(plane.wcs())
    terms = [_Term(plane, covariance(beam), beam_area(beam, cell)) if model
             else _blurring(plane, beam)]
    if residual is not None:
        if not model:
            raise ConfigError("--restore adds a residual to a model: use it with --model.")
        terms.append(_blurring(_single(residual), beam))
        if terms[1].plane.shape != plane.shape:
            raise DataError(f"{residual} and {source} differ in size; they must be of one "
                               "image.")
    header = plane.header.copy()
    header["BUNIT"] = "Jy/beam"
    for key, value in zip(("BMAJ", "BMIN", "BPA"), beam):
        header[key] = value / DEGREE
    header.add_history(f"convolved to {arcsec(beam)} by ddfpipe from {Path(source).name}")
    header[IDENTITY] = (convolution_identity(beam, *(t.plane.path for t in terms)),
                        "sources and beam of this image")
    with atomic_path(output) as part:
        target = create_plane(part, header)
        parts = list(tiles(plane.shape, TILE))

        def work(where):
            return where, sum(_convolved(term, cell, *where) for term in terms)

        for where, values in ordered_map(work, parts, threads):
            target.write(*where, values)
    return output


def convolve_apparent(convolved: Path, intrinsic: Path, apparent: Path, output: Path) -> Path:
    """Write an apparent image for a convolved intrinsic one: times the beam, apparent / intrinsic.

    Convolving the apparent image itself would not give the beam back where the flux is near zero.
    """
    source, planes = open_plane(convolved), [open_plane(p) for p in (apparent, intrinsic)]
    for plane in planes:
        if plane.shape != source.shape:
            raise DataError(f"{plane.path} and {convolved} differ in size; they must be of one "
                               "image.")
    with atomic_path(output) as part:
        target = create_plane(part, source.header)
        for where in tiles(source.shape, TILE):
            beam = primary_beam(*planes, *where)
            target.write(*where, np.where(beam == 0.0, np.nan, beam * source.read(*where)))
    return output


def convolved_pair(intrinsic: Path, apparent: Path, beam: Beam,
                   threads: int = 1) -> tuple[Path, Path]:
    """Both images of a pair at `beam`, ``<image>_convolved.fits``; made if not there already.

    Images that have the beam already are taken as they are.  What lies there is used only if it
    was made from the same files and has the right beam; files without a mark of their origin (from
    ddf-pipeline) are refused if their beam differs, else used.
    """
    found = open_plane(intrinsic).beam
    if found is not None and same_beam(found, beam):
        return intrinsic, apparent
    outputs = tuple(Path(naming.beside_image(path, "convolved")) for path in (intrinsic, apparent))
    if not all(_usable(output, beam, intrinsic) for output in outputs):
        convolve_image(intrinsic, beam, outputs[0], threads=threads)
        convolve_apparent(outputs[0], intrinsic, apparent, outputs[1])
    return outputs


def _usable(path: Path, beam: Beam, source: Path) -> bool:
    if not path.is_file():
        return False
    plane = open_plane(path)
    if IDENTITY in plane.header:
        return plane.header[IDENTITY] == convolution_identity(beam, source)
    if plane.beam is None or not same_beam(plane.beam, beam):
        raise DataError(f"{path}: its beam is not {arcsec(beam)} and it was not made here; move "
                           "it away, or ask for its beam.")
    return True


def convolution_identity(beam: Beam, *sources: Path) -> str:
    """Digest of source files (name, size, time of change) and beam (microarcsec)."""
    states = [(p.name, p.stat().st_size, p.stat().st_mtime_ns) for p in map(Path, sources)]
    return hashlib.sha256(repr((states, arcsec(beam))).encode()).hexdigest()[:32]


def _single(path: Path) -> Plane:
    plane = open_plane(path)
    if any(plane.header[f"NAXIS{axis}"] > 1 for axis in range(3, plane.header["NAXIS"] + 1)):
        raise DataError(f"{path}: a cube; an image of one plane is needed: cut one out first.")
    return plane


def _blurring(plane: Plane, beam: Beam) -> _Term:
    """What turns an image in Jy/beam into one with `beam`."""
    old = plane.beam
    if old is None or not old[1] > 0.0:
        raise DataError(f"{plane.path}: no beam (BMAJ, BMIN, BPA) in its header; add it, or use "
                           "--model for a model in Jy/pixel.")
    try:
        kernel = covariance(deconvolved_beam(beam, old))
    except DataError as err:
        raise DataError(f"{plane.path}: {err}") from err
    return _Term(plane, kernel, beam[0] * beam[1] / (old[0] * old[1]))


def _convolved(term: _Term, cell: float, rows: slice, columns: slice) -> np.ndarray:
    """Part (y, x) of the convolved image, float32; NaN where the image is not finite.

    The kernel is multiplied in as its exact Fourier transform, so narrow ones are not distorted
    by pixels.
    """
    import scipy.fft

    sigma = math.sqrt(np.linalg.eigvalsh(term.kernel)[-1]) / cell
    pad = math.ceil(REACH * sigma) + _RINGING
    ny, nx = term.plane.shape
    wide = widened(rows, ny, pad), widened(columns, nx, pad)
    values = term.plane.read(*wide)
    blank = ~np.isfinite(values)
    values[blank] = 0.0
    # Beyond the image's edge there is nothing: the transform's wrap must find zeros there.
    shape = tuple(scipy.fft.next_fast_len(n + pad, real=True) for n in values.shape)
    spectrum = scipy.fft.rfft2(values, shape)
    spectrum *= _transfer(shape, term.kernel / cell**2) * np.float32(term.factor)
    y, x = rows.start - wide[0].start, columns.start - wide[1].start
    inner = slice(y, y + rows.stop - rows.start), slice(x, x + columns.stop - columns.start)
    out = scipy.fft.irfft2(spectrum, shape)[inner]
    out[blank[inner]] = np.nan
    return out


def _transfer(shape: tuple[int, int], kernel: np.ndarray) -> np.ndarray:
    """Fourier transform of a Gaussian of covariance (east, north) in pixels squared."""
    north, west = np.fft.fftfreq(shape[0])[:, None], np.fft.rfftfreq(shape[1])[None, :]
    # x grows to the west, against the first axis of the covariance.
    form = kernel[0, 0] * west**2 - 2.0 * kernel[0, 1] * west * north + kernel[1, 1] * north**2
    return np.exp(-2.0 * math.pi**2 * form).astype(np.float32)
