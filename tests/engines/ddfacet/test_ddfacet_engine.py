"""Images by DDFacet and gains by killMS against the truth and against our own engine."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from engine_fields import (
    Listener, fit_source, make_job, product, write_directions,
)
from program_fields import CELL, FLUXES, NPIX, give_gains, three_sources, true_model
from scipy.ndimage import binary_dilation

from ddfpipe.data import solutions
from ddfpipe.data.images import SkyGrid
from ddfpipe.data.model import PixelModel, load_model
from ddfpipe.engines.base import GainChoice, SolveJob, VisSelection
from ddfpipe.engines.ddfacet.inputs import predicting_grid
from ddfpipe.engines.ddfacet.predicting import predict
from ddfpipe.engines.ddfacet.shm import FOLDER, Leftovers
from ddfpipe.engines.external.runner import Runner
from ddfpipe.engines.external.view import PREDICT, open_view
from ddfpipe.engines.native.visibilities import Scratch
from ddfpipe.errors import StageFailed
from ddfpipe.imaging.components import predict_components
from ddfpipe.units import ARCSEC, SPEED_OF_LIGHT

pytestmark = pytest.mark.slow  # a minute or two each on an idle machine

COARSE = 200.0
"""Pixel in arcsec that does not tell apart what the longer baselines of the field see."""

MIXED = 15
"""Pixels from an edge within which DDFacet mixes facets."""


@pytest.fixture(scope="module")
def field(tmp_path_factory):
    """Three sources, core stations, a little noise, without which killMS fails."""
    return three_sources(tmp_path_factory.mktemp("ddfacet"),
                         noise={"sample_jy": 0.02, "flag_random": 0.0})


def left_behind(processes: list[int]) -> list[str]:
    """What is in shared memory of these processes; others run meanwhile."""
    return [path.name for path in FOLDER.iterdir()
            if any(re.search(rf"(?<!\d){pid}(?!\d)", path.name) for pid in processes)]


def test_an_image_has_the_products_and_fluxes_of_our_own(engine, field):
    simulation, sources = field
    settings = dict(robust=0.0, decorrelation=False, major_cycles=1)
    result = engine.image(make_job("img", simulation, NPIX, CELL, **settings), Listener())
    home = engine.native.workdir
    engine.native.image(make_job("own", simulation, NPIX, CELL, **settings), Listener())
    names = {path.name.replace("own", "img") for path in home.glob("own.*")}
    assert names == {path.name for path in home.glob("img.*")}
    assert {path.name for path in result.products} <= names
    app, true = (product(home, "img", kind) for kind in ("app_restored", "int_restored"))
    assert np.array_equal(app.plane(), true.plane())
    assert app.grid.same(product(home, "own", "app_restored").grid)
    fluxes = np.array([fit_source(app, s.ra, s.dec).flux for s in sources])
    assert np.abs(fluxes / FLUXES - 1).max() < 0.02
    assert app.beam[:2] == pytest.approx(product(home, "own", "app_restored").beam[:2], rel=0.06)
    assert load_model(home / "img.model.npz").total_flux.mean() == pytest.approx(6.0, rel=0.03)
    assert not list(engine.native.cache_dir.glob("ddfpipe.scratch*"))
    assert not list((engine.native.cache_dir / "ddfpipe.shm").iterdir())


def test_gains_reach_the_right_facets_with_the_right_flux_scale(engine, field):
    """Data without gains, imaged through some: what is left is as with our own engine."""
    simulation, sources = field
    write_directions(engine.native.workdir, sources)
    give_gains(engine, field, "g")
    settings = dict(
        robust=None, decorrelation=False, gains=GainChoice(("g",), "AP"), major_cycles=0,
        clusters=Path("directions.npy"), start_model=true_model(engine, field, whole_pixels=True))
    engine.image(make_job("img", simulation, NPIX, CELL, **settings), Listener())
    engine.native.image(make_job("own", simulation, NPIX, CELL, **settings), Listener())
    home = engine.native.workdir
    residual, own = (product(home, name, "app_residual").plane() for name in ("img", "own"))
    norm = product(home, "img", "norm")
    outlines = np.abs(np.gradient(product(home, "own", "norm").plane())).sum(0) > 0
    inside = ~binary_dilation(outlines, iterations=MIXED)
    assert inside.mean() > 0.75 and np.abs(own).max() > 0.5
    assert np.abs(residual - own)[inside].max() < 0.015 * np.abs(own).max()
    seen = [norm.plane()[tuple(np.rint(np.ravel(norm.grid.pixel_of(s.ra, s.dec))).astype(int))]
            for s in sources]
    assert seen == pytest.approx([1.0, 0.36, 2.25], rel=0.01)


@pytest.mark.parametrize("kind, amplitude, phase", [("DD", 0.03, 0.06), ("DI", 0.02, 0.04)])
def test_solves_find_the_gains_that_are_in_the_data(engine, field, kind, amplitude, phase):
    """Gains of one, towards directions and as full Jones matrices; a finished solve is kept."""
    simulation, sources = field
    places = "".join(f"{np.degrees(s.ra)} {np.degrees(s.dec)}\n" for s in sources)
    (engine.native.workdir / "directions.txt").write_text(places)
    job = SolveJob(
        "s", VisSelection(tuple(simulation.ms[:1]), "DATA"), kind,
        true_model(engine, field, whole_pixels=True), clusters=Path("directions.txt"), dt_min=0.5,
        n_chan_sols=1, decorrelation=False)
    result = engine.solve(job, Listener())
    table = solutions.load_solution(engine.native.solsdir, simulation.ms[0], "s")
    assert np.abs(np.abs(table.gains[..., [0, -1]]) - 1).max() < amplitude
    relative = table.gains[..., 0] * np.conj(table.gains[:, :, :1, :, 0])
    assert np.abs(np.angle(relative)).max() < phase
    assert table.gains.shape[0] >= 8  # an interval a block of slots at least, none without data
    weights = next(path for path in result.products if path.name.endswith("weights.npz"))
    factor = np.load(weights)["factor"]
    assert (factor > 0).all() and factor.std() < factor.mean()
    before = [path.stat().st_mtime_ns for path in result.products]
    assert engine.solve(job, Listener()).details == result.details
    assert before == [path.stat().st_mtime_ns for path in result.products]


def test_gains_applied_before_a_solve_are_those_of_each_direction(engine, field):
    """On top of gains that the data do not have, what is found is their inverse."""
    simulation, sources = field
    write_directions(engine.native.workdir, sources)
    give_gains(engine, field, "g", reach=0.8, size=(1.0, 1.0, 1.0))
    job = SolveJob(
        "s", VisSelection(tuple(simulation.ms[:1]), "DATA"), "DD",
        true_model(engine, field, whole_pixels=True), clusters=Path("directions.npy"), dt_min=0.5,
        n_chan_sols=1, decorrelation=False, pre_apply=("g",), update_weights=False)
    engine.solve(job, Listener())
    found, given = (
        solutions.load_solution(engine.native.solsdir, simulation.ms[0], name).gains[..., 0]
        for name in ("s", "g"))
    phase = np.angle(found * given)
    worst = np.abs(np.angle(np.exp(1j * (phase - phase[:, :, :1])))).max(axis=(1, 2, 3))
    # KAFCA starts from gains of one and takes some intervals to get anywhere, see docs/engines.md
    assert worst[0] > 0.2 and worst[4:].max() < 0.06 and np.abs(found[4:]).std() < 0.02


def test_predictions_are_right_on_baselines_beyond_the_pixels(engine, field, tmp_path):
    """DDFacet leaves out visibilities beyond those that the pixels of an image tell apart."""
    simulation, _ = field
    job = make_job("p", simulation.ms[:1], 64, COARSE, decorrelation=False)
    with Scratch(tmp_path / "scratch") as scratch:
        view = open_view(engine.native, job, Listener(), scratch, "spectrum")
        grid = SkyGrid(*view.data.phase_centre, 64, 64, COARSE * ARCSEC)
        model = PixelModel.from_points(grid, [144e6], [50], [20], [[1.0]])
        (tmp_path / "folder").mkdir()
        predict(engine, Runner(Listener()), view, model, tmp_path / "folder", PREDICT,
                decorrelation=False)
        cache, copy = view.sets[0].cache, view.copies[0]
        found = copy.read(PREDICT, slice(0, copy.shape[0]))[..., 0]
        fine = predicting_grid(grid, view)
    reach = np.hypot(*cache.uvw[..., :2].T).T[..., None] * cache.freq / SPEED_OF_LIGHT
    beyond = reach > 0.5 / grid.cell
    assert 0.1 < beyond.mean() < 0.9 and reach.max() < 0.5 / fine.cell < 3 * reach.max()
    l, m = grid.lm(50, 20)
    true = predict_components(l=l, m=m, flux=[1.0], uvw=cache.uvw, freq=cache.freq)
    # its kernels are tabulated at elevenths of a cell: 0.07 at worst, on short baselines as well
    assert np.abs(found - true)[beyond].max() < 0.1 and np.abs(found - true).max() < 0.1
    assert np.sqrt(np.mean(np.abs(found - true)[beyond] ** 2)) < 0.05


def test_a_program_that_fails_is_told_and_leaves_nothing(engine, field, monkeypatch):
    """DDFacet with an option that it does not know."""
    simulation, _ = field
    processes, started, call = [], Leftovers.started, engine.call
    monkeypatch.setattr(Leftovers, "started", lambda left, pid: (
        processes.append(pid), started(left, pid)))
    monkeypatch.setattr(engine, "call", lambda words, *args, **more: call(
        [*words, "--Image-NoSuchOption=1"], *args, **more))
    with pytest.raises(StageFailed, match="NoSuchOption"):
        engine.image(make_job("img", simulation, NPIX, CELL, robust=0.0), Listener())
    assert processes and not left_behind(processes)
    assert not list(engine.native.cache_dir.glob("ddfpipe.scratch*"))
