"""The table of options, as the scripts print it and as docs/options.md shows it."""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Mapping

from .model import SECTIONS
from .option import Option, default_of, options_of
from .values import format_value

NAME_WIDTH = 24
INTRODUCTION = """\
# Options

This page is generated from the definitions in `ddfpipe/config` by
`python -m ddfpipe.config.document > docs/options.md`.

A run is configured by one or more files and by words on the command line:

    pipeline.py tier1.cfg my-field.cfg --image-imsize=8000 --control-restart=False

* Files are read in their order; what a later one says replaces what an earlier one says. Words of
  the form `--section-option=value` count over all files. What is said nowhere has its default.
* A file has lines `[section]` and `option = value`. `#` and `;` begin a comment, at the start of a
  line or after a blank. A value may go on in the next lines if these are indented. The case of
  option names does not matter.
* Lists are written `[1, 2, 3]` or `['a', 'b']`, with quotes round texts. Other texts have none.
* `None` unsets an option where the table says that it may be None.
* Unknown options and sections, values of the wrong type, values out of bounds, lists that are too
  short and files that do not exist are errors, all told at the start.
* `$$` in `[masking] tgss` and `[bootstrap] catalogues` stands for the value of the environment
  variable `DDF_PIPELINE_CATALOGS`.

`pipeline.py config FILE...` prints all values and where each came from. Options marked + are not
in ddf-pipeline.
"""

QUALITY_INTRODUCTION = """\
# Options of quality_pipeline.py

This page is generated from the definitions in `ddfpipe/config` by
`python -m ddfpipe.config.document quality > docs/quality-options.md`.

    quality_pipeline.py quality_pipeline.cfg --control-sfind_pixel_fraction=0.5

Files and words are read as those of `pipeline.py` are, see [options.md](options.md); what is
measured is told in [quality.md](quality.md). Options marked + are not in ddf-pipeline.
"""


def describe_options(width: int | None = None, sections: Mapping[str, type] = SECTIONS) -> str:
    """All options with type, default and help, grouped by section.

    width: columns to wrap to; the terminal's by default (at least 60).
    """
    width = width or shutil.get_terminal_size((100, 24)).columns
    width = max(60, width)
    indent = " " * (NAME_WIDTH + 2)
    blocks = []
    for title, section in sections.items():
        lines = textwrap.wrap(f"[{title}] {_first_line(section)}", width)
        for name, spec in options_of(section).items():
            unit = f" in {spec.unit}" if spec.unit else ""
            default = default_words(section, name)
            words = f"{type_words(spec)}{unit}; default {default}. {spec.help}"
            head = f"  {name}".ljust(NAME_WIDTH + 1) + " "
            lines += textwrap.wrap(
                head + words + _limits(spec), width, subsequent_indent=indent,
                break_long_words=False, break_on_hyphens=False,
            )
        blocks.append("\n".join(lines))
    return "\n\n".join(blocks) + "\n"


def quality_markdown() -> str:
    """Text of docs/quality-options.md."""
    from .quality import QUALITY_SECTIONS

    return options_markdown(QUALITY_SECTIONS, QUALITY_INTRODUCTION)


def options_markdown(
    sections: Mapping[str, type] = SECTIONS, introduction: str = INTRODUCTION
) -> str:
    """Text of docs/options.md, or of another page of options."""
    blocks = [introduction]
    for title, section in sections.items():
        lines = [
            f"## [{title}]", "", _first_line(section), "",
            "| option | type | default | unit | meaning |", "|---|---|---|---|---|",
        ]
        for name, spec in options_of(section).items():
            cells = [
                f"`{name}`" + (" +" if spec.ours else ""), type_words(spec),
                f"`{default_words(section, name)}`", spec.unit or "", spec.help + _limits(spec),
            ]
            lines.append("| " + " | ".join(cells) + " |")
        blocks.append("\n".join(lines) + "\n")
    return "\n".join(blocks)


def type_words(spec: Option) -> str:
    """Type of an option in short: "float or None", "list of int"."""
    words = spec.kind
    if spec.kind == "list":
        element = "int or str" if spec.element == "label" else spec.element
        words = f"list of {element}" + (" or None" if spec.element_nullable else "")
    return f"{words} or None" if spec.nullable else words


def default_words(section: type, name: str) -> str:
    """Default of an option as it is written in a file, or how it is found."""
    spec = options_of(section)[name]
    return spec.auto or format_value(default_of(section, name))


def _limits(spec: Option) -> str:
    """Unit, choices, bounds and lengths, in parentheses."""
    facts = []
    if spec.choices:
        facts.append("choices " + ", ".join(spec.choices))
    if spec.above is not None:
        facts.append(f"above {spec.above:g}")
    if spec.low is not None:
        facts.append(f"at least {spec.low:g}")
    if spec.high is not None:
        facts.append(f"at most {spec.high:g}")
    if spec.kind == "list" and spec.min_length > 1:
        facts.append(f"{spec.min_length} entries or more")
    return f" ({'; '.join(facts)})" if facts else ""


def _first_line(section: type) -> str:
    return (section.__doc__ or "").splitlines()[0]
