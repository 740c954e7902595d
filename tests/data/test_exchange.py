"""Conversion by `scripts/convert.py`: pairs, guesses, refusals, what arrives on the other side."""

import importlib.util
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from make_ms import Spec, write_ms

from ddfpipe.calibration.gains import GainTable
from ddfpipe.data.clusters import make_directions, read_clusters, write_clusters
from ddfpipe.data.dicomodel import read_dicomodel
from ddfpipe.data.formats import FORMATS, READ_ONLY, check_options, guess, pairs
from ddfpipe.data.gainfitting import fit_to_ms, join
from ddfpipe.data.h5parm import read_h5parm, write_h5parm
from ddfpipe.data.images import SkyGrid, read_image, write_image
from ddfpipe.data.killms import read_killms, write_killms
from ddfpipe.data.masks import read_mask
from ddfpipe.data.model import PixelModel, load_model, save_model
from ddfpipe.data.ms import read_metadata
from ddfpipe.data.regions import FacetOutline, read_tessel, write_tessel
from ddfpipe.data.skymodel import read_skymodel
from ddfpipe.errors import ConfigError, SkyModelError, SolveError
from ddfpipe.units import ARCSEC, DEGREE

ROOT = Path(__file__).resolve().parents[2]
GRID = SkyGrid(3.6, 0.95, 21, 21, 20 * ARCSEC)


@pytest.fixture(scope="module")
def convert():
    spec = importlib.util.spec_from_file_location("convert_script", ROOT / "scripts/convert.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)

    def run(*words):
        module.main([str(word) for word in words])

    return run


@pytest.fixture(scope="module")
def ms(tmp_path_factory):
    path = tmp_path_factory.mktemp("ms") / "a.ms"
    write_ms(path, Spec())
    return path


def gains_for(info, n_dir=2, n_corr=1, stations=None, times=3, freqs=2, seed=0):
    """A random table on intervals of a measurement set."""
    rng = np.random.default_rng(seed)
    stations = list(info.ant_names) if stations is None else stations
    shape = (times, freqs, len(stations), n_dir, n_corr)
    low, high = info.time_range
    t = np.linspace(low, high, times + 1)
    f = np.linspace(*info.freq_range, freqs + 1)
    return GainTable(np.stack([t[:-1], t[1:]], 1), np.stack([f[:-1], f[1:]], 1),
                     np.exp(rng.normal(size=shape) * 0.2 + 1j * rng.normal(size=shape)), stations,
                     np.array([[3.2, 0.6], [3.25, 0.65], [3.1, 0.55]])[:n_dir])


def test_every_pair_has_a_reader_and_a_writer():
    table = pairs()
    assert table["killms"] == ["killms", "h5parm", "clustercat", "points", "list"]
    assert table["region"] == ["mask"] and "region" not in sum(table.values(), [])
    assert set(table) == set(FORMATS) and READ_ONLY == ("region",)
    assert all("clustercat" in table[name] for name in ("tessel", "h5parm", "points"))


@pytest.mark.parametrize("name, other, found", [
    ("killMS.DDS0.sols.npz", None, "killms"), ("image.model.npz", None, "model"),
    ("a.DicoModel", None, "dicomodel"), ("a.tessel.reg", None, "tessel"),
    ("a.int.model.fits", None, "modelimage"), ("ws-0000-model.fits", None, "modelimage"),
    ("a.fits", "model", "modelimage"), ("a.fits", "region", "mask"), ("a.fits", None, None),
    ("a.reg", "mask", "region"), ("a.reg", "clustercat", "points"), ("a.reg", None, None),
    ("a.h5parm", None, "h5parm"), ("nodes.npy", None, "clustercat"), ("a.xyz", "model", None)])
def test_names_tell_formats(name, other, found):
    assert guess(Path(name), other) == found


@pytest.mark.parametrize("words, match", [
    (("a.xyz", "b.h5"), "--from"), (("a.npz", "b.xyz"), "--to"),
    (("a.npz", "b.model.npz"), "killms cannot be converted to model"),
    (("a.npz", "b.h5", "--to", "hdf"), "no format hdf"),
    (("a.npz", "b.h5", "--image", "x.fits"), "--image has no meaning for killms to h5parm"),
    (("a.npz", "b.h5", "--solset", "x"), "--solset"), (("a.npz", "b.h5", "--fill"), "without --ms"),
    (("a.sky", "b.skymodel", "--freq", "1"), "--freq"),
    (("a.sky", "b.model.npz", "--patches", "x.npy"), "--patches"),
    (("a.sky", "b.model.npz", "--freq", "one"), "MHz"), (("a.sky", "b.sky", "--mss", "x"), "mss"),
    (("a.reg", "b.mask.fits"), "--image")])
def test_wrong_use_is_told_before_anything_is_read(convert, tmp_path, monkeypatch, words, match):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=match):
        convert(*words)
    assert not list(tmp_path.iterdir())


