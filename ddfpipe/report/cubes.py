"""Quick-look pictures of cubes over frequency (PNG)."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ddfpipe.report.pictures import (
    HIGH_SIGMA, LOW_SIGMA, MAX_PIXELS, block_mean, new_figure, robust_level, save_figure,
)
from ddfpipe.units import DEGREE, MHZ


def draw_cube(cube: Path, png: Path) -> None:
    """Draw a plane of a cube and the noise of all planes against frequency.

    The plane is that of the last Stokes parameter whose noise is the median.  Memory is that of one
    plane.  Raises ImagingError if the cube, or the table of its planes, cannot be read.
    """
    from ddfpipe.data.cubes import read_planes
    from ddfpipe.data.images import read_image

    source, table = read_image(cube), read_planes(cube)
    noise = {name[6:]: table[name] for name in table if name.startswith("NOISE_")}
    last = list(noise)[-1]
    figure, panels = new_figure(12.0, 5.6, columns=2)
    sky, spectrum = panels[0]
    band = _typical(noise[last])
    plane, step = block_mean(source.data[band, -1], MAX_PIXELS)
    middle, sigma = robust_level(plane)
    half = [step * n * source.grid.cell / DEGREE / 2 for n in plane.shape[::-1]]
    shown = sky.imshow(
        plane, origin="lower", cmap="inferno", interpolation="nearest",
        vmin=middle - LOW_SIGMA * sigma, vmax=middle + HIGH_SIGMA * sigma,
        extent=(half[0], -half[0], -half[1], half[1]),
    )
    figure.colorbar(shown, ax=sky, fraction=0.046, pad=0.02).set_label(source.unit)
    sky.set_xlabel("offset to the east (deg)")
    sky.set_ylabel("offset to the north (deg)")
    sky.set_title(f"Stokes {last}, {table['FREQ'][band] / MHZ:.3f} MHz", fontsize=9)
    for name, values in noise.items():
        label = f"Stokes {name}"
        spectrum.plot(table["FREQ"] / MHZ, 1e3 * values, ".-", linewidth=0.6, label=label)
    spectrum.set_xlabel("frequency (MHz)")
    spectrum.set_ylabel("noise of the plane (mJy/beam)")
    spectrum.set_ylim(bottom=0.0)
    spectrum.legend(fontsize=8)
    empty = int(np.sum(table["WEIGHT"] <= 0))
    spectrum.set_title(f"{len(table['FREQ'])} planes, {empty} without data", fontsize=9)
    figure.suptitle(cube.name, fontsize=10)
    save_figure(figure, png)


def _typical(noise: np.ndarray) -> int:
    """Number of the plane with the median noise; 0 if none has any."""
    good = np.flatnonzero(np.isfinite(noise))
    return int(good[np.argsort(noise[good])[good.size // 2]]) if good.size else 0
