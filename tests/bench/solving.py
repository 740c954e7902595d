"""Benchmark of the gain solver against DP3's ddecal and killMS: cost and errors on the same data.

    python tests/bench/solving.py FOLDER [--tasks NAME ...] [--algorithms NAME ...] [--repeats 2]
        [--dp3 .../bin/DP3.py] [--killms .../bin/kMS.py] [--growth] [--report docs/performance.md]

simulates each field into FOLDER, runs ddfpipe and its peers in turn on one thread, compares gains
with the truth, keeps the figures in FOLDER/solving.json, and writes the table of all figures kept
there into the section "Solving" of a document.  Peers that are not given are left out; they come
from `pip install dp3==6.6.0` and, each in an environment of its own, `pip install ddfacet==0.9.1.0
killms==3.3.0`.  Times are CPU seconds, user and system, children included.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from checkout import use_own_package

if __name__ == "__main__":
    use_own_package()

from solvebench import growth, remote, report  # noqa: E402
from solvebench.dp3 import ALGORITHMS, Dp3  # noqa: E402
from solvebench.field import Case  # noqa: E402
from solvebench.work import Ours, Peer, Task, alternate, prepare  # noqa: E402

QUIET = dict(wind=10.0, ionosphere_km=20.0)
TASKS = [
    Task("10 directions, high S/N, phases", Case(slots=16, noise=0.3, amplitude=0.0, **QUIET),
         "scalarphase", algorithms=ALGORITHMS),
    Task("10 directions, high S/N", Case(slots=16, noise=0.3, **QUIET)),
    Task("10 directions, low S/N", Case(slots=16, noise=3.0, **QUIET)),
    Task("10 directions, low S/N, diagonal", Case(slots=16, noise=3.0, diagonal=True, **QUIET),
         "diagonal"),
    Task("45 directions, low S/N", Case(n_dir=45, slots=16, noise=3.0, **QUIET)),
    Task("45 directions, low S/N, diagonal",
         Case(n_dir=45, slots=16, noise=3.0, diagonal=True, **QUIET), "diagonal"),
    Task("45 directions, low S/N, 15 % missing",
         Case(n_dir=45, slots=24, noise=3.0, missing=0.15, **QUIET)),
]


def measure(task: Task, folder: Path, program: Path | None, repeats: int,
            algorithms: list[str]) -> list[dict]:
    """Rows of one task; algorithms: those of DP3 that are wanted."""
    prepared = prepare(task, folder / "".join(c for c in task.name if c.isalnum()))
    # with the whole sky in the model amplitudes are free, as they are for the peers
    mean = "flat" if task.case.missing else "free"
    programs: list = [Ours(prepared, amplitude_mean=mean)]
    if program is not None:
        peer = Dp3(program, prepared.folder)
        programs += [Peer(prepared, peer, name) for name in task.algorithms if name in algorithms]
    return [row.plain() for row in alternate(programs, repeats)]


def keep(folder: Path, name: str, rows: list[dict]) -> dict:
    """Add rows to the figures kept in a folder; returns all of them."""
    path = folder / "solving.json"
    known = json.loads(path.read_text()) if path.exists() else {}
    known[name] = rows
    path.write_text(json.dumps(known, indent=1))
    return known


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--tasks", nargs="*", help="parts of names of tasks (all)")
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--algorithms", nargs="+", default=ALGORITHMS, choices=ALGORITHMS)
    parser.add_argument("--growth", action="store_true", help="also measure growth")
    parser.add_argument("--dp3", type=Path)
    parser.add_argument("--killms", type=Path)
    parser.add_argument("--report", type=Path)
    given = parser.parse_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    for task in TASKS:
        if given.tasks is None or any(part in task.name for part in given.tasks):
            print(task.name, flush=True)
            rows = measure(task, given.folder, given.dp3, given.repeats, given.algorithms)
            keep(given.folder, task.name, rows)
    if given.killms is not None:
        rows = remote.measure(given.folder / "killms", given.killms, given.repeats)
        keep(given.folder, remote.NAME, rows)
    if given.growth:
        keep(given.folder, growth.NAME, growth.measure())
    if given.report is not None:
        figures = json.loads((given.folder / "solving.json").read_text())
        report.write(figures, given.report)


if __name__ == "__main__":
    main()