def test_every_option_is_used_by_some_pair():
    for option in ("--ms", "--solset", "--soltabs", "--reference", "--image", "--freq",
                   "--ref-freq", "--like", "--patches", "--each-band"):
        fits = 0
        for have, others in pairs().items():
            for want in others:
                try:
                    check_options({option}, have, want)
                    fits += 1
                except ConfigError:
                    pass
        assert 0 < fits < sum(map(len, pairs().values())), option


def test_files_are_not_overwritten_unasked(convert, tmp_path, ms):
    write_killms(gains_for(read_metadata(ms)), tmp_path / "a.npz")
    (tmp_path / "b.h5").write_text("precious")
    with pytest.raises(ConfigError, match="--overwrite"):
        convert(tmp_path / "a.npz", tmp_path / "b.h5")
    assert (tmp_path / "b.h5").read_text() == "precious"
    with pytest.raises(ConfigError, match="an input as well"):
        convert(tmp_path / "a.npz", tmp_path / "a.npz", "--overwrite")
    convert(tmp_path / "a.npz", tmp_path / "b.h5", "--overwrite")
    assert read_h5parm(tmp_path / "b.h5").gains.shape == (3, 2, 5, 2, 1)


@pytest.mark.parametrize("n_corr", [1, 2, 4])
def test_solutions_go_round(convert, tmp_path, ms, n_corr, capsys):
    table = gains_for(read_metadata(ms), n_corr=n_corr)
    table.flag[1, 0, 2] = True
    write_h5parm(table, tmp_path / "a.h5")
    convert(tmp_path / "a.h5", tmp_path / "b.npz", "--ms", ms)
    convert(tmp_path / "b.npz", tmp_path / "c.h5")
    back, good = read_h5parm(tmp_path / "c.h5"), ~table.flag
    np.testing.assert_allclose(back.gains[good], table.gains[good], rtol=1e-6)
    np.testing.assert_array_equal(back.flag, table.flag)
    np.testing.assert_allclose(back.time_edges, table.time_edges)
    np.testing.assert_allclose(back.freq_edges, table.freq_edges)
    np.testing.assert_allclose(back.directions, table.directions)
    assert f"{n_corr} polarisations, 3.3 % flagged" in capsys.readouterr().out
    catalogue = np.load(tmp_path / "b.npz")["ClusterCat"]
    np.testing.assert_allclose([catalogue["l"][0], catalogue["m"][0]], 0, atol=1e-9)  # the centre
    assert catalogue["l"][1] > 0 and catalogue["m"][1] > 0


def test_stations_get_the_order_of_the_set(convert, tmp_path, ms, capsys):
    info = read_metadata(ms)
    names = [*reversed(info.ant_names), "DE601HBA"]
    table = gains_for(info, stations=names)
    write_h5parm(table, tmp_path / "a.h5")
    convert(tmp_path / "a.h5", tmp_path / "b.npz", "--ms", ms)
    back = read_killms(tmp_path / "b.npz")
    assert back.ant_names == list(info.ant_names)
    np.testing.assert_allclose(back.gains, table.gains[:, :, 4::-1], rtol=1e-6)
    assert "left out, not in the measurement set: DE601HBA" in capsys.readouterr().out
    write_h5parm(gains_for(info, stations=names[:3]), tmp_path / "c.h5")
    with pytest.raises(SolveError, match=f"no solutions for {info.ant_names[0]}.*--fill"):
        convert(tmp_path / "c.h5", tmp_path / "d.npz", "--ms", ms)
    convert(tmp_path / "c.h5", tmp_path / "d.npz", "--ms", ms, "--fill")
    filled = read_killms(tmp_path / "d.npz")
    assert filled.flag[:, :, :2].all() and not filled.flag[:, :, 2:].any()
    assert (np.load(tmp_path / "d.npz")["Sols"]["G"][:, :, 0] == np.eye(2)).all()
    with pytest.raises(SolveError, match="another array"):
        fit_to_ms(gains_for(info, stations=["A", "B"]), info)


