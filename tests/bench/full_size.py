#!/usr/bin/env python3
"""What a whole night would take, estimated stage by stage, without any data.

    python tests/bench/full_size.py [--threads 2] [--memory 24] [--section-option=value]...

The reference pointing: the 62 Dutch HBA stations, 8 hours in 3600 slots of 8 s, 24 measurement sets
of 20 channels of 97.6 kHz between 120 and 168 MHz (3.3e9 visibilities), 6 of them in the small
list, and the default configuration: 20,000 pixels of 1.5 arcsec, 45 directions.  Prints the
estimate as `pipeline.py plan --estimate` does, the sums by kind of stage as the table of
docs/performance.md, and the totals against the goal.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

from checkout import use_own_package

GOAL, AIM = (120.0, 24.0), (45.0, 12.0)
"""Core-hours and GB: at most, and what is aimed at."""
SETS, SMALL_LIST, CHANNELS, CHANNEL_HZ = 24, 4, 20, 97.65625e3
"""Measurement sets, every how many of them the small list has, channels of each, their width."""
FIRST_HZ, STEP_HZ = 120e6, 2e6
SLOTS, SLOT_S = 3600, 8.0
KINDS = {"ImageJob": "images", "SolveJob": "solves", "SmoothJob": "solutions merged and smoothed",
         "MaskJob": "masks"}
REST = "models, directions, other masks"


def reference_sets() -> dict:
    """Sizes of the reference pointing's measurement sets, by name."""
    import numpy as np
    from ddfpipe.data.setsize import SetSize
    from ddfpipe.simulate.stations import dutch_stations

    positions = np.array([station.position for station in dutch_stations()])
    times = 5e9 + SLOT_S * np.arange(SLOTS)
    channels = CHANNEL_HZ * (np.arange(CHANNELS) + 0.5)
    return {
        Path(f"L000000_SB{number:03d}.ms"):
            SetSize(positions, times, SLOT_S, FIRST_HZ + STEP_HZ * number + channels)
        for number in range(SETS)
    }


def reference_estimate(threads: int, memory: float, words: list[str]):
    """Estimate of the reference pointing on `threads` threads with `memory` bytes."""
    from ddfpipe.config import load_config
    from ddfpipe.pipeline.costs import World
    from ddfpipe.pipeline.decisions import Decision
    from ddfpipe.pipeline.estimate import estimate
    from ddfpipe.pipeline.selfcal import build_recipe

    sets = reference_sets()
    full = tuple(sets)
    small = full[SMALL_LIST // 2::SMALL_LIST]
    config = load_config(words, check=False)
    config = replace(config, data=replace(
        config.data, mslist="mslist.txt", full_mslist="big-mslist.txt"))
    world = World(sets, config.solutions.ndir, threads, threads, memory, config.image.imsize,
                  config.image.cellsize)
    recipe = build_recipe(config, small, full)
    return estimate(config, [Decision(stage, "not done yet") for stage in recipe.stages], world)


def without_predictions(*given):
    """The estimate as if predicting models cost nothing."""
    from unittest.mock import patch

    from ddfpipe.pipeline import imagecosts, solvecosts

    with patch.object(imagecosts, "predict_s", lambda *_: 0.0), \
            patch.object(solvecosts, "predict_s", lambda *_: 0.0):
        return reference_estimate(*given)


def kinds_table(found, rest) -> str:
    """Markdown table of the sums by kind of stage; rest: the estimate without predictions."""
    sums: dict[str, list[float]] = {}
    for row, other in zip(found.counted, rest.counted):
        kind = KINDS.get(type(row.decision.stage.job).__name__, REST)
        entry = sums.setdefault(kind, [0, 0.0, 0.0, 0.0, 0.0])
        entry[0] += 1
        entry[1] += row.cost.cpu_s / 3600
        entry[2] += (row.cost.cpu_s - other.cost.cpu_s) / 3600
        entry[3] = max(entry[3], row.cost.memory_bytes / 1e9)
        entry[4] += (row.cost.product_bytes + row.cost.cache_bytes) / 1e9
    lines = ["| kind | stages | core-hours | of these predictions | memory up to, GB | "
             "products and caches, GB |", "|---|---|---|---|---|---|"]
    lines += [f"| {kind} | {n} | {cpu:.3g} | {predicted:.3g} | {memory:.2g} | {disk:.3g} |"
              for kind, (n, cpu, predicted, memory, disk) in sums.items()]
    return "\n".join(lines)


def main() -> None:
    """Print everything."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--memory", type=float, default=24.0, help="GB that the engine may use")
    given, words = parser.parse_known_args()
    use_own_package()
    from ddfpipe.pipeline.estimate import estimate_text

    rest = without_predictions(given.threads, given.memory * 1e9, words)
    found = reference_estimate(given.threads, given.memory * 1e9, words)
    print(estimate_text(found))
    print("\n" + kinds_table(found, rest) + "\n")
    hours, memory = found.cpu_s / 3600, found.largest.cost.memory_bytes / 1e9
    for name, value, goal, aim in (("core-hours", hours, GOAL[0], AIM[0]),
                                   ("GB of memory", memory, GOAL[1], AIM[1])):
        word = "reached" if value <= aim else "not reached"
        kept = "kept" if value <= goal else "missed"
        print(f"{value:.3g} {name}: at most {goal:g} {kept}, aim of {aim:g} {word}")


if __name__ == "__main__":
    main()
