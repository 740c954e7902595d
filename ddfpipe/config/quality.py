"""The configuration of quality_pipeline.py: the reader of pipeline.py with other sections."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from .checks import CATALOGS, Finding, report
from .load import parse_layers, place_findings
from .model import all_options
from .reader import read_layers
from .sections_quality import (
    ComparisonCats, QualityControl, QualityImage, QualityLimits, QualityMachine, QualityMeasures,
    QualityPybdsm,
)
from .values import format_value

QUALITY_SECTIONS: dict[str, type] = {
    "machine": QualityMachine, "image": QualityImage, "control": QualityControl,
    "pybdsm": QualityPybdsm, "comparison_cats": ComparisonCats, "measures": QualityMeasures,
    "limits": QualityLimits,
}
"""Section dataclasses by name, in the order in which they are documented."""
PER_CATALOGUE = ("filenames", "radii", "fluxfactor", "frequencies", "beams", "min_fluxes",
                 "columns")
"""Lists of [comparison_cats] that have one entry for each name of `list`."""


@dataclass(frozen=True)
class QualityConfig:
    """All options of quality_pipeline.py.  provenance: as of Config."""

    machine: QualityMachine = field(default_factory=QualityMachine)
    image: QualityImage = field(default_factory=QualityImage)
    control: QualityControl = field(default_factory=QualityControl)
    pybdsm: QualityPybdsm = field(default_factory=QualityPybdsm)
    comparison_cats: ComparisonCats = field(default_factory=ComparisonCats)
    measures: QualityMeasures = field(default_factory=QualityMeasures)
    limits: QualityLimits = field(default_factory=QualityLimits)
    provenance: Mapping[str, str] = field(default_factory=dict, compare=False, repr=False)


@dataclass(frozen=True)
class CatalogueChoice:
    """One catalogue to compare with; None where the file or its name must tell.

    max_size: FWHM in arcsec; divisor: of fluxes to Jy; unitless_divisor: the same, only for a
    column without a unit; columns: names by ours.
    """

    name: str
    path: Path
    radius_arcsec: float
    divisor: float | None = None
    unitless_divisor: float | None = None
    frequency_mhz: float | None = None
    beam_arcsec: float | None = None
    min_flux: float | None = None
    max_size: float | None = None
    columns: tuple[tuple[str, str], ...] = ()


def load_quality(argv: Sequence[str], *, warnings: list[str] | None = None,
                 environ: Mapping[str, str] | None = None) -> QualityConfig:
    """Configuration from command line words; as `load_config`.

    Raises ConfigError that tells all problems found.
    """
    notes = [] if warnings is None else warnings
    layers = read_layers([w for w in argv if not w.startswith("-")],
                         [w for w in argv if w.startswith("-")], QUALITY_SECTIONS)
    values, bad = parse_layers(layers, QUALITY_SECTIONS)
    cfg = QualityConfig(**{t: cls(**values[t]) for t, cls in QUALITY_SECTIONS.items()})
    cfg = replace(cfg, provenance={
        f"{title}.{name}": layers.places.get((title, name), "default")
        for title, name, _ in all_options(QUALITY_SECTIONS)
    })
    cfg, unset = _expand_folder(cfg, os.environ if environ is None else environ)
    if layers.complete:
        layers.problems += place_findings([*unset, *_contradictions(cfg)], layers, bad)
    notes += layers.warnings
    if layers.problems:
        raise report(layers.problems)
    return cfg


def _expand_folder(cfg: QualityConfig, environ: Mapping[str, str]
                   ) -> tuple[QualityConfig, list[Finding]]:
    """`dir` with the environment's folder put in."""
    cats, folder = cfg.comparison_cats, environ.get(CATALOGS)
    if cats.dir is None:
        return replace(cfg, comparison_cats=replace(cats, dir=folder or ".")), []
    if "$$" not in cats.dir:
        return cfg, []
    if not folder:
        return cfg, [(("comparison_cats.dir",), f"{cats.dir} needs the environment variable "
                      f"{CATALOGS}, which is not set")]
    return replace(cfg, comparison_cats=replace(cats, dir=cats.dir.replace("$$", folder))), []


