"""How the cost of our imaging pass grows, what its threads gain, and ducc0 alone beside it.

Of every image some facets, evenly spread over it, are gridded and stand for all: the cost of the
others is theirs.  CPU seconds of one thread, the least of some runs.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np

from .field import write_directions
from .ours import operators, psf_side
from .setting import Setting

SAMPLE = 4
"""Facets that are gridded together and stand for all."""

SERIES = {
    "visibilities": ("slots", (1 / 4, 1 / 2, 1)),
    "pixels": ("npix", (1 / 2, 1, 2)),
    "facets": ("facets", (5 / 7, 1, 10 / 7)),
}
"""What grows: a field of Setting and its sizes in units of the setting's."""


def least(run: Callable[[], object], repeats: int = 2) -> float:
    """CPU seconds of this thread, the smallest of some runs."""
    costs = []
    for _ in range(repeats):
        begin = time.thread_time()
        run()
        costs.append(time.thread_time() - begin)
    return min(costs)


def exponent(sizes, costs) -> float:
    """Slope of log cost against log size."""
    return float(np.polyfit(np.log(sizes), np.log(costs), 1)[0])


def some(count: int) -> list[int]:
    """Indices of SAMPLE facets of `count`, neighbours as in a group, halfway from the middle."""
    first = max(0, count // 4 - SAMPLE // 2)
    return list(range(first, min(count, first + SAMPLE)))


class Bench:
    """A setting's operators, made once.

    ms, field, folder: measurement set, folder of its field, place for caches.  Of the measurement
    set the first `setting.slots` integrations are used.
    """

    def __init__(self, ms: Path, field: Path, setting: Setting, folder: Path, gains=False):
        write_directions(field, setting)
        settings = {"ms": str(ms), "field": str(field), "folder": str(folder), "threads": 1,
                    "gains": gains, "npix": setting.npix, "cell": setting.cell}
        self.operators, self.setting = operators(settings, folder / "scratch"), setting
        for data in self.operators.data.sets:
            data.vis, data.weight = data.vis[:setting.slots], data.weight[:setting.slots]
        self.operators.set_residual(None)

    def cost(self) -> dict[str, float]:
        """CPU seconds of the dirty image and of the PSFs, all facets."""
        o = self.operators
        count = len(o.facets.facets)
        indices, share = some(count), count / len(some(count))
        boxes = {"image": o._dirty_boxes(), "PSFs": o._psf_boxes(psf_side(o, self.setting.psf))}
        return {what: share * least(lambda: o._gridded(indices, box, what == "PSFs"))
                for what, box in boxes.items()}


def series(name: str, ms: Path, field: Path, setting: Setting, folder: Path) -> dict:
    """One series: sizes, costs of image and PSFs, exponents."""
    key, parts = SERIES[name]
    sizes = [round(part * getattr(setting, key)) for part in parts]
    costs = [Bench(ms, field, replace(setting, **{key: size}), folder).cost() for size in sizes]
    # both sides of an image grow
    grown = sizes if name == "visibilities" else [size**2 for size in sizes]
    kinds = {kind: [c[kind] for c in costs] for kind in costs[0]}
    return {"what": name, "sizes": sizes, "cost": kinds,
            "exponent": {kind: exponent(grown, each) for kind, each in kinds.items()}}


def threads(bench: Bench, counts=(1, 2), repeats: int = 3) -> dict:
    """Wall and CPU seconds of as many groups of facets as threads, twice over; least of some.

    Wall seconds mean something on a machine that does nothing else.
    """
    o, indices = bench.operators, some(len(bench.operators.facets.facets))
    boxes, out = o._dirty_boxes(), {"sizes": list(counts), "wall": [], "cpu": []}
    for count in counts:
        wall, cpu = [], []
        for _ in range(repeats):
            begin = time.perf_counter(), time.process_time()
            with ThreadPoolExecutor(count) as pool:
                list(pool.map(lambda _: o._gridded(indices, boxes, False), range(2 * max(counts))))
            wall.append(time.perf_counter() - begin[0])
            cpu.append(time.process_time() - begin[1])
        out["wall"].append(min(wall))
        out["cpu"].append(min(cpu))
    return out


def beside_ducc0(bench: Bench, epsilon: float = 4e-6) -> dict:
    """CPU seconds of a facet's image, nothing averaged and no gains: ours and one call of ducc0.

    epsilon: the accuracy of our grid where nothing is averaged.  Also the largest difference over
    the largest value.
    """
    import ddfpipe.engines.native.operators as module
    from ddfpipe.imaging.gridding import vis_to_facet

    o, index = bench.operators, len(bench.operators.facets.facets) // 4
    facet, data = o.facets.facets[index], o.data.sets[0]
    images, loss = {}, module.LOSS

    def alone():
        images["ducc0"] = vis_to_facet(
            uvw=np.asarray(data.cache.uvw[:data.shape[0]]), freq=data.cache.freq, vis=data.vis,
            weight=data.weight, facet=facet, cell=o.facets.cell, epsilon=epsilon)

    def fused():
        images["ours"] = o._gridded(group, o._dirty_boxes(), False)

    out, group = {}, [index]
    out["ducc0"] = least(alone)
    try:
        module.LOSS = 0.0
        out["ours, one facet at a time"] = least(fused)
        group = some(len(o.facets.facets))
        out["ours, a group"] = least(fused) / len(group)
        group = [index]
        fused()
    finally:
        module.LOSS = loss
    want = images["ducc0"]
    out["difference"] = float(np.abs(images["ours"][0][0][0] - want).max() / np.abs(want).max())
    return out


def full_facet(ms: Path, field: Path, setting: Setting, folder: Path, most: float = 1e8) -> dict:
    """CPU seconds of one facet of a full-size image: 1.4 degrees, pixels of 1.5 arcsec.

    The measurement set is gone through again and again until `most` visibilities are gridded or
    predicted; the model are 2000 pixels of the facet.  The PSF has 1024 pixels.
    """
    from ddfpipe.data.images import SkyGrid
    from ddfpipe.data.model import PixelModel

    o = Bench(ms, field, replace(setting, npix=20475, cell=1.5, facets=6), folder).operators
    data, index = o.data, some(len(o.facets.facets))[0]
    facet, again = o.facets.facets[index], -(-int(most) // data.sets[0].vis.size)
    data.sets, o.gains = data.sets * again, o.gains * again
    o.set_residual(None)
    out = {"visibilities": again * data.sets[0].vis.size, "pixels": [facet.ny, facet.nx],
           "image": least(lambda: o._gridded([index], o._dirty_boxes(), False), 1),
           "PSF": least(lambda: o._gridded([index], o._psf_boxes(1024), True), 1)}
    rng = np.random.default_rng(1)
    rows = rng.integers(0, facet.ny, 2000) + facet.y0
    cols = rng.integers(0, facet.nx, 2000) + facet.x0
    cube = np.zeros((1, o.facets.npix, o.facets.npix), np.float32)
    cube[0, rows, cols] = 1e-3
    grid = SkyGrid(*data.phase_centre, o.facets.npix, o.facets.npix, o.facets.cell)
    predictor = o.predictor(PixelModel.from_cube(cube, grid, data.band_freq))
    one = data.sets[0]
    left = np.array(one.vis)
    part = slice(0, one.shape[0])
    grids: dict = {}
    out["grid of the model"] = least(
        lambda: grids.update({index: predictor.load(one.cache, index, one.band)}), 1)
    for name, loaded in (("prediction from it", grids), ("prediction by sums", {})):
        out[name] = least(lambda: [predictor.subtract(
            one.cache, part, one.band, o.gains[0], left, loaded=loaded) for _ in range(again)], 1)
    return out


def measure(ms: Path, field: Path, setting: Setting, folder: Path) -> dict:
    """Everything of this module, as figures that JSON can hold."""
    out = {"growth": [series(name, ms, field, setting, folder) for name in SERIES]}
    bench = Bench(ms, field, setting, folder)
    return out | {"threads": threads(bench), "ducc0": beside_ducc0(bench),
                  "full facet": full_facet(ms, field, setting, folder)}


def table_of(figures: dict) -> str:
    """The figures as a table."""
    lines = ["| what | sizes | CPU s: image | PSFs | exponents |", "|---|---|---|---|---|"]
    for row in figures["growth"]:
        cells = [" ".join(f"{c:.2f}" for c in row["cost"][kind]) for kind in ("image", "PSFs")]
        powers = " ".join(f"{row['exponent'][kind]:.2f}" for kind in ("image", "PSFs"))
        sizes = ", ".join(str(s) for s in row["sizes"])
        lines.append(f"| {row['what']} | {sizes} | {cells[0]} | {cells[1]} | {powers} |")
    t = figures["threads"]
    cpu, wall = (" ".join(f"{c:.2f}" for c in t[kind]) for kind in ("cpu", "wall"))
    lines.append(f"| threads, some facets | {t['sizes']} | {cpu} | wall {wall} | |")
    titles = {"ducc0": "one facet unaveraged", "full facet": "a facet of the full size"}
    for key, title in titles.items():
        lines.append(f"| {title} | " + ", ".join(
            f"{name} {value if isinstance(value, list) else format(value, '.3g')}"
            for name, value in figures[key].items()) + " | | | |")
    return "\n".join(lines) + "\n"
