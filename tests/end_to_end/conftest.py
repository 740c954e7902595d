"""Fixtures of the end-to-end tests: real measurement sets, small fields, runs of the script."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent))

from native_runs import Run, write_config  # noqa: E402


class Monitor:
    """Keeps what an engine tells."""

    def __init__(self):
        self.lines = []

    def progress(self, what, done, total):
        assert 0 <= done <= total, what

    def check(self):
        pass

    def message(self, text):
        self.lines.append(text)


@pytest.fixture
def monitor():
    return Monitor()


@pytest.fixture
def make_run(tmp_path):
    """Function (sections, field, full) -> Run in a directory of its own."""

    def make(sections, field=None, full=True, name="run"):
        config = write_config(tmp_path / f"{name}.cfg", field, sections, full)
        return Run(tmp_path / name, config)

    return make
