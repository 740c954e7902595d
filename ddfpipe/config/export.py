"""A configuration written out again: for summary.txt, and as a file that reproduces it."""

from __future__ import annotations

from collections import Counter
from typing import Any

from .model import Config, all_options
from .values import format_value


def effective(cfg: Config) -> dict[str, Any]:
    """Every value under the name that ddf-pipeline gives it; tuples become lists.

    Names that two sections share are prefixed: image_uvmin, solutions_uvmin, image_robust,
    solutions_robust.
    """
    return {
        flat_name(section, name): _plain(getattr(getattr(cfg, section), name))
        for section, name, _ in all_options()
    }


def flat_name(section: str, name: str) -> str:
    """Key of an option in summary.txt."""
    return f"{section}_{name}" if _COUNTS[name] > 1 else name


def dump(cfg: Config, *, sources: bool = False) -> str:
    """Text of a configuration file that gives `cfg` again.

    sources: add where each value came from as a comment.
    """
    lines: list[str] = []
    current = ""
    for section, name, _ in all_options():
        if section != current:
            lines += ([""] if lines else []) + [f"[{section}]"]
            current = section
        line = f"{name} = {format_value(getattr(getattr(cfg, section), name))}"
        lines.append(f"{line}  # {cfg.source(section, name)}" if sources else line)
    return "\n".join(lines) + "\n"


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


_COUNTS = Counter(name for _, name, _ in all_options())
