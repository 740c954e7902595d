"""What a run will take: against records of real runs, its growth, totals and warnings."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import recorded
from ddfpipe.data import sizes
from ddfpipe.data.setsize import SetSize
from ddfpipe.engines.base import ImageJob, SolveJob, VisSelection
from ddfpipe.pipeline import estimate, imagecosts, solvecosts
from ddfpipe.pipeline.costs import NS, Cost, World
from ddfpipe.pipeline.decisions import Decision
from ddfpipe.pipeline.jobcosts import costs_of
from ddfpipe.pipeline.selfcal import build_recipe
from ddfpipe.units import DEGREE, EARTH_RATE
from workplace import configuration

NAMES = tuple(Path(f"L1_{letter}.ms") for letter in "abcd")


def size(n_time=60, n_ant=20, n_chan=8, radius=30e3) -> SetSize:
    """Stations on a spiral, one scan of 8 s slots."""
    k = np.arange(n_ant)
    where = radius * (k / n_ant)[:, None] * np.stack([np.cos(k), np.sin(k), 0 * k], axis=1)
    return SetSize(where, 8.0 * np.arange(n_time), 8.0, 150e6 + 1e5 * np.arange(n_chan))


def world(n_dir=10, npix=2000, threads=2, memory=24e9, **shape) -> World:
    sets = {path: size(**shape) for path in NAMES}
    return World(sets, n_dir, threads, threads, memory, npix, 3.0)


def image(npix=2000, **more) -> ImageJob:
    return ImageJob("image", VisSelection(NAMES, "DATA"), npix, 3.0, -0.5, (12.0, 12.0, 0.0), 1,
                    0.001, start_model="before", clusters=Path("c.npy"), **more)


def solve(kind="DD", dt_min=1.0) -> SolveJob:
    return SolveJob("s", VisSelection(NAMES, "DATA"), kind, "image", clusters=Path("c.npy"),
                    dt_min=dt_min)


# ---------------------------------------------------------------------- against records


@pytest.mark.parametrize("name", recorded.names())
def test_recorded_runs(name):
    run = recorded.load(name)
    total = sum(cpu for cpu, _, _ in run.recorded.values())
    expected = sum(run.costs[stage].cpu_s for stage in run.recorded)
    assert 1 / 1.5 < expected / total < 1.5
    for stage, (cpu, _, _) in run.recorded.items():
        if cpu > 0.05 * total:
            assert 1 / 2.5 < run.costs[stage].cpu_s / cpu < 2.5, stage
    largest = max(memory for _, _, memory in run.recorded.values())
    assert 1 / 1.5 < max(run.costs[s].memory_bytes for s in run.recorded) / largest < 1.5


def test_every_stage_of_a_recorded_run_has_a_cost():
    for name in recorded.names():
        run = recorded.load(name)
        assert set(run.recorded) <= set(run.costs)


# ---------------------------------------------------------------------- growth


@pytest.mark.parametrize("kind", ["DD", "DI"])
def test_solves_grow(kind):
    def cpu(**shape):
        return solvecosts.solve_cost(solve(kind), world(**shape), 2000, 1.5e-5).cpu_s

    assert cpu() < cpu(n_time=120) < cpu(n_time=240)
    assert cpu() < cpu(n_ant=30) < cpu(n_ant=60)
    if kind == "DD":  # else more facets may be cheaper, since they have fewer w planes
        assert cpu() < cpu(n_dir=20) < cpu(n_dir=45)
    slow, middle, fast = (solvecosts.solve_cost(solve(kind, dt), world(n_time=9000), 400, 1.5e-5)
                          for dt in (4.0, 2.0, 1.0))
    assert slow.cpu_s < middle.cpu_s < fast.cpu_s
    assert slow.product_bytes < middle.product_bytes < fast.product_bytes


def test_images_grow():
    def cost(npix=2000, cycles=1, **shape):
        return imagecosts.image_cost(replace(image(npix), major_cycles=cycles), world(**shape))

    for more in ({"n_time": 120}, {"n_chan": 16}, {"npix": 4000}, {"cycles": 2}):
        assert cost(**more).cpu_s > cost().cpu_s, more
    assert cost(n_dir=45, radius=2e3).cpu_s > cost(radius=2e3).cpu_s
    assert cost(npix=4000).memory_bytes > cost().memory_bytes
    assert cost(npix=4000).product_bytes == 4 * cost().product_bytes
    assert cost(n_time=120).scratch_bytes == 2 * cost().scratch_bytes
    assert cost(radius=60e3).cpu_s > cost().cpu_s  # w planes
    # a grid that the memory does not hold takes longer; threads share the memory
    tight = imagecosts.image_cost(image(), world(memory=2e7))
    assert tight.cpu_s > cost().cpu_s
    many = imagecosts.image_cost(image(), world(threads=16, memory=1e9))
    assert many.cpu_s == pytest.approx(cost().cpu_s)
    assert cost().memory_bytes < many.memory_bytes < cost().memory_bytes + 0.31e9


def test_reused_psfs_and_shallow_cleans_are_cheaper():
    full = imagecosts.image_cost(image(), world())
    reused = imagecosts.image_cost(image(reuse="before", reuse_what="dirty"), world())
    shallow = imagecosts.image_cost(replace(image(), peak_factor=0.01), world())
    assert reused.cpu_s < full.cpu_s and shallow.cpu_s < full.cpu_s
    cubes = imagecosts.image_cost(image(cubes=("dirty",), band_mode="channel"), world())
    assert cubes.product_bytes == full.product_bytes + 8 * 4 * 2000**2


def test_threads_share_work_but_not_all_of_it():
    cost = Cost(parallel_s=100.0, serial_s=10.0)
    assert cost.cpu_s == 110 and cost.wall_s(1) == 110 and cost.wall_s(10) == 20


@pytest.mark.parametrize("degrees, slots, channels, spread", [
    (0.8, 120, 20, 1.0), (0.3, 120, 20, 1.0), (0.8, 16, 20, 1.0), (0.8, 120, 4, 1.0),
    (0.8, 120, 20, 0.2)])
def test_share_of_nodes_is_that_of_the_engine(degrees, slots, channels, spread):
    """Within a third of what the engine finds for LOFAR's stations, from transit to six hours."""
    from ddfpipe.imaging.nodes import Chunk
    from ddfpipe.simulate.stations import dutch_stations

    place = spread * np.array([station.position for station in dutch_stations()])
    size = SetSize(place, 8.0 * np.arange(slots), 8.0, 140e6 + 97656.25 * np.arange(channels))
    first, second = np.triu_indices(size.n_ant, 1)
    x, y, z = (place[second] - place[first]).T
    up, level, found = np.sin(0.9), np.cos(0.9), []
    for start in (0.0, 0.8, 1.6):
        hour = start + EARTH_RATE * size.times[:, None]
        sin, cos = np.sin(hour), np.cos(hour)
        uvw = np.stack([sin * x + cos * y, -up * (cos * x - sin * y) + level * z,
                        level * (cos * x - sin * y) + up * z], axis=-1)
        chunk = Chunk.of(uvw, size.freqs, size.times, 8.0, 0.9, np.zeros(channels))
        found.append(chunk.share(chunk.classes(degrees * DEGREE, 0.06 * degrees * DEGREE)))
    share = imagecosts.node_share(size, degrees * DEGREE, slots)
    assert share == pytest.approx(np.mean(found), rel=0.33)


