"""Columns written on request, against the simulator's truth and plain numpy on the rows."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from casacore import tables
from engine_fields import (
    CENTRE, Listener, make_engine, make_field, sources_at, true_table, write_directions,
)

from ddfpipe.calibration.gains import GainTable
from ddfpipe.data import solutions
from ddfpipe.data.fingerprint import fingerprint
from ddfpipe.data.images import SkyGrid
from ddfpipe.data.model import PixelModel, save_model
from ddfpipe.engines.base import ColumnsJob, GainChoice
from ddfpipe.engines.native.solveweights import SolverWeights, save_weights
from ddfpipe.errors import DataError, SolveError
from ddfpipe.units import ARCSEC

NPIX, CELL = 800, 12.0
PIXELS = np.array([(30, 25), (210, 180), (-270, 150), (120, -300)])
"""East and north of the phase centre, in pixels, so that a pixel model can be exact."""
FLUXES = [1.0, 2.0, 0.5, 1.5]
ALL = ("DATA_DI_CORRECTED", "DD_PREDICT", "IMAGING_WEIGHT")
BROKEN = 2
"""Station without a correction in the second half of the observation."""


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """(MS, engine, job, truth of the DI gains, solver weights) after all columns were written."""
    folder = tmp_path_factory.mktemp("columns")
    sources = sources_at(PIXELS * CELL / 3600, FLUXES)
    simulation = make_field(
        folder, sources, ionosphere={"diffractive_km": 5.0, "npix": 256},
        observation={"core_fields": 6, "remote_stations": 2, "blocks": 4, "slots": 3},
    )
    engine = make_engine(folder, threads=2)
    _write_model(folder, sources)
    truths = {}
    for ms in simulation.ms:
        _flag(ms)
        table = true_table(folder, ms, sources, amplitude=True)
        solutions.save_solution(table, engine.solsdir, ms, "DDS")
        truths[ms] = _jones(table), _weights(table)
        solutions.save_solution(truths[ms][0], engine.solsdir, ms, "DIS")
        save_weights(engine.solsdir, ms.name, "DDS", truths[ms][1])
    job = ColumnsJob(
        tuple(simulation.ms), "DATA", ALL, di="DIS", model="image",
        gains=GainChoice(("DDS",), "AP"), clusters=write_directions(folder, sources),
        weights_from="DDS",
    )
    before = [fingerprint(ms) for ms in job.ms]
    rows = engine.export_columns(job, Listener())
    assert [fingerprint(ms) for ms in job.ms] == before
    return engine, job, truths, rows


def _write_model(folder, sources) -> None:
    grid = SkyGrid(*np.radians(CENTRE), NPIX, NPIX, CELL * ARCSEC)
    y, x = (np.rint(v).astype(int) for v in grid.pixel_of([s.ra for s in sources],
                                                        [s.dec for s in sources]))
    index = y * NPIX + x
    order = np.argsort(index)
    flux = np.array([s.flux for s in sources], np.float32)[order]
    save_model(folder / "image.model.npz",
               PixelModel(grid, np.array([130e6, 160e6]), index[order].astype(np.int64),
                          np.stack([flux, flux])))


def _flag(ms) -> None:
    with tables.table(str(ms), readonly=False, ack=False) as main:
        flag = main.getcol("FLAG")
        flag[5] = True
        flag[11, 1] = True
        main.putcol("FLAG", flag)


def _edges(table, n):
    """`n` intervals that cover the times of a table."""
    start, end = table.time_edges.min(), table.time_edges.max()
    cuts = np.linspace(start, end, n + 1)
    return np.stack([cuts[:-1], cuts[1:]], axis=1)


def _jones(like) -> GainTable:
    """Full Jones gains in two intervals and one range of frequencies, one of them flagged."""
    rng = np.random.default_rng(3)
    n_ant = len(like.ant_names)
    noise = rng.normal(size=(2, 2, 1, n_ant, 1, 4)) * 0.2
    gains = noise[0] + 1j * noise[1] + np.array([1, 0, 0, 1])
    flag = np.zeros(gains.shape, bool)
    flag[1, :, BROKEN] = True
    freq = np.array([[like.freq_edges.min(), like.freq_edges.max()]])
    return GainTable(_edges(like, 2), freq, gains.astype(np.complex64), like.ant_names,
                     np.radians([CENTRE]), flag=flag, ant_pos=None)


def _weights(like) -> SolverWeights:
    n_ant = len(like.ant_names)
    factor = np.random.default_rng(4).uniform(0.5, 2, (2, 1, n_ant * (n_ant - 1) // 2))
    freq = np.array([[like.freq_edges.min(), like.freq_edges.max()]])
    return SolverWeights(_edges(like, 2), freq, factor.astype(np.float32))


def _rows(ms, truth):
    """Columns of the cross correlations, the interval of each row, who has no correction."""
    with tables.table(str(ms), ack=False) as main:
        cross = main.getcol("ANTENNA1") != main.getcol("ANTENNA2")
        names = ("TIME", "ANTENNA1", "ANTENNA2", "DATA", "FLAG", "WEIGHT_SPECTRUM", *ALL)
        rows = {name: main.getcol(name)[cross] for name in names}
    half = (rows["TIME"] > truth[0].time_edges[1, 0]).astype(int)
    broken = (half == 1) & ((rows["ANTENNA1"] == BROKEN) | (rows["ANTENNA2"] == BROKEN))
    return rows, half, broken


def test_model_seen_through_gains_is_the_simulated_data(written):
    """Point sources on pixels with their true gains: the simulator's visibilities, to 1 part in
    a thousand of the total flux."""
    _, job, truths, rows = written
    for ms in job.ms:
        seen, *_ = _rows(ms, truths[ms])
        predicted, data = seen["DD_PREDICT"], seen["DATA"]
        assert np.abs(predicted[..., [0, 3]] - data[..., [0, 3]]).max() < 1e-3 * sum(FLUXES)
        assert np.abs(data[..., 0]).max() > 0.5 * sum(FLUXES)
        assert not predicted[..., [1, 2]].any()
    assert rows == len(ALL) * sum(len(_rows(ms, truths[ms])[0]["TIME"]) for ms in job.ms)


def test_data_are_corrected_by_the_inverse_of_the_jones_matrices(written):
    _, job, truths, _ = written
    for ms in job.ms:
        seen, half, broken = _rows(ms, truths[ms])
        jones = truths[ms][0].gains[:, 0, :, 0].reshape(2, -1, 2, 2).astype(complex)
        p, q = jones[half, seen["ANTENNA1"]], jones[half, seen["ANTENNA2"]]
        data = seen["DATA"].reshape(*seen["DATA"].shape[:2], 2, 2)
        expected = np.linalg.inv(p)[:, None] @ data @ np.linalg.inv(q.conj().mT)[:, None]
        expected = expected.reshape(seen["DATA"].shape)
        flagged = seen["FLAG"].any(-1)
        good = ~flagged & ~broken[:, None]
        got = seen["DATA_DI_CORRECTED"]
        assert flagged.any() and broken.any()
        np.testing.assert_allclose(got[good], expected[good], atol=1e-4)
        np.testing.assert_array_equal(got[flagged], seen["DATA"][flagged])
        assert np.isnan(got[~flagged & broken[:, None]]).all()


def test_weights_are_those_of_the_solver(written):
    _, job, truths, _ = written
    for ms in job.ms:
        seen, half, broken = _rows(ms, truths[ms])
        n_ant = len(truths[ms][0].ant_names)
        number = {pair: k for k, pair in enumerate(zip(*np.triu_indices(n_ant, 1)))}
        baseline = [number[pair] for pair in zip(seen["ANTENNA1"], seen["ANTENNA2"])]
        factor = truths[ms][1].factor[half, 0, baseline]
        expected = seen["WEIGHT_SPECTRUM"].mean(-1) * factor[:, None]
        expected[seen["FLAG"].any(-1) | broken[:, None]] = 0
        assert (expected == 0).any() and (expected > 0).any()
        np.testing.assert_allclose(seen["IMAGING_WEIGHT"], expected, rtol=1e-5)


def test_prediction_does_not_depend_on_threads(written, tmp_path):
    engine, job, truths, _ = written
    before = {ms: _rows(ms, truths[ms])[0]["DD_PREDICT"] for ms in job.ms}
    single = make_engine(engine.workdir, threads=1)
    single.cache_dir = tmp_path
    single.export_columns(replace(job, columns=("DD_PREDICT",)), Listener())
    for ms in job.ms:
        assert np.array_equal(_rows(ms, truths[ms])[0]["DD_PREDICT"], before[ms])
    assert not list(tmp_path.glob("ddfpipe.scratch*"))


@pytest.mark.parametrize("changes, error, words", [
    ({"columns": ("MODEL_DATA",)}, DataError, "MODEL_DATA cannot be written by the native"),
    ({"columns": ("SCALED_DATA",)}, SolveError, "SCALED_DATA needs factors of a flux scale"),
    ({"di": None}, SolveError, "DATA_DI_CORRECTED needs direction-independent"),
    ({"model": None}, SolveError, "DD_PREDICT needs a model"),
    ({"weights_from": None}, SolveError, "IMAGING_WEIGHT needs a solve"),
    ({"weights_from": "DDS9"}, SolveError, "no imaging weights"),
])
def test_jobs_that_cannot_be_done(written, changes, error, words):
    engine, job, *_ = written
    with pytest.raises(error, match=words):
        engine.export_columns(replace(job, **changes), Listener())


def test_archives_hold_what_the_columns_hold(written):
    """And are kept where nothing changed, put aside where gains did."""
    engine, job, truths, _ = written
    made = engine.archive(job, Listener())
    assert [one.path.name for one in made] == [f"{ms.name}.archive" for ms in job.ms]
    for ms, one in zip(job.ms, made):
        want, *_ = _rows(ms, truths[ms])
        with tables.table(str(one.path), ack=False) as main:
            cross = main.getcol("ANTENNA1") != main.getcol("ANTENNA2")
            got, weight = (main.getcol(name)[cross] for name in ("DATA", "IMAGING_WEIGHT"))
        corrected = want["DATA_DI_CORRECTED"]
        usable = np.isfinite(corrected) & ~want["FLAG"]
        assert np.array_equal(np.isfinite(got), usable) and not usable.all()
        error = np.abs(got - corrected)[usable]
        assert np.median(error) < 0.01 * np.median(np.abs(corrected[usable]))
        np.testing.assert_array_equal(weight, want["IMAGING_WEIGHT"])
    again = engine.archive(job, Listener())
    assert not any(one.made for one in again)
    plain = engine.archive(replace(job, di=None, weights_from=None), Listener())
    assert all(one.made and one.aside.name.endswith(".archive.1") for one in plain)
    with tables.table(str(plain[0].path), ack=False) as main:
        assert "IMAGING_WEIGHT" not in main.colnames()
