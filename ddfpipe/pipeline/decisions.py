"""Which stages are done, which are to do, and why: from records, never from a bare file name."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Container, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ddfpipe.pipeline.stage import Recipe, Stage
from ddfpipe.pipeline.state import Record, RunState

MISSING = "missing"


@dataclass(frozen=True)
class Decision:
    """What is to become of a stage.

    why: reason to run it; empty if it is done.  waits: it reads from a stage that is made again;
    if that makes what it made before, this one may be done.
    """

    stage: Stage
    why: str
    waits: bool = False

    @property
    def done(self) -> bool:
        """Whether the stage needs nothing."""
        return not self.why


class Judge:
    """Compares stages with their records in a working directory.  Changes nothing."""

    def __init__(self, state: RunState, workdir: Path) -> None:
        self.state = state
        self.workdir = workdir
        self._ms: dict[Path, str] = {}
        self._replaced: dict[str, frozenset[str]] = {}

    def decide(self, recipe: Recipe, restart: bool = True) -> list[Decision]:
        """A decision for every stage, in order; without `restart` all are to run."""
        decisions: list[Decision] = []
        again: set[str] = set()
        records: dict[str, Record] = {}
        self.find_replaced(recipe)
        for stage in recipe.stages:
            why = self.why(stage, records, again) if restart else "restart is off"
            waits = restart and not again.isdisjoint(stage.needs)
            if why:
                again.add(stage.name)
            else:
                records[stage.name] = self.state.read(stage.name)
            decisions.append(Decision(stage, why, waits))
        return decisions

    def why(self, stage: Stage, records: Mapping[str, Record],
            again: Container[str] = ()) -> str:
        """Reason to run a stage, empty if it is done.

        records: of the earlier stages that are done; again: names of those that are to run.
        """
        record = self.state.read(stage.name)
        if record is None:
            unreadable = self.state.has_file(stage.name)
            return "its record cannot be read" if unreadable else "not done yet"
        for need in stage.needs:
            if need in again:
                return f"{need} is made again"
        # The record went through JSON, so the identity has to as well.
        identity = json.loads(json.dumps(stage.identity()))
        if not _same(identity, record.identity):
            return _what_changed(stage, record, identity)
        if set(record.inputs) != set(stage.needs):
            return "it needs other stages than before"
        for need in stage.needs:
            if record.inputs[need] != records[need].key:
                return f"{need} was made again since"
        for name, print_ in self.fingerprints(stage).items():
            if record.ms.get(name) != print_:
                return f"measurement set {name} {'is missing' if print_ == MISSING else 'changed'}"
        return self._file_changes(stage, record)

    def _file_changes(self, stage: Stage, record: Record) -> str:
        """Changes of the user's files or of products; empty if none."""
        known = {state.path for state in record.files}
        for path in stage.files:
            if str(path) not in known:
                return f"it reads {path} now"
        made = {state.path for state in record.outputs}
        for name in stage.makes:
            if name not in made and not any(path.startswith(f"{name}/") for path in made):
                return f"it makes {name} now"
        for state in (*record.files, *record.outputs):
            difference = state.difference(self.workdir)
            if difference and not self._is_replaced(state.path, record):
                return difference
        return ""

    def find_replaced(self, recipe: Recipe) -> None:
        """Note which products are missing because a later stage, done and whole, stands
        for them."""
        self._replaced = {}
        for stage in recipe.stages:
            record = self.state.read(stage.name) if stage.replaces else None
            if record is None or any(s.difference(self.workdir) for s in record.outputs):
                continue
            if _same(json.loads(json.dumps(stage.identity())), record.identity):
                keys = frozenset(record.inputs.values())
                self._replaced.update(dict.fromkeys(stage.replaces, keys))

    def _is_replaced(self, path: str, record: Record) -> bool:
        gone = not (self.workdir / path).exists()
        return gone and record.key in self._replaced.get(path, ())

    def fingerprints(self, stage: Stage) -> dict[str, str]:
        """Fingerprint of each measurement set of a stage, by name."""
        for path in stage.ms:
            if path not in self._ms:
                self._ms[path] = fingerprint(self.workdir / path)
        return {path.name: self._ms[path] for path in stage.ms}


def fingerprint(ms: Path) -> str:
    """Digest of size and time of change of the tables of a measurement set, or MISSING."""
    from ddfpipe.data.fingerprint import fingerprint as table_states

    try:
        states = table_states(ms)
    except OSError:
        return MISSING
    if not states:
        return MISSING
    return hashlib.sha256(json.dumps(states, sort_keys=True).encode()).hexdigest()


def _same(identity: Mapping[str, Any], recorded: Mapping[str, Any]) -> bool:
    """Whether a stage is what was recorded; settings that do not count any more tell nothing."""
    before, now = recorded["settings"], identity["settings"]
    same = {name: before.get(name, MISSING) for name in now} == now
    return same and identity["job"] == recorded["job"]


def _what_changed(stage: Stage, record: Record, identity: Mapping[str, Any]) -> str:
    """Say which options, or failing that which values of the job, are different."""
    was, now = dict(record.options), json.loads(json.dumps(dict(stage.options)))
    changes = [
        f"{name} changed from {was[name]!r} to {now[name]!r}"
        for name in sorted(was.keys() & now.keys()) if was[name] != now[name]
    ]
    if not changes:
        new = {**identity["job"], **identity["settings"]}
        counted = {k: v for k, v in record.identity["settings"].items() if k in new}
        old = {**record.identity["job"], **counted}
        changes = [
            f"{name} changed from {_short(old.get(name))} to {_short(new.get(name))}"
            for name in sorted(old.keys() | new.keys()) if old.get(name) != new.get(name)
        ]
    return ", ".join(changes)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


