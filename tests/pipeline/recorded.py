"""Runs whose stages were recorded, as `estimate` wants them."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ddfpipe.config import load_config
from ddfpipe.data.setsize import SetSize
from ddfpipe.pipeline.costs import Cost, World
from ddfpipe.pipeline.jobcosts import costs_of
from ddfpipe.pipeline.selfcal import build_recipe

FILE = Path(__file__).resolve().parents[1] / "data" / "recorded_runs.json"
MEMORY = 24e9


@dataclass
class RecordedRun:
    """recorded: stage -> (CPU seconds, seconds, peak bytes).  costs: stage -> its estimate."""

    recorded: dict[str, tuple[float, float, float]]
    costs: dict[str, Cost]


def names() -> list[str]:
    """Names of the recorded runs."""
    return list(json.loads(FILE.read_text(encoding="utf-8")))


def load(name: str) -> RecordedRun:
    """A recorded run with its estimate."""
    from lofarantpos.db import LofarAntennaDatabase

    run = json.loads(FILE.read_text(encoding="utf-8"))[name]
    places = LofarAntennaDatabase().phase_centres
    positions = np.array([places[station] for station in run["stations"]])
    times = 5e9 + np.array(run["times"])
    sets = {Path(f"L1_{number:02d}.ms"):
            SetSize(positions, times, run["interval"], np.array(freqs))
            for number, freqs in enumerate(run["freqs"])}
    full = tuple(sets)
    config = load_config(run["options"], check=False)
    config = replace(config, data=replace(config.data, mslist="s.txt", full_mslist="f.txt"))
    recipe = build_recipe(config, tuple(full[i] for i in run["small"]), full)
    world = World(sets, config.solutions.ndir, 2, 2, MEMORY, config.image.imsize,
                  config.image.cellsize)
    stages = {stage: tuple(values) for stage, values in run["stages"].items()}
    return RecordedRun(stages, costs_of(recipe.stages, world))
