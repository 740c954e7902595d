"""DDFacet's DicoModels: the kinds of components, their place on the sky, and what is refused."""

import os
import pickle

import numpy as np
import pytest

from ddfpipe.data.dicomodel import dico_grid, read_dico, read_dicomodel, write_dicomodel
from ddfpipe.data.dicopickle import read_pickle, write_pickle
from ddfpipe.data.images import SkyGrid, write_image
from ddfpipe.data.model import PixelModel
from ddfpipe.errors import SkyModelError
from ddfpipe.units import ARCSEC

GRID = SkyGrid(3.6, 0.95, 21, 21, 1.5 * ARCSEC)
FREQ = np.array([1.2e8, 1.44e8, 1.7e8])


def dico(kind, components, **more):
    return {"Type": kind, "RefFreq": 1.44e8, "ModelShape": [1, 1, 21, 21], "Comp": components,
            "GD": {"Image": {"Cell": 1.5, "PhaseCenterRADEC": None}}, **more}


def put(tmp_path, content, protocol=2):
    path = tmp_path / "image.DicoModel"
    path.write_bytes(pickle.dumps(content, protocol))
    return path


@pytest.mark.parametrize("protocol", [2, 5])
def test_log_polynomials_at_the_right_place(tmp_path, protocol):
    """Pixel (a, b): a grows to the east, b to the north."""
    vals = np.array([2.0, -0.8, 0.3], np.float32)
    path = put(tmp_path, dico("SSD2", {(12, 8): {"Vals": [vals]}, (10, 10): {"Vals": [vals * 0]}},
                              SolveParam=["Poly0", "Poly1", "Poly2"]), protocol)
    model = read_dicomodel(path, grid=GRID, freq=FREQ)
    cube = model.cube()
    x = np.log(FREQ / 1.44e8)
    np.testing.assert_allclose(cube[:, 8, 21 - 1 - 12], 2 * np.exp(-0.8 * x + 0.3 * x * x),
                               rtol=1e-6)
    assert np.count_nonzero(cube[0]) == 1
    l, m = model.select(model.flux[0] != 0).lm()
    np.testing.assert_allclose([l[0], m[0]], np.array([2, -2]) * GRID.cell)


def test_default_bands_describe_the_spectra(tmp_path):
    vals = [np.array([1.0, -0.7], np.float32)]
    path = put(tmp_path, dico("SSD2", {(3, 4): {"Vals": vals}}, SolveParam=["Poly0", "Poly1"]))
    model = read_dicomodel(path, grid=GRID)
    assert model.freq.size == 2
    np.testing.assert_allclose(model.at(FREQ)[:, 0], (FREQ / 1.44e8) ** -0.7, rtol=1e-6)


def test_steep_spectra_get_bands_enough(tmp_path):
    """Faint components of DDFacet can have any index."""
    vals = [np.array([1.0, -9.0], np.float32)]
    path = put(tmp_path, dico("SSD2", {(3, 4): {"Vals": vals}}, SolveParam=["Poly0", "Poly1"]))
    model = read_dicomodel(path, grid=GRID)
    np.testing.assert_allclose(model.at(FREQ)[:, 0], (FREQ / 1.44e8) ** -9.0, rtol=0.03)


def test_old_kinds(tmp_path):
    values = [np.array([1.0, -0.7]), np.array([2.0, 0.0])]
    path = put(tmp_path, dico("GA", {(3, 4): {"Vals": values}}, SolveParam=["S", "Alpha"]))
    np.testing.assert_allclose(read_dicomodel(path, grid=GRID, freq=FREQ).flux[:, 0],
                               (FREQ / 1.44e8) ** -0.7 + 2, rtol=1e-6)
    path = put(tmp_path, dico("Hogbom", {(3, 4): {"SolsArray_I": np.array([1.0, 0.5, -0.2])},
                                         (5, 5): {"SolsArray_V": np.array([1.0, 0.5, -0.2])}}))
    y = FREQ / 1.44e8
    model = read_dicomodel(path, grid=GRID, freq=FREQ)
    assert model.size == 1
    np.testing.assert_allclose(model.flux[:, 0], 1 + 0.5 * y - 0.2 * y * y, rtol=1e-6)


def test_scales_are_drawn_as_they_lie(tmp_path):
    shape = np.arange(1.0, 26.0).reshape(5, 5)
    scales = [{"ModelType": "Delta", "Alpha": 0.0}, {"ModelType": "Gaussian", "Alpha": -1.0,
                                                     "Model": shape}]
    path = put(tmp_path, dico("HMP", {(7, 12): {"SolsArray": np.array([[0.0], [2.0]])},
                                      (0, 20): {"SolsArray": np.array([[3.0], [1.0]])}},
                              ListScales=scales))
    cube = read_dicomodel(path, grid=GRID, freq=FREQ).cube()
    want = np.zeros((21, 21))  # on DDFacet's axes (a, b)
    want[5:10, 10:15] += 2 * shape
    want[0:3, 18:21] += shape[2:, :3]
    for band, freq in enumerate(FREQ):
        here = want * (1.44e8 / freq)
        here[0, 20] += 3
        np.testing.assert_allclose(cube[band], here[::-1].T, rtol=1e-6)


