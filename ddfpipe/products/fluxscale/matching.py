"""Reference sources: bright and isolated in our image, and one source in every group of surveys.

The selection is that of the LoTSS pipeline (Hardcastle et al. 2016, MNRAS 462, 1910; Shimwell et
al. 2019, A&A 622, A1).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ddfpipe.data.surveys import SurveyCatalogue, read_survey
from ddfpipe.errors import DataError, StageFailed
from ddfpipe.products.crossmatch import isolated, match, nearest, separations
from ddfpipe.products.fluxscale.fit import LEAST_SNR, TYPICAL_INDEX
from ddfpipe.products.fluxscale.spectra import SourceSpectra
from ddfpipe.units import ARCSEC, DEGREE

MAX_DISTANCE = 2.5 * DEGREE
"""Sources farther from the phase centre are not used: the beam is known less well there."""
MIN_FLUX = 0.15
"""Jy, least flux of a source in our image."""
ISOLATION = 100.0 * ARCSEC
"""No other source of our image lies within this."""
SAME_SOURCE = 20.0 * ARCSEC
SAME_HZ = 0.01
"""Fraction by which frequencies must differ to tell a slope."""


@dataclass(frozen=True)
class Reference:
    """A survey that is trusted.  radius_arcsec: of a match; group: a source is in one of each."""

    path: Path
    name: str
    frequency: float
    radius_arcsec: float = 10.0
    group: str = ""


@dataclass(frozen=True)
class Coverage:
    """What surveys hold of a field.

    counts: usable sources of each.  common: how many sources of the first group are in every
    group and should be bright enough.  radius: of the field, rad.
    """

    references: tuple[Reference, ...]
    counts: tuple[int, ...]
    common: int
    radius: float

    def text(self) -> str:
        """One sentence."""
        words = ", ".join(f"{ref.name} {count or 'none'}"
                          for ref, count in zip(self.references, self.counts))
        return (f"sources within {self.radius / DEGREE:.2g} deg of the phase centre: {words}; "
                f"{self.common} of them are in every group of catalogues")

    def trouble(self, least: int) -> str:
        """Why the surveys cannot serve, or nothing; `least` sources are needed."""
        if self.common >= least:
            return ""
        empty = [ref for ref, count in zip(self.references, self.counts) if count == 0]
        blame = "; ".join(f"{ref.path} ({ref.name}) has none here" for ref in empty)
        return (
            f"[bootstrap] catalogues: {self.text()}, but {least} are needed (min_sources)"
            f"{': ' + blame if blame else ''}. " + REMEDY
        )


REMEDY = (
    "Choose catalogues that cover this field, put catalogues of which one is enough into one group "
    "([bootstrap] groups), widen [bootstrap] radii, or go on without: [bootstrap] "
    "on_failure=unscaled, or [control] bootstrap=False"
)


def groups(references: Sequence[Reference]) -> dict[str, list[int]]:
    """Numbers of the references of each group."""
    found: dict[str, list[int]] = {}
    for number, ref in enumerate(references):
        found.setdefault(ref.group or f"\0{number}", []).append(number)
    return found


def field_catalogues(references: Sequence[Reference], centre: tuple[float, float],
                     radius: float = MAX_DISTANCE,
                     notes: list[str] | None = None) -> list[SurveyCatalogue]:
    """The surveys' sources within `radius` rad of `centre` (ra, dec) rad with a usable flux.

    Raises DataError for a file that cannot be read or lacks fluxes or their errors.
    """
    found = []
    for ref in references:
        survey = read_survey(ref.path, frequency=ref.frequency, notes=notes)
        if survey.size and (np.isnan(survey.flux).all() or np.isnan(survey.flux_error).all()):
            raise DataError(f"{ref.path}: has no column of total fluxes and of their errors "
                            "(Total_flux, E_Total_flux); [bootstrap] catalogues need both")
        away = separations(survey.ra, survey.dec, *centre)
        with np.errstate(invalid="ignore"):
            good = (survey.flux_error > 0) & (survey.flux > LEAST_SNR * survey.flux_error)
        found.append(survey.select((away <= radius) & good))
    return found


def coverage(references: Sequence[Reference], centre: tuple[float, float],
             radius: float = MAX_DISTANCE) -> Coverage:
    """How many reference sources a field can have, from the surveys alone.

    A source of the first group counts if every other group has one within the sum of the radii,
    and a power law through their fluxes (a typical one through a single flux) is above MIN_FLUX at
    144 MHz.
    """
    radius = min(radius, MAX_DISTANCE)
    surveys = field_catalogues(references, centre, radius)
    first, *others = groups(references).values()
    common, used = 0, np.zeros((0, 2))
    for number in first:
        survey, seen = surveys[number], np.ones(surveys[number].size, bool)
        points = [[(survey.frequency[i], survey.flux[i])] for i in range(survey.size)]
        for members in others:
            hit = np.zeros(survey.size, bool)
            for k in members:
                reach = (references[number].radius_arcsec + references[k].radius_arcsec) * ARCSEC
                index, distance = nearest(survey.ra, survey.dec, surveys[k].ra, surveys[k].dec)
                near = distance <= reach
                for i in np.flatnonzero(near):
                    points[i].append((surveys[k].frequency[index[i]], surveys[k].flux[index[i]]))
                hit |= near
            seen &= hit
        seen &= np.array([_flux_at(p, 144e6) > MIN_FLUX for p in points], bool)
        if len(used):  # a source that another survey of the first group has too counts once
            seen &= nearest(survey.ra, survey.dec, *used.T)[1] > SAME_SOURCE
        used = np.vstack([used, np.stack([survey.ra, survey.dec], -1)[seen]])
        common += int(seen.sum())
    return Coverage(tuple(references), tuple(s.size for s in surveys), common, radius)


def _flux_at(points: list[tuple[float, float]], frequency: float) -> float:
    """Flux at a frequency in Hz by a power law through (Hz, Jy) points."""
    x, y = np.log(np.array(points)).T
    if np.ptp(x) < SAME_HZ:
        return float(np.exp(y.mean() + TYPICAL_INDEX * (np.log(frequency) - x.mean())))
    slope, level = np.polyfit(x - np.log(frequency), y, 1)
    return float(np.exp(level))


@dataclass(frozen=True)
class Matched:
    """Sources of an image that surveys know too.

    index: (n,) of the sources.  surveys: SourceSpectra of the surveys alone.  steps: (what, how
    many were left) of the selection.
    """

    index: np.ndarray
    surveys: SourceSpectra
    steps: tuple[tuple[str, int], ...]

    def text(self) -> str:
        """How many sources each step left."""
        return ", ".join(f"{what}: {count}" for what, count in self.steps)


def match_sources(ra: np.ndarray, dec: np.ndarray, flux: np.ndarray, centre: tuple[float, float],
                  references: Sequence[Reference], surveys: Sequence[SurveyCatalogue],
                  least: int = 1) -> Matched:
    """Select sources of an image and find them in surveys.

    ra, dec, flux: (n,) rad and Jy of all sources found.  surveys: of `field_catalogues`.
    least: fewer are a StageFailed, whose message tells the count after each step.
    """
    near = separations(ra, dec, *centre) <= MAX_DISTANCE
    bright = near & (flux > MIN_FLUX)
    chosen = np.flatnonzero(bright & isolated(ra, dec, ISOLATION))
    steps = [("found", len(ra)), (f"within {MAX_DISTANCE / DEGREE:g} deg", int(near.sum())),
             (f"above {MIN_FLUX:g} Jy", int(bright.sum())),
             (f"alone within {ISOLATION / ARCSEC:.0f} arcsec", len(chosen))]
    values = np.full((2, len(chosen), len(references)), np.nan)
    for k, (ref, survey) in enumerate(zip(references, surveys)):
        pairs = match(ra[chosen], dec[chosen], survey.ra, survey.dec,
                      ref.radius_arcsec * ARCSEC, unambiguous=True)
        values[0, pairs.first, k] = survey.flux[pairs.second]
        values[1, pairs.first, k] = survey.flux_error[pairs.second]
        steps.append((f"in {ref.name}", pairs.size))
    known = np.isfinite(values[0])
    whole = np.ones(len(chosen), bool)
    for members in groups(references).values():
        whole &= known[:, members].any(axis=1)
    steps.append(("in every group", int(whole.sum())))
    matched = Matched(chosen[whole], SourceSpectra(
        ra[chosen[whole]], dec[chosen[whole]], tuple(ref.name for ref in references),
        np.array([ref.frequency for ref in references], float),
        np.zeros(len(references), bool), values[0, whole], values[1, whole],
    ), tuple(steps))
    _require_enough(matched, least)
    return matched


def _require_enough(matched: Matched, least: int) -> None:
    if len(matched.index) < least:
        raise StageFailed(f"{len(matched.index)} reference sources, {least} are needed "
                          f"([bootstrap] min_sources): {matched.text()}. {REMEDY}")
    sloped = [np.ptp(np.log(matched.surveys.frequency[row])) > SAME_HZ
              for row in np.isfinite(matched.surveys.flux)]
    if sum(sloped) < least:
        raise StageFailed(
            f"{sum(sloped)} reference sources have catalogue fluxes at two frequencies, {least} "
            f"are needed ([bootstrap] min_sources): {matched.text()}. Without them factors cannot "
            "be told from spectral indices: give catalogues at several frequencies in groups of "
            "their own, or set [bootstrap] on_failure=unscaled"
        )
