#!/usr/bin/env python3
"""Deconvolution by us, Radler and DDFacet (SSD2, HMP) of the same skies, side by side.

    python tests/bench/deconvolve.py FOLDER [--radler PLACE/bin/python] [--ddf PLACE/bin/DDF.py]
           [--skies points,doubles,halo,spectra] [--programs ...] [--majors 2]
           [--size small|middle|full] [--seeds 0,1,2] [--report docs/performance.md]

simulates FOLDER/<sky> (kept if it is there): Dutch stations, no errors but noise.  Dirty image,
PSFs and a mask are made once.  Ours and Radler get just those, and between major cycles the
residual of their models by our own operators; DDFacet, which cannot be given images, makes them of
the same measurement sets with the same weights, facets and mask, and what its deconvolution machine
spends is counted inside of it (Init, Update and Deconvolve, all processes).  All stop at 3 times
the noise.  Then every model is judged alike: by the residual that it leaves through our operators,
and by the fluxes in the sources' apertures against those of the simulation.

`pip install radler` and, elsewhere, `pip install ddfacet==1.0.0.0` provide the others; what is not
there is left out, with a line that says so.

CLEAN's path hangs on rounding and on the noise, so one run says little.  Each of `--seeds` is a sky
and a noise of its own (in FOLDER/seed<N>; 0: in FOLDER); the table has the first, and the medians
of all.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from dataclasses import asdict, replace
from pathlib import Path

from checkout import use_own_package

if __name__ == "__main__":
    use_own_package()

from deconvbench import report  # noqa: E402
from deconvbench.field import prepare  # noqa: E402
from deconvbench.programs import has_radler, run_ddfacet, run_ours, run_radler  # noqa: E402
from deconvbench.skies import CASES, SIZES, Setting  # noqa: E402
from deconvbench.truth import judge  # noqa: E402

PROGRAMS = {
    "ddfpipe": lambda f, d, o: run_ours(f, d, o.majors, o.threads),
    "ddfpipe signed": lambda f, d, o: run_ours(f, d, o.majors, o.threads, signed=True),
    "Radler generic": lambda f, d, o: run_radler(f, d, o.majors, o.radler, "generic_clean",
                                                 o.threads),
    "Radler multiscale": lambda f, d, o: run_radler(f, d, o.majors, o.radler, "multiscale",
                                                    o.threads),
    "DDFacet SSD2": lambda f, d, o: run_ddfacet(f, d, o.majors, o.ddf, "SSD2"),
    "DDFacet HMP": lambda f, d, o: run_ddfacet(f, d, o.majors, o.ddf, "HMP"),
}


def available(names, options) -> list[str]:
    """Those of the programs that can be run here."""
    lacking = {
        "Radler": None if has_radler(options.radler) else "pip install radler, give its --radler",
        "DDFacet": None if options.ddf and options.ddf.exists() else
        "pip install ddfacet==1.0.0.0 elsewhere, give --ddf PLACE/bin/DDF.py",
    }
    for what, remedy in lacking.items():
        if remedy and any(name.startswith(what) for name in names):
            print(f"no {what}: {remedy}", flush=True)
    return [name for name in names if not lacking.get(name.split()[0])]


def compare(folder: Path, setting: Setting, cases, names, options) -> dict:
    """Run everything; figures[sky][program], kept in FOLDER/figures.json as they come."""
    path = folder / "figures.json"
    figures = json.loads(path.read_text()) if path.exists() else {}
    for case in cases:
        field = prepare(folder, case, setting)
        for name in names:
            place = folder / case.name / name.replace(" ", "-")
            shutil.rmtree(place, ignore_errors=True)
            place.mkdir(parents=True)
            out = PROGRAMS[name](field, place, options)
            quality = judge(field, out.model, field.residual(out.model))
            figures.setdefault(case.name, {})[name] = asdict(quality) | {
                "cpu": out.cpu, "start": out.start, "whole": out.whole, "memory": out.memory,
                "components": out.model.size,
            }
            path.write_text(json.dumps(figures, indent=1) + "\n")
            print(case.name, name, json.dumps(figures[case.name][name]), flush=True)
            if not options.keep:
                shutil.rmtree(place)
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--radler", type=Path, default=Path(sys.executable))
    parser.add_argument("--ddf", type=Path)
    parser.add_argument("--skies", default=",".join(case.name for case in CASES))
    parser.add_argument("--programs", default=",".join(PROGRAMS))
    parser.add_argument("--majors", type=int, default=2)
    parser.add_argument("--threads", type=int, default=1, help="of ours and Radler; DDFacet has 2")
    parser.add_argument("--seeds", default="0", help="skies of each kind, by number")
    parser.add_argument("--size", choices=SIZES, default="middle")
    parser.add_argument("--keep", action="store_true", help="keep what the programs wrote")
    parser.add_argument("--report", type=Path, help="write the table into this page")
    options = parser.parse_args()
    wanted = options.skies.split(",")
    names = available(options.programs.split(","), options)
    folder, setting = options.folder.resolve(), SIZES[options.size]
    runs = []
    for seed in map(int, options.seeds.split(",")):
        place = folder / f"seed{seed}" if seed else folder
        place.mkdir(parents=True, exist_ok=True)
        runs.append(compare(place, replace(setting, seed=seed),
                            [case for case in CASES if case.name in wanted], names, options))
    figures = report.merged(runs)
    print(report.table(figures))
    if options.report:
        report.write(figures, options.report)


if __name__ == "__main__":
    main()
