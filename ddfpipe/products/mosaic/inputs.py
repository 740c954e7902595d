"""The images of a mosaic, opened, checked against each other, and convolved if asked for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from ddfpipe.errors import DataError
from ddfpipe.products.beams import Beam, arcsec, common_circle, deconvolved_beam, same_beam
from ddfpipe.products.convolve import convolved_pair
from ddfpipe.products.mosaic.options import MosaicOptions
from ddfpipe.products.mosaic.pointing import Pointing, find_images, open_pointing
from ddfpipe.products.planes import Plane, open_plane
from ddfpipe.units import ARCSEC

_FREQUENCIES_ALIKE = 1e-2


def open_pointings(options: MosaicOptions, progress: Callable[[str, int, int], None]
                   ) -> tuple[list[Pointing], list[str]]:
    """All images of a mosaic and remarks for the user.

    Everything is looked at before the first is convolved.  Raises DataError when files are missing
    or beams or units differ, ImagingError when one cannot be read.
    """
    pairs = [find_images(Path(folder), options) for folder in options.directories]
    planes = [open_plane(intrinsic) for intrinsic, _ in pairs]
    remarks = _compare(planes, options)
    if options.convolve is not None:
        beam = options.convolve * ARCSEC, options.convolve * ARCSEC, 0.0
        _check_before_convolving(pairs, planes, beam, options)
        for done, pair in enumerate(pairs):
            progress("convolve", done, len(pairs))
            pairs[done] = convolved_pair(*pair, beam, options.workers)
        progress("convolve", len(pairs), len(pairs))
    pointings = []
    for number, pair in enumerate(pairs):
        progress("images", number, len(pairs))
        pointing, told = open_pointing(number, options, pair)
        pointings.append(pointing)
        remarks += told
    progress("images", len(pairs), len(pairs))
    return pointings, remarks


def _check_before_convolving(pairs: Sequence[tuple[Path, Path]], planes: Sequence[Plane],
                             beam: Beam, options: MosaicOptions) -> None:
    """Raise at once what would otherwise come up after the first images are convolved."""
    for plane in planes:
        if plane.beam is None:
            raise DataError(f"{plane.path}: no beam in its header, so it cannot be convolved; add "
                            "BMAJ, BMIN and BPA.")
        try:
            deconvolved_beam(beam, plane.beam)
        except DataError as err:
            raise DataError(f"{plane.path}: --convolve {options.convolve}: {err}") from err
    quick = replace(options, noise=None, find_noise=False, read_noise=False)
    for number, pair in enumerate(pairs):
        open_pointing(number, quick, pair)


def _compare(planes: Sequence[Plane], options: MosaicOptions) -> list[str]:
    """Refuse images whose fluxes cannot be averaged; remark on what is only unusual."""
    first, remarks = planes[0], []
    beams = [plane.beam for plane in planes]
    for plane, beam in zip(planes, beams):
        unit, wanted = (str(p.header.get("BUNIT", "")).strip().lower() for p in (plane, first))
        if unit != wanted:
            raise DataError(f"{plane.path}: unit {unit!r}, but {first.path} has {wanted!r}; only "
                            "images of one unit can be averaged.")
        alike = (beam is None) == (beams[0] is None) and (
            beam is None or same_beam(beam, beams[0]))
        if not alike and options.convolve is None:
            raise DataError(_differ(plane, first))
    found = [p.frequency for p in planes if p.frequency]
    if found and max(found) / min(found) - 1.0 > _FREQUENCIES_ALIKE:
        remarks.append(f"frequencies from {min(found) / 1e6:.1f} to {max(found) / 1e6:.1f} MHz are "
                       "averaged: fluxes of steep sources differ among the images")
    return remarks


def _differ(plane: Plane, first: Plane) -> str:
    if plane.beam is None or first.beam is None:
        lacking = plane if plane.beam is None else first
        return f"{lacking.path}: no beam in its header, but other images have one; add BMAJ ... BPA"
    least = common_circle([plane.beam, first.beam])[0] / ARCSEC
    return (f"{plane.path}: beam {arcsec(plane.beam)}, but {first.path} has {arcsec(first.beam)}; "
            f"convolve all to one: --convolve {least:.2f} or more")
