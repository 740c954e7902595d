"""An image's catalogue against another survey: positions and fluxes.

Sources of a coarser survey are compared with all that the image shows within half its beam, since a
sharp image splits what a coarse one does not: one by one, LoTSS components against NVSS give a
ratio of fluxes two to three times off.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ddfpipe.data.surveys import SurveyCatalogue, catalogue_of_table
from ddfpipe.products.crossmatch import (
    Pairs, chord, group_by, isolated, match, nearest, separations, tangent_offsets, unit_vectors,
)
from ddfpipe.products.quality.statistics import (
    binned_medians, bootstrap_median, finite, spread,
)
from ddfpipe.units import ARCSEC, DEGREE

if TYPE_CHECKING:
    from astropy.table import Table

SURVEYS: dict[str, tuple[float | None, float, float | None]] = {
    "TGSS": (147.5, 25.0, None), "NVSS": (1400.0, 45.0, 0.03), "FIRST": (1400.0, 5.4, None),
    "WENSS": (325.0, 54.0, None), "VLSSR": (73.8, 75.0, None), "LOTSS": (144.0, 6.0, None),
    "GLEAM": (200.0, 120.0, None), "RACS": (887.5, 25.0, None), "VLASS": (3000.0, 2.5, None),
    "SUMSS": (843.0, 45.0, None), "LOLSS": (54.0, 15.0, None), "APERTIF": (1355.0, 15.0, None),
    "PANSTARRS": (None, 0.0, None), "GAIA": (None, 0.0, None), "WISE": (None, 0.0, None),
    "ALLWISE": (None, 0.0, None), "LEGACY": (None, 0.0, None), "2MASS": (None, 0.0, None),
}
"""Frequency in MHz (None: optical or infrared), beam in arcsec, least flux in Jy that is compared
(NVSS: 30 mJy as LoTSS-DR2 does, Shimwell et al. 2022, A&A 659, A1)."""

COARSE = 2.0
"""A survey is coarser than the image if its beam is so many times as wide."""
CHANCE_SHIFTS = 8


@dataclass(frozen=True)
class Comparison:
    """How to compare with one catalogue; angles radians, fluxes Jy, frequencies Hz.

    radius: of the match.  beam: of the survey.  frequency: of the survey, None for one without
    radio fluxes, 0 where it is not known (fluxes are then compared as they are).  min_flux: of
    the survey's sources compared in flux.  max_size: greatest FWHM of the survey's sources (None:
    any).  isolation: sources with another one so near are left out.  field: sources farther from
    the image's centre are left out.  compact: greatest deconvolved FWHM of sources whose positions
    are compared.  index: spectral index alpha, S ~ nu^alpha, that links the frequencies.
    """

    name: str
    radius: float
    beam: float
    frequency: float | None
    image_frequency: float
    min_flux: float = 0.0
    max_size: float | None = None
    isolation: float = 30.0 * ARCSEC
    field: float = 3.0 * DEGREE
    compact: float = 10.0 * ARCSEC
    index: float = -0.7
    samples: int = 1000
    min_matches: int = 10

    @property
    def scale(self) -> float:
        """What a flux of the survey is multiplied with to be one at the image's frequency."""
        if not self.frequency or not self.image_frequency:
            return 1.0
        return (self.image_frequency / self.frequency) ** self.index


@dataclass(frozen=True)
class Matched:
    """Pairs of a comparison; arrays (n,).

    row: row of the image's catalogue (of the brightest component of a group); east, north:
    position in the image minus that in the survey, radians; ratio: flux in the image over that of
    the survey at the image's frequency; flux: the survey's at the image's frequency, Jy; good:
    passes the cuts for positions; fair: passes those for fluxes; radius: from the centre, radians.
    """

    row: np.ndarray
    other: np.ndarray
    separation: np.ndarray
    east: np.ndarray
    north: np.ndarray
    ratio: np.ndarray
    flux: np.ndarray
    good: np.ndarray
    fair: np.ndarray
    radius: np.ndarray


