"""What a newcomer meets first: the installed package, its documents, set-up and CI scripts."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from importlib.metadata import metadata, requires, version
from pathlib import Path

import ddfpipe
import numpy as np
import pytest
import yaml
from ddfpipe.data.images import SkyGrid, write_image

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted(
    path for pattern in ("*.md", "docs/*.md", "examples/*.md", "singularity/*.md")
    for path in ROOT.glob(pattern)
)
SHELL = [ROOT / ".ci/run", *sorted((ROOT / "misc").glob("*.sh"))]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def tree(folder: Path) -> dict[str, bytes]:
    """Contents of all files under `folder` but compiled ones, by relative path."""
    return {
        str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


def test_the_installed_package_is_whole_and_that_of_the_checkout():
    installed, source = tree(Path(ddfpipe.__file__).parent), tree(ROOT / "ddfpipe")
    assert installed.keys() == source.keys(), "package-data or a stale installation"
    assert installed == source, "the installed package is another version: bash misc/setup.sh test"


def test_metadata():
    assert version("ddfpipe") == ddfpipe.__version__
    told = metadata("ddfpipe")
    assert told["License-Expression"] == PROJECT["license"] == "GPL-3.0-or-later"
    assert told["Requires-Python"] == PROJECT["requires-python"]
    wanted = [re.split(r"[<>=;\[ ]", line)[0] for line in PROJECT["dependencies"]]
    assert set(wanted) <= {re.split(r"[<>=;\[ ]", line)[0] for line in requires("ddfpipe")}
    assert (ROOT / "LICENSE").read_text().lstrip().startswith("GNU GENERAL PUBLIC LICENSE")


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_of_documents_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if not target.startswith(("https://", "http://", "#")):
            assert (page.parent / target.split("#")[0]).exists(), f"{page.name}: {target}"


def test_every_document_is_in_the_index():
    index = (ROOT / "docs/README.md").read_text()
    for page in (ROOT / "docs").glob("*.md"):
        assert page.name == "README.md" or f"({page.name})" in index, page.name


def test_the_readme_names_things_that_exist():
    text = (ROOT / "README.md").read_text()
    for name in re.findall(r"misc/\w+\.sh", text):
        assert (ROOT / name).is_file()
    scripts = {path.name for path in (ROOT / "scripts").glob("*.py")}
    for line in text.splitlines():
        if "not yet" not in line and "misc/" not in line:
            assert set(re.findall(r"(?<![\w-])[\w-]+\.py\b", line)) <= scripts, line
    for name in scripts:
        assert f"`{name}" in text, f"{name} is not in README.md"


def test_every_engine_that_can_be_named_is_there():
    """The readme names them, and each has a package of its own."""
    from ddfpipe.config.sections_data import ENGINES

    readme = (ROOT / "README.md").read_text()
    assert "engine" not in " ".join(line for line in readme.splitlines() if "not yet" in line)
    for engine in ENGINES:
        assert (ROOT / "ddfpipe/engines" / engine / "engine.py").is_file()
        assert engine == "native" or f"engine = {engine}" in (ROOT / "docs/engines.md").read_text()


def test_citation_file():
    cff = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert cff["cff-version"] == "1.2.0" and cff["type"] == "software" and cff["authors"]
    assert cff["version"] == ddfpipe.__version__ and cff["license"] == PROJECT["license"]
    assert all(isinstance(cff[key], str) for key in ("message", "title", "version"))
    dois = [ref["doi"] for ref in cff["references"]]
    assert len(set(dois)) == len(dois) >= 10
    assert all(re.fullmatch(r"10\.\d{4,}/\S+", doi) for doi in dois)
    readme = (ROOT / "README.md").read_text()
    for ref in cff["references"]:
        assert ref["type"] == "article" and ref["title"] and ref["journal"]
        assert all({"family-names", "given-names"} == a.keys() or {"name"} == a.keys()
                   for a in ref["authors"])
        assert str(ref["volume"]) in readme and str(ref["start"]) in readme, ref["title"]


@pytest.mark.parametrize("script", SHELL, ids=lambda path: path.name)
def test_shell_scripts(script):
    assert os.access(script, os.X_OK)
    assert subprocess.run(["bash", "-n", str(script)], capture_output=True).returncode == 0
    assert "set -euo pipefail" in script.read_text()


def setup(tmp_path, python):
    environment = os.environ | {"DDFPIPE_VENV": str(tmp_path / "venv"), "PYTHON": str(python)}
    return subprocess.run(["bash", str(ROOT / "misc/setup.sh")], env=environment, text=True,
                          capture_output=True, stdin=subprocess.DEVNULL, timeout=600)


@pytest.mark.parametrize("body, told", [
    (None, "install Python 3.11"),
    ('case "$*" in *version_info*) exit 1;; *) echo Python 3.9.2;; esac', "3.9.2 is too old"),
    ('case "$*" in *ensurepip*) exit 1;; esac', "apt-get install python3-venv"),
])
def test_set_up_tells_what_is_missing(tmp_path, body, told):
    python = tmp_path / "python"
    if body is not None:
        python.write_text(f"#!/bin/sh\n{body}\n")
        python.chmod(0o755)
    result = setup(tmp_path, python)
    assert result.returncode == 1 and told in result.stderr
    assert not (tmp_path / "venv").exists()


def compare(folder, *words):
    return subprocess.run([sys.executable, str(ROOT / "misc/compare_with_truth.py"), *words],
                          cwd=folder, text=True, capture_output=True, timeout=600)


def test_comparison_with_the_simulated_sky(tmp_path):
    """Fluxes at 90 %, one position off by two pixels; extended, faint and far sources left out."""
    grid = SkyGrid(ra=3.6, dec=0.9, ny=60, nx=60, cell=1.5e-5)
    places = {"a": (30, 40), "b": (12, 15), "extended": (45, 20), "faint": (20, 50)}
    fluxes = {"a": 2.0, "b": 1.0, "extended": 3.0, "faint": 0.015, "far": 5.0}
    plane = np.random.default_rng(1).normal(0, 1e-3, grid.shape)
    lines = ["FORMAT = Name, Type, Ra, Dec, I, MajorAxis, MinorAxis, Orientation"]
    for name, (y, x) in (places | {"far": (30, 300)}).items():
        size = 40 if name == "extended" else 0
        ra, dec = np.degrees(grid.radec(*grid.lm(y, x)))
        lines.append(f"{name}, {'GAUSSIAN' if size else 'POINT'}, {ra}, {dec}, {fluxes[name]}, "
                     f"{size}, {size}, 0")
        if name in places:
            plane[y, x + 2 * (name == "b")] = 0.9 * fluxes[name]
    (tmp_path / "truth.skymodel").write_text("\n".join(lines) + "\n")
    write_image(tmp_path / "sky.fits", plane, grid, freq=144e6)
    result = compare(tmp_path, "truth.skymodel", "sky.fits")
    assert result.returncode == 0, result.stderr
    rows = [line.split() for line in result.stdout.splitlines()]
    assert rows[2:4] == [["2.000", "1.800", "0.90", '0.0"'], ["1.000", "0.900", "0.90", '6.2"']]
    assert rows[4][0] == "2" and rows[4][-1] == "0.90" and len(rows) == 5
    assert compare(tmp_path, "truth.skymodel").returncode == 1
    assert "usage" in compare(tmp_path, "--help").stdout


def test_container_recipe_copies_what_is_there():
    recipe = (ROOT / "singularity/ddfpipe.def").read_text()
    files = re.search(r"(?ms)^%files\n(.*?)^%", recipe).group(1)
    copied = [line.split()[0] for line in files.splitlines() if line.strip()]
    assert all((ROOT / name).exists() for name in copied)
    assert {"pyproject.toml", "README.md", "LICENSE", "ddfpipe", "scripts"} <= set(copied)
    assert "pipeline.py --version" in recipe.split("%test")[1]
