"""What a stage is, what it is made from, and what it returns."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ddfpipe.pipeline.context import Context


@dataclass(frozen=True)
class StageResult:
    """What a finished stage tells.

    figures: numbers and short texts for the record, the status table and the report.
    products: every file made, relative to the working directory.
    """

    figures: Mapping[str, Any] = field(default_factory=dict)
    products: tuple[str, ...] = ()


@dataclass(frozen=True)
class Stage:
    """One step of a recipe.

    job: plain dataclass of values that, with the products of `needs`, `files`, `ms` and
        `settings`, determines the outcome completely.
    makes: files, relative to the working directory, without which the stage is not done.
    needs: names of earlier stages whose products it reads.
    options: options that the job was built from, with their values; they explain a redo.
    settings: options that the engine knows from its construction and that change the outcome.
    files, ms: what it reads of the user's: files, measurement sets.
    group: the part of the recipe that it belongs to.
    resumes: the engine goes on from whole products of its own that an interrupted run left, and
        knows by itself whether they fit.
    replaces: products of earlier stages that it may remove -> what stands for them then.
    """

    name: str
    job: Any
    run: Callable[["Context", Any], StageResult]
    makes: tuple[str, ...]
    needs: tuple[str, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    files: tuple[Path, ...] = ()
    ms: tuple[Path, ...] = ()
    group: str = ""
    resumes: bool = False
    replaces: Mapping[str, str] = field(default_factory=dict)

    def identity(self) -> dict[str, Any]:
        """The job and the settings as JSON values.

        Measurement sets are represented by their names: where they lie does not matter, and what
        they hold is judged from their fingerprints.
        """
        return {"job": plain(self.job), "settings": plain(dict(self.settings))}


@dataclass(frozen=True)
class Recipe:
    """Stages in the order in which they run.

    exit_points: name that `exitafter` accepts -> name of the stage after which the run ends.
    absent: such name -> why this configuration never reaches it.
    no_full_list: the run ends early, since no full list of measurement sets was given.
    """

    stages: tuple[Stage, ...]
    exit_points: Mapping[str, str]
    absent: Mapping[str, str] = field(default_factory=dict)
    no_full_list: bool = False

    def names(self) -> list[str]:
        """Names of the stages in order."""
        return [stage.name for stage in self.stages]

    def index(self, name: str) -> int:
        """Place of stage `name`; ValueError if there is none."""
        return self.names().index(name)

    def from_stage(self, name: str) -> tuple[Stage, ...]:
        """Stage `name` and all after it."""
        return self.stages[self.index(name):]


def plain(value: Any) -> Any:
    """`value` as JSON types; paths of measurement sets (fields called `ms`) become their names."""
    if is_dataclass(value) and not isinstance(value, type):
        return {"kind": type(value).__name__} | {
            item.name: _names(getattr(value, item.name)) if item.name == "ms"
            else plain(getattr(value, item.name))
            for item in fields(value)
        }
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, Path):
        return str(value)
    if hasattr(value, "item") and not isinstance(value, (str, bytes)):
        return value.item()
    return value


def _names(paths: tuple[Path, ...]) -> list[str]:
    return [Path(path).name for path in paths]
