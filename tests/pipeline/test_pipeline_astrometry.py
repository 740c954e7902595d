"""Offsets as the last stages of a run, and a whole measurement and correction of an image."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from astropy.table import Table

from ddfpipe.config import Config
from ddfpipe.data.images import SkyGrid, read_image, write_image
from ddfpipe.data.regions import FacetOutline, write_tessel
from ddfpipe.errors import ConfigError, DataError, StageFailed
from ddfpipe.imaging.restore import add_points, restore
from ddfpipe.naming import FINAL_IMAGE, band_image, image_product
from ddfpipe.pipeline import astrometry, remeasure
from ddfpipe.pipeline.decisions import Decision
from ddfpipe.pipeline.run import decide
from ddfpipe.pipeline.selfcal import build_recipe
from ddfpipe.pipeline.signals import StopFlag
from ddfpipe.products import refcats, sourcefinding
from ddfpipe.products.astrometry import read_facet_offsets
from ddfpipe.units import ARCSEC, DEGREE
from test_pipeline_recipe import FULL, SMALL
from workplace import configuration

STAGES = ["offset_sources", "reference_catalogue", "offsets", f"{FINAL_IMAGE}_shift"]
TEST_STAGES = ["offset_sources_test", "offsets_test"]


def stages(**options):
    return build_recipe(configuration(**options), SMALL, FULL).stages


# ---------------------------------------------------------------------- the recipe


def test_astrometry_comes_last_of_all():
    names = [s.name for s in stages(offsets__method="wise",
                                    control__write_columns=("IMAGING_WEIGHT",))]
    assert names[-5:] == ["write_columns", *STAGES]
    assert not set(STAGES) & {s.name for s in stages()}
    names = [s.name for s in stages(offsets__method="wise", offsets__mode="test")]
    assert names[-6:] == [*STAGES, *TEST_STAGES]


def test_bands_are_moved_too():
    made = {s.name: s for s in stages(offsets__method="wise", control__spectral_restored=True)}
    stage = made[f"{band_image(2)}_shift"]
    assert set(stage.needs) == {band_image(2), FINAL_IMAGE, "offsets"}
    assert stage.makes == (f"{FINAL_IMAGE}_Band2_shift.app.facetRestored.fits",
                           f"{FINAL_IMAGE}_Band2_shift.int.facetRestored.fits")


def test_what_each_stage_depends_on():
    made = {s.name: s for s in stages(offsets__method="wise", offsets__fit="chi2")}
    assert made["offset_sources"].needs == (FINAL_IMAGE,)
    assert set(made["offsets"].needs) == {FINAL_IMAGE, "reference_catalogue", "offset_sources"}
    assert made["offsets"].options["offsets.fit"] == "chi2"
    assert made["offsets"].makes == ("wise-facet_offsets.fits", "facet-offset.txt", "astromap.fits")
    assert not any(s.ms for s in made.values() if s.name in STAGES)


def test_a_catalogue_of_the_user_is_watched(tmp_path):
    Table({"RA": [1.0], "DEC": [2.0]}).write(tmp_path / "my.cat.fits")
    made = {s.name: s for s in stages(offsets__method=str(tmp_path / "my.cat.fits"))}
    assert made["reference_catalogue"].files == (tmp_path / "my.cat.fits",)
    assert made["offsets"].makes[0] == "my-facet_offsets.fits"
    Table({"RA": [1.0], "DEC": [2.0]}).write(tmp_path / "gaia.fits")
    made = {s.name: s for s in stages(offsets__method="gaia",
                                      offsets__catalogue_dir=str(tmp_path))}
    assert made["reference_catalogue"].files == (tmp_path / "gaia.fits",)


@pytest.fixture
def sky(tmp_path, monkeypatch):
    """A catalogue over the fake engine's images, and a source finder that finds three sources."""
    rng = np.random.default_rng(0)
    ra, dec = 1.0 + rng.uniform(-3e-3, 3e-3, 200), 0.8 + rng.uniform(-2e-3, 2e-3, 200)
    folder = tmp_path / "catalogues"
    folder.mkdir()
    refcats.write_positions(folder / "panstarrs.fits", ra, dec)

    def find(detection, flux, settings, *, threads, output, monitor, exports):
        table = Table({
            "RA": ra[:3] / DEGREE, "DEC": dec[:3] / DEGREE, "E_RA": [1e-5] * 3, "E_DEC": [1e-5] * 3,
            "Peak_flux": [1.0] * 3, "Total_flux": [1.0] * 3, "Isl_rms": [0.01] * 3,
            "Maj": [1e-4] * 3, "S_Code": ["S"] * 3,
        })
        table.write(output, overwrite=True)
        return table

    monkeypatch.setattr(sourcefinding, "find_sources", find)
    return folder


