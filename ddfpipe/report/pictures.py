"""Quick-look pictures of images and gains (PNG)."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

import numpy as np

from ddfpipe.units import ARCSEC, DEGREE

MAX_PIXELS = 1200
"""Longest side of a drawn image; larger ones are averaged down."""
LOW_SIGMA, HIGH_SIGMA = 3.0, 15.0
"""Grey scale in robust standard deviations below and above the median."""
MAX_DIRECTIONS, MAX_STATIONS, MAX_INTERVALS = 6, 64, 1000
"""Most of each that a picture of gains shows."""
MAX_TICKS = 7
DPI = 110
LEVEL_PIXELS = 200_000
"""Pixels that tell the median and scatter of an image."""
IMAGE_COLOURS, PHASE_COLOURS, AMPLITUDE_COLOURS = "inferno", "twilight", "viridis"
GREYS = 30
"""Colours of text and lines, where a picture has no more than 256."""
CYAN = (0, 255, 255)
NO_GAIN = "0.725"


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
    frame = _image_frame()
    half = [step * n * source.grid.cell / DEGREE / 2 for n in plane.shape[::-1]]
    frame.show(plane, half, (middle - LOW_SIGMA * sigma, middle + HIGH_SIGMA * sigma))
    frame.bar.set_label(source.unit)
    if source.beam is not None:
        frame.marks += _draw_beam(frame.axes, source.beam, half)
    if facets is not None and facets.exists():
        frame.marks += _draw_facets(frame.axes, facets, source.grid)
    frame.axes.set_title(_title(image.name, source.beam, sigma, source.unit), fontsize=9)
    _save(frame.figure, png, (IMAGE_COLOURS,))


class _ImageFrame:
    """A figure for one image after another: to make one takes twice as long as to draw it again.

    marks: what is drawn on the image that is shown, taken away before the next.
    """

    def __init__(self) -> None:
        self.figure, self.axes = _figure(7.6, 6.4)
        self.shown = self.axes.imshow(np.zeros((2, 2)), origin="lower", cmap=IMAGE_COLOURS,
                                      interpolation="nearest")
        self.bar = self.figure.colorbar(self.shown, ax=self.axes, fraction=0.046, pad=0.02)
        self.axes.set_xlabel("offset to the east (deg)")
        self.axes.set_ylabel("offset to the north (deg)")
        self.figure.subplots_adjust(left=0.1, right=0.87, bottom=0.08, top=0.92)
        self.marks: list = []

    def show(self, plane: np.ndarray, half: list[float], limits: tuple[float, float]) -> None:
        """plane: (y, x); half: half its width and height in degrees; limits of the colours."""
        _clear(self.marks)
        self.shown.set_data(plane)
        self.shown.set_extent((half[0], -half[0], -half[1], half[1]))
        self.shown.set_clim(*limits)
        self.axes.set_xlim(half[0], -half[0])
        self.axes.set_ylim(-half[1], half[1])


@lru_cache(maxsize=1)
def _image_frame() -> _ImageFrame:
    return _ImageFrame()


def _clear(marks: list) -> None:
    for mark in marks:
        mark.remove()
    marks.clear()


def _title(name: str, beam: tuple[float, float, float] | None, sigma: float, unit: str) -> str:
    text = f"{name}\nrobust sigma {sigma:.3g} {unit}"
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


def robust_level(plane: np.ndarray) -> tuple[float, float]:
    """Median and scaled median absolute deviation of the finite pixels; (0, 1) without any.

    Large planes are sampled at evenly spaced rows.
    """
    plane = plane[::max(1, plane.size // LEVEL_PIXELS)]
    values = plane[np.isfinite(plane)]
    if values.size == 0:
        return 0.0, 1.0
    middle = float(np.median(values))
    sigma = 1.4826 * float(np.median(np.abs(values - middle)))
    if sigma == 0.0:
        sigma = float(values.std()) or 1.0
    return middle, sigma


def _draw_beam(axes, beam: tuple[float, float, float], half: list[float]) -> list:
    from matplotlib.patches import Ellipse

    major, minor, angle = (value / DEGREE for value in beam)
    place = (half[0] * 0.9, -half[1] * 0.9)
    # East is left, so an angle from north through east is counter-clockwise on the picture;
    # the axis of x runs backwards, which turns the sense of the patch's angle.
    patch = Ellipse(place, minor, major, angle=-angle, fill=False, edgecolor="cyan")
    return [axes.add_patch(patch), *axes.plot(*place, marker="+", color="cyan", markersize=4)]


def _draw_facets(axes, facets: Path, grid) -> list:
    from ddfpipe.data.regions import read_tessel

    lines = []
    for outline in read_tessel(facets):
        polygon = np.vstack([outline.polygon, outline.polygon[:1]])
        east, north = grid.lm_of(polygon[:, 0], polygon[:, 1])
        lines += axes.plot(east / DEGREE, north / DEGREE, color="white", linewidth=0.5, alpha=0.6)
    return lines


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
    frame = _gain_frame(len(chosen[2]))
    turned = np.angle(plane * np.conj(plane[:, reference, None]))
    frame.show((turned, np.abs(plane)), ((-np.pi, np.pi), (0.0, _top(np.abs(plane)))),
               table.time_edges[chosen[0]], chosen[2])
    left, right = frame.panels
    left.set_title(f"{path.parent.name}\nphase (rad) relative to "
                   f"{table.ant_names[chosen[1][reference]]}", fontsize=9)
    right.set_title(f"{path.name}, {shape[2]} stations\namplitude", fontsize=9)
    _save(frame.figure, png, (PHASE_COLOURS, AMPLITUDE_COLOURS))


class _GainFrame:
    """A figure for one gain table after another, of so many directions."""

    def __init__(self, directions: int) -> None:
        from matplotlib import colormaps

        height = 1.4 + 0.9 * directions
        self.figure, ((*self.panels,),) = _figure(10, height, columns=2)
        self.shown = [
            panel.imshow(np.zeros((2, 2)), aspect="auto", interpolation="nearest",
                         cmap=colormaps[colours].with_extremes(bad=NO_GAIN))
            for panel, colours in zip(self.panels, (PHASE_COLOURS, AMPLITUDE_COLOURS))]
        for panel, shown in zip(self.panels, self.shown):
            bar = self.figure.colorbar(shown, ax=panel, fraction=0.046, pad=0.02)
            bar.ax.tick_params(labelsize=7)
            panel.set_xlabel("hours from the start", fontsize=8)
        self.figure.subplots_adjust(left=0.08, right=0.95, wspace=0.05, top=1 - 0.5 / height,
                                    bottom=0.5 / height)
        self.marks: list = []

    def show(self, values, limits, time_edges: np.ndarray, directions: list[int]) -> None:
        """values: two arrays (interval, station, direction); limits of their colours.

        time_edges: (interval, 2) s; directions: their numbers.
        """
        _clear(self.marks)
        for panel, shown, found, ends in zip(self.panels, self.shown, values, limits):
            rows = found.transpose(2, 1, 0).reshape(-1, len(found))
            shown.set_data(rows)
            shown.set_extent((-0.5, rows.shape[1] - 0.5, rows.shape[0] - 0.5, -0.5))
            shown.set_clim(*ends)
            self.marks += _mark_gains(panel, time_edges, found.shape[1], directions)
        self.panels[1].tick_params(left=False, labelleft=False)


@lru_cache(maxsize=2)
def _gain_frame(directions: int) -> _GainFrame:
    return _GainFrame(directions)


def _mark_gains(panel, time_edges: np.ndarray, stations: int, directions: list[int]) -> list:
    """Directions beside the rows, hours from the start below the columns, lines between both."""
    middle = time_edges.mean(axis=1)
    steps = np.diff(middle)
    gaps = np.flatnonzero(steps > 1.5 * np.median(steps)) if len(steps) else steps
    panel.set_yticks(stations * (np.arange(len(directions)) + 0.5) - 0.5,
                     [f"direction {d}" for d in directions], fontsize=7)
    at = list(_spread(len(middle), MAX_TICKS))
    panel.set_xticks(at, [f"{(middle[i] - time_edges[0, 0]) / 3600:.2f}" for i in at], fontsize=7)
    return [
        panel.vlines(gaps + 0.5, -0.5, stations * len(directions) - 0.5, color="white",
                     linewidth=0.4),
        panel.hlines(stations * np.arange(1, len(directions)) - 0.5, -0.5, len(middle) - 0.5,
                     color="white", linewidth=1.0),
    ]


def _top(amplitude: np.ndarray) -> float:
    """Upper end of an axis of amplitudes: 2, or what all but a few wild ones need."""
    values = amplitude[np.isfinite(amplitude)]
    return max(2.0, 1.2 * float(np.percentile(values, 99.5))) if values.size else 2.0


def _spread(count: int, most: int) -> Iterator[int]:
    """At most `most` of `count` numbers, evenly spread."""
    return iter(sorted({round(i) for i in np.linspace(0, count - 1, min(count, most))}))


def _figure(width: float, height: float, rows: int = 1, columns: int = 1):
    # The object interface needs no display and leaves the user's matplotlib alone.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height))
    FigureCanvasAgg(figure)
    if rows * columns == 1:
        return figure, figure.add_subplot()
    return figure, figure.subplots(rows, columns, squeeze=False, sharex=True)


def new_figure(width: float, height: float, columns: int = 1):
    """(figure, panels (1, columns)) of a matplotlib figure that needs no display; inches."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.subplots(1, columns, squeeze=False)