def test_solutions_of_other_times_and_bands_are_refused(ms):
    info = read_metadata(ms)
    table = gains_for(info)
    later = replace(table, time_edges=table.time_edges + 86400)
    with pytest.raises(SolveError, match="times .* are not those of the data"):
        fit_to_ms(later, info)
    with pytest.raises(SolveError, match="frequencies .* are not those of the data"):
        fit_to_ms(replace(table, freq_edges=table.freq_edges / 2), info)
    day = replace(table, time_edges=table.time_edges / 86400)
    with pytest.raises(SolveError, match="times"):
        fit_to_ms(day, info)


def test_lone_intervals_and_directions_get_those_of_the_data(ms):
    info = read_metadata(ms)
    bare = replace(gains_for(info, n_dir=1, times=1, freqs=1), directions=[[np.nan, np.nan]],
                   time_edges=[[0.0, 0.0]], freq_edges=[[info.freqs.mean()] * 2])
    fitted, remarks = fit_to_ms(bare, info)
    np.testing.assert_allclose(fitted.time_edges, [info.time_range])
    np.testing.assert_allclose(fitted.freq_edges, [info.freq_range])
    np.testing.assert_allclose(fitted.directions, [info.phase_centre])
    assert remarks == ["the direction is taken to be the phase centre"]


def test_a_direction_without_a_place_needs_the_set(convert, tmp_path, ms):
    table = gains_for(read_metadata(ms), n_dir=1)
    write_h5parm(replace(table, directions=[[np.nan, np.nan]]), tmp_path / "a.h5")
    with pytest.raises(SolveError, match="--ms"):
        convert(tmp_path / "a.h5", tmp_path / "b.npz")
    convert(tmp_path / "a.h5", tmp_path / "b.npz", "--ms", ms)
    np.testing.assert_allclose(read_killms(tmp_path / "b.npz").directions,
                               [read_metadata(ms).phase_centre])


def test_the_reference_gets_phase_zero_and_products_stay(convert, tmp_path, ms):
    table = gains_for(read_metadata(ms), n_corr=2)
    write_h5parm(table, tmp_path / "a.h5")
    convert(tmp_path / "a.h5", tmp_path / "b.h5", "--reference", table.ant_names[3])
    back = read_h5parm(tmp_path / "b.h5").gains
    np.testing.assert_allclose(np.angle(back[:, :, 3]), 0, atol=1e-12)
    np.testing.assert_allclose(back[:, :, 0] * back[:, :, 1].conj(),
                               table.gains[:, :, 0] * table.gains[:, :, 1].conj())
    with pytest.raises(SolveError, match="nobody"):
        convert(tmp_path / "a.h5", tmp_path / "c.h5", "--reference", "nobody")


def test_solutions_are_joined_where_they_differ(convert, tmp_path, ms):
    info = read_metadata(ms)
    whole = gains_for(info, times=4, freqs=4)
    half = [replace(whole, time_edges=whole.time_edges[s], gains=whole.gains[s], flag=whole.flag[s])
            for s in (slice(2, 4), slice(0, 2))]
    np.testing.assert_array_equal(join(half).gains, whole.gains)
    half = [replace(whole, freq_edges=whole.freq_edges[s], gains=whole.gains[:, s],
                    flag=whole.flag[:, s]) for s in (slice(2, 4), slice(0, 2))]
    np.testing.assert_array_equal(join(half).gains, whole.gains)
    for k in (0, 1):
        write_h5parm(replace(whole, directions=whole.directions[[k]], flag=whole.flag[:, :, :, [k]],
                             gains=whole.gains[:, :, :, [k]], meta={"DirectionNames": f"[d{k}]"}),
                     tmp_path / f"{k}.h5")
    convert(tmp_path / "0.h5", tmp_path / "1.h5", tmp_path / "both.h5")
    both = read_h5parm(tmp_path / "both.h5")
    np.testing.assert_allclose(both.gains, whole.gains)
    assert both.meta["DirectionNames"] == "[d0],[d1]"
    with pytest.raises(SolveError, match="differ in nothing"):
        join([whole, whole])
    with pytest.raises(SolveError, match="times and directions"):
        join([whole, replace(whole, time_edges=whole.time_edges + 9, directions=[[1, 1], [2, 1]])])
    with pytest.raises(SolveError, match="stations"):
        join([whole, gains_for(info, stations=["A", "B"])])


