"""Images by WSClean and gains by DP3 against the truth and against our own engine."""

from __future__ import annotations

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
from ddfpipe.engines.external.runner import Runner
from ddfpipe.engines.external.view import MODEL, open_view
from ddfpipe.engines.native.visibilities import Scratch
from ddfpipe.engines.wsclean.predicting import gridding_of, predict
from ddfpipe.engines.wsclean.preview import preview
from ddfpipe.imaging.components import predict_components
from ddfpipe.units import ARCSEC


@pytest.fixture(scope="module")
def field(tmp_path_factory):
    """Three sources, core stations, no errors: (Simulation, sources)."""
    return three_sources(tmp_path_factory.mktemp("wsclean"))


def test_an_image_has_the_products_and_fluxes_of_our_own(engine, field):
    simulation, sources = field
    job = make_job("img", simulation, NPIX, CELL, robust=0.0, decorrelation=False, major_cycles=1)
    result = engine.image(job, Listener())
    home = engine.native.workdir
    engine.native.image(make_job("own", simulation, NPIX, CELL, robust=0.0, decorrelation=False,
                                 major_cycles=1), Listener())
    names = {path.name.replace("own", "img") for path in home.glob("own.*")}
    assert names == {path.name for path in home.glob("img.*")}
    assert {path.name for path in result.products} <= names
    app, true = (product(home, "img", kind) for kind in ("app_restored", "int_restored"))
    assert np.array_equal(app.plane(), true.plane())
    fluxes = np.array([fit_source(app, s.ra, s.dec).flux for s in sources])
    assert np.abs(fluxes / FLUXES - 1).max() < 0.02
    assert app.beam[:2] == pytest.approx(product(home, "own", "app_restored").beam[:2], rel=0.06)
    assert load_model(home / "img.model.npz").total_flux.mean() == pytest.approx(6.0, rel=0.03)
    assert not list(engine.native.cache_dir.glob("ddfpipe.scratch*"))


@pytest.mark.parametrize("npix, cell, place", [(NPIX, CELL, (300, 20)), (64, 200.0, (50, 20))])
def test_predictions_are_right_far_from_the_middle(engine, field, tmp_path, npix, cell, place):
    """A lone pixel near a corner against the sum that defines a visibility.

    By itself WSClean predicts from a coarser image where baselines are short: wrong by 8 % at
    worst.  The pixels of the second image are so large that longer baselines lie beyond its
    visibilities.
    """
    simulation, _ = field
    job = make_job("p", simulation.ms[:1], npix, cell, decorrelation=False)
    with Scratch(tmp_path / "scratch") as scratch:
        view = open_view(engine.native, job, Listener(), scratch, "spectrum")
        grid = SkyGrid(*view.data.phase_centre, npix, npix, cell * ARCSEC)
        model = PixelModel.from_points(grid, [144e6], place[:1], place[1:], [[1.0]])
        gridding = gridding_of(engine.tools, engine.native, job, scratch.folder, 1, None)
        predict(Runner(Listener()), gridding, view, model, scratch.folder)
        cache, copy = view.sets[0].cache, view.copies[0]
        found = copy.read(MODEL, slice(0, copy.shape[0]))[..., 0]
    l, m = grid.lm(*place)
    true = predict_components(l=l, m=m, flux=[1.0], uvw=cache.uvw, freq=cache.freq)
    assert np.abs(found - true).max() < 1e-3


def test_gains_reach_the_right_facets_with_the_right_flux_scale(engine, field):
    """Data through gains, imaged through them: true fluxes, and apparent ones of |g|² S."""
    simulation, sources = field
    write_directions(engine.native.workdir, sources)
    give_gains(engine, field, "g")
    gains, clusters = GainChoice(("g",), "AP"), Path("directions.npy")
    model = true_model(engine, field)
    job = make_job("img", simulation, NPIX, CELL, robust=None, decorrelation=False, gains=gains,
                   clusters=clusters, major_cycles=0, start_model=model)
    engine.image(job, Listener())
    # what is left of the data (without gains) is their difference from the model through gains
    residual = product(engine.native.workdir, "img", "app_residual").plane()
    native = make_job("own", simulation, NPIX, CELL, robust=None, decorrelation=False, gains=gains,
                      clusters=clusters, major_cycles=0, start_model=model)
    engine.native.image(native, Listener())
    own = product(engine.native.workdir, "own", "app_residual").plane()
    assert np.abs(own).max() > 0.5
    # which facet owns a pixel on an edge is a matter of taste; WSClean leaves some at the rim empty
    outlines = np.abs(np.gradient(product(engine.native.workdir, "own", "norm").plane())).sum(0) > 0
    inside = ~binary_dilation(outlines, iterations=2)
    inside[[0, 1, 2, -3, -2, -1]] = inside[:, [0, 1, 2, -3, -2, -1]] = False
    assert inside.mean() > 0.9
    assert np.abs(residual - own)[inside].max() < 0.01 * np.abs(own).max()
    norm = product(engine.native.workdir, "img", "norm")
    seen = [norm.plane()[tuple(np.rint(np.ravel(norm.grid.pixel_of(s.ra, s.dec))).astype(int))]
            for s in sources]
    assert seen == pytest.approx([1.0, 0.36, 2.25], rel=0.01)


