"""`pipeline.py plan --estimate` as a user types it, and how the extent of data is found."""

import dataclasses
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from ddfpipe.data.ms import read_metadata
from ddfpipe.data.setsize import read_set_size
from workplace import cpu_of_children, tree_state

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "scripts" / "pipeline.py"
FIELD = """\
companions = false
[observation]
hours = 1.0
blocks = 2
slots = 3
n_ms = 2
channels = 2
core_fields = 4
remote_stations = 3
name = "L000009"
small_list = 2
[sky]
n_sources = 3
"""
CONFIG = """
[data]
mslist = field/mslist.txt
full_mslist = field/big-mslist.txt
colname = DATA
[image]
imsize = 512
cellsize = 6
final_psf_arcsec = 12
[solutions]
ndir = 3
[machine]
NCPU_DDF = 2
NCPU_killms = 2
"""


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A working directory with simulated measurement sets."""
    folder = tmp_path_factory.mktemp("estimate")
    (folder / "field.toml").write_text(FIELD)
    subprocess.run([sys.executable, str(ROOT / "scripts" / "simulate.py"), "--config",
                    "field.toml", "--output", "field"], cwd=folder, check=True, capture_output=True)
    (folder / "my.cfg").write_text(CONFIG)
    return folder


def call(folder, *words):
    result = subprocess.run([sys.executable, str(SCRIPT), *words], cwd=folder, text=True,
                            capture_output=True, timeout=600, env=os.environ | {"COLUMNS": "200"})
    return result.returncode, result.stdout, result.stderr


def test_estimate_of_a_plan(home):
    before = tree_state(home)
    used = cpu_of_children()
    code, out, _ = call(home, "plan", "--estimate", "my.cfg")
    assert code == 0 and cpu_of_children() - used < 20
    assert "43 of 43 stages to do" in out and "core-hours" in out and "on 2 threads" in out
    row = next(line for line in out.splitlines() if " image_phase1 " in line)
    assert "GB" in row or "MB" in row and "to do: not done yet" in row
    assert "WARNING" not in out
    assert tree_state(home) == before
    same = call(home, "plan", "my.cfg", "--estimate")
    assert same[:2] == (code, out)


def test_warnings_of_a_plan(home):
    code, out, _ = call(home, "plan", "--estimate", "my.cfg", "--image-imsize=60000",
                        "--machine-memory_limit_gb=4")
    assert code == 0 and "WARNING" in out and "4 GB can be had" in out


@pytest.mark.parametrize("words", [("my.cfg", "--estimate"), ("status", "--estimate", "my.cfg"),
                                   ("config", "my.cfg", "--estimate")])
def test_estimate_belongs_to_plan(home, words):
    code, out, err = call(home, *words)
    assert code == 1 and out == "" and "plan --estimate FILE" in err


def test_without_data_there_is_no_estimate(home):
    code, _, err = call(home, "plan", "--estimate", "--data-mslist=nothing.txt", "my.cfg")
    assert code == 1 and "nothing.txt" in err
    (home / "gone.txt").write_text("gone.ms\n")
    code, _, err = call(home, "plan", "--estimate", "my.cfg", "--data-mslist=gone.txt")
    assert code == 1 and "gone.ms" in err
    (home / "none.cfg").write_text("[image]\nimsize = 512\n")
    code, _, err = call(home, "plan", "--estimate", "none.cfg")
    assert code == 1 and "[data] mslist" in err


def test_extent_is_that_of_the_whole_table(home):
    for path in sorted((home / "field").glob("*.ms")):
        fast, whole = read_set_size(path), read_metadata(path)
        assert fast.n_ant == int(whole.stations_used.sum())
        np.testing.assert_allclose(fast.times, whole.times, atol=0.1)
        assert fast.interval == whole.interval
        np.testing.assert_array_equal(fast.freqs, np.sort(whole.freqs))
        assert fast.visibilities == fast.n_bl * whole.n_time * whole.n_chan
        assert fast.share(0.0, np.inf) == 1.0 and fast.share(0.0, 1.0) == 0.0
        none = dataclasses.replace(fast, positions=fast.positions[:1])
        assert none.n_bl == 0 and none.share(0, 1e9) == 0.0
