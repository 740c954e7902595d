"""Catalogues in all their forms come out in radians, Jy and Hz; what is wrong is told."""

from __future__ import annotations

import numpy as np
import pytest
from astropy.table import MaskedColumn, Table

from ddfpipe.data.surveys import read_survey
from ddfpipe.errors import DataError
from ddfpipe.units import ARCSEC, DEGREE

RA, DEC, FLUX = np.array([10.5, 200.25, 359.75]), np.array([-5.0, 45.5, 80.25]), np.array(
    [1.0, 0.02, 3.5])


def check(found, flux=FLUX):
    np.testing.assert_allclose(found.ra / DEGREE, RA, atol=1e-6)
    np.testing.assert_allclose(found.dec / DEGREE, DEC, atol=1e-6)
    np.testing.assert_allclose(found.flux, flux, rtol=1e-6)


def table(unit="mJy", scale=1e3) -> Table:
    made = Table({"RA": RA, "DEC": DEC, "Total_flux": FLUX * scale, "Maj": [30.0, 25.0, 60.0],
                  "Source_name": ["a", "b", "c"], "E_Total_flux": FLUX * scale * 0.1})
    made["RA"].unit = made["DEC"].unit = "deg"
    made["Total_flux"].unit = made["E_Total_flux"].unit = unit
    made["Maj"].unit = "arcsec"
    return made


@pytest.mark.parametrize("name, form", [("a.fits", "fits"), ("a.vot", "votable"),
                                        ("a.xml", "votable")])
def test_tables_with_units(tmp_path, name, form):
    table().write(tmp_path / name, format=form)
    found = read_survey(tmp_path / name, frequency=150e6)
    check(found)
    np.testing.assert_allclose(found.major / ARCSEC, [30, 25, 60], rtol=1e-6)
    np.testing.assert_allclose(found.flux_error, FLUX * 0.1)
    assert (found.frequency == 150e6).all() and list(found.name) == ["a", "b", "c"]


@pytest.mark.parametrize("unit, scale", [("Jy", 1.0), ("mJy/beam", 1e3), ("uJy", 1e6)])
def test_units_of_flux(tmp_path, unit, scale):
    table(unit, scale).write(tmp_path / "a.fits")
    check(read_survey(tmp_path / "a.fits"))


def test_fluxes_without_a_unit(tmp_path):
    table(None).write(tmp_path / "a.fits")
    notes: list[str] = []
    check(read_survey(tmp_path / "a.fits", notes=notes), FLUX * 1e3)
    assert notes[0].endswith("column Total_flux has no unit, it is read as Jy")
    check(read_survey(tmp_path / "a.fits", flux_divisor=1e3))
    check(read_survey(tmp_path / "a.fits", unitless_divisor=1e3))
    table("mJy").write(tmp_path / "b.fits")
    check(read_survey(tmp_path / "b.fits", unitless_divisor=7.0))


def test_sexagesimal_text_and_missing_values(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("name,raj2000,dej2000,fint\nx,00:42:00.0,-05:00:00,1.0\n"
                    "y,13 21 00,+45 30 00,0.02\nz,23:59:00,80:15:00,3.5\n")
    check(read_survey(path))
    made = table("Jy", 1.0)
    made["RA"] = MaskedColumn(RA, mask=[False, True, False], unit="deg")
    made.write(tmp_path / "a.fits")
    notes: list[str] = []
    assert read_survey(tmp_path / "a.fits", notes=notes).size == 2
    assert "1 rows without a position" in notes[0]


def test_columns_can_be_named(tmp_path):
    made = table("Jy", 1.0)
    made.rename_column("RA", "LON")
    made.rename_column("Total_flux", "S151")
    made.write(tmp_path / "a.fits")
    with pytest.raises(DataError, match="no column for ra among LON"):
        read_survey(tmp_path / "a.fits")
    check(read_survey(tmp_path / "a.fits", columns={"ra": "lon", "flux": "S151"}))
    with pytest.raises(DataError, match="no column S152 for flux"):
        read_survey(tmp_path / "a.fits", columns={"ra": "LON", "flux": "S152"})
    with pytest.raises(DataError, match="colour is no column"):
        read_survey(tmp_path / "a.fits", columns={"colour": "x"})


def test_sky_models(tmp_path):
    path = tmp_path / "a.sky"
    path.write_text("FORMAT = Name, Type, Ra, Dec, I, ReferenceFrequency='74e6', MajorAxis\n"
                    "s0, POINT, 00:42:00, -5.00.00, 1.0\n"
                    "s1, GAUSSIAN, 13:21:00, +45.30.00, 0.02, , 12\n"
                    "s2, POINT, 23:59:00, +80.15.00, 3.5\n")
    found = read_survey(path)
    check(found)
    assert (found.frequency == 74e6).all()
    assert found.major[1] == pytest.approx(12 * ARCSEC)


@pytest.mark.parametrize("content, told", [
    (None, "cannot be read"), (b"", "is empty"), (b"SIMPLE  =   T garbage", "not a readable fits"),
    (b"<?xml version='1.0'?><VOTABLE>", "not a readable votable"),
    (b"one two\n1 2 3\n", "not a readable text|no column"), (b"a,b\n1,2\n", "no column for ra"),
])
def test_unreadable_catalogues_are_named(tmp_path, content, told):
    path = tmp_path / "cat"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DataError, match=told) as caught:
        read_survey(path)
    assert str(path) in str(caught.value)


def test_words_in_number_columns_are_told(tmp_path):
    (tmp_path / "a.csv").write_text("ra,dec,flux\n1,2,bright\n3,4,5\n")
    with pytest.raises(DataError, match="flux holds no numbers"):
        read_survey(tmp_path / "a.csv")
    (tmp_path / "a.csv").write_text("ra,dec\nhere,2\n3,4\n")
    with pytest.raises(DataError, match="column ra, row 1"):
        read_survey(tmp_path / "a.csv")