def compare(table: Table, survey: SurveyCatalogue, how: Comparison, beam: float,
            centre: tuple[float, float]) -> Matched:
    """Match the image's catalogue (PyBDSF columns) with a survey.

    beam: of the image, FWHM radians.  centre: (ra, dec) of the image.
    """
    ours = catalogue_of_table(table, where="catalogue of the image")
    near = separations(survey.ra, survey.dec, *centre) <= how.field
    if how.max_size is not None:
        near &= ~(survey.major > how.max_size)
    survey_rows = np.flatnonzero(near)
    survey = survey.select(survey_rows)
    inside = np.flatnonzero(separations(ours.ra, ours.dec, *centre) <= how.field)
    coarse = how.beam > COARSE * beam
    if coarse:
        rows, seen = _brightest(ours.select(inside), survey, how.beam / 2)
        rows = inside[rows]
    else:
        rows, seen = inside, ours.select(inside)
    pairs = match(seen.ra, seen.dec, survey.ra, survey.dec, how.radius, unambiguous=not coarse)
    return _measured(table, seen, rows, survey, survey_rows, pairs, how, coarse, centre)


def _brightest(ours: SurveyCatalogue, survey: SurveyCatalogue, radius: float
               ) -> tuple[np.ndarray, SurveyCatalogue]:
    """(row of the brightest component of each group, the groups) as a coarser survey sees them."""
    grouped = group_by(ours, survey, radius)
    index, distance = nearest(ours.ra, ours.dec, survey.ra, survey.dec)
    near = np.flatnonzero(distance <= radius)
    order = near[np.lexsort((-np.nan_to_num(ours.flux[near]), index[near]))]
    _, first = np.unique(index[order], return_index=True)
    return order[first], grouped


def _measured(table: Table, seen: SurveyCatalogue, rows: np.ndarray, survey: SurveyCatalogue,
              survey_rows: np.ndarray, pairs: Pairs, how: Comparison, coarse: bool,
              centre: tuple[float, float]) -> Matched:
    one, two = seen.select(pairs.first), survey.select(pairs.second)
    row = rows[pairs.first]
    east, north = tangent_offsets(one.ra, one.dec, two.ra, two.dec)
    flux = two.flux * how.scale
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.where(flux > 0.0, one.flux / flux, np.nan)
    # Another source of the survey nearby would share what the image shows here.
    other_alone = _isolated_but_self(two, survey, max(how.isolation, how.beam if coarse else 0.0))
    ours = catalogue_of_table(table, where="catalogue of the image")
    alone = isolated(ours.ra, ours.dec, how.isolation)[row]
    small = np.asarray(table["DC_Maj"], float)[row] * DEGREE <= how.compact
    simple = np.array([str(code).strip() == "S" for code in table["S_Code"]])[row]
    optical = how.frequency is None
    good = simple & small & (alone | coarse) & (other_alone | optical)
    fair = np.isfinite(ratio) & (two.flux >= how.min_flux) & other_alone & (
        coarse | (alone & small))
    return Matched(row, survey_rows[pairs.second], pairs.separation, east, north, ratio, flux,
                   good, fair, separations(one.ra, one.dec, *centre))


def _isolated_but_self(some: SurveyCatalogue, survey: SurveyCatalogue, radius: float
                       ) -> np.ndarray:
    """True where `survey`, which holds `some`, has no second source within `radius`."""
    from scipy.spatial import cKDTree

    if some.size == 0:
        return np.zeros(0, bool)
    tree = cKDTree(unit_vectors(survey.ra, survey.dec))
    return tree.query_ball_point(unit_vectors(some.ra, some.dec), chord(radius),
                                 return_length=True) <= 1


