#!/usr/bin/env python3
"""Images of single stages of the runs of `hard_skies.py` against the truth, finished or not.

    python tests/bench/stage_images.py FOLDER SKY IMAGE [IMAGE...]

prints for every engine that has made IMAGE (image_ampphase1_di, say) the noise of its residual and,
of point sources above 20 sigma, peaks and (where they stand alone) fluxes over the true ones, and
the largest residual within 1.5 beams over the flux: medians, and scatter by median deviations.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from known_answer import integrated

EDGE = 40
"""Pixels at the edges of an image in which no source counts."""


def spread(values) -> float:
    """Standard deviation by the median absolute deviation."""
    return float(1.4826 * np.median(np.abs(values - np.median(values))))


def stage_figures(run: Path, truth: Path, name: str) -> dict:
    """Figures of an image of a run; truth: folder with truth.skymodel."""
    from ddfpipe.data.images import read_image
    from ddfpipe.data.skymodel import read_skymodel
    from ddfpipe.imaging.noise import robust_noise

    image = read_image(run / f"{name}.app.restored.fits")
    left = read_image(run / f"{name}.app.residual.fits").plane()
    sky, noise = read_skymodel(truth / "truth.skymodel"), robust_noise(left)
    true = sky.flux(image.freq)[0]
    spots = np.stack(image.grid.pixel_of(sky.ra, sky.dec), axis=1)
    half = int(round(1.5 * image.beam[0] / image.grid.cell))
    inside = (spots > EDGE).all(axis=1) & (spots < image.grid.nx - EDGE - 1).all(axis=1)
    peaks, fluxes, rest = [], [], []
    for i in np.flatnonzero(inside & ~np.asarray(sky.gaussian) & (true > 20 * noise)):
        y, x = np.rint(spots[i]).astype(int)
        box = np.s_[y - half:y + half + 1, x - half:x + half + 1]
        peaks.append(image.plane()[box].max() / true[i])
        rest.append(np.abs(left[box]).max() / true[i])
        near = np.hypot(*(spots - spots[i]).T) < 6 * half
        near[i] = False
        if not np.any(true[near] > 0.02 * true[i]):
            fluxes.append(integrated(image, spots[i], half) / true[i])
    return {"noise": noise, "sources": len(peaks), "peak": float(np.median(peaks)),
            "peak_scatter": spread(peaks), "alone": len(fluxes), "flux": float(np.median(fluxes)),
            "flux_scatter": spread(fluxes), "residual": float(np.median(rest))}


def main() -> None:
    folder, sky, *names = sys.argv[1:]
    place = Path(folder) / sky
    for name in names:
        for found in sorted(place.glob(f"*/{name}.app.restored.fits")):
            f = stage_figures(found.parent, place / "field" / "judged", name)
            print(f"{name}, {found.parent.name}: noise {1e3 * f['noise']:.2f} mJy/beam; "
                  f"{f['sources']} peaks {f['peak']:.3f}, {f['peak_scatter']:.3f}; "
                  f"{f['alone']} fluxes {f['flux']:.3f}, {f['flux_scatter']:.3f}; "
                  f"residual {f['residual']:.3f}")


if __name__ == "__main__":
    main()
