"""Pictures of the flux scale: spectra on it, spectral indices, factors."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ddfpipe.data.scales import FactorTable, load_factors
from ddfpipe.products.fluxscale.fit import REFERENCE_HZ
from ddfpipe.products.fluxscale.spectra import SourceSpectra, read_crossmatch

HISTOGRAM_BINS = 10


def load_scale(files: Mapping[str, Path]) -> tuple[FactorTable, SourceSpectra | None]:
    """Factors, and the sources behind them: those of the last fit (None if there was none).

    files: of "factors", "crossmatch_1" and "crossmatch_2".  Raises DataError.
    """
    table = load_factors(files["factors"])
    for kind in ("crossmatch_2", "crossmatch_1"):
        if files[kind].exists():
            return table, read_crossmatch(files[kind])
    return table, None


def power_laws(table: FactorTable, spectra: SourceSpectra):
    """(fluxes (n, k) Jy on the flux scale, ln S at REFERENCE_HZ (n,), spectral indices (n,)).

    Least squares in the logarithms, weighted with the errors and 3 % in quadrature.
    """
    factor = np.where(spectra.scaled, table.at(spectra.frequency), 1.0)
    flux, error = spectra.flux * factor, spectra.error * factor
    x = np.log(spectra.frequency / REFERENCE_HZ)
    with np.errstate(invalid="ignore", divide="ignore"):
        good = np.isfinite(flux) & (flux > 0)
        weight = np.where(good, 1.0 / ((error / flux) ** 2 + 0.03**2), 0.0)
        y = np.where(good, np.log(np.where(good, flux, 1.0)), 0.0)
    s0, s1, s2 = weight.sum(1), weight @ x, weight @ x**2
    t0, t1 = (weight * y).sum(1), (weight * y) @ x
    det = s0 * s2 - s1**2
    return flux, (s2 * t0 - s1 * t1) / det, (s0 * t1 - s1 * t0) / det


def scale_figure(table: FactorTable, spectra: SourceSpectra | None, figure: Any) -> None:
    """Fill a matplotlib figure: factors, and with sources their spectra and indices."""
    panels = figure.subplots(1, 3 if spectra is not None else 1, squeeze=False)[0]
    _factors(panels[0], table)
    if spectra is not None:
        flux, level, index = power_laws(table, spectra)
        _spectra(panels[1], spectra, flux, level, index)
        _indices(panels[2], index)
    figure.suptitle(f"flux scale of {table.observation}: {table.sources} sources"
                    + ("" if table.scaled else ", not scaled"))


def _factors(axes: Any, table: FactorTable) -> None:
    mhz, factor = np.array(table.frequency) / 1e6, np.array(table.factor)
    spread = np.abs(np.array([table.low, table.high]) - factor)
    axes.errorbar(mhz, factor, spread, fmt="o", markersize=4, capsize=2)
    axes.plot(mhz, factor, linewidth=0.7, color="tab:blue")
    axes.axhline(1.0, color="grey", linewidth=0.7)
    axes.set_xlabel("frequency (MHz)")
    axes.set_ylabel("factor on the data")


def _spectra(axes: Any, spectra: SourceSpectra, flux: np.ndarray, level: np.ndarray,
             index: np.ndarray) -> None:
    mhz = spectra.frequency / 1e6
    span = np.geomspace(mhz.min() / 1.1, mhz.max() * 1.1, 30)
    for i in range(len(flux)):
        line, = axes.plot(
            span, np.exp(level[i]) * (span * 1e6 / REFERENCE_HZ) ** index[i], linewidth=0.5,
            alpha=0.6,
        )
        axes.plot(mhz, flux[i], ".", markersize=3, color=line.get_color())
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel("frequency (MHz)")
    axes.set_ylabel("flux density (Jy)")


def _indices(axes: Any, index: np.ndarray) -> None:
    axes.hist(index, bins=HISTOGRAM_BINS)
    axes.axvline(index.mean(), color="black", linewidth=1)
    axes.set_xlabel("spectral index")
    axes.set_ylabel("sources")


def draw_scale(files: Mapping[str, Path], png: Path) -> Path:
    """Write the picture of a flux scale as PNG.  Raises DataError, OSError."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    from ddfpipe.data.atomic import atomic_path

    table, spectra = load_scale(files)
    figure = Figure(figsize=(14 if spectra is not None else 5, 4.2), layout="constrained")
    FigureCanvasAgg(figure)
    scale_figure(table, spectra, figure)
    png.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(png) as part:
        figure.savefig(part, dpi=110, format="png", metadata={"Software": None})
    return png
