"""What a running stage can see: folders, engine, monitor, lists of measurement sets."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ddfpipe.engines.base import Engine, Monitor


@dataclass(frozen=True)
class Context:
    """Everything a stage needs apart from its job.

    workdir: products go here; cache_dir: what can be made again.
    small, full: measurement sets of the two lists.
    """

    config: Any
    workdir: Path
    cache_dir: Path
    engine: Engine
    monitor: Monitor
    small: tuple[Path, ...] = ()
    full: tuple[Path, ...] = ()

    def relative(self, paths: Iterable[str | Path]) -> tuple[str, ...]:
        """Paths relative to the working directory where they lie in it."""
        home = self.workdir.absolute()
        found = []
        for path in paths:
            absolute = home / path
            found.append(str(absolute.relative_to(home)) if absolute.is_relative_to(home)
                         else str(absolute))
        return tuple(found)
