"""Names that are not options: typing errors, old names, and options of other programs."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping

from .option import options_of

OBSOLETE = {
    "auto_uvmin": "set [image] uvmin and [solutions] uvmin instead",
    "second_selfcal": "the full-bandwidth rounds are always run when [data] full_mslist is given",
    "powersmooth": "nothing replaces it; see [solutions] smoothing and smoothingtype",
    "dt": "use [solutions] dt_slow, and dt_di for the direction-independent solves",
    "final_dt": "use [solutions] dt_fast",
    "nchansols_di": "the frequency intervals of direction-independent solves follow from the "
    "data; [solutions] dt_di sets their length in time",
    "sfind": "sources are always found, and found again only if something changed",
    "tgss_match_majkey1": "sizes are found by the names of columns",
    "tgss_match_majkey2": "sizes are found by the names of columns",
    "first_match_majkey1": "sizes are found by the names of columns",
    "first_match_majkey2": "sizes are found by the names of columns",
}
"""Options of older ddf-pipeline versions (lower case) and what replaced them."""

QUALITY_SECTIONS = ("pybdsm", "comparison_cats", "measures", "limits")
QUALITY_OPTIONS = (
    "ncpu", "pbimage", "nonpbimage", "catprefix", "sfind", "sfind_pixel_fraction",
    "fit_sourcecounts",
)
"""Sections and options that only quality_pipeline.py knows."""


def real_name(section: type, name: str) -> str | None:
    """Name of an option as defined, from any mixture of upper and lower case."""
    names = {option.lower(): option for option in options_of(section)}
    return names.get(name.lower())


def homes(sections: Mapping[str, type], name: str) -> list[tuple[str, str]]:
    """Sections that have an option of this name: (section, name as defined)."""
    found = ((title, real_name(section, name)) for title, section in sections.items())
    return [(title, option) for title, option in found if option is not None]


def unknown_section(sections: Mapping[str, type], title: str) -> str:
    """What to say about a section that does not exist."""
    near = _nearest(title, sections)
    return f"there is no section [{title}]" + (
        f"; did you mean [{near}]?" if near else f"; the sections are {', '.join(sections)}"
    )


def unknown_option(sections: Mapping[str, type], title: str, name: str) -> str:
    """What to say about an option that section `title` does not have."""
    text = f"there is no option {name} in [{title}]"
    elsewhere = homes(sections, name)
    if elsewhere:
        places = " and ".join(f"[{section}]" for section, _ in elsewhere)
        return f"{text}; it belongs in {places}"
    near = _nearest(name, options_of(sections[title]))
    if near:
        return f"{text}; did you mean {near}?"
    for section, cls in sections.items():
        near = _nearest(name, options_of(cls), cutoff=0.8)
        if near:
            return f"{text}; did you mean {near} of [{section}]?"
    return f"{text}; without arguments the program lists all options"


def value_hint(title: str, name: str, text: str) -> str:
    """Extra advice for values that were right in older versions."""
    if (title, name) == ("solutions", "smoothing") and text[:1].isdigit():
        return (
            "; configurations of 2017 gave an interval here, now smoothing only switches the "
            "smoothing on or off (write smoothing=True) and smoothingtype says what is fitted"
        )
    return ""


def _nearest(name: str, names: Iterable[str], cutoff: float = 0.6) -> str | None:
    table = {candidate.lower(): candidate for candidate in names}
    near = difflib.get_close_matches(name.lower(), table, n=1, cutoff=cutoff)
    return table[near[0]] if near else None
