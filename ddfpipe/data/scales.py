"""Factors that bring measurement sets to a common flux scale: the table of one observation.

A table is a JSON file; beside it lies the same as text for people.  The factor of a measurement
set is read off at the mean of its channels' frequencies: linear between the frequencies at which
factors were measured, and on along the outermost two of them.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ddfpipe.data.atomic import atomic_write_json, atomic_write_text
from ddfpipe.errors import DataError

FORMAT, VERSION = "ddfpipe flux scale", 1
ALLOWED = (0.5, 2.0)
"""Factors outside this range tell of data that were never brought to Jy."""


@dataclass(frozen=True)
class FactorTable:
    """Factors by which visibilities are multiplied.

    frequency: (n,) Hz, ascending.  factor, error, low, high: (n,) mean, standard deviation, 16th
    and 84th percentile of the factor.  sources: how many reference sources they rest on.
    spectral_index, spectral_index_error: mean of the sources' indices and its error (NaN: none).
    scaled: False if no factor could be found and all are one; note: why, or remarks.
    """

    observation: str
    frequency: tuple[float, ...]
    factor: tuple[float, ...]
    error: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    sources: int = 0
    spectral_index: float = float("nan")
    spectral_index_error: float = float("nan")
    scaled: bool = True
    note: str = ""

    def at(self, frequency: float | np.ndarray) -> float | np.ndarray:
        """Factor at frequencies in Hz; one everywhere if nothing was scaled."""
        if not self.scaled:
            return np.ones_like(np.asarray(frequency, float))[()]
        return interpolate(np.array(self.frequency), np.array(self.factor), frequency)

    def of(self, frequencies: np.ndarray) -> float:
        """Factor of a measurement set with channels at (chan,) Hz."""
        return float(self.at(np.mean(frequencies)))

    def text(self) -> str:
        """The table for people."""
        lines = [f"flux scale of {self.observation}: data are multiplied by",
                 f"{'MHz':>9}  {'factor':>7}  {'error':>7}  {'16 %':>7}  {'84 %':>7}"]
        for row in zip(self.frequency, self.factor, self.error, self.low, self.high):
            lines.append(f"{row[0] / 1e6:9.3f}  " + "  ".join(f"{v:7.4f}" for v in row[1:]))
        if self.scaled:
            lines.append(f"{self.sources} sources, mean spectral index {self.spectral_index:.3f} "
                         f"+- {self.spectral_index_error:.3f}")
        else:
            lines.append("not scaled")
        return "\n".join(lines + ([self.note] if self.note else []))


def interpolate(x: np.ndarray, y: np.ndarray, at: float | np.ndarray) -> float | np.ndarray:
    """Linear between the points (n,) in ascending `x`, continued along the outermost pairs."""
    at = np.asarray(at, float)
    if x.size == 1:
        return np.full(at.shape, y[0])[()]
    k = np.clip(np.searchsorted(x, at, side="right") - 1, 0, x.size - 2)
    share = (at - x[k]) / (x[k + 1] - x[k])
    return ((1 - share) * y[k] + share * y[k + 1])[()]


def unity(observation: str, frequency: Any, why: str) -> FactorTable:
    """The table of data that stay as they are."""
    freq = tuple(float(f) for f in frequency)
    one, nothing = (1.0,) * len(freq), (0.0,) * len(freq)
    return FactorTable(observation, freq, one, nothing, one, one, scaled=False, note=why)


def save_factors(path: Path | str, table: FactorTable) -> tuple[Path, Path]:
    """Write a table as JSON and, with the suffix .txt, as text; both paths."""
    path = Path(path)
    numbers = {
        name: None if isinstance(value, float) and not np.isfinite(value) else value
        for name, value in asdict(table).items()
    }
    atomic_write_json(path, {"format": FORMAT, "version": VERSION, **numbers})
    atomic_write_text(path.with_suffix(".txt"), table.text() + "\n")
    return path, path.with_suffix(".txt")


def load_factors(path: Path | str) -> FactorTable:
    """Read a table.  Raises DataError when it is missing, damaged or of another kind."""
    try:
        values = json.loads(Path(path).read_text())
        if values.pop("format") != FORMAT or values.pop("version") != VERSION:
            raise ValueError("another format")
        table = FactorTable(**{
            name: tuple(value) if isinstance(value, list) else value
            for name, value in values.items()
        } | {
            name: float("nan") for name in ("spectral_index", "spectral_index_error")
            if values[name] is None
        })
    except OSError as error:
        raise DataError(f"{path}: the factors of the flux scale cannot be read "
                        f"({error.strerror or error}); run the bootstrap again") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{path}: not a table of flux-scale factors ({error}); remove it and run "
                        "the bootstrap again") from error
    if len(table.frequency) != len(table.factor) or not table.frequency:
        raise DataError(f"{path}: has {len(table.frequency)} frequencies and "
                        f"{len(table.factor)} factors; remove it and run the bootstrap again")
    return table