class Log(Listener):
    """A listener that keeps the commands of programs."""

    def detail(self, text: str) -> None:
        if text.startswith("$ "):
            self.messages.append(text)

    def commands(self, program: str) -> list[str]:
        """Of one program, without the environment."""
        words = [m.split() for m in self.messages if m.startswith("$ ")]
        starts = [next(k for k, w in enumerate(line) if w.endswith(program)) for line in words
                  if any(w.endswith(program) for w in line)]
        lines = [line for line in words if any(w.endswith(program) for w in line)]
        return [" ".join(line[k:]).replace("'", "") for line, k in zip(lines, starts)]


def test_a_preview_tells_the_commands_that_are_run(engine, field):
    simulation, sources = field
    write_directions(engine.native.workdir, sources)
    true_model(engine, field)
    image = make_job("img", simulation, NPIX, CELL, robust=0.0, decorrelation=False, major_cycles=1,
                     start_model="truth")
    solve = SolveJob("dd", VisSelection(tuple(simulation.ms), "DATA"), "DD", "truth",
                     clusters=Path("directions.npy"), dt_min=0.5, n_chan_sols=1,
                     decorrelation=False)
    told = {job.name: preview(engine, job) for job in (image, solve)}
    cache = engine.native.cache_dir
    assert not cache.exists() or not list(cache.glob("*copies*"))
    log = Log()
    engine.image(image, log)
    for wanted in told["img"][:3]:  # a clean needs a peak; what is known of it comes first
        assert wanted in log.commands("wsclean")
    assert "of the peak>" in told["img"][3]
    log = Log()
    engine.solve(solve, log)
    assert [line.replace("'", "") for line in told["dd"]] == log.commands("DP3.py")


def test_slow_gains_are_found_on_top_of_known_ones(engine, field):
    """The model goes through gains that the data lack: what is found undoes them.

    Directions that a core barely tells apart leave some freedom to single gains; the visibilities
    leave none.
    """
    simulation, sources = field
    write_directions(engine.native.workdir, sources)
    give_gains(engine, field, "g", 0.3, (1.0, 1.05, 0.97))
    model = true_model(engine, field)
    job = SolveJob("slow", VisSelection(tuple(simulation.ms), "DATA"), "DD", model,
                   clusters=Path("directions.npy"), dt_min=0.5, n_chan_sols=1,
                   decorrelation=False, pre_apply=("g",))
    assert engine.solve(job, Listener()).details["residual_share"] < 0.005
    for ms in simulation.ms:
        given = solutions.load_solution(engine.native.solsdir, ms, "g").gains
        found = solutions.load_solution(engine.native.solsdir, ms, "slow").gains
        left = (found * given / np.abs(given))[..., 0]
        left = np.angle(left * np.conj(left.mean(axis=2, keepdims=True)))
        assert left.std() < 0.05 < np.angle(given).std()


def test_solves_find_the_gains_that_are_in_the_data(engine, field):
    """Perfect data: gains of one, towards directions and as full Jones matrices; also kept."""
    simulation, sources = field
    write_directions(engine.native.workdir, sources)
    model = true_model(engine, field)
    vis = VisSelection(tuple(simulation.ms), "DATA")
    for name, kind, bound in (("dd", "DD", 0.02), ("di", "DI", 0.02)):
        job = SolveJob(name, vis, kind, model, clusters=Path("directions.npy"), dt_min=0.5,
                       n_chan_sols=1, decorrelation=False)
        result = engine.solve(job, Listener())
        assert all(path.exists() for path in result.products)
        assert result.details["residual_share"] < 0.02
        table = solutions.load_solution(engine.native.solsdir, simulation.ms[0], name)
        corr = 0 if kind == "DD" else [0, 3]
        assert np.abs(np.abs(table.gains[..., corr]) - 1).max() < bound
        relative = table.gains[..., 0] * np.conj(table.gains[:, :, :1, :, 0])
        assert np.abs(np.angle(relative)).max() < 2 * bound
        assert table.gains.shape[0] == 8  # one interval a block of slots, none over a gap
        before = [path.stat().st_mtime_ns for path in result.products]
        assert engine.solve(job, Listener()).details == result.details
        assert before == [path.stat().st_mtime_ns for path in result.products]
