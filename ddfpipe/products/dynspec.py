"""Dynamic spectra: where to look, what the noise is, and the files that users get.

The noise is measured towards positions without sources: at each time and frequency, the rms over
these of the flux times the root of its weight.  What all of them share, such as interference or
the side lobes of badly modelled sources, so counts as noise.
"""

from __future__ import annotations

import gzip
import tarfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ddfpipe.data.atomic import atomic_path
from ddfpipe.data.images import read_image
from ddfpipe.data.regions import read_tessel
from ddfpipe.data.spectra import Spectra, write_spectrum
from ddfpipe.data.targets import Position, coordinate_name, file_name, write_positions
from ddfpipe.imaging.mask import NOISE_BOX_BEAMS, dilate, find_islands, threshold_mask
from ddfpipe.imaging.noise import local_noise
from ddfpipe.imaging.restore import beam_area
from ddfpipe.imaging.sourcelist import measure_islands
from ddfpipe.units import ARCSEC, DEGREE, FWHM_TO_SIGMA

N_OFF, OFF_PER_FACET = 100, 5
"""Positions that measure the noise: in all, and at least in each facet."""
DRAWS = 20_000
"""Places that are drawn at random to find them."""
SEED = 1
SOURCE_SIGMA, CLEAR_BEAMS = 5.0, 5.0
"""What counts as a source, and how far from all of them noise is measured."""
CLEAR_OF_TARGET = 60 * ARCSEC
COMPACT = 0.003 * DEGREE
"""Largest FWHM, the beam's taken off, of a bright source that is a target."""
TARGETS_FOLDER, NOISE_FILE, LIST_FILE = "TARGET", "noise.fits", "positions.csv"


@dataclass(frozen=True)
class Field:
    """The middle of a final image, in which positions are chosen.

    app, int_ : (y, x) apparent and intrinsic Jy/beam; grid : SkyGrid of the whole image
    y0, x0 : first row and column of the cut; beam : rad; radius : rad
    """

    app: np.ndarray
    int_: np.ndarray
    grid: object
    y0: int
    x0: int
    beam: tuple[float, float, float]
    radius: float

    def radec(self, y, x) -> tuple[np.ndarray, np.ndarray]:
        """Sky position (rad) of pixels of the cut."""
        return self.grid.radec(*self.grid.lm(np.asarray(y) + self.y0, np.asarray(x) + self.x0))

    def inside(self, y, x) -> np.ndarray:
        """Whether pixels of the cut are within the radius and the image has a value there."""
        l, m = self.grid.lm(np.asarray(y) + self.y0, np.asarray(x) + self.x0)
        yi, xi = np.rint(y).astype(int), np.rint(x).astype(int)
        ok = (yi >= 0) & (xi >= 0) & (yi < self.app.shape[0]) & (xi < self.app.shape[1])
        value = self.int_[np.where(ok, yi, 0), np.where(ok, xi, 0)]
        return ok & (np.hypot(l, m) <= np.sin(self.radius)) & np.isfinite(value)


