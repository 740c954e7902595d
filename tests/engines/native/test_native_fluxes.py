"""Fluxes and positions in finished images of known skies."""

from __future__ import annotations

import numpy as np
import pytest
from engine_fields import (
    Listener, expected_flux, fit_source, make_engine, make_job, product, true_table,
    write_directions, write_mask,
)

from ddfpipe.data import solutions
from ddfpipe.data.model import load_model
from ddfpipe.engines.base import GainChoice
from ddfpipe.engines.native.modelsky import MAX_FACET
from ddfpipe.imaging.facets import regular_facets
from ddfpipe.simulate.truth import read_truth

NPIX, CELL = 720, 12.0
DEEP = dict(
    robust=-0.5, uv_km=(0.2, 8.0), auto_mask_sigma=None, rms_factor=0.0, peak_factor=0.02,
    major_cycles=4,
)
"""Masks are given: these tests are about arithmetic, not about finding sources."""


def image(folder, simulation, sources, npix=NPIX, engine=None, name="image", **changes):
    """Clean in discs about the sources; (engine, result)."""
    engine = engine or make_engine(folder)
    mask = write_mask(folder, "discs.fits", npix, CELL, sources)
    job = make_job(name, simulation, npix, CELL, **{**DEEP, "external_mask": mask, **changes})
    return engine, engine.image(job, Listener())


def ratios(folder, sources, kind="int_restored", name="image"):
    """(flux over true flux, offsets in beams) of the sources."""
    picture = product(folder, name, kind)
    bands = load_model(product_model(folder, name)).freq
    fits = [fit_source(picture, s.ra, s.dec) for s in sources]
    # images are means of the two bands, with weights that make the mean frequency the header's
    shares = np.abs(bands[::-1] - picture.freq[0])
    true = [expected_flux(s, bands, shares) for s in sources]
    return (
        np.array([f.flux for f in fits]) / np.array(true), np.array([f.offset_beams for f in fits])
    )


def product_model(folder, name):
    return folder / f"{name}.model.npz"


@pytest.fixture(scope="module")
def plain_image(plain, tmp_path_factory):
    folder = tmp_path_factory.mktemp("plain_image")
    engine, result = image(folder, *plain, peak_factor=0.1, major_cycles=5)
    return folder, result, plain[1]


def test_plain_fluxes_and_positions(plain_image):
    """Over the whole image; s0, s6 and s7 lie within 3 % of a facet's width of its border."""
    folder, _, sources = plain_image
    flux, offset = ratios(folder, sources)
    assert np.abs(flux - 1).max() < 1e-3
    assert offset.max() < 1e-3


def test_plain_residual_is_small(plain_image):
    folder, result, sources = plain_image
    residual = product(folder, "image", "app_residual").plane()
    brightest = max(s.flux for s in sources)
    assert np.abs(residual).max() < 1e-3 * brightest
    assert residual.std() < 1e-4 * brightest
    noises = [c["noise"] for c in result.details["cycles"]]
    assert noises[-1] < 0.2 * noises[0]


@pytest.fixture(scope="module")
def between_image(between, tmp_path_factory):
    simulation, sources = between
    folder = tmp_path_factory.mktemp("between_image")
    _, result = image(folder, simulation, sources, peak_factor=0.03, major_cycles=4)
    return folder, result, sources


def test_sources_between_pixels(between_image):
    """As exact as on pixels: 0.05 % and a hundredth of a pixel."""
    folder, _, sources = between_image
    flux, offset = ratios(folder, sources)
    assert np.abs(flux - 1).max() < 5e-4
    assert offset.max() < 1e-3
    residual = product(folder, "image", "app_residual").plane()
    assert np.abs(residual).max() < 3e-4 * max(s.flux for s in sources)


