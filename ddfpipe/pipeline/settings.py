"""A view of the configuration that notes which options are read.

The recipe is built from this view, so every stage knows exactly the options that went into it,
down to the single entries of lists, and nobody has to keep a second list of them by hand.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any


class Settings:
    """`settings.image.robust` is the option's value; the reading of it is noted.

    `take()` returns what was read since the last `take()` as {"image.robust": -0.5,
    "masking.thresholds[0]": 15.0, ...} and forgets it.
    """

    def __init__(self, config: Any) -> None:
        self._config = config
        self._read: dict[str, Any] = {}

    def __getattr__(self, section: str) -> "_Section":
        return _Section(section, getattr(self._config, section), self._read)

    @property
    def config(self) -> Any:
        """The configuration itself; what is read from it is not noted."""
        return self._config

    def take(self) -> dict[str, Any]:
        """Options read since the last call, with their values."""
        taken, self._read = dict(sorted(self._read.items())), {}
        return taken


class _Section:
    """One section of the configuration."""

    def __init__(self, name: str, section: Any, read: dict[str, Any]) -> None:
        self._name, self._section, self._read = name, section, read

    def __getattr__(self, option: str) -> Any:
        value = getattr(self._section, option)
        key = f"{self._name}.{option}"
        if isinstance(value, (list, tuple)):
            return _Entries(key, value, self._read)
        self._read[key] = value
        return value


class _Entries:
    """A list option: reading one entry notes that entry only."""

    def __init__(self, key: str, values: list | tuple, read: dict[str, Any]) -> None:
        self._key, self._values, self._read = key, values, read

    def __getitem__(self, index: int) -> Any:
        value = self._values[index]
        self._read[f"{self._key}[{index}]"] = value
        return value

    def __iter__(self) -> Iterator[Any]:
        self._read[self._key] = list(self._values)
        return iter(self._values)

    def __len__(self) -> int:
        self._read[self._key] = list(self._values)
        return len(self._values)
