"""Files that go: leftovers of killed runs, partial products, what `redofrom` puts aside."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path

from ddfpipe.errors import ResourceError
from ddfpipe.naming import (
    PREVIEWS, REPORT, SUMMARY, image_product, parse_image_product,
    preview_name, solution_table,
)
from ddfpipe.pipeline.stage import Stage
from ddfpipe.pipeline.state import RunState

_TEMPORARY = re.compile(r"^\..+\.(?P<pid>\d+)-[0-9a-f]{8}\.tmp")
"""Names of `ddfpipe.data.atomic.temporary_name`."""
ASIDE = "_aside"


def remove_leftovers(workdir: Path, solsdir: Path) -> list[str]:
    """Remove temporary files that processes now dead left in the folders of products."""
    from ddfpipe.data.atomic import remove

    folders = [workdir, workdir / PREVIEWS, RunState(workdir).folder, solsdir]
    folders += [path for path in _entries(solsdir) if path.is_dir()]
    removed = []
    for folder in folders:
        for path in _entries(folder):
            match = _TEMPORARY.match(path.name)
            if match and not _is_alive(int(match["pid"])):
                remove(path)
                removed.append(str(path))
    return removed


def _entries(folder: Path) -> Iterator[Path]:
    return folder.iterdir() if folder.is_dir() else iter(())


def _is_alive(pid: int) -> bool:
    if pid == os.getpid():
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def set_aside(stage: Stage, since: float, workdir: Path) -> list[str]:
    """Move what a failed stage made after the time `since` (s) out of the way; the new names.

    They are whole files, but a stage that failed vouches for none of them.
    """
    target = RunState(workdir).folder / ASIDE / stage.name
    moved = []
    for name in stage.makes:
        path = workdir / name
        if path.is_symlink() or not path.is_file() or path.stat().st_mtime < since:
            continue
        moved.append(str(_move(path, target / name)))
    return moved


def archive(stages: Iterable[Stage], state: RunState, workdir: Path, archive_dir: Path,
            logs: Path | None) -> list[str]:
    """Move the products and logs of stages into `archive_dir`; forget their records.

    A product of the same name that is there already is replaced.  Returns the names moved.
    Raises ResourceError, with nothing moved, when `archive_dir` cannot be made.
    """
    try:
        archive_dir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ResourceError(
            f"{archive_dir}: cannot be made ({error.strerror}); set [control] archive_dir to "
            "another folder"
        ) from error
    moved: list[str] = []
    for stage in stages:
        record = state.read(stage.name)
        names = {*stage.makes, *(item.path for item in (record.outputs if record else ()))}
        names |= {path.name for path in _of_root(stage, workdir)}
        names |= {str(path) for name in stage.makes if (path := solution_table(name))}
        names |= {preview_name(name) for name in tuple(names)}
        # Forgetting first: a kill in between leaves files without a record, not the reverse.
        state.forget(stage.name)
        for name in sorted(names):
            moved += _archive_one(workdir, Path(name), archive_dir)
        for log in sorted(logs.glob(f"{stage.name}.log*")) if logs and logs.is_dir() else []:
            _move(log, archive_dir / logs.name / log.name)
    for name in (SUMMARY, REPORT):
        moved += _archive_one(workdir, Path(name), archive_dir)
    return moved


def _of_root(stage: Stage, workdir: Path) -> list[Path]:
    """Every image product of a stage's root, recorded or not (a stage that was cut short)."""
    markers = {image_product(stage.name, "dirty"), image_product(stage.name, "app_restored")}
    if not markers.intersection(stage.makes):
        return []
    found = []
    for path in _entries(workdir):
        parsed = parse_image_product(path.name)
        if parsed and parsed.root == stage.name:
            found.append(path)
    return found


def _archive_one(workdir: Path, name: Path, archive_dir: Path) -> list[str]:
    path = workdir / name
    if not (path.exists() or path.is_symlink()):
        return []
    # Solutions outside the working directory keep the folder of their measurement set.
    inside = path.absolute().is_relative_to(workdir.absolute()) and not name.is_absolute()
    if inside:
        target = archive_dir / name
    elif path.suffix in (".npz", ".h5"):
        target = archive_dir / "SOLSDIR" / path.parent.name / path.name
    else:
        target = archive_dir / path.name
    _move(path, target)
    return [str(name)]


def _move(source: Path, target: Path) -> Path:
    from ddfpipe.data.atomic import remove

    # Folders outside the working directory may be the archive's own.
    if target.parent.resolve() / target.name == source.parent.resolve() / source.name:
        return source
    target.parent.mkdir(parents=True, exist_ok=True)
    remove(target)
    shutil.move(source, target)
    return target
