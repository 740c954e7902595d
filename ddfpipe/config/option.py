"""What is known of one option: the metadata behind a field of a section's dataclass."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import MISSING, Field, dataclass, field, fields
from typing import Any

KINDS = ("int", "float", "bool", "str", "list")
ELEMENTS = ("int", "float", "bool", "str", "label")
"""Kinds of list elements; a label is a whole number or a string."""


@dataclass(frozen=True)
class Option:
    """One option, apart from its name.

    kind: one of KINDS; help: one line; unit: as the user writes the value.
    low / high: inclusive bounds; above: exclusive lower bound.  They bind list elements too.
    choices: the values allowed (of the elements, for a list).
    nullable: the text ``None`` gives None.
    element, min_length, max_length: type and number of list elements; entries beyond max_length
        are kept, never read, and warned about.
    element_nullable: an element may be None or the string "None".
    unique: no element twice.
    auto: how documents show a default that is found on the machine.
    ours: True for options that ddf-pipeline does not have.
    """

    kind: str
    help: str
    unit: str | None = None
    low: float | None = None
    above: float | None = None
    high: float | None = None
    choices: tuple[str, ...] = ()
    nullable: bool = False
    element: str | None = None
    element_nullable: bool = False
    min_length: int = 0
    max_length: int | None = None
    unique: bool = False
    auto: str | None = None
    ours: bool = False

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"unknown kind {self.kind!r}")
        if (self.element is not None) != (self.kind == "list"):
            raise ValueError("a list, and only a list, has an element type")
        if self.element is not None and self.element not in ELEMENTS:
            raise ValueError(f"unknown element type {self.element!r}")


def option(kind: str, default: Any, help: str, **facts: Any) -> Any:
    """Field of a section dataclass described by Option(kind, help, **facts).

    A callable `default` is called at construction (values found on the machine).
    """
    metadata = {"option": Option(kind, help, **facts)}
    if isinstance(default, Callable):
        return field(default_factory=default, metadata=metadata)
    return field(default=default, metadata=metadata)


def options_of(section: type) -> dict[str, Option]:
    """Options of a section dataclass by name, in the order of their definition."""
    return {item.name: item.metadata["option"] for item in fields(section)}


def default_of(section: type, name: str) -> Any:
    """Default of option `name` of a section dataclass."""
    item: Field = section.__dataclass_fields__[name]
    return item.default if item.default is not MISSING else item.default_factory()
