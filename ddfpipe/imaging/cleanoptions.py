"""Options and result of the deconvolution in `clean`."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ddfpipe.errors import ImagingError
from ddfpipe.imaging.points import Points


@dataclass(frozen=True)
class CleanOptions:
    """How deep and how finely to clean.

    gain: part of a peak taken by one component.
    scales: FWHM in pixels of the Gaussians; 0 is a point (`multiscale.default_scales`).
    scale_bias: factor on the score for every step up in scale when scales compete; below 1 it
        favours small scales.
    n_terms: terms of the spectrum over the bands: 1 (flat) or 2 (linear in frequency).
    max_components: in this call.
    threshold: absolute level in apparent Jy/beam.
    rms_factor: level in units of `noise` (or of the residual's robust noise).
    peak_factor: level in units of the first peak.
    cycle_factor: level in units of the first peak times the largest PSF sidelobe beyond
        `patch_half` pixels; 0 lets the minor cycle go on to the other levels.
        The largest of the four levels ends the minor cycle.
    depth: a round ends when its peak has fallen to this part (point scale; or twice the outer
        sidelobe if that is more); extended_depth: the same for the other scales.
    final_depth: once the level is reached, pixels that hold components are cleaned on to this
        part of it (not below the noise), so that the model of a faint source does not lack a
        whole threshold of flux; 1 turns it off.
    allow_negative: components and model may be negative.
    fit_islands: the flux of an island's pixels is solved for together at the end (`islandfit`).
    free_points: sources that look like points become components between pixels (`points`).
    patch_half: half the side in pixels of the PSF patch of the sub-minor loop.
    max_rounds: rounds in this call.
    """

    gain: float = 0.1
    scales: tuple[float, ...] = (0.0,)
    scale_bias: float = 0.95
    n_terms: int = 2
    max_components: int = 1_000_000
    threshold: float = 0.0
    rms_factor: float = 3.0
    peak_factor: float = 0.001
    cycle_factor: float = 0.0
    depth: float = 0.15
    extended_depth: float = 0.4
    final_depth: float = 0.2
    allow_negative: bool = False
    fit_islands: bool = True
    free_points: bool = True
    patch_half: int = 64
    max_rounds: int = 200

    def __post_init__(self) -> None:
        checks = (
            (0.0 < self.gain <= 1.0, "gain must be above 0 and at most 1"),
            (0.0 < self.depth < 1.0 and 0.0 < self.extended_depth < 1.0, "depth must be in (0, 1)"),
            (len(self.scales) > 0 and min(self.scales) >= 0.0, "scales must be 0 or more pixels"),
            (0.0 < self.final_depth <= 1.0, "final_depth must be above 0 and at most 1"),
            (self.n_terms in (1, 2), "n_terms must be 1 or 2"),
            (self.max_components >= 0 and self.max_rounds >= 0, "limits must not be negative"),
            (min(self.threshold, self.rms_factor, self.peak_factor, self.cycle_factor) >= 0.0,
             "levels must not be negative"),
            (self.patch_half >= 2, "patch_half must be 2 pixels or more"),
        )
        for good, what in checks:
            if not good:
                raise ImagingError(f"deconvolution options: {what}.")


@dataclass(frozen=True)
class CleanResult:
    """What a minor cycle did.

    model: (band, ny, nx) float32, the *added* apparent flux per pixel (without the start model).
    points: all components between pixels, those of the start included.
    residual: (band, ny, nx) float32, the array passed in, updated.
    stop_reason: "threshold", "components", "rounds", "stalled", "diverging" or "nothing to clean".
    threshold: level asked for; first_peak, peak: score of the best pixel before cleaning, and of
    the best in the mask when the level was reached (before `final_depth`);
    noise: noise used; sidelobe: largest PSF sidelobe beyond the patch;
    scale_flux: apparent Jy (band mean) added at each used scale, before the cut to the mask.
    """

    model: np.ndarray
    points: Points
    residual: np.ndarray
    n_components: int
    n_rounds: int
    stop_reason: str
    threshold: float
    first_peak: float
    peak: float
    noise: float
    sidelobe: float
    scale_flux: dict[float, float]

    @property
    def threshold_reached(self) -> bool:
        """Whether nothing above the level is left inside the mask."""
        return self.stop_reason in ("threshold", "nothing to clean")
