"""From files and the command line to a checked Config."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..errors import ConfigError, InputModelError
from . import checks, names
from .model import SECTIONS, Config, all_options
from .option import options_of
from .reader import COMMAND_LINE, Layers, read_layers
from .values import parse, surplus


def load_config(
    argv: Sequence[str],
    *,
    warnings: list[str] | None = None,
    check: bool = True,
    files: bool = True,
    environ: Mapping[str, str] | None = None,
) -> Config:
    """Configuration from command line words: file names and "--section-option=value".

    Files count in their order, a later one over an earlier one, and every override counts over
    every file, wherever it stands; of overrides of one option the last counts.

    warnings: receives sentences about obsolete options and values without effect.
    check: also check what options mean together; without it only names, types and bounds are
        checked.  files: with that, also check that the files they name exist.
    environ: environment variables, os.environ by default.

    Raises ConfigError that tells all problems found, or InputModelError (exit code 4) if the
    only problem is an incomplete input model.
    """
    paths = [word for word in argv if not word.startswith("-")]
    overrides = [word for word in argv if word.startswith("-")]
    return load_layers(
        read_layers(paths, overrides, SECTIONS), warnings=warnings, check=check, files=files,
        environ=os.environ if environ is None else environ,
    )


def read_files(paths: Iterable[str | Path], *, warnings: list[str] | None = None) -> Config:
    """Configuration from files alone, without checks that look at other files."""
    return load_config([str(path) for path in paths], warnings=warnings, check=False, environ={})


def load_layers(
    layers: Layers,
    *,
    warnings: list[str] | None,
    check: bool,
    environ: Mapping[str, str],
    files: bool = True,
) -> Config:
    """Parse and check the texts of `layers`; see load_config."""
    notes = [] if warnings is None else warnings
    values, bad = parse_layers(layers, SECTIONS)
    cfg = Config(**{title: cls(**values[title]) for title, cls in SECTIONS.items()})
    cfg = replace(cfg, provenance=_provenance(layers))
    cfg, unset = checks.expand_catalogues(cfg, environ)
    model_problems: list[str] = []
    if check and layers.complete:
        findings = [*unset, *checks.contradictions(cfg)]
        if files:
            findings += checks.missing_files(cfg)
        layers.problems += place_findings(findings, layers, bad)
        model_problems = place_findings(checks.input_model(cfg), layers, bad)
    notes += layers.warnings
    if layers.problems:
        raise checks.report(layers.problems + model_problems, ConfigError)
    if model_problems:
        raise checks.report(model_problems, InputModelError)
    notes += checks.advice(cfg)
    return cfg


def parse_layers(
    layers: Layers, sections: Mapping[str, type]
) -> tuple[dict[str, dict[str, Any]], set[str]]:
    """Values by section and name, and the options ("section.name") that could not be parsed.

    Problems and warnings are added to `layers`.
    """
    values: dict[str, dict[str, Any]] = {title: {} for title in sections}
    bad: set[str] = set()
    for (title, name), text in layers.texts.items():
        spec = options_of(sections[title])[name]
        where = f"{layers.places[title, name]}: [{title}] {name}"
        try:
            value = parse(text, spec)
        except ValueError as problem:
            hint = names.value_hint(title, name, text)
            layers.problems.append(f"{where}: {problem}{hint}")
            bad.add(f"{title}.{name}")
            continue
        values[title][name] = value
        too_long = surplus(value, spec)
        if too_long:
            layers.warnings.append(f"{where}: {too_long}")
    return values, bad


def _provenance(layers: Layers) -> dict[str, str]:
    """Where every option came from, by "section.option"."""
    return {
        f"{title}.{name}": layers.places.get((title, name), "default")
        for title, name, _ in all_options()
    }


def place_findings(
    findings: Iterable[checks.Finding], layers: Layers, bad: set[str]
) -> list[str]:
    """Findings as sentences with the options they are about and where those were set."""
    lines = []
    for keys, message in findings:
        if bad.intersection(keys):
            continue
        places = (layers.places.get(tuple(key.split(".")), "") for key in keys)
        files = [place for place in places if place and place != COMMAND_LINE]
        start = f"{files[0]}: " if files else ""
        lines.append(f"{start}{checks.spoken(keys[0])}: {message}")
    return lines
