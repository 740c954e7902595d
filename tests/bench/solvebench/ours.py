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


class Reader:
    """The rows of a measurement set, `most` times at a time, into buffers that are used again.

    hands: XX and YY apart, else Stokes I.
    """

    def __init__(self, path: str, most: int, hands: bool) -> None:
        from casacore.tables import table

        self.hands = hands
        self.places = table(f"{path}/ANTENNA", ack=False).getcol("POSITION")
        self.freq = table(f"{path}/SPECTRAL_WINDOW", ack=False).getcol("CHAN_FREQ")[0]
        self.main = table(path, ack=False)
        n_ant = len(self.places)
        stamps = self.main.getcol("TIME", nrow=n_ant * (n_ant + 1) // 2)
        self.n_bl = int(np.count_nonzero(stamps == stamps[0]))
        self.times = self.main.getcol("TIME", rowincr=self.n_bl)
        self.pairs = [self.main.getcol(f"ANTENNA{k}", nrow=self.n_bl) for k in (1, 2)]
        shape = (most * self.n_bl, len(self.freq), 4)
        self.buffers = {"DATA": np.empty(shape, np.complex64), "FLAG": np.empty(shape, bool),
                        "WEIGHT_SPECTRUM": np.empty(shape, np.float32)}

    def __call__(self, first: int, count: int):
        """(uvw (time, bl, 3), data, weight) of `count` times."""
        rows = {"startrow": first * self.n_bl, "nrow": count * self.n_bl}
        for name, buffer in self.buffers.items():
            self.main.getcolnp(name, buffer[:count * self.n_bl], **rows)
        uvw = self.main.getcol("UVW", **rows).reshape(count, self.n_bl, 3)
        data, flag, weight = (self.buffers[name][:count * self.n_bl]
                              for name in ("DATA", "FLAG", "WEIGHT_SPECTRUM"))
        first_hand, last_hand = (np.where(flag[..., k], 0, weight[..., k]) for k in (0, 3))
        if self.hands:
            data, weight = data[..., [0, 3]], np.stack([first_hand, last_hand], axis=-1)
        else:  # two hands of equal weight: half the variance
            good = (first_hand > 0) & (last_hand > 0)
            weight = np.where(good, first_hand + last_hand, 0)
            data = np.float32(0.5) * (data[..., 0] + data[..., 3])
        shape = (count, self.n_bl, *data.shape[1:])
        return uvw, data.reshape(shape), weight.astype(np.float32, copy=False).reshape(shape)


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

    for d in range(len(out)):
        mine = sky["owner"] == d
        predict_components(l=sky["l"][mine], m=sky["m"][mine], flux=sky["flux"][mine], uvw=uvw,
                           freq=freq, out=out[d], add=False)


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
    data = model.sum(axis=0) + 0.1 * rng.normal(size=model.shape[1:]).astype(np.float32)
    if job["options"].get("mode") == "Diag":
        data = np.stack([data, data], axis=-1)
    weight = np.ones(data.shape, np.float32)
    noise_scale(data, weight, ant1, ant2, 5)
    for k in range(2):
        solver.add_interval(time_edge=(k, k + 1), model=model, data=data, weight=weight,
                            chan_block=np.zeros(4, int))
        # a rise of χ² asks for a new start
        data = data + 3 * rng.normal(size=data.shape).astype(np.float32)
    solver.finish()


def solve(job: dict) -> dict:
    """Do the job; returns gains and figures."""
    with timed("start"):
        import casacore.tables  # noqa: F401

        import ddfpipe.data.h5parm
        import ddfpipe.data.solutions  # noqa: F401

        load_kernels(job)
    with timed("read"):
        sky = dict(np.load(job["sky"]))
        hands = job["options"].get("mode") == "Diag"
        read = Reader(job["ms"], job["slots"], hands)
    with timed("solve"):
        solver = make_solver(job, read.places, sky, read.freq, read.pairs)
    n_dir, step, scale = len(sky["patches"]), job["slots"], None
    times, freq = read.times, read.freq
    model = np.empty((n_dir, step, read.n_bl, len(freq)), np.complex64)
    for first in range(0, len(times), step):
        count = min(step, len(times) - first)
        with timed("read"):
            uvw, data, weight = read(first, count)
        with timed("noise"):
            if scale is None:
                scale = noise_scale(data, weight, *read.pairs, len(read.places)).astype(np.float32)
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
        save(job, gains, error, facts, freq, sky, read.places)
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
