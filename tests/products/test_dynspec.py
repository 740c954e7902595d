"""Where dynamic spectra look, what their noise is, and the files that come of them."""

from __future__ import annotations

import tarfile
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table

from ddfpipe.data.images import SkyGrid, write_image
from ddfpipe.data.regions import FacetOutline, write_tessel
from ddfpipe.data.spectra import Spectra, create_piece, read_pieces
from ddfpipe.data.targets import (
    Position, coordinate_name, read_positions, read_targets, write_positions,
)
from ddfpipe.errors import DataError
from ddfpipe.products import dynspec
from ddfpipe.products.dynspec_plots import averaged, draw_spectrum
from ddfpipe.units import ARCSEC, DAY, DEGREE

N, CELL = 600, 12 * ARCSEC
GRID = SkyGrid(np.radians(210.0), np.radians(50.0), N, N, CELL)
BEAM = 4 * CELL
RADIUS = 0.8 * DEGREE
NOISE = 1e-3


def place(y, x, name="", kind="target") -> Position:
    """Position of a pixel."""
    ra, dec = (float(v) for v in GRID.radec(*GRID.lm(y, x)))
    return Position(ra, dec, name or coordinate_name(ra, dec), kind)


@pytest.fixture(scope="module")
def final(tmp_path_factory):
    """A final image with compact and extended sources, a blank corner, and four facets."""
    folder = tmp_path_factory.mktemp("final")
    rng = np.random.default_rng(1)
    app = rng.normal(0, NOISE, (N, N)).astype(np.float32)
    yy, xx = np.mgrid[:N, :N]
    for y, x, peak, width in ((320, 310, 3.0, 1.0), (220, 380, 1.4, 1.0), (380, 250, 2.0, 9.0),
                              (250, 210, 0.5, 1.0)):
        sigma = width * BEAM / CELL / 2.3548
        app += (peak * np.exp(-0.5 * ((yy - y) ** 2 + (xx - x) ** 2) / sigma**2)).astype("f4")
    intrinsic = app / 0.5
    intrinsic[:, 450:] = np.nan
    for name, plane in (("app", app), ("int", intrinsic)):
        write_image(folder / f"{name}.fits", plane, GRID, freq=144e6, beam=(BEAM, BEAM, 0.0))
    outlines = []
    for k, (y, x) in enumerate([(200, 200), (200, 400), (400, 200), (400, 400)]):
        p = place(y, x)
        outlines.append(FacetOutline(f"S{k}", (p.ra, p.dec), np.array(
            [[p.ra, p.dec], [p.ra, p.dec + 0.01], [p.ra + 0.01, p.dec]])))
    write_tessel(folder / "facets.reg", outlines)
    field = dynspec.open_field(folder / "app.fits", folder / "int.fits", RADIUS)
    return field, dynspec.Facets(folder / "facets.reg", GRID), app


def test_bright_sources_are_compact_and_bright_both_ways(final):
    field, _, _ = final
    found = dynspec.bright_sources(field, 1.0)
    places = np.array([GRID.pixel_of(p.ra, p.dec) for p in found])
    assert np.allclose(places, [(320, 310), (220, 380)], atol=0.1)
    assert {p.kind for p in found} == {"bright"}
    # 0.5 Jy apparent is 1.0 Jy of intrinsic flux: both must exceed the threshold
    assert len(dynspec.bright_sources(field, 0.6)) == 2
    assert len(dynspec.bright_sources(field, 0.4)) == 3


def test_listed_targets_and_bright_sources(final):
    field, facets, _ = final
    told = []
    listed = [place(330, 280, "a b/c"), place(330, 285, "A_b_c"), place(320, 310, "known"),
              place(5, 5, "far"), place(300, 460, "blank")]
    chosen = dynspec.choose_positions(field, facets, listed, 1.0, tell=told.append)
    targets = [p for p in chosen if p.kind != "off"]
    assert [(p.name, p.kind) for p in targets[:3]] == [
        ("a_b_c", "target"), ("A_b_c_2", "target"), ("known", "target")]
    # the bright source that is listed comes once
    assert [p.kind for p in targets[3:]] == ["bright"]
    assert [p.facet for p in targets] == ["S2", "S2", "S3", "S1"]
    assert any("2 of 5 listed targets lie outside" in text for text in told)


