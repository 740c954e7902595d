"""A monitor that remembers, and programs that misbehave in a known way."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from ddfpipe.errors import StopRequested


class Watch:
    """Monitor: keeps lines; asks for a stop once `stop_when` is true."""

    def __init__(self):
        self.lines, self.steps, self.messages = [], [], []
        self.stop_when = lambda: False

    def detail(self, text):
        self.lines.append(text)

    def progress(self, what, done, total):
        self.steps.append((what, done, total))

    def message(self, text):
        self.messages.append(text)

    def check(self):
        if self.stop_when():
            raise StopRequested("a stop was asked for")


@pytest.fixture
def watch():
    return Watch()


@pytest.fixture
def program(tmp_path):
    """Function (Python source, name) -> path of a program of that name."""

    def make(source: str, name: str = "tool") -> Path:
        path = tmp_path / name
        path.write_text(f"#!{sys.executable}\nimport os, signal, subprocess, sys, time\n{source}\n")
        os.chmod(path, 0o755)
        return path

    return make
