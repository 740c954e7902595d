"""Links to merged solutions are found again after moves, by name or by time."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from ddfpipe.calibration.gains import GainTable
from ddfpipe.data.links import find_repairs, first_time, repair_links
from ddfpipe.data.solutions import link_solution, load_solution, save_solution, save_table
from ddfpipe.errors import DataError
from ddfpipe.naming import merged_file, solution_file

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "fixsymlinks.py"
STARTS = {"L1_a.ms": 5e9, "L1_b.ms": 5e9 + 8, "L2_a.ms": 5.001e9}
"""Measurement sets of two observations, the second set of one starting a little later."""
NAME, SMOOTH = "DDS3_full", "DDS3_full_smoothed"


def table(start, value):
    edges = start + np.array([[0.0, 60.0], [60.0, 120.0]])
    return GainTable(edges, np.array([[149e6, 151e6]]), np.full((2, 1, 3, 1, 1), value, complex),
                     ["CS001", "CS002", "CS003"], np.array([[1.0, 0.8]]), ant_pos=np.ones((3, 3)))


@pytest.fixture
def run(tmp_path):
    """A working directory with links as a run of ours leaves them; values tell observations."""
    work = tmp_path / "work"
    work.mkdir()
    merged = {}
    for number, start in ((1, 5e9), (2, 5.001e9)):
        merged[number] = work / merged_file(NAME, start, True)
        save_table(table(start, number), merged[number])
        save_table(table(start, number), merged[number].with_suffix(".h5"))
    for ms, start in STARTS.items():
        save_solution(table(start, 0), work / "SOLSDIR", ms, NAME)
        link_solution(merged[int(ms[1])], work / "SOLSDIR", ms, SMOOTH)
    return work


def link_of(work, ms):
    return solution_file(work / "SOLSDIR", ms, SMOOTH)


def check(work):
    for ms in STARTS:
        for link in (link_of(work, ms), work / "SOLSDIR" / ms / f"{SMOOTH}.h5"):
            assert not os.readlink(link).startswith("/")
        got = load_solution(work / "SOLSDIR", ms, SMOOTH)
        assert np.allclose(got.gains, int(ms[1])), ms
    assert find_repairs(work) == []


def test_good_links_are_left_alone_also_after_a_move(run, tmp_path):
    check(run)
    moved = tmp_path / "elsewhere" / "x"
    shutil.copytree(run, moved, symlinks=True)
    check(moved)


@pytest.mark.parametrize("same_names", [True, False])
def test_absolute_links_of_another_machine(run, same_names):
    for ms in STARTS:
        for suffix, link in ((".npz", link_of(run, ms)),
                             (".h5", run / "SOLSDIR" / ms / f"{SMOOTH}.h5")):
            name = Path(os.readlink(link)).name if same_names else f"{NAME}_7.1_smoothed{suffix}"
            link.unlink()
            link.symlink_to(f"/far/away/{name}")
    repairs = find_repairs(run)
    assert len(repairs) == 6 and {r.why for r in repairs} == {"broken"}
    assert repair_links(repairs) == 6
    check(run)


def test_absolute_links_that_still_work_and_absent_ones(run):
    link = link_of(run, "L1_a.ms")
    target = link.resolve()
    link.unlink()
    link.symlink_to(target)
    link_of(run, "L2_a.ms").unlink()
    assert [(r.link.parent.name, r.why) for r in find_repairs(run)] == [
        ("L1_a.ms", "absolute"), ("L2_a.ms", "absent")]
    repair_links(find_repairs(run))
    check(run)


def test_files_in_place_of_links_are_kept(run):
    link = link_of(run, "L1_a.ms")
    content = link.read_bytes()
    link.unlink()
    link.write_bytes(content)
    assert find_repairs(run) == [] and not link.is_symlink()


def test_what_does_not_fit_is_told_and_not_linked(run):
    far = link_of(run, "L2_a.ms")
    far.unlink()
    far.symlink_to("/far/gone.npz")
    (run / merged_file(NAME, 5.001e9, True)).unlink()
    strange = run / "SOLSDIR" / "L1_a.ms" / "killMS.DDS9_smoothed.sols.npz"
    strange.symlink_to("/far/DDS9_1.00_smoothed.npz")
    unread = link_of(run, "L1_b.ms")
    unread.unlink()
    solution_file(run / "SOLSDIR", "L1_b.ms", NAME).write_bytes(b"torn")
    told = {r.link.parent.name: r for r in find_repairs(run)}
    assert all(r.target is None for r in told.values())
    assert "starts 1000000 s away" in told["L2_a.ms"].why
    assert "no merged file of DDS9_smoothed" in told["L1_a.ms"].why
    assert "cannot be read" in told["L1_b.ms"].why
    assert repair_links(list(told.values())) == 0 and os.readlink(far) == "/far/gone.npz"
    with pytest.raises(DataError, match="there are no solutions"):
        find_repairs(run / "SOLSDIR")


def test_script(run):
    link = link_of(run, "L1_a.ms")
    link.unlink()
    link.symlink_to("/far/gone.npz")

    def call(*words):
        done = subprocess.run([sys.executable, str(SCRIPT), *words], cwd=run, text=True,
                              capture_output=True, timeout=600)
        return done.returncode, done.stdout, done.stderr

    code, out, _ = call("--dry-run")
    assert code == 0 and "1 link(s) to mend" in out and os.readlink(link) == "/far/gone.npz"
    code, out, _ = call()
    assert code == 0 and "1 link(s) mended" in out
    check(run)
    link.unlink()
    link.symlink_to("/far/gone.npz")
    code, _, err = call("--tolerance=-1")
    assert code == 1 and "nothing fits these links" in err


@pytest.mark.shared_data
def test_the_time_of_a_file_of_killms(shared_data):
    start = first_time(shared_data / "peer-products" / "killMS.DDS0.sols.npz")
    assert start is not None and 4e9 < start < 6e9
