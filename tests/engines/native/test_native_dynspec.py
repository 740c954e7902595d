"""Dynamic spectra: a flare that was put into the data is found where, when and as bright as
it is."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from astropy.io import fits
from casacore import tables
from engine_fields import (
    CENTRE, Listener, make_engine, make_field, make_job, radec_of, sources_at, true_table,
    write_directions,
)

from ddfpipe.calibration.gains import GainTable
from ddfpipe.config import Config
from ddfpipe.data import solutions
from ddfpipe.data.images import SkyGrid
from ddfpipe.data.model import PixelModel, load_model, save_model
from ddfpipe.data.scales import FactorTable, save_factors
from ddfpipe.data.spectra import Spectra, read_pieces
from ddfpipe.data.targets import Position, write_positions
from ddfpipe.engines.base import GainChoice, SpectraJob, VisSelection
from ddfpipe.naming import factors_file
from ddfpipe.pipeline.dynspec import run
from ddfpipe.pipeline.jobs import DynspecJob
from ddfpipe.units import ARCSEC, DEGREE, SPEED_OF_LIGHT

CELL, NPIX = 12.0, 1000
OFFSETS = [(0.5, 0.4), (-0.9, 0.3), (0.2, -1.0)]
SOURCES = sources_at(OFFSETS, [3.0, 2.0, 1.0])
FLARE = (-0.43, -0.37)
"""East and north of the phase centre, degrees."""
FLUX, CIRCULAR = 2.0, -0.8
"""Jy in Stokes I and V while the flare is on."""
ON_TIME, ON_FREQ = slice(7, 12), slice(4, 9)
"""Slots, and channels of all sets together, that the flare lasts."""
OFF = [(0.9, 0.9), (-0.2, 1.1), (1.0, -0.3), (-1.1, -0.8), (0.0, 0.15), (-0.6, -1.1)]


def inject(sets) -> None:
    """Add the flare to DATA, seen through nothing, smeared by nothing, by a plain direct sum."""
    l, m = (x * DEGREE for x in FLARE)
    lmn = np.array([l, m, np.sqrt(1 - l**2 - m**2) - 1])
    channel = 0
    for ms in sets:
        with tables.table(f"{ms}::SPECTRAL_WINDOW", ack=False) as spw:
            freq = spw.getcol("CHAN_FREQ")[0]
        with tables.table(str(ms), readonly=False, ack=False) as main:
            time = np.unique(main.getcol("TIME"), return_inverse=True)[1]
            phase = 2 * np.pi * np.outer(main.getcol("UVW") @ lmn, freq) / SPEED_OF_LIGHT
            number = channel + np.arange(len(freq))
            on = ((time >= ON_TIME.start) & (time < ON_TIME.stop))[:, None]
            on = on & (number >= ON_FREQ.start) & (number < ON_FREQ.stop)
            vis = on * np.exp(1j * phase)
            data = main.getcol("DATA")
            data[..., 0] += FLUX * vis
            data[..., 3] += FLUX * vis
            data[..., 1] += 1j * CIRCULAR * vis
            data[..., 2] -= 1j * CIRCULAR * vis
            main.putcol("DATA", data)
        channel += len(freq)


@pytest.fixture(scope="module")
def observed(tmp_path_factory):
    """Noisy field with a flare, the model of what is constant, and positions to look at."""
    folder = tmp_path_factory.mktemp("dynspec")
    simulation = make_field(
        folder / "field", SOURCES, noise={"sample_jy": 0.3, "flag_random": 0.05}, smearing=False,
        observation={"n_ms": 3, "channels": 4, "first_mhz": 140.0, "last_mhz": 141.5625,
                     "channel_khz": 195.3125, "blocks": 6, "slots": 3, "core_fields": 14,
                     "hours": (24 + 5 * 8 * 500) / 3600},  # whole slots between the scans
    )
    inject(simulation.ms)
    engine = make_engine(folder, threads=2)
    grid = SkyGrid(*np.radians(CENTRE), NPIX, NPIX, CELL * ARCSEC)
    y, x = (np.rint(v).astype(int) for v in grid.pixel_of([s.ra for s in SOURCES],
                                                        [s.dec for s in SOURCES]))
    index = (y * NPIX + x).astype(np.int64)
    order = np.argsort(index)
    flux = np.array([[s.flux for s in SOURCES]] * 2, np.float32)
    save_model(folder / "image.model.npz",
               PixelModel(grid, np.array([135e6, 145e6]), index[order], flux[:, order]))
    places = [Position(*map(float, radec_of(e * DEGREE, n * DEGREE)), f"p{k}", kind)
              for k, ((e, n), kind) in enumerate([(FLARE, "target")] + [(o, "off") for o in OFF])]
    write_positions(folder / "positions", places)
    clusters = write_directions(folder, SOURCES)
    return SimpleNamespace(sets=tuple(simulation.ms), engine=engine, places=places,
                           clusters=clusters)


def job_of(observed, name, **changes) -> SpectraJob:
    job = SpectraJob(
        name=name, vis=VisSelection(observed.sets, "DATA", uv_km=(0.05, 1000.0)),
        positions=Path("positions"), output=observed.engine.cache_dir / name, model="image",
        clusters=observed.clusters, weights="spectrum", decorrelation=False,
    )
    return replace(job, **changes)


def made(observed, job) -> Spectra:
    assert observed.engine.spectra(job, Listener()) == job.output
    return Spectra.of(read_pieces(job.output))


def test_the_flare_is_where_when_and_as_bright_as_it_is(observed):
    spectra = made(observed, job_of(observed, "plain"))
    flux, weight = spectra.position(0)
    cells = np.sort(np.concatenate([spectra.freq.cells(p.freq) for p in spectra.pieces]))
    slots = np.unique(np.concatenate([spectra.time.cells(p.time) for p in spectra.pieces]))
    assert spectra.time.deviation < 0.01 and spectra.freq.deviation < 1.0
    assert np.isnan(flux[0][:, np.setdiff1d(np.arange(spectra.time.size), slots)]).all()
    seen = flux[:, cells][:, :, slots]
    off = np.stack([spectra.position(k)[0][:, cells][:, :, slots] for k in range(1, 7)])
    noise = off.std(axis=(0, 2, 3))
    assert 0.003 < noise[0] < 0.1 and 0.003 < noise[1] < 0.1
    on = np.zeros(seen.shape[1:], bool)
    on[ON_FREQ, ON_TIME] = True
    for stokes, truth in enumerate((FLUX, CIRCULAR)):
        inside = seen[stokes][on]
        assert inside.mean() == pytest.approx(truth, abs=5 * noise[stokes] / np.sqrt(on.sum()))
        assert np.abs(inside - truth).max() < 6 * noise[stokes]
        assert np.abs(seen[stokes][~on]).max() < 6 * noise[stokes]
        assert np.abs(off[:, stokes][:, ~on].mean()) < 0.2 * noise[stokes]
    assert (weight[np.ix_(cells, slots)] > 0).all()
    # the model was taken out: without that the sources' side lobes would be many sigma
    assert np.abs(off[:, 0]).max() < 40 * noise[0]


def test_noise_is_what_the_weights_say(observed):
    """Weights are inverse variances up to a constant, so flux times their root is even."""
    spectra = made(observed, job_of(observed, "weights"))
    quiet = np.ones(spectra.position(0)[1].shape, bool)
    slots = np.unique(np.concatenate([spectra.time.cells(p.time) for p in spectra.pieces]))
    quiet[:, slots[ON_TIME]] = False
    scaled = []
    for k in range(1, 7):
        flux, weight = spectra.position(k)
        scaled.append((flux[1] * np.sqrt(weight))[quiet & (weight > 0)])
    level = [np.std(s) for s in scaled]
    assert max(level) < 1.25 * min(level)


def test_gains_are_taken_out_and_wild_ones_left_out(observed):
    """Through gains in two directions: the data are corrupted, the spectra are as before."""
    engine = observed.engine
    plain = made(observed, job_of(observed, "reference"))
    for ms in observed.sets:
        piece = plain.pieces[0]
        with tables.table(f"{ms}::ANTENNA", ack=False) as antenna:
            names = antenna.getcol("NAME")
        gains = np.ones((1, 1, len(names), len(SOURCES), 1), np.complex64)
        gains[0, 0, 3, :, 0], gains[0, 0, 4, :, 0] = 0.05, 1.7
        solutions.save_solution(GainTable(
            [[piece.time[0] - 10, piece.time[-1] + 10]], [[1e8, 2e8]], gains, names,
            np.array([[s.ra, s.dec] for s in SOURCES]),
        ), engine.solsdir, ms, "DDS")
    gains = GainChoice(("DDS",), "AP")
    wild = made(observed, job_of(observed, "wild", gains=gains))
    n_ant = len(names)
    for one, two in zip(plain.pieces, wild.pieces):
        good = (one.weight > 0) & (two.weight > 0)
        share = (two.weight[good] / one.weight[good]).mean()
        # stations 3 and 4 are gone from all baselines
        assert share == pytest.approx((n_ant - 2) * (n_ant - 3) / (n_ant * (n_ant - 1)), abs=0.05)
    kept = made(observed, job_of(observed, "kept", gains=gains, amplitudes=(0.0, 10.0)))
    assert kept.pieces[0].weight.mean() > wild.pieces[0].weight.mean()


def test_beam_and_gains_give_intrinsic_flux(tmp_path):
    """A constant source left out of the model, through beam, smearing and solutions: its flux."""
    missing = sources_at([FLARE], [2.0])
    simulation = make_field(
        tmp_path / "field", SOURCES + missing, beam="array_factor",
        ionosphere={"diffractive_km": 8.0, "npix": 256},
        observation={"n_ms": 1, "small_list": 1, "channels": 4, "channel_khz": 195.3125,
                     "core_fields": 10, "remote_stations": 4, "blocks": 4, "slots": 3},
    )
    engine = make_engine(tmp_path, beam_model="array_factor", threads=2)
    table = true_table(tmp_path / "field", simulation.ms[0], SOURCES + missing, amplitude=False)
    # the phases of beam and ionosphere; the amplitudes are the beam's business
    solutions.save_solution(table, engine.solsdir, simulation.ms[0], "DDS")
    grid = SkyGrid(*np.radians(CENTRE), NPIX, NPIX, CELL * ARCSEC)
    y, x = (np.rint(v).astype(int) for v in grid.pixel_of([s.ra for s in SOURCES],
                                                        [s.dec for s in SOURCES]))
    index = (y * NPIX + x).astype(np.int64)
    order = np.argsort(index)
    flux = np.array([[s.flux for s in SOURCES]] * 2, np.float32)
    save_model(tmp_path / "image.model.npz",
               PixelModel(grid, np.array([115e6, 170e6]), index[order], flux[:, order]))
    write_positions(tmp_path / "positions",
                    [Position(missing[0].ra, missing[0].dec, "missing")])
    job = SpectraJob(
        name="intrinsic", vis=VisSelection(tuple(simulation.ms), "DATA", uv_km=(0.2, 1000.0)),
        positions=Path("positions"), output=engine.cache_dir / "intrinsic", model="image",
        gains=GainChoice(("DDS",), "AP"), clusters=write_directions(tmp_path, SOURCES + missing),
    )
    engine.spectra(job, Listener())
    [piece] = read_pieces(job.output)
    assert np.nanmean(piece.flux[0]) == pytest.approx(2.0, rel=0.01)
    assert np.nanstd(piece.flux[0]) < 0.04 and np.nanmax(np.abs(piece.flux[1])) < 1e-3
    raw = replace(job, gains=None, output=engine.cache_dir / "raw", name="raw")
    engine.spectra(raw, Listener())
    assert np.nanmean(read_pieces(raw.output)[0].flux[0]) < 1.9


def test_spectra_see_the_data_as_images_do(observed):
    """With a model taken out while reading, and on another flux scale, V doubles and I follows."""
    engine, job = observed.engine, job_of(observed, "scaled")
    name = observed.sets[0].name.split("_")[0]
    ones = (2.0, 2.0)
    save_factors(engine.workdir / factors_file("flux", name),
                 FactorTable(name, (1.3e8, 1.5e8), ones, (0.0, 0.0), ones, ones))
    plain = made(observed, job_of(observed, "unscaled"))
    # the constant sources go out while reading, before the factor of two; none are left for the
    # model, so that is one of no flux
    model = load_model(engine.workdir / "image.model.npz")
    save_model(engine.workdir / "constant.model.npz", model)
    save_model(engine.workdir / "nothing.model.npz", replace(model, flux=0 * model.flux))
    vis = replace(job.vis, minus="constant", scale="flux")
    double = made(observed, replace(job, vis=vis, model="nothing"))
    for one, two in zip(plain.pieces, double.pieces):
        good = (one.weight > 0)[None].repeat(2, axis=0)
        assert np.abs(two.flux[good] - 2 * one.flux[good]).max() < 2e-3


def test_the_stage_finds_the_flare_in_its_own_image(observed):
    """Image, choice of positions, spectra and files as in a run."""
    engine = observed.engine
    home = engine.workdir
    job = make_job("final", observed.sets, 400, 30.0, uv_km=(0.05, 4.0), weights="spectrum",
                   clusters=observed.clusters, major_cycles=2)
    engine.image(job, Listener())
    flare = observed.places[0]
    (home / "targets.csv").write_text(f"{np.degrees(flare.ra)},{np.degrees(flare.dec)},flare\n")
    context = SimpleNamespace(
        engine=engine, monitor=Listener(), workdir=home, cache_dir=engine.cache_dir,
        config=Config(), relative=lambda paths: tuple(str(p) for p in paths),
    )
    spectra = job_of(observed, "DynSpecs_L000007", model="final")
    result = run(context, DynspecJob(spectra, "L000007", Path("targets.csv"), 0.8, 1.4))
    assert result.figures["targets"] == 4 and result.figures["off_positions"] == 100
    folder = home / "DynSpecs_L000007/TARGET"
    assert len(list(folder.glob("*.fits"))) == len(list(folder.glob("*.png"))) == 4
    assert (home / "DynSpecs_L000007.tgz").stat().st_size > 1000
    with fits.open(folder / "flare.fits") as hdus:
        flux, noise, header = hdus[0].data, hdus["NOISE"].data, hdus[0].header
    good = np.isfinite(flux[0]).any(axis=0)
    flux, noise = flux[:, :, good], noise[:, :, good]
    on = np.zeros(flux.shape[1:], bool)
    on[ON_FREQ, ON_TIME] = True
    # the mean over the observation is in the model, so it is the rise that is known
    rise = [np.nanmean(plane[on]) - np.nanmean(plane[~on]) for plane in flux]
    assert rise == pytest.approx([FLUX, CIRCULAR], abs=0.1)
    assert np.nanmin(flux[0][on] / noise[0][on]) > 10
    assert header["FACET"] in ("S0", "S1", "S2") and header["NOFF"] == 100
    assert not (engine.cache_dir / "DynSpecs_L000007").exists()
