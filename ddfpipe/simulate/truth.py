"""The truth beside the measurement sets, and how to read it back.

`truth.skymodel` (makesourcedb text) holds the intrinsic sky, `truth.json` the specification,
`truth.npz` the rest; docs/simulator.md describes the arrays.
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ddfpipe.errors import DataError
from ddfpipe.simulate.realisation import Corruptions, Realisation
from ddfpipe.simulate.sky import Source, read_skymodel, write_skymodel
from ddfpipe.simulate.spec import SimulationSpec
from ddfpipe.units import TEC_PHASE


def write_truth(
    output: Path, spec: SimulationSpec, real: Realisation, stations: list[str],
    per_ms: list[tuple[str, np.ndarray, Corruptions]],
) -> Path:
    """Write the three files into `output`; returns the path of truth.npz."""
    lay = real.layout
    sources = real.sources
    arrays = {
        "source_name": np.array([s.name for s in sources]),
        "source_radec": np.array([[s.ra, s.dec] for s in sources]),
        "source_lmn": real.lmn,
        "source_flux": np.array([s.flux for s in sources]),
        "source_size": np.array([[s.major, s.minor, s.pa] for s in sources]),
        "station": np.array(stations),
        "station_noise": real.station_noise,
        "time": lay.times,
        "centre": np.array([lay.ra0, lay.dec0]),
        "ms": np.array([name for name, _, _ in per_ms]),
        "flux_scale": np.array([real.flux_scale(index) for index in range(len(per_ms))]),
    }
    if real.tec is not None:
        arrays["tec"] = real.tec
    for index, (_, freq, gains) in enumerate(per_ms):
        arrays[f"freq_{index}"] = freq
        arrays[f"jones_{index}"] = gains.jones.astype(np.complex64)
        if gains.beam is not None:
            arrays[f"beam_{index}"] = gains.beam
    path = output / "truth.npz"
    np.savez(path, **arrays)
    write_skymodel(sources, output / "truth.skymodel")
    (output / "truth.json").write_text(json.dumps(dataclasses.asdict(spec), indent=2) + "\n")
    return path


@dataclass(frozen=True)
class Truth:
    """What `write_truth` wrote.  `arrays` is the opened truth.npz (read lazily)."""

    arrays: np.lib.npyio.NpzFile
    sources: list[Source]
    spec: dict

    def index(self, ms: str) -> int:
        """Number of the measurement set called `ms`."""
        names = list(self.arrays["ms"])
        if ms not in names:
            raise DataError(f"truth: no measurement set {ms}; there are {', '.join(names)}")
        return names.index(ms)

    def direction_gains(self, index: int) -> np.ndarray:
        """Beam times ionosphere of set `index`: (time, ant, src, chan) or, with the full beam,
        (time, ant, src, chan, 2, 2), complex64."""
        a = self.arrays
        freq = a[f"freq_{index}"]
        shape = (len(a["time"]), len(a["station"]), len(self.sources), len(freq))
        gain = np.ones(shape, np.complex64)
        if "tec" in a:
            gain = np.exp(1j * a["tec"][..., None] * (TEC_PHASE / freq)).astype(np.complex64)
        if f"beam_{index}" in a:
            beam = a[f"beam_{index}"]
            gain = beam * gain.reshape(shape + (1,) * (beam.ndim - 4))
        return gain

    def station_jones(self, index: int) -> np.ndarray:
        """Direction-independent errors (time, ant, chan, 2, 2), complex64."""
        return self.arrays[f"jones_{index}"]


def read_truth(output: str | Path) -> Truth:
    """Read the truth in folder `output`; DataError when it is not there."""
    output = Path(output)
    path = output / "truth.npz"
    if not path.is_file():
        raise DataError(f"{path} does not exist: the folder holds no finished simulation")
    spec = json.loads((output / "truth.json").read_text())
    return Truth(np.load(path), read_skymodel(output / "truth.skymodel"), spec)
