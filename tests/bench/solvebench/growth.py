"""How the cost of ddfpipe's solve grows: three sizes each, fitted exponents."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from ddfpipe.calibration.options import SolverOptions
from ddfpipe.calibration.priors import Hyperparameters
from ddfpipe.calibration.solver import DirectionalSolver

from .field import Case, Field, make_field
from .ours import predict

NAME = "growth"

PRIOR = Hyperparameters(0.04, 1.0, 300.0, 1.0, 0.4)

BASE = Case(n_dir=15, slots=16, channels=20, noise=3.0, ionosphere_km=20.0, wind=10.0)

SERIES = {
    "visibilities": ("channels", (10, 20, 40)),
    "directions": ("n_dir", (11, 22, 45)),
    "stations": ("core", (16, 32, 48)),
}


def arrays(field: Field):
    """(sky as ours.predict wants it, Stokes I (time, bl, chan), weights)."""
    known = ~field.sky.missing
    sky = {name: getattr(field.sky, name)[known] for name in ("l", "m", "flux", "owner")}
    data = field.data.mean(axis=2).astype(np.complex64)
    weight = np.full(data.shape, 1 / field.case.noise**2, np.float32)
    return sky, data, weight


def once(field: Field, slots: int = 8) -> dict[str, float]:
    """CPU s an interval of prediction and of solving (statistics included), prior given."""
    sky, data, weight = arrays(field)
    lay = field.layout
    solver = DirectionalSolver(
        ant1=lay.ant1, ant2=lay.ant2, n_ant=lay.n_ant, ant_pos=lay.positions,
        directions=field.patches, freq_edges=[[field.freq[0], field.freq[-1]]],
        options=SolverOptions(hyper=PRIOR, amplitude_mean="flat"),
    )
    cost = {"predict": 0.0, "solve": 0.0}
    model = np.empty((field.case.n_dir, slots, *data.shape[1:]), np.complex64)
    firsts = range(0, len(lay.times), slots)
    for first in firsts:
        part = slice(first, first + slots)
        before = time.process_time()
        predict(sky, np.ascontiguousarray(lay.uvw[part]), field.freq, model)
        middle = time.process_time()
        solver.add_interval(time_edge=(first * 8.0, (first + slots) * 8.0), model=model,
                            data=data[part], weight=weight[part],
                            chan_block=np.zeros(len(field.freq), int))
        cost["predict"] += middle - before
        cost["solve"] += time.process_time() - middle
    return {name: value / len(firsts) for name, value in cost.items()}


def least(run: Callable[[], dict[str, float]], repeats: int = 3) -> dict[str, float]:
    """Smallest cost of some runs, each part by itself."""
    runs = [run() for _ in range(repeats)]
    return {name: min(r[name] for r in runs) for name in runs[0]}


def exponent(sizes, costs) -> float:
    """Slope of log cost against log size."""
    return float(np.polyfit(np.log(sizes), np.log(costs), 1)[0])


def series(name: str) -> dict:
    """One series: sizes, costs, exponents."""
    key, values = SERIES[name]
    sizes, costs = [], []
    for value in values:
        # patches of one brightness scale: else the fitted exponent would be that of the sky
        field = make_field(Case(**{**BASE.__dict__, key: value}))
        sizes.append(value + (BASE.remote if key == "core" else 0))
        costs.append(least(lambda field=field: once(field)))
    parts = {part: [c[part] for c in costs] for part in costs[0]}
    return {"what": name, "sizes": sizes, "cost": parts,
            "exponent": {part: exponent(sizes, each) for part, each in parts.items()}}


def threads(solves: int = 24) -> dict:
    """Wall and CPU s of so many solves on 1 and 2 threads, the least of three runs in turn."""
    field = make_field(BASE)
    once(field)
    out = {"what": "threads", "sizes": [1, 2], "wall": [np.inf] * 2, "cpu": [np.inf] * 2}
    for _ in range(3):
        for k, count in enumerate(out["sizes"]):
            wall, cpu = time.perf_counter(), time.process_time()
            with ThreadPoolExecutor(count) as pool:
                list(pool.map(lambda _: once(field), range(solves)))
            out["wall"][k] = min(out["wall"][k], time.perf_counter() - wall)
            out["cpu"][k] = min(out["cpu"][k], time.process_time() - cpu)
    return out


def full_size() -> dict:
    """An interval of 62 stations, 45 directions, 8 times, 20 channels, some 1000 components."""
    field = make_field(Case(n_dir=45, sources=22, slots=16, noise=3.0, missing=0.15,
                            ionosphere_km=20.0, wind=10.0))
    cost = least(lambda: once(field))
    return {"what": "62 x 45, 8 x 20 samples, 990 components", "cost": cost,
            "cpu": sum(cost.values())}


def measure() -> list[dict]:
    """All series, the threads and the full-size interval."""
    return [*(series(name) for name in SERIES), threads(), full_size()]
