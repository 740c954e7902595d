"""Restored images of a sky model whose components lie on pixels and between them."""

from __future__ import annotations

import numpy as np

from ...imaging.restore import restore


def restored_image(model, flux, attenuation, residual, beam, threads: int = 1) -> np.ndarray:
    """(y, x) apparent residual plus a model's components seen with the beam.

    model : PixelModel; flux : (n,) Jy of its components; attenuation : (y, x) apparent over
    intrinsic flux; beam : (major, minor, position angle) rad
    """
    free, (row, col), (y, x) = model.free, model.yx(), model.place()
    seen = flux * np.nan_to_num(attenuation[row, col])
    pixels = model.pixels().raster(seen[None, ~free])[0]
    points = y[free], x[free], seen[free]
    return restore(pixels, residual, beam, model.grid.cell, points=points, threads=threads)
