"""Preliminaries and dynamic spectra in the recipe, and in runs with an engine that makes things
up."""

from __future__ import annotations

import tarfile
from dataclasses import replace
from pathlib import Path

import pytest

from ddfpipe.data import skyserver
from ddfpipe.engines.base import ImageJob, SolveJob
from ddfpipe.errors import ResourceError, StopRequested
from ddfpipe.naming import FINAL_IMAGE
from ddfpipe.pipeline.run import show_plan
from ddfpipe.pipeline.selfcal import build_recipe
from ddfpipe.pipeline.state import RunState
from test_pipeline_recipe import FULL, SMALL
from workplace import Workplace, configuration

WIDE = ("image_full_wide", "wide_external_mask", "image_full_wide_mask", "image_full_wide_im",
        "image_full_wide_outside", "image_full_wide_im_sub")
WIDE_OPTIONS = dict(image__do_wide=True, image__imsize=2000, image__cellsize=2.0,
                    image__wide_imsize=900, image__wide_cell=7.0)


def recipe(**options):
    return build_recipe(configuration(**options), SMALL, FULL)


def stage(name, **options):
    return next(s for s in recipe(**options).stages if s.name == name)


def test_wide_images_are_those_of_the_manual():
    made = recipe(**WIDE_OPTIONS, image__wide_psf_arcsec=50.0, masking__wide_threshold=4.0)
    assert made.names()[:6] == list(WIDE) and made.names()[6] == "image_dirin_SSD_init"
    first, mask, deeper, outside, check = (
        next(s.job for s in made.stages if s.name == name)
        for name in (WIDE[0], WIDE[2], WIDE[3], WIDE[4], WIDE[5]))
    assert (first.npix, first.cell_arcsec, first.robust, first.restoring_beam) == (
        900, 7.0, -0.2, (50.0, 50.0, 0.0))
    assert first.vis.uv_km == (0.1, 2.5 * 206 / 50) and first.vis.ms == SMALL
    assert (first.major_cycles, first.peak_factor, first.rms_factor) == (2, 0.001, 3.0)
    assert first.auto_mask_sigma == 15.0 and first.allow_negative and first.smooth_beam
    assert (mask.sigma, mask.external) == (4.0, (Path("wide_external_mask.fits"),))
    assert (deeper.major_cycles, deeper.start_model, deeper.reuse, deeper.reuse_what) == (
        1, WIDE[0], WIDE[0], "residual")
    assert str(deeper.external_mask) == "image_full_wide.app.restored.fits.mask.fits"
    assert (outside.image, outside.pixels) == (WIDE[3], int(0.95 * 2000 * 2.0 / 7.0))
    assert check.vis.minus == WIDE[4] and deeper.vis.minus is None


def test_all_later_stages_read_the_data_without_the_surroundings():
    plain, made = recipe(), recipe(**WIDE_OPTIONS, control__redo_DI=True,
                                   control__redo_DI_model="sky.txt",
                                   control__write_columns=("DATA_DI_CORRECTED", "DD_PREDICT"))
    later = made.stages[made.index("image_dirin_SSD_init"):]
    selections = [s.job.vis for s in later if isinstance(s.job, (ImageJob, SolveJob))]
    assert len(selections) > 20
    assert {(v.pre_di, v.minus) for v in selections} == {("redo_DI", WIDE[4])}
    for s in later:
        if isinstance(s.job, (ImageJob, SolveJob)):
            assert {"redo_DI", WIDE[4]} <= set(s.needs), s.name
            before = next(p.job for p in plain.stages if p.name == s.name)
            assert replace(s.job.vis, pre_di=None, minus=None) == before.vis
    columns = made.stages[-1].job
    assert (columns.pre_di, columns.minus) == ("redo_DI", WIDE[4])
    start = build_recipe(configuration(
        **WIDE_OPTIONS, inputmodel__basedicomodel="m", inputmodel__basemaskname="m.fits",
        inputmodel__baseimagename="i", image__clusterfile="c.npy"), SMALL, FULL)
    assert start.names()[:7] == [*WIDE, "DDS2_full"]
    assert start.stages[6].job.vis.minus == WIDE[4]


def test_phases_are_solved_first_of_all():
    from_file = stage("redo_DI", control__redo_DI=True, control__redo_DI_model="sky.txt")
    job = from_file.job
    assert (job.kind, job.model, job.vis.ms, job.vis.uv_km) == (
        "phase", "sky.txt", FULL, (0.15, 1000.0))
    assert (job.vis.pre_di, job.vis.minus, job.update_weights) == (None, None, False)
    assert from_file.files == (Path("sky.txt"),) and from_file.needs == ()
    made = recipe(control__redo_DI=True, control__redo_DI_type="TGSS", **WIDE_OPTIONS)
    assert made.names()[:3] == ["redo_DI_TGSS", "redo_DI", "image_full_wide"]
    assert made.stages[0].job.ms == FULL[:1] and made.stages[0].job.radius_deg == 5.0
    assert made.stages[1].needs == ("redo_DI_TGSS",)
    assert made.stages[1].job.model == "redo_DI_TGSS.skymodel"
    assert made.stages[2].job.vis.pre_di == "redo_DI"
    small = build_recipe(configuration(False, control__redo_DI=True), SMALL, ())
    assert small.stages[1].job.vis.ms == SMALL


