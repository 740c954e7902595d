"""Text to value and back, for one option.

`parse` raises ValueError with a phrase that reads on after the option's name ("imsize: 'big' is
not a whole number"); the reader adds file, line and option.
"""

from __future__ import annotations

import ast
import difflib
import math
import re
import warnings
from typing import Any

from .option import Option

BOOLEANS = {
    "1": True, "yes": True, "true": True, "on": True,
    "0": False, "no": False, "false": False, "off": False,
}


def parse(text: str, spec: Option) -> Any:
    """Value of `text` (as written by the user) for an option; lists become tuples.

    Raises ValueError if the text has the wrong type, is out of bounds or not among the choices.
    """
    text = text.strip()
    if text == "":
        end = "write None or leave the line out" if spec.nullable else "leave the line out"
        raise ValueError(f"has no value; {end}")
    if "\n" in text and spec.kind != "list":
        first, second = text.split("\n")[:2]
        raise ValueError(
            f"the value {first!r} goes on in the next line, {second!r}; is that line indented by "
            "accident?"
        )
    if _means_none(text, spec):
        if not spec.nullable:
            raise ValueError(f"cannot be None; it needs {wanted(spec)}")
        return None
    if spec.kind == "list":
        return _parse_list(text, spec)
    value = {"int": _int, "float": _float, "bool": _bool, "str": _str}[spec.kind](text, spec)
    return _checked(value, spec)


def format_value(value: Any) -> str:
    """Text that `parse` turns into `value`, fit for a line of a configuration file."""
    if isinstance(value, (tuple, list)):
        # Inside a list, escapes keep "#" and ";" from being taken for comments.
        return repr(list(value)).replace("#", "\\x23").replace(";", "\\x3b")
    return str(value)


def wanted(spec: Option) -> str:
    """What an option accepts, in words: "a number above 0 (arcsec)"."""
    if spec.kind == "list":
        words = f"a list{_length_words(spec)}, each entry {_kind_words(spec.element, spec)}"
    else:
        words = _kind_words(spec.kind, spec)
    return f"{words} ({spec.unit})" if spec.unit else words


def surplus(value: Any, spec: Option) -> str | None:
    """A warning if a list has more entries than are ever read."""
    if spec.max_length is None or value is None or len(value) <= spec.max_length:
        return None
    return f"has {len(value)} entries; those after the first {spec.max_length} are not used"


def _kind_words(kind: str, spec: Option) -> str:
    if spec.choices:
        none = " or None" if spec.element_nullable else ""
        return f"one of {', '.join(spec.choices)}{none}"
    words = {
        "int": "a whole number", "float": "a number", "bool": "True or False", "str": "a text",
        "label": "a whole number or a text",
    }[kind]
    if spec.low is not None and spec.high is not None:
        return f"{words} from {spec.low:g} to {spec.high:g}"
    if spec.above is not None:
        words += f" above {spec.above:g}"
    if spec.low is not None:
        words += f" of at least {spec.low:g}"
    return words


def _length_words(spec: Option) -> str:
    if spec.min_length == 0:
        return ""
    if spec.min_length == spec.max_length:
        return f" of {spec.min_length}"
    return f" of {spec.min_length} or more"


def _means_none(text: str, spec: Option) -> bool:
    if text.lower() != "none":
        return False
    if "none" in spec.choices:
        return False
    # Any spelling is None for numbers and choices; a free text such as a folder is taken
    # literally, but for the exact word.
    return text == "None" or spec.kind != "str" or bool(spec.choices)


def _bool(text: str, spec: Option) -> bool:
    try:
        return BOOLEANS[text.lower()]
    except KeyError:
        raise ValueError(
            f"{text!r} is neither yes nor no; write True or False (also 1/0, yes/no, on/off)"
        ) from None


def _int(text: str, spec: Option) -> int:
    try:
        return int(text)
    except ValueError:
        pass
    try:
        number = float(text)
    except ValueError:
        raise ValueError(f"{text!r} is not a whole number{_unit_hint(text, spec)}") from None
    if not math.isfinite(number) or not number.is_integer():
        raise ValueError(f"{text} is not a whole number")
    return int(number)


def _float(text: str, spec: Option) -> float:
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"{text!r} is not a number{_unit_hint(text, spec)}") from None


