"""Pictures of a measurement of offsets: an overview of the field, and a page for each facet."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ddfpipe.data.atomic import atomic_path
from ddfpipe.data.images import SkyGrid
from ddfpipe.data.regions import FacetOutline
from ddfpipe.products.astrometry.measure import Measurement
from ddfpipe.products.astrometry.tables import centre_of
from ddfpipe.units import ARCSEC, DEGREE

WINDOW, EDGES = 6.0, np.linspace(-40.0, 40.0, 151)
"""Half width in arcsec of the map of separations; bins of the histograms beside it."""

ARROW = {"arrowstyle": "->", "shrinkA": 0.0, "shrinkB": 0.0}


def _figure(width: float, height: float):
    # The object interface needs no display and leaves the user's matplotlib alone.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height))
    FigureCanvasAgg(figure)
    return figure


def draw_overview(paths: Sequence[Path], measured: Measurement, outlines: Sequence[FacetOutline],
                  grid: SkyGrid, title: str) -> None:
    """Arrows of the facets' offsets on their outlines, one file a path (kind by its suffix).

    An arrow points from where the reference has the sources to where the image has them; a circle
    at its foot has the radius of its error.  Facets without a clear peak of their own are grey.
    """
    figure = _figure(8.2, 7.6)
    axes = figure.add_subplot()
    offsets = measured.offsets
    size = np.hypot(offsets.east, offsets.north)
    largest = float(np.max(size[offsets.clear], initial=0.1 * ARCSEC))
    # The longest arrow spans a third of a usual facet.
    scale = 0.35 * grid.nx * grid.cell / np.sqrt(offsets.size) / largest
    for number, outline in enumerate(outlines):
        polygon = np.vstack([outline.polygon, outline.polygon[:1]])
        east, north = (v / DEGREE for v in grid.lm_of(*polygon.T))
        axes.plot(east, north, color="0.7", linewidth=0.6)
        x, y = (float(v) / DEGREE for v in grid.lm_of(*centre_of(outline)))
        colour = "tab:red" if offsets.clear[number] else "0.6"
        axes.text(x, y, f" {number}", fontsize=6, color="tab:blue")
        error = offsets.total_error[number] * scale / DEGREE
        axes.annotate("", (x + offsets.east[number] * scale / DEGREE,
                           y + offsets.north[number] * scale / DEGREE), (x, y),
                      arrowprops={"color": colour, "linewidth": 1.2, **ARROW})
        if error < 0.2 * grid.nx * grid.cell / DEGREE:
            axes.add_patch(_circle(x, y, error, colour))
    _draw_key(axes, grid, largest, scale)
    axes.set_aspect("equal")
    axes.set_xlabel("offset to the east (deg)")
    axes.set_ylabel("offset to the north (deg)")
    axes.set_title(title, fontsize=10)
    for path in paths:
        _save(figure, path)


def _circle(x: float, y: float, radius: float, colour: str):
    from matplotlib.patches import Circle

    return Circle((x, y), radius, fill=False, edgecolor=colour, linewidth=0.7)


def _draw_key(axes, grid: SkyGrid, largest: float, scale: float) -> None:
    """An arrow of a round length in the corner."""
    half = grid.nx * grid.cell / 2 / DEGREE
    length = 10.0 ** np.floor(np.log10(largest / ARCSEC))
    x, y = -0.5 * half, -1.08 * half
    axes.annotate("", (x - length * ARCSEC * scale / DEGREE, y), (x, y),
                  arrowprops={"color": "tab:green", **ARROW})
    axes.text(x + 0.02 * half, y, f"{length:g} arcsec", ha="right", va="center", fontsize=8,
              color="tab:green")
    axes.set_xlim(1.03 * half, -1.03 * half)
    axes.set_ylim(-1.15 * half, 1.03 * half)


def draw_facets(path: Path, measured: Measurement) -> None:
    """PDF with a page for each facet: map and histograms of the separations, and the fit."""
    from matplotlib.backends.backend_pdf import PdfPages

    with atomic_path(path) as part, PdfPages(part, metadata={"CreationDate": None}) as pages:
        for number in range(measured.offsets.size):
            pages.savefig(_facet_page(measured, number))


def _facet_page(measured: Measurement, number: int):
    offsets, fit = measured.offsets, measured.field.fits[number]
    east, north = measured.separations.of_facet(number)
    found = np.array([offsets.east[number], offsets.north[number]]) / ARCSEC
    error = np.array([offsets.east_error[number], offsets.north_error[number]]) / ARCSEC
    figure = _figure(9, 4.5)
    places = figure.add_subplot(1, 2, 1)
    places.plot(east, north, "k.", markersize=2)
    places.errorbar(found[0], found[1], error[1], error[0], color="tab:red", capsize=2)
    places.set_xlim(WINDOW, -WINDOW)
    places.set_ylim(-WINDOW, WINDOW)
    places.set_aspect("equal")
    places.set_xlabel("image - reference, east (arcsec)")
    places.set_ylabel("north (arcsec)")
    for row, (values, name) in enumerate(((east, "RA"), (north, "DEC"))):
        panel = figure.add_subplot(2, 2, 2 * row + 2)
        panel.hist(values, EDGES, histtype="step", color="0.3")
        panel.axvline(found[row], color="tab:red", linewidth=0.8)
        panel.set_title(f"{name} {found[row]:+.3f} +- {error[row]:.3f} arcsec", fontsize=8)
        panel.tick_params(labelsize=7)
    matched = f", {fit.matched:.1f} with counterparts" if fit else ""
    peak = "" if offsets.clear[number] else ", no clear peak: value of the field"
    figure.suptitle(f"facet {number}: {offsets.sources[number]} sources{matched}{peak}", fontsize=9)
    return figure


def draw_chains(path: Path, measured: Measurement) -> bool:
    """PDF with the samples of each facet's parameters; False if none were drawn."""
    fits = [(k, fit) for k, fit in enumerate(measured.field.fits) if fit and fit.samples.size]
    if not fits:
        return False
    from matplotlib.backends.backend_pdf import PdfPages

    names = ("RA (arcsec)", "DEC (arcsec)", "ln scatter", "share")
    with atomic_path(path) as part, PdfPages(part, metadata={"CreationDate": None}) as pages:
        for number, fit in fits:
            figure = _figure(7, 7)
            panels = figure.subplots(4, 1, sharex=True)
            for k, panel in enumerate(panels):
                panel.plot(fit.samples[::8, k], ",", color="k")
                panel.set_ylabel(names[k], fontsize=8)
            figure.suptitle(f"facet {number}", fontsize=9)
            pages.savefig(figure)
    return True


def draw_selection(path: Path, measured: Measurement) -> None:
    """PNG of flux ratio against signal to noise, with the envelope of compact sources."""
    chosen = measured.selection
    figure = _figure(7, 4.5)
    axes = figure.add_subplot()
    axes.semilogx(chosen.snr, chosen.log_ratio, ".", color="0.7", markersize=2, label="left out")
    axes.semilogx(chosen.snr[chosen.kept], chosen.log_ratio[chosen.kept], ".", color="tab:red",
                  markersize=2, label="used")
    order = np.argsort(chosen.snr)
    for sign in (-1, 1):
        axes.semilogx(chosen.snr[order], sign * chosen.limit[order], color="tab:blue",
                      linewidth=0.8)
    axes.set_ylim(-1.5, 2.5)
    axes.set_xlabel("peak over noise")
    axes.set_ylabel("ln(integrated / peak flux), less smearing")
    axes.legend(fontsize=8)
    _save(figure, path)


def _save(figure, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    kind = path.suffix.lstrip(".")
    metadata = {"CreationDate": None} if kind == "pdf" else {"Software": None}
    with atomic_path(path) as part:
        figure.savefig(part, dpi=110, format=kind, bbox_inches="tight", metadata=metadata)
