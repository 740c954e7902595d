"""The simulated field, and gains of its facets in the formats of all programs."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from .setting import CENTRE, Setting, centre, directions


def simulate_field(folder: Path, setting: Setting) -> Path:
    """The measurement set, simulated unless it is there."""
    from ddfpipe.imaging.sky import lm_to_radec
    from ddfpipe.simulate.run import simulate
    from ddfpipe.simulate.sky import Source, write_skymodel
    from ddfpipe.simulate.spec import SimulationSpec, update

    ms = folder / "L000007_SB000.ms"
    if (folder / "done").exists():
        return ms
    folder.mkdir(parents=True, exist_ok=True)
    rng, half = np.random.default_rng(7), np.radians(setting.degrees / 2)
    l, m = rng.uniform(-0.97 * half, 0.97 * half, (2, 30))
    step = 2 * half / setting.facets
    # at a corner of four facets, in the middle of an edge, near the image's corner, and outside it
    l = np.r_[l, 0.5 * step, -1.5 * step, half - 0.02 * step, 1.25 * half, -0.4 * half]
    m = np.r_[m, 0.5 * step, 0.02 * step, half - 0.02 * step, 0.3 * half, -1.3 * half]
    flux = np.r_[3.0 / np.arange(1, 31), 4.0, 2.0, 3.0, 5.0, 4.0]
    ra, dec = lm_to_radec(l, m, *centre())
    sources = [Source(f"s{k}", float(a), float(d), float(s), (-0.7,))
               for k, (a, d, s) in enumerate(zip(ra, dec, flux))]
    write_skymodel(sources, folder / "sky.skymodel")
    simulate(update(SimulationSpec(), {
        "companions": False, "subsamples": 2,
        "observation": {
            "ra_deg": CENTRE[0], "dec_deg": CENTRE[1], "hours": 1.0, "blocks": 1,
            "slots": setting.slots, "n_ms": 1, "channels": setting.channels, "first_mhz": 140.0,
            "last_mhz": 140.0, "core_fields": setting.core, "remote_stations": setting.remote,
            "name": "L000007", "small_list": 1,
        },
        "sky": {"model": str(folder / "sky.skymodel")}, "noise": {"sample_jy": setting.noise},
    }), folder, threads=2)
    np.savez(folder / "sky.npz", l=l, m=m)
    (folder / "done").touch()
    return ms


def write_directions(folder: Path, setting: Setting) -> None:
    """The middles of the facets as the catalogue of directions of our pass."""
    from ddfpipe.data.clusters import make_directions, write_clusters
    from ddfpipe.imaging.sky import lm_to_radec

    l, m = directions(setting)
    ra, dec = lm_to_radec(l, m, *centre())
    write_clusters(folder / "directions.npy", make_directions(ra, dec, np.ones(len(l))))


def write_gains(folder: Path, ms: Path, setting: Setting) -> None:
    """Directions, region file, and gains of every facet in the formats of all programs.

    Smooth phases of some tenths of a radian, no amplitudes: with those, programs divide by
    different norms.
    """
    from ddfpipe.calibration.gains import GainTable
    from ddfpipe.data import solutions
    from ddfpipe.data.h5parm import write_h5parm
    from ddfpipe.data.ms import read_metadata
    from ddfpipe.engines.native.modelsky import sky_facets
    from ddfpipe.engines.wsclean.facets import middle, polygons, write_regions
    from ddfpipe.imaging.sky import lm_to_radec

    info, (l, m) = read_metadata(ms), directions(setting)
    ra, dec = lm_to_radec(l, m, *centre())
    write_directions(folder, setting)
    rng = np.random.default_rng(3)
    times = np.unique(np.linspace(0, setting.slots, setting.slots // 4 + 1).astype(int))
    edge = np.asarray(info.times)[0] - 4.0 + 8.0 * times
    width = 97656.25 * setting.channels / 2
    freq = info.freqs[0] - 48828.125 + width * np.arange(3)
    shape = (len(edge) - 1, 2, len(info.ant_names), len(l), 1)
    slow = rng.uniform(0, 2 * np.pi, (1, 1, *shape[2:]))
    turn = np.arange(shape[0])[:, None, None, None, None] / 7.0
    phase = 0.3 * np.sin(slow + turn) * np.array([1.0, 0.98])[None, :, None, None, None]
    table = GainTable(
        np.stack([edge[:-1], edge[1:]], 1), np.stack([freq[:-1], freq[1:]], 1),
        np.exp(1j * phase).astype(np.complex64), info.ant_names, np.stack([ra, dec], 1),
    )
    solutions.save_solution(table, folder / "SOLSDIR", ms.name, "true")
    facets = sky_facets(setting.npix, np.radians(setting.cell / 3600), folder / "directions.npy",
                        centre())
    write_regions(folder / "facets.reg", facets, centre())
    middles = np.array([middle(p) for _, p in polygons(facets)])
    where = np.stack(lm_to_radec(middles[:, 0], middles[:, 1], *centre()), axis=1)
    order = [k for k, _ in polygons(facets)]
    write_h5parm(GainTable(
        table.time_edges, table.freq_edges, table.gains[:, :, :, order], table.ant_names, where,
        ant_pos=info.ant_pos,
    ), folder / "gains.h5")
