"""One solve job of ddfpipe: measurement set and list of sources in, gains out.

    python -m solvebench.ours JOB.json

reads the set, finds the noise, predicts every direction, solves, and saves the gains, interval by
interval as the native engine does.  CPU seconds of each part go into a JSON file beside them.
"""

from __future__ import annotations

import json
import sys
import time
from collections import defaultdict
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

import numpy as np

CLOCK: dict[str, float] = defaultdict(float)


@contextmanager
def timed(part: str):
    """Add the CPU time of what happens inside to CLOCK[part]."""
    before = time.process_time()
    yield
    CLOCK[part] += time.process_time() - before


def read_rows(main, first: int, count: int, n_bl: int, hands: bool):
    """(uvw (time, bl, 3), data, weight) of `count` times; hands: XX and YY apart, else Stokes I."""
    rows = {"startrow": first * n_bl, "nrow": count * n_bl}
    data = main.getcol("DATA", **rows)[..., [0, 3]]
    flag = main.getcol("FLAG", **rows)[..., [0, 3]]
    weight = np.where(flag, 0, main.getcol("WEIGHT_SPECTRUM", **rows)[..., [0, 3]])
    uvw = main.getcol("UVW", **rows).reshape(count, n_bl, 3)
    if not hands:  # two hands of equal weight: half the variance
        weight = 2 * np.where((weight > 0).all(axis=-1), weight.mean(axis=-1), 0)
        data = 0.5 * (data[..., 0] + data[..., 1])
    shape = (count, n_bl, *data.shape[1:])
    return uvw, data.reshape(shape), weight.astype(np.float32).reshape(shape)


def noise_scale(data, weight, ant1, ant2, n_ant: int) -> np.ndarray:
    """Factor (bl, 1 or (1, hand)) from relative weights to inverse variances."""
    from ddfpipe.calibration.noise_scale import estimate_sigma

    if data.ndim == 3:
        return estimate_sigma(data, weight, ant1, ant2, n_ant)[0][:, None] ** -2.0
    each = [estimate_sigma(data[..., h], weight[..., h], ant1, ant2, n_ant)[0] for h in (0, 1)]
    return np.stack(each, axis=-1)[:, None, :] ** -2.0


def predict(sky: dict, uvw, freq, out) -> None:
    """Visibilities (dir, time, bl, chan) of the known sources of every direction."""
    from ddfpipe.imaging.components import predict_components

    out[:] = 0
    for d in range(len(out)):
        mine = sky["owner"] == d
        predict_components(l=sky["l"][mine], m=sky["m"][mine], flux=sky["flux"][mine], uvw=uvw,
                           freq=freq, out=out[d])


def known_prior(job: dict):
    """Hyper-parameters that an earlier run found, or None."""
    from ddfpipe.calibration.priors import Hyperparameters

    return Hyperparameters(**job["hyper"]) if job.get("hyper") else None


def make_solver(job: dict, places, sky: dict, freq, pairs):
    """DirectionalSolver of one block, with the options that the native engine sets."""
    from ddfpipe.calibration.options import SolverOptions
    from ddfpipe.calibration.solver import DirectionalSolver

    options = SolverOptions(hyper=known_prior(job), **job["options"])
    width = job["channel_hz"]
    return DirectionalSolver(
        ant1=pairs[0], ant2=pairs[1], n_ant=len(places), ant_pos=places,
        directions=sky["patches"], freq_edges=[[freq[0] - width / 2, freq[-1] + width / 2]],
        options=options,
    )


