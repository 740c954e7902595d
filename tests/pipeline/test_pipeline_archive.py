"""Compressed copies of the measurement sets as a stage."""

import pytest

from ddfpipe.config import load_config
from ddfpipe.engines.base import ColumnsJob
from ddfpipe.errors import NoFullList
from ddfpipe.pipeline.selfcal import build_recipe
from ddfpipe.pipeline.run import show_plan
from ddfpipe.pipeline.state import RunState
from test_pipeline_recipe import FULL, SMALL
from workplace import configuration

ON = {"compression__compress_ms": True}


def stage_of(**options):
    recipe = build_recipe(configuration(**ON, **options), SMALL, FULL)
    return recipe.stages[recipe.index("archive_ms")], recipe


def test_the_data_of_the_final_image_with_the_latest_weights():
    stage, recipe = stage_of(control__write_columns=("DD_PREDICT",))
    assert stage.job == ColumnsJob(
        FULL, "CORRECTED_DATA", ("DATA_DI_CORRECTED", "IMAGING_WEIGHT"), di="DIS2_full_merged",
        weights_from="DDS3_full_slow",
    )
    assert set(stage.needs) == {"DIS2_full_merged", "DDS3_full_slow"}
    assert stage.makes == tuple(f"{ms.name}.archive" for ms in FULL)
    assert recipe.names()[-3:] == ["image_full_ampphase_di_m.NS", "archive_ms", "write_columns"]
    plain, _ = stage_of(control__skip_di=True)
    assert (plain.job.di, plain.job.columns) == (None, ("IMAGING_WEIGHT",))


def test_without_a_full_list_there_are_no_archives(place):
    config = configuration(False, **ON)
    assert "archive_ms" not in build_recipe(config, SMALL, ()).names()
    warnings = []
    load_config(["--data-mslist=x", "--compression-compress_ms=True"], warnings=warnings)
    assert any("compress_ms has no effect" in line for line in warnings)
    with pytest.raises(NoFullList):
        place.run(full=False, **ON)
    assert not list(place.folder.glob("*.archive"))


def test_archives_are_products(place):
    place.run()
    assert place.run(**ON) == ["archive_ms"]
    figures = RunState(place.folder).read("archive_ms").figures
    assert figures["archives"] == 2 and figures["size_ratio"] == 0.25
    assert place.run(**ON) == []
    (place.folder / "L1_b.ms.archive/table.f0").write_bytes(b"short")
    assert "L1_b.ms.archive/table.f0 has 5 bytes" in show_plan(place.field(**ON))
    assert place.run(**ON) == ["archive_ms"]


def test_an_archive_of_a_set_that_left_the_list_stays(place):
    place.run(**ON)
    field = place.field(**ON)
    left = place.folder / "L1_b.ms.archive/table.f0"
    before = left.read_bytes()
    shorter = type(field)(field.config, field.workdir, field.small, field.full[:1])
    place.field = lambda full=True, **options: shorter
    place.run()
    assert "archive_ms" in place.made and left.read_bytes() == before


def test_redofrom_moves_archives(place):
    place.run(**ON)
    first = (place.folder / "L1_a.ms.archive/table.f0").read_bytes()
    assert place.run(**ON, control__redofrom="archive_ms") == ["archive_ms"]
    assert (place.folder / "old/L1_a.ms.archive/table.f0").read_bytes() == first