def test_limits_are_those_of_the_engine():
    from ddfpipe.engines.native import (
        facetmodel, imager, modelsky, operators, predictor, solveintervals, visibilities,
    )
    from ddfpipe.imaging import facetpredict, gridimage, nodes

    assert imagecosts.MAX_FACET == modelsky.MAX_FACET
    assert imagecosts.DIRECT_LIMIT == facetmodel.DIRECT_LIMIT
    assert imagecosts.DIRECT_BRIGHT == facetmodel.DIRECT_BRIGHT
    assert imagecosts.GRID_BYTES == operators.GRID_BYTES
    assert imagecosts.GRID_SHARE == imager.SAMPLE_SHARE
    assert imagecosts.TRANSFORM_BYTES == gridimage.TRANSFORM_BYTES
    assert imagecosts.IN_MEMORY == visibilities.IN_MEMORY
    assert imagecosts.PREDICT_BYTES == facetpredict.GRID_BYTES
    assert imagecosts.CHUNK_BYTES == visibilities.CHUNK_BYTES
    assert (imagecosts.NODES, imagecosts.BLOCK, imagecosts.MOST) == \
        (pytest.approx(NS * predictor.NODES), nodes.SLOTS, nodes.MOST)
    ours = (imagecosts.FAINT, imagecosts.DEGRID, imagecosts.DEGRID_PLANE, imagecosts.LOAD)
    theirs = (facetpredict.DIRECT, facetpredict.DEGRID, facetpredict.DEGRID_PLANE,
              facetpredict.LOAD)
    assert ours == pytest.approx([NS * cost for cost in theirs])
    assert solvecosts.MODEL_SHARE == solveintervals.MODEL_SHARE
    assert solvecosts.MODEL_BYTES == solveintervals.MODEL_BYTES


