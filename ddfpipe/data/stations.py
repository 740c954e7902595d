"""Which stations are Dutch."""

from __future__ import annotations


def is_international(name: str, telescope: str = "LOFAR") -> bool:
    """Whether `name` is a LOFAR station outside the Netherlands.

    Dutch stations are called CS (core) or RS (remote); stations combined from the core begin with
    ST.  Other telescopes have none.
    """
    return telescope.upper() == "LOFAR" and not name.upper().startswith(("CS", "RS", "ST"))
