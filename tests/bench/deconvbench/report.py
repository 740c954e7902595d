"""The figures of the benchmark as a table."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from .skies import CASES

BEGIN, END = "<!-- deconvolution: begin -->", "<!-- deconvolution: end -->"
HEAD = ("sky", "program", "CPU s", "times ours", "MB", "rms in mask", "outside", "largest",
        "flux in the model", "in the restored image", "index", "components")
LOST = 100.0
"""Residual rms over the noise from which on a program has diverged and no figure says more."""

SHORT = {"points": "p", "points on the halo": "o", "doubles": "d", "halo": "h"}


def merged(runs: list[dict]) -> dict:
    """The first of several skies of one kind, and after each program what all of its skies give.

    These are medians; of fluxes the mean of the medians, in which errors of either sign cancel, and
    the median of the rms errors.
    """
    out: dict = {}
    for case in {case: None for run in runs for case in run}:
        names = {name: None for run in runs for name in run.get(case, {})}
        for name in names:
            mine = [run[case][name] for run in runs if name in run.get(case, {})]
            out.setdefault(case, {})[name] = mine[0]
            if len(mine) > 1:
                out[case][f"{name}, {len(mine)} skies"] = _middle(mine)
    return out


def _middle(mine: list[dict]) -> dict:
    """All runs of one program on one kind of sky."""
    found: dict = {"cpu": [float(np.median([sum(f["cpu"]) for f in mine]))]}
    for key in ("inside", "outside", "worst", "memory", "components"):
        found[key] = float(np.median([f[key] for f in mine]))
    for key in ("flux", "restored"):
        found[key] = {kind: (float(np.mean([f[key][kind][0] for f in mine])),
                             float(np.median([f[key][kind][1] for f in mine])))
                      for kind in mine[0][key]}
    found["index"] = {kind: float(np.median([f["index"][kind] for f in mine]))
                      for kind in mine[0]["index"]}
    return found


def _percent(found: dict, kinds) -> str:
    """Median and rms errors in per cent, kind by kind."""
    return "; ".join(
        f"{SHORT[kind]} {100 * found[kind][0]:+.1f}, {100 * found[kind][1]:.1f}" for kind in kinds)


def _row(title: str, name: str, f: dict, ours: float | None) -> str:
    cpu, kinds = sum(f["cpu"]), [kind for kind in SHORT if kind in f["flux"]]
    times = f"{cpu / ours:.2g}" if ours and not name.startswith("ddfpipe") else ""
    if f["inside"] > LOST:
        told = title, name, f"{cpu:.3g}", times, f"{f['memory'] / 1e6:.0f}", "diverged"
        return "| " + " | ".join(told) + " |" * (len(HEAD) - len(told) + 1)
    index = "; ".join(f"{SHORT[k]} {f['index'][k]:.2f}" for k in kinds)
    cells = (title, name, f"{cpu:.3g}", times, f"{f['memory'] / 1e6:.0f}", f"{f['inside']:.2f}",
             f"{f['outside']:.2f}", f"{f['worst']:.0f}", _percent(f["flux"], kinds),
             _percent(f["restored"], kinds), index, f"{f['components']:.0f}")
    return "| " + " | ".join(cells) + " |"


def table(figures: dict) -> str:
    """A table of Markdown, a row a sky and program."""
    lines = ["| " + " | ".join(HEAD) + " |", "|---" * len(HEAD) + "|"]
    for case in CASES:
        rows = figures.get(case.name, {})
        ours = sum(rows["ddfpipe"]["cpu"]) if "ddfpipe" in rows else None
        for number, (name, f) in enumerate(rows.items()):
            lines.append(_row(case.title if number == 0 else "", name, f, ours))
    return "\n".join(lines) + "\n"


def write(figures: dict, page: Path) -> None:
    """Put the table between its marks on a page; ValueError when they are not there."""
    head, found, rest = page.read_text().partition(BEGIN)
    _, closed, tail = rest.partition(END)
    if not (found and closed):
        raise ValueError(f"{page}: the lines {BEGIN} and {END} are missing")
    page.write_text(f"{head}{BEGIN}\n{table(figures)}{END}{tail}")
