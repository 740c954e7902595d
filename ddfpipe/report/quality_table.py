"""The figures of a quality report in words, for the screen and the page."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ddfpipe.report.figures import flux
from ddfpipe.report.table import table

Row = tuple[str, str, str]


def quality_rows(parts: Mapping[str, Mapping[str, Any]]) -> list[Row]:
    """(part, measure, value) of everything that was measured, or why it was not."""
    rows: list[Row] = []
    for name, figures in parts.items():
        label = name.removeprefix("match_").replace("_", " ")
        if "problem" in figures:
            rows.append((label, "not measured", figures["problem"]))
            continue
        write = _match if name.startswith("match_") else WRITERS[name]
        found = list(write(figures))
        rows += [(label if k == 0 else "", *row) for k, row in enumerate(found)]
    return rows


def quality_text(rows: Sequence[Row], verdicts: Sequence[Mapping[str, Any]]) -> str:
    """The table on the screen, with the limits below."""
    text = "\n" + table(rows, ("part", "measure", "value"))
    if verdicts:
        judged = [(v["option"], v["outcome"], verdict_words(v)) for v in verdicts]
        text += "\n\n" + table(judged, ("limit", "outcome", ""))
    return text + "\n"


def verdict_words(verdict: Mapping[str, Any]) -> str:
    """`83.1, limit 100: passed (noise)`."""
    value = "nothing measured" if verdict["value"] is None else f"{verdict['value']:.4g}"
    about = f" ({verdict['what']})" if verdict["what"] else ""
    return f"{value}, limit {verdict['limit']:g}: {verdict['outcome']}{about}"


def _sources(figures: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    yield "sources", f"{figures['sources']}, {flux(figures['total_flux_jy'])} in all"
    if figures["second_pass"]:
        yield "large ones of the second pass", str(figures["second_pass"])


def _noise(figures: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    yield "centre", _flux(figures["central_jy"], "/beam")
    yield "5, 50, 95 % of the pixels", ", ".join(
        _flux(v, "/beam") for v in figures["percentiles_jy"].values())
    noise = [row["noise_jy"] for row in figures["facets"] if row["noise_jy"] is not None]
    if noise:
        yield "facets, lowest to highest", f"{_flux(min(noise))} to {_flux(max(noise))}/beam"


def _dynamic_range(figures: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    if figures["median"] is None:
        yield "median", "no bright, compact, isolated source"
    else:
        yield "median", (f"{figures['median']:.0f} from {figures['n']} sources above "
                         f"{flux(figures['threshold_jy'])}")


def _sizes(figures: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    yield "total / peak flux", _estimate(figures)
    if figures["by_radius"]:
        last = figures["by_radius"][-1]
        yield f"the same at {last['low']:.2f} to {last['high']:.2f} deg", _estimate(last)


def _counts(figures: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    yield "sources counted", (f"{figures['sources']} above {figures['min_snr']:g} sigma on "
                              f"{figures['area_deg2']:.3g} square degrees")
    if figures["scale"]:
        yield f"flux scale by {figures['citation']}", _estimate(figures["scale"])


def _completeness(figures: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    yield "injected, found", f"{figures['injected']}, {figures['found']}"
    yield "50 %, 90 % found at", (f"{_flux(figures['flux_50_jy'])}, {_flux(figures['flux_90_jy'])}"
                                  f"; {_plain(figures['snr_50'])}, {_plain(figures['snr_90'])} "
                                  "sigma")
    yield "measured / injected flux", _estimate(figures["flux_recovery"])


def _false(figures: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    share = "" if figures["fraction"] is None else f" ({100 * figures['fraction']:.2g} %)"
    yield "upside down, upright", f"{figures['negative']}, {figures['positive']}{share}"


def _match(figures: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    chance = figures["chance_fraction"]
    yield "matches", (f"{figures['matches']} of {figures['catalogue_sources']} within "
                      f"{figures['radius_arcsec']:g} arcsec"
                      + (f", {100 * chance:.2g} % by chance" if chance is not None else ""))
    few = "" if figures["enough_positions"] else "; too few to be sure"
    for axis in ("ra", "dec"):
        yield (f"offset in {'RA' if axis == 'ra' else 'Dec'} (arcsec)",
               _estimate(figures[f"offset_{axis}_arcsec"]) + few)
    if "flux_ratio" in figures:
        few = "" if figures["enough_fluxes"] else "; too few to be sure"
        how = f" (alpha {figures['spectral_index']:g})" if figures["spectral_index"] else ""
        yield f"flux ratio{how}", _estimate(figures["flux_ratio"]) + few
    for note in figures.get("notes", ()):
        yield "note", note


WRITERS = {
    "sources": _sources, "noise": _noise, "dynamic_range": _dynamic_range, "sizes": _sizes,
    "counts": _counts, "completeness": _completeness, "false_detections": _false,
}


def _estimate(found: Mapping[str, Any]) -> str:
    if found["value"] is None:
        return f"unknown (n = {found['n']})"
    error = "" if found["error"] is None else f" ± {found['error']:.3f}"
    return f"{found['value']:.3f}{error} (n = {found['n']})"


def _flux(value: float | None, suffix: str = "") -> str:
    return "unknown" if value is None else flux(value, suffix)


def _plain(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.2f}"
