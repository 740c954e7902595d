"""Names of products, put together and taken apart."""

from pathlib import Path

import pytest

from ddfpipe import naming


@pytest.mark.parametrize("root", ["image_phase1", "image_full_ampphase_di_m.NS", "a.b.c"])
@pytest.mark.parametrize("kind", sorted(naming.IMAGE_SUFFIXES))
def test_image_products_both_ways(root, kind):
    name = naming.image_product(root, kind)
    assert naming.parse_image_product(Path("/some/where") / name) == naming.ImageFile(root, kind)


@pytest.mark.parametrize("kind", sorted(naming.NUMBERED_SUFFIXES))
@pytest.mark.parametrize("cycle", [1, 12, 123])
def test_numbered_products_both_ways(kind, cycle):
    name = naming.image_product("image_low", kind, cycle)
    assert naming.parse_image_product(name) == naming.ImageFile("image_low", kind, cycle)


def test_exact_names():
    assert naming.image_product("R", "app_restored") == "R.app.restored.fits"
    assert naming.image_product("R", "norm") == "R.Norm.fits"
    assert naming.image_product("R", "residual", 1) == "R.residual01.fits"
    assert naming.mask_of("R.app.restored.fits") == "R.app.restored.fits.mask.fits"
    assert naming.masked_image("R.app.restored.fits.mask.fits") == "R.app.restored.fits"
    assert naming.masked_image("R.app.restored.fits") is None
    assert naming.extended_masks("full") == ("full-mask-low.fits", "full-mask-high.fits")
    path = naming.solution_file(Path("SOLSDIR"), "/data/L1_x.ms", "DDS0_smoothed")
    assert str(path) == "SOLSDIR/L1_x.ms/killMS.DDS0_smoothed.sols.npz"
    assert naming.merged_file("DDS0", 4999.126, True) == "DDS0_4999.13_smoothed.npz"


def test_solutions_both_ways():
    path = naming.solution_file(Path("S"), "x.ms", "DDS3_full_slow")
    assert naming.parse_solution_file(path) == ("x.ms", "DDS3_full_slow")
    assert naming.solution_table(path) == Path("S/x.ms/DDS3_full_slow.h5")
    assert naming.parse_merged_file(naming.merged_file("DDS3_full_slow", 5e9, False)) == (
        "DDS3_full_slow", 5e9, False)
    assert naming.solution_name("DDS0", True) == "DDS0_smoothed"


def test_logs_both_ways():
    assert naming.parse_log_name(naming.log_name("image_full.NS")) == "image_full.NS"
    assert naming.parse_log_name("DDS0.log.3") == "DDS0"


@pytest.mark.parametrize("name", [
    "image_phase1", ".fits", "R.app.restored.fits.mask.fits", "summary.txt", "R.residual1.fits",
])
def test_other_names_are_no_products(name):
    assert naming.parse_image_product(name) is None
    assert naming.parse_solution_file(name) is None and naming.parse_merged_file(name) is None


def test_a_numbered_product_needs_its_number():
    with pytest.raises(KeyError):
        naming.image_product("R", "mask")
