"""Cut-outs of FITS images and cubes, with the sky coordinates of the original."""

from __future__ import annotations

import math
import re
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ddfpipe.data.atomic import atomic_path
from ddfpipe.data.images import image_layout
from ddfpipe.errors import ConfigError, DataError, ResourceError
from ddfpipe.products.planes import celestial
from ddfpipe.units import DEGREE

_BLOCK = 2880
_ILT = re.compile(r"^ILT\s?J?(\d\d)(\d\d)(\d\d(?:\.\d+)?)([+-])(\d\d)(\d\d)(\d\d(?:\.\d+)?)$")


def parse_position(words: Sequence[str]) -> tuple[float, float]:
    """(ra, dec) in radians, ICRS, of the words of a command line.

    Two words: degrees, or hours and degrees with colons (``12:05:38.2 +49:49:56``), or the word
    ``object`` and a name that the Sesame service knows.  One word: a name like
    ``ILTJ120538.19+494956.1``.  Raises ConfigError for anything else, DataError when the service
    does not answer or knows no such object.
    """
    if len(words) == 1:
        return _parse_ilt(words[0])
    if len(words) != 2:
        raise ConfigError("give RA and DEC, an ILT name, or: object NAME")
    if words[0] == "object":
        return _resolve(words[1])
    ra, dec = (_angle(word) for word in words)
    if ":" in words[0] or "h" in words[0]:
        ra *= 15.0
    if not (0.0 <= ra <= 360.0 and -90.0 <= dec <= 90.0):
        raise ConfigError(f"{words[0]} {words[1]}: not a position on the sky")
    return ra * DEGREE, dec * DEGREE


def _parse_ilt(name: str) -> tuple[float, float]:
    match = _ILT.match(name)
    if not match:
        raise ConfigError(f"{name}: not a name like ILTJ120538.19+494956.1; give RA and DEC, or: "
                          "object NAME")
    hours, minutes, seconds = (float(v) for v in match.groups()[:3])
    degrees, arcmin, arcsec = (float(v) for v in match.groups()[4:])
    if hours >= 24 or max(minutes, seconds, arcmin, arcsec) >= 60 or degrees > 90:
        raise ConfigError(f"{name}: not a position on the sky")
    ra = 15.0 * (hours + minutes / 60.0 + seconds / 3600.0)
    dec = (degrees + arcmin / 60.0 + arcsec / 3600.0) * (-1.0 if match[4] == "-" else 1.0)
    return ra * DEGREE, dec * DEGREE


def _angle(word: str) -> float:
    """Degrees, or with colons or letters sexagesimal, in the unit of the first number."""
    parts = [p for p in re.split(r"[:hdms\s'\"]+", word) if p]
    try:
        values = [float(p) for p in parts]
        if not 1 <= len(values) <= 3 or any(not 0 <= v < 60 for v in values[1:]):
            raise ValueError
    except ValueError as err:
        raise ConfigError(f"{word}: not an angle; give degrees, or like 12:05:38.2") from err
    total = sum(abs(v) / 60.0**power for power, v in enumerate(values))
    return -total if word.strip().startswith("-") else total


def _resolve(name: str) -> tuple[float, float]:
    from astropy.coordinates import SkyCoord
    from astropy.coordinates.name_resolve import NameResolveError

    try:
        found = SkyCoord.from_name(name)
    except (NameResolveError, OSError) as err:
        raise DataError(f"object {name}: the Sesame service gives no position ({err}); give RA and "
                        "DEC.") from err
    return float(found.ra.rad), float(found.dec.rad)


def cut_out(image: Path, ra: float, dec: float, half_size: float, output: Path, *,
            cube: bool = False) -> tuple[int, int]:
    """Write the part of an image within `half_size` of a position on each side; returns (ny, nx).

    ra, dec: radians, ICRS; half_size: radians.  What lies beyond the edge is not padded.  cube:
    keep all planes and axes; else the first plane as a two-dimensional image.  Pixels are copied
    as they are.  Raises ImagingError when the image cannot be read, DataError when the position
    is not on it, ResourceError when the output cannot be written.
    """
    header, offset, dtype, shape = image_layout(image)
    wcs = celestial(header, image)
    rows, columns = _window(image, wcs, shape[-2:], (ra, dec), half_size)
    pixels = np.memmap(image, dtype, "r", offset, (math.prod(shape[:-2]), *shape[-2:]))
    planes = pixels if cube else pixels[:1]
    size = rows.stop - rows.start, columns.stop - columns.start
    new = _header(header, rows, columns, size, cube)
    try:
        with atomic_path(output) as part, open(part, "wb") as out:
            out.write(new.tostring().encode("ascii"))
            for plane in planes:
                out.write(np.ascontiguousarray(plane[rows, columns]).tobytes())
            out.write(b"\0" * (-out.tell() % _BLOCK))
    except OSError as err:
        raise ResourceError(f"{output}: cannot be written ({err}); check disk and permissions."
                            ) from err
    return size


def _window(image: Path, wcs, shape: tuple[int, int], where: tuple[float, float],
            half_size: float) -> tuple[slice, slice]:
    """Rows and columns within `half_size` radians of the pixel at a position, on the image."""
    from astropy.coordinates import SkyCoord

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        x, y = wcs.world_to_pixel(SkyCoord(*where, unit="rad", frame="icrs"))
    steps = np.sqrt((wcs.pixel_scale_matrix**2).sum(axis=0)) * DEGREE
    found = []
    for centre, size, step in ((float(y), shape[0], steps[1]), (float(x), shape[1], steps[0])):
        reach = half_size / step
        low = high = 0
        if math.isfinite(centre):
            middle, around = round(centre), round(reach)
            low, high = max(0, middle - around), min(size, middle + around + 1)
        if low >= high:
            raise DataError(f"{image}: nothing of it lies within {math.degrees(half_size):g} "
                            f"degrees of {math.degrees(where[0]):.5f} "
                            f"{math.degrees(where[1]):+.5f}.")
        found.append(slice(low, high))
    return found[0], found[1]


def _header(header, rows: slice, columns: slice, size: tuple[int, int], cube: bool):
    """The original header with the reference pixel moved; third and further axes only of cubes."""
    new = header.copy()
    new["NAXIS1"], new["NAXIS2"] = size[1], size[0]
    for axis, part in ((1, columns), (2, rows)):
        new[f"CRPIX{axis}"] = header.get(f"CRPIX{axis}", 0.0) - part.start
    if not cube:
        new["NAXIS"] = 2
        if "WCSAXES" in new:
            new["WCSAXES"] = 2
        frequency = _frequency(header)
        later = re.compile(r"^(NAXIS|CTYPE|CRVAL|CRPIX|CDELT|CUNIT|CROTA)[3-9]$"
                           r"|^(PC|CD|PV)0*([3-9]_\d+|\d_0*[3-9])$")
        for key in [k for k in new if later.match(k)]:
            new.remove(key, remove_all=True)
        if frequency is not None and "RESTFRQ" not in new:
            new["RESTFRQ"] = (frequency, "Hz")
    for key in ("EXTEND", "CHECKSUM", "DATASUM"):
        new.remove(key, ignore_missing=True)
    new.add_history("cut out by ddfpipe")
    return new


def _frequency(header) -> float | None:
    for axis in range(3, header["NAXIS"] + 1):
        if str(header.get(f"CTYPE{axis}", "")).upper().startswith("FREQ"):
            return float(header[f"CRVAL{axis}"])
    return None
