"""What `plan` and `status` show."""

from __future__ import annotations

import time
from pathlib import Path

from ddfpipe.pipeline.decisions import Decision
from ddfpipe.pipeline.stage import Recipe
from ddfpipe.pipeline.state import Current, RunState
from ddfpipe.report.figures import figure_text
from ddfpipe.report.progress import duration
from ddfpipe.report.table import table


def plan_text(decisions: list[Decision], recipe: Recipe, end: str | None = None) -> str:
    """Every stage with what becomes of it and why; exit points in brackets."""
    exits: dict[str, list[str]] = {}
    for name, stage in recipe.exit_points.items():
        exits.setdefault(stage, []).append(name)
    rows, to_do, beyond = [], 0, False
    for decision in decisions:
        name = decision.stage.name
        if beyond:
            what = "after exitafter"
        elif decision.done:
            what = "done"
        else:
            what, to_do = f"to do: {decision.why}", to_do + 1
        beyond = beyond or name == end
        rows.append((decision.stage.group, name, ", ".join(exits.get(name, ())), what))
    shown, group = [], None
    for row in rows:
        shown.append(("" if row[0] == group else row[0], *row[1:]))
        group = row[0]
    lines = [table(shown, ("part", "stage", "exit point", "plan")), ""]
    lines.append(f"{to_do} of {len(decisions)} stages to do")
    if recipe.no_full_list:
        lines.append("the run ends there, exit code 3: [data] full_mslist is not given")
    return "\n".join(lines)


def status_text(decisions: list[Decision], state: RunState, workdir: Path) -> str:
    """Every stage with its state, time and figures; what is at work or what went wrong."""
    holder, current = state.holder(), state.current()
    rows = []
    for decision in decisions:
        name = decision.stage.name
        record = state.read(name)
        if current is not None and current.stage == name:
            spent = duration(max(0.0, time.time() - current.started)) if holder else ""
            rows.append((name, _outcome(current, holder), spent, _details(current, holder)))
        elif record is not None and decision.done:
            rows.append((name, "done", duration(record.seconds), figure_text(record.figures)))
        elif record is not None:
            rows.append((name, "outdated", duration(record.seconds), decision.why))
        else:
            rows.append((name, "open", "", ""))
    done = sum(row[1] == "done" for row in rows)
    head = f"at work: {holder}" if holder else "no run is at work here"
    return "\n".join([
        f"{workdir.absolute()}: {done} of {len(rows)} stages done; {head}",
        table(rows, ("stage", "state", "time", "figures"), right=(2,)),
    ])


def _outcome(current: Current, holder: str) -> str:
    if current.outcome == "running" and not holder:
        return "interrupted"
    return current.outcome


def _details(current: Current, holder: str) -> str:
    if current.outcome != "running":
        return current.error
    if not holder:
        return "its process ended without a word; start again to go on from here"
    return ", ".join(f"{what} {done} of {total}"
                     for what, (done, total) in current.progress.items())
