"""Columns of earlier runs: removed by a stage at the beginning, or by hand."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

from ddfpipe.errors import ConfigError
from ddfpipe.pipeline.builder import Builder
from ddfpipe.pipeline.jobs import RemoveColumnsJob

STAGE = "remove_columns"


def remove_old_columns(b: Builder) -> None:
    """First stage of a recipe: nothing but the input column stays of what pipelines wrote.

    Adds nothing unless [control] remove_columns is on.  Raises ConfigError without a full list.
    """
    config = b.settings.config
    if not config.control.remove_columns:
        return
    if config.data.full_mslist is None:
        raise ConfigError(
            "[control] remove_columns: columns are removed from the measurement sets of [data] "
            "full_mslist, which is not given; give it, or use remove_columns.py on the small list"
        )
    b.remove_columns(STAGE, RemoveColumnsJob(b.full, (b.settings.data.colname,)))


def add_arguments(parser: Any) -> None:
    """The options of the scripts: --keep, --yes and --dry-run."""
    parser.add_argument("--keep", action="append", default=[], metavar="COLUMN",
                        help="a column to leave, such as one that a run reads; may be repeated")
    parser.add_argument("--yes", action="store_true", help="remove without asking")
    parser.add_argument("--dry-run", action="store_true", help="show only")


def remove_by_hand(sets: Sequence[str], names: Sequence[str] | None, options: Any) -> None:
    """Show what would go of the columns `names` (None: all that pipelines write), ask, remove.

    options: keep, yes and dry_run of `add_arguments`.  Raises ConfigError where nobody can be
    asked, and the errors of `find_columns` and `remove_columns`.
    """
    from ddfpipe.data.oldcolumns import (
        MADE_COLUMNS, find_columns, measurement_sets, remove_columns,
    )
    from ddfpipe.data.sizes import size_text

    paths = measurement_sets(sets)
    found = find_columns(paths, options.keep, names or MADE_COLUMNS)
    for removal in found:
        print(f"{removal.ms}: {', '.join(removal.columns)} ({size_text(removal.size)})")
    total = sum(len(removal.columns) for removal in found)
    print(f"{total} column(s) in {len(found)} of {len(paths)} measurement set(s), "
          f"{size_text(sum(removal.size for removal in found))}")
    if options.dry_run or not found:
        return
    if not options.yes and not _consent():
        print("nothing was removed")
        return
    print(f"{remove_columns(found)} column(s) removed")


def _consent() -> bool:
    if not sys.stdin.isatty():
        raise ConfigError("nothing was removed: there is nobody to ask; give --yes")
    return input("Remove them? [y/N] ").strip().lower() in ("y", "yes")
