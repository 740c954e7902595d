"""One image of a mosaic with its weights, in cut-outs.

The weight of a pixel is the inverse of its variance: apparent flux over intrinsic flux is the
primary beam B, the noise of the intrinsic image is noise / B (Condon et al. 1998, AJ 115, 1693,
section 3.3), so weight = (B / noise)^2.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ddfpipe import naming
from ddfpipe.errors import DataError, ImagingError
from ddfpipe.products.facetnoise import CENTRAL_PIXELS, central_noise, tessel_of, write_facet_noise
from ddfpipe.products.mosaic.facets import Facets, bad_facets_file, offsets_file, read_facets
from ddfpipe.products.mosaic.options import MosaicOptions
from ddfpipe.products.planes import Plane, open_plane, pixel_scale
from ddfpipe.products.primarybeam import primary_beam, sampled_beam
from ddfpipe.units import ARCSEC

CROP_PART, CROP_PIXEL = 0.95, 1.5 * ARCSEC
"""Part of the size in imcrop.txt that is kept, and the pixel that the size is counted in."""
_SAMPLE = 8


@dataclass(frozen=True)
class AstrometryMap:
    """Errors of the positions (ny, nx) on coarse pixels, arcsec, and the largest that is good."""

    plane: Plane
    values: np.ndarray
    limit: float

    def good(self, image: Plane, rows: slice, columns: slice) -> np.ndarray:
        """True where positions of pixels of `image` are good enough."""
        from astropy.wcs.utils import pixel_to_pixel

        y, x = np.mgrid[rows, columns]
        where = pixel_to_pixel(image.wcs(), self.plane.wcs(), x, y)
        # Beyond the map's edge the nearest value counts, as its outer pixels are not whole.
        column, row = (np.clip(np.rint(np.nan_to_num(p)), 0, n - 1).astype(int)
                       for p, n in zip(where, self.values.shape[::-1]))
        return self.values[row, column] <= self.limit


@dataclass(frozen=True)
class Pointing:
    """The image of a directory: what to read and how to weigh it.

    noise: Jy/beam at the centre, a map of it, or None for equal noise; factor: map of flux
    factors; scale: flux factor; keep: side of the central square that is used, pixels; blanked:
    the intrinsic image without what has bad astrometry, if that was kept.
    """

    name: str
    intrinsic: Plane
    apparent: Plane
    beamcut: float
    noise: float | Plane | None = None
    factor: Plane | None = None
    scale: float = 1.0
    keep: int | None = None
    astrometry: AstrometryMap | None = None
    facets: Facets | None = None
    blanked: Plane | None = None

    def cutout(self, rows: slice, columns: slice) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(image, weight, valid) of a part of the image, each (y, x), without `scale`.

        image: Jy/beam, 0 where blank; weight: 0 outside of the beam's cut, the crop and good
        astrometry; valid: False where the image is blank.
        """
        image = (self.blanked or self.intrinsic).read(rows, columns)
        beam = primary_beam(self.apparent, self.intrinsic, rows, columns)
        valid = np.isfinite(image) & (beam != 0.0)
        beam[~(beam >= self.beamcut) | ~valid | ~self._inside(rows, columns)] = 0.0
        if self.astrometry is not None and self.blanked is None:
            valid &= self.astrometry.good(self.intrinsic, rows, columns)
        weight = self._squared(beam, rows, columns)
        if self.factor is not None:
            factor = self.factor.read(rows, columns)
            known = np.isfinite(factor) & (factor > 0.0)
            image *= np.where(known, factor, 0.0)
            weight = np.where(known, weight / np.where(known, factor, 1.0) ** 2, 0.0)
            valid &= known
        image[~valid] = 0.0
        weight[~valid] = 0.0
        return image, weight, valid

    def _squared(self, beam: np.ndarray, rows: slice, columns: slice) -> np.ndarray:
        """(beam / noise)^2."""
        noise = self.noise
        if isinstance(noise, Plane):
            noise = noise.read(rows, columns)
            noise = np.where(noise > 0.0, noise, np.inf)  # no noise known: no weight
        return np.square(beam if noise is None else beam / noise, dtype=np.float32)

    def _inside(self, rows: slice, columns: slice) -> np.ndarray:
        """True within the central square that is kept."""
        if self.keep is None:
            return np.ones((1, 1), bool)
        keeps = []
        for part, size in zip((rows, columns), self.intrinsic.shape):
            start = max(0, (size - self.keep) // 2)
            where = np.arange(part.start, part.stop)
            keeps.append((where >= start) & (where < start + self.keep))
        return keeps[0][:, None] & keeps[1][None, :]

    def outline(self) -> np.ndarray:
        """(n, 2) pixels (x, y) around what has weight, to a few pixels.

        Raises DataError when nothing has.
        """
        covered = sampled_beam(self.apparent, self.intrinsic, _SAMPLE) >= self.beamcut
        points = []
        for row in np.flatnonzero(covered.any(axis=1)):
            columns = np.flatnonzero(covered[row])
            for side in (-1, 1):
                points += [(columns[0] - 1, row + side), (columns[-1] + 1, row + side)]
        if not points:
            raise DataError(f"{self.intrinsic.path}: nowhere is its beam (apparent over intrinsic "
                            f"flux) above --beamcut {self.beamcut}; lower that, or leave it out.")
        points = np.array(points, float) * _SAMPLE
        if self.keep is not None:
            for axis, size in enumerate(self.intrinsic.shape[::-1]):
                start = max(0, (size - self.keep) // 2)
                points[:, axis] = np.clip(points[:, axis], start, min(size, start + self.keep))
        return points

    def identity(self) -> str:
        """Digest of all that decides `cutout` and the facets; changes when a file does."""
        parts: list = [self.beamcut, self.keep]
        for plane in (self.intrinsic, self.apparent, self.noise, self.factor):
            parts.append(_file_state(plane.path) if isinstance(plane, Plane) else plane)
        if self.astrometry is not None:
            parts += [_file_state(self.astrometry.plane.path), self.astrometry.limit]
        digest = hashlib.sha256(repr(parts).encode())
        if self.facets is not None:
            for array in (*self.facets.outlines, self.facets.shift, self.facets.used):
                digest.update(np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()[:32]


def _file_state(path: Path) -> tuple[str, int, int]:
    stat = path.stat()
    return path.name, stat.st_size, stat.st_mtime_ns


def image_names(folder: Path, options: MosaicOptions) -> list[tuple[str, str]]:
    """(intrinsic, apparent) names of the images that a mosaic may be made of, the best first.

    Raises DataError when a directory has Stokes V images of several observations.
    """
    if options.do_wsclean:
        return [naming.WSCLEAN_LOW]
    if options.do_stokesV:
        return [_pair(_stokes_v_root(folder), "dirty_corr", "dirty")]
    if options.do_vlow or options.do_lowres:
        root = naming.VERY_LOW_IMAGE if options.do_vlow else naming.LOW_IMAGE
        return [_pair(root, "int_restored", "app_restored")]
    root = naming.FINAL_IMAGE if options.band is None else naming.band_image(options.band)
    if options.use_shifted:
        return [_pair(naming.shifted_image(root), "int_facet_restored", "app_facet_restored")]
    plain = _pair(root, "int_restored", "app_restored")
    if options.band is None:
        return [plain]
    return [plain, _pair(root, "int_facet_restored", "app_facet_restored")]


def _pair(root: str, intrinsic: str, apparent: str) -> tuple[str, str]:
    return naming.image_product(root, intrinsic), naming.image_product(root, apparent)


def _stokes_v_root(folder: Path) -> str:
    """The Stokes V image of a directory: without the name of an observation, else the only one."""
    suffix = naming.image_product("", "dirty_corr")
    plain = naming.STOKES_V_IMAGE
    found = sorted(folder.glob(naming.stokes_v_image("*") + suffix))
    if (folder / (plain + suffix)).is_file() or not found:
        return plain
    if len(found) > 1:
        raise DataError(f"{folder}: Stokes V images of {len(found)} observations; link the files "
                        f"of the one to be used as {plain}{suffix} and so on.")
    return found[0].name.removesuffix(suffix)


def noise_box(options: MosaicOptions) -> int:
    """Side of the central square, in pixels, that gives the noise of an image."""
    if options.do_vlow or options.do_wsclean:
        return 500
    return 1500 if options.do_lowres else CENTRAL_PIXELS


def find_images(folder: Path, options: MosaicOptions) -> tuple[Path, Path]:
    """Intrinsic and apparent image of a directory; DataError naming what is missing."""
    choices = image_names(folder, options)
    for pair in choices:
        if all((folder / name).is_file() for name in pair):
            return folder / pair[0], folder / pair[1]
    lacking = [name for name in choices[0] if not (folder / name).is_file()]
    raise DataError(f"{folder}: lacks {' and '.join(lacking)}; let the run there finish, or leave "
                    "the directory out.")


def open_pointing(number: int, options: MosaicOptions,
                  images: tuple[Path, Path] | None = None) -> tuple[Pointing, list[str]]:
    """The image of directory `number` and remarks for the user.

    images: intrinsic and apparent image, None for those of `find_images`.
    Raises DataError or ImagingError when a file is missing or does not fit the others.
    """
    folder = Path(options.directories[number])
    paths = images or find_images(folder, options)
    stokes = "V" if options.do_stokesV else "I"
    intrinsic, apparent = (open_plane(path, stokes) for path in paths)
    _same_shape(apparent, intrinsic)
    made = Pointing(options.names()[number], intrinsic, apparent, options.beamcut,
                    scale=options.scale[number] if options.scale else 1.0)
    remarks: list[str] = []
    if options.use_scalefactor:
        made = replace(made, factor=_optional_map(made, "scalefactors", remarks))
    made = replace(made, noise=_noise(number, made, options))
    if options.use_imcrop:
        made = replace(made, keep=_crop(folder, intrinsic, remarks))
    if options.astromap_blank is not None:
        made = replace(made, astrometry=_astrometry(folder, options.astromap_blank))
    if options.by_facet:
        offsets = offsets_file(folder, options.offsets) if options.apply_shift else None
        bad = bad_facets_file(folder) if options.use_badfacet else None
        if bad is not None and not bad.is_file():
            remarks.append(f"{made.name}: no {bad.name}, all facets are used")
        made = replace(made, facets=read_facets(intrinsic, offsets=offsets, bad=bad))
    return made, remarks


def _same_shape(one: Plane, other: Plane) -> None:
    if one.shape != other.shape:
        raise ImagingError(f"{one.path}: {one.shape[1]} x {one.shape[0]} pixels, but "
                           f"{other.path.name} has {other.shape[1]} x {other.shape[0]}; they must "
                           "be of one image.")


def _optional_map(made: Pointing, kind: str, remarks: list[str]) -> Plane | None:
    """Map of `kind` beside the apparent image; a remark if there is none."""
    path = Path(naming.beside_image(_unconvolved(made.apparent.path), kind))
    if not path.is_file():
        remarks.append(f"{made.name}: no {path.name}, the image is not scaled")
        return None
    plane = open_plane(path)
    _same_shape(plane, made.intrinsic)
    return plane


def _unconvolved(path: Path) -> Path:
    return path.with_name(path.name.replace("_convolved.fits", ".fits"))


def _noise(number: int, made: Pointing, options: MosaicOptions) -> float | Plane | None:
    """Noise as asked for: given, measured, or a map by facet (written if it is not there)."""
    if options.noise is not None:
        return float(options.noise[number])
    if options.find_noise:
        box = noise_box(options)
        middle = tuple(slice(max(0, (n - box) // 2), (n + box) // 2) for n in made.apparent.shape)
        found = central_noise(made.apparent.read(*middle), box)
        if not found > 0.0:
            raise DataError(f"{made.apparent.path}: no valid pixels in the central {box}; give "
                            "--noise.")
        return found
    if not options.read_noise:
        return None
    image = made.apparent.path
    path = Path(naming.beside_image(image, "facetnoise"))
    if not path.is_file():
        write_facet_noise(image, tessel_of(image), path)
    plane = open_plane(path)
    _same_shape(plane, made.intrinsic)
    return plane


def _crop(folder: Path, image: Plane, remarks: list[str]) -> int | None:
    """Side of the central square of `imcrop.txt` in pixels of this image."""
    path = folder / naming.IMAGE_CROP
    if not path.is_file():
        remarks.append(f"{folder.name}: no {path.name}, the whole image is used")
        return None
    try:
        size = float(path.read_text(encoding="utf-8").split()[0])
    except (ValueError, IndexError, UnicodeDecodeError) as err:
        raise DataError(f"{path}: the first line must be the size of the good part in pixels of "
                        "1.5 arcsec.") from err
    return int(size * CROP_PART * CROP_PIXEL / pixel_scale(image.wcs()))


def _astrometry(folder: Path, limit: float) -> AstrometryMap:
    """The map of position errors of a directory; gaps take the nearest value."""
    from scipy.ndimage import distance_transform_edt

    plane = open_plane(folder / naming.ASTROMETRY_MAP)
    values = plane.read()
    gaps = ~np.isfinite(values)
    if gaps.all():
        raise DataError(f"{plane.path}: holds no errors; make it again or leave --astromap_blank "
                        "out.")
    if gaps.any():
        nearest = distance_transform_edt(gaps, return_distances=False, return_indices=True)
        values = values[tuple(nearest)]
    return AstrometryMap(plane, values, limit)
