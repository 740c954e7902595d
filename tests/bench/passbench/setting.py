"""What is simulated and imaged."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

CENTRE = (210.0, 50.0)
"""Phase centre, degrees."""


@dataclass(frozen=True)
class Setting:
    """What is simulated and imaged.

    facets: on a side; psf: size of our PSFs over that of a facet.  DDFacet's is 1, and so is the
    default here; before a deconvolution our engine makes larger ones, up to 1024 pixels.
    """

    npix: int = 4096
    cell: float = 3.0
    facets: int = 7
    slots: int = 120
    channels: int = 20
    core: int = 48
    remote: int = 14
    points: int = 150
    noise: float = 1.0
    psf: float = 1.0

    @property
    def degrees(self) -> float:
        return self.npix * self.cell / 3600


# cells as small as the full size's: others leave out baselines beyond the cell's Nyquist frequency
SMALL = Setting(npix=480, cell=3.0, facets=3, slots=20, channels=6, core=10, remote=4, points=60,
                noise=0.1)


def directions(setting: Setting) -> tuple[np.ndarray, np.ndarray]:
    """(l, m) rad of the middles of the facets."""
    from ddfpipe.imaging.sky import pixel_to_lm

    # edges of facets lie between pixels, so that no pixel is as near to one as to another
    middle = (np.arange(setting.facets) + 0.5) * setting.npix / setting.facets - 0.5
    y, x = (a.ravel() for a in np.meshgrid(middle, middle, indexing="ij"))
    return pixel_to_lm(y, x, setting.npix, np.radians(setting.cell / 3600))


def centre() -> tuple[float, float]:
    return tuple(np.radians(CENTRE))


@dataclass(frozen=True)
class Work:
    """One pass: the measurement set, whether through gains, where the program may write, and
    whether PSFs are wanted (of ours; the others make them)."""

    ms: Path
    field: Path
    setting: Setting
    gains: bool
    folder: Path
    threads: int
    ddf: Path | None = None
    psf: bool = True
