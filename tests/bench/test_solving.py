"""The benchmark of the solver at small sizes: its parts, and that the programs agree."""

from __future__ import annotations

import importlib.util
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from other_programs import program

sys.path.insert(0, str(Path(__file__).resolve().parent))

from solvebench import dp3, growth, remote, report, work  # noqa: E402
from solvebench.compare import judge  # noqa: E402
from solvebench.field import Case, make_field  # noqa: E402

SMALL = Case(core=10, remote=6, n_dir=3, sources=2, slots=8, channels=8, noise=0.3, brightest=8.0,
             faintest=2.0, ionosphere_km=30.0, wind=5.0, missing=0.15)
TASK = work.Task("small", SMALL, slots=4)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    return work.prepare(TASK, tmp_path_factory.mktemp("solving"))


@pytest.fixture(scope="module")
def ours(prepared):
    """The row of ddfpipe, with amplitudes as the peers have them, and its gains."""
    job = work.our_job(prepared, None, amplitude_mean="free")
    return work.run_ours(job, prepared.folder)


def test_field_is_what_it_says(prepared):
    field = prepared.field
    np.testing.assert_allclose(np.std((field.data - field.vis).real), SMALL.noise, rtol=0.02)
    power = np.abs(field.missed).mean() / np.abs(field.vis).mean()
    assert 0.03 < power < 0.3
    again = make_field(SMALL)
    np.testing.assert_array_equal(field.data, again.data)
    # the core's gains of neighbouring times are alike, those of far stations less so
    turn = np.angle(field.gains[4] * field.gains[0].conj())
    assert turn[SMALL.core:].std() > turn[:SMALL.core].std()


def test_judge_knows_truth_gauge_and_error(prepared):
    truth = prepared.field.true_gains(prepared.slots, prepared.channels)
    rng = np.random.default_rng(1)
    turned = truth * np.exp(1j * rng.uniform(-3, 3, (1, 1, 1, SMALL.n_dir, 1)))
    quality = prepared.judge(turned)
    assert quality.overall < 1e-6 and abs(quality.absorbed) < 1e-6
    error = 0.05 * rng.normal(size=truth.shape)
    quality = prepared.judge(truth * np.exp(1j * error))
    assert 0.04 < quality.overall < 0.055
    assert quality.model_error > 0
    assert abs(prepared.judge(1.1 * truth).amplitude - np.log(1.1)) < 1e-6


def test_absorbed_flux_is_that_of_the_residual(prepared):
    """Gains of two for every direction put as much flux of the model where it is not known."""
    field = prepared.field
    truth = field.true_gains(prepared.slots, prepared.channels)
    louder = judge(field, truth * np.sqrt(1.1), prepared.slots, prepared.channels)
    known = field.vis - field.missed
    expected = 0.1 * np.vdot(field.missed, known).real / np.vdot(field.missed, field.missed).real
    assert abs(louder.absorbed - expected) < 0.02 * abs(expected) + 0.02


def test_our_job_finds_the_gains(prepared, ours):
    cost, record, gains = ours
    quality = prepared.judge(gains)
    assert quality.phase[:, 0].max() < 0.1
    assert quality.overall < prepared.judge(np.ones_like(gains)).overall
    assert quality.absorbed < 0.5
    # what is timed is all that the process did
    assert 0 < sum(record["cpu"].values()) <= cost.cpu + 0.05


def test_agrees_with_dp3(prepared, ours):
    """On strong sources both find the same gains."""
    peer = dp3.Dp3(program("dp3"), prepared.folder)
    _, path = peer.solve(prepared.ms, prepared.folder / "sky.skymodel", "directioniterative",
                         "scalar", TASK.slots)
    theirs, mine = prepared.judge(dp3.read_gains(path, 3)), prepared.judge(ours[2])
    assert theirs.phase[:, 0].max() < 0.1
    assert mine.overall < 1.1 * theirs.overall + 0.01


def test_sources_are_shared_out(prepared):
    case = replace(SMALL, n_dir=12, sources=1, missing=0.0)
    field = make_field(case)
    owner, places = remote.share_out(field, 5)
    assert sorted(set(owner)) == list(range(5)) and places.shape == (5, 2)
    owner, places = remote.share_out(field, 12)
    np.testing.assert_allclose(places[owner], np.stack([field.sky.l, field.sky.m], axis=1),
                               atol=1e-12)


def test_growth_and_report(prepared, ours, tmp_path, monkeypatch):
    monkeypatch.setattr(growth, "BASE", replace(SMALL, missing=0.0, slots=8))
    monkeypatch.setitem(growth.SERIES, "visibilities", ("channels", (4, 8)))
    grown = growth.series("visibilities")
    assert set(grown["exponent"]) == {"predict", "solve"} and min(grown["cost"]["solve"]) > 0
    assert growth.exponent([1, 2, 4], [3, 12, 48]) == pytest.approx(2)
    row = work.Row("ddfpipe", 1.0, 2.0, 0.5, 0.1, 1e8, prepared.judge(ours[2]))
    other = work.Row("DP3 hybrid", 1.0, 20.0, 15.0, 0.1, 1e8, row.quality)
    page = tmp_path / "page.md"
    page.write_text("# Page\n\nhead\n")
    errors = {name: [0.1, 0.2] for name, _, _ in remote.GROUPS}
    far = [{"program": name, "start": 1.0, "whole": whole, "memory": 1e8, "errors": errors}
           for name, whole in ((remote.our_name(remote.MORE), 2.0), ("killMS KAFCA", 40.0),
                               (remote.our_name(remote.FEW), 1.0))]
    figures = {"small": [row.plain(), other.plain()], remote.NAME: far, growth.NAME: [grown]}
    report.write(figures, page)
    report.write(figures, page)
    text = page.read_text()
    assert text.startswith("# Page\n\nhead\n") and text.count("## Solving") == 1
    assert "| 30 / 10 |" in text and "visibilities: solve" in text
    assert "| killMS KAFCA | 1.0 | 40.00 | 40 / 20 |" in text


def test_every_task_can_be_prepared():
    spec = importlib.util.spec_from_file_location(
        "bench_solving", Path(__file__).resolve().parent / "solving.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert len({task.name for task in module.TASKS}) == len(module.TASKS)
    for task in module.TASKS:
        assert task.case.slots % task.slots == 0 and task.mode in work.HANDS
        assert (task.mode == "diagonal") == task.case.diagonal
