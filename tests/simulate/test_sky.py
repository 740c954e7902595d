"""Sources: positions, counts, text in and out."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ddfpipe.errors import SkyModelError
from ddfpipe.simulate.sky import (
    Source,
    fluxes,
    lmn_of,
    radec_of,
    random_field,
    read_skymodel,
    write_skymodel,
)
from ddfpipe.simulate.spec import Sky
from ddfpipe.units import ARCSEC, DEGREE


@settings(max_examples=60, deadline=None)
@given(
    st.floats(0, 2 * math.pi), st.floats(-1.5, 1.5), st.floats(-0.1, 0.1), st.floats(-0.1, 0.1)
)
def test_direction_cosines_round_trip(ra0, dec0, l, m):
    ra, dec = radec_of(l, m, ra0, dec0)
    found = lmn_of(ra, dec, ra0, dec0)
    np.testing.assert_allclose(found, [l, m, math.sqrt(1 - l * l - m * m) - 1], atol=1e-14)


def test_direction_cosines_equal_astropys():
    from astropy.coordinates import SkyCoord

    centre = SkyCoord(210, 50, unit="deg")
    there = SkyCoord([213, 205.0, 210], [51.5, 47.0, 50], unit="deg")
    lon, lat = (x.rad for x in centre.spherical_offsets_to(there))
    lmn = lmn_of(there.ra.rad, there.dec.rad, centre.ra.rad, centre.dec.rad)
    np.testing.assert_allclose(lmn[:, 0], np.cos(lat) * np.sin(lon), atol=1e-12)
    np.testing.assert_allclose(lmn[:, 1], np.sin(lat), atol=1e-12)


def test_random_field_follows_its_counts():
    spec = Sky(n_sources=200, radius_deg=1.5, brightest_jy=5.0, count_slope=1.25, n_bright=8,
               separation_deg=0.6, n_gaussian=20, extended_jy=0.7, extended_arcsec=100.0)
    field = random_field(spec, 3.0, 0.9, np.random.default_rng(5))
    flux = np.array([s.flux for s in field[:-1]])
    assert len(field) == 201 and flux[0] == 5.0
    for limit in (1.0, 0.2):
        assert abs((flux >= limit).sum() - (limit / 5.0) ** -1.25) <= 1
    lmn = lmn_of([s.ra for s in field], [s.dec for s in field], 3.0, 0.9)
    radius = np.arcsin(np.hypot(lmn[:, 0], lmn[:, 1])) / DEGREE
    assert radius.max() <= 1.5 and 0.6 < np.mean(radius[:-1] / 1.5) < 0.73  # 2/3 for a disc
    apart = np.linalg.norm(lmn[:8, None, :2] - lmn[None, :8, :2], axis=-1) + np.eye(8)
    assert apart.min() > 0.59 * DEGREE
    sizes = np.array([s.major for s in field])
    assert (sizes[:-1] > 0).sum() == 20 and (sizes[:100] == 0).all()
    assert sizes[-1] == pytest.approx(100 * ARCSEC) and field[-1].flux == 0.7


def test_bright_sources_that_do_not_fit_are_refused():
    spec = Sky(n_sources=10, n_bright=10, radius_deg=0.5, separation_deg=1.5)
    with pytest.raises(SkyModelError, match="separation_deg"):
        random_field(spec, 0.0, 0.9, np.random.default_rng(0))


@settings(max_examples=30, deadline=None)
@given(
    st.floats(0, 2 * math.pi, exclude_max=True), st.floats(-1.57, 1.57), st.floats(1e-6, 1e4),
    st.lists(st.floats(-2, 2), min_size=1, max_size=3), st.booleans(),
)
def test_skymodel_text_round_trip(tmp_path_factory, ra, dec, flux, index, extended):
    size = (30 * ARCSEC, 10 * ARCSEC, 1.0) if extended else (0.0, 0.0, 0.0)
    path = tmp_path_factory.mktemp("sky") / "x.skymodel"
    source = Source("a", ra, dec, flux, tuple(index), 150e6, *size)
    write_skymodel([source], path)
    (found,) = read_skymodel(path)
    turn = (found.ra - ra + math.pi) % (2 * math.pi) - math.pi
    assert abs(turn) < 5e-11 and abs(found.dec - dec) < 5e-11
    assert (found.flux, found.spectral_index, found.ref_freq) == (flux, tuple(index), 150e6)
    np.testing.assert_allclose([found.major, found.minor, found.pa], size, atol=1e-8)


def test_other_writers_models_are_read(shared_data):
    catalogue = read_skymodel(shared_data / "catalogues" / "expected.lotss.sky")
    assert len(catalogue) == 1348
    for name, jansky in (("3c48-SH", 64.768), ("3C196-SH-offringa", 83.084)):
        sources = read_skymodel(shared_data / "catalogues" / f"prefactor_{name}.skymodel")
        total = fluxes(sources, np.array([150e6])).sum()
        assert total == pytest.approx(jansky, rel=0.05)


@pytest.mark.parametrize(
    "line, said",
    [
        ("s, SHAPELET, 14:00:00.0, +50.00.00.0, 1.0", "SHAPELET"),
        ("s, POINT, 14h00, +50.00.00.0, 1.0", "14h00"),
        ("s, GAUSSIAN, 14:00:00.0, +50.00.00.0, 1.0", "majoraxis"),
    ],
)
def test_unusable_lines_are_named(tmp_path, line, said):
    path = tmp_path / "bad.skymodel"
    path.write_text(f"FORMAT = Name, Type, Ra, Dec, I\n{line}\n")
    with pytest.raises(SkyModelError, match=said) as caught:
        read_skymodel(path)
    assert "line 2" in str(caught.value)
    path.write_text("FORMAT = Name, Type, Ra, Dec, I\n")
    with pytest.raises(SkyModelError, match="no sources"):
        read_skymodel(path)
