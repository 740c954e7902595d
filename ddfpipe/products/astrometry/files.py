"""Offsets and moved images between files: what the stages and the scripts do."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ddfpipe import naming
from ddfpipe.data.images import FitsImage, read_image, write_image
from ddfpipe.data.regions import FacetOutline, read_tessel
from ddfpipe.errors import DataError, ImagingError
from ddfpipe.imaging.restore import convolve_model
from ddfpipe.products.astrometry import plots
from ddfpipe.products.astrometry.facetmap import coarse_grid, facet_labels, offset_map
from ddfpipe.products.astrometry.measure import Measurement, measure_offsets
from ddfpipe.products.astrometry.shift import restore_shifted, shift_image, shift_in_pixels
from ddfpipe.products.astrometry.tables import (
    FacetOffsets, write_facet_offsets, write_shift_list, write_state,
)
from ddfpipe.products.refcats import read_positions
from ddfpipe.units import ARCSEC

MAP_FACTOR = 20
"""Pixels of the map of errors are this many times those of the image."""


@dataclass(frozen=True)
class ImageFiles:
    """An image (whose grid and beam count), its facets, its sources, and a reference catalogue."""

    image: Path
    facets: Path
    sources: Path
    reference: Path


@dataclass(frozen=True)
class ImageMeasurement:
    """A measurement together with what it belongs to."""

    measured: Measurement
    image: FitsImage
    outlines: Sequence[FacetOutline]
    table: Any
    fit: str
    reference: Path

    def figures(self) -> dict[str, Any]:
        """Figures for people."""
        return self.measured.figures()

    def write(self, home: Path, label: str, *, used: Path | None = None, correct: bool = True
              ) -> list[Path]:
        """Write all tables below `home`; what was written.

        label: word for the reference catalogue.  used: where the sources that were used go.
        correct: also the list and the map that belong to a correction.
        """
        offsets, grid = self.measured.offsets, self.image.grid
        meta = {"IMAGE": self.image.path.name, "REFCAT": label, "FIT": self.fit}
        made = [
            write_facet_offsets(home / naming.offsets_file(label, "offsets"), offsets,
                                self.outlines, meta),
            write_state(home / naming.offsets_file(label, "state"), {
                "image": self.image.path.name, "reference": self.reference.name, "fit": self.fit,
                "field": self._field(), "removed": self.measured.selection.removed,
            }, self.measured.field.fits),
        ]
        if used is not None:
            made.append(self._write_used(used))
        if correct:
            made.append(write_shift_list(home / naming.SHIFT_LIST, offsets, self.outlines,
                                         grid.cell))
            made.append(self._write_map(home / naming.ASTROMETRY_MAP))
        return made

    def _field(self) -> dict[str, Any]:
        """Mean offset and scatter of the field, arcsec."""
        field = self.measured.field
        return {"mean_arcsec": [float(v) for v in field.mean], "scatter_arcsec": field.width}

    def _write_used(self, path: Path) -> Path:
        """The sources that were used, with the number of their facet."""
        from ddfpipe.data.atomic import atomic_path

        keep = self.measured.selection.kept & (self.measured.facet >= 0)
        table = self.table[keep]
        table["Facet"] = self.measured.facet[keep]
        with atomic_path(path) as part:
            table.write(part, format="fits")
        return path

    def _write_map(self, path: Path) -> Path:
        """Map of the error of positions, arcsec."""
        grid = coarse_grid(self.image.grid, MAP_FACTOR)
        error = offset_map(self.measured.offsets.total_error / ARCSEC, self.outlines, grid)
        return write_image(path, error, grid, freq=self.image.freq[:1], unit="arcsec",
                           history=["error of positions, both axes in quadrature"])

    def draw(self, home: Path, label: str, preview: Path) -> list[Path]:
        """Draw all pictures; what was drawn."""
        made = [home / naming.offsets_file(label, "overview"),
                home / naming.offsets_file(label, "fits"),
                home / naming.offsets_file(label, "selection")]
        title = f"{self.image.path.name}\noffsets from {label}"
        plots.draw_overview([made[0], preview], self.measured, self.outlines, self.image.grid,
                            title)
        plots.draw_facets(made[1], self.measured)
        plots.draw_selection(made[2], self.measured)
        chains = home / naming.offsets_file(label, "chains")
        return [*made, chains] if plots.draw_chains(chains, self.measured) else made


def measure_image(files: ImageFiles, fit: str,
                  progress: Callable[[int, int], None] = lambda done, total: None
                  ) -> ImageMeasurement:
    """Measure the offsets of an image's facets.

    fit: "mcmc" or "chi2".  Raises ImagingError, SkyModelError and DataError for files that cannot
    be read or lack what is needed.
    """
    from astropy.table import Table

    image, outlines = read_image(files.image), read_tessel(files.facets)
    if image.beam is None:
        raise ImagingError(f"{files.image}: header without BMAJ and BMIN; a restored image is "
                           "needed.")
    try:
        table = Table.read(files.sources, format="fits", hdu=1, character_as_bytes=False)
    except (OSError, ValueError, TypeError, IndexError) as error:
        raise DataError(f"{files.sources}: not a readable catalogue ({error}).") from error
    measured = measure_offsets(table, image.beam[0], outlines, image.grid,
                               read_positions(files.reference), fit, progress)
    return ImageMeasurement(measured, image, outlines, table, fit, files.reference)


def shift_files(source: Path, target: Path, facets: Path, offsets: FacetOffsets, *,
                model: Path | None = None, chosen: np.ndarray | None = None,
                check: Callable[[], None] = lambda: None) -> Path:
    """Write image `source`, moved facet by facet, to `target`.

    facets: facet layout in the order of `offsets`.  model: its components (Jy a pixel); these are
    drawn anew where they belong, only the rest is interpolated.  chosen: (facets,) those to move,
    None for all.  Every plane of a cube is moved alike; `model` serves single planes only.
    Raises DataError when offsets and facets do not fit.
    """
    image, outlines = read_image(source), read_tessel(facets)
    if len(outlines) != offsets.size:
        raise DataError(f"{facets} has {len(outlines)} facets, the table of offsets "
                        f"{offsets.size}; they must belong to one image.")
    dy, dx = shift_in_pixels(offsets.east, offsets.north, image.grid.cell)
    if chosen is not None:
        dy, dx = np.where(chosen, dy, 0.0), np.where(chosen, dx, 0.0)
    labels = facet_labels(outlines, image.grid)
    if model is not None and image.data[:, 0].shape[0] == 1 and image.beam is not None:
        components = read_image(model)
        if not components.grid.same(image.grid):
            raise ImagingError(f"{model} and {source} do not have the same pixels.")
        moved = _restored(image, components, labels, dy, dx, check)[None, None]
    else:
        moved = np.stack([[shift_image(plane, labels, dy, dx, check=check) for plane in planes]
                          for planes in image.data])
    history = [f"ddfpipe: {source.name} moved facet by facet to a reference catalogue"]
    return write_image(target, moved, image.grid, freq=_frequency(image), beam=image.beam,
                       unit=image.unit, stokes=_stokes(image), history=history)


def _restored(image: FitsImage, components: FitsImage, labels: np.ndarray, dy: np.ndarray,
              dx: np.ndarray, check: Callable[[], None]) -> np.ndarray:
    """(ny, nx) image restored anew; what its components do not explain is interpolated."""
    model = np.nan_to_num(components.plane())
    rest = image.plane()
    # The image less its components on pixels: residual, and what lies between pixels.
    rest -= convolve_model(model, image.beam, image.grid.cell)
    return restore_shifted(model, rest, labels, dy, dx, image.beam, image.grid.cell, check=check)


def _frequency(image: FitsImage) -> np.ndarray:
    return image.freq if image.freq.size else np.ones(image.data.shape[0])


def _stokes(image: FitsImage) -> str:
    """Stokes parameters of an image's planes."""
    from ddfpipe.data.images import STOKES_CODE

    names = {code: name for name, code in STOKES_CODE.items()}
    count, header = image.data.shape[1], image.header
    for axis in range(3, header["NAXIS"] + 1):
        if str(header.get(f"CTYPE{axis}", "")).upper().startswith("STOKES"):
            first = round(header[f"CRVAL{axis}"] + (1 - header.get(f"CRPIX{axis}", 1.0))
                          * header.get(f"CDELT{axis}", 1.0))
            step = round(header.get(f"CDELT{axis}", 1.0)) or 1
            return "".join(names.get(first + k * step, "I") for k in range(count))
    return "I"
