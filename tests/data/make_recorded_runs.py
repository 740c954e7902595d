#!/usr/bin/env python3
"""Write what finished runs took into recorded_runs.json, which unit costs are fitted to.

    python make_recorded_runs.py NAME=FOLDER...

FOLDER is a working directory with its configuration `field.cfg`; runs that are not named stay as
they were.  Kept of a run: its options, the extent of its measurement sets, and CPU seconds, seconds
and peak memory of every stage.
"""

from __future__ import annotations

import configparser
import json
import os
import sys
from pathlib import Path

TARGET = Path(__file__).resolve().parent / "recorded_runs.json"
LEFT_OUT = ("mslist", "full_mslist")


def options_of(path: Path) -> list[str]:
    """Options of a configuration as words of a command line, without its lists."""
    parser = configparser.ConfigParser(interpolation=None)
    parser.optionxform = str
    parser.read(path)
    return [f"--{section}-{name}={value}" for section in parser.sections()
            for name, value in parser[section].items() if name not in LEFT_OUT]


def sets_of(folder: Path) -> dict:
    """Extent of the measurement sets, which are alike but for their channels."""
    from ddfpipe.config import load_config
    from ddfpipe.data.ms import read_metadata
    from ddfpipe.pipeline.run import open_field

    os.chdir(folder)
    field = open_field(load_config(["field.cfg"], check=False), folder)
    infos = [read_metadata(path) for path in field.full]
    first = infos[0]
    return {
        "stations": [n for n, used in zip(first.ant_names, first.stations_used) if used],
        "interval": first.interval,
        "times": [round(float(t - first.times[0]), 2) for t in first.times],
        "freqs": [[float(f) for f in info.freqs] for info in infos],
        "small": [field.full.index(path) for path in field.small],
    }


def stages_of(folder: Path) -> dict[str, list[float]]:
    """CPU seconds, seconds and peak bytes by stage, in the order in which they ended."""
    found = []
    for path in (folder / "ddfpipe.state").glob("[!_]*.json"):
        record = json.loads(path.read_text(encoding="utf-8"))
        found.append((path.stat().st_mtime_ns, record["stage"], [
            record["cpu_seconds"], record["seconds"], record["peak_memory_bytes"]]))
    return {name: values for _, name, values in sorted(found)}


def main(words: list[str]) -> None:
    """Take the runs named into the file."""
    runs = json.loads(TARGET.read_text(encoding="utf-8")) if TARGET.exists() else {}
    for word in words:
        name, folder = word.split("=", 1)
        home = Path(folder).absolute()
        runs[name] = {"options": options_of(home / "field.cfg"), **sets_of(home),
                      "stages": stages_of(home)}
    lines = [f' "{name}": {{\n' + ",\n".join(
        f'  "{key}": {json.dumps(value, separators=(",", ":"))}' for key, value in run.items())
        + "\n }" for name, run in runs.items()]
    TARGET.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
