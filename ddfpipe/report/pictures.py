"""Quick-look pictures of images and gains (PNG)."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from ddfpipe.report.figures import flux
from ddfpipe.report.sheet import CYAN, RESOLUTION, Panel, Sheet, ticks
from ddfpipe.units import ARCSEC, DEGREE

MAX_PIXELS = 1200
"""Longest side of a drawn image; larger ones are averaged down."""
LOW_SIGMA, HIGH_SIGMA = 3.0, 15.0
"""Grey scale in robust standard deviations below and above the median."""
MAX_DIRECTIONS, MAX_STATIONS, MAX_INTERVALS = 6, 64, 1000
"""Most of each that a picture of gains shows."""
MAX_TICKS = 7
LEVEL_PIXELS = 200_000
"""Pixels that tell the median and scatter of an image."""
IMAGE_COLOURS, PHASE_COLOURS, AMPLITUDE_COLOURS = "inferno", "twilight", "viridis"
NO_GAIN = 0.725
"""Grey of what is flagged."""
LONGEST, SHORTEST = 592, 120
"""px: longer side of an image on its picture, and the least that the other one gets."""
TITLE, LABEL, SMALL_LABEL, SMALL_TICK = 13.5, 15.0, 12.0, 10.5
"""Sizes of letters, px."""


def draw_image(image: Path, png: Path, facets: Path | None = None) -> None:
    """Draw a plane of a FITS image with colour bar and beam; facets as outlines.

    It is the first one in frequency, and the last one in Stokes: V of an image of I and V.

    Huge images are averaged in blocks, some rows at a time, so memory stays small.
    Raises ImagingError if the image cannot be read.
    """
    from ddfpipe.data.images import read_image

    source = read_image(image)
    plane, step = block_mean(source.data[0, -1], MAX_PIXELS)
    middle, sigma = robust_level(plane)
    half = [step * n * source.grid.cell / DEGREE / 2 for n in plane.shape[::-1]]
    sheet, panel = _image_sheet(plane, half, source.unit,
                                (middle - LOW_SIGMA * sigma, middle + HIGH_SIGMA * sigma))
    if source.beam is not None:
        _draw_beam(panel, source.beam, half)
    if facets is not None and facets.exists():
        _draw_facets(panel, facets, source.grid)
    title = _title(image.name, source.beam, sigma, source.unit)
    sheet.text(panel.left + panel.width / 2, 32, title, TITLE)
    sheet.save(png)


def _image_sheet(plane: np.ndarray, half: list[float], unit: str,
                 limits: tuple[float, float]) -> tuple[Sheet, Panel]:
    """A sheet with an image, its scales and colour bar.

    plane: (y, x); half: half its width and height in degrees; limits of the colours.
    """
    longest = max(plane.shape)
    height, width = (max(SHORTEST, round(LONGEST * n / longest)) for n in plane.shape)
    sheet = Sheet(width + 234, height + 113, (IMAGE_COLOURS,))
    panel = sheet.panel(93, 57, (height, width), plane[::-1], IMAGE_COLOURS, limits,
                        x=(half[0], -half[0]), y=(half[1], -half[1]))
    sheet.scale_beside(panel, ticks(-half[1], half[1], _most_ticks(height)), LABEL)
    sheet.scale_below(panel, ticks(-half[0], half[0], _most_ticks(width)), LABEL)
    middle = panel.left + width / 2, panel.top + height // 2
    sheet.text(middle[0], panel.top + height + 39, "offset to the east (deg)", LABEL)
    sheet.upright(29, middle[1], "offset to the north (deg)", LABEL)
    scale, name = _readable(max(map(abs, limits)), unit)
    bar = sheet.bar(panel, IMAGE_COLOURS, tuple(v / scale for v in limits), 29, 13, LABEL)
    sheet.upright(bar.left + bar.width + 52, middle[1], name, LABEL)
    return sheet, panel


def _most_ticks(length: int) -> int:
    """Ticks for which a side of so many px has room."""
    return max(2, round(9 * length / LONGEST))


def _readable(top: float, unit: str) -> tuple[float, str]:
    """(what to divide values up to `top` by, name of their unit then): few digits to read."""
    if unit.startswith("Jy"):
        scale, prefix = next(((s, p) for s, p in ((1.0, ""), (1e-3, "m"))
                              if top >= 0.3 * s), (1e-6, "u"))
        return scale, prefix + unit
    power = math.floor(math.log10(top))
    return (1.0, unit) if -2 < power < 4 else (10.0**power, f"1e{power} {unit}")


def _title(name: str, beam: tuple[float, float, float] | None, sigma: float, unit: str) -> str:
    level = flux(sigma, unit[2:]) if unit.startswith("Jy") else f"{sigma:.3g} {unit}"
    text = f"{name}\nrobust sigma {level}"
    if beam is not None:
        text += f", beam {beam[0] / ARCSEC:.1f} x {beam[1] / ARCSEC:.1f} arcsec"
    return text


def block_mean(plane: np.ndarray, longest: int) -> tuple[np.ndarray, int]:
    """(plane averaged in square blocks to at most `longest` pixels a side, size of a block).

    plane: (y, x), may be a memory map.  Pixels that are not finite are left out; what does not
    fill a block at the upper edges is dropped.
    """
    step = max(1, -(-max(plane.shape) // longest))
    if step == 1:
        return np.asarray(plane, np.float32), 1
    rows, columns = (n // step for n in plane.shape)
    result = np.full((rows, columns), np.nan, np.float32)
    for row in range(rows):
        strip = np.asarray(plane[row * step:(row + 1) * step, :columns * step], np.float32)
        blocks = strip.reshape(step, columns, step)
        good = np.isfinite(blocks)
        count = good.sum(axis=(0, 2))
        total = np.where(good, blocks, 0.0).sum(axis=(0, 2))
        result[row] = np.where(count > 0, total / np.maximum(count, 1), np.nan)
    return result, step


def _middle(values: np.ndarray) -> float:
    """The upper of the two medians: numpy finds one number 15 times faster than two."""
    return float(np.partition(values, values.size // 2)[values.size // 2])


def robust_level(plane: np.ndarray) -> tuple[float, float]:
    """Median and scaled median absolute deviation of the finite pixels; (0, 1) without any.

    Large planes are sampled at evenly spaced rows.
    """
    plane = plane[::max(1, plane.size // LEVEL_PIXELS)]
    values = plane[np.isfinite(plane)]
    if values.size == 0:
        return 0.0, 1.0
    middle = _middle(values)
    sigma = 1.4826 * _middle(np.abs(values - middle))
    if sigma == 0.0:
        sigma = float(values.std()) or 1.0
    return middle, sigma


def _draw_beam(panel: Panel, beam: tuple[float, float, float], half: list[float]) -> None:
    """An ellipse of the full widths at half maximum in the lower left corner."""
    major, minor, angle = beam[0] / DEGREE, beam[1] / DEGREE, beam[2]
    east, north = half[0] * 0.9, -half[1] * 0.9
    turn = np.linspace(0, 2 * np.pi, 65)
    along, across = major / 2 * np.cos(turn), minor / 2 * np.sin(turn)
    # from north through east
    panel.line(east + along * np.sin(angle) + across * np.cos(angle),
               north + along * np.cos(angle) - across * np.sin(angle), CYAN)
    # the two arms of a cross, in degrees
    reach = np.array([-3, 3]) * 2 * half[0] / panel.width
    panel.line(east + reach, [north, north], CYAN)
    panel.line([east, east], north + reach, CYAN)


def _draw_facets(panel: Panel, facets: Path, grid) -> None:
    from ddfpipe.data.regions import read_tessel

    for outline in read_tessel(facets):
        polygon = np.vstack([outline.polygon, outline.polygon[:1]])
        east, north = grid.lm_of(polygon[:, 0], polygon[:, 1])
        panel.line(east / DEGREE, north / DEGREE, alpha=0.6)


def draw_solutions(path: Path, png: Path) -> None:
    """Draw phases and amplitudes of a gain table: a column an interval, a row a station.

    Rows stand in blocks of directions, from the top down; white lines part directions and, where
    no data were taken, times.  Of several frequency intervals the middle one is drawn, of several
    correlations the first; of many directions, stations and intervals those spread over the list.
    Phases refer to the station with most gains; what is flagged is grey.
    Raises SolveError if the file cannot be read.
    """
    from ddfpipe.data.solutions import load_table

    table = load_table(path)
    shape = table.gains.shape
    chosen = [list(_spread(n, most)) for n, most in zip(
        (shape[0], shape[2], shape[3]), (MAX_INTERVALS, MAX_STATIONS, MAX_DIRECTIONS))]
    take = np.ix_(chosen[0], [shape[1] // 2], chosen[1], chosen[2], [0])
    plane = np.where(table.flag[take], np.nan, table.gains[take])[:, 0, :, :, 0]
    reference = int(np.isfinite(plane).sum(axis=(0, 2)).argmax())
    turned = np.angle(plane * np.conj(plane[:, reference, None]))
    sheet = Sheet(1100, 154 + 99 * len(chosen[2]), (PHASE_COLOURS, AMPLITUDE_COLOURS))
    titles = (f"{path.parent.name}\nphase (rad) relative to "
              f"{table.ant_names[chosen[1][reference]]}",
              f"{path.name}, {shape[2]} stations\namplitude")
    panels = [_gain_panel(sheet, *each) for each in zip(
        (88, 586), (turned, np.abs(plane)), (PHASE_COLOURS, AMPLITUDE_COLOURS),
        ((-np.pi, np.pi), (0.0, _top(np.abs(plane)))), titles)]
    for panel in panels:
        _mark_gains(sheet, panel, table.time_edges[chosen[0]], len(chosen[1]), len(chosen[2]))
    rows = len(chosen[1]) * (np.arange(len(chosen[2])) + 0.5)
    sheet.scale_beside(panels[0], [(row, f"direction {d}") for row, d in zip(rows, chosen[2])],
                       SMALL_TICK)
    sheet.save(png)


def _gain_panel(sheet: Sheet, left: int, values: np.ndarray, colours: str,
                limits: tuple[float, float], title: str) -> Panel:
    """values: (interval, station, direction); limits of their colours."""
    rows = values.transpose(2, 1, 0).reshape(-1, len(values))
    height = 44 + 99 * values.shape[2]
    panel = sheet.panel(left, 55, (height, 429), rows, colours, limits, NO_GAIN,
                        x=(0, rows.shape[1]), y=(0, rows.shape[0]))
    sheet.bar(panel, colours, limits, 17, 9, SMALL_TICK)
    sheet.text(left + 214, 32, title, TITLE)
    sheet.text(left + 214, panel.top + height + 33, "hours from the start", SMALL_LABEL)
    return panel


def _mark_gains(sheet: Sheet, panel: Panel, time_edges: np.ndarray, stations: int,
                directions: int) -> None:
    """Hours from the start below the columns, lines between directions and where times jump."""
    middle = time_edges.mean(axis=1)
    at = list(_spread(len(middle), MAX_TICKS))
    sheet.scale_below(panel, [
        (i + 0.5, f"{(middle[i] - time_edges[0, 0]) / 3600:.2f}") for i in at], SMALL_TICK)
    steps = np.diff(middle)
    for gap in np.flatnonzero(steps > 1.5 * np.median(steps)) if len(steps) else ():
        panel.fill((gap + 1, gap + 1), panel.y)
    for row in stations * np.arange(1, directions):
        panel.fill(panel.x, (row, row), thick=2)


def _top(amplitude: np.ndarray) -> float:
    """Upper end of an axis of amplitudes: 2, or what all but a few wild ones need."""
    values = amplitude[np.isfinite(amplitude)]
    return max(2.0, 1.2 * float(np.percentile(values, 99.5))) if values.size else 2.0


def _spread(count: int, most: int) -> Iterator[int]:
    """At most `most` of `count` numbers, evenly spread."""
    return iter(sorted({round(i) for i in np.linspace(0, count - 1, min(count, most))}))


def new_figure(width: float, height: float, columns: int = 1):
    """(figure, panels (1, columns)) of a matplotlib figure that needs no display; inches."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.subplots(1, columns, squeeze=False)


def save_figure(figure, png: Path) -> None:
    """Write a figure as PNG, whole or not at all."""
    from ddfpipe.data.atomic import atomic_path

    png.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(png, durable=False) as temporary:
        figure.savefig(temporary, dpi=RESOLUTION, format="png", metadata={"Software": None})
