"""Columns of earlier runs are removed by the first stage, once."""

import pytest

from ddfpipe.data import oldcolumns
from ddfpipe.data.oldcolumns import Removal
from ddfpipe.errors import ConfigError
from ddfpipe.pipeline.run import show_plan
from ddfpipe.pipeline.selfcal import build_recipe
from ddfpipe.pipeline.sets import sets_written
from ddfpipe.pipeline.decisions import Decision
from ddfpipe.pipeline.state import RunState
from test_pipeline_recipe import FULL, SMALL
from workplace import configuration

ON = {"control__remove_columns": True}


@pytest.fixture
def removed(monkeypatch):
    """What the stage removed, as (measurement set, columns kept)."""
    calls = []
    monkeypatch.setattr(oldcolumns, "find_columns", lambda sets, keep: [
        Removal(ms, ("DD_PREDICT", *keep), 10) for ms in sets])
    monkeypatch.setattr(oldcolumns, "remove_columns", lambda found, say: calls.extend(
        (r.ms.name, r.columns[1:]) for r in found) or len(calls))
    return calls


def test_first_stage_once(place, removed):
    assert place.run(**ON)[0] == "image_dirin_SSD_init"
    assert removed == [("L1_a.ms", ("CORRECTED_DATA",)), ("L1_b.ms", ("CORRECTED_DATA",))]
    assert RunState(place.folder).read("remove_columns").figures["removed"] == 2
    assert place.run(**ON) == [] and len(removed) == 2
    assert build_recipe(configuration(**ON), SMALL, FULL).names()[0] == "remove_columns"
    assert place.run() == []


def test_columns_are_written_again_after_a_removal(place, removed):
    write = {"control__write_columns": ("DD_PREDICT",)}
    place.run(**write)
    assert place.run(**ON, **write) == ["write_columns"]
    assert place.run(**ON, **write) == [] and len(removed) == 2


def test_redofrom_start_removes_again(place, removed):
    place.run(**ON)
    place.run(**ON, control__redofrom="start", control__exitafter=None)
    assert len(removed) == 4


def test_no_full_list_is_refused():
    with pytest.raises(ConfigError, match="remove_columns.*full_mslist, which is not given"):
        build_recipe(configuration(False, **ON), SMALL, ())


def test_sets_that_will_be_written():
    recipe = build_recipe(configuration(**ON, control__write_columns=("DD_PREDICT",)), SMALL, FULL)
    decisions = [Decision(stage, "to do") for stage in recipe.stages]
    assert sets_written(decisions) == {ms: () for ms in FULL}
    assert sets_written(decisions[1:]) == {ms: ("DD_PREDICT",) for ms in FULL}
    assert sets_written([Decision(d.stage, "") for d in decisions]) == {}


def test_where_the_beam_is_evaluated_matters_to_external_engines_only(place):
    place.run()
    assert "\n0 of " in show_plan(place.field(control__beam_at="tessel"))
    native, external = (
        build_recipe(configuration(machine__engine=engine), SMALL, FULL).stages[0].settings
        for engine in ("native", "ddfacet"))
    assert "control.beam_at" not in native and external["control.beam_at"] == "facet"


def test_a_setting_that_counts_no_more_makes_nothing_again(place):
    place.run()
    state = RunState(place.folder)
    record = state.read("image_dirin_SSD_init")
    record.identity["settings"]["control.beam_at"] = "facet"
    state.write(record)
    assert "\n0 of " in show_plan(place.field())
    record.identity["settings"]["machine.engine"] = "ddfacet"
    state.write(record)
    assert "machine.engine changed from 'ddfacet' to 'native'" in show_plan(place.field())
