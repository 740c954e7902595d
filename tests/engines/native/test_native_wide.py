"""The wide field: what lies outside the main square is taken out, the rest is left alone."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from engine_fields import (
    CENTRE, Listener, fit_source, make_engine, make_field, make_job, product, sources_at,
)

from ddfpipe.calibration.gains import GainTable, as_jones
from ddfpipe.config import Config
from ddfpipe.data import solutions
from ddfpipe.data.images import SkyGrid
from ddfpipe.data.model import PixelModel, load_model, save_model
from ddfpipe.data.viscache import open_cache
from ddfpipe.engines.base import ColumnsJob, SolveJob, VisSelection
from ddfpipe.engines.native.solving import Solve
from ddfpipe.engines.native.subtraction import subtractor
from ddfpipe.engines.native.reader import open_reader
from ddfpipe.engines.native.visibilities import Scratch, open_data
from ddfpipe.naming import WIDE_IMAGE, WIDE_OUTSIDE
from ddfpipe.pipeline.builder import Builder
from ddfpipe.pipeline.jobs import OutsideModelJob
from ddfpipe.pipeline.preliminaries import main_square, preliminaries
from ddfpipe.pipeline.settings import Settings
from ddfpipe.pipeline.verbs import outside_model
from ddfpipe.units import ARCSEC

CELL, NPIX = 30.0, 760
INSIDE = [(0.3, 0.2), (-0.6, 0.5), (0.75, -0.7)]
OUTSIDE = [(2.4, 0.5), (-1.5, -2.2), (0.4, 2.6)]
"""Degrees, at the centres of pixels of CELL."""
FLUXES = [2.0, 1.0, 1.5, 6.0, 4.0, 3.0]
SOURCES = sources_at(INSIDE + OUTSIDE, FLUXES, -0.7)
FREQS = np.array([120e6, 144e6, 170e6])


def model_of(sources) -> PixelModel:
    """Sources at their pixels."""
    grid = SkyGrid(*np.radians(CENTRE), NPIX, NPIX, CELL * ARCSEC)
    y, x = (np.rint(v).astype(int) for v in grid.pixel_of([s.ra for s in sources],
                                                        [s.dec for s in sources]))
    index = (y * NPIX + x).astype(np.int64)
    order = np.argsort(index)
    flux = np.array([[s.flux * (f / s.ref_freq) ** -0.7 for s in sources] for f in FREQS])
    return PixelModel(grid, FREQS, index[order], flux[:, order].astype(np.float32))


@pytest.fixture(scope="module")
def field(tmp_path_factory):
    """The whole field, the same without what lies outside, and an engine that knows the latter."""
    return _field(tmp_path_factory.mktemp("wide"), "none")


def _field(folder, beam) -> SimpleNamespace:
    changes = dict(
        beam=beam,
        observation={"n_ms": 1, "small_list": 1, "core_fields": 8, "remote_stations": 3},
    )
    whole = make_field(folder / "whole", SOURCES, **changes).ms[0]
    inner = make_field(folder / "inner", SOURCES[:3], **changes).ms[0]
    engine = make_engine(folder / "engine", beam_model=beam, threads=2)
    save_model(engine.workdir / "outside.model.npz", model_of(SOURCES[3:]))
    caches = [open_cache(ms, "DATA", engine.cache_dir) for ms in (whole, inner)]
    return SimpleNamespace(whole=whole, inner=inner, engine=engine, caches=caches)


def reader(field, **given):
    selection = VisSelection((field.whole,), "DATA", minus="outside", **given)
    take = subtractor(field.engine, "outside", True, Listener())
    return open_reader(field.caches[0], selection, field.engine.solsdir, take)


@pytest.mark.parametrize("beam", ["none", "array_factor"])
def test_what_is_read_is_the_field_without_its_surroundings(beam, field, tmp_path):
    field = field if beam == "none" else _field(tmp_path, beam)
    part = slice(2, 20)
    read = reader(field)
    whole, inner = (cache.vis[part] for cache in field.caches)
    left = read(part) - inner
    outside = np.abs((whole - inner)[..., 0]).mean()
    assert outside > 0.5
    assert np.abs(left[..., [0, 3]]).max() < 5e-3 * outside
    assert np.array_equal(read(part)[..., 1:3], whole[..., 1:3])
    assert np.abs(read.stokes_i(part) - left[..., 0] - inner[..., 0]).max() < 1e-5


def test_phases_come_before_it_and_jones_matrices_after(field):
    cache, solsdir = field.caches[0], field.engine.solsdir
    rng = np.random.default_rng(2)
    edges = dict(time_edges=[[cache.time[0] - 10, cache.time[-1] + 10]], freq_edges=[[1e8, 2e8]],
                 ant_names=cache.ant_names, directions=np.radians([CENTRE]))
    shape = (1, 1, cache.n_ant, 1)
    phases = np.exp(1j * rng.normal(size=(*shape, 2)))
    jones = 0.2 * np.exp(1j * rng.normal(size=(*shape, 4))) + np.array([1, 0, 0, 1])
    for name, gains in (("first", phases), ("second", jones)):
        table = GainTable(gains=gains.astype(np.complex64), **edges)
        solutions.save_solution(table, solsdir, field.whole, name)
    part = slice(0, 5)
    got = reader(field, pre_di="first", di="second")(part)
    taken = reader(field).minus.vis[part]
    first, second = (np.linalg.inv(as_jones(g)[0, 0, :, 0]) for g in (phases, jones))
    vis = cache.vis[part].reshape(*taken.shape, 2, 2)
    p, q = cache.ant1, cache.ant2

    def through(gain, v):
        return np.einsum("bij,tbcjk,blk->tbcil", gain[p], v, gain[q].conj())

    want = through(second, through(first, vis) - taken[..., None, None] * np.eye(2))
    assert np.abs(got.reshape(want.shape) - want).max() < 1e-5 * np.abs(want).max()
    lone = reader(field, pre_di="first")(part).reshape(want.shape)
    assert np.abs(lone - through(first, vis) + taken[..., None, None] * np.eye(2)).max() < 1e-4


def test_solves_images_and_columns_read_the_same(field, monkeypatch):
    """A DI solve of the whole field minus its surroundings sees what it sees of the inner field."""
    engine = field.engine
    save_model(engine.workdir / "inner.model.npz", model_of(SOURCES[:3]))
    selections = {"whole": VisSelection((field.whole,), "DATA", minus="outside"),
                  "inner": VisSelection((field.inner,), "DATA"),
                  "plain": VisSelection((field.whole,), "DATA")}
    gains = {}
    for name, vis in selections.items():
        job = SolveJob(name=f"D_{name}", vis=vis, kind="DI", model="inner", dt_min=60.0,
                       n_chan_sols=1, update_weights=False)
        # without noise the weights must not be measured from the data
        monkeypatch.setattr(Solve, "_absolute_weights",
                            lambda self, s: (lambda part: s.weight[part], np.ones(s.shape[1])))
        engine.solve(job, Listener())
        gains[name] = solutions.load_solution(engine.solsdir, vis.ms[0], job.name).gains
    wrong = np.abs(gains["whole"] - gains["inner"]).max()
    assert wrong < 0.02 * np.abs(gains["plain"] - gains["inner"]).max()
    with Scratch(engine.cache_dir / "scratch") as scratch:
        take = subtractor(engine, "outside", True, Listener())
        data = open_data(selections["whole"], cache_dir=engine.cache_dir, solsdir=engine.solsdir,
                         scratch=scratch, subtractor=take)
        assert np.abs(data.sets[0].vis - field.caches[1].stokes_i()).max() < 0.02
        with pytest.raises(AssertionError, match="nobody says how"):
            open_data(selections["whole"], cache_dir=engine.cache_dir, solsdir=engine.solsdir,
                      scratch=scratch)
    assert ColumnsJob((field.whole,), "DATA", ()).minus is None


def test_another_model_is_another_prediction(field):
    engine = field.engine
    first = reader(field).key()
    model = model_of(SOURCES[3:])
    save_model(engine.workdir / "outside.model.npz", model.select(np.array([True, False, True])))
    try:
        assert reader(field).key() != first
    finally:
        save_model(engine.workdir / "outside.model.npz", model)
    assert reader(field).key() == first
    stored = sorted((engine.cache_dir / "ddfpipe.stokes").glob("*"))
    engine.clear_cache((field.whole,))
    assert len(stored) > len(list((engine.cache_dir / "ddfpipe.stokes").glob("*")))


def test_only_what_lies_outside_the_square_is_kept(tmp_path):
    save_model(tmp_path / "a.model.npz", model_of(SOURCES))
    grid = model_of(SOURCES).grid
    corner = PixelModel(grid, FREQS, np.sort([
        (NPIX // 2 + y) * NPIX + NPIX // 2 + x for y in (-3, -2, 1, 2) for x in (-3, -2, 1, 2)
    ]).astype(np.int64), np.ones((3, 16), np.float32))
    save_model(tmp_path / "b.model.npz", corner)
    context = SimpleNamespace(workdir=tmp_path, relative=lambda paths: tuple(map(str, paths)))
    result = outside_model(context, OutsideModelJob("a", 240, "far"))
    far = load_model(tmp_path / "far.model.npz")
    assert far.size == 3 and far.flux.sum(axis=1) == pytest.approx(
        model_of(SOURCES[3:]).flux.sum(axis=1))
    assert result.figures["model_pixels"] == 3
    # four pixels a side are -2, -1, 0, 1
    outside_model(context, OutsideModelJob("b", 4, "edge"))
    assert load_model(tmp_path / "edge.model.npz").size == 12


def test_the_stages_take_the_surroundings_out(tmp_path):
    """The recipe's own stages, with cleaning: outside down by the factor asked for, inside kept."""
    simulation = make_field(tmp_path / "field", SOURCES, observation={
        "core_fields": 20, "remote_stations": 4, "blocks": 8, "slots": 3, "channels": 2,
    })
    engine = make_engine(tmp_path, threads=2)
    config = Config()
    image = dict(do_wide=True, wide_imsize=NPIX, wide_cell=CELL, wide_psf_arcsec=150.0,
                 imsize=2400, cellsize=3.0, uvmin=0.0)
    config = _changed(config, "image", **image)
    config = _changed(config, "data", colname="DATA", full_mslist="full.txt")
    assert main_square(config.image) == 228
    builder = Builder(Settings(config), tuple(simulation.ms), tuple(simulation.ms))
    small, full = preliminaries(builder)
    assert small.minus == full.minus == WIDE_OUTSIDE
    recipe = builder.recipe()
    assert recipe.names() == [
        WIDE_IMAGE, "wide_external_mask", f"{WIDE_IMAGE}_mask", f"{WIDE_IMAGE}_im", WIDE_OUTSIDE,
        f"{WIDE_IMAGE}_im_sub",
    ]
    assert {WIDE_OUTSIDE, f"{WIDE_IMAGE}_mask"} <= set(recipe.stages[-1].needs)
    context = SimpleNamespace(
        engine=engine, monitor=Listener(), workdir=tmp_path, config=config,
        relative=lambda paths: tuple(map(str, paths)),
    )
    for stage in recipe.stages:
        stage.run(context, stage.job)
    before, after = (product(tmp_path, f"{WIDE_IMAGE}_im{end}", "app_restored")
                     for end in ("", "_sub"))
    for source in SOURCES[:3]:
        now = fit_source(after, source.ra, source.dec).flux
        assert now == pytest.approx(source.flux, rel=0.05)
    far = np.abs(_near(after, SOURCES[3:])).max()
    assert far < 0.015 * _near(before, SOURCES[3:]).max()
    dirty = [np.abs(_near(product(tmp_path, make_dirty(engine, simulation, minus), "dirty"),
                          SOURCES[3:4])).max() for minus in (None, WIDE_OUTSIDE)]
    assert dirty[1] < 0.03 * dirty[0]


def make_dirty(engine, simulation, minus) -> str:
    """Dirty image of the wide field with or without its surroundings; its name."""
    job = make_job(f"dirty_{minus}", simulation, NPIX, CELL, major_cycles=0, uv_km=(0.0, 3.5))
    engine.image(replace(job, vis=replace(job.vis, minus=minus)), Listener())
    return job.name


def _near(image, sources) -> np.ndarray:
    """Pixels around the places of sources."""
    plane, out = image.plane(), []
    for s in sources:
        y, x = (int(np.rint(np.ravel(v)[0])) for v in image.grid.pixel_of(s.ra, s.dec))
        out.append(plane[y - 6:y + 7, x - 6:x + 7])
    return np.array(out)


def _changed(config, section, **values):
    return replace(config, **{section: replace(getattr(config, section), **values)})
