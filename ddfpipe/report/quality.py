"""Pictures and page of the quality report."""

from __future__ import annotations

import base64
import html
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from ddfpipe.report.pictures import draw_image, new_figure, save_figure
from ddfpipe.report.page import STYLE
from ddfpipe.report.quality_table import verdict_words

GREY, BLUE, RED = "#777777", "#0b5394", "#b00020"
MICRO = 1e6
ROUND = tuple(digit * 10.0 ** power for power in range(-3, 5) for digit in (1, 2, 5))
"""Labels of logarithmic axes that span a decade or two."""


def draw_field(image: Path, png: Path, facets: Path | None) -> None:
    """The apparent image with its facets."""
    draw_image(image, png, facets)


def draw_noise(figures: Mapping[str, Any], png: Path) -> None:
    """Map of the noise, and the noise of the facets."""
    facets = figures["facets"]
    figure, axes = new_figure(10 if facets else 6, 4.6, columns=2 if facets else 1)
    half = figures["map_width_deg"] / 2
    plane = figures["map_jy"] * MICRO
    low, high = (figures["percentiles_jy"][p] * MICRO for p in ("5", "95"))
    first = axes[0, 0]
    shown = first.imshow(plane, origin="lower", cmap="viridis", vmin=0.8 * low, vmax=1.3 * high,
                         extent=(half, -half, -half, half))
    figure.colorbar(shown, ax=first, fraction=0.046, pad=0.02).set_label("noise (uJy/beam)")
    _labels(first, "offset to the east (deg)", "offset to the north (deg)")
    if facets:
        second = axes[0, 1]
        second.bar([row["facet"] for row in facets],
                   [(row["noise_jy"] or 0.0) * MICRO for row in facets], color=BLUE)
        if figures["central_jy"]:
            second.axhline(figures["central_jy"] * MICRO, color=RED, lw=1, label="centre")
            second.legend(fontsize=8)
        _labels(second, "facet", "noise (uJy/beam)")
    save_figure(figure, png)


def draw_dynamic_range(figures: Mapping[str, Any], png: Path) -> None:
    """Dynamic range of bright sources against their peak."""
    figure, axes = new_figure(6, 4.2)
    axis = axes[0, 0]
    rows = figures["sources"]
    if rows:
        axis.loglog([r["peak_jy"] for r in rows], [r["range"] for r in rows], "o", color=BLUE)
        axis.axhline(figures["median"], color=RED, lw=1, label=f"median {figures['median']:.0f}")
        axis.legend(fontsize=8)
    _labels(axis, "apparent peak (Jy/beam)", "peak / largest pixel nearby")
    save_figure(figure, png)


def draw_sizes(figures: Mapping[str, Any], png: Path) -> None:
    """Total over peak flux against distance from the centre."""
    figure, axes = new_figure(6, 4.2)
    axis = axes[0, 0]
    points = np.array(figures["points"]).reshape(-1, 2)
    axis.plot(points[:, 0], points[:, 1], ".", color=GREY, ms=3)
    _annuli(axis, figures["by_radius"])
    axis.axhline(1.0, color="black", lw=0.7)
    if len(points):
        axis.set_ylim(0.8, max(1.5, float(np.percentile(points[:, 1], 98))))
    _labels(axis, "distance from the centre (deg)", "total / peak flux")
    save_figure(figure, png)


def draw_counts(figures: Mapping[str, Any], png: Path) -> None:
    """Counts of the image and the published ones."""
    figure, axes = new_figure(6, 4.4)
    axis = axes[0, 0]
    rows = figures["bins"]
    middle = np.array([np.sqrt(r["low_jy"] * r["high_jy"]) for r in rows])
    counted = np.array([r["n"] > 0 for r in rows], bool)
    if rows:
        axis.plot(middle, [r["expected"] for r in rows], color=RED, lw=1,
                  label=figures["citation"])
    if counted.any():
        values = np.array([(r["counts"], r["error"]) for r in rows])[counted]
        axis.errorbar(middle[counted], values[:, 0], values[:, 1], fmt="o", color=BLUE, ms=4,
                      label="this image")
    if rows:
        axis.set_xscale("log")
        axis.set_yscale("log")
        axis.legend(fontsize=8)
    _labels(axis, f"flux at {figures['frequency_mhz']:.0f} MHz (Jy)",
            "S$^{2.5}$ dN/dS (Jy$^{1.5}$/sr)")
    save_figure(figure, png)


