"""quality_pipeline.py from end to end, on a small image whose fluxes are 20 % too high."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from astropy.io import fits
from quality_fields import NOISE, make_field, write_survey

from ddfpipe.errors import ImagingError
from ddfpipe.pipeline.quality import EXIT_BELOW_LIMITS, execute_quality
from ddfpipe.report.timing import read_spans

ROOT = Path(__file__).resolve().parents[2]
SCALE, SHIFT = 1.2, (0.9, -0.6)
CONFIG = """[machine]
NCPU = 1
[image]
pbimage = root.int.restored.fits
nonpbimage = root.app.restored.fits
catprefix = root
[pybdsm]
atrous = False
extended_beams = None
[comparison_cats]
list = ['WENSS', 'ELSEWHERE', 'BROKEN']
filenames = ['wenss.fits', 'elsewhere.fits', 'broken.fits']
radii = [5, 5, 5]
# a sharp survey here
beams = [6, 6, 6]
isolation = 20
[measures]
central_pixels = 100
noise_box = 40
bright_jy = 0.02
counts_bins = 6
inject = 200
bootstrap_samples = 200
"""


def words(*more: str) -> list[str]:
    return ["q.cfg", *more]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("quality")
    field = make_field(folder, n=256, per_side=5, scale=SCALE, shift=SHIFT)
    write_survey(folder / "wenss.fits", field, 325e6)
    (folder / "broken.fits").write_text("SIMPLE  =  nonsense")
    (folder / "q.cfg").write_text(CONFIG)
    return folder


@pytest.fixture(scope="module")
def first(folder):
    """(exit code, screen, seconds) of the first run."""
    start = time.monotonic()
    done = run(folder, *words("--limits-max_flux_error=0.1", "--limits-max_noise_ujy=150"))
    return done, time.monotonic() - start


def run(folder: Path, *more: str) -> subprocess.CompletedProcess:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run([sys.executable, str(ROOT / "scripts/quality_pipeline.py"), *more],
                          cwd=folder, text=True, capture_output=True, timeout=300,
                          env=environment)


def figures(folder: Path) -> dict:
    return json.loads((folder / "quality.json").read_text())


def test_a_wrong_flux_scale_is_found_and_the_exit_code_tells(folder, first):
    done, _ = first
    assert done.returncode == EXIT_BELOW_LIMITS, done.stderr
    found = figures(folder)
    wenss = found["figures"]["match_WENSS"]
    assert wenss["flux_ratio"]["value"] == pytest.approx(SCALE, abs=0.03)
    assert abs(wenss["flux_ratio"]["value"] - SCALE) < 4 * wenss["flux_ratio"]["error"]
    assert wenss["offset_ra_arcsec"]["value"] == pytest.approx(SHIFT[0], abs=0.15)
    assert wenss["offset_dec_arcsec"]["value"] == pytest.approx(SHIFT[1], abs=0.15)
    assert wenss["matches"] >= 23 and len(wenss["facets"]) == 2
    outcome = {row["option"]: row["outcome"] for row in found["limits"]}
    assert outcome == {"max_flux_error": "FAILED", "max_noise_ujy": "passed"}
    assert found["passed"] is False
    assert re.search(r"max_flux_error +FAILED", done.stdout)


def test_other_measures(folder, first):
    found = figures(folder)["figures"]
    assert found["noise"]["central_jy"] == pytest.approx(NOISE, rel=0.15)
    assert {row["label"] for row in found["noise"]["facets"]} == {"west", "east"}
    assert found["dynamic_range"]["n"] > 3 and found["dynamic_range"]["median"] > 30
    assert found["sizes"]["value"] == pytest.approx(1.0, abs=0.03)
    assert found["completeness"]["snr_50"] == pytest.approx(5.3, abs=1.2)
    assert found["completeness"]["flux_recovery"]["value"] == pytest.approx(1.0, abs=0.1)
    assert found["false_detections"]["negative"] <= 2
    assert found["counts"]["sources"] >= 10


def test_its_time_is_known_to_analyse_logs(folder, first):
    spans = [span for span in read_spans(folder) if span.name.startswith("quality_")]
    assert {"quality_sources", "quality_noise"} <= {span.name for span in spans}
    assert {(span.part, span.outcome) for span in spans} == {("quality", "done")}


def test_missing_and_broken_catalogues_are_told_and_stop_nothing(folder, first):
    found = figures(folder)["figures"]
    assert "elsewhere.fits does not exist" in found["match_ELSEWHERE"]["problem"]
    assert "broken.fits: not a readable fits" in found["match_BROKEN"]["problem"]
    done, _ = first
    for name in ("ELSEWHERE", "BROKEN"):
        assert re.search(rf"{name} +not measured", done.stdout)
    assert done.stderr == ""


def test_products(folder, first):
    names = {path.name for path in folder.iterdir()}
    assert {"root.cat.fits", "root.rms.fits", "root.resid.fits", "root.pybdsmmask.fits",
            "root.cat.reg", "root.cat.fits_WENSS_match.fits",
            "root.cat.fits_WENSS_match_filtered.fits", "quality.json", "quality.html",
            "quality", "logs"} <= names
    assert not [name for name in names if ".tmp" in name]
    table = fits.getdata(folder / "root.cat.fits", 1)
    assert set(table["Facet"]) == {0, 1}
    page = (folder / "quality.html").read_text()
    assert page.count("data:image/png;base64,") == 8
    assert not re.search(r'(src|href)="(?!data:)', page), "everything is in the file"
    assert "FAILED" in page and "elsewhere.fits does not exist" in page
    log = (folder / "logs/quality_sources.log").read_text()
    assert "Number of sources formed" in log


def test_a_second_run_does_nothing_again(folder, first, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    before = (folder / "root.cat.fits").stat().st_mtime_ns
    # Another limit changes the verdict only.
    assert execute_quality(words("--limits-max_flux_error=0.5")) == 0
    told = capsys.readouterr().out
    assert told.count("done before") == 9
    assert (folder / "root.cat.fits").stat().st_mtime_ns == before
    assert figures(folder)["passed"] is True
    # A changed catalogue is compared again, and nothing else; so is one that came since.
    (folder / "elsewhere.fits").write_bytes((folder / "wenss.fits").read_bytes())
    assert execute_quality(words("--comparison_cats-spectral_index=0")) == 0
    told = capsys.readouterr().out
    assert told.count("done before") == 6
    found = figures(folder)["figures"]
    assert found["match_ELSEWHERE"]["flux_ratio"]["value"] == pytest.approx(
        SCALE * (325 / 144) ** 0.7, rel=0.05)
    (folder / "elsewhere.fits").unlink()


def test_a_dry_run_changes_nothing(folder, first, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    before = {p: p.stat().st_mtime_ns for p in folder.rglob("*")}
    assert execute_quality(words("--control-dryrun=True", "--measures-counts_bins=7")) == 0
    told = capsys.readouterr().out
    assert re.search(r"counts +to do: .*counts_bins|counts +to do: values changed", told)
    assert {p: p.stat().st_mtime_ns for p in folder.rglob("*")} == before


def test_a_limit_that_cannot_be_tested_is_not_kept(folder, first, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    assert execute_quality(words("--limits-max_counts_error=0.01",
                                 "--control-false_detections=False")) == EXIT_BELOW_LIMITS
    assert re.search(r"max_counts_error +(FAILED|not measured)", capsys.readouterr().out)


def test_images_that_cannot_be_used(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ImagingError, match=r"there is no such image; name it in \[image\] pbimage"):
        execute_quality(["--machine-NCPU=1"])
    make_field(tmp_path, n=64, per_side=1)
    names = ["--image-pbimage=root.int.restored.fits", "--image-nonpbimage=root.app.restored.fits"]
    with pytest.raises(ImagingError, match=r"correct \[image\] facets"):
        execute_quality([*names, "--image-facets=none.reg"])
    assert not (tmp_path / "quality").exists()


@pytest.mark.slow
def test_signals(tmp_path):
    """SIGUSR1, meant for the pipeline, is survived; SIGTERM stops and leaves nothing behind."""
    make_field(tmp_path, n=256, per_side=5)
    (tmp_path / "q.cfg").write_text(CONFIG)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(
        [sys.executable, str(ROOT / "scripts/quality_pipeline.py"), "q.cfg"], cwd=tmp_path,
        env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    log = tmp_path / "logs/quality_sources.log"
    wait_for(lambda: log.exists() and "PyBDSF" in log.read_text())
    process.send_signal(signal.SIGUSR1)
    time.sleep(0.5)
    assert process.poll() is None
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=300)
    assert process.returncode == 2 and "SIGTERM" in err
    names = {p.name for p in tmp_path.iterdir()}
    assert not [name for name in names if ".tmp" in name] and "root.cat.fits" not in names


def wait_for(condition, seconds: float = 300.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come"
        time.sleep(0.05)


@pytest.mark.slow
def test_sourcefind(tmp_path):
    make_field(tmp_path, n=128, per_side=2)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}

    def call(*more: str) -> subprocess.CompletedProcess:
        return subprocess.run([sys.executable, str(ROOT / "scripts/sourcefind.py"), *more],
                              cwd=tmp_path, text=True, capture_output=True, timeout=200,
                              env=environment)

    images = ("--intfile=root.int.restored.fits", "--appfile", "root.app.restored.fits")
    done = call(*images, "--prefix=x", "--simple", "--threads=1")
    assert done.returncode == 0, done.stderr
    assert re.search(r"x\.cat\.fits: [4-6] sources", done.stdout)
    assert set(fits.getdata(tmp_path / "x.cat.fits", 1)["Pass"]) == {1}
    assert "PyBDSF" in (tmp_path / "logs/sourcefind.log").read_text()
    assert call(*images).returncode == 1 and "--prefix must be given" in call(*images).stderr
    assert "--colour=1 is not understood" in call("--colour=1").stderr