def _contradictions(cfg: QualityConfig) -> Iterator[Finding]:
    cats = cfg.comparison_cats
    names = cats.list or ()
    if names and cats.filenames is None:
        yield ("comparison_cats.filenames", "comparison_cats.list"), (
            "the catalogues of list need their files")
    for name in PER_CATALOGUE:
        entries = getattr(cats, name)
        if entries is not None and len(entries) != len(names):
            yield (f"comparison_cats.{name}", "comparison_cats.list"), (
                f"has {len(entries)} entries, but list names {len(names)} catalogues")
    for text in cats.columns or ():
        if text != "-" and not all("=" in word for word in text.split()):
            yield ("comparison_cats.columns",), f"{text!r} is not of the form 'ra=NAME flux=NAME'"
    for name in (*names, cfg.control.report):
        if not name.replace("-", "").replace("_", "").replace(".", "").isalnum() or (
                name.startswith(".")):
            key = "control.report" if name == cfg.control.report else "comparison_cats.list"
            yield (key,), f"{name!r} is to be a file's name: letters, digits, - and _ only"
    if cfg.pybdsm.thresh_isl > cfg.pybdsm.thresh_pix:
        yield ("pybdsm.thresh_isl", "pybdsm.thresh_pix"), (
            f"a source's boundary ({cfg.pybdsm.thresh_isl:g} sigma) cannot be higher than its peak "
            f"({cfg.pybdsm.thresh_pix:g} sigma)")
    for key, needs in (("max_complete_mjy", "completeness"),
                       ("max_false_fraction", "false_detections"),
                       ("max_counts_error", "fit_sourcecounts")):
        if getattr(cfg.limits, key) is not None and not getattr(cfg.control, needs):
            yield (f"limits.{key}", f"control.{needs}"), (
                f"cannot be tested with [control] {needs}=False")


def catalogue_choices(cfg: QualityConfig) -> list[CatalogueChoice]:
    """The catalogues to compare with, those of the older options last."""
    cats = cfg.comparison_cats
    folder = Path(cats.dir or ".")

    def entry(name: str, k: int, default: Any = None) -> Any:
        values = getattr(cats, name)
        return default if values is None else values[k]

    found = []
    for k, name in enumerate(cats.list or ()):
        text = entry("columns", k, "-")
        columns = () if text == "-" else tuple(tuple(w.split("=", 1)) for w in text.split())
        found.append(CatalogueChoice(
            name, folder / entry("filenames", k), entry("radii", k, 10.0),
            divisor=entry("fluxfactor", k), frequency_mhz=entry("frequencies", k),
            beam_arcsec=entry("beams", k), min_flux=entry("min_fluxes", k),
            max_size=_size_limit(cats, name), columns=columns))
    for name in ("TGSS", "FIRST"):
        path = getattr(cats, name)
        if path is not None and name not in (cats.list or ()):
            found.append(CatalogueChoice(
                name, folder / path, getattr(cats, f"{name}_matchrad"),
                unitless_divisor=getattr(cats, f"{name}_fluxfactor"),
                max_size=_size_limit(cats, name)))
    return found


def _size_limit(cats: ComparisonCats, name: str) -> float | None:
    return getattr(cats, f"{name}_filtersize", None)


def dump_quality(cfg: QualityConfig) -> str:
    """Text of a configuration file that gives `cfg` again, with where each value came from."""
    lines: list[str] = []
    for title, section in QUALITY_SECTIONS.items():
        lines += ([""] if lines else []) + [f"[{title}]"]
        lines += [
            f"{item.name} = {format_value(getattr(getattr(cfg, title), item.name))}"
            f"  # {cfg.provenance.get(f'{title}.{item.name}', 'default')}"
            for item in fields(section)
        ]
    return "\n".join(lines) + "\n"
