"""Layers of configuration: files in their order, then overrides from the command line.

The file format is that of ddf-pipeline (INI as read by configparser), with three differences:
comments may follow a value, a percent sign is a percent sign, and what is not understood is an
error.  Reading collects problems rather than stopping at the first.
"""

from __future__ import annotations

import configparser
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from . import names

COMMAND_LINE = "command line"


@dataclass
class Layers:
    """Texts of options by (section, name), with where each came from, and what went wrong.

    texts, places: by (section, option name as defined); a place is "FILE:LINE" or
    "command line".  problems, warnings: complete sentences, naming their place.
    complete: False once a file could not be read, so that options may be missing for that.
    """

    texts: dict[tuple[str, str], str] = field(default_factory=dict)
    places: dict[tuple[str, str], str] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    complete: bool = True

    def put(self, section: str, name: str, text: str, place: str) -> None:
        """Let a later layer replace an earlier one."""
        self.texts[section, name] = text
        self.places[section, name] = place


def read_layers(
    files: Iterable[str | Path], overrides: Iterable[str], sections: Mapping[str, type]
) -> Layers:
    """Read `files` in order and then `overrides` ("--section-option=value")."""
    layers = Layers()
    for path in files:
        read_file(Path(path), sections, layers)
    for word in overrides:
        read_override(word, sections, layers)
    return layers


def read_file(path: Path, sections: Mapping[str, type], layers: Layers) -> None:
    """Add the options of one file to `layers`."""
    text = _file_text(path, layers)
    if text is None:
        return
    parser = _parse_ini(path, text, layers)
    lines = _line_numbers(text)
    for title in parser.sections():
        if title not in sections:
            _foreign_section(path, title, lines.get((title, ""), 0), sections, layers)
            continue
        for name, value in parser.items(title):
            place = f"{path}:{lines.get((title, name), 0)}"
            real = names.real_name(sections[title], name)
            if real is not None:
                layers.put(title, real, value, place)
            else:
                _foreign_option(place, title, name, sections, layers)


def read_override(word: str, sections: Mapping[str, type], layers: Layers) -> None:
    """Add one "--section-option=value" to `layers`."""
    match = re.fullmatch(r"--(\w+)-(\w+)\s*=\s*(.*)", word, flags=re.DOTALL)
    if match is None:
        layers.problems.append(f"{word}: {_malformed(word, sections)}")
        return
    title, name, value = match.groups()
    if title not in sections:
        layers.problems.append(f"{word}: {names.unknown_section(sections, title)}")
        return
    real = names.real_name(sections[title], name)
    if real is not None:
        layers.put(title, real, value, COMMAND_LINE)
    elif name.lower() in names.OBSOLETE:
        advice = names.OBSOLETE[name.lower()]
        layers.problems.append(f"{word}: the option {name} is obsolete; {advice}")
    else:
        layers.problems.append(f"{word}: {names.unknown_option(sections, title, name)}")


def _file_text(path: Path, layers: Layers) -> str | None:
    """Contents of a configuration file, or None after noting why not."""
    try:
        text = path.read_text(encoding="utf-8-sig")
        if "\0" not in text:
            return text
        reason = "this is not a text file"
    except FileNotFoundError:
        reason = "there is no such file"
    except IsADirectoryError:
        reason = "this is a folder, not a configuration file"
    except UnicodeDecodeError:
        reason = "this is not a text file in UTF-8"
    except OSError as error:
        reason = f"it cannot be read ({error.strerror})"
    layers.problems.append(f"{path}: {reason}")
    layers.complete = False
    return None


def _new_parser(strict: bool) -> configparser.RawConfigParser:
    # No section can be called as the default section is here (texts with "\0" are refused), so
    # that "[DEFAULT]" is an unknown section and not a silent source of values.
    return configparser.RawConfigParser(
        inline_comment_prefixes=("#", ";"), strict=strict, default_section="\0"
    )


