"""The two lists of measurement sets, by the script a user would run."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from casacore import tables
from make_ms import Spec, write_ms

from ddfpipe.data.ms import read_list
from ddfpipe.data.mslists import make_mslists
from ddfpipe.errors import DataError

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "make_mslists.py"
TINY = {"n_ant": 3, "n_time": 2, "n_chan": 2, "autos": False}


def write_observation(folder, n, day=0, first="L1", **changes):
    for k in range(n):
        write_ms(folder / f"{first}_SB{k:03d}.ms",
                 Spec(**(TINY | changes), start=5e9 + 86400 * day, freq0=120e6 + 2e5 * k))


def run(folder, *words):
    return subprocess.run([sys.executable, SCRIPT, *words], cwd=folder, capture_output=True,
                          text=True)


def lines(path):
    return path.read_text().split()


def test_a_full_observation(tmp_path):
    write_observation(tmp_path, 24)
    done = run(tmp_path)
    assert done.returncode == 0, done.stderr
    names = [f"L1_SB{k:03d}.ms" for k in range(24)]
    assert lines(tmp_path / "big-mslist.txt") == names
    assert lines(tmp_path / "mslist.txt") == names[2::4]
    assert "warning" not in done.stdout and done.stdout.count("full and small") == 6
    assert len(read_list(tmp_path / "mslist.txt")) == 6


def test_bad_sets_are_dropped_and_said(tmp_path):
    write_observation(tmp_path, 22)
    with tables.table(str(tmp_path / "L1_SB003.ms"), readonly=False, ack=False) as main:
        flags = np.ones_like(main.getcol("FLAG"))
        flags[0] = False
        main.putcol("FLAG", flags)
    write_ms(tmp_path / "L1_SB100.ms", Spec(**(TINY | {"n_chan": 3}), freq0=140e6))
    (tmp_path / "L1_SB101.ms").mkdir()
    result = make_mslists(tmp_path)
    assert len(result.full) == 21 and "L1_SB003.ms" not in result.full
    dropped = {e.path.name: e.dropped for e in result.entries if e.dropped}
    assert set(dropped) == {"L1_SB003.ms", "L1_SB100.ms", "L1_SB101.ms"}
    assert "flagged" in dropped["L1_SB003.ms"] and "channels" in dropped["L1_SB100.ms"]
    assert any("21 usable" in w for w in result.warnings)
    assert "83.3%" in result.table()


def test_too_few_fail_unless_forced(tmp_path):
    write_observation(tmp_path, 17)
    done = run(tmp_path)
    assert done.returncode == 1 and "only 17 of 17" in done.stderr and "force" in done.stderr
    assert not list(tmp_path.glob("*.txt"))
    done = run(tmp_path, "force")
    assert done.returncode == 0 and "warning: 17 usable" in done.stdout
    assert len(lines(tmp_path / "big-mslist.txt")) == 17
    assert run(tmp_path, "forced").returncode == 1
    assert "usage: make_mslists.py [force]" in run(tmp_path, "--help").stdout


@pytest.mark.parametrize("number", [1, 2, 3])
def test_force_with_few_gives_a_small_list(tmp_path, number):
    write_observation(tmp_path, number)
    result = make_mslists(tmp_path, force=True)
    assert len(result.small) == 1 and result.small[0] in result.full


def test_every_fourth_of_each_observation(tmp_path):
    write_observation(tmp_path, 11, day=1, first="L1")
    write_observation(tmp_path, 10, day=0, first="L2")
    result = make_mslists(tmp_path)
    assert result.full[:10] == tuple(f"L2_SB{k:03d}.ms" for k in range(10))
    assert result.small == ("L2_SB002.ms", "L2_SB006.ms",
                            "L1_SB002.ms", "L1_SB006.ms", "L1_SB010.ms")


def test_odd_first_set_is_warned_of(tmp_path):
    write_observation(tmp_path, 3)
    write_ms(tmp_path / "A_SB.ms", Spec(**(TINY | {"n_chan": 3})))
    result = make_mslists(tmp_path, force=True)
    assert result.full == ("A_SB.ms",)
    assert any("A_SB.ms" in w and "2 channels" in w for w in result.warnings)


def test_no_sets_at_all(tmp_path):
    with pytest.raises(DataError, match="no measurement sets.*unpack"):
        make_mslists(tmp_path, force=True)
    (tmp_path / "x.ms").mkdir()
    with pytest.raises(DataError, match="only 0 of 1"):
        make_mslists(tmp_path, force=True)
    assert not list(tmp_path.glob("*.txt"))