def test_a_run_with_offsets_starts_again_where_it_has_to(place, sky):
    chosen = {"offsets__method": "panstarrs", "offsets__catalogue_dir": str(sky),
              "offsets__fit": "chi2"}
    place.run(**chosen)
    moved = place.folder / f"{FINAL_IMAGE}_shift.app.facetRestored.fits"
    assert moved.exists() and (place.folder / "astromap.fits").exists()
    assert (place.folder / "previews/panstarrs-facet_offsets.fits.png").exists()

    def todo(**more):
        field = place.field(**(chosen | more))
        return [d.stage.name for d in decide(field, field.recipe) if not d.done]

    assert todo() == []
    assert todo(offsets__fit="mcmc") == STAGES[2:]
    assert todo(offsets__mode="test") == TEST_STAGES
    assert todo(machine__NCPU_DDF=1) == []
    assert todo(offsets__method="wise")[0] == STAGES[1]
    (place.folder / "panstarrs-facet_offsets.fits").unlink()
    assert todo() == STAGES[2:]


def test_without_network_only_the_offsets_are_missing(place, sky, monkeypatch):
    """The run ends at its last stages; switched off, it is complete."""
    from ddfpipe.products.refcats import download

    monkeypatch.setattr(download, "TRIES", 1)
    monkeypatch.setattr(download._fetch, "__defaults__", None)
    monkeypatch.setattr(refcats, "fetch_catalogue", _impatient(refcats.fetch_catalogue))
    options = {"offsets__method": "panstarrs", "offsets__server": "http://127.0.0.1:9"}
    with pytest.raises(StageFailed, match="reference_catalogue.*cannot be reached.*method=None"):
        place.run(**options)
    assert len(place.made) > 30
    assert (place.folder / image_product(FINAL_IMAGE, "int_restored")).exists()
    assert place.run(offsets__method=None) == []
    place.run(offsets__method="panstarrs", offsets__catalogue_dir=str(sky))
    assert place.made == [], "the engine had nothing more to do"


def _impatient(fetch):
    return lambda *words, **given: fetch(*words, **given, tries=1)


# ---------------------------------------------------------------------- checks before the run


class Info:
    phase_centre = (1.0, 0.8)


def problems(**options):
    config = configuration(image__imsize=1000, **options)
    recipe = build_recipe(config, SMALL, FULL)
    return astrometry.problems(config, Path("/"), [Info()],
                               [Decision(s, "not done yet") for s in recipe.stages])


def test_a_catalogue_of_another_field_is_found_before_the_run(tmp_path, sky):
    grid = SkyGrid(*Info.phase_centre, 1000, 1000, 1.5 * ARCSEC)
    rng = np.random.default_rng(1)
    ra, dec = grid.radec(*(rng.uniform(-0.6, 0.6, (2, 900)) * 1500 * ARCSEC))
    refcats.write_positions(tmp_path / "good.fits", ra, dec)
    refcats.write_positions(tmp_path / "half.fits", ra[ra > 1.0], dec[ra > 1.0])
    refcats.write_positions(tmp_path / "wrong.fits", ra + 1.0, dec)
    assert problems(offsets__method=str(tmp_path / "good.fits")) == []
    [half] = problems(offsets__method=str(tmp_path / "half.fits"))
    assert not half.fatal and "of the image only" in half.text
    [wrong] = problems(offsets__method=str(tmp_path / "wrong.fits"))
    assert wrong.fatal and "0%" in wrong.text and "method=None" in wrong.text
    [lacking] = problems(offsets__method="wise", offsets__catalogue_dir=str(tmp_path))
    assert lacking.fatal and "neither wise.fits" in lacking.text


