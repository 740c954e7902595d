"""Pictures of the flux scale: spectra on it, spectral indices, factors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ddfpipe.data.scales import FactorTable, load_factors
from ddfpipe.errors import DataError
from ddfpipe.products.fluxscale.fit import REFERENCE_HZ
from ddfpipe.products.fluxscale.spectra import SourceSpectra, read_crossmatch

HISTOGRAM_BINS = 10


def load_scale(files: Mapping[str, Path],
               fit: int = 2) -> tuple[FactorTable, SourceSpectra | None]:
    """Factors of the first or second fit, and the sources behind them (None if not scaled).

    files: by kind, see `ddfpipe.products.fluxscale.run.measure_scale`.  Raises DataError.
    """
    table = load_factors(files["factors"])
    if not table.scaled:
        return table, None
    spectra = read_crossmatch(files[f"crossmatch_{fit}"])
    if fit == 1:
        try:
            rows = np.load(files["results_1"])[np.argsort(spectra.channels)]
        except (OSError, ValueError) as error:
            raise DataError(f"{files['results_1']}: the first fit cannot be read ({error}); run "
                            "the bootstrap again") from error
        factor, low, high = (tuple(map(float, column)) for column in rows.T)
        error = tuple((b - a) / 2 for a, b in zip(low, high))
        index = power_laws(replace(table, factor=factor), spectra)[2]
        table = replace(
            table, factor=factor, low=low, high=high, error=error, sources=spectra.size, note="",
            spectral_index=float(index.mean()),
            spectral_index_error=float(index.std(ddof=1) / np.sqrt(index.size)),
        )
    return table, spectra


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


def draw_scale(files: Mapping[str, Path], png: Path, fit: int = 2) -> Path:
    """Write the picture of a flux scale as PNG.  Raises DataError, OSError."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    from ddfpipe.data.atomic import atomic_path

    table, spectra = load_scale(files, fit)
    figure = Figure(figsize=(14 if spectra is not None else 5, 4.2), layout="constrained")
    FigureCanvasAgg(figure)
    scale_figure(table, spectra, figure)
    png.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(png) as part:
        figure.savefig(part, dpi=110, format="png", metadata={"Software": None})
    return png


def show_scale(files: Mapping[str, Path], fit: int = 2) -> None:
    """The same in a window; returns when that is closed.  Raises DataError."""
    from matplotlib import pyplot

    table, spectra = load_scale(files, fit)
    scale_figure(table, spectra, pyplot.figure(figsize=(14, 4.2), layout="constrained"))
    pyplot.show()
