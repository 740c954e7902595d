"""Files exchanged with the programs themselves, both ways; skipped where they are missing."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from exchange_tools import (
    PLACES, applied, column, copy_set, corrections, corrupted, ddecal, run, samples, small_field,
    write_regions, wsclean_sources,
)
from other_programs import program

from ddfpipe.data.exchange import Choices, convert, read_directions
from ddfpipe.data.h5parm import read_h5parm, write_h5parm
from ddfpipe.data.images import SkyGrid, read_image
from ddfpipe.data.killms import NAMES
from ddfpipe.data.model import PixelModel, load_model, save_model
from ddfpipe.data.modelfiles import ModelChoices
from ddfpipe.data.ms import read_metadata
from ddfpipe.data.skymodel import read_skymodel, write_skymodel
from ddfpipe.units import ARCSEC, SPEED_OF_LIGHT

FULL = np.array([[1.0, 0.2 + 0.1j], [0.3, 0.8]])


@pytest.fixture(scope="module")
def field(tmp_path_factory):
    return small_field(tmp_path_factory.mktemp("exchange"))


@pytest.fixture(scope="module")
def dp3():
    return program("dp3")


@pytest.fixture(scope="module")
def wsclean():
    return program("wsclean")


@pytest.fixture(scope="module")
def solved(field, dp3, tmp_path_factory):
    """Function: DP3's solutions of a mode."""
    folder = tmp_path_factory.mktemp("solved")
    regions = write_regions(folder / "dirs.reg")
    sky, made = folder / "sky.skymodel", {}
    found = read_directions(regions, "points", Choices())
    convert([field.truth.with_name("given.skymodel")], sky, "skymodel", "skymodel",
            Choices(models=ModelChoices(patches=(found.ra, found.dec, found.names))))

    def solve(mode):
        if mode not in made:
            made[mode] = ddecal(dp3, field.ms[0], sky, mode, folder / f"{mode}.h5")
        return made[mode]

    return solve


@pytest.mark.parametrize("mode", ["scalarphase", "diagonal", "fulljones", "tec", "tecandphase"])
def test_dp3_applies_the_same_from_its_file_and_from_ours(field, dp3, solved, tmp_path, mode):
    """Reading is right (our gains do what DP3's applycal does) and so is writing."""
    theirs = solved(mode)
    info = read_metadata(field.ms[0])
    table = read_h5parm(theirs, freqs=info.freqs)
    names = table.meta[NAMES].split(",")
    assert sorted(names) == [f"[{name}]" for name in sorted(PLACES)]
    k = names.index("[east]")
    np.testing.assert_allclose(np.degrees(table.directions[k]), PLACES["east"], atol=1e-5)
    ours = tmp_path / f"ours_{mode}.h5"
    convert([theirs], tmp_path / "killms.npz", "h5parm", "killms", Choices(ms=field.ms[0]))
    convert([tmp_path / "killms.npz"], ours, "killms", "h5parm", Choices())
    want = corrupted(samples(field.ms[0]), table, k, FULL)
    assert np.abs(want - FULL.ravel()).max() > 0.3
    done = applied(dp3, field.ms[0], tmp_path, theirs, corrections(mode), "[east]", FULL)
    np.testing.assert_allclose(done, want, atol=2e-5)
    pair = ("fulljones",) if mode == "fulljones" else ("amplitude000", "phase000")
    np.testing.assert_allclose(
        applied(dp3, field.ms[0], tmp_path, ours, pair, "[east]", FULL), done, atol=2e-5)


def test_wsclean_images_the_same_with_dp3s_file_and_with_ours(field, wsclean, solved, tmp_path):
    theirs, ours = solved("scalarphase"), tmp_path / "ours.h5"
    write_h5parm(read_h5parm(theirs), ours)
    regions = tmp_path / "facets.reg"
    half = 1.6
    middle = 0.5 * (PLACES["mid"][0] + PLACES["east"][0])
    west = 0.5 * (PLACES["mid"][0] + PLACES["west"][0])
    columns = [(210 - half / 0.64, west), (west, middle), (middle, 210 + half / 0.64)]
    regions.write_text("fk5\n" + "".join(
        f"polygon({a},{50 - half},{b},{50 - half},{b},{50 + half},{a},{50 + half})\n"
        for a, b in columns))
    images = {}
    for name, h5 in (("theirs", theirs), ("ours", ours), ("none", None)):
        extra = ["-apply-facet-solutions", h5, "phase000"] if h5 else []
        run([wsclean, "-name", name, "-size", 300, 300, "-scale", "40asec", "-pol", "I",
             "-niter", 0, "-j", 1, "-no-update-model-required", "-facet-regions", regions, *extra,
             field.ms[0]], tmp_path)
        images[name] = read_image(tmp_path / f"{name}-dirty.fits").plane()
    np.testing.assert_allclose(images["ours"], images["theirs"], atol=1e-5)
    assert np.abs(images["none"] - images["theirs"]).max() > 0.05