def test_facets_and_grids_are_like_those_of_the_engine():
    from ddfpipe.imaging.facetgrid import FacetGrid
    from ddfpipe.imaging.facets import regular_facets, voronoi_facets

    cell, npix = 1.5e-5, 4000
    most = imagecosts.MAX_FACET
    assert imagecosts.facets_of(npix, cell, None).count == \
        len(regular_facets(npix=npix, cell=cell, max_size_rad=most).facets)
    places = (np.random.default_rng(2).random((2, 40)) - 0.5) * npix * cell
    cut = voronoi_facets(npix=npix, cell=cell, l=places[0], m=places[1], max_size_rad=most)
    like = imagecosts.facets_of(npix, cell, 40)
    boxes = sum(facet.nx * facet.ny for facet in cut.facets)
    assert 0.7 < like.count / len(cut.facets) < 1.4
    assert 0.7 < like.count * like.side**2 / boxes < 1.4
    sets = [size(radius=60e3)]
    longest = sets[0].lengths[-1] * sets[0].freqs.max() / 2.998e8
    w, uv = imagecosts.W_SHARE * longest, longest
    grids = [FacetGrid(facet, cell, w, uv, accuracy=2.5e-5) for facet in cut.facets]
    planes, bytes_ = imagecosts.grid_shape(like.longer, cell, sets, VisSelection((), ""))
    assert 0.6 < planes / np.mean([grid.n_planes for grid in grids]) < 1.6
    assert 0.5 < bytes_ / np.mean([4 * grid.size for grid in grids]) < 2


# ---------------------------------------------------------------------- plans


def plan(done=(), end=None, measured=None, **options):
    config = configuration(**options)
    recipe = build_recipe(config, NAMES[:1], NAMES[:2])
    decisions = [Decision(s, "" if s.name in done else "not done yet") for s in recipe.stages]
    given = replace(world(npix=config.image.imsize), n_dir=5)
    return estimate.estimate(config, decisions, given, measured, end)


EVERYTHING = dict(
    image__do_wide=True, control__redo_DI=True, control__redo_DI_model="sky.txt",
    control__bootstrap=True, bootstrap__catalogues=("low.fits", "high.fits"),
    bootstrap__frequencies=(74e6, 327e6),
    control__spectral_restored=True, control__polcubes=True, control__stokesv=True,
    compression__compress_ms=True, control__remove_columns=True, spectra__do_dynspec=True,
    control__write_columns=("DATA_DI_CORRECTED",), offsets__method="gaia",
    compression__compress_polcubes=True,
)


def test_every_kind_of_stage_has_a_cost():
    found = plan(**EVERYTHING)
    assert len(found.counted) == len(found.rows) > 60
    assert all(row.cost.cpu_s > 0 and row.cost.memory_bytes > 1e8 for row in found.rows)


def test_totals_and_done_stages():
    fresh = plan()
    assert fresh.factor is None
    assert fresh.cpu_s == pytest.approx(sum(row.cost.cpu_s for row in fresh.rows))
    assert fresh.largest.cost.memory_bytes == max(r.cost.memory_bytes for r in fresh.rows)
    first = [row.decision.stage.name for row in fresh.rows[:9]]
    later = plan(done=first)
    assert len(later.counted) == len(fresh.rows) - 9 and later.cpu_s < fresh.cpu_s
    ended = plan(end="DDS0")
    assert [row.decision.stage.name for row in ended.counted][-1] == "DDS0"
    text = estimate.estimate_text(ended)
    assert "after exitafter" in text and "core-hours" in text and "docs/performance.md" in text


