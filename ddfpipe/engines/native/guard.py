"""A guard against major cycles that make an image worse.

A minor cycle sees approximations: one PSF a facet, averages of beam and smearing, a mask.  Where
these do not serve (few baselines, a mask full of artefacts) the model that it finds leaves more in
the data than it took out, and the next cycle cleans what the last one put there.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ...imaging.noise import robust_noise
from .products import band_mean

NOISE_GROWTH, PEAK_GROWTH = 1.05, 1.3
"""Growth of the noise, and of the largest residual in the mask, that a cycle may cause."""

DAMPING = 0.5
"""Part of a bad cycle's update that is tried instead of the whole."""


@dataclass(frozen=True)
class Quality:
    """Robust noise of a residual, and its largest absolute value under the mask; Jy/beam."""

    noise: float
    peak: float

    @classmethod
    def of(cls, residual: np.ndarray, weight: np.ndarray, mask: np.ndarray) -> Quality:
        """Of the mean of (band, y, x) with weights (band,)."""
        mean = band_mean(residual, weight)
        return cls(robust_noise(mean), float(np.abs(mean[mask]).max(initial=0.0)))

    def worse_than(self, other: Quality) -> bool:
        """Whether there is more left than in `other`, beyond what may happen."""
        return self.noise > NOISE_GROWTH * other.noise or self.peak > PEAK_GROWTH * other.peak


def settle(operators, picture, before, quality: Quality) -> tuple[str, bool]:
    """Make the residual of a cycle's model; damp the cycle or take it back where that is worse.

    Parameters
    ----------
    picture : Picture; its residual is set, its model changed where the cycle does not stand
    before : PixelModel that the cycle started from
    quality : Quality of the residual that it started from

    Returns
    -------
    what was done, empty where nothing, and whether the cycle was taken back
    """
    weight, found = operators.data.band_weight, picture.model

    def try_model(model) -> bool:
        operators.set_residual(model)
        picture.model, picture.residual = model, operators.adjoint()
        return not Quality.of(picture.residual, weight, picture.mask).worse_than(quality)

    if try_model(found):
        return "", False
    half = before.scaled(1.0 - DAMPING).joined(found.scaled(DAMPING))
    if try_model(half):
        return "it made the image worse, so half of it was taken", False
    try_model(before)
    return "it made the image worse and was taken back; cleaning ends here", True
