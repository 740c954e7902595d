"""The installed scripts start, answer and refuse; the example configurations can be used."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from importlib.metadata import version
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SCRIPTS = sorted(path.name for path in (ROOT / "scripts").glob("*.py"))
EXAMPLES = sorted(path.name for path in (ROOT / "examples").glob("*.cfg")
                  if not path.name.startswith("quality"))
WHOLE_POINTINGS = ("tier1.cfg", "tier1-jul2018.cfg")


def call(folder: Path, script: str, *words: str, **more: str) -> subprocess.CompletedProcess:
    """Run an installed script in `folder`; `more` goes into its environment."""
    program = Path(sys.executable).parent / script
    assert program.is_file(), f"{script} is not installed: pip install '.[test]'"
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"} | more
    return subprocess.run([str(program), *words], cwd=folder, text=True, capture_output=True,
                          stdin=subprocess.DEVNULL, timeout=600, env=environment)


@pytest.fixture
def catalogues(tmp_path):
    """A folder with the catalogues that the examples name."""
    folder = tmp_path / "catalogues"
    folder.mkdir()
    for example in EXAMPLES:
        for name in re.findall(r"\$\$/([\w.]+)", (ROOT / "examples" / example).read_text()):
            (folder / name).touch()
    return str(folder)


@pytest.fixture
def work(tmp_path):
    folder = tmp_path / "work"
    folder.mkdir()
    return folder


def test_every_script_is_installed():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    listed = project["tool"]["setuptools"]["script-files"]
    assert sorted(listed) == [f"scripts/{name}" for name in SCRIPTS]
    assert all(os.access(ROOT / name, os.X_OK) for name in listed)


@pytest.mark.parametrize("script", SCRIPTS)
@pytest.mark.parametrize("word", ["--help", "-h"])
def test_help(work, script, word):
    result = call(work, script, word)
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.startswith(f"usage: {script}")
    assert not list(work.iterdir())


def test_version(work):
    result = call(work, "pipeline.py", "--version")
    assert (result.returncode, result.stdout) == (0, f"ddfpipe {version('ddfpipe')}\n")


def test_no_words_show_the_options(work):
    result = call(work, "pipeline.py")
    assert result.returncode == 1 and result.stderr == ""
    assert "[solutions]" in result.stdout and "ndir" in result.stdout


@pytest.mark.parametrize("script, words, told", [
    ("pipeline.py", ["no-such.cfg"], "no-such.cfg"),
    ("pipeline.py", ["plan", "--image-imsise=3"], "imsize"),
    ("make_mslists.py", ["nonsense"], "nonsense"),
    ("make_mslists.py", [], "no measurement sets"),
    ("unpack.py", ["nonsense"], "nonsense"),
    ("simulate.py", ["--config", "no-such-preset", "--output", "x"], "no-such-preset"),
])
def test_wrong_use_is_one_message_and_code_1(work, script, words, told):
    result = call(work, script, *words)
    assert result.returncode == 1
    assert told in result.stderr and "Traceback" not in result.stderr
    assert not list(work.iterdir())


def test_unpack_has_nothing_to_do(work):
    result = call(work, "unpack.py")
    assert result.returncode == 0 and result.stdout.startswith("0 archive(s) unpacked")


def test_the_simulated_lists_serve_the_example(work):
    """simulate.py's lists are what example.cfg names and what the plan of a run reads."""
    result = call(work, "simulate.py", "--config", "example", "--output", ".", "--quiet",
                  "--threads", "1", "--set", "observation.blocks=1", "--set",
                  "observation.n_ms=2", "--set", "observation.channels=1", "--set",
                  "observation.remote_stations=2", "--set", "observation.core_fields=4",
                  "--set", "observation.small_list=1", "--set", "sky.n_sources=3",
                  "--set", "sky.n_bright=1", "--set", "sky.n_gaussian=0")
    assert (result.returncode, result.stdout) == (0, ""), result.stderr
    assert len((work / "big-mslist.txt").read_text().split()) == 2
    result = call(work, "pipeline.py", "plan", str(ROOT / "examples/example.cfg"))
    assert result.returncode == 0, result.stderr
    assert "image_full_ampphase_di_m.NS" in result.stdout and "stages to do" in result.stdout


@pytest.mark.parametrize("name", EXAMPLES)
def test_examples_are_valid(work, catalogues, name):
    result = call(work, "pipeline.py", "config", str(ROOT / "examples" / name),
                  DDF_PIPELINE_CATALOGS=catalogues)
    assert (result.returncode, result.stderr) == (0, "")
    assert f"{name}:" in result.stdout, "the source of each value is told"


@pytest.mark.parametrize("name", WHOLE_POINTINGS)
def test_whole_pointings_can_be_planned_as_described(work, catalogues, name):
    example = str(ROOT / "examples" / name)
    result = call(work, "pipeline.py", "plan", example, DDF_PIPELINE_CATALOGS=catalogues)
    assert result.returncode == 0, result.stderr
    assert "bootstrap_mean" in result.stdout
    assert "image_full_low" in result.stdout and "DDS3_full_slow" in result.stdout