def draw_completeness(figures: Mapping[str, Any], png: Path) -> None:
    """Fraction of injected sources that is found against flux and signal to noise."""
    figure, axes = new_figure(10, 4.2, columns=2)
    for axis, name, scale, label, suffix in (
            (axes[0, 0], "flux", 1e3, "injected flux (mJy)", "_jy"),
            (axes[0, 1], "snr", 1.0, "injected flux / local noise", "")):
        rows = figures[f"by_{name}"]
        middle = [np.sqrt(r["low"] * r["high"]) * scale for r in rows]
        axis.errorbar(middle, [r["completeness"] for r in rows], [r["error"] for r in rows],
                      fmt="o-", color=BLUE, ms=4, lw=1)
        for level, value in ((0.5, figures[f"{name}_50{suffix}"]),
                             (0.9, figures[f"{name}_90{suffix}"])):
            axis.axhline(level, color=GREY, lw=0.6)
            if value:
                axis.axvline(value * scale, color=RED, lw=0.8, ls=":")
        axis.set_xscale("log")
        places = [v for v in ROUND if min(middle) <= v <= max(middle)]
        axis.set_xticks(places, [f"{v:g}" for v in places])
        axis.minorticks_off()
        axis.set_ylim(-0.03, 1.05)
        _labels(axis, label, "fraction found")
    save_figure(figure, png)


def draw_false(figures: Mapping[str, Any], png: Path) -> None:
    """Detections in the image and in the negative image by signal to noise."""
    figure, axes = new_figure(6, 4.2)
    axis = axes[0, 0]
    rows = figures["by_snr"]
    place = np.arange(len(rows))
    axis.bar(place - 0.2, [r["positive"] for r in rows], 0.4, color=BLUE, label="image")
    axis.bar(place + 0.2, [r["negative"] for r in rows], 0.4, color=RED, label="upside down")
    axis.set_xticks(place, [f"{r['low']:g}-{r['high']:g}" if r["high"] else f">{r['low']:g}"
                            for r in rows], fontsize=8)
    axis.set_yscale("symlog", linthresh=1.0)
    axis.legend(fontsize=8)
    _labels(axis, "peak / local noise", "detections")
    save_figure(figure, png)


def draw_match(figures: Mapping[str, Any], png: Path) -> None:
    """Offsets, offsets of the facets, and fluxes against one catalogue."""
    radio = "flux_ratio" in figures
    figure, axes = new_figure(13 if radio else 9, 4.2, columns=3 if radio else 2)
    _draw_offsets(axes[0, 0], figures)
    _draw_facet_offsets(axes[0, 1], figures)
    if radio:
        _draw_fluxes(axes[0, 2], figures)
    save_figure(figure, png)


def _draw_offsets(axis: Any, figures: Mapping[str, Any]) -> None:
    points = figures["points"]
    axis.plot(points["east"], points["north"], ".", color=GREY, ms=4)
    ra, dec = (figures[f"offset_{name}_arcsec"] for name in ("ra", "dec"))
    if ra["value"] is not None:
        axis.errorbar(ra["value"], dec["value"], dec["error"] or 0, ra["error"] or 0, fmt="o",
                      color=RED)
    most = max([1.0, *np.abs(points["east"]), *np.abs(points["north"])])
    axis.set_xlim(most, -most)
    axis.set_ylim(-most, most)
    axis.set_aspect("equal")
    for line in (axis.axhline, axis.axvline):
        line(0.0, color="black", lw=0.6)
    _labels(axis, "image - survey, east (arcsec)", "north (arcsec)")


