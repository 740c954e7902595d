"""Mosaics: weighted means of images, made piece by piece in bounded memory.

    mosaic = sum(weight * image) / sum(weight),   weight = (beam / noise)^2

which has the least noise of all linear combinations (Condon et al. 1998, AJ 115, 1693).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ddfpipe import naming
from ddfpipe.data.atomic import atomic_path
from ddfpipe.errors import DataError
from ddfpipe.imaging.convolve import ordered_map
from ddfpipe.products.mosaic.finish import Summary, finish
from ddfpipe.products.mosaic.header import coverage_header, mosaic_header, weights_header
from ddfpipe.products.mosaic.inputs import open_pointings
from ddfpipe.products.mosaic.layout import Layout, choose_layout
from ddfpipe.products.mosaic.moc import write_moc
from ddfpipe.products.mosaic.options import MosaicOptions
from ddfpipe.products.mosaic.pointing import Pointing
from ddfpipe.products.mosaic.preview import draw_mosaic
from ddfpipe.products.mosaic.regrid import regrid_piece
from ddfpipe.products.mosaic.stored import Stored, with_blanked
from ddfpipe.products.planes import Plane, create_plane, tiles

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Mosaic:
    """What was made: products by kind, noise by directory (Jy/beam), figures, remarks.

    figures: width and height (pixels), area (deg^2), most_fields, noise (median over the mosaic,
    Jy/beam), islands_blanked (pixels); without the products (`no_write`) only the first two.
    """

    products: dict[str, Path]
    noise: dict[str, float]
    figures: dict[str, float]
    remarks: list[str] = field(default_factory=list)


def make_mosaic(options: MosaicOptions, folder: Path | str = ".",
                progress: Progress = lambda what, done, total: None) -> Mosaic:
    """Make the mosaic of the images in `options.directories`; products go to `folder`.

    progress(what, done, total) is called as pieces are done; it may raise to stop, and then no
    product appears.  Memory: some pieces for each thread, whatever the size and number of images.
    Raises ConfigError for wrong options, DataError or ImagingError for unsuitable images,
    ResourceError when the disk is full.
    """
    options.check()
    folder = Path(folder)
    products = _product_paths(options, folder)
    pointings, remarks = open_pointings(options, progress)
    layout = choose_layout(pointings, options, products["layout"])
    if not options.load_layout:
        layout.write(products["layout"])
    pointings = [with_blanked(p, options, folder) for p in pointings]
    stored = [Stored(p, layout, options, folder) for p in pointings]
    remarks += [text for one in stored for text in one.remarks()]
    made = Mosaic({}, {p.name: p.noise for p in pointings if isinstance(p.noise, float)}, {},
                  remarks)
    made.figures.update(width=layout.shape[1], height=layout.shape[0])
    with ExitStack() as stack:
        outputs = {} if options.no_write else _create(products, pointings, layout, options, stack)
        for one in stored:
            if options.save:
                one.create(stack)
        _combine(pointings, layout, options, stored, outputs, progress)
        if outputs:
            # The first to be entered is the last to get its name: then all others are there.
            summary = finish(outputs, layout, options.tile, progress)
            if not summary.cells.size:
                raise DataError("the grid of the mosaic is covered by none of the images; check "
                                "--centre, --size, --header, --load_layout.")
            made.figures.update(summary.figures())
            _side_products(outputs, products, summary, pointings, stack)
    if outputs:
        made.products.update(products)
    return made


def _product_paths(options: MosaicOptions, folder: Path) -> dict[str, Path]:
    kinds = ("mosaic", "weights", "coverage", "moc", "preview", "layout")
    paths = {kind: folder / naming.mosaic_product(kind, options.rootname, options.band)
             for kind in kinds}
    paths["mosaic"].parent.mkdir(parents=True, exist_ok=True)
    return paths


def _create(products: dict[str, Path], pointings: Sequence[Pointing], layout: Layout,
            options: MosaicOptions, stack: ExitStack) -> dict[str, Plane]:
    """Open mosaic, weights and coverage under temporary names."""
    headers = {
        "mosaic": (mosaic_header(layout, pointings, options), ">f4"),
        "weights": (weights_header(layout, pointings, options), ">f4"),
        "coverage": (coverage_header(layout, pointings, options), ">i2"),
    }
    return {kind: create_plane(stack.enter_context(atomic_path(products[kind])), *arguments)
            for kind, arguments in headers.items()}


def _combine(pointings: Sequence[Pointing], layout: Layout, options: MosaicOptions,
             stored: Sequence[Stored], outputs: dict[str, Plane], progress: Progress) -> None:
    """Fill the outputs piece by piece."""
    parts = list(tiles(layout.shape, options.tile))
    progress("mosaic", 0, len(parts))

    def work(part: tuple[slice, slice]):
        return part, _piece(part, pointings, layout, options, stored)

    for done, (part, piece) in enumerate(ordered_map(work, parts, options.workers), start=1):
        for kind, plane in outputs.items():
            plane.write(*part, piece[kind])
        for one, pair in zip(stored, piece["each"]):
            one.write(part, pair)
        progress("mosaic", done, len(parts))


def _piece(part: tuple[slice, slice], pointings: Sequence[Pointing], layout: Layout,
           options: MosaicOptions, stored: Sequence[Stored]) -> dict:
    """Mosaic, weights, coverage of a piece, and each pointing's part if they are kept."""
    shape = tuple(s.stop - s.start for s in part)
    total, weights = np.zeros(shape), np.zeros(shape)
    coverage = np.zeros(shape, np.int16)
    each = []
    for pointing, one in zip(pointings, stored):
        pair = one.read(part) if one.usable else regrid_piece(
            pointing, layout, *part, options.regridding)
        if options.save:
            each.append(pair)
        if pair is None:
            continue
        weight = pair[1] / pointing.scale**2
        total += weight * (pair[0] * pointing.scale)
        weights += weight
        coverage += weight > 0.0
    mosaic = np.full(shape, np.nan)
    np.divide(total, weights, out=mosaic, where=weights > 0.0)
    return {"mosaic": mosaic, "weights": weights, "coverage": coverage, "each": each}


def _side_products(outputs: dict[str, Plane], products: dict[str, Path], summary: Summary,
                   pointings: Sequence[Pointing], stack: ExitStack) -> None:
    """Picture and map of the covered sky."""
    picture = stack.enter_context(atomic_path(products["preview"]))
    draw_mosaic(outputs["mosaic"], picture, products["mosaic"].name, pointings)
    write_moc(stack.enter_context(atomic_path(products["moc"])), summary.cells,
              summary.order)