def figures_of(matched: Matched, how: Comparison, facets: np.ndarray | None,
               n_survey: int, chance: float) -> dict:
    """Figures of a comparison as JSON values.

    facets: (rows of the catalogue,) numbers of facets, or None.  chance: fraction of the pairs
    that is expected by chance.  Offsets are in arcsec, image minus survey.
    """
    good, fair = matched.good, matched.fair
    east, north = matched.east / ARCSEC, matched.north / ARCSEC
    figures: dict = {
        "catalogue_sources": int(n_survey), "matches": int(matched.row.size),
        "position_matches": int(good.sum()), "flux_matches": int(fair.sum()),
        "chance_fraction": finite(chance), "radius_arcsec": how.radius / ARCSEC,
        "min_matches": how.min_matches,
        "enough_positions": bool(good.sum() >= how.min_matches),
        "enough_fluxes": bool(fair.sum() >= how.min_matches),
        "offset_ra_arcsec": bootstrap_median(east[good], how.samples).plain(),
        "offset_dec_arcsec": bootstrap_median(north[good], how.samples).plain(),
        "mean_offset_arcsec": [finite(v[good].mean()) if good.any() else None
                               for v in (east, north)],
        "scatter_arcsec": [finite(spread(v[good])) for v in (east, north)],
    }
    if facets is not None:
        figures["facets"] = _by_facet(east[good], north[good], facets[matched.row[good]],
                                      how.samples)
    if how.frequency is not None:
        figures.update(
            frequency_mhz=how.frequency / 1e6 if how.frequency else None,
            spectral_index=how.index if how.frequency else None,
            flux_ratio=bootstrap_median(matched.ratio[fair], how.samples).plain(),
            flux_ratio_scatter=finite(spread(matched.ratio[fair])),
            flux_ratio_by_radius=binned_medians(
                matched.radius[fair] / DEGREE, matched.ratio[fair],
                radius_bins(matched.radius[fair] / DEGREE)),
        )
    return figures


def _by_facet(east: np.ndarray, north: np.ndarray, number: np.ndarray, samples: int) -> list[dict]:
    rows = []
    for k in np.unique(number[number >= 0]):
        inside = number == k
        rows.append({"facet": int(k), "n": int(inside.sum()),
                     "ra": bootstrap_median(east[inside], samples).plain(),
                     "dec": bootstrap_median(north[inside], samples).plain()})
    return rows


def radius_bins(radius: np.ndarray, count: int = 6) -> np.ndarray:
    """Edges of annuli of equal area out to the farthest source."""
    most = float(np.nanmax(radius)) if np.isfinite(radius).any() else 1.0
    return most * 1.0001 * np.sqrt(np.linspace(0.0, 1.0, count + 1))


def chance_fraction(table: Table, survey: SurveyCatalogue, how: Comparison, beam: float,
                    centre: tuple[float, float], found: int) -> float:
    """Fraction of `found` pairs that a survey without relation to the image would give.

    The survey is shifted by ten radii (or two of its own or the image's beams) in eight
    directions, and matched each time.
    """
    if found == 0 or survey.size == 0:
        return math.nan
    step = max(10.0 * how.radius, 2.0 * how.beam, 2.0 * beam)
    total = 0
    for angle in 2.0 * np.pi * np.arange(CHANCE_SHIFTS) / CHANCE_SHIFTS:
        dec = np.clip(survey.dec + step * np.cos(angle), -np.pi / 2, np.pi / 2)
        ra = survey.ra + step * np.sin(angle) / np.maximum(np.cos(dec), 1e-3)
        moved = SurveyCatalogue(**{**survey.__dict__, "ra": ra, "dec": dec})
        total += compare(table, moved, how, beam, centre).row.size
    return total / CHANCE_SHIFTS / found


def size_figures(table: Table, centre: tuple[float, float], isolation: float, min_snr: float
                 ) -> dict:
    """Total over peak flux of isolated single sources against distance from the centre.

    Time and bandwidth smearing, and phase errors, lower peaks and leave total fluxes.  Returns
    {median, n, by_radius: [{low, high (deg), value, error, n}], points: [[deg, ratio], ...]}.
    """
    ours = catalogue_of_table(table, where="catalogue of the image")
    simple = np.array([str(code).strip() == "S" for code in table["S_Code"]])
    with np.errstate(divide="ignore", invalid="ignore"):
        snr = np.asarray(table["Peak_flux"]) / np.asarray(table["Isl_rms"])
        ratio = ours.flux / ours.peak
    use = simple & isolated(ours.ra, ours.dec, isolation) & (snr >= min_snr) & np.isfinite(ratio)
    radius = separations(ours.ra, ours.dec, *centre)[use] / DEGREE
    ratio = ratio[use]
    return {
        **bootstrap_median(ratio).plain(), "min_snr": min_snr,
        "by_radius": binned_medians(radius, ratio, radius_bins(radius)) if ratio.size else [],
        "points": [[float(a), float(b)] for a, b in zip(radius, ratio)],
    }