@pytest.mark.parametrize("scale", [0, 8])
def test_dp3_predicts_the_same_from_wscleans_sources_and_from_ours(
        field, dp3, wsclean, tmp_path, scale):
    """WSClean's list has linear spectra, hours below zero, Gaussians and no patches."""
    theirs = wsclean_sources(wsclean, field.ms, "ws", scale, 300, 40, tmp_path)
    model = read_skymodel(theirs)
    assert model.gaussian.all() if scale else not model.gaussian.any()
    assert model.size > 10 and not model.logarithmic.any() and model.terms.any()
    convert([theirs], tmp_path / "ours.skymodel", "skymodel", "skymodel",
            Choices(models=ModelChoices(patches=(*np.radians(list(PLACES.values())).T,
                                                 list(PLACES)))))
    assert set(read_skymodel(tmp_path / "ours.skymodel").patch) <= set(PLACES)
    out = {}
    for sky in (theirs, tmp_path / "ours.skymodel"):
        run([dp3, f"msin={field.ms[1]}", f"msout={sky}.ms", "steps=[predict]", "numthreads=1",
             f"predict.sourcedb={sky}"], tmp_path)
        out[sky.name] = column(f"{sky}.ms")
    assert np.abs(out["ours.skymodel"]).max() > 0.5
    np.testing.assert_allclose(out["ours.skymodel"], out["ws-sources.txt"], atol=1e-4)


def direct(ms, grid, y, x, flux, shapes=None):
    """(row, chan) of sources at pixels: the sum itself.  flux (n,) or (n, chan); shapes: (n, 3)
    FWHM of both axes and angle from north, rad, of Gaussians."""
    info = read_metadata(ms)
    l, m = grid.lm(y, x)
    lmn = np.stack([l, m, np.sqrt(1 - l * l - m * m) - 1])
    waves = column(ms, "UVW")[:, :, None] * info.freqs / SPEED_OF_LIGHT
    total = 0.0
    for k, f in enumerate(flux):
        value = f * np.exp(2j * np.pi * np.einsum("rac,a->rc", waves, lmn[:, k]))
        if shapes is not None:
            major, minor, angle = shapes[k]
            along = major * (waves[:, 0] * np.sin(angle) + waves[:, 1] * np.cos(angle))
            across = minor * (waves[:, 0] * np.cos(angle) - waves[:, 1] * np.sin(angle))
            value = value * np.exp(-np.pi**2 / (4 * np.log(2)) * (along**2 + across**2))
        total = total + value
    return total


def test_wsclean_predicts_our_model_images(field, wsclean, tmp_path):
    """Bands in files of WSClean's names; orientation, frequency and flux are right."""
    grid = SkyGrid(*np.radians([210.0, 50.0]), 300, 300, 3 * ARCSEC)
    freq = [float(read_metadata(ms).freqs.mean()) for ms in field.ms]
    y, x = np.array([60, 210]), np.array([100, 250])
    model = PixelModel.from_points(grid, freq, y, x, np.array([[1.0, 2.0], [0.7, 2.2]]))
    save_model(tmp_path / "m.model.npz", model)
    convert([tmp_path / "m.model.npz"], tmp_path / "ws-model.fits", "model", "modelimage",
            Choices(models=ModelChoices(each_band=True)))
    for band, ms in enumerate(field.ms):
        copy = copy_set(ms, tmp_path / f"{band}.ms")
        (tmp_path / f"ws-{band:04d}-model.fits").rename(tmp_path / f"b{band}-model.fits")
        run([wsclean, "-predict", "-name", f"b{band}", "-j", 1, "-use-wgridder",
             "-wgridder-accuracy", "1e-5", "-no-small-inversion", copy], tmp_path)
        want = direct(ms, grid, y, x, model.flux[band])
        got = column(copy, "MODEL_DATA")
        np.testing.assert_allclose(got[..., 0], want, atol=2e-3)
        np.testing.assert_allclose(got[..., 3], want, atol=2e-3)
    both = [tmp_path / f"b{band}-model.fits" for band in (1, 0)]
    convert(both, tmp_path / "back.model.npz", "modelimage", "model", Choices())
    back = load_model(tmp_path / "back.model.npz")
    np.testing.assert_array_equal(back.index, model.index)
    np.testing.assert_allclose(back.flux, model.flux, rtol=1e-6)
    np.testing.assert_allclose(back.freq, model.freq)


def test_our_list_of_sources_is_predicted_as_it_is_meant(field, dp3, tmp_path):
    """Logarithmic spectra and a Gaussian with an angle from the north."""
    sky = tmp_path / "a.skymodel"
    one = read_skymodel(field.truth.with_name("given.skymodel"))
    one = replace(one, patch=tuple(one.name), terms=np.tile([-0.7, 0.3], (one.size, 1)))
    write_skymodel(sky, one)
    run([dp3, f"msin={field.ms[1]}", f"msout={tmp_path}/p.ms", "steps=[predict]", "numthreads=1",
         f"predict.sourcedb={sky}"], tmp_path)
    grid = SkyGrid(*np.radians([210.0, 50.0]), 300, 300, 40 * ARCSEC)
    shapes = np.stack([one.major, one.minor, one.orientation], axis=1)
    want = direct(field.ms[1], grid, *grid.pixel_of(one.ra, one.dec),
                  one.flux(read_metadata(field.ms[1]).freqs).T, shapes)
    np.testing.assert_allclose(column(tmp_path / "p.ms")[..., 0], want, atol=3e-3)
