"""Measurement sets that are not as even as simulations: gaps, flags, several sets, corrections."""

from __future__ import annotations

import numpy as np
import pytest
from engine_fields import (
    CENTRE, Listener, fit_source, make_engine, make_field, make_job, product, sources_at,
    write_mask,
)

from ddfpipe.calibration.gains import GainTable
from ddfpipe.data import solutions
from ddfpipe.data.viscache import open_cache
from ddfpipe.engines.base import VisSelection
from ddfpipe.engines.native.visibilities import Scratch, open_data
from ddfpipe.errors import DataError
from ddfpipe.simulate.truth import read_truth
from ddfpipe.units import SPEED_OF_LIGHT

NPIX, CELL = 480, 24.0
OFFSETS, FLUXES = [(0.2, 0.3), (-0.8, 0.6), (0.5, -0.9)], [1.0, 2.0, 1.5]


def edit(path, changes) -> None:
    """Apply `changes` (function of the opened, writable main table)."""
    from casacore.tables import table

    main = table(str(path), readonly=False, ack=False)
    changes(main)
    main.close()


def without_rows(path, target):
    """A copy of a set that lacks every seventh row; its path."""
    from casacore.tables import table

    main = table(str(path), ack=False)
    keep = [row for row in range(main.nrows()) if row % 7 != 5]
    copy = main.selectrows(keep).copy(str(target), deep=True)
    copy.close()
    main.close()
    return target


@pytest.fixture(scope="module")
def uneven(tmp_path_factory):
    """Three sets: one whole; one with other times and a dead station; one with rows missing.

    Everything flagged holds NaN or enormous numbers.
    """
    sources = sources_at(OFFSETS, FLUXES)
    folder = tmp_path_factory.mktemp("uneven")
    base = dict(core_fields=20, remote_stations=6, n_ms=1, channels=2)
    parts = [
        dict(first_mhz=122.0, blocks=12, slots=3, name="L1"),
        dict(first_mhz=144.0, blocks=9, slots=4, hours=5.0, name="L2"),
        dict(first_mhz=160.0, blocks=10, slots=3, name="L3"),
    ]
    paths = [
        make_field(folder / f"part{i}", sources, observation={**base, **p}).ms[0]
        for i, p in enumerate(parts)
    ]

    def kill_station(main):
        dead = (main.getcol("ANTENNA1") == 3) | (main.getcol("ANTENNA2") == 3)
        flag, data = main.getcol("FLAG"), main.getcol("DATA")
        flag[dead], data[dead] = True, np.nan
        flag[::11], data[::11] = True, 1e20
        main.putcol("FLAG", flag)
        main.putcol("DATA", data)

    edit(paths[1], kill_station)
    paths[2] = without_rows(paths[2], folder / "L3_gaps.ms")
    return paths, sources


def test_uneven_sets_give_true_fluxes(uneven, tmp_path):
    paths, sources = uneven
    mask = write_mask(tmp_path, "discs.fits", NPIX, CELL, sources)
    job = make_job(
        "image", paths, NPIX, CELL, robust=-0.5, uv_km=(0.1, 4.0), auto_mask_sigma=None,
        rms_factor=0.0, peak_factor=0.05, external_mask=mask, n_bands=3,
    )
    result = make_engine(tmp_path).image(job, Listener())
    picture = product(tmp_path, "image", "int_restored")
    assert np.isfinite(picture.plane()).all()
    for s in sources:
        fit = fit_source(picture, s.ra, s.dec)
        assert abs(fit.flux / s.flux - 1) < 0.005
        assert fit.offset_beams < 0.005
    assert result.noise < 2e-3


def test_order_of_sets_does_not_matter(uneven, tmp_path):
    paths, _ = uneven
    images = []
    for name, order in (("one", [0, 1, 2]), ("two", [2, 0, 1])):
        job = make_job(name, [paths[i] for i in order], NPIX, CELL, major_cycles=0, n_bands=3)
        make_engine(tmp_path).image(job, Listener())
        images.append(product(tmp_path, name, "dirty").plane())
    np.testing.assert_allclose(images[0], images[1], atol=1e-5)


def test_columns_of_one_set_are_kept_apart(tmp_path):
    """Two columns of the same set through one cache directory: each its own visibilities."""
    sources = sources_at(OFFSETS[:1], FLUXES[:1])
    simulation = make_field(
        tmp_path / "ms", sources, companions=True,
        ionosphere={"diffractive_km": 2.0, "npix": 256},
    )
    engine = make_engine(tmp_path / "work")
    peaks = {}
    for column in ("CLEAN_DATA", "DATA", "NOISE_DATA"):
        job = make_job(column, simulation, 240, 24.0, major_cycles=0, column=column)
        engine.image(job, Listener())
        peaks[column] = product(tmp_path / "work", column, "dirty").plane().max()
    assert peaks["CLEAN_DATA"] > 0.97
    assert peaks["DATA"] < 0.97 * peaks["CLEAN_DATA"]
    assert peaks["NOISE_DATA"] == 0


