"""The report page of a run: stages, figures and pictures in one static HTML file."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from ddfpipe.report.figures import figure_text
from ddfpipe.report.progress import duration

STYLE = """
body { font: 15px/1.4 sans-serif; margin: 2em auto; max-width: 70em; color: #222 }
table { border-collapse: collapse; width: 100% }
td, th { text-align: left; padding: .25em .7em; border-bottom: 1px solid #ddd }
.done { color: #17692f } .running { color: #0b5394 } .failed { color: #b00020 }
.stopped { color: #8a5a00 } .open { color: #888 }
figure { display: inline-block; margin: .5em } img { width: 30em; max-width: 100% }
figcaption { font-size: 85%; color: #555 }
"""

_HEAD = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title><style>{style}</style></head>
<body><h1>{title}</h1><p>{done} of {total} stages done; written {now}.</p>
"""


@dataclass
class PageRow:
    """One stage on the page.  state: open, running, done, stopped or failed."""

    name: str
    group: str
    state: str = "open"
    finished: str = ""
    seconds: float = 0.0
    figures: Mapping[str, Any] = field(default_factory=dict)
    pictures: Sequence[str] = ()
    note: str = ""


def write_page(path: Path, title: str, rows: Sequence[PageRow]) -> None:
    """Write the page, whole or not at all.  Pictures are linked, relative to the page."""
    from ddfpipe.data.atomic import atomic_write_text

    parts = [_HEAD.format(
        title=html.escape(f"ddfpipe: {title}"), style=STYLE, total=len(rows),
        done=sum(row.state == "done" for row in rows),
        now=datetime.now().strftime("%Y-%m-%d %H:%M:%S"),
    )]
    parts += ["<table><tr><th>stage</th><th>state</th><th>time</th><th>figures</th></tr>"]
    group = ""
    for row in rows:
        if row.group != group:
            group = row.group
            parts.append(f'<tr><th colspan="4">{html.escape(group)}</th></tr>')
        parts.append(_table_row(row))
    parts.append("</table>")
    parts += [_pictures(row) for row in reversed(rows) if row.pictures]
    atomic_write_text(path, "\n".join(parts) + "</body></html>\n", durable=False)


def _table_row(row: PageRow) -> str:
    spent = duration(row.seconds) if row.state == "done" else ""
    text = html.escape(row.note or figure_text(row.figures))
    return (f'<tr><td>{html.escape(row.name)}</td><td class="{row.state}">{row.state}</td>'
            f"<td>{spent}</td><td>{text}</td></tr>")


def _pictures(row: PageRow) -> str:
    figures = "".join(
        f'<figure><a href="{html.escape(name)}"><img loading="lazy" src="{html.escape(name)}" '
        f'alt="{html.escape(name)}"></a><figcaption>{html.escape(Path(name).stem)}</figcaption>'
        "</figure>" for name in row.pictures
    )
    return f"<h2>{html.escape(row.name)}</h2>{figures}"
