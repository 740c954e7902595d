"""Mosaics of simulated pointings: fluxes, weights, noise, memory, and the same as in one piece."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from astropy.wcs import WCS
from reproject import reproject_interp
from scipy.ndimage import median_filter

sys.path.insert(0, str(Path(__file__).parent))
import mosaic_fields as fields  # noqa: E402

from ddfpipe import naming  # noqa: E402
from ddfpipe.imaging.noise import robust_noise  # noqa: E402
from ddfpipe.products.mosaic import MosaicOptions, make_mosaic  # noqa: E402

NOISE = (1e-3, 2e-3, 1e-3, 1.5e-3)


@pytest.fixture(scope="module")
def sky():
    return fields.make_sky()


@pytest.fixture(scope="module")
def four(tmp_path_factory, sky):
    """Four overlapping pointings with noise and blank edges."""
    folder = tmp_path_factory.mktemp("four")
    for number, centre in enumerate(fields.CENTRES):
        fields.write_pointing(folder / f"P{number}", centre, sky, noise=NOISE[number],
                              seed=number, margin=6, n=280)
    return folder


def directories(folder: Path, count: int = 4) -> tuple[Path, ...]:
    return tuple(folder / f"P{number}" for number in range(count))


def mosaic(folder: Path, out: Path, **more):
    more = {"tile": 256, "threads": 2, "directories": directories(folder)} | more
    return make_mosaic(MosaicOptions(**more), out)


def read(made, kind: str = "mosaic") -> np.ndarray:
    return fits.getdata(made.products[kind]).astype(float)


def flux_ratios(made, sky) -> np.ndarray:
    """Measured over true peak of all sources that stand alone and well inside."""
    image, wcs = read(made), WCS(fits.getheader(made.products["mosaic"]))
    alone = fields.isolated(sky)
    ratios = np.array([
        fields.peak_flux(image, wcs, ra, dec) / flux
        for ra, dec, flux in zip(sky.ra[alone], sky.dec[alone], sky.flux[alone])
    ])
    return ratios[np.isfinite(ratios)]


@pytest.fixture(scope="module")
def made(four, tmp_path_factory):
    return mosaic(four, tmp_path_factory.mktemp("made"), noise=NOISE, tile=160)


def brute_force(folder: Path, header: fits.Header, beamcut: float, noise) -> tuple:
    """Mosaic and weights by whole arrays: nothing here is shared with what is tested but the
    interpolation of the reproject package."""
    header = header.copy()
    shape = header["NAXIS2"], header["NAXIS1"]
    total, weights = np.zeros(shape), np.zeros(shape)
    for number, sigma in enumerate(noise):
        planes = []
        for kind in ("int_restored", "app_restored"):
            path = folder / f"P{number}" / naming.image_product(naming.FINAL_IMAGE, kind)
            planes.append(fits.getdata(path)[0, 0].astype(np.float32))
            wcs = WCS(fits.getheader(path)).celestial
        with np.errstate(divide="ignore", invalid="ignore"):
            beam = median_filter(np.nan_to_num(planes[1] / planes[0], posinf=0, neginf=0), 3)
        weight = np.where(beam >= beamcut, (beam / sigma) ** 2, 0.0)
        blank = ~np.isfinite(planes[0]) | (beam == 0)
        weight[blank] = 0.0
        near = np.zeros_like(blank)
        for dy in (-2, -1, 0, 1, 2):
            for dx in (-2, -1, 0, 1, 2):
                near |= np.roll(blank, (dy, dx), (0, 1))
        out = [
            reproject_interp((plane, wcs), WCS(header), shape_out=shape, order=order,
                             return_footprint=False)
            for plane, order in ((np.nan_to_num(planes[0]), "bicubic"), (weight, "bilinear"),
                                 ((~near).astype(float), "bilinear"))
        ]
        good = (out[2] > 0.999) & (out[1] > 0)
        total += np.where(good, out[1] * out[0], 0.0)
        weights += np.where(good, out[1], 0.0)
    return np.where(weights > 0, total / np.where(weights > 0, weights, 1), np.nan), weights


def test_pieces_are_the_same_as_one_straightforward_computation(four, made):
    image, weights = read(made), read(made, "weights")
    expected, sums = brute_force(four, fits.getheader(made.products["mosaic"]), 0.3, NOISE)
    assert np.array_equal(np.isfinite(image), np.isfinite(expected))
    assert np.nanmax(np.abs(image - expected)) < 2e-7 * np.nanmax(expected)
    assert np.abs(weights - sums).max() < 2e-7 * sums.max()


def test_threads_and_pieces_change_nothing(four, made, tmp_path):
    one = mosaic(four, tmp_path, noise=NOISE, threads=1, tile=160)
    for kind in ("mosaic", "weights", "coverage", "moc"):
        assert one.products[kind].read_bytes() == made.products[kind].read_bytes()
    other = mosaic(four, tmp_path, noise=NOISE, tile=97)
    assert np.allclose(read(other), read(made), rtol=0, atol=1e-7, equal_nan=True)


def test_fluxes_weights_and_noise(four, made, sky):
    ratios = flux_ratios(made, sky)
    assert ratios.size > 20 and abs(ratios.mean() - 1.0) < 0.005
    assert np.abs(ratios - 1.0).max() < 0.03  # sources of 100 to 1000 sigma
    weights, coverage = read(made, "weights"), read(made, "coverage")
    # Where one pointing alone is at its centre its weight is 1 / noise^2.
    assert weights.max() < sum(n**-2 for n in NOISE)
    empty = read(made)
    assert np.array_equal(np.isfinite(empty), weights > 0)
    assert np.array_equal(coverage > 0, weights > 0)
    assert coverage.max() == made.figures["most_fields"]
    assert made.figures["most_fields"] >= 3


def test_noise_is_what_the_weights_say_and_less_in_the_overlap(tmp_path):
    nothing = fields.Sky(*np.zeros((3, 0)))
    for number, centre in enumerate(((0.0, 45.0), (0.02, 45.01), (359.97, 45.0))):
        fields.write_pointing(tmp_path / f"P{number}", centre, nothing, noise=1e-3, seed=number)
    made = mosaic(tmp_path, tmp_path, directories=directories(tmp_path, 3), find_noise=True)
    image, weights, coverage = read(made), read(made, "weights"), read(made, "coverage")
    scaled = (image * np.sqrt(weights))[coverage > 0]
    assert np.std(scaled) == pytest.approx(1.0, rel=0.05)
    deep = weights > 2.2e6
    assert deep.sum() > 2000
    assert np.std(image[deep]) == pytest.approx(1e-3 / np.sqrt(weights[deep].mean() / 1e6), rel=0.1)
    assert made.noise["P1"] == pytest.approx(1e-3, rel=0.05)


def test_scale_corrects_fluxes_and_its_weights(tmp_path, sky):
    factors = (1.0, 0.8, 1.25)
    for number, factor in enumerate(factors):
        fields.write_pointing(tmp_path / f"P{number}", fields.CENTRES[number], sky, noise=1e-3,
                              factor=factor, seed=number)
    arguments = {"directories": directories(tmp_path, 3), "find_noise": True}
    wrong = mosaic(tmp_path, tmp_path, rootname="wrong", **arguments)
    assert np.ptp(flux_ratios(wrong, sky)) > 0.2
    right = mosaic(tmp_path, tmp_path, scale=tuple(1 / f for f in factors), **arguments)
    assert np.abs(flux_ratios(right, sky) - 1.0).max() < 0.03
    assert right.noise == wrong.noise  # that of the images as they are
    alone = (read(right, "coverage") == 1) & (read(wrong, "coverage") == 1)
    ratio = (read(right, "weights") / np.where(alone, read(wrong, "weights"), 1))[alone]
    assert sorted({round(float(v), 4) for v in ratio}) == [0.64, 1.0, 1.5625]


def test_maps_of_factors_do_the_same_as_one_factor(tmp_path, sky):
    for number, factor in enumerate((1.0, 0.8)):
        folder = tmp_path / f"P{number}"
        fields.write_pointing(folder, fields.CENTRES[number], sky, factor=factor)
    path = tmp_path / "P1" / naming.image_product(naming.FINAL_IMAGE, "app_restored")
    with fits.open(path) as hdus:
        hdus[0].data[:] = 1.25
        hdus.writeto(naming.beside_image(path, "scalefactors"))
    two = {"directories": directories(tmp_path, 2), "noise": (1e-3, 1e-3)}
    by_map = mosaic(tmp_path, tmp_path, use_scalefactor=True, rootname="map", **two)
    by_number = mosaic(tmp_path, tmp_path, scale=(1.0, 1.25), **two)
    assert any("P0" in text and "scalefactors" in text for text in by_map.remarks)
    for kind in ("mosaic", "weights"):
        assert np.allclose(read(by_map, kind), read(by_number, kind), rtol=1e-5, atol=1e-7,
                           equal_nan=True)


@pytest.mark.parametrize("method, worst", [("bilinear", 0.09), ("bicubic", 0.01)])
def test_what_interpolation_costs(tmp_path, sky, method, worst):
    """Bilinear interpolation lowers peaks of beams of four pixels by some 5 %, cubic by none."""
    fields.write_pointing(tmp_path / "P0", fields.CENTRES[0], sky)
    made = mosaic(tmp_path, tmp_path, directories=directories(tmp_path, 1), method=method,
                  centre=(0.01, 45.004), size=(250, 250))
    ratios = flux_ratios(made, sky)
    assert 1.0 - worst < ratios.min() < ratios.max() < 1.0 + 0.01
    assert (ratios.min() < 0.97) == (method == "bilinear")


def test_exact_keeps_integrated_flux(tmp_path):
    lone = fields.Sky(np.array([0.0]), np.radians([45.0]), np.array([1.0]))
    fields.write_pointing(tmp_path / "P0", (0.0, 45.0), lone, n=90)
    sums = {}
    for method in ("exact", "bicubic"):
        made = mosaic(tmp_path, tmp_path, directories=directories(tmp_path, 1), beamcut=0.1,
                      exact=method == "exact", centre=(0.003, 45.002), size=(70, 70))
        sums[method] = np.nansum(read(made))
    assert sums["exact"] == pytest.approx(sums["bicubic"], rel=2e-3)
    true = np.pi * 4.0**2 / (4 * np.log(2))
    assert sums["exact"] == pytest.approx(true, rel=5e-3)


def test_grid_that_is_asked_for(four, tmp_path, sky, made):
    asked = mosaic(four, tmp_path, noise=NOISE, projection="TAN", pixel=4.0,
                   centre=(0.05, 44.98), size=(301, 240), four_axes=True)
    header = fits.getheader(asked.products["mosaic"])
    assert header["CTYPE1"] == "RA---TAN" and header["CDELT2"] * 3600 == pytest.approx(4.0)
    assert (header["CRVAL1"], header["CRVAL2"]) == (0.05, 44.98)
    assert [header[f"NAXIS{n}"] for n in (1, 2, 3, 4)] == [301, 240, 1, 1]
    assert header["CRVAL4"] == header["RESTFRQ"] == 144e6 and header["CTYPE3"] == "STOKES"
    wcs = WCS(header).celestial
    image = read(asked)[0, 0]
    alone = fields.isolated(sky)
    ratios = np.array([fields.peak_flux(image, wcs, *s) for s in zip(sky.ra, sky.dec)]) / sky.flux
    assert np.nanmax(np.abs(ratios[alone] - 1.0)) < 0.05
    same = mosaic(four, tmp_path, noise=NOISE, rootname="same",
                  header=made.products["mosaic"])
    assert np.array_equal(read(same), read(made), equal_nan=True)
    again = mosaic(four, tmp_path, noise=NOISE, rootname="same", load_layout=True)
    assert np.array_equal(read(again), read(made), equal_nan=True)


def test_header_and_names(made, four, tmp_path):
    header = fits.getheader(made.products["mosaic"])
    assert header["BMAJ"] == pytest.approx(12 / 3600) and header["BUNIT"] == "Jy/beam"
    assert header["CTYPE1"] == "RA---SIN" and header["NAXIS"] == 2
    assert "P3" in str(header["HISTORY"]) and header["ORIGIN"].startswith("ddfpipe")
    assert {path.name for path in made.products.values()} == {
        "mosaic.fits", "mosaic-weights.fits", "mosaic-coverage.fits", "mosaic-moc.fits",
        "mosaic.png", "mosaic-header.txt"}
    assert made.products["preview"].read_bytes().startswith(b"\x89PNG")
    assert naming.mosaic_product("weights", "deep", 2) == "band2-deep-mosaic-weights.fits"


def test_small_islands_are_blanked(tmp_path):
    """20 pixels in a line over a border of pieces go, 21 stay; also where pieces meet."""
    from ddfpipe.products.mosaic.finish import finish
    from ddfpipe.products.mosaic.layout import template_layout
    from ddfpipe.products.planes import create_plane

    header = WCS(naxis=2)
    header.wcs.ctype, header.wcs.cdelt = ["RA---SIN", "DEC--SIN"], [-1e-3, 1e-3]
    header = header.to_header()
    header["NAXIS1"], header["NAXIS2"] = 200, 150
    rng = np.random.default_rng(0)
    image = np.full((150, 200), np.nan, np.float32)
    image[5, 55:75], image[9, 55:76] = 1.0, 1.0
    image[20:32, 60:68] = 1.0
    image[np.ix_(range(58, 70, 2), range(58, 70, 2))] = 1.0
    image[90:, 90:] = np.where(rng.uniform(size=(60, 110)) < 0.35, 1.0, np.nan)
    outputs = {}
    for kind in ("mosaic", "weights", "coverage"):
        outputs[kind] = create_plane(tmp_path / f"{kind}.fits", header,
                                     ">i2" if kind == "coverage" else ">f4")
        outputs[kind].write(slice(None), slice(None), np.isfinite(image))
    outputs["mosaic"].write(slice(None), slice(None), image)
    summary = finish(outputs, template_layout(tmp_path / "mosaic.fits"), 64, lambda *a: None)
    from scipy.ndimage import label

    labels, count = label(np.isfinite(image), np.ones((3, 3)))
    kept = np.bincount(labels.ravel()) > 20
    kept[0] = False
    expected = np.where(kept[labels], image, np.nan)
    assert 5 < kept.sum() < count and np.isnan(expected[5, 60]) and expected[9, 60] == 1.0
    assert np.array_equal(outputs["mosaic"].read(), expected, equal_nan=True)
    assert np.array_equal(outputs["weights"].read() > 0, kept[labels])
    assert summary.blanked == np.isfinite(image).sum() - kept[labels].sum()


MEASURE = """
import json, sys
from pathlib import Path
from ddfpipe.products.mosaic import MosaicOptions, make_mosaic
folder = Path(sys.argv[1])
def run(count, **more):
    return make_mosaic(MosaicOptions(directories=tuple(folder / f"P{n}" for n in range(count)),
                                     threads=1, tile=512, find_noise=True, **more), folder)
