"""Columns as the last stage: with what, when, and what a change of the data's own means."""

import pytest

from ddfpipe.data.fingerprint import own_change
from ddfpipe.engines.base import ColumnsJob, GainChoice
from ddfpipe.errors import ConfigError, NoFullList, StopRequested
from ddfpipe.pipeline.run import show_plan
from ddfpipe.pipeline.selfcal import build_recipe
from ddfpipe.pipeline.state import RunState
from test_pipeline_recipe import FULL, SMALL
from workplace import configuration

FINAL = "image_full_ampphase_di_m.NS"
SHORT = ("DATA_DI_CORRECTED", "DD_PREDICT", "IMAGING_WEIGHT")


def last_stage(full=True, **options):
    config = configuration(full, **options)
    return build_recipe(config, SMALL, FULL if full else ()).stages[-1]


def test_columns_of_the_final_image():
    stage = last_stage(control__write_columns=SHORT)
    final = build_recipe(configuration(), SMALL, FULL).stages[-1].job
    assert (stage.name, stage.group, stage.ms) == ("write_columns", "columns", FULL)
    assert stage.job == ColumnsJob(
        FULL, "CORRECTED_DATA", SHORT, di="DIS2_full_merged", model=FINAL, gains=final.gains,
        clusters=final.clusters, weights_from="DDS3_full_slow", decorrelation=True,
    )
    assert set(stage.needs) == {FINAL, "DIS2_full_merged", "DDS3_full_slow", "DDS3_full_smoothed",
                                "DDS3_full_slow_merged", "clusters"}
    assert stage.options == {"control.write_columns": list(SHORT)}


def test_columns_without_a_full_list_are_those_of_its_last_image():
    stage = last_stage(full=False, control__write_columns=SHORT)
    assert (stage.name, stage.ms) == ("write_columns", SMALL)
    job = stage.job
    assert (job.di, job.model, job.weights_from) == ("DIS1_merged", "image_ampphase1_di", "DDS1")
    assert job.gains == GainChoice(("DDS1_smoothed",), "AP", "BLBased")
    plain = last_stage(full=False, control__write_columns=SHORT[1:], control__skip_di=True)
    assert (plain.job.di, plain.job.model) == (None, "image_ampphase1")


@pytest.mark.parametrize("column, given", [
    ("DATA_DI_CORRECTED", {"di"}), ("DD_PREDICT", {"model", "gains", "clusters"}),
    ("IMAGING_WEIGHT", {"di", "weights_from"}),
])
def test_a_column_depends_on_nothing_but_what_it_is_made_from(column, given):
    job = last_stage(control__write_columns=(column,)).job
    assert {name for name in ("di", "model", "gains", "clusters", "weights_from")
            if getattr(job, name) is not None} == given


def test_columns_that_cannot_be_made_are_refused_before_anything_runs():
    with pytest.raises(ConfigError, match="skip_di leaves out"):
        last_stage(control__write_columns=SHORT, control__skip_di=True)
    with pytest.raises(ConfigError, match="never overwritten"):
        last_stage(control__write_columns=SHORT, data__colname="DD_PREDICT")


def test_written_columns_make_nothing_stale(place):
    first = place.run()
    states = [path.read_bytes() for path in place.folder.glob("ms/*/table.dat")]
    columns = {"control__write_columns": ("DD_PREDICT",)}
    assert "write_columns" not in first
    assert "1 of 52 stages to do" in show_plan(place.field(**columns))
    assert place.run(**columns) == ["write_columns"]
    assert [path.read_bytes() for path in place.folder.glob("ms/*/table.dat")] != states
    assert RunState(place.folder).read("write_columns").figures["rows"] == 200
    assert place.run(**columns) == []
    assert place.run() == []
    more = {"control__write_columns": ("DD_PREDICT", "IMAGING_WEIGHT")}
    assert "control.write_columns changed from" in show_plan(place.field(**more))
    assert place.run(**more) == ["write_columns"]
    assert place.run(**more, control__redofrom="write_columns") == ["write_columns"]
    (place.folder / "ms/L1_b.ms/table.f0").write_bytes(b"other data")
    assert "measurement set L1_b.ms changed" in show_plan(place.field(**more))


def test_an_end_in_the_middle_of_a_column_makes_nothing_stale(place):
    """As a kill leaves it: a note that is still open, the column half there."""
    left = []

    def ended():
        ms = place.folder / "ms" / "L1_a.ms"
        left.append(own_change(ms))
        left[0].__enter__()
        (ms / "table.dat").write_text("with a column")
        (ms / "table.f1").write_bytes(b"half")
        raise StopRequested("enough")

    columns = {"full": False, "control__write_columns": ("DD_PREDICT",)}
    with pytest.raises(StopRequested):
        place.run(**columns, trouble={"write_columns": ended})
    assert "1 of 28 stages to do" in show_plan(place.field(**columns))
    with pytest.raises(NoFullList):
        place.run(**columns)
    assert place.made == ["write_columns"]


def test_the_full_list_goes_on_after_columns_of_the_small_one(place):
    columns = {"control__write_columns": SHORT}
    with pytest.raises(NoFullList):
        place.run(full=False, **columns)
    assert place.made[-1] == "write_columns" and place.made[0] == "image_dirin_SSD_init"
    with pytest.raises(NoFullList):
        place.run(full=False, **columns)
    assert place.made == []
    made = place.run(**columns)
    assert made[0] == "mask of image_ampphase1_di.app.restored.fits"
    assert made[-1] == "write_columns"
