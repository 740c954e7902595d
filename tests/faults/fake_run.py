"""Runs the pipeline with the fake engine in a process of its own: fake_run.py FOLDER PAUSE [FULL].

Exit codes are those of the scripts.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "pipeline"))

from ddfpipe.cli import run_script  # noqa: E402
from workplace import Workplace  # noqa: E402


def main(words: list[str]) -> int:
    folder, pause = Path(words[0]), float(words[1])
    place = Workplace.__new__(Workplace)
    place.folder = folder
    place.run(pause=pause, full=False, control__quiet=False, control__nobar=False)
    return 0


if __name__ == "__main__":
    run_script(main)
