"""Compressed copies of FITS images: fpack's format, read back before anything relies on them.

Images are quantised in steps of a part of their noise with subtractive dithering and Rice coded,
tile by tile (Pence et al. 2010, PASP 122, 1065); tables go along as they are.  The program is fpack
of CFITSIO (Debian package libcfitsio-bin).  Without it astropy writes the same format, but holds a
whole image in memory.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np

from ddfpipe.data import atomic
from ddfpipe.errors import ImagingError
from ddfpipe.imaging.noise import robust_noise

PROGRAM = "fpack"
ASTROPY_COPIES = 4
"""Times the size of an image that astropy needs in memory to compress it."""
_POLL = 0.2
_STRUCTURE = {
    "SIMPLE", "XTENSION", "BITPIX", "NAXIS", "EXTEND", "PCOUNT", "GCOUNT", "CHECKSUM", "DATASUM",
    "EXTNAME", "COMMENT", "HISTORY", "",
}


def fpack_program() -> str | None:
    """Path of fpack; None if it is not installed."""
    return shutil.which(PROGRAM)


def compress(source: Path, target: Path, quantisation: int,
             check: Callable[[], None] = lambda: None) -> str:
    """Write `target`, the compressed copy of `source`; it appears once it was read back well.

    quantisation: steps that a standard deviation of the noise is divided into; 0 loses nothing.
    check: is called now and then and may raise to stop.  Returns the program's name.
    Raises ImagingError when the copy cannot be written or is not that of the image.
    """
    program = fpack_program()
    folder = atomic.temporary_name(target)
    try:
        folder.mkdir()
        part = folder / "image.fits.fz"
        if program is not None:
            _with_fpack(program, source, part, quantisation, check)
        else:
            _with_astropy(source, part, quantisation)
        verify(source, part, quantisation, check)
        atomic.fsync(part)
        atomic.replace(part, target)
    except OSError as error:
        raise ImagingError(
            f"{target}: cannot be written ({error.strerror or error}); check disk and permissions"
        ) from error
    finally:
        atomic.remove(folder)
    return PROGRAM if program is not None else "astropy"


def _with_fpack(program: str, source: Path, part: Path, quantisation: int,
                check: Callable[[], None]) -> None:
    """Run fpack on a link beside `part`: it puts its output beside its input."""
    link = part.with_suffix("")
    os.symlink(source.absolute(), link)
    lossless = ["-g2"] if quantisation == 0 else []
    command = [program, *lossless, "-q", str(quantisation), str(link)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          text=True) as process:
        try:
            while process.poll() is None:
                check()
                time.sleep(_POLL)
        except BaseException:
            process.kill()
            raise
        said = process.stdout.read().strip()
    if process.returncode or not part.exists():
        raise ImagingError(
            f"{source}: {PROGRAM} ended with code {process.returncode} ({said or 'no message'}); "
            "check the free space, or switch [compression] compress_polcubes off"
        )


def _with_astropy(source: Path, part: Path, quantisation: int) -> None:
    from astropy.io import fits

    how = dict(compression_type="RICE_1", quantize_level=float(quantisation), quantize_method=1,
               dither_seed=1)
    if quantisation == 0:
        how = dict(compression_type="GZIP_2", quantize_level=0.0)
    with fits.open(source, memmap=True) as hdus:
        data = np.asarray(hdus[0].data, np.float32)
        image = fits.CompImageHDU(data, hdus[0].header, **how)
        packed = fits.HDUList([fits.PrimaryHDU(), image, *hdus[1:]])
        packed.writeto(part, checksum=True)


def astropy_memory(size: int) -> int:
    """Bytes of memory that compressing a file of `size` bytes takes without fpack."""
    return ASTROPY_COPIES * size


def verify(source: Path, packed: Path, quantisation: int,
           check: Callable[[], None] = lambda: None) -> None:
    """Raise ImagingError unless `packed` gives back the image and the tables of `source`.

    Every plane is read: values may differ by the quantisation, and blanks must be the same ones.
    """
    from astropy.io import fits

    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*[Cc]hecksum.*")
        warnings.filterwarnings("error", message=".*[Dd]atasum.*")
        try:
            with fits.open(source, memmap=True) as old, fits.open(
                packed, memmap=True, checksum=True
            ) as new:
                _compare_headers(old[0].header, new[1].header, packed)
                _compare_planes(old[0], new[1], quantisation, packed, check)
                _compare_tables(old[1:], new[2:], packed)
        except (OSError, ValueError, TypeError, RuntimeError, IndexError, Warning) as error:
            raise ImagingError(f"{packed}: the compressed copy cannot be read back ({error})") \
                from error


def _compare_headers(old, new, packed: Path) -> None:
    for key in old:
        if key in _STRUCTURE:
            continue
        if key not in new or new[key] != old[key]:
            raise ImagingError(
                f"{packed}: the compressed copy has {key}={new.get(key)!r}, not {old[key]!r}"
            )


def _compare_planes(old, new, quantisation: int, packed: Path, check) -> None:
    shape = old.shape
    if tuple(new.shape) != tuple(shape):
        raise ImagingError(f"{packed}: {new.shape} values instead of {shape}")
    for number in np.ndindex(shape[:-2]):
        check()
        before = np.asarray(old.section[number], np.float32)
        after = np.asarray(new.section[number], np.float32)
        good = np.isfinite(before)
        if not np.array_equal(good, np.isfinite(after)):
            raise ImagingError(f"{packed}: other blanks in plane {number}")
        if not good.any():
            continue
        error = float(np.sqrt(np.mean((after[good] - before[good]) ** 2, dtype=np.float64)))
        # uniform in a step of noise / q; the noise that fpack sees, between neighbouring pixels,
        # is smaller than that of the plane
        allowed = robust_noise(before) / quantisation if quantisation else 0.0
        if not error <= allowed:
            raise ImagingError(
                f"{packed}: plane {number} differs by {error:.3g} from the original, {allowed:.3g} "
                "are due to the compression: it is kept uncompressed; try again, or raise "
                "[compression] fpack_q"
            )


def _compare_tables(old, new, packed: Path) -> None:
    if len(old) != len(new):
        raise ImagingError(f"{packed}: {len(new)} tables instead of {len(old)}")
    for before, after in zip(old, new):
        same = before.name == after.name and before.columns.names == after.columns.names
        if not same or before.data.tobytes() != after.data.tobytes():
            raise ImagingError(f"{packed}: table {before.name} is not that of the original")