def _parse_ini(path: Path, text: str, layers: Layers) -> configparser.RawConfigParser:
    """Parser with what could be understood of `text`; the rest is noted in `layers`."""
    try:
        parser = _new_parser(strict=True)
        parser.read_string(text, str(path))
        return parser
    except configparser.DuplicateOptionError as error:
        what = f"{error.option} is given twice in [{error.section}]; delete one of the two"
        layers.problems.append(f"{path}:{error.lineno}: {what}")
    except configparser.DuplicateSectionError as error:
        what = f"the section [{error.section}] begins twice; join the two"
        layers.problems.append(f"{path}:{error.lineno}: {what}")
    except configparser.MissingSectionHeaderError as error:
        what = f"{error.line.strip()!r} comes before the first [section] line"
        layers.problems.append(f"{path}:{error.lineno}: {what}")
        layers.complete = False
        return _new_parser(strict=False)
    except configparser.ParsingError as error:
        _note_lines(path, text, error, layers)
        return _new_parser(strict=False)
    # A duplicate: read on, for the sake of other problems.
    parser = _new_parser(strict=False)
    try:
        parser.read_string(text, str(path))
    except configparser.ParsingError as error:
        _note_lines(path, text, error, layers)
    return parser


def _note_lines(
    path: Path, text: str, error: configparser.ParsingError, layers: Layers
) -> None:
    """Note every line that is neither section, option nor comment."""
    lines = text.split("\n")
    for number, _ in error.errors:
        line = lines[number - 1].strip() if number <= len(lines) else ""
        layers.problems.append(f"{path}:{number}: {line!r} is not of the form option = value")
    layers.complete = False


def _line_numbers(text: str) -> dict[tuple[str, str], int]:
    """Line of each section, (title, ""), and option, (title, name in lower case)."""
    found: dict[tuple[str, str], int] = {}
    title = ""
    for number, line in enumerate(text.split("\n"), start=1):
        header = re.match(r"\s*\[(.+)\]", line)
        item = re.match(r"\s*([^#;=:\[\s][^=:]*?)\s*[=:]", line)
        if header and not item:
            title = header[1]
            found.setdefault((title, ""), number)
        elif item:
            found.setdefault((title, item[1].lower()), number)
    return found


def _foreign_section(
    path: Path, title: str, line: int, sections: Mapping[str, type], layers: Layers
) -> None:
    if title in names.QUALITY_SECTIONS:
        layers.warnings.append(
            f"{path}:{line}: the section [{title}] belongs to quality_pipeline.py and is not used"
        )
        return
    layers.problems.append(f"{path}:{line}: {names.unknown_section(sections, title)}")


def _foreign_option(
    place: str, title: str, name: str, sections: Mapping[str, type], layers: Layers
) -> None:
    if name in names.QUALITY_OPTIONS and "pybdsm" not in sections:
        layers.warnings.append(
            f"{place}: the option {name} of [{title}] belongs to quality_pipeline.py and is "
            "not used"
        )
    elif name in names.OBSOLETE:
        advice = names.OBSOLETE[name]
        layers.warnings.append(
            f"{place}: the option {name} of [{title}] is obsolete and not used; {advice}"
        )
    else:
        layers.problems.append(f"{place}: {names.unknown_option(sections, title, name)}")


def _malformed(word: str, sections: Mapping[str, type]) -> str:
    """What to write instead of an override that does not have the right form."""
    body, equals, value = word.lstrip("-").partition("=")
    value = value.strip() if equals else "VALUE"
    parts = [part for part in re.split(r"[-._\s]+", body.strip()) if part]
    spellings = []
    # Both "control.restart" and names that hold an underscore ("full_mslist") occur.
    if parts and parts[0].lower() in sections:
        name = re.sub(r"^\W*", "", body.strip()[len(parts[0]):]).strip("_")
        spellings = [h for h in names.homes(sections, name) if h[0] == parts[0].lower()]
    if not spellings:
        spellings = names.homes(sections, body.strip())
    right = [f"--{section}-{name}={value}" for section, name in spellings]
    form = "options are written --section-option=value"
    return f"{form}; did you mean {' or '.join(right)}?" if right else form