def save_figure(figure, png: Path) -> None:
    """Write a figure as PNG, whole or not at all."""
    _save(figure, png)


def _save(figure, png: Path, colours: tuple[str, ...] = ()) -> None:
    """colours: maps of a picture that has no others, which makes it small and quick to write."""
    from ddfpipe.data.atomic import atomic_path

    png.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(png) as temporary:
        if not colours:
            figure.savefig(temporary, dpi=DPI, format="png", metadata={"Software": None})
            return
        from PIL import Image

        figure.set_dpi(DPI)
        figure.canvas.draw()
        drawn = Image.fromarray(np.asarray(figure.canvas.buffer_rgba())[..., :3])
        few = drawn.quantize(palette=_palette(colours), dither=Image.Dither.NONE)
        few.save(temporary, format="png", compress_level=3, dpi=(DPI, DPI))


def _palette(colours: tuple[str, ...]):
    """Image whose palette are colour maps in even parts, greys and the cyan of beams."""
    from matplotlib import colormaps
    from PIL import Image

    each = (256 - GREYS - 1) // len(colours)
    maps = [colormaps[name](np.linspace(0, 1, each), bytes=True)[:, :3] for name in colours]
    greys = np.repeat(np.linspace(0, 255, GREYS).round()[:, None], 3, axis=1)
    entries = np.concatenate([*maps, greys, [CYAN]]).astype(np.uint8)
    image = Image.new("P", (1, 1))
    image.putpalette(entries.ravel().tolist())
    return image
