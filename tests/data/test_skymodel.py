"""Text sky models, those of other programs among them."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ddfpipe.data.images import SkyGrid
from ddfpipe.data.model import PixelModel
from ddfpipe.data.skymodel import (
    TextSkyModel,
    from_pixels,
    parse_dec,
    parse_ra,
    read_skymodel,
    write_skymodel,
)
from ddfpipe.errors import SkyModelError
from ddfpipe.units import ARCSEC, DEGREE

HEAD = ("FORMAT = Name, Type, Patch, Ra, Dec, I, SpectralIndex, LogarithmicSI, "
        "ReferenceFrequency='144e6'")


def model_of(tmp_path, *lines, head=HEAD):
    path = tmp_path / "m.sky"
    path.write_text("\n".join([head, *lines]) + "\n")
    return read_skymodel(path)


@pytest.mark.parametrize(("name", "count", "gaussians"), [
    ("expected.lotss.sky", 1348, 862), ("expected.nvss.sky", 48, 48), ("expected.gsm.sky", 1, 0),
    ("expected.panstarrs.sky", None, 0), ("expected.tgss.sky", 2, 0),
    ("expected.vlssr.sky", 3, 2), ("expected.wenss.sky", 27, 1),
    ("prefactor_3C196-SH-offringa.skymodel", 2813, 1443),
    ("prefactor_3C295-sweijen.skymodel", 2169, 629), ("prefactor_A-Team_lowres.skymodel", 64, 53),
])
def test_models_of_other_programs(shared_data, tmp_path, name, count, gaussians):
    path = shared_data / "catalogues" / name
    model = read_skymodel(path)
    if count is not None:
        assert model.size == count
    assert model.gaussian.sum() == gaussians
    assert np.isfinite(model.flux([1.2e8, 1.6e8])).all()
    again = read_skymodel(write_skymodel(tmp_path / "again.sky", model))
    assert again.name == model.name and again.patch == model.patch
    assert np.abs(again.ra - model.ra).max() < 1e-10 and np.abs(again.dec - model.dec).max() < 1e-10
    assert np.allclose(again.flux(1.5e8), model.flux(1.5e8), rtol=1e-7)
    assert np.allclose(again.major, model.major)
    assert np.allclose(again.orientation, model.orientation)


@pytest.mark.parametrize(("name", "flux"), [("3c48", 64.768), ("3c147", 66.738), ("3c286", 27.477)])
def test_calibrators_have_the_flux_of_scaife_and_heald(shared_data, name, flux):
    """At 150 MHz the polynomials of Scaife & Heald 2012 give their leading coefficient."""
    model = read_skymodel(shared_data / "catalogues" / f"prefactor_{name}-SH.skymodel")
    assert model.flux(150e6)[0, 0] == pytest.approx(flux, rel=0.02)


def test_angles():
    assert parse_ra("13:58:00.0") == pytest.approx((13 + 58 / 60) * 15 * DEGREE)
    assert parse_ra("13h58m00.0s") == pytest.approx(parse_ra("13:58:00.0"))
    assert parse_ra("-10:06:00") == pytest.approx(2 * math.pi - 10.1 * 15 * DEGREE)
    assert parse_ra("209.5") == pytest.approx(209.5 * DEGREE)
    assert parse_dec("-00.30.00.5") == pytest.approx(-(0.5 + 0.5 / 3600) * DEGREE)
    assert parse_dec("+031.39.42.012") == pytest.approx((31 + 39 / 60 + 42.012 / 3600) * DEGREE)
    assert parse_dec("49.51.07") == pytest.approx((49 + 51 / 60 + 7 / 3600) * DEGREE)
    assert parse_dec("33.5") == pytest.approx(33.5 * DEGREE)
    assert parse_dec("-54:30:00") == pytest.approx(-54.5 * DEGREE)
    for text in ("", "abc", "1:2:3:4", "10:70:00"):
        with pytest.raises(ValueError):
            parse_ra(text)


def test_spectra_patches_and_defaults(tmp_path):
    model = model_of(
        tmp_path, ", , dir00, 13:58:00.0, +54.30.00.0",
        "s0, POINT, dir00, 13:58:00.0, +54.30.00.0, 2.0, [-0.7, 0.1], true",
        "s1, POINT, dir00, 13:58:00.0, +54.30.00.0, 2.0, [-0.7], false, 72e6",
    )
    assert model.size == 2 and model.patch == ("dir00", "dir00")
    x = math.log10(2.0)
    assert model.flux(288e6)[0, 0] == pytest.approx(2.0 * 10 ** (-0.7 * x + 0.1 * x * x))
    assert model.flux(144e6)[0, 1] == pytest.approx(2.0 - 0.7 * 1.0)


@pytest.mark.parametrize("line", [
    "s0, SHAPELET, p, 1:00:00, 2.00.00, 1.0, [], true",
    "s0, POINT, p, east, 2.00.00, 1.0, [], true",
    "s0, POINT, p, 1:00:00, 2.00.00, bright, [], true",
    "s0, POINT, p, 1:00:00, 2.00.00, 1.0, [], true, 1e8, 7, 8",
])
def test_bad_lines_are_named(tmp_path, line):
    with pytest.raises(SkyModelError, match="m.sky, line 2"):
        model_of(tmp_path, line)


def test_files_without_format_or_sources(tmp_path):
    with pytest.raises(SkyModelError, match="FORMAT"):
        model_of(tmp_path, "s0, POINT, , 1:00:00, 2.00.00, 1.0", head="")
    with pytest.raises(SkyModelError, match="no sources"):
        model_of(tmp_path)
    with pytest.raises(SkyModelError, match="none.sky"):
        read_skymodel(tmp_path / "none.sky")


@settings(max_examples=30, deadline=None)
@given(st.floats(10, 50), st.floats(10, 50))
def test_points_keep_flux_and_place(y, x):
    grid = SkyGrid(3.65, 0.95, 60, 62, 1.5 * ARCSEC)
    ra, dec = grid.radec(*grid.lm(y, x))
    one = np.ones(1)
    model = TextSkyModel(("a",), ("",), np.zeros(1, bool), np.array([ra]), np.array([dec]),
                         2.0 * np.ones((4, 1)), 1.44e8 * one, np.full((1, 1), -1.0),
                         np.ones(1, bool), 0 * one, 0 * one, 0 * one, np.zeros(1, bool))
    pixels = model.to_pixels(grid, [1.44e8, 2.88e8])
    assert np.allclose(pixels.total_flux, [2.0, 1.0], rtol=1e-6)
    assert pixels.size == 1
    py, px = pixels.place()
    assert py[0] == pytest.approx(y, abs=1e-4) and px[0] == pytest.approx(x, abs=1e-4)
    shown = pixels.cube()[0] / 2.0  # four pixels, flux and centroid kept
    assert np.count_nonzero(shown) <= 4 and shown.sum() == pytest.approx(1.0, rel=1e-6)
    assert shown.sum(axis=1) @ np.arange(60) == pytest.approx(y, abs=1e-4)
    assert shown.sum(axis=0) @ np.arange(62) == pytest.approx(x, abs=1e-4)


def test_gaussians_have_their_flux_shape_and_angle(tmp_path):
    grid = SkyGrid(3.65, 0.95, 200, 200, 1.5 * ARCSEC)
    ra, dec = (float(v) / DEGREE for v in grid.radec(0.0, 0.0))
    head = "FORMAT = Name, Type, Ra, Dec, I, MajorAxis, MinorAxis, Orientation"
    model = model_of(tmp_path, f"g, GAUSSIAN, {ra:.9f}, {dec:.9f}, 3.0, 60, 20, 30", head=head)
    pixels = model.to_pixels(grid, 1.4e8)
    assert pixels.total_flux[0] == pytest.approx(3.0, rel=1e-5)
    l, m = pixels.lm()  # noqa: E741
    w = pixels.flux[0] / 3.0
    second = np.array([[w @ (m * m), w @ (l * m)], [w @ (l * m), w @ (l * l)]])
    values, vectors = np.linalg.eigh(second)
    fwhm = 2.3548 * np.sqrt(values) / ARCSEC
    assert np.allclose(fwhm, [20, 60], rtol=0.01)
    angle = math.degrees(math.atan2(vectors[1, 1], vectors[0, 1])) % 180
    assert angle == pytest.approx(30, abs=0.3)


def test_absolute_orientation_follows_north(tmp_path):
    grid = SkyGrid(1.0, 1.4, 10, 10, 1.0 * ARCSEC)
    head = "FORMAT = Name, Type, Ra, Dec, I, Orientation, OrientationIsAbsolute"
    ra, dec = 1.0 / DEGREE + 5.0, 1.4 / DEGREE
    model = model_of(tmp_path, f"a, GAUSSIAN, {ra:.9f}, {dec:.9f}, 1, 10, true",
                     f"b, GAUSSIAN, {ra:.9f}, {dec:.9f}, 1, 10, false", head=head)
    angle = np.degrees(model.angle_on(grid))
    # East of the centre near the pole, north leans to the west by about d(ra) sin(dec).
    assert angle[1] == pytest.approx(10.0)
    assert angle[0] == pytest.approx(10.0 - 5.0 * math.sin(1.4), abs=0.05)


def test_a_pixel_model_becomes_points_and_comes_back(tmp_path):
    grid = SkyGrid(3.65, 0.95, 50, 50, 1.5 * ARCSEC)
    cube = np.zeros((2, 50, 50), np.float32)
    cube[:, 10, 12], cube[:, 30, 31] = (2.0, 1.5), (1.0, -0.2)
    model = PixelModel.from_cube(cube, grid, [1.2e8, 1.6e8])
    text = read_skymodel(write_skymodel(tmp_path / "p.sky", from_pixels(model, 1.4e8)))
    assert np.allclose(text.flux([1.2e8, 1.4e8, 1.6e8]), model.at([1.2e8, 1.4e8, 1.6e8]), atol=1e-6)
    again = text.to_pixels(grid, [1.2e8, 1.6e8])
    assert np.abs(again.cube() - cube).max() < 1e-4


@pytest.mark.parametrize("text, degrees", [
    ("212.8deg", 212.8), ("52 Deg", 52.0), ("5.2e1deg", 52.0), ("1.5rad", np.degrees(1.5)),
])
def test_angles_with_a_unit(text, degrees):
    assert np.degrees(parse_ra(text)) == pytest.approx(degrees)
    assert np.degrees(parse_dec("-" + text)) == pytest.approx(-degrees)


@pytest.mark.parametrize("text", ["deg", "12:30deg", "1.2.3rad", "", "12 arcsec"])
def test_what_is_no_angle(text):
    with pytest.raises(ValueError):
        parse_ra(text)