def test_directions_go_everywhere(convert, tmp_path, ms):
    table = gains_for(read_metadata(ms), n_dir=3)
    table.meta["DirectionNames"] = "[p0],[p1],[p2]"
    write_killms(table, tmp_path / "a.npz")
    convert(tmp_path / "a.npz", tmp_path / "b.npy", "--ms", ms)
    convert(tmp_path / "b.npy", tmp_path / "c.reg")
    convert(tmp_path / "c.reg", tmp_path / "d.txt", "--from", "points")
    convert(tmp_path / "d.txt", tmp_path / "e.npy")
    for name in ("b.npy", "c.reg", "d.txt", "e.npy"):
        found = read_clusters(tmp_path / name)
        np.testing.assert_allclose(np.stack([found.ra, found.dec], 1), table.directions, atol=1e-10)
    assert read_clusters(tmp_path / "c.reg").names == ("p0", "p1", "p2")
    assert np.load(tmp_path / "b.npy")["l"][1] > 0 == np.load(tmp_path / "e.npy")["l"][1]


def test_facets_between_layouts(convert, tmp_path):
    square = np.array([[210, 50], [211, 50], [211, 51], [210, 51]]) * DEGREE
    write_tessel(tmp_path / "a.tessel.reg", [
        FacetOutline("F0", (210.5 * DEGREE, 50.5 * DEGREE), square),
        FacetOutline("F1", (211.5 * DEGREE, 50.5 * DEGREE), square + [DEGREE, 0])])
    convert(tmp_path / "a.tessel.reg", tmp_path / "b.reg", "--to", "polygons")
    convert(tmp_path / "a.tessel.reg", tmp_path / "c.reg", "--to", "named-polygons")
    assert "point" not in (tmp_path / "b.reg").read_text()
    assert "text={F1}" in (tmp_path / "c.reg").read_text()
    convert(tmp_path / "b.reg", tmp_path / "d.tessel.reg", "--from", "polygons")
    back = read_tessel(tmp_path / "d.tessel.reg")
    np.testing.assert_allclose(back[1].polygon, square + [DEGREE, 0], atol=2e-8)
    np.testing.assert_allclose(np.degrees(back[0].centre), [210.5, 50.5], atol=0.01)
    convert(tmp_path / "c.reg", tmp_path / "e.npy", "--from", "named-polygons")
    assert read_clusters(tmp_path / "e.npy").names == ("F0", "F1")


def test_masks(convert, tmp_path):
    write_image(tmp_path / "image.fits", np.zeros(GRID.shape), GRID, freq=144e6)
    ra, dec = np.degrees(GRID.radec(*GRID.lm(5.0, 15.0)))
    (tmp_path / "a.reg").write_text(f'fk5\ncircle({ra},{dec},45")\n')
    convert(tmp_path / "a.reg", tmp_path / "m.mask.fits", "--image", tmp_path / "image.fits")
    mask = read_image(tmp_path / "m.mask.fits")
    assert mask.data.shape == (1, 1, 21, 21) and mask.plane()[5, 15] == 1 == mask.plane().max()
    wide = SkyGrid(GRID.ra, GRID.dec, 31, 31, GRID.cell)
    write_image(tmp_path / "wide.fits", np.zeros(wide.shape), wide, freq=144e6)
    convert(tmp_path / "m.mask.fits", tmp_path / "w.mask.fits", "--image", tmp_path / "wide.fits")
    np.testing.assert_array_equal(read_mask(tmp_path / "w.mask.fits", wide)[5:26, 5:26],
                                  mask.plane() > 0)


@pytest.fixture
def model(tmp_path):
    flux = np.array([[2.0, 1.0, -0.5], [1.7, 1.2, -0.3]])
    made = PixelModel.from_points(GRID, [1.3e8, 1.6e8], [3, 10, 15.25], [4, 10, 7.5], flux)
    save_model(tmp_path / "a.model.npz", made)
    return made


def test_our_model_through_text(convert, tmp_path, model):
    write_image(tmp_path / "i.fits", np.zeros(GRID.shape), GRID, freq=144e6)
    write_clusters(tmp_path / "d.npy", make_directions([3.6, 3.601], [0.95, 0.9502], None,
                                                       ["p0", "p1"]))
    convert(tmp_path / "a.model.npz", tmp_path / "b.skymodel", "--patches", tmp_path / "d.npy",
            "--ref-freq", "150")
    text = read_skymodel(tmp_path / "b.skymodel")
    assert set(text.patch) == {"p0", "p1"} and (text.frequency == 150e6).all()
    np.testing.assert_allclose(text.places["p1"], (3.601, 0.9502), atol=1e-10)
    convert(tmp_path / "b.skymodel", tmp_path / "c.model.npz", "--image", tmp_path / "i.fits",
            "--freq", "130,160")
    back = load_model(tmp_path / "c.model.npz")
    np.testing.assert_allclose(back.place(), model.place(), atol=1e-3)
    np.testing.assert_allclose(back.flux, model.flux, rtol=1e-5)
    with pytest.raises(SkyModelError, match="--image"):
        convert(tmp_path / "b.skymodel", tmp_path / "d.model.npz")


