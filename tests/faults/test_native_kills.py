"""Runs of the native engine that are killed and stopped, and taken up again."""

import json
import random
import signal
import sys
import time
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "end_to_end"))

from native_runs import (  # noqa: E402
    TINY_FIELD, TINY_RUN, Run, simulate, tree_state, write_config,
)

KILLS = 20
STAGES = 43


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A simulated field, and the function that makes a run over it."""
    folder = tmp_path_factory.mktemp("native")
    field = simulate(folder, TINY_FIELD)

    def make(name):
        return Run(folder / name, write_config(folder / f"{name}.cfg", field, TINY_RUN))

    make.field = field
    make.state = tree_state(field)
    return make


@pytest.fixture(scope="module")
def reference(place):
    """A run without interruption, and the seconds that each of its stages took."""
    run = place("reference")
    code, text = run(timeout=600)
    assert code == 0, text
    assert run.records() == STAGES
    return run, {record["stage"]: record["seconds"] for record in records(run)}


def records(run):
    files = sorted((run.folder / "ddfpipe.state").glob("[!_.]*.json"))
    return [json.loads(path.read_text()) for path in files]


def current(run):
    """What is being done, or None."""
    try:
        return json.loads((run.folder / "ddfpipe.state" / "_current.json").read_text())
    except (OSError, ValueError):
        return None


def wait_until_at_work(run, process, stage=None, done=0, seconds=600.0):
    """Until the process is in a stage (of that name, after `done` others); the stage's name."""
    end = time.monotonic() + seconds
    while process.poll() is None and time.monotonic() < end:
        now = current(run)
        if now and now["pid"] == process.pid and now["outcome"] == "running" \
                and stage in (None, now["stage"]) and run.records() >= done:
            return now["stage"]
        time.sleep(0.01)
    raise AssertionError(f"not at work: {process.poll()} {process.communicate()[0]}"
                         if process.poll() is not None else "nothing began in time")


@pytest.mark.slow
def test_killed_twenty_times_it_ends_with_the_same_bytes(place, reference):
    """SIGKILL at random moments inside stages that are spread over the whole recipe."""
    whole, seconds = reference
    run, moments, hit = place("killed"), random.Random(1969), []
    for _ in range(KILLS):
        process = run.start()
        try:
            goal = min(run.records() + moments.randint(0, 3), STAGES - 1)
            stage = wait_until_at_work(run, process, done=goal)
            time.sleep(seconds[stage] * moments.uniform(0.0, 0.9))
        finally:
            process.kill()
            process.communicate()
        hit.append(current(run)["stage"] if current(run) else None)
    assert len(set(hit) - {None}) >= 10, hit
    code, text = run(timeout=600)
    assert code == 0, text
    assert run.records() == STAGES
    assert run.products() == whole.products()
    assert left_behind(run) == []
    assert tree_state(place.field) == place.state
    # Done is done: nothing is made again.
    code, text = run("plan")
    assert code == 0 and f"0 of {STAGES} stages to do" in text


def left_behind(run):
    """Temporary files, half-built caches and scratch space that nobody will remove."""
    return [str(path) for path in run.folder.rglob("*")
            if path.name.startswith("ddfpipe.scratch") or path.suffix == ".part"
            or path.name.endswith(".ddfvis") or (path.name[0] == "." and ".tmp" in path.name)]


@pytest.mark.parametrize("number", [signal.SIGUSR1, signal.SIGTERM])
def test_stopped_inside_a_stage_and_resumed(place, number):
    """Exit code 2 in the middle of a stage, not at its end; the next run goes on from there."""
    run = place(f"stopped-{number.name}")
    long = ("--image-imsize=2048", "--image-cellsize=2", "--control-exitafter=image_dirin_SSD")
    process = run.start(*long)
    try:
        wait_until_at_work(run, process, "image_dirin_SSD")
        time.sleep(0.3)
        process.send_signal(number)
        text, _ = process.communicate(timeout=300)
    finally:
        process.kill()
    assert process.returncode == 2, text
    assert number.name in text
    now = current(run)
    assert now["stage"] == "image_dirin_SSD" and now["outcome"] == "stopped"
    done = run.records()
    assert done == 2
    times = {path: path.stat().st_mtime_ns for path in run.folder.glob("*init*.fits")}
    code, text = run(*long)
    assert code == 2 and "exitafter" in text, text
    assert run.records() == done + 1
    assert times == {path: path.stat().st_mtime_ns for path in run.folder.glob("*init*.fits")}
    assert tree_state(place.field) == place.state


def test_two_runs_in_one_directory(place):
    run = place("locked")
    process = run.start()
    try:
        wait_until_at_work(run, process)
        before = run.records()
        code, text = run()
        assert code == 1 and f"process {process.pid}" in text and "another run" in text
        assert process.poll() is None and run.records() >= before
        code, text = run("status")
        assert code == 0 and f"process {process.pid}" in text
    finally:
        process.kill()
        process.communicate()
    # The lock of a killed run does not hinder.
    code, text = run("--control-exitafter=external_mask")
    assert code == 2 and "exitafter" in text