def test_no_network_is_a_warning_before_the_run():
    [warning] = problems(offsets__method="gaia", offsets__server="http://127.0.0.1:9/tap")
    assert not warning.fatal and "catalogue_dir" in warning.text
    assert problems() == []


def test_a_lacking_package_is_told_before_the_run(monkeypatch, tmp_path):
    import importlib.util

    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    refcats.write_positions(tmp_path / "x.fits", np.ones(1), np.ones(1))
    texts = [p.text for p in problems(offsets__method=str(tmp_path / "x.fits"))]
    assert any("bdsf" in text for text in texts) and any("emcee" in text for text in texts)
    texts = [p.text for p in problems(offsets__method=str(tmp_path / "x.fits"),
                                      offsets__fit="chi2")]
    assert not any("emcee" in text for text in texts)


# ---------------------------------------------------------------------- an image


ROOT, SIZE, CELL = "field", 512, 1.5 * ARCSEC
GRID = SkyGrid(10 * DEGREE, 60 * DEGREE, SIZE, SIZE, CELL)
BEAM = (6 * ARCSEC, 6 * ARCSEC, 0.0)
OFFSETS = np.array([[0.9, -0.6], [-0.7, 0.5], [0.4, 1.2], [0.0, 0.0]])
"""Image minus reference (east, north) of the four facets, arcsec."""


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A folder with an image whose facets are displaced, its model, its facets, a reference."""
    folder = tmp_path_factory.mktemp("field")
    rng = np.random.default_rng(4)
    half = SIZE / 2
    corners = [(0, 0), (0, half), (half, 0), (half, half)]
    edges = half * np.array([[0, 0], [0, 1], [1, 1], [1, 0]]) - 0.5
    write_tessel(folder / f"{ROOT}.tessel.reg", [
        FacetOutline(f"S{k}", tuple(float(v) for v in GRID.radec(
            *GRID.lm(*(np.array(c) + half / 2)))),
            np.stack(GRID.radec(*GRID.lm(*(edges + c).T)), axis=1))
        for k, c in enumerate(corners)])
    y, x, flux, places = [], [], [], []
    for k, corner in enumerate(corners):
        place = np.array(corner) + rng.uniform(6, half - 6, (70, 2))
        places.append(place)
        y.append(place[:, 0] + OFFSETS[k, 1] * ARCSEC / CELL)
        x.append(place[:, 1] - OFFSETS[k, 0] * ARCSEC / CELL)
        flux.append(2e-3 * rng.uniform(0, 1, 70) ** -0.8)
    y, x, flux = (np.concatenate(v) for v in (y, x, flux))
    # Half of the flux is known as pixels of a model, the rest is not, as after a shallow clean.
    model = np.zeros((SIZE, SIZE), np.float32)
    np.add.at(model, (np.rint(y).astype(int), np.rint(x).astype(int)), 0.5 * flux)
    noise = 5e-5 * np.fft.irfft2(
        np.fft.rfft2(rng.standard_normal((SIZE, SIZE)))
        * np.exp(-0.5 * (np.hypot(*np.meshgrid(np.fft.fftfreq(SIZE), np.fft.rfftfreq(SIZE),
                                               indexing="ij")) / 0.094) ** 2) * 3)
    residual = add_points(y, x, flux, BEAM, CELL, noise.astype(np.float32))
    residual -= restore(model, np.zeros_like(model), BEAM, CELL)
    restored = restore(model, residual, BEAM, CELL)
    for kind in ("app", "int"):
        write_image(folder / f"{ROOT}.{kind}.restored.fits", restored, GRID, freq=144e6, beam=BEAM)
        write_image(folder / f"{ROOT}.{kind}.model.fits", model, GRID, freq=144e6, unit="Jy/pixel")
    hosts = np.concatenate(places) + rng.normal(0.0, 0.05 * ARCSEC / CELL, (y.size, 2))
    hosts = hosts[rng.uniform(size=y.size) < 0.8]
    chance = rng.uniform(-40, SIZE + 40, (3500, 2))
    refcats.write_positions(folder / "optical.fits", *GRID.radec(
        *GRID.lm(*np.concatenate([hosts, chance]).T)))
    return folder


def settings(method, fit="chi2", mode="normal"):
    config = remeasure.with_offsets(Config(), method=method, fit=fit, mode=mode)
    return replace(config, machine=replace(config.machine, NCPU_DDF=1),
                   control=replace(config.control, logging=None))


def test_an_image_is_measured_corrected_and_found_right(finished, monkeypatch, capsys):
    """Sources of the moved image lie where the reference has them, to a tenth of an arcsecond."""
    monkeypatch.chdir(finished)
    told = remeasure.measure_again(settings("optical.fits"), ROOT, StopFlag(), correct=True,
                                   move=True)
    assert any("clear facets 4" in line for line in told)
    table = read_facet_offsets("optical-facet_offsets.fits")
    found = np.stack([table.east, table.north], axis=1) / ARCSEC
    assert abs(found - OFFSETS).max() < 0.12
    error = np.stack([table.east_error, table.north_error], axis=1) / ARCSEC
    assert (abs(found - OFFSETS) < 4 * error).all() and error.max() < 0.08
    for name in ("facet-offset.txt", "SKO-optical.pdf", "optical-fits.pdf", "optical-compact.png",
                 "optical-fit_state.json", f"{ROOT}.offset_cat.fits", f"{ROOT}.offset.rms.fits",
                 f"{ROOT}.offset_cat_compact.fits", f"{ROOT}.offset.cat.reg"):
        assert (finished / name).stat().st_size > 0, name
    errors = read_image("astromap.fits")
    assert errors.grid.ny == SIZE // 20 and errors.unit == "arcsec"
    assert np.nanmax(errors.plane()) == pytest.approx(np.hypot(*error.T).max(), rel=1e-4)
    lists = [path for path in finished.iterdir() if path.name in ("facet-offset.txt",)]
    before = [path.read_bytes() for path in lists]
    remeasure.measure_again(settings("optical.fits", mode="test"), ROOT, StopFlag(), correct=True)
    left = read_facet_offsets("optical-test-facet_offsets.fits")
    assert abs(np.stack([left.east, left.north]) / ARCSEC).max() < 0.12
    assert [path.read_bytes() for path in lists] == before, "a test corrects nothing"


def test_a_moved_image_keeps_its_fluxes_and_its_sources_on_edges(finished, monkeypatch):
    monkeypatch.chdir(finished)
    if not Path("optical-facet_offsets.fits").exists():
        remeasure.measure_again(settings("optical.fits"), ROOT, StopFlag(), correct=False)
    images = [Path(f"{ROOT}.app.restored.fits")]
    lines = remeasure.apply_shifts(images, Path("optical-facet_offsets.fits"),
                                   Path(f"{ROOT}.tessel.reg"), every=False)
    assert lines == [f"{ROOT}_newshift.app.restored.fits: 3 of 4 facets moved, components drawn "
                     "anew"]
    old, new = (read_image(name).plane() for name in (images[0], f"{ROOT}_newshift.app.restored."
                                                      "fits"))
    assert new.sum() == pytest.approx(old.sum(), rel=2e-3)
    half = SIZE // 2
    np.testing.assert_allclose(new[half + 20:, half + 20:], old[half + 20:, half + 20:],
                               atol=1e-5 * old.max())
    assert not np.allclose(new[:half, :half], old[:half, :half], atol=1e-4)


def test_what_does_not_fit_is_refused(finished, monkeypatch, tmp_path):
    monkeypatch.chdir(finished)
    with pytest.raises(ConfigError, match="offsets-method"):
        remeasure.measure_again(settings(None), ROOT, StopFlag(), correct=True)
    refcats.write_positions(tmp_path / "far.fits", np.ones(5), np.ones(5))
    with pytest.raises(StageFailed, match="0% of the image"):
        remeasure.measure_again(settings(str(tmp_path / "far.fits")), ROOT, StopFlag(),
                                correct=True)
    table = Table.read("optical-facet_offsets.fits")[:2]
    table.write(tmp_path / "two.fits")
    with pytest.raises(DataError, match="4 facets, the table of offsets 2"):
        remeasure.apply_shifts([Path(f"{ROOT}.app.restored.fits")], tmp_path / "two.fits",
                               Path(f"{ROOT}.tessel.reg"), every=True)
    with pytest.raises(DataError, match="no such image"):
        remeasure.apply_shifts([Path("none.fits")], Path("optical-facet_offsets.fits"),
                               Path(f"{ROOT}.tessel.reg"), every=True)