def test_positions_without_sources(final):
    field, facets, app = final
    target = place(330, 280, "t")
    chosen = dynspec.choose_positions(field, facets, [target], 1.0)
    off = [p for p in chosen if p.kind == "off"]
    assert len(off) == 100 and len({p.name for p in off}) == 100
    y, x = np.array([GRID.pixel_of(p.ra, p.dec) for p in off]).T
    assert np.hypot(y - N // 2, x - N // 2).max() * CELL <= RADIUS and x.max() < 450
    for a, b in zip(np.rint(y).astype(int), np.rint(x).astype(int)):
        assert app[a - 10:a + 11, b - 10:b + 11].max() < 8 * NOISE
    assert (np.hypot(y - 330, x - 280) * CELL).min() > 60 * ARCSEC
    for label in facets.labels:
        assert sum(p.facet == label for p in off) >= 5
        assert all(facets.label(p.ra, p.dec) == label for p in off if p.facet == label)
    assert chosen == dynspec.choose_positions(field, facets, [target], 1.0, threads=2)


def test_every_facet_gets_its_share():
    group = np.array([0] * 95 + [1] * 3 + [2] * 7)
    chosen = dynspec._spread(group, 20, 5)
    assert len(chosen) == 20 and np.array_equal(np.bincount(group[chosen]), [12, 3, 5])
    assert len(dynspec._spread(group, 5, 5)) == 13
    assert dynspec._spread(np.zeros(0, int), 5, 5).size == 0


def test_a_field_without_targets_says_so(final):
    field, facets, _ = final
    told = []
    chosen = dynspec.choose_positions(field, facets, [], 99.0, tell=told.append)
    assert {p.kind for p in chosen} == {"off"} and any("no targets" in text for text in told)


# ---------------------------------------------------------------------- lists of targets


def test_targets_from_fits_and_text(tmp_path):
    Table({"RA": [210.5, np.nan], "DEC": [50.25, 1.0], "Name": ["star", "lost"]}).write(
        tmp_path / "t.fits")
    [one] = read_targets(tmp_path / "t.fits")
    assert (one.name, one.kind) == ("star", "target")
    assert np.degrees([one.ra, one.dec]) == pytest.approx([210.5, 50.25])
    (tmp_path / "t.csv").write_text(
        "ra,dec,name\n# a comment\n210.5, 50.25, star one\n14:02:00,+50.15.00,\n\n10.0,-0.5\n")
    three = read_targets(tmp_path / "t.csv")
    assert [p.name for p in three] == ["star one", "J140200.0+501500", "J004000.0-003000"]
    assert np.degrees([three[1].ra, three[1].dec]) == pytest.approx([210.5, 50.25])
    (tmp_path / "t.txt").write_text("210.5 50.25 star one\n")
    assert read_targets(tmp_path / "t.txt")[0].name == "star one"


@pytest.mark.parametrize("text, expected", [
    ("ra,dec\n", "no target"), ("1.0\n", "line 1: expected"), ("ra,dec\nx,y\n", "line 2"),
    ("10, 95\n", "beyond the pole"),
])
def test_lists_that_cannot_be_used(tmp_path, text, expected):
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(DataError, match=expected) as caught:
        read_targets(tmp_path / "t.csv")
    assert "t.csv" in str(caught.value)


def test_positions_there_and_back(tmp_path):
    given = [place(1, 2, "a,b", "off"), place(3, 4, 'c"d')]
    again = read_positions(write_positions(tmp_path / "p", given))
    assert [p.name for p in again] == ["a,b", 'c"d'] and again[0].kind == "off"
    assert again[0].ra == pytest.approx(given[0].ra, abs=1e-10)
    (tmp_path / "p").write_text("nonsense\n1\n")
    with pytest.raises(DataError, match="not a list of positions"):
        read_positions(tmp_path / "p")


# ---------------------------------------------------------------------- files

START, STEP, LOW, WIDTH = 5.0e9, 8.0, 140e6, 1e5
SIGMA = 0.01


@pytest.fixture
def spectra(tmp_path) -> tuple[Spectra, list[Position]]:
    """Two targets and 40 off positions in two sets with a gap; target 0 flares in set 1."""
    rng = np.random.default_rng(2)
    positions = [place(300, 300, "flare"), place(310, 290, "calm", "bright")]
    positions += [place(200 + k, 250, f"off{k:03d}", "off") for k in range(40)]
    for number, first in enumerate((0, 5)):
        piece = create_piece(
            tmp_path / "raw", number, len(positions), time=START + STEP * np.arange(20),
            freq=LOW + WIDTH * (first + np.arange(3)), interval=STEP, width=WIDTH)
        piece.weight[:] = rng.uniform(0.5, 2.0, piece.weight.shape)
        piece.flux[:] = SIGMA * rng.normal(size=piece.flux.shape) / np.sqrt(piece.weight)
        piece.flux[:, 0, 6:10, 1] += number * np.array([1.0, -0.5])[:, None]
        piece.weight[:, 3, 0] = 0
        piece.flux[:, :, 3, 0] = np.nan
    return Spectra.of(read_pieces(tmp_path / "raw")), positions


def test_the_file_of_a_target(spectra, tmp_path):
    made, figures = dynspec.write_products(
        tmp_path / "DynSpecs_L1", tmp_path / "DynSpecs_L1.tgz", *spectra, observation="L1",
        draw=draw_spectrum)
    assert figures["targets"] == 2 and figures["off_positions"] == 40
    assert figures["cell_noise_mJy"] == pytest.approx(1e3 * SIGMA / np.sqrt(1.25), rel=0.1)
    names = {str(path.relative_to(tmp_path)) for path in made}
    assert names == {"DynSpecs_L1.tgz"} | {f"DynSpecs_L1/{n}" for n in (
        "noise.fits", "positions.csv", "TARGET/flare.fits", "TARGET/flare.png",
        "TARGET/calm.fits", "TARGET/calm.png")}
    with fits.open(tmp_path / "DynSpecs_L1/TARGET/flare.fits") as hdus:
        header, data = hdus[0].header, hdus[0].data
        weight, noise = hdus["WEIGHT"].data, hdus["NOISE"].data
    assert data.shape == noise.shape == (2, 8, 20) and weight.shape == (8, 20)
    assert [header[f"CTYPE{k}"] for k in (1, 2, 3)] == ["TIME", "FREQ", "STOKES"]

    def axis(k, n):
        return header[f"CRVAL{k}"] + header[f"CDELT{k}"] * (np.arange(n) + 1 - header[f"CRPIX{k}"])

    assert header["MJDREF"] * DAY + axis(1, 20) == pytest.approx(START + STEP * np.arange(20),
                                                                abs=1e-4)
    assert axis(2, 8) == pytest.approx(LOW + WIDTH * np.arange(8))
    assert list(axis(3, 2)) == [1, 4] and header["TIMESYS"] == "UTC"
    assert header["DATE-BEG"].startswith("2017-04-27T")
    position = spectra[1][0]
    assert (header["OBJECT"], header["OBSID"], header["KIND"]) == ("flare", "L1", "target")
    assert np.radians([header["RA"], header["DEC"]]) == pytest.approx([position.ra, position.dec])
    # channels 3 and 4 lie between the sets, slot 3 of the first channels was flagged
    assert np.isnan(data[:, 3:5]).all() and (weight[3:5] == 0).all()
    assert np.isnan(data[:, [0, 5], 3]).all() and np.isfinite(data[:, [1, 2, 6, 7]]).all()
    assert data[0, 6, 6:10].mean() == pytest.approx(1.0, abs=0.02)
    assert data[1, 6, 6:10].mean() == pytest.approx(-0.5, abs=0.02)
    # what is noise is as large as the noise plane says
    quiet = np.isfinite(data) & np.isfinite(noise)
    quiet[:, 6, 6:10] = False
    assert np.std((data / noise)[quiet]) == pytest.approx(1.0, abs=0.15)
    assert (data[0, 6, 6:10] / noise[0, 6, 6:10] > 30).all()


def test_the_archive_is_whole_and_the_same_again(spectra, tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        dynspec.write_products(tmp_path / name / "DynSpecs_L1", tmp_path / f"{name}.tgz",
                               *spectra, observation="L1")
    assert (tmp_path / "a.tgz").read_bytes() == (tmp_path / "b.tgz").read_bytes()
    with tarfile.open(tmp_path / "a.tgz") as tar:
        tar.extraction_filter = lambda member, path: member  # Python 3.11.2 has none
        tar.extractall(tmp_path / "out")
    for path in (tmp_path / "a/DynSpecs_L1").rglob("*.fits"):
        unpacked = tmp_path / "out" / path.relative_to(tmp_path / "a")
        assert unpacked.read_bytes() == path.read_bytes()


def test_a_stop_leaves_nothing(spectra, tmp_path):
    def stop():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        dynspec.write_products(tmp_path / "D", tmp_path / "D.tgz", *spectra, observation="",
                               check=stop)
    assert {p.name for p in tmp_path.iterdir()} == {"raw"}


def test_samples_of_one_cell_are_averaged(tmp_path):
    for number, (flux, weight) in enumerate(((1.0, 1.0), (4.0, 2.0))):
        piece = create_piece(tmp_path / "raw", number, 1, time=np.array([10.0, 18.0]),
                             freq=np.array([1e8]), interval=8.0, width=1e5)
        piece.flux[:], piece.weight[:] = flux, weight
    flux, weight = Spectra.of(read_pieces(tmp_path / "raw")).position(0)
    assert flux.shape == (2, 1, 2) and (flux == 3.0).all() and (weight == 3.0).all()
    with pytest.raises(DataError, match="there are no spectra"):
        read_pieces(tmp_path / "none")


def test_averages_of_blocks_weigh_by_noise():
    flux = np.array([[1.0, 3.0, np.nan], [1.0, np.nan, np.nan]])
    noise = np.array([[1.0, 0.5, 1.0], [1.0, 1.0, 1.0]])
    mean, sigma = averaged(flux, noise, 2, 2)
    assert mean[0, 0] == pytest.approx((1 + 1 + 3 * 4) / 6) and np.isnan(mean[0, 1])
    assert sigma[0, 0] == pytest.approx(6 ** -0.5) and np.isnan(sigma[0, 1])


def test_the_picture_shows_the_flare(spectra, tmp_path):
    from matplotlib.image import imread

    pictures = {}
    dynspec.write_products(tmp_path / "D", tmp_path / "D.tgz", *spectra, observation="L1",
                           draw=draw_spectrum)
    for name in ("flare", "calm"):
        pictures[name] = imread(Path(tmp_path / f"D/TARGET/{name}.png"))
    red = {name: ((p[..., 0] > 0.35) & (p[..., 1] < 0.1) & (p[..., 2] < 0.2)).sum()
           for name, p in pictures.items()}
    assert red["flare"] > 500 and red["flare"] > 5 * (red["calm"] + 1)
