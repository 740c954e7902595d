"""Sheets to draw quick-look pictures on: panels of values, their scales, lines and text.

They take a few ms where a figure of matplotlib takes 100, most of that for text and ticks.  A sheet
is an image of 256 colours: those of its colour maps, and greys.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from ddfpipe.report.colours import COLOURS

GREYS = 30
CYAN, WHITE = (0, 255, 255), (255, 255, 255)
BLENDS = 16
"""Steps between a colour and that of a line over it."""
TICK, GAP = 5, 4
"""Length of ticks, and what is free between them and their labels, px."""
RESOLUTION = 110
"""Pixels in an inch, which a file says for those who print it."""
MOST_TICKS = 9
FONT, FONT_FILE = "DejaVu Sans", "mpl-data/fonts/ttf/DejaVuSans.ttf"


@lru_cache(maxsize=4)
def palette(maps: tuple[str, ...]) -> np.ndarray:
    """(256, 3) uint8: colour maps in even parts, greys from black to white, cyan."""
    each = _each(maps)
    parts = []
    for name in maps:
        anchors = np.frombuffer(bytes.fromhex(COLOURS[name]), np.uint8).reshape(-1, 3)
        place = np.linspace(0, len(anchors) - 1, each)
        parts.append(np.stack([np.interp(place, np.arange(len(anchors)), column)
                               for column in anchors.T], axis=1))
    parts += [np.repeat(np.linspace(0, 255, GREYS)[:, None], 3, axis=1), [CYAN]]
    entries = np.concatenate(parts).round().astype(np.uint8)
    return np.concatenate([entries, np.zeros((256 - len(entries), 3), np.uint8)])


def _each(maps: tuple[str, ...]) -> int:
    return (256 - GREYS - 1) // len(maps)


@lru_cache(maxsize=4)
def _towards(maps: tuple[str, ...], colour: tuple[int, int, int]) -> np.ndarray:
    """(256, BLENDS + 1) colours on the way from each to one, as the nearest of the palette."""
    have = palette(maps).astype(np.float32)
    part = np.linspace(0, 1, BLENDS + 1, dtype=np.float32)[:, None]
    wanted = have[:, None] * (1 - part) + np.float32(colour) * part
    distance = sum((wanted[..., None, i] - have[:, i]) ** 2 for i in range(3))
    return distance.argmin(axis=-1).astype(np.uint8)


@dataclass
class Panel:
    """A rectangle of a sheet that shows values.

    left, top: px on the sheet.  colours: (height, width) entries of the palette.
    x, y: what stands at (left, right) and (top, bottom), for lines and ticks.
    """

    left: int
    top: int
    colours: np.ndarray
    x: tuple[float, float]
    y: tuple[float, float]
    maps: tuple[str, ...]

    @property
    def height(self) -> int:
        """px"""
        return self.colours.shape[0]

    @property
    def width(self) -> int:
        """px"""
        return self.colours.shape[1]

    def across(self, x) -> np.ndarray:
        """Pixels from the left edge."""
        return (np.asarray(x, float) - self.x[0]) / (self.x[1] - self.x[0]) * self.width

    def down(self, y) -> np.ndarray:
        """Pixels from the top edge."""
        return (np.asarray(y, float) - self.y[0]) / (self.y[1] - self.y[0]) * self.height

    def line(self, x, y, colour: tuple[int, int, int] = WHITE, alpha: float = 1.0) -> None:
        """Join points by a line a pixel wide.  What lies outside, or is not finite, is left out."""
        cover = np.zeros(self.colours.shape, np.float32)
        ends = np.stack([self.across(x), self.down(y)], axis=1) - 0.5
        for start, end in zip(ends[:-1], ends[1:]):
            if np.isfinite([start, end]).all():
                _cover(cover, start, end)
        here = cover > 0
        step = (cover[here] * alpha * BLENDS).round().astype(int)
        self.colours[here] = _towards(self.maps, colour)[self.colours[here], step]

    def fill(self, x: tuple[float, float], y: tuple[float, float], thick: int = 1) -> None:
        """Paint a white rectangle between pairs of x and y, at least so many px wide and high."""
        entry = _towards(self.maps, WHITE)[0, BLENDS]
        (left, right), (top, bottom) = (
            (first := round(min(ends)), max(first + thick, round(max(ends))))
            for ends in (self.across(x).tolist(), self.down(y).tolist()))
        self.colours[max(0, top):max(0, bottom), max(0, left):max(0, right)] = entry


def _cover(cover: np.ndarray, start: np.ndarray, end: np.ndarray) -> None:
    """How much of each pixel (row, column) a line between two points (column, row) covers.

    A step along the longer side shares one pixel's worth between the two nearest across it.
    """
    along = int(np.argmax(np.abs(end - start)))
    if start[along] > end[along]:
        start, end = end, start
    shape = cover.shape[::-1]
    first, last = max(0, math.ceil(start[along])), min(shape[along] - 1, math.floor(end[along]))
    at = np.arange(first, last + 1)
    slope = (end - start)[1 - along] / max((end - start)[along], 1e-9)
    beside = start[1 - along] + slope * (at - start[along])
    low = np.floor(beside).astype(int)
    for place, share in ((low, 1 - (beside - low)), (low + 1, beside - low)):
        good = (place >= 0) & (place < shape[1 - along])
        index = (place[good], at[good]) if along == 0 else (at[good], place[good])
        cover[index] = np.maximum(cover[index], share[good])


class Sheet:
    """A white page in the colours of some maps."""

    def __init__(self, width: int, height: int, maps: tuple[str, ...]) -> None:
        from PIL import Image, ImageDraw

        self.maps = maps
        self._panels: list[Panel] = []
        self._ink = Image.new("L", (width, height), 255)
        self._pen = ImageDraw.Draw(self._ink)

    def panel(self, left: int, top: int, size: tuple[int, int], values: np.ndarray, name: str,
              limits: tuple[float, float], missing: float = 1.0, x=(0.0, 1.0),
              y=(0.0, 1.0)) -> Panel:
        """Show values (row from the top, column) on so many px (height, width), framed.

        name: of the colour map; limits: the values at its ends.
        missing: grey of what is not finite, 0 to 1.  x, y: as of `Panel`.
        """
        rows, columns = (((np.arange(px) + 0.5) * (n / px)).astype(int)
                         for px, n in zip(size, values.shape))
        each, number = _each(self.maps), self.maps.index(name)
        scaled = np.asarray(values, np.float32)[rows][:, columns]
        scaled = (scaled - np.float32(limits[0])) * np.float32(each / (limits[1] - limits[0]))
        # NaN compares as false, and has no number.
        good = np.isfinite(scaled)
        entries = np.clip(np.where(good, scaled, 0), 0, each - 1).astype(np.uint8) + number * each
        grey = each * len(self.maps) + round(missing * (GREYS - 1))
        colours = np.where(good, entries, grey).astype(np.uint8)
        panel = Panel(left, top, colours, x, y, self.maps)
        self._panels.append(panel)
        self._pen.rectangle((left - 1, top - 1, left + size[1], top + size[0]), outline=0)
        return panel

    def bar(self, beside: Panel, name: str, limits: tuple[float, float], width: int, gap: int,
            size: float) -> Panel:
        """A colour bar with its scale to the right of a panel; size: of the labels, px."""
        ramp = np.linspace(*limits, beside.height)[::-1, None]
        bar = self.panel(beside.left + beside.width + gap, beside.top, (beside.height, width), ramp,
                         name, limits, y=limits[::-1])
        for value, label in ticks(*limits):
            self._mark(bar, float(bar.down(value)), label, size, right=True)
        return bar

    def scale_beside(self, panel: Panel, marks: Sequence[tuple[float, str]], size: float) -> None:
        """Labelled ticks left of a panel."""
        for value, label in marks:
            self._mark(panel, float(panel.down(value)), label, size)

    def _mark(self, panel: Panel, down: float, label: str, size: float, right=False) -> None:
        at = panel.top + min(int(down), panel.height - 1)
        edge, way = (panel.left + panel.width, 1) if right else (panel.left - 1, -1)
        self._pen.line((edge, at, edge + way * TICK, at), fill=0)
        self.text(edge + way * (TICK + GAP), at, label, size, "lm" if right else "rm")

    def scale_below(self, panel: Panel, marks: Sequence[tuple[float, str]], size: float) -> None:
        """Labelled ticks below a panel."""
        edge = panel.top + panel.height
        for value, label in marks:
            at = panel.left + min(int(panel.across(value)), panel.width - 1)
            self._pen.line((at, edge, at, edge + TICK), fill=0)
            self.text(at, edge + TICK + GAP, label, size, "mt")

    def text(self, x: float, y: float, words: str, size: float, anchor: str = "mm") -> None:
        """Write words at a point.  size: px; anchor: as of Pillow, "lm" for left, middle."""
        # The hyphen of fonts is shorter than their sign of minus.
        words, font = words.replace("-", "\N{MINUS SIGN}") if _number(words) else words, _font(size)
        if font.getname()[0] != FONT:
            words = words.replace("\N{MINUS SIGN}", "-")
        self._pen.text((x, y), words, fill=0, font=font, anchor=anchor, align="center")

    def upright(self, x: int, y: int, words: str, size: float) -> None:
        """Write words from the bottom up, around a point."""
        from PIL import Image

        width, height = (math.ceil(v) + 4 for v in _font(size).getbbox(words)[2:])
        strip = Sheet(width, height, self.maps)
        strip.text(width / 2, height / 2, words, size)
        self._ink.paste(strip._ink.transpose(Image.Transpose.ROTATE_90),
                        (x - height // 2, y - width // 2))

    def save(self, png: Path) -> None:
        """Write the sheet as PNG, whole or not at all."""
        from PIL import Image

        from ddfpipe.data.atomic import atomic_path

        first = _each(self.maps) * len(self.maps)
        greys = (first + np.arange(256) * (GREYS - 1) / 255).round().astype(np.uint8)
        page = greys[np.asarray(self._ink)]
        for panel in self._panels:
            page[panel.top:panel.top + panel.height,
                 panel.left:panel.left + panel.width] = panel.colours
        image = Image.fromarray(page)
        image.putpalette(palette(self.maps).tobytes())
        png.parent.mkdir(parents=True, exist_ok=True)
        with atomic_path(png, durable=False) as temporary:
            image.save(temporary, format="png", compress_level=3, dpi=(RESOLUTION, RESOLUTION))


@lru_cache(maxsize=8)
def _font(size: float):
    """Matplotlib's own font, found without loading matplotlib; else that of Pillow."""
    from importlib.util import find_spec

    from PIL import ImageFont

    for home in find_spec("matplotlib").submodule_search_locations:
        path = Path(home) / FONT_FILE
        if path.exists():
            return ImageFont.truetype(str(path), size, layout_engine=ImageFont.Layout.BASIC)
    return ImageFont.load_default(size)


def _number(words: str) -> bool:
    try:
        float(words)
    except ValueError:
        return False
    return True


def ticks(low: float, high: float, most: int = MOST_TICKS) -> list[tuple[float, str]]:
    """Round values from low to high, at most so many, with labels of the digits they need."""
    rough = (high - low) / most
    power = 10.0 ** math.floor(math.log10(rough))
    factor = next(f for f in (1, 2, 2.5, 5, 10) if f * power >= rough * (1 - 1e-9))
    step = factor * power
    digits = max(0, -math.floor(math.log10(step) + 1e-9) + (factor == 2.5))
    numbers = range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)
    return [(n * step, f"{n * step:.{digits}f}") for n in numbers]
