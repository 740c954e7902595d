#!/usr/bin/env python3
"""usage: compare_with_truth.py TRUTH IMAGE...

Compare restored images (intrinsic flux: *.int.restored.fits) with the sky that was simulated
(TRUTH: truth.skymodel), point source by point source, brightest first.
"""

from __future__ import annotations

import sys

import numpy as np

from ddfpipe.cli import run_script
from ddfpipe.data.images import FitsImage, read_image
from ddfpipe.data.skymodel import TextSkyModel, read_skymodel
from ddfpipe.errors import ConfigError
from ddfpipe.units import ARCSEC

SHOWN = 10
SIGMAS = 20
"""Sources fainter than this many times the noise are left out."""
REACH = 3
"""Pixels from the true place within which the peak is sought."""


def peaks(image: FitsImage, sky: TextSkyModel) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """True flux and image peak (n,) Jy, and distance of the peak pixel (n,) rad, brightest first.

    Of the point sources in the image that should stand SIGMAS above its noise.
    """
    plane = np.pad(image.plane(), REACH, constant_values=np.nan)
    noise = 1.4826 * np.nanmedian(np.abs(plane - np.nanmedian(plane)))
    flux = np.asarray(sky.flux(image.freq)).reshape(sky.size, -1)[:, 0]
    place = np.stack(image.grid.pixel_of(sky.ra, sky.dec), axis=1)
    wanted = image.grid.inside(*place.T) & (flux > SIGMAS * noise) & (sky.major == 0)
    order = np.flatnonzero(wanted)[np.argsort(-flux[wanted])]
    peak, away = np.zeros(order.size), np.zeros(order.size)
    for k, (y, x) in enumerate(place[order]):
        y0, x0 = round(y), round(x)
        box = plane[y0:y0 + 2 * REACH + 1, x0:x0 + 2 * REACH + 1]
        iy, ix = np.unravel_index(np.nanargmax(box), box.shape)
        peak[k] = box[iy, ix]
        away[k] = np.hypot(y0 + iy - REACH - y, x0 + ix - REACH - x) * image.grid.cell
    return flux[order], peak, away


def report(path: str, sky: TextSkyModel) -> str:
    """Table and summary of an image."""
    flux, peak, away = peaks(read_image(path), sky)
    if not flux.size:
        return f"{path}: no simulated point source is bright enough to compare"
    lines = [path, "  true Jy  in image  ratio  offset"]
    for truth, found, distance in list(zip(flux, peak, away))[:SHOWN]:
        lines.append(f"  {truth:7.3f}  {found:8.3f}  {found / truth:5.2f}  "
                     f"{distance / ARCSEC:5.1f}\"")
    lines.append(f"  {flux.size} point sources above {SIGMAS} sigma: "
                 f"median ratio {np.median(peak / flux):.2f}")
    return "\n".join(lines)


def main(words: list[str]) -> None:
    """Print the comparison of every image."""
    if set(words) & {"-h", "--help"}:
        print(__doc__)
        return
    if len(words) < 2:
        raise ConfigError(f"name the truth and at least one image\n{__doc__.strip()}")
    sky = read_skymodel(words[0])
    for path in words[1:]:
        print(report(path, sky))


if __name__ == "__main__":
    run_script(main, sys.argv[1:])
