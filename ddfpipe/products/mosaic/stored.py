"""Images of a mosaic that are kept on its grid: --save writes them, --load takes them up."""

from __future__ import annotations

import hashlib
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import numpy as np

from ddfpipe import naming
from ddfpipe.data.atomic import atomic_path
from ddfpipe.errors import ImagingError
from ddfpipe.products.mosaic.layout import Layout, template_layout
from ddfpipe.products.mosaic.options import MosaicOptions
from ddfpipe.products.mosaic.pointing import Pointing
from ddfpipe.products.planes import Plane, create_plane, open_plane, tiles

IDENTITY = "DDFPID"
"""Header key: digest of the sources and options that a file was made from."""
_KINDS = "reproject", "weight"


class Stored:
    """``reproject-<dir>.fits`` and ``weight-<dir>.fits`` of one pointing, before `scale`.

    usable: whether both are there, on the same grid, and made from the same files and options.
    """

    def __init__(self, pointing: Pointing, layout: Layout, options: MosaicOptions,
                 folder: Path) -> None:
        self._layout = layout
        self._name = pointing.name
        self._identity = hashlib.sha256(
            f"{pointing.identity()} {options.regridding}".encode()).hexdigest()[:32]
        self._paths = [folder / naming.mosaic_product(kind, options.rootname, options.band,
                                                      pointing.name) for kind in _KINDS]
        self._planes: list[Plane] = []
        self._wanted = options.load
        self.usable = options.load and all(self._good(path) for path in self._paths)
        if self.usable:
            self._planes = [open_plane(path) for path in self._paths]

    def _good(self, path: Path) -> bool:
        try:
            return open_plane(path).header.get(IDENTITY) == self._identity \
                and template_layout(path).same(self._layout)
        except ImagingError:
            return False  # missing or cut off: it is made again

    def remarks(self) -> list[str]:
        """What the user should know."""
        if self.usable or not self._wanted:
            return []
        there = any(path.exists() for path in self._paths)
        why = "made from other files, options or grid" if there else "not there"
        return [f"{self._name}: {self._paths[0].name} is {why}; reprojected anew"]

    def create(self, stack: ExitStack) -> None:
        """Open both files for writing; they get their names when `stack` closes well."""
        if self.usable:
            return
        header = self._layout.header.copy()
        header[IDENTITY] = (self._identity, "sources and options of this file")
        self._planes = [create_plane(stack.enter_context(atomic_path(path)), header)
                        for path in self._paths]

    def write(self, part: tuple[slice, slice], pair: tuple[np.ndarray, np.ndarray] | None) -> None:
        """Keep image and weight of a piece."""
        if not self.usable and pair is not None:
            for plane, values in zip(self._planes, pair):
                plane.write(*part, values)

    def read(self, part: tuple[slice, slice]) -> tuple[np.ndarray, np.ndarray]:
        """Image and weight of a piece, float64."""
        image, weight = (plane.read(*part).astype(float) for plane in self._planes)
        return image, weight


def with_blanked(pointing: Pointing, options: MosaicOptions, folder: Path) -> Pointing:
    """Use, and with --save write, ``astroblank-<dir>.fits``: the image without bad astrometry."""
    if pointing.astrometry is None or not (options.save or options.load):
        return pointing
    path = folder / naming.mosaic_product("astroblank", options.rootname, options.band,
                                          pointing.name)
    identity = pointing.identity()
    if options.load and path.is_file():
        plane = open_plane(path)
        if plane.header.get(IDENTITY) == identity and plane.shape == pointing.intrinsic.shape:
            return replace(pointing, blanked=plane)
    if not options.save:
        return pointing
    source = pointing.intrinsic
    header = source.header.copy()
    header[IDENTITY] = (identity, "sources and options of this file")
    for axis in range(3, header["NAXIS"] + 1):
        header[f"NAXIS{axis}"] = 1
    with atomic_path(path) as part:
        target = create_plane(part, header)
        for rows, columns in tiles(source.shape, options.tile):
            values = source.read(rows, columns)
            values[~pointing.astrometry.good(source, rows, columns)] = np.nan
            target.write(rows, columns, values)
    return replace(pointing, blanked=open_plane(path))