def open_field(app: Path, int_: Path, radius: float) -> Field:
    """Read the middle of an image, out to `radius` (rad).  Raises ImagingError."""
    first, second = read_image(app), read_image(int_)
    grid = first.grid
    half = int(np.ceil(np.sin(radius) / grid.cell)) + 1
    rows, columns = (
        slice(max(0, n // 2 - half), min(n, n // 2 + half + 1)) for n in (grid.ny, grid.nx)
    )
    planes = [np.ascontiguousarray(i.data[0, 0, rows, columns], np.float32)
              for i in (first, second)]
    beam = first.beam or (4 * grid.cell, 4 * grid.cell, 0.0)
    return Field(*planes, grid, rows.start, columns.start, beam, radius)


class Facets:
    """Facets of an image as nearest directions."""

    def __init__(self, path: Path, grid):
        outlines = [outline for outline in read_tessel(path) if outline.centre is not None]
        self.labels = [outline.label for outline in outlines]
        self.l, self.m = grid.lm_of(*np.array([outline.centre for outline in outlines]).T)
        self.grid = grid

    def number(self, ra, dec) -> np.ndarray:
        """Number of the facet that holds each position (rad)."""
        l, m = self.grid.lm_of(np.atleast_1d(ra), np.atleast_1d(dec))
        return np.argmin((l[:, None] - self.l) ** 2 + (m[:, None] - self.m) ** 2, axis=1)

    def label(self, ra: float, dec: float) -> str:
        """Label of the facet that holds a position (rad)."""
        return self.labels[int(self.number(ra, dec)[0])]


def choose_positions(
    field: Field, facets: Facets, listed: list[Position], bright: float, *, threads: int = 1,
    n_off: int = N_OFF, tell: Callable[[str], None] = lambda text: None,
) -> list[Position]:
    """Targets of a list that lie in the field, bright compact sources, positions without sources.

    bright : Jy, least apparent and true peak of a bright source; tell : takes messages
    """
    targets = [p for p in listed if bool(field.inside(*_pixel(field, p)))]
    if len(targets) < len(listed):
        tell(f"{len(listed) - len(targets)} of {len(listed)} listed targets lie outside the image "
             f"or more than {field.radius / DEGREE:g} deg from its centre")
    for source in bright_sources(field, bright):
        if all(_distance(source, other) > field.beam[0] for other in targets):
            targets.append(source)
    if not targets:
        tell("there are no targets; see [spectra] catalogue, radius and bright_threshold")
    targets = [replace(p, facet=facets.label(p.ra, p.dec)) for p in _named_apart(targets)]
    return targets + off_positions(field, facets, targets, n_off, threads, tell)


def _pixel(field: Field, position: Position) -> tuple[np.ndarray, np.ndarray]:
    y, x = field.grid.pixel_of(position.ra, position.dec)
    return np.nan_to_num(y, nan=-1e9) - field.y0, np.nan_to_num(x, nan=-1e9) - field.x0


def _distance(a: Position, b: Position) -> float:
    """Angle between two positions in rad."""
    here, there = (
        np.array([np.cos(p.dec) * np.cos(p.ra), np.cos(p.dec) * np.sin(p.ra), np.sin(p.dec)])
        for p in (a, b)
    )
    return float(2 * np.arcsin(min(1.0, np.linalg.norm(here - there) / 2)))


def _named_apart(positions: list[Position]) -> list[Position]:
    """The same positions with file names that differ from each other."""
    out, seen = [], set()
    for p in positions:
        name, number = file_name(p.name), 2
        while name.lower() in seen:
            name, number = f"{file_name(p.name)}_{number}", number + 1
        seen.add(name.lower())
        out.append(replace(p, name=name))
    return out


def bright_sources(field: Field, threshold: float) -> list[Position]:
    """Compact sources whose apparent and true peaks exceed `threshold` (Jy), brightest first."""
    with np.errstate(invalid="ignore"):
        mask = (field.app > threshold) & (field.int_ > threshold)
    area = beam_area(field.beam, field.grid.cell)
    found = measure_islands(find_islands(mask), field.int_, 1.0, area)
    # rms distance from the centre of a round Gaussian: sqrt(2) standard deviations
    widest = np.sqrt(2) * FWHM_TO_SIGMA * np.hypot(field.beam[0], COMPACT) / field.grid.cell
    keep = (found.radius <= widest) & field.inside(found.y, found.x)
    ra, dec = field.radec(found.y[keep], found.x[keep])
    return [Position(float(a), float(d), coordinate_name(a, d), "bright") for a, d in zip(ra, dec)]


def off_positions(
    field: Field, facets: Facets, targets: list[Position], n_off: int, threads: int,
    tell: Callable[[str], None],
) -> list[Position]:
    """At random, but the same each time: positions away from all sources and targets."""
    rng = np.random.default_rng(SEED)
    ny, nx = field.app.shape
    beam = field.beam[0] / field.grid.cell
    sigma, _ = local_noise(field.app, box=(int(NOISE_BOX_BEAMS * beam), 2), threads=threads)
    mask = threshold_mask(field.app, sigma, SOURCE_SIGMA)
    sources = dilate(mask, int(np.ceil(CLEAR_BEAMS * beam)))
    y, x = rng.integers(0, ny, DRAWS), rng.integers(0, nx, DRAWS)
    ok = field.inside(y, x) & ~sources[y, x]
    for target in targets:
        at = _pixel(field, target)
        ok &= np.hypot(y - at[0], x - at[1]) * field.grid.cell > CLEAR_OF_TARGET
    y, x = y[ok], x[ok]
    ra, dec = field.radec(y, x)
    number = facets.number(ra, dec) if ra.size else np.zeros(0, int)
    chosen = _spread(number, n_off, OFF_PER_FACET)
    needed = {facets.labels.index(target.facet) for target in targets}
    short = [facets.labels[k] for k in sorted(set(number) | needed)
             if np.count_nonzero(number[chosen] == k) < OFF_PER_FACET]
    if short:
        tell(f"fewer than {OFF_PER_FACET} places without sources in {', '.join(short)}")
    return [
        Position(float(ra[i]), float(dec[i]), f"off{k:03d}", "off", facets.labels[number[i]])
        for k, i in enumerate(chosen)
    ]


def _spread(group: np.ndarray, total: int, least: int) -> np.ndarray:
    """Indices of `total` items, the first ones that give each group `least` and then any."""
    first = [i for k in np.unique(group) for i in np.flatnonzero(group == k)[:least]]
    rest = np.setdiff1d(np.arange(group.size), first)[: max(0, total - len(first))]
    return np.sort(np.append(np.array(first, int), rest))


# ---------------------------------------------------------------------- files


def noise_scale(spectra: Spectra, off: list[int]) -> np.ndarray:
    """(2, freq, time) float32: rms over positions `off` of the flux times the root of its weight.

    NaN where fewer than two of them have data.
    """
    shape = (2, spectra.freq.size, spectra.time.size)
    total, count = np.zeros(shape), np.zeros(shape[1:])
    for number in off:
        flux, weight = spectra.position(number)
        used = weight > 0
        total += np.where(used, np.nan_to_num(flux) ** 2 * weight, 0)
        count += used
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(count > 1, np.sqrt(total / count), np.nan).astype(np.float32)


def write_products(
    folder: Path, archive: Path, spectra: Spectra, positions: list[Position], *,
    observation: str, draw: Callable | None = None, check: Callable[[], None] = lambda: None,
) -> tuple[list[Path], dict]:
    """Fill `folder` (it appears whole) and pack it into `archive`.

    draw : function of a FITS file to its picture, or None; check : may raise to stop

    Returns the files made, the archive last, and figures: targets, off positions, cell_noise_mJy
    (median over the cells of Stokes I towards the targets, or the off positions if there is none).
    """
    targets = [k for k, p in enumerate(positions) if p.kind != "off"]
    off = [k for k, p in enumerate(positions) if p.kind == "off"]
    scale = noise_scale(spectra, off)
    levels = []
    with atomic_path(folder) as part:
        (part / TARGETS_FOLDER).mkdir(parents=True)
        write_positions(part / LIST_FILE, positions)
        shared = {"OBSID": observation, "NOFF": len(off)}
        ones = np.ones(scale.shape[1:], np.float32)
        write_spectrum(part / NOISE_FILE, spectra, scale, ones, scale,
                       shared | {"OBJECT": "noise", "BUNIT": "Jy sqrt(weight)"})
        for number in targets:
            check()
            position = positions[number]
            flux, weight = spectra.position(number)
            with np.errstate(invalid="ignore", divide="ignore"):
                noise = np.where(weight > 0, scale / np.sqrt(weight), np.nan)
            levels.append(_median(noise[0]))
            path = part / TARGETS_FOLDER / f"{position.name}.fits"
            write_spectrum(path, spectra, flux, weight, noise, shared | _keys(position))
            if draw is not None:
                draw(path)
        made = sorted(p.relative_to(part) for p in part.rglob("*") if p.is_file())
    pack(folder, archive)
    if not levels:
        weight = [spectra.position(number)[1] for number in off[:1]]
        levels = [_median(scale[0] / np.sqrt(w)) for w in weight]
    figures = {"targets": len(targets), "off_positions": len(off),
               "cell_noise_mJy": 1e3 * float(np.mean(levels)) if levels else float("nan")}
    return [*(folder / name for name in made), archive], figures


def _keys(position: Position) -> dict:
    return {
        "OBJECT": position.name, "RA": (position.ra / DEGREE, "deg, J2000"),
        "DEC": (position.dec / DEGREE, "deg, J2000"), "FACET": position.facet,
        "KIND": (position.kind, "target: listed; bright: bright source"),
        "CONTENT": ("residual", "the model of the final image is taken out"),
    }


def _median(values: np.ndarray) -> float:
    good = values[np.isfinite(values)]
    return float(np.median(good)) if good.size else float("nan")


def pack(folder: Path, archive: Path) -> None:
    """Pack a folder into a tar file with gzip; the same contents give the same bytes."""
    with atomic_path(archive) as part, open(part, "wb") as out:
        with gzip.GzipFile(filename="", mode="wb", fileobj=out, mtime=0) as packed, \
                tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as tar:
            for path in sorted(p for p in folder.rglob("*") if p.is_file()):
                info = tarfile.TarInfo(f"{folder.name}/{path.relative_to(folder)}")
                info.size, info.mode = path.stat().st_size, 0o644
                with open(path, "rb") as stream:
                    tar.addfile(info, stream)