def _draw_facet_offsets(axis: Any, figures: Mapping[str, Any]) -> None:
    """Offsets as measured, and with the mean of all taken out."""
    rows, centres = figures.get("facets") or [], figures["facet_centres_deg"]
    if rows and centres:
        place = np.array([centres[row["facet"]] for row in rows])
        shift = np.array([[row["ra"]["value"], row["dec"]["value"]] for row in rows])
        mean = np.average(shift, axis=0, weights=[row["n"] for row in rows])
        size = max(float(np.abs(shift).max()), 1e-3)
        for values, colour, label in ((shift, BLUE, "as measured"),
                                      (shift - mean, RED, "mean taken out")):
            # Both axes of the data grow as drawn, so an arrow to the east points to the left.
            axis.quiver(place[:, 0], place[:, 1], values[:, 0], values[:, 1], color=colour,
                        angles="xy", scale_units="width", scale=8 * size, width=0.006,
                        label=label)
        axis.set_title(f"longest arrow {size:.2f} arcsec", fontsize=8)
        axis.legend(fontsize=7)
        axis.margins(0.15)
        axis.invert_xaxis()
    else:
        axis.text(0.5, 0.5, "no facets", ha="center", transform=axis.transAxes)
    _labels(axis, "offset to the east (deg)", "offset to the north (deg)")


def _draw_fluxes(axis: Any, figures: Mapping[str, Any]) -> None:
    points = figures["points"]
    axis.semilogx(points["flux"], points["ratio"], ".", color=GREY, ms=4)
    found = figures["flux_ratio"]
    if found["value"] is not None:
        axis.axhline(found["value"], color=RED, lw=1,
                     label=f"median {found['value']:.3f} ± {found['error'] or 0:.3f}")
        axis.legend(fontsize=8)
    axis.axhline(1.0, color="black", lw=0.6)
    _labels(axis, "survey's flux at the image's frequency (Jy)", "image / survey")


def _annuli(axis: Any, rows: Sequence[Mapping[str, Any]]) -> None:
    if rows:
        axis.errorbar([(r["low"] + r["high"]) / 2 for r in rows], [r["value"] for r in rows],
                      [r["error"] or 0.0 for r in rows], fmt="o-", color=RED, ms=4, lw=1)


def _labels(axis: Any, x: str, y: str) -> None:
    axis.set_xlabel(x, fontsize=9)
    axis.set_ylabel(y, fontsize=9)
    axis.tick_params(labelsize=8)
    for scale in (axis.xaxis, axis.yaxis):
        if scale.get_scale() == "log":
            _plain_numbers(scale)


def _plain_numbers(scale: Any) -> None:
    """Numbers at 1, 2 and 5 of each decade of a logarithmic axis; powers of ten over many."""
    from matplotlib.ticker import LogLocator, NullFormatter

    low, high = scale.get_view_interval()
    if low > 0 and high / low < 3e3:
        scale.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0), numticks=20))
        scale.set_major_formatter("{x:g}")
    scale.set_minor_formatter(NullFormatter())


# ---------------------------------------------------------------------- page


def write_quality_page(path: Path, image: str, rows: Sequence[tuple[str, str, str]],
                       verdicts: Sequence[Mapping[str, Any]], pictures: Mapping[str, Path]
                       ) -> None:
    """One HTML file with everything in it, pictures too; whole or not at all.

    rows: (part, measure, value).  verdicts: of the limits.  pictures: PNG by part, those that
    exist are shown.
    """
    from ddfpipe.data.atomic import atomic_write_text

    title = html.escape(f"Quality of {image}")
    parts = [f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
             f"<style>{STYLE}</style></head><body><h1>{title}</h1>"
             f"<p>written {datetime.now():%Y-%m-%d %H:%M:%S}</p>"]
    if verdicts:
        parts.append("<h2>Limits</h2>")
        parts.append(_table([(v["option"], verdict_words(v)) for v in verdicts],
                            [v["outcome"] == "passed" for v in verdicts]))
    parts += ["<h2>Figures</h2>", _table(rows)]
    for name, picture in pictures.items():
        if picture.exists():
            data = base64.b64encode(picture.read_bytes()).decode("ascii")
            parts.append(f'<h2>{html.escape(name.replace("_", " "))}</h2><img alt="'
                         f'{html.escape(name)}" style="width:auto" '
                         f'src="data:image/png;base64,{data}">')
    atomic_write_text(path, "\n".join(parts) + "</body></html>\n")


def _table(rows: Sequence[Sequence[str]], good: Sequence[bool] | None = None) -> str:
    lines = []
    for k, row in enumerate(rows):
        mark = "" if good is None else f' class="{"done" if good[k] else "failed"}"'
        cells = "".join(f"<td>{html.escape(str(cell))}</td>" for cell in row)
        lines.append(f"<tr{mark}>{cells}</tr>")
    return "<table>" + "\n".join(lines) + "</table>"
