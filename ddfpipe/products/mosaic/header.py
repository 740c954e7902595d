"""Headers of mosaics."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from ddfpipe import __version__
from ddfpipe.data.images import STOKES_CODE
from ddfpipe.products.mosaic.layout import Layout
from ddfpipe.products.mosaic.options import MosaicOptions
from ddfpipe.products.mosaic.pointing import Pointing
from ddfpipe.units import DEGREE

if TYPE_CHECKING:
    from astropy.io.fits import Header


def mosaic_header(layout: Layout, pointings: Sequence[Pointing],
                  options: MosaicOptions) -> Header:
    """Grid, unit, beam, mean frequency and origin of a mosaic."""
    header = _header(layout, pointings, options)
    first = pointings[0].intrinsic
    header["BUNIT"] = str(first.header.get("BUNIT", "Jy/beam"))
    header["BTYPE"] = "Intensity"
    if first.beam is not None:
        for key, value in zip(("BMAJ", "BMIN", "BPA"), first.beam):
            header[key] = value / DEGREE
    return header


def weights_header(layout: Layout, pointings: Sequence[Pointing],
                   options: MosaicOptions) -> Header:
    """The same for the sum of weights."""
    header = _header(layout, pointings, options)
    if all(p.noise is not None for p in pointings):
        header["BUNIT"] = ("(Jy/beam)-2", "inverse variance")
    header["BTYPE"] = "Weight"
    return header


def coverage_header(layout: Layout, pointings: Sequence[Pointing],
                    options: MosaicOptions) -> Header:
    """The same for the number of images in each pixel."""
    header = _header(layout, pointings, options)
    header["BTYPE"] = "Coverage"
    return header


def _header(layout: Layout, pointings: Sequence[Pointing], options: MosaicOptions) -> Header:
    header = layout.header.copy()
    frequencies = [f for f in (p.intrinsic.frequency for p in pointings) if f is not None]
    if frequencies:
        header["RESTFRQ"] = (float(np.mean(frequencies)), "Hz, mean of the images")
        header["SPECSYS"] = str(pointings[0].intrinsic.header.get("SPECSYS", "TOPOCENT"))
    if options.four_axes:
        _add_axes(header, "V" if options.do_stokesV else "I", header.get("RESTFRQ", 0.0))
    header["ORIGIN"] = f"ddfpipe {__version__}"
    header.add_history(f"mosaic of {len(pointings)} images, weights (beam/noise)^2, beam above "
                       f"{options.beamcut}, {options.regridding}")
    for pointing in pointings:
        header.add_history(_describe(pointing))
    return header


def _describe(pointing: Pointing) -> str:
    text = f"{pointing.name}/{pointing.intrinsic.path.name}"
    if isinstance(pointing.noise, float):
        text += f" noise {pointing.noise:.4g} Jy/beam"
    elif pointing.noise is not None:
        text += f" noise {pointing.noise.path.name}"
    if pointing.scale != 1.0:
        text += f" scale {pointing.scale:.6g}"
    if pointing.factor is not None:
        text += f" factors {pointing.factor.path.name}"
    if pointing.keep is not None:
        text += f" central {pointing.keep} pixels"
    if pointing.astrometry is not None:
        text += f" astrometry within {pointing.astrometry.limit:g} arcsec"
    if pointing.facets is not None:
        text += f" {int(pointing.facets.used.sum())} facets"
        if pointing.facets.shift.any():
            text += " shifted"
    return text


def _add_axes(header: Header, stokes: str, frequency: float) -> None:
    """Axes STOKES and FREQ of length one, as images of a run have them."""
    header["NAXIS"], header["WCSAXES"] = 4, 4
    header["NAXIS3"], header["NAXIS4"] = 1, 1
    axes = ((3, "STOKES", float(STOKES_CODE[stokes]), ""), (4, "FREQ", float(frequency), "Hz"))
    for axis, name, value, unit in axes:
        header[f"CTYPE{axis}"] = name
        header[f"CRVAL{axis}"] = value
        header[f"CRPIX{axis}"] = 1.0
        header[f"CDELT{axis}"] = 1.0
        header[f"CUNIT{axis}"] = unit