def test_dynamic_spectra_of_every_observation_follow_the_final_image():
    sets = tuple(Path(name) for name in ("L1_a.ms", "L2_a.ms", "L1_b.ms"))
    config = configuration(spectra__do_dynspec=True, spectra__catalogue="t.csv",
                           spectra__bright_threshold=0.3, spectra__radius=1.5)
    made = build_recipe(config, SMALL, sets)
    one, two = made.stages[-2:]
    assert (one.name, two.name) == ("DynSpecs_L1", "DynSpecs_L2")
    assert one.makes == ("DynSpecs_L1.tgz",) and one.files == (Path("t.csv"),)
    final = next(s.job for s in made.stages if s.name == FINAL_IMAGE)
    job = one.job
    assert job.spectra.vis == replace(final.vis, ms=(sets[0], sets[2])) and two.ms == sets[1:2]
    assert (job.spectra.model, job.spectra.gains, job.spectra.clusters) == (
        FINAL_IMAGE, final.gains, final.clusters)
    assert (job.spectra.weights, job.spectra.weights_from, job.spectra.amplitudes) == (
        "imaging", "DDS3_full_slow", (0.1, 1.5))
    assert (job.catalogue, job.bright_jy, job.radius_deg) == (Path("t.csv"), 0.3, 1.5)
    assert {FINAL_IMAGE, "DIS2_full_merged", "DDS3_full_slow", "clusters"} <= set(one.needs)
    assert one.options == {"spectra.catalogue": "t.csv", "spectra.bright_threshold": 0.3,
                           "spectra.radius": 1.5}
    assert not any("DynSpecs" in name for name in recipe().names())
    assert build_recipe(config, (), ()).names()[-1] == "DynSpecs"
    assert one.identity()["job"]["spectra"]["vis"]["ms"] == ["L1_a.ms", "L1_b.ms"]


# ---------------------------------------------------------------------- runs


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A whole run with everything on; (workplace, options, names of jobs)."""
    place = Workplace(tmp_path_factory.mktemp("preliminaries"))
    (place.folder / "t.csv").write_text("57.3,45.836624\n57.29,45.84,second\n")
    (place.folder / "sky.txt").write_text(
        "FORMAT = Name, Type, Ra, Dec, I\na, POINT, 57., 45., 1\n")
    options = dict(
        control__redo_DI=True, control__redo_DI_model=str(place.folder / "sky.txt"),
        spectra__do_dynspec=True, spectra__catalogue=str(place.folder / "t.csv"),
        spectra__bright_threshold=1000.0, **WIDE_OPTIONS,
    )
    return place, options, place.run(**options)


def test_a_run_does_it_once_and_tells(finished):
    place, options, made = finished
    assert made[0] == "redo_DI" and made[-1] == "DynSpecs_L1"
    record = RunState(place.folder).read("DynSpecs_L1")
    assert record.figures["targets"] == 2 and record.figures["cell_noise_mJy"] > 0
    with tarfile.open(place.folder / "DynSpecs_L1.tgz") as tar:
        names = tar.getnames()
    assert "DynSpecs_L1/TARGET/second.fits" in names and "DynSpecs_L1/TARGET/second.png" in names
    assert {item.path for item in record.outputs} >= {"DynSpecs_L1.tgz", *names}
    assert not list(place.folder.glob("*.spectra")) + list(place.folder.glob("*.positions"))
    assert 'DynSpecs_L1/TARGET/second.png"' in (place.folder / "report.html").read_text()
    assert place.run(**options) == []
    assert "\n0 of " in show_plan(place.field(**options))


def test_what_changes_is_made_again_and_nothing_else(finished):
    place, options, _ = finished
    (place.folder / "t.csv").write_text("57.3,45.836624\n")
    assert place.run(**options) == ["DynSpecs_L1"]
    assert not (place.folder / "DynSpecs_L1/TARGET/second.fits").exists()
    assert place.run(**options | {"spectra__radius": 1.0}) == ["DynSpecs_L1"]
    with pytest.raises(StopRequested):
        place.run(**options | {"image__wide_cell": 8.0, "control__exitafter": WIDE[-1]})
    assert place.made == ["image_full_wide", "mask of image_full_wide.app.restored.fits",
                          "image_full_wide_im", "image_full_wide_im_sub"]


def test_spectra_can_be_redone_from(finished):
    place, options, _ = finished
    place.run(**options)
    assert place.run(**options | {"control__redofrom": "DynSpecs_L1"}) == ["DynSpecs_L1"]
    assert (place.folder / "old/DynSpecs_L1.tgz").exists()
    assert (place.folder / "old/DynSpecs_L1/noise.fits").exists()


def test_without_a_network_the_run_ends_before_anything_is_made(tmp_path, monkeypatch):
    from ddfpipe.data import ms as ms_module

    monkeypatch.setitem(skyserver.SERVERS, "GSM", "http://127.0.0.1:9/none")
    monkeypatch.setattr(ms_module, "read_metadata",
                        lambda path: type("Info", (), {"phase_centre": (1.0, 0.8)}))
    place = Workplace(tmp_path)
    with pytest.raises(ResourceError, match=r"stage redo_DI_GSM: .*\[control\] redo_DI_model"):
        place.run(control__redo_DI=True)
    assert place.made == []
