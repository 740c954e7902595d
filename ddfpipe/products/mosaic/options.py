"""What a mosaic is made of and how: the arguments of mosaic.py, checked."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ddfpipe.errors import ConfigError

METHODS = ("bicubic", "bilinear", "exact", "adaptive")
"""Ways to bring an image onto the grid of the mosaic; see docs/mosaics.md for what each keeps."""
PROJECTIONS = ("SIN", "TAN", "ZEA", "ARC", "STG", "CAR", "AIT", "MOL", "SFL")


@dataclass(frozen=True, kw_only=True)
class MosaicOptions:
    """Arguments of a mosaic; names and meaning are those of ddf-pipeline's mosaic.py.

    convolve: FWHM in arcsec.  noise: Jy/beam, scale: flux factors, one a directory, or None.
    astromap_blank: arcsec.  header: FITS file whose grid is taken.  pixel: arcsec.  centre: RA and
    Dec in degrees.  size: pixels (x, y).  offsets: method whose facet offsets are applied.
    tile: side of the pieces, pixels.
    """

    directories: tuple[Path, ...]
    rootname: str = ""
    beamcut: float = 0.3
    convolve: float | None = None
    band: int | None = None
    exact: bool = False
    save: bool = False
    load: bool = False
    noise: tuple[float, ...] | None = None
    scale: tuple[float, ...] | None = None
    use_shifted: bool = False
    apply_shift: bool = False
    facet_only: bool = False
    no_write: bool = False
    find_noise: bool = False
    read_noise: bool = False
    use_badfacet: bool = False
    use_imcrop: bool = False
    use_scalefactor: bool = False
    do_lowres: bool = False
    do_vlow: bool = False
    do_wsclean: bool = False
    do_stokesV: bool = False
    astromap_blank: float | None = None
    load_layout: bool = False
    method: str | None = None
    header: Path | None = None
    projection: str | None = None
    pixel: float | None = None
    centre: tuple[float, float] | None = None
    size: tuple[int, int] | None = None
    offsets: str = "pslocal"
    four_axes: bool = False
    threads: int | None = None
    tile: int = 1024

    @property
    def regridding(self) -> str:
        """One of METHODS."""
        return "exact" if self.exact else self.method or METHODS[0]

    @property
    def by_facet(self) -> bool:
        """Whether images are regridded facet by facet."""
        return self.apply_shift or self.facet_only or self.use_badfacet

    @property
    def workers(self) -> int:
        """Number of threads."""
        return self.threads or len(os.sched_getaffinity(0))

    def names(self) -> list[str]:
        """Name of each directory, as products and messages use it."""
        return [Path(d).resolve().name for d in self.directories]

    def check(self) -> None:
        """Raise ConfigError with a sentence for everything that is wrong."""
        wrong = [*self._clashes(), *self._numbers(), *self._directories()]
        if wrong:
            raise ConfigError("; ".join(wrong))

    def _clashes(self) -> Iterator[str]:
        """Sentences about arguments that exclude each other."""
        apart = (
            ("do_lowres", "do_vlow", "do_wsclean", "do_stokesV", "band"),
            ("do_lowres", "do_vlow", "do_wsclean", "do_stokesV", "use_shifted"),
            ("noise", "find_noise", "read_noise"),
            ("apply_shift", "facet_only"), ("apply_shift", "use_shifted"),
            ("exact", "method"), ("load_layout", "header"), ("convolve", "do_stokesV"),
            *((grid, given) for grid in ("load_layout", "header")
              for given in ("projection", "pixel", "centre", "size")),
        )
        for group in apart:
            given = [name for name in group if getattr(self, name) not in (None, False)]
            if len(given) > 1:
                yield f"{' and '.join('--' + name for name in given)} exclude each other"
        if self.no_write and self.load and not self.save:
            yield "--load --no_write would do nothing: leave one out, or --save as well"

    def _numbers(self) -> Iterator[str]:
        """Sentences about values that make no sense."""
        count = len(self.directories)
        for name in ("noise", "scale"):
            values = getattr(self, name)
            if values is not None and len(values) != count:
                yield f"--{name} has {len(values)} values for {count} directories: give each one"
            elif values is not None and not all(0.0 < v < float("inf") for v in values):
                yield f"--{name}: all values must be above 0"
        if not 0.0 < self.beamcut < 1.0:
            yield f"--beamcut {self.beamcut}: must be above 0 and below 1"
        for name in ("convolve", "astromap_blank", "pixel", "threads"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                yield f"--{name} {value}: must be above 0"
        if self.band is not None and self.band < 0:
            yield f"--band {self.band}: bands are counted from 0"
        if self.size is not None and min(self.size) < 1:
            yield f"--size {self.size[0]} {self.size[1]}: both must be 1 or more"
        if self.tile < 64:
            yield f"--tile {self.tile}: must be 64 pixels or more"
        if self.centre is not None and not -90.0 <= self.centre[1] <= 90.0:
            yield f"--centre: declination {self.centre[1]} is not within -90 to 90 degrees"
        if self.method is not None and self.method not in METHODS:
            yield f"--method {self.method}: choose one of {', '.join(METHODS)}"
        if self.projection is not None and self.projection not in PROJECTIONS:
            yield f"--projection {self.projection}: choose one of {', '.join(PROJECTIONS)}"

    def _directories(self) -> Iterator[str]:
        if not self.directories:
            yield "--directories: name at least one"
        for directory in self.directories:
            if not Path(directory).is_dir():
                yield f"--directories {directory}: there is no such directory"
        names = self.names()
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice and (self.save or self.load):
            yield (f"--save and --load: two directories are called {', '.join(twice)}, so would be "
                   "their files; rename or link one")
