"""Gaussian beams: convolution and deconvolution of ellipses.

An elliptical Gaussian is its covariance matrix; convolving adds matrices (Wild 1970, Aust. J.
Phys. 23, 113).  A beam is (major FWHM, minor FWHM, position angle north through east), radians.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np

from ddfpipe.errors import DataError
from ddfpipe.units import ARCSEC, FWHM_TO_SIGMA

Beam = tuple[float, float, float]
RELATIVE = 1e-4
"""Beams whose axes differ by less than this part count as equal: headers are rounded."""


def covariance(beam: Beam) -> np.ndarray:
    """(2, 2) covariance in (east, north), radians squared."""
    major, minor = (FWHM_TO_SIGMA * axis for axis in beam[:2])
    along = np.array([math.sin(beam[2]), math.cos(beam[2])])
    across = np.array([along[1], -along[0]])
    return major**2 * np.outer(along, along) + minor**2 * np.outer(across, across)


def beam_of(matrix: np.ndarray) -> Beam:
    """The beam of a covariance matrix, position angle in [0, pi)."""
    values, vectors = np.linalg.eigh(matrix)
    minor, major = np.sqrt(np.maximum(values, 0.0)) / FWHM_TO_SIGMA
    return float(major), float(minor), math.atan2(vectors[0, 1], vectors[1, 1]) % math.pi


def deconvolved_beam(target: Beam, beam: Beam) -> Beam:
    """The Gaussian that turns `beam` into `target`; axes are 0 where both agree.

    Raises DataError when `target` is narrower than `beam` in some direction.
    """
    matrix = covariance(target) - covariance(beam)
    smallest, allowed = np.linalg.eigvalsh(matrix)[0], RELATIVE * (FWHM_TO_SIGMA * target[0]) ** 2
    if smallest < -2.0 * allowed:
        raise DataError(
            f"a beam of {arcsec(beam)} cannot be made into one of {arcsec(target)}: ask for "
            f"{beam[0] / ARCSEC:.2f} arcsec or more."
        )
    return beam_of(matrix)


def same_beam(one: Beam, other: Beam) -> bool:
    """Whether two beams agree but for rounding; the angle counts as far as it is elongated."""
    difference = np.linalg.eigvalsh(covariance(one) - covariance(other))
    return bool(np.abs(difference).max() <= 2.0 * RELATIVE * (FWHM_TO_SIGMA * one[0]) ** 2)


def common_circle(beams: Iterable[Beam]) -> Beam:
    """The smallest circular beam that all `beams` can be convolved to."""
    return max(beam[0] for beam in beams), max(beam[0] for beam in beams), 0.0


def arcsec(beam: Beam) -> str:
    """``6.00" x 5.50"``."""
    return f'{beam[0] / ARCSEC:.2f}" x {beam[1] / ARCSEC:.2f}"'
