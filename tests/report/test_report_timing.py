"""Where the time went: runs of ours, whole and broken, and logs of ddf-pipeline."""

import csv
import json
import os
import subprocess
import sys
from datetime import datetime
from pathlib import Path

import matplotlib.image
import pytest

from ddfpipe.errors import DataError
from ddfpipe.report.timing import at_work, part_of, read_spans, time_table, totals, write_csv

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "analyse_logs.py"
BEGIN = datetime(2026, 3, 1, 10, 0, 0).timestamp()


def stamp(seconds):
    return datetime.fromtimestamp(BEGIN + seconds).strftime("%Y-%m-%d %H:%M:%S")


def log(folder, name, *times, last="something", encoding="utf-8"):
    folder.mkdir(exist_ok=True)
    lines = [f"{stamp(t)}: a line" for t in times[:-1]]
    lines += [f"{stamp(times[-1])}: {last}"] if times else []
    (folder / f"{name}.log").write_bytes(("\n".join(lines) + "\n").encode(encoding))


def record(folder, stage, end, seconds):
    folder = folder / "ddfpipe.state"
    folder.mkdir(exist_ok=True)
    finished = datetime.fromtimestamp(BEGIN + end).astimezone().isoformat(timespec="seconds")
    (folder / f"{stage}.json").write_text(json.dumps(
        {"stage": stage, "finished": finished, "seconds": seconds}))


@pytest.fixture
def reference(tmp_path):
    """A run of ddf-pipeline: two hours of images, two of solves, one idle."""
    logs = tmp_path / "logs"
    log(logs, "DDF-image_dirin_SSD", 0, 3600)
    log(logs, "MM-image_dirin_SSD.app.restored.fits", 3600, 3600)
    log(logs, "KillMS-L1_a.ms_DDS0", 7200, 9000, 10800)
    log(logs, "KillMS-L1_b.ms_DDS0", 10800, 14400)
    log(logs, "DDF-image_phase1", 14400, 18000)
    log(logs, "empty")
    (logs / "nothing.log").write_bytes(b"")
    (logs / "torn.log").write_bytes(b"2026-03-01 10:0\xff\n\x00" + b"2026-99-99 10:00:00: x\n")
    log(logs, "DDF-one_line", 18000)
    return tmp_path


def test_logs_of_ddf_pipeline(reference):
    spans = read_spans(reference)
    assert sum(span.seconds for span in spans) == 14400
    assert at_work(spans) == (18000, 3600)
    found = {t.name: t for t in totals(spans)}
    assert found["KillMS DDS0"].seconds == 7200 and found["KillMS DDS0"].times == 2
    assert found["KillMS DDS0"].part == "phases" and found["KillMS DDS0"].share == 0.5
    assert found["DDF-one_line"].seconds == 0
    assert {t.name: t.seconds for t in totals(spans, "kind")} == {
        "image": 7200, "mask": 0, "solve": 7200}
    assert read_spans(reference / "logs") == spans


def test_our_records_and_the_attempts_before_them(tmp_path):
    logs = tmp_path / "logs"
    record(tmp_path, "DDS0", 1000, 400.5)
    log(logs, "DDS0", 600, 1000, last="done in 400.5 s, 800 CPU s")
    (logs / "DDS0.log").rename(logs / "DDS0.log.keep")
    log(logs, "DDS0", 100, 250)
    (logs / "DDS0.log").rename(logs / "DDS0.log.1")
    (logs / "DDS0.log.keep").rename(logs / "DDS0.log")
    log(logs, "image_phase1", 1000, 1300)
    (tmp_path / "ddfpipe.state" / "DDS1.json").write_text("{half")
    log(logs, "DDS1", 1300, 1500, last="done in 200.0 s, 3 CPU s")
    spans = read_spans(tmp_path)
    assert [(s.name, s.seconds, s.outcome) for s in spans] == [
        ("DDS0", 150, "ended early"), ("DDS0", 400.5, "done"),
        ("image_phase1", 300, "ended early"), ("DDS1", 200, "done")]
    assert [(t.name, t.times) for t in totals(spans)] == [
        ("DDS0", 2), ("image_phase1", 1), ("DDS1", 1)]


