"""Where a run ends (`exitafter`) and where it is taken up anew (`redofrom`)."""

from __future__ import annotations

import difflib
from typing import Any

from ddfpipe.errors import ConfigError
from ddfpipe.pipeline.selfcal import EXIT_POINTS
from ddfpipe.pipeline.stage import Recipe

CLEANUP = "cleanup"
START, DIRIN = "start", "dirin"
AFTER_DIRIN = "image_dirin_SSD_m_c"
"""First stage that `redofrom=dirin` makes again: all before it does without gains and facets."""


def exit_stage(recipe: Recipe, name: str | None) -> str | None:
    """Stage after which the run ends: None for its own end, CLEANUP for before the first.

    Raises ConfigError for a name that does not exist or is never reached.
    """
    if name is None or name == CLEANUP:
        return name
    if name in recipe.exit_points:
        return recipe.exit_points[name]
    if name in recipe.names():
        return name
    if name in recipe.absent:
        raise ConfigError(
            f"[control] exitafter={name} is never reached: {recipe.absent[name]}"
        )
    raise unknown("exitafter", name, [*EXIT_POINTS, *recipe.names()])


def redo_stage(recipe: Recipe, name: str | None) -> str | None:
    """First stage to make again; None if `redofrom` is not set.

    Raises ConfigError for a name that does not exist.
    """
    if name is None:
        return None
    names = recipe.names()
    wanted = {START: names[0], DIRIN: AFTER_DIRIN}.get(name, name)
    if wanted in names:
        return wanted
    if name == DIRIN:
        raise ConfigError(
            "[control] redofrom=dirin: a run from [inputmodel] basedicomodel has no such stage"
        )
    raise unknown("redofrom", name, [START, DIRIN, *names])


def unknown(option: str, name: str, known: list[str]) -> ConfigError:
    """The error for a name of a stage that does not exist, with those that look like it."""
    close = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(close)}?" if close else "'plan' lists the names"
    return ConfigError(f"[control] {option}: there is no '{name}'; {hint}")


def check_points(recipe: Recipe, control: Any) -> tuple[str | None, str | None]:
    """(stage of exitafter, stage of redofrom), both checked."""
    end, begin = exit_stage(recipe, control.exitafter), redo_stage(recipe, control.redofrom)
    if begin and end and end != CLEANUP and recipe.index(end) < recipe.index(begin):
        raise ConfigError(
            f"[control] exitafter={control.exitafter} comes before "
            f"redofrom={control.redofrom}: there would be nothing to do"
        )
    return end, begin
