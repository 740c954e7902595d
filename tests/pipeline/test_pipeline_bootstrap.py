"""The bootstrap in the recipe: where it stands, what reads its factors, what refuses it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from ddfpipe.data.images import SkyGrid, read_image, write_image
from ddfpipe.data.scales import FactorTable, load_factors, save_factors
from ddfpipe.engines.base import ColumnsJob, ImageJob, SolveJob
from ddfpipe.errors import ConfigError, StageFailed, StopRequested
from ddfpipe.pipeline import fluxscale
from ddfpipe.pipeline.decisions import Decision
from ddfpipe.pipeline.jobs import FluxScaleJob, MeanImageJob
from ddfpipe.pipeline.run import show_plan
from ddfpipe.pipeline.selfcal import build_recipe
from ddfpipe.products.fluxscale import run as measuring
from workplace import configuration

ON = dict(
    control__bootstrap=True, bootstrap__catalogues=("low.fits", "high.fits"),
    bootstrap__frequencies=(74e6, 327e6), image__low_cell=5.0, image__imsize=300,
)
SETS = tuple(Path(f"L{k}_{i}.ms") for k in (1, 2) for i in range(4))


def recipe(**options):
    return build_recipe(configuration(**(ON | options)), SETS, SETS)


def by_name(**options):
    return {stage.name: stage for stage in recipe(**options).stages}


def test_images_of_every_band_and_factors_of_every_observation():
    stages = by_name(masking__tgss="tgss.fits", image__low_robust=-0.4, bootstrap__radii=(40., 9.),
                     solutions__apply_sols=("AP",) * 7)
    names = list(stages)
    first = names.index("image_bootstrap_L1_init")
    assert names[first - 1 : first + 9] == [
        "DDS0_smoothed", "image_bootstrap_L1_init", "bootstrap_external_mask",
        "image_bootstrap_L1", "bootstrap_L1", "image_bootstrap_L2_init", "image_bootstrap_L2",
        "bootstrap_L2", "bootstrap_mean", "image_phase1",
    ]
    assert recipe().exit_points["bootstrap"] == "bootstrap_mean"
    init, job = stages["image_bootstrap_L1_init"].job, stages["image_bootstrap_L1"].job
    for image in (init, job):
        assert image.vis.ms == SETS[:4] and image.vis.di == "DIS0_merged"
        assert image.vis.scale is None
        assert (image.npix, image.cell_arcsec, image.robust) == (90, 5.0, -0.4)
        assert image.restoring_beam == (20.0, 20.0, 0.0) and image.smooth_beam
        assert image.vis.uv_km == (0.1, pytest.approx(25.75)) and image.peak_factor == 0.1
        assert (image.weights, image.weights_from) == ("imaging", "DDS0")
        assert image.gains.names == ("DDS0_smoothed",) and image.gains.mode == "P"
        assert image.band_mode == "frequency" and not image.allow_negative
    assert (init.major_cycles, job.major_cycles, job.auto_mask_sigma) == (0, 5, 15.0)
    assert (job.reuse, job.reuse_what) == (init.name, "dirty") and job.cubes == ("int_restored",)
    assert str(stages["bootstrap_external_mask"].job.tgss) == "tgss.fits"
    fit = stages["bootstrap_L2"]
    assert fit.needs == ("image_bootstrap_L2",)
    assert fit.files == (Path("low.fits"), Path("high.fits"))
    assert fit.job.radii == (40.0, 9.0) and fit.job.groups == ("0", "1")
    assert fit.job.names == ("low", "high") and fit.job.min_sources == 5
    assert fit.job.model == Path("image_bootstrap_L2.model.npz")
    assert fit.job.psf == Path("image_bootstrap_L2.psf.fits")
    assert stages["bootstrap_mean"].job.images == tuple(
        Path(f"image_bootstrap_{name}.app.restored.fits") for name in ("L1", "L2"))


def test_a_run_without_tgss_has_an_empty_mask():
    assert by_name()["bootstrap_external_mask"].job.tgss is None


def test_everything_later_reads_scaled_data():
    stages = list(by_name(control__write_columns=("SCALED_DATA", "DATA_DI_CORRECTED"),
                          compression__compress_ms=True).values())
    start = [stage.name for stage in stages].index("image_phase1")
    for number, stage in enumerate(stages):
        job = stage.job
        if isinstance(job, (ImageJob, SolveJob)):
            assert job.vis.scale == ("bootstrap" if number >= start else None), stage.name
        if isinstance(job, ColumnsJob):
            assert job.scale == "bootstrap" and {"bootstrap_L1", "bootstrap_L2"} <= set(stage.needs)
    late = next(stage for stage in stages if stage.name == "DIS1")
    assert late.job.vis.di is None and {"bootstrap_L1", "bootstrap_L2"} <= set(late.needs)


def test_extended_masks_are_used():
    stages = by_name(masking__extended_size=200, masking__extended_rms=4.0)
    made = stages["bootstrap_extended_mask"]
    assert (made.job.min_pixels, made.job.sigma) == (200, 4.0)
    assert made.makes == ("bootstrap-mask-low.fits", "bootstrap-mask-high.fits")
    assert set(made.needs) == {"bootstrap_mean", "image_dirin_SSD"}
    thresholded = ("image_full_ampphase_di_mask", "image_full_ampphase_di_m_mask",
                   "image_full_low_mask")
    masks = {name: [str(path) for path in stages[name].job.external] for name in thresholded}
    assert masks == {
        "image_full_ampphase_di_mask": ["external_mask_ext.fits"],
        "image_full_ampphase_di_m_mask": ["external_mask_ext.fits"],
        "image_full_low_mask": ["bootstrap-mask-low.fits"],
    }
    assert str(stages["image_full_low"].job.external_mask) == "bootstrap-mask-low.fits"
    assert [str(p) for p in stages["external_mask_ext-deep"].job.masks] == [
        "external_mask_ext.fits", "full-mask-high.fits"]
    assert [str(p) for p in stages["final_mask"].job.masks] == [
        "image_full_ampphase_di_m.app.restored.fits.mask.fits", "external_mask_ext-deep.fits"]
    assert str(stages["image_full_ampphase_di_m.NS"].job.external_mask) == "final_mask.fits"
    assert "bootstrap_extended_mask" not in by_name()


def test_scaled_data_need_the_bootstrap():
    with pytest.raises(ConfigError, match="switch .control. bootstrap on"):
        build_recipe(configuration(control__write_columns=("SCALED_DATA",)), SETS, SETS)


# ---------------------------------------------------------------------- the stage


@pytest.fixture
def measured(monkeypatch):
    """What the measurement is made to do: a factor, or an exception."""
    want = SimpleNamespace(factor=1.25, error=None)

    def measure(cube, detection, flux, references, observation, files, **more):
        assert references[0].path.name == "low.fits" and more["least"] == 5
        if want.error:
            raise want.error
        freq = tuple(map(float, read_image(cube).freq))
        table = FactorTable(observation, freq, (want.factor,) * len(freq), (0.01,) * len(freq),
                            (1.24,) * len(freq), (1.26,) * len(freq), 7, -0.7, 0.02)
        save_factors(files["factors"], table)
        return table

    monkeypatch.setattr(measuring, "measure_scale", measure)
    return want


@pytest.fixture
def with_catalogues(place):
    for name in ("low.fits", "high.fits"):
        (place.folder / name).write_bytes(b"catalogue")
    return place


def test_factors_that_change_redo_what_reads_them(with_catalogues, measured):
    place = with_catalogues
    until = ON | {"control__exitafter": "phase"}
    with pytest.raises(StopRequested):
        place.run(**until)
    assert place.made[-1] == "image_phase1"
    record = json.loads((place.folder / "ddfpipe.state/bootstrap_L1.json").read_text())
    assert record["figures"]["sources"] == 7 and record["figures"]["highest_factor"] == 1.25
    assert (place.folder / "bootstrap_L1_factors.txt").read_text().count("1.2500") == 2
    with pytest.raises(StopRequested):
        place.run(**until)
    assert place.made == []
    (place.folder / "high.fits").write_bytes(b"another catalogue")
    assert "high.fits" in show_plan(place.field(**until))
    with pytest.raises(StopRequested):
        place.run(**until)
    assert place.made == []  # another catalogue, the same factors
    (place.folder / "high.fits").write_bytes(b"one more catalogue")
    measured.factor = 1.3
    with pytest.raises(StopRequested):
        place.run(**until)
    assert place.made == ["image_phase1"]


def test_failure_stops_the_run_or_leaves_the_data_as_they_are(with_catalogues, measured):
    place = with_catalogues
    measured.error = StageFailed("0 reference sources")
    with pytest.raises(StageFailed, match="0 reference sources"):
        place.run(**ON)
    (place.folder / "L1crossmatch-1.fits").write_text("of an earlier fit")
    with pytest.raises(StopRequested):
        place.run(**ON, bootstrap__on_failure="unscaled", control__exitafter="phase")
    table = load_factors(place.folder / "bootstrap_L1_factors.json")
    assert not table.scaled and table.at(1.5e8) == 1.0 and "0 reference" in table.note
    assert not (place.folder / "L1crossmatch-1.fits").exists()
    assert place.made[-1] == "image_phase1"


def test_mean_of_images_with_blank_parts(tmp_path):
    grid = SkyGrid(1.0, 0.5, 4, 5, 1e-4)
    one, two = np.ones((4, 5), np.float32), np.full((4, 5), 3, np.float32)
    one[0], two[0, 0], two[1] = np.nan, np.nan, np.nan
    paths = [Path("a.fits"), Path("b.fits")]
    for path, data in zip(paths, (one, two)):
        write_image(tmp_path / path, data, grid, freq=1.5e8, beam=(1e-3, 1e-3, 0.0))
    context = SimpleNamespace(workdir=tmp_path, relative=lambda names: tuple(map(str, names)))
    job = MeanImageJob(tuple(paths), Path("mean.fits"))
    assert fluxscale.mean_image(context, job).figures["images"] == 2
    mean = read_image(tmp_path / "mean.fits").plane()
    assert np.isnan(mean[0, 0]) and (mean[0, 1:] == 3).all()
    assert (mean[1] == 1).all() and (mean[2:] == 2).all()


# ---------------------------------------------------------------------- checks before the run


def info(path, mhz):
    return SimpleNamespace(path=path, observation=path.stem.split("_")[0],
                           freqs=np.array([mhz - 0.1, mhz + 0.1]) * 1e6, phase_centre=(3.6, 0.9))


def found(sets, infos, monkeypatch, trouble="", **options):
    coverage = SimpleNamespace(text=lambda: "VLSS 41, WENSS 99", trouble=lambda least: trouble)
    monkeypatch.setattr("ddfpipe.products.fluxscale.matching.coverage", lambda *a: coverage)
    config = configuration(**(ON | options))
    decisions = [Decision(stage, "not done yet") for stage in recipe(**options).stages]
    return fluxscale.problems(config, sets, infos, decisions)


def test_enough_bands_and_catalogues(monkeypatch):
    infos = [info(path, 120 + 5 * k) for k, path in enumerate(SETS)]
    assert found(SETS, infos, monkeypatch) == ([], ["bootstrap: VLSS 41, WENSS 99"])


def test_what_cannot_work_is_told_before_the_run(monkeypatch):
    few = [info(path, 120) for path in SETS]
    [problem], _ = found(SETS, few, monkeypatch)
    assert problem.fatal and "L1 has 1, L2 has 1" in problem.text
    odd = [info(Path(f"SB{k}.ms"), 120 + k) for k in range(6)]
    problems, _ = found([one.path for one in odd], odd, monkeypatch)
    assert "before the first underscore" in problems[0].text
    infos = [info(path, 120 + 5 * k) for k, path in enumerate(SETS)]
    [lost], _ = found(SETS[:4], infos, monkeypatch)
    assert lost.fatal and "observations L2 of full_mslist" in lost.text
    [none], notes = found(SETS, infos, monkeypatch, trouble="WENSS has none here")
    assert none.fatal and "WENSS has none" in none.text and notes == []
    [warned], _ = found(SETS, infos, monkeypatch, "WENSS has none here",
                        bootstrap__on_failure="unscaled")
    assert not warned.fatal


def test_nothing_is_checked_once_the_factors_are_there(monkeypatch):
    decisions = [Decision(stage, "") for stage in recipe().stages]
    assert fluxscale.problems(configuration(**ON), SETS, [], decisions) == ([], [])
    assert any(isinstance(d.stage.job, FluxScaleJob) for d in decisions)
    assert replace(decisions[0], why="x").done is False
