"""The runner of other programs: success, every way to fail, stopping, repeating."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from ddfpipe.engines.external.runner import MOST_STUMBLES, Call, Runner
from ddfpipe.errors import ConfigError, ResourceError, StageFailed, StopRequested

ROOT = Path(__file__).resolve().parents[3]


def call(path, folder, *words, **more) -> Call:
    return Call((str(path), *words), folder, **more)


def alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except OSError:
        return False
    return state != "Z"


def gone(pid: int, patience: float = 100.0) -> bool:
    end = time.monotonic() + patience
    while alive(pid) and time.monotonic() < end:
        time.sleep(0.05)
    return not alive(pid)


def test_output_goes_to_the_log_and_progress_to_the_monitor(program, watch, tmp_path):
    path = program("print(os.environ['WHO'], *sys.argv[1:]); print('3/7')\n"
                   "open('made', 'w').write('x')")

    def parser(line):
        return ("tool", *map(int, line.split("/"))) if "/" in line else None

    given = call(path, tmp_path, "a b", "$HOME", products=(tmp_path / "made",),
                 environment={"WHO": "me"}, parser=parser)
    assert Runner(watch).run(given) == ["me a b $HOME", "3/7"]
    assert watch.steps == [("tool", 3, 7)]
    assert watch.lines[0].startswith("$ WHO=me ") and "'a b' '$HOME'" in watch.lines[0]
    assert watch.lines[1:] == ["me a b $HOME", "3/7", "tool ended with 0"]


def test_a_dry_run_tells_the_command_and_does_nothing(program, watch, tmp_path):
    path, told = program("open('made', 'w').write('x')"), []
    old = tmp_path / "made"
    old.write_text("old")
    assert Runner(watch, told.append).run(call(path, tmp_path, "x", products=(old,))) == []
    assert told == [f"{path} x"] and old.read_text() == "old"


@pytest.mark.parametrize("source, error, words", [
    ("print('no such column'); sys.exit(3)", StageFailed, ["exit code 3", "no such column"]),
    ("sys.exit(255)", StageFailed, ["exit code 255", "printed nothing"]),
    ("os.kill(os.getpid(), signal.SIGKILL)", ResourceError, ["memory", "memory_limit_gb"]),
    ("print('std::bad_alloc'); sys.exit(1)", ResourceError, ["memory"]),
    ("sys.exit(137)", ResourceError, ["memory"]),
    ("print('write: No space left on device'); sys.exit(1)", ResourceError, ["disk is full"]),
    ("os.kill(os.getpid(), signal.SIGBUS)", StageFailed, ["bus error", "/dev/shm"]),
    ("os.kill(os.getpid(), signal.SIGSEGV)", StageFailed, ["SIGSEGV"]),
    ("print('all is well')", StageFailed, ["ended well but did not make made", "all is well"]),
    ("open('made', 'w')", StageFailed, ["did not make made"]),
])
def test_failures_are_told_apart_and_leave_nothing(source, error, words, program, watch, tmp_path):
    path = program("open('half', 'w').write('x')\n" + source)
    made, half = tmp_path / "made", tmp_path / "half"
    with pytest.raises(error) as caught:
        Runner(watch).run(call(path, tmp_path, products=(made,), partial=(half,)))
    assert all(word in str(caught.value) for word in words), caught.value
    assert not made.exists() and not half.exists()


def test_an_old_product_is_no_success(program, watch, tmp_path):
    (tmp_path / "made").write_text("old")
    with pytest.raises(StageFailed, match="did not make"):
        Runner(watch).run(call(program("pass"), tmp_path, products=(tmp_path / "made",)))


def test_only_the_last_lines_are_in_the_error(program, watch, tmp_path):
    path = program("for i in range(100): print('line', i)\nsys.exit(1)")
    with pytest.raises(StageFailed) as caught:
        Runner(watch).run(call(path, tmp_path))
    assert "line 99" in str(caught.value) and "line 80\n" not in str(caught.value)
    assert "line 0" in watch.lines


def test_errors_of_what_is_cleared_away_are_not_in_the_error(program, watch, tmp_path):
    path = program("""
class Broken:
    def __del__(self):
        raise AttributeError('no grids')
broken = Broken()
try:
    raise ValueError('no such catalogue')
except ValueError as error:
    print('ValueError:', error, flush=True)
