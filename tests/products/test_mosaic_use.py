"""mosaic.py and its companions from outside: refusals, beams, stopping, coverage, cut-outs."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from astropy.wcs import WCS
from hypothesis import given, settings
from hypothesis import strategies as some

sys.path.insert(0, str(Path(__file__).parent))
import mosaic_fields as fields  # noqa: E402

from ddfpipe import naming  # noqa: E402
from ddfpipe.data.images import SkyGrid, read_image, write_image  # noqa: E402
from ddfpipe.errors import ConfigError, DataError, ImagingError, ResourceError  # noqa: E402
from ddfpipe.products import beams  # noqa: E402
from ddfpipe.products.convolve import convolve_image, convolved_pair  # noqa: E402
from ddfpipe.products.mosaic import MosaicOptions, make_mosaic  # noqa: E402
from ddfpipe.products.mosaic.arguments import parse  # noqa: E402
from ddfpipe.products.mosaic.moc import merged, order_for, write_moc  # noqa: E402
from ddfpipe.products.subimage import cut_out, parse_position  # noqa: E402
from ddfpipe.units import ARCSEC, DEGREE  # noqa: E402

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"
GRID = SkyGrid(0.002, 0.8, 150, 180, 3 * ARCSEC)
SMALL, LARGE = (12 * ARCSEC, 9 * ARCSEC, 0.5), (20 * ARCSEC, 20 * ARCSEC, 0.0)
LONE = fields.Sky(np.array([0.0, 0.0005]), np.radians([45.0, 45.01]), np.array([1.0, 0.4]))


def script(folder: Path, name: str, *words: str, **more) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, str(SCRIPTS / name), *words], cwd=folder, text=True,
                          capture_output=True, timeout=600, **more)


def mosaic(folder: Path, names=("P0",), **more):
    options = {"directories": tuple(folder / n for n in names), "tile": 128, "threads": 1}
    return make_mosaic(MosaicOptions(**(options | more)), folder)


@pytest.mark.parametrize("words, told", [
    ("--do_lowres --do_vlow", "--do_lowres and --do_vlow exclude"),
    ("--band 1 --do_stokesV", "--do_stokesV and --band exclude"),
    ("--find_noise --read_noise", "exclude"), ("--noise 1 --find_noise", "exclude"),
    ("--apply_shift --facet_only", "exclude"), ("--use_shifted --apply_shift", "exclude"),
    ("--exact --method bilinear", "exclude"), ("--load_layout --size 3 4", "exclude"),
    ("--header x.fits --pixel 2", "exclude"), ("--convolve 20 --do_stokesV", "exclude"),
    ("--noise 1 2", "2 values for 1"), ("--scale 0", "above 0"), ("--beamcut 1.5", "below 1"),
    ("--convolve -6", "above 0"), ("--projection XYZ", "choose one of"),
    ("--method nearest", "choose one of"), ("--threads 0", "above 0"), ("--tile 8", "64"),
    ("--centre 10 100", "declination"), ("--load --no_write", "nothing"), ("--band -1", "from 0"),
])
def test_wrong_arguments_are_refused_before_anything_is_done(tmp_path, words, told):
    (tmp_path / "P0").mkdir()
    options = parse(["--directories", str(tmp_path / "P0"), *words.split()])
    with pytest.raises(ConfigError, match=told):
        make_mosaic(options, tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["P0"]


def test_all_arguments_reach_the_options(tmp_path):
    words = ("--rootname r --beamcut 0.2 --convolve 9 --save --load --noise 1e-4 --scale 1.1 "
             "--apply_shift --offsets wise --use_badfacet --use_imcrop --use_scalefactor "
             "--do_lowres --astromap_blank 0.5 --projection TAN --pixel 1.5 --centre 10 -20 "
             "--size 100 200 --four_axes --method bilinear --threads 3 --tile 256")
    options = parse(["--directories", "a", *words.split()])
    assert options.noise == (1e-4,) and options.size == (100, 200)
    assert options.centre == (10.0, -20.0)
    assert options.workers == 3 and options.regridding == "bilinear" and options.by_facet
    with pytest.raises(ConfigError, match="--directories"):
        parse([])
    with pytest.raises(ConfigError, match="--nonsense"):
        parse(["--directories", "a", "--nonsense"])
    with pytest.raises(ConfigError, match="no such directory.*called P, so"):
        MosaicOptions(directories=(Path("/no/P"), Path("/nor/P")), save=True).check()


def test_images_that_cannot_be_averaged_are_refused(tmp_path):
    for name in ("P0", "P1"):
        fields.write_pointing(tmp_path / name, (0.0, 45.0), LONE, n=100)
    path = tmp_path / "P1" / naming.image_product(naming.FINAL_IMAGE, "int_restored")
    for key, value, told in (("BUNIT", "K", "unit 'k'"), ("BMAJ", 15 / 3600, "--convolve 15.00")):
        old = fits.getheader(path)[key]
        fits.setval(path, key, value=value)
        with pytest.raises(DataError, match=told):
            mosaic(tmp_path, ("P0", "P1"))
        fits.setval(path, key, value=old)
    fits.delval(path, "BMAJ")
    with pytest.raises(DataError, match="no beam"):
        mosaic(tmp_path, ("P0", "P1"))
    with pytest.raises(DataError, match="above --beamcut 0.999"):
        mosaic(tmp_path, beamcut=0.9999)
    path.write_bytes(path.read_bytes()[:30000])
    with pytest.raises(ImagingError, match="truncated"):
        mosaic(tmp_path, ("P0", "P1"))
    with pytest.raises(DataError, match="covered by none"):
        mosaic(tmp_path, centre=(180.0, 40.0), size=(50, 50))
    assert not list(tmp_path.glob("mosaic*.fits"))
    (tmp_path / "mosaic-header.pickle").write_bytes(b"x")
    (tmp_path / "mosaic-header.txt").unlink(missing_ok=True)
    with pytest.raises(DataError, match="pickle may run any code"):
        mosaic(tmp_path, load_layout=True)


def test_full_disk_ends_in_a_message(tmp_path, monkeypatch):
    fields.write_pointing(tmp_path / "P0", (0.0, 45.0), LONE, n=100)

    def full(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(ResourceError, match="No space left"):
        mosaic(tmp_path)
    assert {p.name for p in tmp_path.iterdir()} == {"P0", "mosaic-header.txt"}


def test_convolved_mosaic_of_different_beams(tmp_path):
    """Two pointings, two beams: the mosaic has the common beam and the right peaks."""
    for number, beam in enumerate((SMALL, (10 * ARCSEC, 10 * ARCSEC, 0.0))):
        fields.write_pointing(tmp_path / f"P{number}", (0.01 * number, 45.0), LONE, n=160,
                              beam=beam, width=1.5)
    names = ("P0", "P1")
    with pytest.raises(DataError, match="--convolve 12.00 or more"):
        mosaic(tmp_path, names)
    with pytest.raises(DataError, match="ask for 12.00 arcsec"):
        mosaic(tmp_path, names, convolve=11.0)
    made = mosaic(tmp_path, names, convolve=20.0)
    header = fits.getheader(made.products["mosaic"])
    assert header["BMAJ"] == header["BMIN"] == pytest.approx(20 / 3600)
    image = fits.getdata(made.products["mosaic"])
    for ra, dec, flux in zip(LONE.ra, LONE.dec, LONE.flux):
        assert fields.peak_flux(image, WCS(header), ra, dec) == pytest.approx(flux, rel=0.01)
    area = np.pi * (20 / 3) ** 2 / (4 * np.log(2))
    assert np.nansum(image) / area == pytest.approx(LONE.flux.sum(), rel=0.01)
    kept = [p for n in names for p in (tmp_path / n).glob("*_convolved.fits")]
    assert len(kept) == 4
    times = [p.stat().st_mtime_ns for p in kept]
    mosaic(tmp_path, names, convolve=20.0)
    assert [p.stat().st_mtime_ns for p in kept] == times, "made again although nothing changed"
    mosaic(tmp_path, names, convolve=21.0)
    assert [p.stat().st_mtime_ns for p in kept] != times
    assert fits.getheader(kept[0])["BMAJ"] * 3600 == pytest.approx(21.0)


def test_convolved_files_of_others_are_used_only_with_the_right_beam(tmp_path):
    fields.write_pointing(tmp_path / "P0", (0.0, 45.0), LONE, n=100)
    pair = [tmp_path / "P0" / naming.image_product(naming.FINAL_IMAGE, kind)
            for kind in ("int_restored", "app_restored")]
    for path in convolved_pair(*pair, LARGE):
        fits.delval(path, "DDFCONV")
    before = Path(naming.beside_image(pair[0], "convolved")).stat().st_mtime_ns
    assert convolved_pair(*pair, LARGE)[0].stat().st_mtime_ns == before
    with pytest.raises(DataError, match="not made here"):
        convolved_pair(*pair, (25 * ARCSEC, 25 * ARCSEC, 0.0))
    assert convolved_pair(*pair, (fields.BEAM, fields.BEAM, 0.0)) == tuple(pair)


def beam_image(beam, grid: SkyGrid = GRID) -> np.ndarray:
    """Two sources between pixels, one near an edge, of flux 1 and 2 Jy."""
    ra, dec = grid.radec(*grid.lm([70.3, 80.6], [60.7, 121.2]))
    return fields.render(grid, fields.Sky(ra, dec, np.array([1.0, 2.0])), beam)


@pytest.mark.parametrize("target", [LARGE, (12.6 * ARCSEC, 12.6 * ARCSEC, 0.0)])
def test_convolution_gives_the_larger_beam(tmp_path, target):
    """Also where the kernel is narrower than a pixel; flux stays, blank pixels stay blank."""
    plane = beam_image(SMALL)
    plane[5, 5] = np.nan
    source = write_image(tmp_path / "a.fits", plane, GRID, freq=1e8, beam=SMALL)
    made = read_image(convolve_image(source, target))
    expected = beam_image(target)
    assert made.path.name == "a_convolved.fits" and made.beam == pytest.approx(target)
    assert np.isnan(made.plane()[5, 5])
    assert np.nanmax(np.abs(made.plane() - expected)) < 2e-4
    ratio = np.nansum(made.plane()) / np.nansum(plane)
    assert ratio == pytest.approx(target[0] * target[1] / (SMALL[0] * SMALL[1]), rel=1e-4)


def test_model_and_residual_make_the_same_as_the_restored_image(tmp_path):
    model = np.zeros(GRID.shape)
    model[60, 50], model[75, 140] = 1.0, 0.5
    ra, dec = GRID.radec(*GRID.lm([60.0, 75.0], [50.0, 140.0]))
    sky = fields.Sky(ra, dec, np.array([1.0, 0.5]))
    residual = 0.3 * beam_image(SMALL)
    paths = {}
    for name, plane, beam in (("model", model, None), ("residual", residual, SMALL),
                              ("restored", residual + fields.render(GRID, sky, SMALL), SMALL)):
        paths[name] = write_image(tmp_path / f"x.int.{name}.fits", plane, GRID, freq=1e8, beam=beam,
                                  unit="Jy/pixel" if beam is None else "Jy/beam")
    whole = read_image(convolve_image(paths["restored"], LARGE)).plane()
    parts = read_image(convolve_image(paths["model"], LARGE, tmp_path / "parts.fits", model=True,
                                      residual=paths["residual"])).plane()
    assert np.abs(whole - parts).max() < 2e-5
    with pytest.raises(DataError, match="no beam"):
        convolve_image(paths["model"], LARGE)


def test_convolution_in_pieces_is_that_of_the_whole(tmp_path, monkeypatch):
    import ddfpipe.products.convolve as convolve

    plane = np.random.default_rng(1).normal(size=GRID.shape)
    source = write_image(tmp_path / "a.fits", plane, GRID, freq=1e8, beam=SMALL)
    whole = read_image(convolve_image(source, LARGE, tmp_path / "whole.fits")).plane()
    monkeypatch.setattr(convolve, "TILE", 64)
    parts = read_image(convolve_image(source, LARGE, tmp_path / "parts.fits", threads=2)).plane()
    assert np.abs(whole - parts).max() < 1e-5 * np.abs(whole).max()


angles = some.floats(0.0, 3.1)
axes = some.floats(1.0, 30.0)


@given(axes, axes, angles, axes, axes, angles)
@settings(max_examples=60, deadline=None)
def test_deconvolution_undoes_convolution(a, b, pa, c, d, qa):
    one, two = ((max(p) * ARCSEC, min(p) * ARCSEC, q) for p, q in (((a, b), pa), ((c, d), qa)))
    both = beams.beam_of(beams.covariance(one) + beams.covariance(two))
    back = beams.deconvolved_beam(both, one)
    assert np.allclose(beams.covariance(back), beams.covariance(two), rtol=0,
                       atol=1e-9 * both[0] ** 2)
    assert beams.same_beam(both, both) and both[0] >= max(one[0], two[0]) * (1 - 1e-9)
    circle = beams.common_circle([one, two])
    beams.deconvolved_beam(circle, one), beams.deconvolved_beam(circle, two)


def test_position_angles_are_from_north_through_east():
    """A beam along north-east has positive covariance of east and north."""
    assert beams.covariance((2.0, 1.0, np.pi / 4))[0, 1] > 0
    major, minor, angle = beams.beam_of(beams.covariance((3e-5, 2e-5, 0.7)))
    assert (major, minor, angle) == pytest.approx((3e-5, 2e-5, 0.7))
    with pytest.raises(DataError, match="ask for 12.00"):
        beams.deconvolved_beam((11 * ARCSEC, 11 * ARCSEC, 0.0), SMALL)


def test_coverage_map_holds_what_is_covered(tmp_path):
    from astropy import units
    from astropy_healpix import HEALPix

    fields.write_pointing(tmp_path / "P0", (0.02, 45.0), LONE, n=200)
    made = mosaic(tmp_path)
    with fits.open(made.products["moc"]) as hdus:
        numbers, header = hdus[1].data["UNIQ"], hdus[1].header
    assert header["ORDERING"] == "NUNIQ" and header["COORDSYS"] == "C"
    order = header["MOCORDER"]
    assert order == order_for(fields.CELL) and (np.diff(numbers) > 0).all()
    level = (np.log2(numbers // 4) // 2).astype(int)
    cells = np.concatenate([
        np.arange((n - 4 * 4**k) << 2 * (order - k), (n - 4 * 4**k + 1) << 2 * (order - k))
        for n, k in zip(numbers, level)])
    grid = HEALPix(nside=2**order, order="nested")
    wcs = WCS(fits.getheader(made.products["mosaic"]))
    image = fits.getdata(made.products["mosaic"])
    y, x = np.nonzero(np.isfinite(image))
    sky = wcs.pixel_to_world(x, y).icrs
    found = np.isin(grid.lonlat_to_healpix(sky.ra, sky.dec), cells)
    assert found.mean() > 0.995
    side = grid.pixel_resolution.to(units.deg).value
    area = np.isfinite(image).sum() * (3 / 3600) ** 2
    assert area < cells.size * side**2 < area + 4 * np.sqrt(4 * np.pi * area) * side


def test_cells_are_joined_in_fours(tmp_path):
    assert {k: list(v) for k, v in merged(np.arange(17), 3).items()} == {3: [16], 1: [0]}
    write_moc(tmp_path / "moc.fits", np.arange(17), 3)
    assert list(fits.getdata(tmp_path / "moc.fits")["UNIQ"]) == [4 * 4 + 0, 4 * 64 + 16]


def test_the_script_makes_a_mosaic_and_tells_about_it(tmp_path):
    for number in range(2):
        fields.write_pointing(tmp_path / f"P{number}", (0.01 * number, 45.0), LONE, n=140,
                              noise=1e-3, seed=number)
    result = script(tmp_path, "mosaic.py", "--directories", "P0/", "P1/", "--find_noise",
                    "--rootname", "deep", "--threads", "1")
    assert result.returncode == 0, result.stderr
    assert "P1: noise 0.00" in result.stdout and "deep-mosaic-weights.fits" in result.stdout
    assert (tmp_path / "deep-mosaic.fits").is_file() and (tmp_path / "deep-mosaic.png").is_file()
    wrong = script(tmp_path, "mosaic.py", "--directories", "P7")
    assert wrong.returncode == 1 and "P7" in wrong.stderr and "Traceback" not in wrong.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_leaves_nothing_half_made(tmp_path, number):
    fields.write_pointing(tmp_path / "P0", (0.0, 45.0), LONE, n=700, noise=1e-3)
    process = subprocess.Popen(
        [sys.executable, str(SCRIPTS / "mosaic.py"), "--directories", "P0", "--tile", "64",
         "--exact", "--save"], cwd=tmp_path, text=True, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE)
    deadline = time.monotonic() + 300
    while not list(tmp_path.glob(".mosaic.*.tmp.fits")) and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(number)
    _, told = process.communicate(timeout=300)
    assert process.returncode == 2 and number.name in told
    assert {p.name for p in tmp_path.iterdir()} == {"P0", "mosaic-header.txt"}


def test_facet_noise_script(tmp_path):
    grid = fields.write_pointing(tmp_path / "P0", (0.0, 45.0), LONE, n=120, noise=1e-3)
    fields.write_facets(tmp_path / "P0", grid, 3)
    result = script(tmp_path, "make_facet_noise.py", "P0")
    name = "image_full_ampphase_di_m.NS.app.restored_facetnoise.fits"
    assert result.returncode == 0 and name in result.stdout, result.stderr
    noise = read_image(tmp_path / "P0" / name).plane()
    assert np.unique(noise).size == 3 and np.allclose(noise, 1e-3, rtol=0.3)
    assert "there already" in script(tmp_path, "make_facet_noise.py", "P0").stdout
    (tmp_path / "empty").mkdir()
    assert "neither" in script(tmp_path, "make_facet_noise.py", "empty").stderr


def test_convolve_script(tmp_path):
    fields.write_pointing(tmp_path, (0.0, 45.0), LONE, n=120)
    names = [naming.image_product(naming.FINAL_IMAGE, k) for k in ("int_restored", "app_restored")]
    result = script(tmp_path, "convolve.py", names[0], "--resolution", "20", "--intimage", names[0],
                    "--appimage", names[1])
    assert result.returncode == 0, result.stderr
    made = [read_image(tmp_path / naming.beside_image(n, "convolved")).plane() for n in names]
    beam = fields.primary(read_image(tmp_path / names[0]).grid, 0.7 * 120 * fields.CELL)
    assert np.nanmax(np.abs(made[1] - made[0] * beam)) < 2e-3
    for words, told in (([names[0]], "--resolution"),
                        ([names[0], "--resolution", "20", "--appimage", "x"], "go together"),
                        ([names[0], "--resolution", "3"], "ask for 12.00")):
        wrong = script(tmp_path, "convolve.py", *words)
        assert wrong.returncode == 1 and told in wrong.stderr
        assert "Traceback" not in wrong.stderr


def test_cut_outs_keep_the_sky(tmp_path):
    rng = np.random.default_rng(3)
    cube = rng.normal(size=(3, 1, *GRID.shape)).astype(np.float32)
    source = write_image(tmp_path / "cube.fits", cube, GRID, freq=[1e8, 1.1e8, 1.2e8], beam=SMALL)
    ra, dec = (float(v) for v in GRID.radec(*GRID.lm(100.0, 40.0)))
    size = cut_out(source, ra, dec, 20 * GRID.cell, tmp_path / "cut.fits")
    data, header = fits.getdata(tmp_path / "cut.fits", header=True)
    assert data.shape == size == (41, 41) and header["NAXIS"] == 2
    assert np.array_equal(data, cube[0, 0, 80:121, 20:61])
    x, y = WCS(header).wcs_world2pix([np.degrees([ra, dec])], 0)[0]
    assert (x, y) == pytest.approx((20, 20), abs=1e-6)
    assert WCS(header).naxis == 2 and header["RESTFRQ"] == 1.1e8
    assert header["BMAJ"] == pytest.approx(12 / 3600)
    assert cut_out(source, ra, dec, 60 * GRID.cell, tmp_path / "all.fits", cube=True) == (110, 101)
    with fits.open(tmp_path / "all.fits") as hdus:
        assert np.array_equal(hdus[0].data, cube[:, :, 40:, :101])
        assert hdus[0].header["CTYPE4"] == "FREQ"
        moved = WCS(hdus[0].header).celestial.wcs_world2pix([np.degrees([ra, dec])], 0)[0]
    assert tuple(moved) == pytest.approx((40, 60), abs=1e-6)
    with pytest.raises(DataError, match="nothing of it lies within"):
        cut_out(source, ra + 0.1, dec, 20 * GRID.cell, tmp_path / "no.fits")
    assert not (tmp_path / "no.fits").exists()


@pytest.mark.parametrize("words, ra, dec", [
    (["181.5", "-49.8"], 181.5, -49.8), (["12:06:00", "-00:30:00"], 181.5, -0.5),
    (["12h06m00s", "+49d30m00s"], 181.5, 49.5), (["ILTJ120600.00+493000.0"], 181.5, 49.5),
    (["ILTJ120600.00-003000.0"], 181.5, -0.5),
])
def test_positions(words, ra, dec):
    assert np.degrees(parse_position(words)) == pytest.approx((ra, dec))


@pytest.mark.parametrize("words", [
    ["ILTJ12"], ["ILTJ250600.00+493000.0"], ["400", "10"], ["a", "b"], ["12:70:00", "3"], [],
])
def test_positions_that_are_none(words):
    with pytest.raises(ConfigError):
        parse_position(words)


def test_subimage_script(tmp_path):
    write_image(tmp_path / "a.fits", np.ones(GRID.shape), GRID, freq=1e8)
    ra, dec = (str(v / DEGREE) for v in (GRID.ra, GRID.dec))
    result = script(tmp_path, "make_subim.py", "a.fits", "0.02", ra, dec, "--output=b.fits")
    assert result.returncode == 0 and "49 x 49" in result.stdout, result.stderr
    assert fits.getdata(tmp_path / "b.fits").shape == (49, 49)
    for words in (["a.fits"], ["a.fits", "x", ra, dec], ["a.fits", "1", ra, dec, "--x"],
                  ["none.fits", "1", ra, dec], ["a.fits", "1", "10", "80"]):
        wrong = script(tmp_path, "make_subim.py", *words)
        assert wrong.returncode in (1, 5) and "Traceback" not in wrong.stderr


def test_scripts_answer_at_once():
    """Nothing heavy is loaded before a command line is understood."""
    for name in ("mosaic.py", "convolve.py", "make_subim.py", "make_facet_noise.py"):
        code = ("import runpy, sys; sys.argv = [sys.argv[1], '--help']\n"
                "try: runpy.run_path(sys.argv[0], run_name='__main__')\n"
                "except SystemExit: pass\n"
                "sys.exit(str([n for n in ('numpy', 'astropy', 'numba') if n in sys.modules]))")
        result = subprocess.run([sys.executable, "-c", code, str(SCRIPTS / name)],
                                capture_output=True, text=True, timeout=600)
        assert result.stderr.strip() == "[]" and "usage" in result.stdout