def highest():
    # Not ru_maxrss: that is inherited from the process that started this one.
    return int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) * 1024
# A small mosaic first: imports and compiled kernels are not memory that grows with images.
run(1, rootname="warm", size=(200, 200))
before = highest()
made = run(int(sys.argv[2]))
print(json.dumps({"before": before, "peak": highest(), "figures": made.figures}))
"""


@pytest.mark.slow
def test_memory_stays_below_three_images(tmp_path):
    """And does not grow with their number: it is that of some pieces."""
    nothing = fields.Sky(*np.zeros((3, 0)))
    for number, centre in enumerate(fields.CENTRES):
        centre = centre[0], 45.0 + (centre[1] - 45.0) * 5
        fields.write_pointing(tmp_path / f"P{number}", centre, nothing, noise=1e-3, n=2000)
    used = {}
    for count in (2, 4):
        result = subprocess.run(
            [sys.executable, "-c", MEASURE, str(tmp_path), str(count)],
            capture_output=True, text=True, timeout=300)
        assert result.returncode == 0, result.stderr
        told = json.loads(result.stdout)
        image = 4 * told["figures"]["width"] * told["figures"]["height"]
        used[count] = told["peak"] - told["before"]
        print(f"{count} images: {used[count] / 1e6:.0f} MB beside {told['before'] / 1e6:.0f} MB; "
              f"an output image has {image / 1e6:.0f} MB")
    assert used[4] < 3 * image
    assert used[4] < 1.3 * used[2]


def test_robust_noise_of_the_summary(made):
    assert made.figures["noise"] == pytest.approx(robust_noise(read(made)), rel=0.05)
    assert made.figures["area"] == pytest.approx(
        np.isfinite(read(made)).sum() * (3 / 3600) ** 2, rel=1e-6)


def test_options_are_frozen_and_named_as_arguments():
    from ddfpipe.products.mosaic.arguments import parser

    words = {action.dest for action in parser()._actions} - {"help"}
    assert words == {field.name for field in dataclasses.fields(MosaicOptions)}