del broken
print('ended', flush=True)
sys.exit(1)""")
    with pytest.raises(StageFailed) as caught:
        Runner(watch).run(call(path, tmp_path))
    assert str(caught.value).endswith(":\n  ValueError: no such catalogue\n  ended")
    assert "AttributeError: no grids" in watch.lines


def test_a_program_that_is_missing_names_the_installer(watch, tmp_path):
    with pytest.raises(ConfigError, match="install_lofar.sh"):
        Runner(watch).run(call(tmp_path / "nowhere", tmp_path))


CHILD = "p = subprocess.Popen(['sleep', '600']); open('pid', 'w').write(str(p.pid))\n"


def test_a_stop_ends_the_whole_group_and_removes_products(program, watch, tmp_path):
    path = program("open('made', 'w').write('half')\n" + CHILD + "time.sleep(600)")
    pid = tmp_path / "pid"
    watch.stop_when = lambda: pid.exists() and pid.read_text() != ""
    start = time.monotonic()
    with pytest.raises(StopRequested):
        Runner(watch).run(call(path, tmp_path, products=(tmp_path / "made",)))
    assert time.monotonic() - start < 300
    assert gone(int(pid.read_text())) and not (tmp_path / "made").exists()


def test_a_program_that_ignores_sigterm_is_killed(program, watch, tmp_path, monkeypatch):
    monkeypatch.setattr("ddfpipe.engines.external.runner.GRACE_S", 0.3)
    path = program("signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
                   "open('pid', 'w').write(str(os.getpid()))\ntime.sleep(600)")
    pid = tmp_path / "pid"
    watch.stop_when = lambda: pid.exists() and pid.read_text() != ""
    with pytest.raises(StopRequested):
        Runner(watch).run(call(path, tmp_path))
    assert gone(int(pid.read_text()))


def test_a_time_out_ends_the_group(program, watch, tmp_path):
    path = program(CHILD + "time.sleep(600)")
    with pytest.raises(StageFailed, match="longer than 2 s"):
        Runner(watch).run(call(path, tmp_path, timeout=2.0))
    assert gone(int((tmp_path / "pid").read_text()))


TWICE = """
with open('tries', 'a') as f: f.write('x')
if len(open('tries').read()) < 2: {}
open('made', 'w').write('x')
"""


@pytest.mark.parametrize("trouble, tries", [
    ("os.kill(os.getpid(), signal.SIGSEGV)", 2), ("sys.exit(0)", 2), ("sys.exit(1)", 1),
    ("os.kill(os.getpid(), signal.SIGKILL)", 1),
])
def test_only_what_may_pass_is_tried_again(trouble, tries, program, watch, tmp_path):
    given = call(program(TWICE.format(trouble)), tmp_path, products=(tmp_path / "made",), retries=1)
    if tries == 2:
        Runner(watch).run(given)
        assert "tried again" in watch.messages[0]
    else:
        with pytest.raises((StageFailed, ResourceError)):
            Runner(watch).run(given)
    assert len((tmp_path / "tries").read_text()) == tries


def test_failures_by_chance_are_tried_again(program, watch, tmp_path):
    """As often as they come, within reason; the same words in a success mean nothing."""
    path = program("open('tries', 'a').write('x')\nprint('No such thing')\n"
                   "sys.exit(len(open('tries').read()) < int(sys.argv[1]))")
    chance = re.compile("No such thing")
    Runner(watch).run(call(path, tmp_path, "5", stumble=chance))
    assert (tmp_path / "tries").read_text() == "xxxxx" and len(watch.messages) == 4
    (tmp_path / "tries").unlink()
    with pytest.raises(StageFailed):
        Runner(watch).run(call(path, tmp_path, "99", stumble=chance))
    assert len((tmp_path / "tries").read_text()) == MOST_STUMBLES + 1
    (tmp_path / "tries").unlink()
    with pytest.raises(StageFailed):
        Runner(watch).run(call(path, tmp_path, "3", stumble=re.compile("another"), retries=1))
    assert (tmp_path / "tries").read_text() == "x"


def test_a_program_and_its_processes_die_with_us(program, tmp_path):
    """DDFacet and killMS work in processes of their own, which outlive them."""
    path = program("import subprocess\nworker = subprocess.Popen(['sleep', '600'])\n"
                   "open('pid', 'w').write(f'{os.getpid()} {worker.pid}\\n')\ntime.sleep(600)")
    source = (
        "import sys; from pathlib import Path; from types import SimpleNamespace as N\n"
        "from ddfpipe.engines.external.runner import Call, Runner\n"
        "f = lambda *a: None\n"
        f"Runner(N(check=f, message=f, progress=f)).run(Call(({str(path)!r},), "
        f"Path({str(tmp_path)!r})))"
    )
    parent = subprocess.Popen([sys.executable, "-c", source], env=os.environ | {
        "PYTHONPATH": str(ROOT)})
    pid = tmp_path / "pid"
    end = time.monotonic() + 300
    while not (pid.exists() and pid.read_text().endswith("\n")) and time.monotonic() < end:
        time.sleep(0.05)
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    assert all(gone(int(word)) for word in pid.read_text().split())


def test_nothing_is_left_to_watch_a_program_that_has_ended(program, watch, tmp_path):
    path = program("print('done')")
    before = set(psutil.Process().children())
    for _ in range(3):
        Runner(watch).run(call(path, tmp_path))
    assert set(psutil.Process().children()) <= before


def test_a_program_that_waits_for_its_dead_children_is_ended(program, watch, tmp_path, monkeypatch):
    """It printed that one of its processes died, and hangs; its id is told when it has ended."""
    monkeypatch.setattr("ddfpipe.engines.external.runner.GRACE_S", 0.5)
    path, ended = program("print('Process Worker-2:', flush=True); time.sleep(600)"), []
    one = call(path, tmp_path, fatal=re.compile("^Process Worker"), ended=ended.append)
    start = time.monotonic()
    with pytest.raises(StageFailed, match="one of its own processes died"):
        Runner(watch).run(one)
    assert time.monotonic() - start < 300
    assert len(ended) == 1 and not alive(ended[0])
