"""Pictures of dynamic spectra (PNG)."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ddfpipe.data.atomic import atomic_path
from ddfpipe.units import MHZ, MINUTE

CELLS = 400
"""Most cells a side of a drawn spectrum; larger ones are averaged."""
BINS = 120
"""Most points of a light curve."""
LIMIT = 5.0
"""Ends of the colour scale in standard deviations."""


def draw_spectrum(path: Path) -> Path:
    """Draw a spectrum's I and V over time and frequency, and the light curves; beside the file.

    The planes are drawn in standard deviations of their (averaged) cells.
    """
    from astropy.io import fits
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with fits.open(path, memmap=False) as hdus:
        header, flux = hdus[0].header, hdus[0].data.astype(float)
        noise = hdus["NOISE"].data.astype(float)
    hours = header["CDELT1"] * np.arange(flux.shape[2] + 1) / (60 * MINUTE)
    mhz = (header["CRVAL2"] + header["CDELT2"] * (np.arange(flux.shape[1] + 1) - 0.5)) / MHZ
    figure = Figure(figsize=(9, 9), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(3, 1, sharex=True, height_ratios=(3, 3, 2))
    for k, name in enumerate("IV"):
        _draw_plane(figure, axes[k], name, flux[k], noise[k], hours, mhz)
        _draw_curve(axes[2], name, flux[k], noise[k], hours)
    axes[2].axhline(0, color="grey", linewidth=0.5)
    axes[2].set_xlabel(f"hours after {header['DATE-BEG']} UTC")
    axes[2].set_ylabel("mean over frequency (mJy)")
    axes[2].legend(loc="upper right", fontsize=8)
    figure.suptitle(
        f"{header['OBJECT']}  ({header['RA']:.5f}, {header['DEC']:+.5f})  {header['OBSID']}  "
        f"facet {header['FACET']}", fontsize=10,
    )
    target = path.with_suffix(".png")
    with atomic_path(target) as part:
        figure.savefig(part, dpi=110, format="png", metadata={"Software": None})
    return target


def _draw_plane(figure, axes, name, flux, noise, hours, mhz) -> None:
    steps = [max(1, int(np.ceil(n / CELLS))) for n in flux.shape]
    mean, sigma = averaged(flux, noise, *steps)
    edges = [np.append(values[:-1][::step], values[-1]) for values, step in
             zip((hours, mhz), steps[::-1])]
    with np.errstate(invalid="ignore", divide="ignore"):
        shown = axes.pcolormesh(*edges, mean / sigma, cmap="RdBu_r", vmin=-LIMIT, vmax=LIMIT,
                                rasterized=True)
    axes.set_facecolor("0.8")  # no data
    axes.set_ylabel("MHz")
    axes.set_title(f"Stokes {name}", fontsize=9, loc="left")
    figure.colorbar(shown, ax=axes, pad=0.01).set_label("standard deviations")


def _draw_curve(axes, name, flux, noise, hours) -> None:
    step = max(1, int(np.ceil(flux.shape[1] / BINS)))
    mean, sigma = averaged(flux, noise, flux.shape[0], step)
    edges = np.append(hours[:-1][::step], hours[-1])
    middle = (edges[:-1] + edges[1:]) / 2
    good = np.isfinite(mean[0])
    axes.errorbar(middle[good], 1e3 * mean[0][good], 1e3 * sigma[0][good], fmt=".-", markersize=3,
                  linewidth=0.7, elinewidth=0.5, label=f"Stokes {name}")


def averaged(flux: np.ndarray, noise: np.ndarray, rows: int, columns: int):
    """Mean of blocks of `rows` x `columns` cells with weights 1/noise², and its error.

    flux, noise: (freq, time), not finite where there are no data.  Returns two arrays (block rows,
    block columns), NaN for blocks without data.
    """
    good = np.isfinite(flux) & np.isfinite(noise) & (noise > 0)
    weight = np.where(good, 1 / np.where(good, noise, 1) ** 2, 0)
    ends = [np.arange(0, n, step) for n, step in zip(flux.shape, (rows, columns))]

    def blocks(values):
        return np.add.reduceat(np.add.reduceat(values, ends[0], axis=0), ends[1], axis=1)

    total = blocks(weight)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = blocks(weight * np.where(good, flux, 0)) / total
        return mean, np.where(total > 0, 1 / np.sqrt(total), np.nan)