def test_sources_between_pixels_are_one_component_each(between_image):
    """At their place in the model file, with their flux in every band."""
    folder, _, sources = between_image
    model = load_model(product_model(folder, "image")).points()
    y, x = model.place()
    for s in sources:
        y0, x0 = (float(np.ravel(v)[0]) for v in model.grid.pixel_of(s.ra, s.dec))
        near = np.hypot(y - y0, x - x0) < 3
        assert near.sum() == 1
        assert np.hypot(y[near] - y0, x[near] - x0)[0] < 0.01
        np.testing.assert_allclose(model.flux[:, near], s.flux, rtol=2e-3)


def test_apparent_equals_intrinsic_without_beam(plain_image):
    folder = plain_image[0]
    app, true = (product(folder, "image", f"{k}_restored").plane() for k in ("app", "int"))
    np.testing.assert_allclose(app, true, rtol=1e-5)
    np.testing.assert_allclose(product(folder, "image", "norm").plane(), 1, rtol=1e-5)


def test_automatic_mask_finds_the_same_fluxes(plain, tmp_path):
    """Without anyone saying where the sources are: 1.5 % and 5 beams' hundredths."""
    job = make_job("image", plain[0], NPIX, CELL, robust=-0.5, uv_km=(0.2, 8.0))
    make_engine(tmp_path).image(job, Listener())
    flux, offset = ratios(tmp_path, plain[1])
    assert np.abs(flux - 1).max() < 0.015
    assert offset.max() < 0.01


BEAMS = ["array_factor", pytest.param("full", marks=pytest.mark.slow)]


@pytest.mark.parametrize("beam", BEAMS)
def test_beam_fluxes_across_facets(wide, tmp_path, beam):
    """Intrinsic fluxes out to 3.1 degrees, in the middle and at the edge of facets."""
    simulation, sources = wide(beam)
    engine = make_engine(tmp_path, beam_model=beam)
    image(tmp_path, simulation, sources, npix=1800, engine=engine, major_cycles=3)
    flux, offset = ratios(tmp_path, sources)
    grid = product(tmp_path, "image", "int_restored").grid
    l, m = grid.lm_of(*np.array([[s.ra, s.dec] for s in sources]).T)  # noqa: E741
    distance = np.degrees(np.hypot(l, m))
    assert distance.max() > 3
    assert np.abs(flux - 1).max() < 0.01
    # neither with distance from the phase centre nor with that from the facet's centre (squares
    # of 1.5 degrees)
    inside = np.degrees(np.hypot(*(np.radians((np.degrees(v) % 1.5) - 0.75) for v in (l, m))))
    for where in (distance, inside):
        slope = np.polyfit(where, flux, 1)[0]
        assert abs(slope) * np.ptp(where) < 0.01
    assert offset.max() < 0.02
    norm = product(tmp_path, "image", "norm").plane()
    y, x = (np.rint(v).astype(int) for v in grid.pixel(l, m))
    assert norm[y, x].min() < 0.3 and norm[y, x].max() > 0.95
    seen, _ = ratios(tmp_path, sources, "app_restored")
    np.testing.assert_allclose(seen / norm[y, x], 1, atol=0.015)


def test_norm_follows_the_beam(wide, tmp_path):
    """app over int at sources at the edge of facets, from true beams: mean(Kc* K) / rms(Kc)."""
    simulation, sources = wide("array_factor")
    engine = make_engine(tmp_path, beam_model="array_factor")
    job = make_job(
        "image", simulation, 1800, CELL, robust=None, uv_km=(0.0, 1000.0), major_cycles=0,
        gains=None,
    )
    engine.image(job, Listener())
    picture = product(tmp_path, "image", "norm")
    truth = read_truth(simulation.ms[0].parent)
    p, q = np.triu_indices(len(truth.arrays["station"]), 1)
    facets = regular_facets(npix=1800, cell=picture.grid.cell, max_size_rad=MAX_FACET)
    owner = facets.facet_map()
    for k in (0, 2, 3, 4, 7, 10):
        s = sources[k]
        y, x = (round(float(np.ravel(v)[0])) for v in picture.grid.pixel_of(s.ra, s.dec))
        facet = facets.facets[owner[y, x]]
        ra, dec = picture.grid.radec(facet.l0, facet.m0)
        bands = []
        for number, ms in enumerate(simulation.ms):  # each of the two is a sub-band
            there = np.moveaxis(truth.direction_gains(number)[:, :, k, :], 2, 1)
            centre = engine.beam(ms).response(
                times=truth.arrays["time"], freqs=truth.arrays[f"freq_{number}"], ra=ra, dec=dec
            )[..., 0]
            kx, kc = (g[..., p] * np.conj(g[..., q]) for g in (there, centre))
            bands.append(np.mean(np.conj(kc) * kx).real / np.sqrt(np.mean(np.abs(kc) ** 2)))
        assert abs(picture.plane()[y, x] / np.mean(bands) - 1) < 0.005