def test_a_run_at_work(tmp_path):
    record(tmp_path, "image_dirin_SSD", 100, 90)
    note = {"stage": "DDS0", "started": BEGIN + 100, "pid": os.getpid(),
            "host": os.uname().nodename, "outcome": "running"}
    current = tmp_path / "ddfpipe.state" / "_current.json"
    current.write_text(json.dumps(note))
    log(tmp_path / "logs", "DDS0", 101, 700)
    spans = read_spans(tmp_path, now=BEGIN + 1000)
    assert [(s.name, s.seconds, s.outcome) for s in spans] == [
        ("image_dirin_SSD", 90, "done"), ("DDS0", 900, "running")]
    current.write_text(json.dumps(note | {"pid": 2**22 + 1}))
    assert [(s.name, s.seconds, s.outcome) for s in read_spans(tmp_path)][1:] == [
        ("DDS0", 599, "ended early")]


@pytest.mark.parametrize("name, part", [
    ("image_dirin_SSD_m_c", "direction-independent start"),
    ("image_dirin_SSD_m_c_di_m", "direction-independent calibration 1"),
    ("image_ampphase1_di", "direction-independent calibration 2"),
    ("DDF-image_full_ampphase_di_m.NS", "final image"),
    ("DDF-image_full_ampphase_di_m.NS_Band1", "bands"),
    ("DDF-image_full_ampphase_di_m.NS_shift", "astrometry"),
    ("KillMS-L1.ms_DDS3_full_slow", "last calibration"), ("image_full_low_m", "low resolution"),
    ("DDF-image_full_low_IQU_Cube3", "Q and U cubes"), ("strange", "other"),
])
def test_parts(name, part):
    assert part_of(name) == part


def test_images_and_solves_of_the_recipe_have_their_part():
    from ddfpipe.config import load_config
    from ddfpipe.pipeline.selfcal import build_recipe

    words = ["--data-mslist=a", "--data-full_mslist=b", "--image-low_psf_arcsec=20"]
    recipe = build_recipe(load_config(words, check=False))
    made = [stage for stage in recipe.stages if stage.name.startswith(("image_", "DDS", "DIS"))]
    # The model for the full list is made from the last image of the small one.
    odd = ("image_ampphase1_di_mask", "image_ampphase1_di_masked")
    assert len(made) > 30
    assert {s.name: part_of(s.name) for s in made if s.name not in odd} == {
        s.name: s.group for s in made if s.name not in odd}


def test_nothing_to_read_is_an_error_and_nothing_to_tell_is_not(tmp_path):
    with pytest.raises(DataError, match="holds neither records"):
        read_spans(tmp_path)
    with pytest.raises(DataError, match="is no folder"):
        read_spans(tmp_path / "gone")
    (tmp_path / "short.log").write_text("x\n")
    assert read_spans(tmp_path) == [] and "total 0.0 s" in time_table([])


def test_large_logs_are_not_read_whole(tmp_path):
    path = tmp_path / "big.log"
    with open(path, "wb") as out:
        out.write(f"{stamp(0)}: first\n".encode())
        out.seek(5 << 30)
        out.write(f"\n{stamp(60)}: last\n".encode())
    [span] = read_spans(tmp_path)
    assert span.seconds == 60


def call(*words):
    done = subprocess.run([sys.executable, str(SCRIPT), *map(str, words)], text=True,
                          capture_output=True, timeout=600)
    return done.returncode, done.stdout, done.stderr


def test_script(reference, tmp_path):
    code, out, err = call(reference, "--csv", tmp_path / "t.csv", "--plot", tmp_path / "t.png")
    assert (code, err) == (0, "")
    assert "total 4 h 0 min (14400 s, 0.17 days) at work; 5 h 0 min from first to last" in out
    rows = list(csv.DictReader((tmp_path / "t.csv").open()))
    assert len(rows) == 6 and rows[0]["start"] == stamp(0) and rows[0]["seconds"] == "3600.0"
    picture = matplotlib.image.imread(tmp_path / "t.png")
    assert picture.shape[0] > 300 and picture.shape[1] > 800 and picture.std() > 0.05
    code, _, err = call(tmp_path / "gone")
    assert code == 1 and "is no folder" in err
    (reference / "logs" / "DDF-image_dirin_SSD.log").unlink()
    write_csv([], tmp_path / "t.csv")
    assert (tmp_path / "t.csv").read_text().strip() == "stage,part,kind,start,end,seconds,outcome"
    bare = tmp_path / "bare"
    log(bare, "no times")
    code, out, err = call(bare, "--plot", tmp_path / "empty.png")
    assert (code, err) == (0, "") and (tmp_path / "empty.png").exists()
