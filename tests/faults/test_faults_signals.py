"""Kills, stops and two runs at once, with real processes."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ddfpipe.errors import LockError, NoFullList, StopRequested
from ddfpipe.pipeline.run import show_status
from ddfpipe.pipeline.signals import StopFlag
from ddfpipe.pipeline.state import RunState
from workplace import Workplace

SCRIPT = Path(__file__).with_name("fake_run.py")


def start(place, pause):
    return subprocess.Popen([sys.executable, str(SCRIPT), str(place.folder), str(pause)],
                            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def wait_for(condition, seconds=300.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.02)


def at_work(place):
    """Whether a stage is inside its computation."""
    current = RunState(place.folder).current()
    return current is not None and bool(current.progress)


def records(place):
    return len(list((place.folder / "ddfpipe.state").glob("[!_.]*.json")))


@pytest.fixture
def place(tmp_path):
    return Workplace(tmp_path)


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    place = Workplace(tmp_path_factory.mktemp("reference"))
    with pytest.raises(NoFullList):
        place.run(full=False)
    return place.products()


def test_killed_at_random_moments_a_run_ends_with_the_same_products(place, reference):
    moments = random.Random(20240607)
    done = 0
    while done < 16:
        process = start(place, 0.05)
        try:
            goal = done + moments.randint(2, 5)
            wait_for(lambda: records(place) >= goal or process.poll() is not None)
            time.sleep(moments.uniform(0.0, 0.1))
        finally:
            process.kill()
            process.wait()
        assert records(place) >= goal, process.stdout.read()
        done = records(place)
    # What a kill in the middle of writing leaves behind.
    (place.folder / ".image_phase1.999999999-0123abcd.tmp.fits").write_bytes(b"half")
    with pytest.raises(NoFullList):
        place.run(full=False)
    assert 0 < len(place.made) < 20
    assert place.products() == reference


def test_stop_signal_inside_a_stage(place):
    process = start(place, 6.0)
    wait_for(lambda: at_work(place))
    status = show_status(place.field(full=False))
    assert "running" in status and f"process {process.pid} on " in status
    process.send_signal(signal.SIGUSR1)
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 2 and "SIGUSR1" in output
    assert "stopped" in show_status(place.field(full=False))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_other_signals_stop_it_too(place, number):
    process = start(place, 2.0)
    wait_for(lambda: at_work(place))
    process.send_signal(number)
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 2 and number.name in output


def test_a_second_interrupt_ends_it_at_once(place):
    process = start(place, 600.0)
    wait_for(lambda: at_work(place))
    process.send_signal(signal.SIGINT)
    time.sleep(0.3)
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=600)
    assert process.returncode == 2 and "leaving at once" in output
    assert "interrupted" in show_status(place.field(full=False))


def test_two_runs_in_one_directory(place):
    process = start(place, 60.0)
    try:
        wait_for(lambda: at_work(place))
        with pytest.raises(LockError, match=f"process {process.pid}"):
            place.run(full=False)
        assert place.made == []
    finally:
        process.kill()
        process.wait()
    # The lock of a killed run does not hinder.
    with pytest.raises(StopRequested):
        place.run(full=False, control__exitafter="external_mask")


def test_a_stop_asked_for_before_the_start(place):
    with pytest.raises(StopRequested, match="SIGUSR1"):
        place.run(stop=StopFlag(asked_by="SIGUSR1"))
    assert place.made == [] and records(place) == 0


def test_catch_signal_off_leaves_the_signal_deadly(place):
    flag = StopFlag()
    before = {n: signal.getsignal(n) for n in (signal.SIGUSR1, signal.SIGINT, signal.SIGTERM)}
    try:
        flag.install(catch_usr1=False)
        assert signal.getsignal(signal.SIGUSR1) == signal.SIG_DFL
        os.kill(os.getpid(), signal.SIGTERM)
        with pytest.raises(StopRequested, match="SIGTERM"):
            flag.check()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