@pytest.fixture(scope="module")
def gained(disturbed, tmp_path_factory):
    """Folder and engine settings with the true gains saved as solutions."""
    simulation, sources, truth_folder = disturbed
    folder = tmp_path_factory.mktemp("gained")
    write_directions(folder, sources)
    engine = make_engine(folder)
    for ms in simulation.ms:
        for name, amplitude in (("phases", False), ("both", True)):
            table = true_table(truth_folder, ms, sources, amplitude)
            solutions.save_solution(table, engine.solsdir, ms, name)
    return folder


@pytest.mark.parametrize("mode, beam", [("P", "array_factor"), ("AP", "none")])
def test_fluxes_through_gains(disturbed, gained, mode, beam):
    """Phases with the beam as a model, or both as gains: intrinsic fluxes come out the same."""
    simulation, sources, _ = disturbed
    name = f"gains_{mode}"
    engine = make_engine(gained, beam_model=beam)
    choice = GainChoice(("phases" if mode == "P" else "both",), mode)
    _, result = image(
        gained, simulation, sources, engine=engine, name=name, gains=choice,
        clusters="directions.npy",
    )
    flux, offset = ratios(gained, sources, name=name)
    assert np.abs(flux - 1).max() < 0.01
    assert offset.max() < 0.02
    noises = [c["noise"] for c in result.details["cycles"]]
    assert noises[-1] < 0.4 * noises[0]


def test_amplitudes_are_left_out_in_mode_p(disturbed, gained):
    """Without a beam, phases alone leave the beam's attenuation in the intrinsic fluxes."""
    simulation, sources, _ = disturbed
    image(
        gained, simulation, sources, name="phases_only", major_cycles=2,
        gains=GainChoice(("both",), "P"), clusters="directions.npy",
    )
    flux, _ = ratios(gained, sources, name="phases_only")
    norm = product(gained, "phases_only", "norm").plane()
    np.testing.assert_allclose(norm, 1, rtol=1e-5)
    assert flux[4] < 0.85 and flux[0] > 0.97


def test_without_gains_the_ionosphere_takes_flux(disturbed, gained):
    simulation, sources, _ = disturbed
    engine = make_engine(gained, beam_model="array_factor")
    image(gained, simulation, sources, engine=engine, name="raw", clusters="directions.npy")
    flux, _ = ratios(gained, sources, name="raw")
    assert flux.mean() < 0.9


def test_smearing_is_undone(wide, tmp_path):
    """At 2 to 3 degrees, 8 s and 195 kHz: one per mille with decorrelation, low without."""
    simulation, sources = wide("none")
    image(tmp_path, simulation, sources, npix=1800, major_cycles=3)
    flux, offset = ratios(tmp_path, sources)
    image(
        tmp_path, simulation, sources, npix=1800, name="smeared", decorrelation=False,
        major_cycles=2,
    )
    low, _ = ratios(tmp_path, sources, name="smeared")
    grid = product(tmp_path, "image", "int_restored").grid
    l, m = grid.lm_of(*np.array([[s.ra, s.dec] for s in sources]).T)  # noqa: E741
    far = np.degrees(np.hypot(l, m)) > 2
    assert far.sum() >= 6
    assert np.abs(flux[far] - 1).max() < 0.001
    assert np.all(low[far] < flux[far] - 0.001)
    assert low[far].mean() < flux[far].mean() - 0.002
    assert offset.max() < 0.01
