"""The stage of quality_pipeline.py that compares an image with a catalogue."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ddfpipe.naming import match_product
from ddfpipe.pipeline.context import Context
from ddfpipe.pipeline.quality_stages import (
    ImageFiles, centre_of, facets_of, frequency_of, part_stage, read_catalogue,
)


@dataclass(frozen=True)
class MatchJob:
    """Compare with one catalogue (`ddfpipe.config.quality.CatalogueChoice`)."""

    image: ImageFiles
    folder: str
    choice: Any
    values: Mapping[str, Any]


@part_stage("match_{job.choice.name}", "draw_match")
def compare_catalogue(context: Context, job: MatchJob) -> tuple[dict, dict]:
    """Positions and fluxes against one catalogue."""
    import numpy as np

    from ddfpipe.data.images import read_image
    from ddfpipe.data.surveys import read_survey
    from ddfpipe.products.quality.comparison import chance_fraction, compare, figures_of
    from ddfpipe.units import ARCSEC, DEGREE, MHZ

    notes: list[str] = []
    choice = job.choice
    survey = read_survey(
        context.workdir / choice.path, columns=dict(choice.columns), flux_divisor=choice.divisor,
        unitless_divisor=choice.unitless_divisor, notes=notes,
        frequency=choice.frequency_mhz * MHZ if choice.frequency_mhz else None)
    image = read_image(context.workdir / job.image.intrinsic)
    table = read_catalogue(context, job.image)
    how = comparison_of(job, survey, image, notes)
    matched = compare(table, survey, how, image.beam[0], centre_of(image))
    chance = chance_fraction(table, survey, how, image.beam[0], centre_of(image), matched.row.size)
    numbers = np.asarray(table["Facet"], int)
    figures = figures_of(matched, how, numbers if (numbers >= 0).any() else None, survey.size,
                         chance)
    figures["notes"] = notes
    figures["points"] = {
        "east": (matched.east / ARCSEC)[matched.good].tolist(),
        "north": (matched.north / ARCSEC)[matched.good].tolist(),
        "flux": matched.flux[matched.fair].tolist(),
        "ratio": matched.ratio[matched.fair].tolist(),
        "radius_deg": (matched.radius[matched.fair] / DEGREE).tolist(),
    }
    figures["facet_centres_deg"] = _facet_centres(context, job.image, image)
    _write_matches(context, job, table, survey, matched)
    for note in notes:
        context.monitor.message(note)
    line: dict[str, Any] = {"matches": figures["matches"]}
    for key, label in (("offset_ra_arcsec", "RA_arcsec"), ("offset_dec_arcsec", "Dec_arcsec"),
                       ("flux_ratio", "flux_ratio")):
        if figures.get(key, {}).get("value") is not None:
            line[label] = figures[key]["value"]
    return figures, line


def comparison_of(job: MatchJob, survey: Any, image: Any, notes: list[str]):
    """The comparison for a catalogue: what is given, else known by name, else by the file."""
    import numpy as np

    from ddfpipe.products.quality.comparison import SURVEYS, Comparison
    from ddfpipe.units import ARCSEC, DEGREE, MHZ

    choice, values = job.choice, job.values
    known = SURVEYS.get(choice.name.upper().replace("-", "").replace("_", ""))
    radio = bool(np.isfinite(survey.flux).any())
    frequency: float | None = None
    if radio and not (known and known[0] is None and not choice.frequency_mhz):
        inside = survey.frequency[np.isfinite(survey.frequency)]
        frequency = (choice.frequency_mhz or 0.0) * MHZ or (
            float(np.median(inside)) if inside.size else 0.0) or (
            known[0] * MHZ if known and known[0] else 0.0)
        if not frequency:
            notes.append(f"{choice.name}: the frequency is not known; fluxes are compared as they "
                         "are (set [comparison_cats] frequencies)")
    beam = choice.beam_arcsec if choice.beam_arcsec is not None else (
        known[1] if known else image.beam[0] / ARCSEC)
    least = choice.min_flux if choice.min_flux is not None else (known[2] if known else None)
    return Comparison(
        choice.name, choice.radius_arcsec * ARCSEC, beam * ARCSEC, frequency,
        frequency_of(image), min_flux=least or 0.0,
        max_size=choice.max_size * ARCSEC if choice.max_size else None,
        isolation=values["isolation"] * ARCSEC, field=values["field_radius"] * DEGREE,
        compact=values["compact"] * ARCSEC, index=values["spectral_index"],
        samples=values["bootstrap_samples"], min_matches=values["min_matches"])


def _facet_centres(context: Context, image: ImageFiles, open_image: Any) -> list[list[float]]:
    """[[east, north], ...] of the facets in degrees on the image's plane."""
    from ddfpipe.units import DEGREE

    places = []
    for facet in facets_of(context, image):
        corners = open_image.grid.lm_of(facet.polygon[:, 0], facet.polygon[:, 1])
        places.append([float(v.mean() / DEGREE) for v in corners])
    return places


def _write_matches(context: Context, job: MatchJob, table: Any, survey: Any, matched: Any) -> None:
    """Tables of all matches, and of those that are compared."""
    import numpy as np

    from ddfpipe.products.quality.tiers import write_catalogue
    from ddfpipe.units import ARCSEC, DEGREE

    both = table[matched.row]
    name = job.choice.name
    both[f"{name}_RA"] = survey.ra[matched.other] / DEGREE
    both[f"{name}_DEC"] = survey.dec[matched.other] / DEGREE
    both[f"{name}_flux"] = survey.flux[matched.other]
    both[f"{name}_separation"] = matched.separation / ARCSEC
    both[f"{name}_dRA"], both[f"{name}_dDEC"] = matched.east / ARCSEC, matched.north / ARCSEC
    both[f"{name}_flux_ratio"] = matched.ratio
    for column in ("RA", "DEC"):
        both[f"{name}_{column}"].unit = "deg"
    for column in ("separation", "dRA", "dDEC"):
        both[f"{name}_{column}"].unit = "arcsec"
    both[f"{name}_flux"].unit = "Jy"
    used = np.asarray(matched.good | matched.fair)
    for filtered, rows in ((False, both), (True, both[used])):
        write_catalogue(rows, context.workdir / match_product(job.image.prefix, name, filtered))
