"""What the figures of an image say when held against the user's limits."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

PASSED, FAILED, UNKNOWN = "passed", "FAILED", "not measured"
MICRO, MILLI = 1e6, 1e3


@dataclass(frozen=True)
class Verdict:
    """One limit: option, limit, value measured (None: none), outcome, and what was measured."""

    option: str
    limit: float
    value: float | None
    outcome: str
    what: str

    @property
    def good(self) -> bool:
        """Whether the limit is kept; one that could not be tested is not."""
        return self.outcome == PASSED


def judge(parts: Mapping[str, Mapping[str, Any]], limits: Mapping[str, float | None]
          ) -> list[Verdict]:
    """A verdict for every limit that is set.

    parts: figures by stage.  Limits of catalogues count for every catalogue with enough matches;
    the worst one is told.
    """
    found = []
    for option, limit in limits.items():
        if limit is None:
            continue
        values = list(MEASURED[option](parts))
        worst = (min if option.startswith("min_") else max)(values, default=None)
        if worst is None:
            found.append(Verdict(option, limit, None, UNKNOWN, ""))
            continue
        kept = worst[0] >= limit if option.startswith("min_") else worst[0] <= limit
        found.append(Verdict(option, limit, worst[0], PASSED if kept else FAILED, worst[1]))
    return found


Measured = Iterator[tuple[float, str]]


def _single(stage: str, *keys: str, scale: float = 1.0
            ) -> Callable[[Mapping[str, Mapping[str, Any]]], Measured]:
    """Reader of one number."""

    def read(parts: Mapping[str, Mapping[str, Any]]) -> Measured:
        value: Any = parts.get(stage, {})
        for key in keys:
            value = value.get(key) if isinstance(value, Mapping) else None
        if value is not None:
            yield value * scale, stage

    return read


def _matches(parts: Mapping[str, Mapping[str, Any]]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for stage, figures in parts.items():
        if stage.startswith("match_") and "problem" not in figures:
            yield stage.removeprefix("match_"), figures


def _offsets(parts: Mapping[str, Mapping[str, Any]]) -> Measured:
    for name, figures in _matches(parts):
        for axis in ("ra", "dec"):
            value = figures[f"offset_{axis}_arcsec"]["value"]
            if figures["enough_positions"] and value is not None:
                yield abs(value), f"{axis} against {name}"


def _facet_offsets(parts: Mapping[str, Mapping[str, Any]]) -> Measured:
    for name, figures in _matches(parts):
        for facet in figures.get("facets", ()):
            for axis in ("ra", "dec"):
                if facet["n"] >= figures["min_matches"]:
                    yield abs(facet[axis]["value"]), f"{axis} of facet {facet['facet']}, {name}"


def _flux_errors(parts: Mapping[str, Mapping[str, Any]]) -> Measured:
    for name, figures in _matches(parts):
        value = figures.get("flux_ratio", {}).get("value")
        if value is not None and figures["enough_fluxes"]:
            yield abs(value - 1.0), f"ratio {value:.3f} against {name}"


def _counts_error(parts: Mapping[str, Mapping[str, Any]]) -> Measured:
    value = (parts.get("counts", {}).get("scale") or {}).get("value")
    if value is not None:
        yield abs(value - 1.0), f"scale {value:.3f}"


def _size_ratios(parts: Mapping[str, Mapping[str, Any]]) -> Measured:
    for row in parts.get("sizes", {}).get("by_radius", ()):
        yield row["value"], f"{row['low']:.2f} to {row['high']:.2f} deg"


MEASURED: dict[str, Callable[[Mapping[str, Mapping[str, Any]]], Measured]] = {
    "max_noise_ujy": _single("noise", "central_jy", scale=MICRO),
    "min_dynamic_range": _single("dynamic_range", "median"),
    "max_offset_arcsec": _offsets,
    "max_facet_offset_arcsec": _facet_offsets,
    "max_flux_error": _flux_errors,
    "max_counts_error": _counts_error,
    "max_size_ratio": _size_ratios,
    "max_complete_mjy": _single("completeness", "flux_90_jy", scale=MILLI),
    "max_false_fraction": _single("false_detections", "fraction"),
    "min_sources": _single("sources", "sources"),
}
"""Limit -> the values that it holds for, each with what it was measured on."""