def load_kernels(job: dict) -> None:
    """Bring the compiled code into memory with a problem of five stations."""
    rng = np.random.default_rng(0)
    ant1, ant2 = np.triu_indices(5, 1)
    uvw = np.ascontiguousarray(rng.normal(size=(2, 10, 3)) * 1e3)
    freq = 150e6 + 1e5 * np.arange(4)
    sky = {"owner": np.arange(2), "l": np.array([0.0, 0.01]), "m": np.array([0.01, 0.0]),
           "flux": np.ones(2), "patches": np.array([[0.0, 0.01], [0.01, 0.0]])}
    options = {**job["options"], "tune_intervals": 0}
    solver = make_solver({**job, "options": options, "hyper": None}, rng.normal(size=(5, 3)), sky,
                         freq, (ant1, ant2))
    model = np.empty((2, 2, 10, 4), np.complex64)
    predict(sky, uvw, freq, model)
    data = model.sum(axis=0) + rng.normal(size=model.shape[1:]).astype(np.float32)
    if job["options"].get("mode") == "Diag":
        data = np.stack([data, data], axis=-1)
    weight = np.ones(data.shape, np.float32)
    noise_scale(data, weight, ant1, ant2, 5)
    for k in range(2):
        solver.add_interval(time_edge=(k, k + 1), model=model, data=data, weight=weight,
                            chan_block=np.zeros(4, int))
    solver.finish()


def solve(job: dict) -> dict:
    """Do the job; returns gains and figures."""
    with timed("start"):
        from casacore.tables import table

        load_kernels(job)
    with timed("read"):
        sky = dict(np.load(job["sky"]))
        places = table(f"{job['ms']}/ANTENNA", ack=False).getcol("POSITION")
        freq = table(f"{job['ms']}/SPECTRAL_WINDOW", ack=False).getcol("CHAN_FREQ")[0]
        main = table(job["ms"], ack=False)
        stamps = main.getcol("TIME")
        n_bl = int(np.count_nonzero(stamps == stamps[0]))
        pairs = [main.getcol(f"ANTENNA{k}", nrow=n_bl) for k in (1, 2)]
        times = stamps[::n_bl]
    hands = job["options"].get("mode") == "Diag"
    with timed("solve"):
        solver = make_solver(job, places, sky, freq, pairs)
    n_dir, step, scale = len(sky["patches"]), job["slots"], None
    model = np.empty((n_dir, step, n_bl, len(freq)), np.complex64)
    for first in range(0, len(times), step):
        count = min(step, len(times) - first)
        with timed("read"):
            uvw, data, weight = read_rows(main, first, count, n_bl, hands)
        with timed("noise"):
            if scale is None:
                scale = noise_scale(data, weight, *pairs, len(places)).astype(np.float32)
            weight = weight * scale
        with timed("predict"):
            predict(sky, uvw, freq, model[:, :count])
        with timed("solve"):
            edge = times[[first, first + count - 1]] + np.array([-0.5, 0.5]) * job["interval"]
            solver.add_interval(time_edge=edge, model=model[:, :count], data=data, weight=weight,
                                chan_block=np.zeros(len(freq), int))
    with timed("solve"):
        gains, error, _, facts = solver.finish()
    with timed("write"):
        save(job, gains, error, facts, freq, sky, places)
    return facts


def save(job, gains, error, facts, freq, sky, places) -> None:
    """Gains as an h5parm, as the engine saves them."""
    from ddfpipe.calibration.gains import GainTable
    from ddfpipe.data.solutions import save_table

    width = job["channel_hz"]
    table = GainTable(
        facts["time_edges"], [[freq[0] - width / 2, freq[-1] + width / 2]],
        gains.astype(np.complex64), [f"ANT{p}" for p in range(len(places))], sky["patches"],
        error=error.astype(np.float32), ant_pos=places,
    )
    save_table(table, job["out"])


def main(path: str) -> None:
    job = json.loads(Path(path).read_text())
    facts = solve(job)
    record = {
        "cpu": dict(CLOCK), "all": time.process_time(),
        "hyper": asdict(facts["hyperparameters"]),
        "chi2": float(facts["chi2"].sum() / facts["count"].sum()),
        "sweeps": float(np.mean(facts["sweeps"])), "restarted": int(np.sum(facts["restarted"])),
    }
    Path(job["out"]).with_suffix(".json").write_text(json.dumps(record))


if __name__ == "__main__":
    main(sys.argv[1])