def test_caches_that_the_next_start_deletes_are_made_again():
    first = ["image_dirin_SSD_init", "external_mask"]
    kept = plan(done=first, control__clearcache=False)
    gone = plan(done=first, control__clearcache=True)
    stage = {row.decision.stage.name: row for row in kept.rows}["image_dirin_SSD"]
    again = {row.decision.stage.name: row for row in gone.rows}["image_dirin_SSD"]
    assert again.cost.cache_bytes > stage.cost.cache_bytes and again.cost.cpu_s > stage.cost.cpu_s


def test_finished_stages_tell_how_fast_the_machine_is():
    fresh = plan()
    rows = [row for row in fresh.rows if row.cost.cpu_s > 1][:4]
    names = [row.decision.stage.name for row in rows]
    expected = sum(row.cost.cpu_s for row in rows)
    assert expected > 60
    same = plan(done=names, measured={r.decision.stage.name: r.cost.cpu_s for r in rows})
    assert same.factor == pytest.approx(1.0)
    slow = plan(done=names, measured={r.decision.stage.name: 2 * r.cost.cpu_s for r in rows})
    assert 1.3 < slow.factor < 2
    assert slow.cpu_s == pytest.approx(slow.factor * same.cpu_s)
    assert "as the 4 finished stages say" in estimate.estimate_text(slow)
    assert plan(done=names, measured=dict.fromkeys(names, 1e9)).factor == estimate.FACTORS[1]
    # stages of an engine that is not ours, or that are to be made again, tell nothing
    assert plan(measured=dict.fromkeys(names, 1e9)).factor is None


def test_stages_of_other_programs_are_not_estimated():
    found = plan(machine__image_engine="wsclean")
    costs = {row.decision.stage.name: row.cost for row in found.rows}
    assert costs["image_phase1"].cpu_s == 0 and costs["DDS0"].cpu_s > 0
    assert found.cpu_s == pytest.approx(sum(cost.cpu_s for cost in costs.values()))
    assert found.product_bytes > sum(costs[r.decision.stage.name].product_bytes
                                     for r in found.counted)
    text = estimate.estimate_text(found)
    line = next(line for line in text.splitlines() if " image_phase1 " in line)
    assert line.split().count("-") == 2 and "GB" in line
    assert "are done by other programs" in text and "not estimated" in text


def test_too_little_memory_and_disk_are_told(tmp_path, monkeypatch):
    found = plan()
    plenty = type("usage", (), {"free": 1e15})
    room = {tmp_path: found.product_bytes, tmp_path / "cache" / "deep": found.cache_bytes}
    monkeypatch.setattr(sizes.shutil, "disk_usage", lambda path: plenty)
    assert estimate.shortages(found, 10**13, room) == []
    short = estimate.shortages(found, 5 * 10**8, room)
    assert len(short) == 1 and found.neediest[0] in short[0]
    assert "[image] imsize" in short[0] and "memory" in short[0]
    usage = type("usage", (), {"free": 1000})
    monkeypatch.setattr(sizes.shutil, "disk_usage", lambda path: usage)
    (line,) = estimate.shortages(found, 10**13, room)
    assert "1 kB are free" in line and "[control] cache_dir" in line and str(tmp_path) in line


def test_a_selection_of_bands_takes_its_sets_only():
    sets = {path: replace(size(), freqs=size().freqs + 1e7 * n) for n, path in enumerate(NAMES)}
    part = replace(world(), sets=sets)
    assert len(part.of(NAMES)) == 4 and len(part.of(NAMES, (0.0, 165.0))) == 2


def test_costs_of_a_recipe_without_full_list():
    config = configuration(full=False)
    recipe = build_recipe(config, NAMES[:1], ())
    assert set(costs_of(recipe.stages, world())) == {stage.name for stage in recipe.stages}