def _str(text: str, spec: Option) -> str:
    if len(text) >= 2 and text[0] == text[-1] and text[0] in "'\"":
        raise ValueError(f"write the text without quotes: {text[1:-1]}")
    if re.search(r"^[#;]|\s[#;]", text):
        raise ValueError(f"{text!r} cannot hold ' #' or ' ;', which begin a comment in a file")
    if not text.isprintable():
        raise ValueError(f"{text!r} holds a character that cannot be printed")
    return text


def _unit_hint(text: str, spec: Option) -> str:
    if re.match(r"[-+]?[\d.]", text) and spec.unit:
        return f"; write the number alone, its unit is {spec.unit}"
    return ""


def _checked(value: Any, spec: Option) -> Any:
    """`value`, spelt as the choice it matches; ValueError out of bounds or choices."""
    if spec.choices:
        return _choice(value, spec)
    if isinstance(value, bool) or isinstance(value, str):
        return value
    if not math.isfinite(value):
        raise ValueError(f"{value} is not a finite number")
    low = spec.low is not None and value < spec.low
    above = spec.above is not None and value <= spec.above
    high = spec.high is not None and value > spec.high
    if low or above or high:
        unit = f" {spec.unit}" if spec.unit else ""
        words = _kind_words(spec.element or spec.kind, spec)
        raise ValueError(f"{value:g}{unit} is out of range; it must be {words}")
    return value


def _choice(value: str, spec: Option) -> str:
    names = {choice.lower(): choice for choice in spec.choices}
    # Older spellings of the normalisations lack the leading "Mean".
    for candidate in (value, "Mean" + value if value.startswith("Abs") else value):
        if candidate.lower() in names:
            return names[candidate.lower()]
    near = difflib.get_close_matches(value.lower(), names, n=1)
    hint = f"; did you mean {names[near[0]]}?" if near else ""
    none = " or None" if spec.nullable or spec.element_nullable else ""
    raise ValueError(f"{value!r} is not one of {', '.join(spec.choices)}{none}{hint}")


def _parse_list(text: str, spec: Option) -> tuple:
    """Tuple from a list literal; nothing is evaluated."""
    flat = " ".join(text.split())
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SyntaxWarning)
            value = ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        raise ValueError(_list_problem(flat)) from None
    if not isinstance(value, (list, tuple)):
        raise ValueError(f"{flat} is not a list; write [{flat}]")
    if len(value) < spec.min_length:
        raise ValueError(
            f"{flat} has {len(value)} entries, at least {spec.min_length} are needed"
        )
    result = tuple(_element(item, index, spec) for index, item in enumerate(value))
    if spec.unique and len(set(result)) < len(result):
        raise ValueError(f"{flat} has an entry twice")
    return result


def _list_problem(flat: str) -> str:
    inner = flat.strip("[]() ")
    items = [item.strip() for item in inner.split(",") if item.strip()]
    bare = [item for item in items if re.fullmatch(r"[A-Za-z_$./~][^'\"\[\]()*+]*", item)]
    if bare:
        fixed = ", ".join(repr(item) if item in bare else item for item in items)
        return f"{flat} is not a list: texts in it need quotes; write [{fixed}]"
    if re.search(r"\]\s*\*|\*\s*\[|range\(|\bfor\b", flat):
        return f"{flat} is an expression; write all entries of the list"
    return f"{flat} is not a list; write it like [1, 2, 3] or ['a', 'b']"


def _element(item: Any, index: int, spec: Option) -> Any:
    """One list entry, converted and checked."""
    kind = spec.element
    try:
        if item is None or item == "None":
            if spec.element_nullable:
                return None
            raise ValueError("cannot be None")
        is_number = isinstance(item, (int, float)) and not isinstance(item, bool)
        if kind == "bool" and (isinstance(item, bool) or item in (0, 1)):
            return bool(item)
        if kind in ("str", "label") and isinstance(item, str):
            return _checked(_list_text(item), spec)
        if kind in ("int", "label") and is_number and float(item).is_integer():
            return _checked(int(item), spec)
        if kind == "float" and is_number:
            return _checked(float(item), spec)
        raise ValueError(f"{item!r} is not {_kind_words(kind, spec)}")
    except OverflowError:
        raise ValueError(f"entry {index}: the number is too large") from None
    except ValueError as problem:
        raise ValueError(f"entry {index} (counted from 0): {problem}") from None


def _list_text(item: str) -> str:
    if item.strip() == "":
        raise ValueError("is an empty text")
    return item