def test_sources_of_another_field_have_no_patch(convert, tmp_path, model):
    write_clusters(tmp_path / "d.npy", make_directions([1.0], [0.5]))
    with pytest.raises(SkyModelError, match="another field"):
        convert(tmp_path / "a.model.npz", tmp_path / "b.skymodel", "--patches", tmp_path / "d.npy")


def test_our_model_through_ddfacets_and_images(convert, tmp_path, model, capsys):
    convert(tmp_path / "a.model.npz", tmp_path / "b.DicoModel")
    convert(tmp_path / "a.model.npz", tmp_path / "b.model.fits")
    convert(tmp_path / "a.model.npz", tmp_path / "w-model.fits", "--each-band")
    assert read_image(tmp_path / "w-0001-model.fits").freq.tolist() == [1.6e8]
    assert read_image(tmp_path / "b.model.fits").unit == "Jy/pixel"
    where = ("--image", tmp_path / "b.model.fits")
    convert(tmp_path / "b.DicoModel", tmp_path / "c.model.npz", "--freq", "130,160", *where)
    convert(tmp_path / "w-0001-model.fits", tmp_path / "w-0000-model.fits",
            tmp_path / "d.model.npz")
    for name in ("c.model.npz", "d.model.npz"):
        back = load_model(tmp_path / name)
        np.testing.assert_allclose(back.cube(), model.cube(), rtol=1e-5)
        np.testing.assert_allclose(back.freq, model.freq)
    np.testing.assert_allclose(read_dicomodel(tmp_path / "b.DicoModel", grid=GRID,
                                              freq=model.freq).cube(), model.cube(), rtol=1e-5)
    with pytest.raises(SkyModelError, match="come twice"):
        convert(tmp_path / "w-0001-model.fits", tmp_path / "w-0001-model.fits",
                tmp_path / "e.model.npz")
    with pytest.raises(ConfigError, match="one is converted at a time"):
        convert(tmp_path / "a.model.npz", tmp_path / "a.model.npz", tmp_path / "f.DicoModel")


def test_restored_images_are_no_models(convert, tmp_path):
    write_image(tmp_path / "a.fits", np.ones(GRID.shape), GRID, freq=144e6)
    with pytest.raises(SkyModelError, match="a model image has Jy/pixel"):
        convert(tmp_path / "a.fits", tmp_path / "b.model.npz")


@pytest.mark.parametrize("name, stations", [
    ("solutions/dirtest1.h5", 29), ("solutions/fulljones1.h5", 76),
    ("solutions/prefactor_3C48.h5", 74), ("solutions/rapthor_integration_field_solutions.h5", 8),
    ("peer-products/dp3_ddecal_diagonal.h5", 62), ("peer-products/killMS.CJ0.sols.npz", 38)])
def test_peers_solutions_through_the_other_format(convert, shared_data, tmp_path, name, stations):
    source = shared_data / name
    other = tmp_path / ("b.h5" if source.suffix == ".npz" else "b.npz")
    convert(source, other)
    first, second = ((read_h5parm if p.suffix == ".h5" else read_killms)(p)
                     for p in (source, other))
    assert len(second.ant_names) == stations and second.ant_names == first.ant_names
    good = ~first.flag
    np.testing.assert_allclose(second.gains[good], first.gains[good], rtol=2e-6, atol=1e-6)
    np.testing.assert_allclose(second.time_edges, first.time_edges)
    np.testing.assert_allclose(second.directions, first.directions, atol=1e-6)


@pytest.mark.parametrize("name", ["expected.lotss.sky", "prefactor_A-Team_lowres.skymodel",
                                  "prefactor_3C196-SH-offringa.skymodel", "expected.gsm.sky"])
def test_peers_lists_of_sources_stay_what_they_are(convert, shared_data, tmp_path, name):
    source = shared_data / "catalogues" / name
    convert(source, tmp_path / "b.skymodel")
    one, two = read_skymodel(source), read_skymodel(tmp_path / "b.skymodel")
    assert one.name == two.name and one.patch == two.patch
    np.testing.assert_allclose(two.flux([6e7, 1.5e8]), one.flux([6e7, 1.5e8]), rtol=1e-7)
    np.testing.assert_allclose(two.dec, one.dec, atol=1e-11)
    np.testing.assert_allclose(two.major, one.major, rtol=1e-8)
