"""The script as a user types it, and the files that a run leaves for people."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from ddfpipe.errors import StopRequested
from workplace import cpu_of_children, tree_state

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "pipeline.py"
CONFIG = """
[data]
mslist = small.txt
full_mslist = full.txt
colname = DATA
[image]
low_psf_arcsec = 20
"""


def call(folder, *words):
    result = subprocess.run([sys.executable, str(SCRIPT), *words], cwd=folder, text=True,
                            capture_output=True, timeout=600, env=os.environ | {"COLUMNS": "200"})
    return result.returncode, result.stdout, result.stderr


@pytest.fixture
def folder(place):
    (place.folder / "my.cfg").write_text(CONFIG)
    (place.folder / "small.txt").write_text("ms/L1_a.ms\n")
    (place.folder / "full.txt").write_text("ms/L1_a.ms\nms/L1_b.ms\n")
    return place.folder


def test_plan_status_and_dry_run_touch_nothing(folder):
    before = tree_state(folder)
    code, out, _ = call(folder, "plan", "my.cfg", "--solutions-do_very_slow=False")
    assert code == 0 and "49 of 49 stages to do" in out and "fullampphase" in out
    code, out, _ = call(folder, "status", "my.cfg")
    assert code == 0 and "0 of 51 stages done; no run is at work here" in out
    code, out, _ = call(folder, "my.cfg", "--control-dryrun=True")
    assert code == 0 and "51 of 51 stages to do" in out
    assert tree_state(folder) == before


def test_plan_needs_no_data(folder):
    for name in ("small.txt", "full.txt"):
        (folder / name).unlink()
    code, out, _ = call(folder, "plan", "my.cfg")
    assert code == 0 and "51 of 51 stages to do" in out


def test_what_a_run_refuses_a_plan_refuses(folder):
    code, out, err = call(folder, "plan", "my.cfg", "--control-bootstrap=True")
    assert code == 1 and not out and "bootstrap=True needs the list catalogues" in err


def test_status_wants_the_configuration_of_the_run(folder):
    code, out, err = call(folder, "status")
    assert code == 1 and not out and "status FILE" in err


def test_bad_data_are_refused_before_anything_is_computed(folder):
    code, _, err = call(folder, "my.cfg")
    assert code == 1 and "L1_b.ms" in err
    assert not (folder / "image_dirin_SSD_init.dirty.fits").exists()
    assert "L1_b.ms" in (folder / "logs/preflight.log").read_text()


def test_an_engine_that_does_not_exist_is_refused(folder):
    code, _, err = call(folder, "my.cfg", "--machine-engine=ddfacets")
    assert code == 1 and "[machine] engine" in err and "did you mean ddfacet" in err


def test_the_script_answers_at_once(folder):
    before = cpu_of_children()
    code, out, _ = call(folder, "--version")
    assert code == 0 and cpu_of_children() - before < 5


def test_what_status_and_plan_need_is_no_compiler():
    code = ("import sys, ddfpipe.pipeline.run, ddfpipe.report.pictures; "
            "print(sorted({'numba', 'scipy', 'astropy', 'matplotlib'} & set(sys.modules)))")
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert told.stdout.strip() == "[]"


def test_pictures_page_and_logs_of_a_run(place):
    with pytest.raises(StopRequested):
        place.run(pictures=True, control__exitafter="DDS0_smoothed", control__skip_di=True)
    pictures = {path.name for path in (place.folder / "previews").iterdir()}
    assert {"image_dirin_SSD_init.dirty.fits.png", "image_dirin_SSD_m.app.restored.fits.png",
            "L1_a.ms.DDS0_smoothed.png"} <= pictures
    page = (place.folder / "report.html").read_text()
    assert "previews/image_dirin_SSD_m.app.restored.fits.png" in page
    assert "DDS0_smoothed" in page and "11 of 39 stages done" in page
    log = (place.folder / "logs/image_dirin_SSD.log").read_text().splitlines()
    assert log[0].endswith(": image_dirin_SSD (not done yet)") and "done in" in log[-1]
    assert any("peak_factor = 0.01" in line for line in log)


def test_an_empty_picture_is_drawn_again(place):
    """Pictures do not wait for the disk: a power failure may leave one without contents."""
    with pytest.raises(StopRequested):
        place.run(pictures=True, control__exitafter="image_dirin_SSD")
    pictures = sorted((place.folder / "previews").iterdir())
    whole = pictures[0].read_bytes()
    pictures[0].write_bytes(b"")
    pictures[1].write_bytes(b"mine")
    with pytest.raises(StopRequested):
        place.run(pictures=True, control__exitafter="image_dirin_SSD_mask")
    assert pictures[0].read_bytes() == whole and pictures[1].read_bytes() == b"mine"


def test_no_logs_if_not_wanted(place):
    with pytest.raises(StopRequested):
        place.run(control__logging=None, control__exitafter="external_mask")
    assert not (place.folder / "logs").exists()


def test_a_picture_that_fails_fails_nothing(place, monkeypatch, capsys):
    from ddfpipe.report import pictures

    def broken(*arguments):
        raise ValueError("no ink")

    monkeypatch.setattr(pictures, "draw_image", broken)
    with pytest.raises(StopRequested):
        place.run(pictures=True, control__exitafter="external_mask")
    assert "no ink" in capsys.readouterr().out
    assert "no ink" in (place.folder / "logs/image_dirin_SSD_init.log").read_text()
