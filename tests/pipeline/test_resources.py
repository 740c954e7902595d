"""What a run needs of disk and memory, as the checks before it and `plan --estimate` tell."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from ddfpipe.data import archive, setsize, sizes
from ddfpipe.data.setsize import SetSize
from ddfpipe.engines.base import ImageJob, SolveJob
from ddfpipe.errors import DataError, ResourceError, StopRequested
from ddfpipe.pipeline import (
    costs, estimate, externalcosts, imagecosts, jobcosts, resources,
)
from ddfpipe.pipeline.decisions import Decision
from ddfpipe.pipeline.run import check_data, decide

PLANE = 4 * 1000**2
SIZES = {"image__imsize": 1000, "image__low_imsize": 500}
MEMORY = 8 << 30


@pytest.fixture
def data(monkeypatch):
    """Measurement sets of 10 stations, 20 slots and 4 channels: all that is asked for exist."""
    def size(path, drop_international):
        k = np.arange(10)
        places = 3e3 * k[:, None] * np.stack([np.cos(k), np.sin(k), 0 * k], axis=1)
        shift = 1e7 * ("b.ms" in str(path))
        return SetSize(places, 8.0 * np.arange(20), 8.0, 150e6 + shift + 1e5 * np.arange(4))

    monkeypatch.setattr(setsize, "read_set_size", size)
    return size(Path("a.ms"), False)


def found(field, decisions=None):
    decisions = decide(field, field.recipe) if decisions is None else decisions
    return estimate.estimate(field.config, decisions, estimate.world_of(field, MEMORY, True))


def needed(field, decisions=None):
    return resources.disk_needed(field, found(field, decisions))


def test_products_caches_and_solutions_go_where_they_are_written(place, data):
    field = place.field(control__cache_dir="scratch", **SIZES)
    room, rows = needed(field), found(field).rows
    images = [row for row in rows if isinstance(row.decision.stage.job, ImageJob)]
    assert len(images) == 15
    assert room[field.workdir] > sum(row.cost.product_bytes for row in images)
    assert room[field.workdir] == pytest.approx(
        found(field).product_bytes - room[field.solsdir])
    gains = sum(row.cost.product_bytes for row in rows
                if isinstance(row.decision.stage.job, SolveJob))
    assert room[field.solsdir] > gains > 0
    assert room[field.workdir / "scratch"] == found(field).cache_bytes
    assert room[field.logs] == 0  # it must be writable


def test_only_what_is_still_to_do_needs_room(place, data):
    fresh = place.field(**SIZES)
    before, memory = needed(fresh), found(fresh).neediest[1]
    with pytest.raises(StopRequested):
        place.run(control__exitafter="initial", **SIZES)
    after = needed(place.field(control__clearcache=False, **SIZES))
    decisions = decide(fresh, fresh.recipe)
    made = [d.stage.name for d in decisions if d.done and isinstance(d.stage.job, ImageJob)]
    assert len(made) == 3
    assert after[fresh.workdir] < before[fresh.workdir] - 3 * 10 * PLANE
    # near the end hardly anything is left to do
    last = [replace(d, why="" if d.stage.name != "final_mask" else "not done yet")
            for d in decisions]
    field = place.field(control__clearcache=False, **SIZES)
    assert sum(needed(field, last).values()) == PLANE
    assert found(field, last).neediest[0] == "final_mask"
    assert found(field, last).neediest[1] < memory


def test_caches_that_the_start_deletes_make_room(place, data):
    field = place.field(control__cache_dir="scratch", **SIZES)
    folder = field.cache_dir
    ours = [folder / f"L1_a.ms.DATA.0123456789ab{sizes_suffix()}" / "data.npy",
            folder / "ddfpipe.stokes" / "L1_a.ms.0123.npy", folder / "ddfpipe.images" / "x.npz",
            folder / "ddfpipe.copies" / "L1_a.01234567.ms" / "table.f1"]
    theirs = [folder / f"L7.ms.DATA.0123456789ab{sizes_suffix()}" / "data.npy",
              folder / "ddfpipe.stokes" / "L7.ms.0123.npy", folder / "other" / "file",
              folder / "ddfpipe.copies" / "L7.01234567.ms" / "table.f1"]
    for path in ours + theirs:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(bytes(1000))
    assert resources.bytes_in_caches(folder, field.small) == 1000 * len(ours)
    assert needed(field)[folder] == found(field).cache_bytes - 1000 * len(ours)
    kept = place.field(control__cache_dir="scratch", control__clearcache=False, **SIZES)
    assert needed(kept)[folder] == found(kept).cache_bytes


def sizes_suffix():
    from ddfpipe.data.viscache import SUFFIX

    return SUFFIX


def test_names_of_caches_are_those_of_the_engines():
    from ddfpipe.engines.external import copies
    from ddfpipe.engines.native import state, visibilities

    assert resources.CACHE_FOLDERS == (state.FOLDER,)
    assert resources.SET_CACHES == (
        f"{{name}}.*{sizes_suffix()}", f"{visibilities.STOKES_FOLDER}/{{name}}.*",
        f"{copies.FOLDER}/{{stem}}.????????.ms")


def test_columns_need_room_in_their_measurement_sets(place, data, monkeypatch):
    monkeypatch.setattr(resources, "bytes_of_columns", lambda decisions: {
        ms: 500 for d in decisions if d.stage.name == "write_columns" for ms in d.stage.job.ms})
    plain, field = place.field(**SIZES), place.field(
        control__write_columns=("DATA_DI_CORRECTED",), **SIZES)
    room = needed(field)
    assert [room[ms] for ms in field.full] == [500, 500]
    assert room[field.workdir] == needed(plain)[field.workdir]


def test_cubes_and_copies_of_other_stokes_parameters_count(place, data):
    options = SIZES | {"image__vlow_imsize": 200, "control__cache_dir": "scratch"}
    plain, cubes = place.field(**options), place.field(control__polcubes=True, **options)
    more = needed(cubes)[plain.workdir] - needed(plain)[plain.workdir]
    stages = [d for d in decide(cubes, cubes.recipe) if getattr(d.stage.job, "cubes", None)]
    jobs = [d.stage.job for d in stages]
    assert len(jobs) == 2 and all(job.stokes == "QU" for job in jobs)
    # four channels of two sets, two parameters, and what every image leaves
    files = sum(4 * job.npix**2 * (8 * 2 * len(job.cubes) + 10) for job in jobs)
    assert more == files
    world = estimate.world_of(cubes, MEMORY)
    first, second = (
        row.cost.cache_bytes - imagecosts.image_cost(job, world).cache_bytes
        for row, job in zip(found(cubes, stages).rows, jobs))
    read = costs.first_reading(world.sets.values()).cache_bytes
    assert first == pytest.approx(read + 2 * 8 * 2 * data.visibilities)
    assert second == pytest.approx(0, abs=1)


def test_programs_of_others_need_what_they_need(place, data):
    native = found(place.field(**SIZES))
    field = place.field(machine__engine="ddfacet", **SIZES)
    theirs = found(field)
    rows = {row.decision.stage.name: row for row in theirs.rows}
    image = rows["image_phase1"]
    assert not image.ours and image.cost.cpu_s == 0
    assert image.cost.product_bytes == 12 * PLANE
    assert image.cost.held_bytes > 12 * image.decision.stage.job.n_bands * PLANE
    wsclean = found(place.field(machine__engine="wsclean", **SIZES))
    kept = {row.decision.stage.name: row.cost.scratch_bytes for row in wsclean.rows}
    assert image.cost.scratch_bytes > PLANE and kept["image_phase1"] == 0
    # a working copy of each set, once, and columns for the directions of one at a time
    copy = externalcosts.working_copy(data)
    assert copy > 4 * 32 * data.visibilities
    first = [row.cost.cache_bytes for row in theirs.rows if row.cost.cache_bytes >= copy]
    assert sum(first) < 2 * (copy + 36 * 1.2 * data.visibilities + 8 * 12 * data.visibilities)
    assert len(first) == 2  # the small list, and the set that the full list adds
    assert rows["DDS0"].cost.scratch_bytes == pytest.approx(5 * 32 * data.visibilities, rel=0.01)
    assert rows["DDS0"].cost.product_bytes == next(
        row for row in native.rows if row.decision.stage.name == "DDS0").cost.product_bytes
    assert rows["image_phase1_mask"].ours and rows["DDS0_smoothed"].ours


def test_archives_need_at_most_what_is_asked_for(place, data):
    field = place.field(compression__compress_ms=True, **SIZES)
    row = next(r for r in found(field).rows if r.decision.stage.name == "archive_ms")
    info = SimpleNamespace(corr_types=(9, 10, 11, 12), n_chan=4, n_rows=20 * 55,
                           path=SimpleNamespace(iterdir=lambda: []))
    assert row.cost.product_bytes == pytest.approx(
        2 * (archive.archive_size(info) - (1 << 20)), rel=0.2)
    assert jobcosts.ARCHIVED_BYTES == 16


def test_a_check_with_sets_that_cannot_be_read_tells_all(place, monkeypatch):
    field = place.field(**SIZES)  # the sets of the fake engine are no measurement sets
    usage = type("usage", (), {"free": 1000})
    monkeypatch.setattr(sizes.shutil, "disk_usage", lambda path: usage)
    with pytest.raises(DataError) as caught:
        check_data(field, decide(field, field.recipe))
    text = str(caught.value)
    assert "L1_a.ms" in text and "1 kB are free" in text and "[control] cache_dir" in text


def test_checks_refuse_what_an_estimate_warns_of(place, data, monkeypatch):
    field = place.field(machine__memory_limit_gb=0.4, **SIZES)
    what = found(field)
    (line,) = estimate.shortages(what, int(0.4e9), {field.workdir: 0.0})
    assert line.startswith(f"WARNING: {what.neediest[0]} will need some ")
    assert "400 MB can be had" in line and "[machine] memory_limit_gb" in line
    monkeypatch.setattr("ddfpipe.data.preflight.examine", lambda path, *_: SimpleNamespace(
        info=None, problems=(), path=path, flagged=0.0))
    with pytest.raises(ResourceError, match="will need some .* 400 MB can be had"):
        check_data(field, decide(field, field.recipe))
    check_data(place.field(machine__memory_limit_gb=4.0, **SIZES), [])


def test_pages_of_files_are_no_need():
    cost = jobcosts.Cost(memory_bytes=3e9, mapped_bytes=1e9)
    assert cost.held_bytes == 2e9
    assert cost.plus(memory_bytes=1e9, cache_bytes=5).held_bytes == 2e9
    row = SimpleNamespace(decision=Decision(SimpleNamespace(name="image"), "not done yet"),
                          cost=cost, to_do=True, ours=True)
    assert estimate.Estimate((row,)).neediest == ("image", 2e9)
    assert estimate.Estimate(()).neediest is None
