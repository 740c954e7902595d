"""What DDFacet and killMS leave in shared memory.

Both name their arrays and semaphores after their own process (`ddf.<pid>`), and a run that is
killed leaves them behind, many gigabytes on a large field.  Their own CleanSHM.py removes those of
every run on the machine; only what belongs to the process that has just ended is removed here.
"""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from ...errors import ResourceError

FOLDER = Path("/dev/shm")
_OWNER = re.compile(r"^(?:(?:sem\.)?ddf\.|shared_dict:)?(\d+)(?:[.:]|$)")

VANISHED = re.compile(rf"FileNotFoundError: .*'{FOLDER}/")
"""What they end with when anybody on the machine removes a file there while they look through it,
as they do at their start; another DDFacet or killMS is enough."""


def clean_shared_memory(pid: int, folder: Path = FOLDER) -> list[str]:
    """Remove what process `pid`, which has ended, left; returns the names."""
    gone = []
    for path in sorted(folder.iterdir()) if folder.is_dir() else []:
        match = _OWNER.match(path.name)
        if match is None or int(match[1]) != pid:
            continue
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
        gone.append(path.name)
    return gone


class Leftovers:
    """Knows the processes of a run, so that what they leave goes even when the run is killed.

    notes : folder with an empty file for each that runs, named by its id
    """

    def __init__(self, notes: Path, folder: Path = FOLDER):
        self.notes, self.folder = Path(notes), folder

    def started(self, pid: int) -> None:
        """A process of ours runs."""
        self.notes.mkdir(parents=True, exist_ok=True)
        (self.notes / str(pid)).touch()

    def ended(self, pid: int) -> None:
        """It has ended: what it left goes."""
        clean_shared_memory(pid, self.folder)
        (self.notes / str(pid)).unlink(missing_ok=True)

    def sweep(self) -> None:
        """What processes of an earlier run left, which was killed before it could see to it."""
        for note in self.notes.glob("[0-9]*") if self.notes.is_dir() else ():
            if not Path(f"/proc/{note.name}").exists():
                self.ended(int(note.name))


def require_shared_memory(needed: int, folder: Path = FOLDER) -> None:
    """Raise ResourceError where less than `needed` bytes are free (containers often have 64 MB).

    A program that runs out of shared memory dies of a bus error, without a word.
    """
    if not folder.is_dir():
        raise ResourceError(f"there is no {folder}, through which DDFacet's processes share their "
                            "data: mount it, or use [machine] engine = native")
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise ResourceError(
            f"{folder} has {free / 1e9:.2f} GB free and DDFacet shares about {needed / 1e9:.2f} GB "
            "through it: enlarge it ('mount -o remount,size=90% /dev/shm' as root; '--shm-size' of "
            "a container), or use [machine] engine = native"
        )