@pytest.fixture(scope="module")
def station_errors(tmp_path_factory):
    """A field with full-Jones station errors: (Simulation, sources, folder)."""
    sources = sources_at(OFFSETS, FLUXES)
    folder = tmp_path_factory.mktemp("errors")
    errors = dict(amplitude_rms=0.2, phase_rms_rad=1.0, clock_rms_ns=2.0, leakage_rms=0.05)
    return make_field(folder, sources, errors=errors), sources, folder


def true_jones(folder, simulation, number) -> GainTable:
    """The simulator's station errors, one interval a slot and channel."""
    truth = read_truth(folder)
    jones = np.swapaxes(truth.station_jones(number), 1, 2)
    time, freq = truth.arrays["time"], truth.arrays[f"freq_{number}"]
    return GainTable(
        np.stack([time - 4, time + 4], axis=1), np.stack([freq - 48e3, freq + 48e3], axis=1),
        jones.reshape(*jones.shape[:3], 1, 4).astype(np.complex64),
        [str(n) for n in truth.arrays["station"]], np.radians([CENTRE]),
    )


def open_corrected(simulation, folder, scratch, di="jones"):
    return open_data(
        VisSelection(simulation.ms, "DATA", di=di), cache_dir=folder / "cache",
        solsdir=folder / "SOLSDIR", scratch=scratch,
    )


def test_jones_corrections_restore_the_sky(station_errors, tmp_path):
    """Corrected Stokes I equals a Fourier sum of the sources to float32."""
    simulation, sources, folder = station_errors
    for number, ms in enumerate(simulation.ms):
        table = true_jones(folder, simulation, number)
        solutions.save_solution(table, tmp_path / "SOLSDIR", ms, "jones")
    with Scratch(tmp_path / "scratch") as scratch:
        data = open_corrected(simulation, tmp_path, scratch)
        raw = open_corrected(simulation, tmp_path, Scratch(tmp_path / "scratch2"), di=None)
        for s, before in zip(data.sets, raw.sets):
            truth = np.abs(s.vis).max()
            assert truth < 1.01 * sum(FLUXES)
            cache = s.cache
            lm = np.array([[np.radians(o[0]), np.radians(o[1])] for o in OFFSETS])
            n1 = np.sqrt(1 - (lm**2).sum(axis=1)) - 1
            sky = 0
            for (l, m), n, flux in zip(lm, n1, FLUXES):  # noqa: E741
                turns = (cache.uvw @ np.array([l, m, n]))[..., None] * cache.freq / SPEED_OF_LIGHT
                sky = sky + flux * np.exp(2j * np.pi * turns)
            # smearing at 1 degree is below 1 % on the short half of the baselines
            length = np.hypot(cache.uvw[..., 0], cache.uvw[..., 1])
            short = length < 2000
            assert np.abs(s.vis - sky)[short].max() < 0.02 * sum(FLUXES)
            assert np.abs(before.vis - sky)[short].max() > 0.3 * sum(FLUXES)


def test_samples_without_correction_lose_their_weight(station_errors, tmp_path):
    """A flagged correction must not leave zero visibilities with full weight."""
    simulation, _, folder = station_errors
    for number, ms in enumerate(simulation.ms):
        table = true_jones(folder, simulation, number)
        table.flag[: len(table.flag) // 2, :, 5] = True
        solutions.save_solution(table, tmp_path / "SOLSDIR", ms, "jones")
    with Scratch(tmp_path / "scratch") as scratch:
        for s in open_corrected(simulation, tmp_path, scratch).sets:
            of_five = (s.cache.ant1 == 5) | (s.cache.ant2 == 5)
            half = s.shape[0] // 2
            assert not s.weight[:half][:, of_five].any()
            assert s.weight[half:][:, of_five].all() and s.weight[:, ~of_five].all()
            assert np.abs(s.vis[:half][:, of_five]).max() == 0


def test_scalar_corrections_serve_too(station_errors, tmp_path):
    """A DI table of one correlation: the same number on both hands."""
    simulation = station_errors[0]
    for number, ms in enumerate(simulation.ms):
        full = true_jones(station_errors[2], simulation, number)
        gains = np.full((*full.gains.shape[:4], 1), 2.0, np.complex64)
        table = GainTable(
            full.time_edges, full.freq_edges, gains, full.ant_names, full.directions
        )
        solutions.save_solution(table, tmp_path / "SOLSDIR", ms, "jones")
    with Scratch(tmp_path / "scratch") as scratch:
        data = open_corrected(simulation, tmp_path, scratch)
        for s, ms in zip(data.sets, simulation.ms):
            raw = open_cache(ms, "DATA", tmp_path / "cache").stokes_i()
            np.testing.assert_allclose(s.vis, raw / 4, rtol=1e-5, atol=1e-6)


def test_empty_uv_range_is_told(station_errors, tmp_path):
    with Scratch(tmp_path / "scratch") as scratch, pytest.raises(DataError, match="uvmin"):
        open_data(
            VisSelection(station_errors[0].ms, "DATA", uv_km=(900.0, 1000.0)),
            cache_dir=tmp_path / "cache", solsdir=tmp_path, scratch=scratch,
        )