def test_where_it_lies(tmp_path):
    path = put(tmp_path, dico("SSD2", {(3, 4): {"Vals": [np.ones(1)]}}, SolveParam=["Poly0"]))
    with pytest.raises(SkyModelError, match="where on the sky"):
        read_dicomodel(path)
    write_image(tmp_path / "image.dirty.fits", np.zeros((21, 21)), GRID, freq=1.44e8)
    assert dico_grid(path, read_dico(path)).same(GRID)
    write_image(tmp_path / "other.fits", np.zeros((5, 5)), SkyGrid(1, 1, 5, 5, 1e-5), freq=1.44e8)
    with pytest.raises(SkyModelError, match="of the same run"):
        read_dicomodel(path, image=tmp_path / "other.fits")
    (tmp_path / "image.dirty.fits").unlink()
    content = read_pickle(path)
    content["GD"]["Image"]["PhaseCenterRADEC"] = ["13:45:00", "+54:30:00"]
    grid = dico_grid(path, read_dico(put(tmp_path, content)))
    np.testing.assert_allclose([grid.ra, grid.dec, grid.cell],
                               [np.radians(206.25), np.radians(54.5), 1.5 * ARCSEC])


def test_nothing_in_a_file_is_run(tmp_path):
    class Trap:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "sprung"),)

    for inside in (Trap(), [np.zeros(2), {"x": Trap()}], np.array([Trap()], object)):
        content = dico("SSD2", {}, SolveParam=["Poly0"], extra=inside)
        with pytest.raises(SkyModelError, match="refused or damaged.*mkdir"):
            read_dicomodel(put(tmp_path, content), grid=GRID)
    for code in (b"cbuiltins\neval\n(S'1'\ntR.", b"cnumpy\nload\n(S'x'\ntR.",
                 b"cnumpy._core.multiarray\nfromfile\n."):
        (tmp_path / "x").write_bytes(code)
        with pytest.raises(SkyModelError, match="refused"):
            read_pickle(tmp_path / "x")
    assert not (tmp_path / "sprung").exists()


def test_refusals(tmp_path):
    with pytest.raises(SkyModelError, match="no such file"):
        read_dico(tmp_path / "none.DicoModel")
    (tmp_path / "x").write_bytes(pickle.dumps(dico("SSD2", {}), 2)[:60])
    with pytest.raises(SkyModelError, match="damaged|not a readable"):
        read_dico(tmp_path / "x")
    for content, match in (
            ({"a": 1}, "not a DicoModel"), (dico("WSCMS", {}), "mode WSCMS"),
            (dico("SSD2", {(1, 2): {"Vals": [np.ones(2)]}}, SolveParam=["Poly0", "GSig"]), "GSig"),
            (dico("SSD2", {(1, 2): {}}, SolveParam=["Poly0"]), "KeyError"),
            (dico("SSD2", {(1, 99): {"Vals": [np.ones(1)]}}, SolveParam=["Poly0"]), "outside")):
        with pytest.raises(SkyModelError, match=match):
            read_dico(put(tmp_path, content))
    path = put(tmp_path, dico("SSD2", {(1, 2): {"Vals": [np.array([np.nan])]}},
                              SolveParam=["Poly0"]))
    with pytest.raises(SkyModelError, match="NaN"):
        read_dicomodel(path, grid=GRID)
    with pytest.raises(SkyModelError, match="21 x 21"):
        read_dicomodel(path, grid=SkyGrid(1, 1, 5, 5, 1e-5))


def test_ours_written_and_read(tmp_path):
    cube = np.zeros((3, 21, 21), np.float32)
    cube[:, 3, 4] = (1.0, 0.9, 0.7)
    cube[:, 10, 20] = (-1.0, -1.1, -1.3)
    cube[:, 5, 5] = (1.0, 0.0, -0.4)
    model = PixelModel.from_cube(cube, GRID, FREQ)
    assert write_dicomodel(tmp_path / "a.DicoModel", model) == 1
    back = read_dicomodel(tmp_path / "a.DicoModel", grid=GRID, freq=FREQ).cube()
    cube[:, 5, 5] = 0.2
    np.testing.assert_allclose(back, cube, rtol=1e-5)
    plain = pickle.loads((tmp_path / "a.DicoModel").read_bytes())  # as DDFacet does
    assert plain["Comp"][16, 3]["Vals"][0].dtype == np.float32
    assert plain["SolveParam"] == ["Poly0", "Poly1", "Poly2"]


def test_options_are_taken_along(tmp_path):
    path = put(tmp_path, dico("SSD2", {}, SolveParam=["Poly0"]))
    write_dicomodel(tmp_path / "a.DicoModel", PixelModel.empty(GRID, FREQ), like=path)
    assert read_dico(tmp_path / "a.DicoModel").parset == read_pickle(path)["GD"]
    with pytest.raises(SkyModelError, match="odd number"):
        write_dicomodel(tmp_path / "b", PixelModel.empty(SkyGrid(1, 1, 20, 20, 1e-5), FREQ))
    assert not (tmp_path / "b").exists()


def test_points_between_pixels_keep_flux_and_centroid(tmp_path):
    model = PixelModel.from_points(GRID, FREQ[:1], [7.25], [9.5], np.array([[2.0]]))
    write_dicomodel(tmp_path / "a", model)
    back = read_dicomodel(tmp_path / "a", grid=GRID)
    y, x = back.yx()
    flux = back.flux[0]
    np.testing.assert_allclose([flux.sum(), (flux * y).sum() / 2, (flux * x).sum() / 2],
                               [2.0, 7.25, 9.5], rtol=1e-6)


def test_pickles_are_free_of_internal_names(tmp_path):
    """numpy 2 renamed what its own pickles refer to; older ones could not read them."""
    write_pickle(tmp_path / "a", {"x": [np.arange(3, dtype=np.float32)]})
    raw = (tmp_path / "a").read_bytes()
    assert b"_core" not in raw and b"multiarray" not in raw
