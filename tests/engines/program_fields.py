"""What the tests of programs of others share: three sources, and gains and a model of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from engine_fields import make_field, sources_at

from ddfpipe.calibration.gains import GainTable
from ddfpipe.data import solutions
from ddfpipe.data.images import SkyGrid
from ddfpipe.data.model import PixelModel, save_model
from ddfpipe.data.viscache import open_cache
from ddfpipe.units import ARCSEC

NPIX, CELL = 320, 24.0
OFFSETS = [(0.02, 0.02), (0.7, 0.6), (-0.8, -0.5)]
FLUXES = [1.0, 3.0, 2.0]


def three_sources(folder: Path, **changes):
    """Three sources seen by core stations without errors: (Simulation, sources)."""
    sources = sources_at(OFFSETS, FLUXES)
    made = make_field(folder, sources, smearing=False, observation=dict(
        core_fields=24, remote_stations=0, blocks=8, slots=3, n_ms=2, channels=2), **changes)
    return made, sources


def give_gains(engine, field, name: str, reach=2.0, size=(1.0, 0.6, 1.5)) -> None:
    """Solutions with station phases and amplitudes that differ between the directions."""
    simulation, sources = field
    for ms in simulation.ms:
        cache = open_cache(ms, "DATA", engine.native.cache_dir)
        phase = np.outer(np.linspace(-reach, reach, cache.n_ant), [0, 1, -1])
        gains = (np.array(size) * np.exp(1j * phase))[None, None, :, :, None]
        edges = np.array([[cache.time[0] - 5, cache.time[-1] + 5]])
        freq = np.array([[cache.freq[0] - 1e5, cache.freq[-1] + 1e5]])
        table = GainTable(edges, freq, gains, cache.ant_names,
                          np.array([[s.ra, s.dec] for s in sources]), ant_pos=cache.ant_pos)
        solutions.save_solution(table, engine.native.solsdir, ms, name)


def true_model(engine, field, name: str = "truth", whole_pixels: bool = False) -> str:
    """The model of the sources, at their places or at the pixels nearest to them; its name."""
    simulation, sources = field
    cache = open_cache(simulation.ms[0], "DATA", engine.native.cache_dir)
    grid = SkyGrid(*cache.phase_centre, NPIX, NPIX, CELL * ARCSEC)
    y, x = (np.ravel(v) for v in grid.pixel_of([s.ra for s in sources], [s.dec for s in sources]))
    if whole_pixels:
        y, x = np.rint(y), np.rint(x)
    model = PixelModel.from_points(grid, [144e6], y, x, [FLUXES])
    save_model(engine.native.workdir / f"{name}.model.npz", model)
    return name
