"""Downloads through rclone, for remotes that plain HTTP does not reach."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections import deque
from collections.abc import Callable
from pathlib import Path

from ddfpipe.errors import ConfigError, DataError, ResourceError

FOLDERS = ("RCLONE_CONFIG_DIR", "MACAROON_DIR")
"""Environment variables that name a folder of configurations."""
REMOTE = re.compile(r"^[\w.+ @-]+:(?!//)")
"""What the name of a remote begins with."""
TAIL_LINES = 12
_REFUSED = re.compile(r"\b(401|403)\b|unauthori[sz]ed|forbidden|permission denied|expired",
                      re.IGNORECASE)


def is_remote(word: str) -> bool:
    """Whether a word names a place on an rclone remote, such as ``spider:field/``."""
    return REMOTE.match(word) is not None and not Path(word).exists()


def find_config(name: str | None) -> Path | None:
    """Configuration file: as given, or in the folder that RCLONE_CONFIG_DIR or MACAROON_DIR name.

    None leaves the choice to rclone.  Raises ConfigError for one that is not there.
    """
    if name is None:
        return None
    folders = [Path(os.environ[key]) for key in FOLDERS if os.environ.get(key)]
    for path in [Path(name), *(folder / name for folder in folders)]:
        if path.is_file():
            return path
    looked = f" nor in {', '.join(map(str, folders))}" if folders else ""
    raise ConfigError(f"--config {name}: there is no such file{looked}")


def copy(source: str, folder: Path, config: Path | None = None, *, jobs: int = 2,
         include: tuple[str, ...] = ("*.tar", "*.tar.gz", "*.tgz"),
         without: tuple[str, ...] = ("step1",), say: Callable[[str], None] = print) -> None:
    """Copy the archives of a remote folder (or one file) into `folder`.

    rclone compares sizes and, where the remote has them, checksums, and fetches only what is not
    there.  Raises ResourceError when rclone is not installed or access is refused, DataError when
    the copy fails.
    """
    program = os.environ.get("RCLONE_COMMAND", "rclone")
    if shutil.which(program) is None:
        raise ResourceError(f"{source}: needs the program rclone, which is not installed ("
                            f"{program}); install it (apt-get install rclone), set RCLONE_COMMAND, "
                            "or give http addresses")
    words = [program, *(("--config", str(config)) if config else ()), "copy",
             "--transfers", str(jobs), "--stats", "60s", "--stats-one-line", "--verbose"]
    # Rules are tried in order, the first that fits counts; what fits none is left out.
    words += [w for text in without for w in ("--filter", f"- *{text}*")]
    words += [w for text in include for w in ("--filter", f"+ {text}")] + ["--filter", "- *"]
    folder.mkdir(parents=True, exist_ok=True)
    tail: deque[str] = deque(maxlen=TAIL_LINES)
    with subprocess.Popen([*words, source, str(folder)], stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True, errors="replace") as process:
        try:
            for line in process.stdout:
                tail.append(line.strip())
                say(line.rstrip())
        except BaseException:
            process.terminate()
            raise
    if process.returncode == 0:
        return
    told = "\n  ".join(line for line in tail if line)
    if any(_REFUSED.search(line) for line in tail):
        whose = f"configuration {config}" if config else "default configuration of rclone"
        raise ResourceError(f"{source}: access is refused with the {whose}; its token may have "
                            f"expired: get a new one, or give --config FILE\n  {told}")
    raise DataError(f"{source}: rclone failed with code {process.returncode}\n  {told}")
