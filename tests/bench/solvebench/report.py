"""Figures of the benchmark as text in docs/performance.md."""

from __future__ import annotations

from pathlib import Path

from . import growth, remote

BEGIN, END = "<!-- solving: begin -->", "<!-- solving: end -->"


def table(head: list[str], rows: list[list[str]]) -> list[str]:
    """Lines of a table."""
    return ["| " + " | ".join(head) + " |", "|" + "---|" * len(head),
            *("| " + " | ".join(row) + " |" for row in rows)]


def numbers(values, form: str = ".3f") -> str:
    """Values with blanks between them."""
    return " ".join(format(v, form) for v in values)


def peers(figures: dict) -> list[str]:
    """Rows of the tasks that DP3 shares."""
    rows = []
    for name, found in figures.items():
        if name in (remote.NAME, growth.NAME):
            continue
        ours = found[0]
        for row in found:
            quality, own = row["quality"], row is ours
            ratio = "" if own else f"{row['solve'] / ours['solve']:.0f} / " \
                                   f"{row['whole'] / ours['whole']:.0f}"
            missing = quality["absorbed"]
            rows.append([
                name if own else "", row["program"], f"{row['start']:.2f}", f"{row['whole']:.2f}",
                f"{row['predict']:.2f}", f"{row['solve']:.2f}", ratio,
                numbers(quality["phase"][0]), numbers(quality["phase"][1]),
                f"{quality['amplitude']:.3f}", f"{quality['model_error']:.4f}",
                "" if missing != missing else f"{100 * missing:.0f} %",
                f"{row['memory'] / 1e6:.0f}",
            ])
    head = ["field", "program", "start", "whole job", "predict", "solve",
            "times ours: solve / whole", "core phases", "remote phases", "ln amplitude",
            "model error", "absorbed", "MB"]
    return table(head, rows)


def directions(found: list[dict]) -> list[str]:
    """Rows of the comparison with killMS."""
    rows = []
    cost = {row["program"]: row["whole"] for row in found}
    ours = [cost[remote.our_name(count)] for count in (remote.FEW, remote.MORE)]
    for row in found:
        ratio = " / ".join(f"{row['whole'] / each:.0f}" for each in ours) \
            if row["program"].startswith("killMS") else ""
        errors = [f"{core:.3f} {far:.3f}" for core, far in row["errors"].values()]
        rows.append([row["program"], f"{row['start']:.1f}", f"{row['whole']:.2f}", ratio, *errors,
                     f"{row['memory'] / 1e6:.0f}"])
    few, more = remote.FEW, remote.MORE
    return table(["program", "start", "whole job", f"times ours, {few} / {more} directions",
                  *(name for name, _, _ in remote.GROUPS), "MB"], rows)


def growing(found: list[dict]) -> list[str]:
    """Rows of the growth."""
    rows = []
    for one in found:
        if "exponent" in one:
            for part in one["exponent"]:
                rows.append([f"{one['what']}: {part}", ", ".join(str(s) for s in one["sizes"]),
                             numbers(one["cost"][part]), f"{one['exponent'][part]:.2f}"])
        elif "wall" in one:
            rows.append(["threads: wall of 24 solves", "1, 2", numbers(one["wall"], ".2f"),
                         f"{one['wall'][0] / one['wall'][1]:.2f} times faster"])
        else:
            rows.append([one["what"], "predict, solve", numbers(one["cost"].values()),
                         f"{one['cpu']:.2f} in all"])
    return table(["what", "sizes", "CPU s an interval", "exponent"], rows)


TEXT = """\
    python tests/bench/solving.py FOLDER --dp3 DP3.py --killms kMS.py --growth --report FILE

simulates fields, runs ddfpipe and its peers in turn on the same measurement set and one thread, and
writes this section. CPU seconds, user and system, children included, of several runs the cheapest,
since other work on a machine only adds. *start* is apart: imports and compiled code (ours), a run
over two intervals (killMS), a run without any work (DP3). *solve* is without reading and predicting
(DP3: less a run of one iteration). Ours is one process that reads, finds the noise, predicts,
solves with priors and writes; the prior was chosen once before, as it is for the sets of an
observation. Gains are compared with those of the simulation, one phase a direction removed: rms
phase error in rad for the brightest, middle and faintest third of the directions. *model error*:
power of what the errors do to the visibilities, in that of the noise. *absorbed*: share of the flux
missing from the model that went into the gains.

Below: {runs} of each program; 62 stations, intervals of 8 × 8 s and 20 × 97.6 kHz; high and low
S/N are noise of 0.3 and 3 Jy a correlation and sample.
"""


def write(figures: dict, path: Path) -> None:
    """Put the tables between the marks of a document, or behind its end."""
    counts = [len(row["runs"]) for found in figures.values() for row in found if "runs" in row]
    runs = "one run" if min(counts, default=1) == 1 else f"{min(counts)} runs"
    lines = ["## Solving", "", *TEXT.format(runs=runs).splitlines(), "", *peers(figures)]
    if remote.NAME in figures:
        lines += ["", "38 stations, 40 sources, each behind its own ionosphere, 20 intervals of "
                  "4 × 8 s and 10 × 97.6 kHz; rms phase error (core, remote) of the *sources*:", "",
                  *directions(figures[remote.NAME])]
    if growth.NAME in figures:
        lines += ["", "Growth (62 stations, 15 directions, 60 components, 8 × 20 samples unless "
                  "varied):", "", *growing(figures[growth.NAME])]
    block = "\n".join([BEGIN, *lines, END])
    text = path.read_text()
    if BEGIN in text:
        head, rest = text.split(BEGIN, 1)
        text = head + block + rest.split(END, 1)[1]
    else:
        text = text.rstrip("\n") + "\n\n" + block + "\n"
    path.write_text(text)
