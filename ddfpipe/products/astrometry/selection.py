"""Which sources of an image are good for astrometry: compact, alone, and measured well.

Time and bandwidth smearing make sources wider with their distance from the phase centre, and noise
scatters the ratio of integrated to peak flux the more the fainter a source is.  Noise scatters
both ways, resolved sources only upwards; so the lower half of the distribution, mirrored, is that
of point sources (Bondi et al. 2008, ApJ 681, 1129).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ddfpipe.data.images import SkyGrid
from ddfpipe.errors import DataError
from ddfpipe.products.crossmatch import isolated
from ddfpipe.units import ARCSEC, DEGREE

if TYPE_CHECKING:
    from astropy.table import Table

LARGEST_ERROR = 2.0 * ARCSEC
LEAST_SNR = 5.0
BEAMS = 2.0
"""Longest source, in beams."""
NEIGHBOURS = 15.0 * ARCSEC
"""Sources with another one this near may be parts of one object."""
ENVELOPE = 3.0
"""Compact sources lie within this many standard deviations of the median flux ratio."""
BRIGHT_SNR = 20.0
"""Sources that show the smearing."""
LEAST_FOR_SHAPE = 30
"""So many sources are needed to measure a median or a scatter."""
SOURCE_COLUMNS = ("RA", "DEC", "E_RA", "E_DEC", "Total_flux", "Peak_flux", "Isl_rms", "Maj",
                  "S_Code")


@dataclass(frozen=True)
class Selection:
    """Result of the cuts; arrays (sources,) unless said otherwise.

    ra, dec, error: radians (error on one axis).  snr: peak over local noise.  radius: radians from
    the phase centre.  log_ratio: ln of integrated over peak flux, less the smearing.  limit: what
    it may be for a compact source.  kept: the sources to use.  removed: how many each cut removed.
    """

    ra: np.ndarray
    dec: np.ndarray
    error: np.ndarray
    snr: np.ndarray
    radius: np.ndarray
    log_ratio: np.ndarray
    limit: np.ndarray
    kept: np.ndarray
    removed: dict[str, int]


def select_sources(table: Table, grid: SkyGrid, beam: float) -> Selection:
    """Choose sources of a PyBDSF catalogue; beam: major axis (FWHM) in radians.

    Raises DataError when the table lacks columns.
    """
    lacking = [name for name in SOURCE_COLUMNS if name not in table.colnames]
    if lacking:
        raise DataError(f"the source catalogue lacks {', '.join(lacking)}; it must be PyBDSF's.")
    get = {name: np.asarray(table[name], float) for name in SOURCE_COLUMNS[:-1]}
    ra, dec = get["RA"] * DEGREE, get["DEC"] * DEGREE
    snr = get["Peak_flux"] / np.maximum(get["Isl_rms"], 1e-30)
    e_ra, e_dec = get["E_RA"] * DEGREE, get["E_DEC"] * DEGREE
    cuts = {
        "multiple": np.char.strip(np.asarray(table["S_Code"], str)) == "S",
        "position_error": (e_ra < LARGEST_ERROR) & (e_dec < LARGEST_ERROR) & (e_ra > 0.0),
        "faint": snr >= LEAST_SNR,
        "long": get["Maj"] * DEGREE <= BEAMS * beam,
        "crowded": isolated(ra, dec, NEIGHBOURS),
    }
    kept, removed = np.ones(len(table), bool), {}
    for name, good in cuts.items():
        removed[name] = int(np.count_nonzero(kept & ~good))
        kept &= good
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.log(get["Total_flux"] / get["Peak_flux"])
    radius = np.hypot(*grid.lm_of(ra, dec))
    usable = kept & np.isfinite(ratio)
    ratio = ratio - smearing(ratio, radius, usable & (snr >= BRIGHT_SNR))
    limit = envelope(ratio, snr, usable)
    compact = usable & (abs(ratio) <= limit)
    removed["resolved"] = int(np.count_nonzero(kept & ~compact))
    error = np.sqrt(0.5 * (e_ra**2 + e_dec**2))
    return Selection(ra, dec, error, snr, radius, ratio, limit, compact, removed)


def smearing(ratio: np.ndarray, radius: np.ndarray, bright: np.ndarray) -> np.ndarray:
    """(n,) usual ln of integrated over peak flux at each radius: a + b radius^2.

    From medians of the `bright` (n,) ones in rings of equally many; with few of them a constant,
    with none zero.
    """
    count = int(bright.sum())
    if count == 0:
        return np.zeros(ratio.size)
    rings = min(6, count // LEAST_FOR_SHAPE)
    if rings < 2:
        return np.full(ratio.size, np.median(ratio[bright]))
    order = np.flatnonzero(bright)[np.argsort(radius[bright])]
    parts = np.array_split(order, rings)
    x = np.array([np.median(radius[part] ** 2) for part in parts])
    y = np.array([np.median(ratio[part]) for part in parts])
    slope, constant = np.polyfit(x, y, 1)
    return constant + max(0.0, slope) * radius**2


def envelope(ratio: np.ndarray, snr: np.ndarray, usable: np.ndarray) -> np.ndarray:
    """(n,) largest |ratio| of a compact source: ENVELOPE sqrt(a^2 + (b / snr)^2).

    a and b from the scatter below zero in groups of equal signal to noise.
    """
    below = usable & (ratio < 0.0)
    groups = min(8, int(below.sum()) // LEAST_FOR_SHAPE)
    if groups < 2:
        # What noise alone does to the ratio of a point source (Condon 1997, PASP 109, 166).
        return ENVELOPE * np.hypot(0.05, 1.4 / np.maximum(snr, 1e-30))
    order = np.flatnonzero(below)[np.argsort(snr[below])]
    parts = np.array_split(order, groups)
    x = np.array([np.median(snr[part]) ** -2.0 for part in parts])
    # The root mean square about zero, in the form that single outliers do not change.
    y = np.array([(1.4826 * np.median(abs(ratio[part]))) ** 2 for part in parts])
    slope, constant = np.polyfit(x, y, 1, w=1.0 / np.maximum(y, 1e-12))
    floor = max(float(y.min()) * 0.25, 1e-4)
    return ENVELOPE * np.sqrt(np.maximum(constant + max(0.0, slope) * snr**-2.0, floor))
