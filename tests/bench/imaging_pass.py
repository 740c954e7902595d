#!/usr/bin/env python3
"""One imaging pass, dirty image and PSFs through facets, by us, DDFacet and WSClean, side by side.

    python tests/bench/imaging_pass.py FOLDER [--ddf PLACE/bin/DDF.py] [--rounds N] [--small]
           [--threads N] [--slots N] [--gains no,yes] [--programs ddfpipe,ddfacet,...] [--growth]

simulates FOLDER/field (kept if it is there): Dutch stations, 8 s, 97.6 kHz channels, point sources
also at corners of facets and outside the image.  Then every program images the same measurement
set through the same 7 x 7 facets in turn, `rounds` times over, without and with gains of every
facet, and FOLDER/table.md and FOLDER/figures.json tell (figures of programs not run again stay)

* CPU seconds, user and system, of all processes; what a program needs before it does anything
  (imports, and for ours compiled code loaded from disk) is measured apart and not taken off;
* wall seconds and the greatest memory of all processes together (shared pages once), without and
  with the pages of mapped files;
* errors: the image's pixels against a Fourier sum in double precision over all visibilities,
  without averaging, through the gains of their facet, over the largest value of that sum: at the
  sources, at edges and corners of facets, anywhere.

ddfacet is DDFacet at its own decorrelation of 0.02, ddfacet-equal at that of ours.

`pip install ddfacet==1.0.0.0` in an environment of its own and Debian's wsclean provide the others;
what is not there is left out, with a line that says so.
"""

from __future__ import annotations

import argparse
import json
import shutil
from dataclasses import replace
from pathlib import Path

from checkout import use_own_package

if __name__ == "__main__":
    use_own_package()

from passbench import growth  # noqa: E402
from passbench.field import simulate_field, write_gains  # noqa: E402
from passbench.programs import PROGRAMS, available  # noqa: E402
from passbench.setting import SMALL, Setting, Work  # noqa: E402
from passbench.truth import errors  # noqa: E402
from programcost import Cost  # noqa: E402


def measure(work: Work, name: str, rounds_done: list[Cost]) -> dict:
    """Run a program once more; its figures, errors of the image included at the first time."""
    program, image = PROGRAMS[name]
    shutil.rmtree(work.folder, ignore_errors=True)
    rounds_done.append(program(work))
    print(f"{name}, {'with' if work.gains else 'without'} gains: {rounds_done[-1]}", flush=True)
    best = min(rounds_done, key=lambda cost: cost.cpu)
    out = {"cpu": best.cpu, "all_cpu": [c.cpu for c in rounds_done], "wall": best.wall,
           "memory": max(c.memory for c in rounds_done),
           "mapped": max(c.mapped() for c in rounds_done)}
    if len(rounds_done) == 1:
        out["error"] = errors(work, work.folder / image)
    if name == "ddfpipe" and best is rounds_done[-1]:
        out["parts"] = json.loads((work.folder / "parts.json").read_text())
    shutil.rmtree(work.folder / "cache", ignore_errors=True)
    return out


def compare(folder: Path, setting: Setting, names, gains, rounds: int, threads: int,
            ddf: Path | None) -> dict:
    """Run everything; figures[gains][program] = costs, errors and, of ours, parts.

    Figures of other programs that FOLDER/figures.json holds from earlier are kept.
    """
    field = folder / "field"
    ms = simulate_field(field, setting)
    write_gains(field, ms, setting)
    known = folder / "figures.json"
    figures = json.loads(known.read_text()) if known.exists() else {}
    names = available(names, ddf)
    if "ddfpipe" in names:
        # compiled code lies on disk from here on
        small = folder / "compile"
        PROGRAMS["ddfpipe"][0](Work(ms, field, setting, False, small, threads))
        shutil.rmtree(small)
    for through in gains:
        costs = {name: [] for name in names}
        kept = figures.setdefault("gains" if through else "no gains", {})
        for _ in range(rounds):
            for name in names:
                place = folder / f"{name}.{'gains' if through else 'plain'}"
                work = Work(ms, field, setting, through, place, threads, ddf)
                new = measure(work, name, costs[name])
                kept[name] = new if len(costs[name]) == 1 else kept[name] | new
                known.write_text(json.dumps(figures, indent=1))
                (folder / "table.md").write_text(table_of(figures))
    return figures


def table_of(figures: dict) -> str:
    """The figures as a table."""
    lines = ["| | program | CPU s | of it start-up | wall s | memory GB | with mapped files | "
             "error at sources | at facet edges | anywhere | rms |",
             "|---|---|---|---|---|---|---|---|---|---|---|"]
    for which, programs in figures.items():
        for name, f in programs.items():
            start = f"{f['parts']['imports']:.1f}" if "parts" in f else ""
            e = f["error"]
            lines.append(
                f"| {which} | {name} | {f['cpu']:.1f} | {start} | {f['wall']:.0f} | "
                f"{f['memory'] / 1e9:.2f} | {f['mapped'] / 1e9:.2f} | {e['sources']:.1e} | "
                f"{e['edges']:.1e} | {e['anywhere']:.1e} | {e['rms']:.1e} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--ddf", type=Path)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--slots", type=int, help="integrations of 8 s instead of the 120")
    parser.add_argument("--psf", type=float, default=1.0, help="size of our PSFs over a facet's")
    parser.add_argument("--gains", default="no,yes")
    parser.add_argument("--growth", action="store_true",
                        help="of our pass instead: its growth, threads, and ducc0 alone")
    parser.add_argument("--programs", default=",".join(PROGRAMS))
    options = parser.parse_args()
    setting = SMALL if options.small else Setting()
    setting = replace(setting, slots=options.slots or setting.slots, psf=options.psf)
    folder = options.folder.resolve()
    if options.growth:
        field = folder / "field"
        figures = growth.measure(simulate_field(field, setting), field, setting, folder / "growth")
        (folder / "growth.json").write_text(json.dumps(figures, indent=1))
        print(growth.table_of(figures))
        return
    compare(folder, setting, options.programs.split(","),
            [word == "yes" for word in options.gains.split(",")], options.rounds, options.threads,
            options.ddf)
    print((folder / "table.md").read_text())


if __name__ == "__main__":
    main()
