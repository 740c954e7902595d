"""Intervals of a whole solve are shortened for every set alike, and resumed solves keep them."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from ddfpipe.data.solutions import load_solution
from ddfpipe.engines.base import SolveJob, VisSelection

from engine_fields import (
    Listener, make_engine, make_field, make_job, sources_at, write_directions,
)

ASKED = 32.0
"""Length asked for, s; samples are of 8 s."""


def solve(folder: Path, diffractive_km: float, shorten: bool = True, sets: int = 2):
    """(result, messages, sets, engine) of a solve on a bright and a faint source."""
    sources = sources_at([(0.1, 0.1), (-0.15, -0.1)], [20.0, 2.0])
    field = make_field(
        folder / "field", sources, observation={"blocks": 3, "slots": 16, "interval_s": 8.0},
        ionosphere={"diffractive_km": diffractive_km, "wind_m_s": 300.0}, noise={"sample_jy": 0.5},
    )
    engine = make_engine(folder / "run")
    write_directions(engine.workdir, sources)
    like = make_job("like", field, 200, 12.0)
    engine.start_model(folder / "field/given.skymodel", like, "model", Listener())
    listener, job = Listener(), SolveJob(
        "gains", VisSelection(tuple(field.ms[:sets]), "DATA"), "DD", "model",
        clusters=Path("directions.npy"), dt_min=ASKED / 60, n_chan_sols=1, shorten=shorten,
    )
    return engine.solve(job, listener), listener.messages, job, engine


def lengths(engine, job):
    """Lengths of the intervals (s) of every set's table."""
    tables = [load_solution(engine.solsdir, ms.name, job.name) for ms in job.vis.ms]
    return [np.diff(table.time_edges, axis=1)[:, 0] for table in tables]


def test_intervals_are_shortened_for_all_sets(tmp_path):
    result, messages, job, engine = solve(tmp_path, 5.0)
    assert result.details["interval_s"] == 8.0
    assert [m for m in messages if "turn within 32 s, so intervals of 8 s" in m]
    first, second = lengths(engine, job)
    assert len(first) == len(second) == 3 * 16
    np.testing.assert_allclose(first, 8.0, atol=0.1)
    # Taken up again after the first set, the second one has the same length.
    last = job.vis.ms[0] if "SB000" in messages[-1] else job.vis.ms[1]
    before = load_solution(engine.solsdir, last.name, job.name).gains
    shutil.rmtree(engine.solsdir / last.name)
    again = engine.solve(job, Listener())
    assert again.details == result.details
    np.testing.assert_array_equal(load_solution(engine.solsdir, last.name, job.name).gains, before)


@pytest.mark.parametrize("diffractive_km, shorten", [(0.0, True), (5.0, False)])
def test_intervals_stay_where_nothing_turns_or_nobody_asks(tmp_path, diffractive_km, shorten):
    result, messages, job, engine = solve(tmp_path, diffractive_km, shorten, sets=1)
    assert result.details["interval_s"] == ASKED
    assert not [m for m in messages if "turn within" in m]
    np.testing.assert_allclose(lengths(engine, job)[0], ASKED, atol=0.1)
