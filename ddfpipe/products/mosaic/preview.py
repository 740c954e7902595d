"""Picture of a mosaic with sky coordinates, in any projection."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ddfpipe.imaging.noise import robust_noise
from ddfpipe.products.mosaic.pointing import Pointing
from ddfpipe.products.planes import Plane

MAX_PIXELS = 900
LOW_SIGMA, HIGH_SIGMA = 3.0, 15.0


def draw_mosaic(mosaic: Plane, png: Path, title: str, pointings: Sequence[Pointing]) -> None:
    """Draw a mosaic, averaged to at most MAX_PIXELS a side, with a cross on each pointing."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    plane, step = _averaged(mosaic)
    wcs = mosaic.wcs()[::step, ::step]
    figure = Figure(figsize=(8.0, 7.0))
    FigureCanvasAgg(figure)
    axes = figure.add_subplot(projection=wcs)
    sigma = robust_noise(plane)
    if not sigma > 0.0:
        sigma = 1.0
    shown = axes.imshow(plane, origin="lower", cmap="inferno", interpolation="nearest",
                        vmin=-LOW_SIGMA * sigma, vmax=HIGH_SIGMA * sigma)
    bar = figure.colorbar(shown, ax=axes, fraction=0.046, pad=0.02)
    bar.set_label(str(mosaic.header.get("BUNIT", "")))
    for pointing in pointings:
        where = wcs.wcs_world2pix([pointing.intrinsic.wcs().wcs.crval], 0)[0]
        if np.isfinite(where).all():
            axes.plot(*where, marker="+", color="cyan", markersize=8)
    axes.set_xlim(-0.5, plane.shape[1] - 0.5)
    axes.set_ylim(-0.5, plane.shape[0] - 0.5)
    axes.coords.grid(color="white", alpha=0.3, linestyle="dotted")
    for axis in axes.coords:
        axis.set_auto_axislabel(False)
    axes.set_xlabel(str(mosaic.header["CTYPE1"])[:4].rstrip("-"))
    axes.set_ylabel(str(mosaic.header["CTYPE2"])[:4].rstrip("-"))
    axes.set_title(f"{title}: {len(pointings)} images, robust sigma of the picture {sigma:.3g}",
                   fontsize=9)
    figure.savefig(png, dpi=110, format="png", bbox_inches="tight", metadata={"Software": None})


def _averaged(mosaic: Plane) -> tuple[np.ndarray, int]:
    """(mean of finite pixels in square blocks, size of a block); the last rest is dropped."""
    step = max(1, -(-max(mosaic.shape) // MAX_PIXELS))
    rows, columns = (max(1, n // step) for n in mosaic.shape)
    out = np.full((rows, columns), np.nan, np.float32)
    for row in range(rows):
        strip = mosaic.read(slice(row * step, (row + 1) * step), slice(0, columns * step))
        blocks = strip.reshape(len(strip), columns, -1)
        good = np.isfinite(blocks)
        count = good.sum(axis=(0, 2))
        total = np.where(good, blocks, 0.0).sum(axis=(0, 2))
        np.divide(total, count, out=out[row], where=count > 0)
    return out, step
