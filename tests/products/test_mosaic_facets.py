"""What mosaics leave out or move: facets, crops, bad astrometry; files kept and taken up."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table
from astropy.wcs import WCS

sys.path.insert(0, str(Path(__file__).parent))
import mosaic_fields as fields  # noqa: E402

from ddfpipe import naming  # noqa: E402
from ddfpipe.data.images import SkyGrid  # noqa: E402
from ddfpipe.errors import DataError  # noqa: E402
from ddfpipe.products.mosaic import MosaicOptions, make_mosaic  # noqa: E402
from ddfpipe.products.mosaic.facets import read_offsets  # noqa: E402
from ddfpipe.units import ARCSEC  # noqa: E402

CENTRE = (0.0, 45.0)
N = 160


@pytest.fixture(scope="module")
def sky():
    """Sources on a lattice of 9 x 9, about 45 arcsec apart."""
    grid = SkyGrid(np.radians(CENTRE[0]), np.radians(CENTRE[1]), N, N, fields.CELL)
    y, x = np.mgrid[12.3:150:16.7, 11.8:150:16.3]
    ra, dec = grid.radec(*grid.lm(y.ravel(), x.ravel()))
    return fields.Sky(ra, dec, np.full(ra.size, 0.5))


def mosaic(folder: Path, names=("P0",), **more):
    more = {"tile": 90, "threads": 2, "beamcut": 0.2} | more
    return make_mosaic(MosaicOptions(directories=tuple(folder / n for n in names), **more), folder)


def read(made, kind: str = "mosaic") -> np.ndarray:
    return fits.getdata(made.products[kind]).astype(float)


def write_offsets(folder: Path, shift, peak=None, method: str = "pslocal") -> Path:
    """Offsets (n, 2) in arcsec east and north; peaks (n,) at an error of one."""
    shift = np.asarray(shift, float)
    ones = np.ones(len(shift))
    peak = 10 * ones if peak is None else np.asarray(peak, float)
    table = Table({
        "Facet_id": np.arange(len(shift)), "N_Sources": (50 * ones).astype(int),
        "RA_offset": shift[:, 0], "DEC_offset": shift[:, 1], "RA_error": 0.1 * ones,
        "DEC_error": 0.1 * ones, "RA_peak": peak, "DEC_peak": peak, "RA_peak_error": ones,
        "DEC_peak_error": ones,
    })
    path = folder / f"{method}-facet_offsets.fits"
    table.write(path, overwrite=True)
    return path


def columns_of(made, grid) -> np.ndarray:
    """Column of the pointing's image that each column of the mosaic's middle row lies on."""
    header = fits.getheader(made.products["mosaic"])
    x = np.arange(header["NAXIS1"])
    sky = WCS(header).wcs_pix2world(np.column_stack([x, np.full(x.size, header["NAXIS2"] // 2)]), 0)
    return grid.pixel_of(*np.radians(sky.T))[1]


def positions(made, sky, reach: int = 2) -> np.ndarray:
    """(n, 2) offsets (x, y) in pixels of the sources' peaks from their true places."""
    image, wcs = read(made), WCS(fits.getheader(made.products["mosaic"]))
    out = []
    for x, y in wcs.wcs_world2pix(np.degrees(np.column_stack([sky.ra, sky.dec])), 0):
        x0, y0 = round(x), round(y)
        box = image[max(0, y0 - reach):y0 + reach + 1, max(0, x0 - reach):x0 + reach + 1]
        if box.shape != (2 * reach + 1,) * 2 or not np.isfinite(box).all():
            out.append((np.nan, np.nan))
            continue
        yy, xx = np.mgrid[-reach:reach + 1, -reach:reach + 1]
        # A Gaussian's logarithm is a quadratic form: its maximum by least squares.
        terms = np.column_stack([np.ones(box.size), xx.ravel(), yy.ravel(), xx.ravel() ** 2,
                                 yy.ravel() ** 2])
        fit = np.linalg.lstsq(terms, np.log(np.maximum(box, 1e-6)).ravel(), rcond=None)[0]
        out.append((-fit[1] / (2 * fit[3]) - (x - x0), -fit[2] / (2 * fit[4]) - (y - y0)))
    return np.array(out)


def test_a_facet_mosaic_without_shift_is_the_mosaic(tmp_path, sky):
    grid = fields.write_pointing(tmp_path / "P0", CENTRE, sky, n=N)
    fields.write_facets(tmp_path / "P0", grid, 3)
    plain, by_facet = mosaic(tmp_path), mosaic(tmp_path, facet_only=True, rootname="facets")
    for kind in ("mosaic", "weights"):
        assert np.allclose(read(plain, kind), read(by_facet, kind), rtol=0, atol=1e-7,
                           equal_nan=True)


def test_no_pixel_falls_between_rounded_outlines():
    """Corners are written to 1e-6 degrees, some thousandths of a pixel."""
    from ddfpipe.products.mosaic.facets import Facets

    square = np.array([[0.0, 0.0], [50.0, 0.0], [50.0, 99.0], [0.0, 99.0]])
    outlines = (square + [0.0, 0.0], square + [50.002, 0.0])
    facets = Facets(outlines, np.zeros((2, 2)), np.ones(2, bool))
    y, x = np.mgrid[1:98, 1:99].astype(float)
    x[:, 49] = 50.001
    label = facets.label(x, y)
    assert set(np.unique(label)) == {0, 1} and (label == (x > 50.02)).all()


def test_each_facet_is_shifted_by_its_offset(tmp_path, sky):
    """The image lies 1.2 pixels to the west and 0.8 to the north everywhere: offsets undo that."""
    grid = fields.write_pointing(tmp_path / "P0", CENTRE, sky, n=N, shift=(1.2, 0.8))
    fields.write_facets(tmp_path / "P0", grid, 2)
    write_offsets(tmp_path / "P0", [(-3.6, 2.4), (-3.6, 2.4)])
    before, after = positions(mosaic(tmp_path), sky), positions(mosaic(
        tmp_path, apply_shift=True, rootname="shifted"), sky)
    assert np.nanmedian(before, axis=0) == pytest.approx([1.2, 0.8], abs=0.02)
    assert np.isfinite(after[:, 0]).sum() > 40
    assert np.nanmax(np.abs(after)) < 0.05


def test_bad_fits_take_the_median_of_the_good(tmp_path, sky):
    """Three facets are 1 arcsec off; the fourth fit is nonsense and must not be used."""
    grid = fields.write_pointing(tmp_path / "P0", CENTRE, sky, n=N, shift=(1.0, 0.0))
    fields.write_facets(tmp_path / "P0", grid, 4)
    path = write_offsets(tmp_path / "P0", [(-3.0, 0.1), (-3.0, 0.0), (4.7, 4.9), (-3.0, -0.1)],
                         peak=[9, 9, 1.5, 9])
    east, north = read_offsets(path, 4)
    assert list(east) == [-3.0] * 4 and list(north) == pytest.approx([0.1, 0.0, 0.0, -0.1])
    assert np.nanmax(np.abs(positions(mosaic(tmp_path, apply_shift=True), sky))) < 0.08
    with fits.open(path, mode="update") as hdus:
        hdus[1].data["RA_peak_error"] = [1, 1, 0, np.nan]
        hdus[1].data["DEC_peak"] = [9, 0, 9, 9]
    assert np.array_equal(read_offsets(path, 4)[0], [-3.0] * 4)  # one good one is left
    write_offsets(tmp_path / "P0", np.full((4, 2), 4.0), peak=np.zeros(4))
    assert np.array_equal(read_offsets(path, 4), np.zeros((2, 4)))


def test_tables_of_other_facets_are_refused(tmp_path):
    path = write_offsets(tmp_path, [(1.0, 2.0), (1.2, 2.2), (1.4, 2.4)])
    for count in (2, 5):
        with pytest.raises(DataError, match=f"layout has {count}"):
            read_offsets(path, count)


def test_bad_facets_are_left_out(tmp_path, sky):
    grid = fields.write_pointing(tmp_path / "P0", CENTRE, sky, n=N)
    fields.write_facets(tmp_path / "P0", grid, 4)
    made = mosaic(tmp_path, use_badfacet=True)
    assert "all facets are used" in made.remarks[0] and np.isfinite(read(made)).mean() > 0.7
    (tmp_path / "P0" / naming.BAD_FACETS).write_text("Field,Facets\nP0,[1, 3]\n")
    layout = {"header": made.products["mosaic"], "rootname": "bad"}
    left = mosaic(tmp_path, use_badfacet=True, **layout)
    image, columns = read(left), columns_of(left, grid)
    row = np.isfinite(image[image.shape[0] // 2])
    edges = columns[np.flatnonzero(np.diff(row.astype(int)))] + 0.5
    assert np.abs(edges[edges > 5][:3] - [34.75, 79.5, 124.25]).max() <= 1.0
    (tmp_path / "P0" / naming.BAD_FACETS).write_text("Field,Facets\nP0,[4]\n")
    with pytest.raises(DataError, match="0 to 3"):
        mosaic(tmp_path, use_badfacet=True)


def test_crops(tmp_path, sky):
    fields.write_pointing(tmp_path / "P0", CENTRE, sky, n=N)
    (tmp_path / "P0" / naming.IMAGE_CROP).write_text("200\n")  # of 1.5 arcsec
    made = mosaic(tmp_path, use_imcrop=True)
    # A pixel of the mosaic needs its neighbours, so one on each side is shared with nothing.
    assert abs(np.isfinite(read(made)).any(axis=0).sum() - 200 * 0.95 / 2) <= 2
    assert abs(made.figures["width"] - 95) <= 4


def test_bad_astrometry_is_blanked(tmp_path, sky):
    grid = fields.write_pointing(tmp_path / "P0", CENTRE, sky, n=N)
    errors = np.full((8, 8), 0.2, np.float32)
    errors[:, :3] = 0.9
    errors[4, 5] = np.nan  # a gap: like its neighbours
    coarse = fits.Header(SkyGrid(grid.ra, grid.dec, 8, 8, 20 * grid.cell).wcs().to_header())
    coarse["CRPIX1"] = coarse["CRPIX2"] = (grid.nx // 2 + 0.5) / 20 + 0.5
    fits.PrimaryHDU(errors, coarse).writeto(tmp_path / "P0" / "astromap.fits")
    plain = mosaic(tmp_path)
    layout = {"header": plain.products["mosaic"]}
    blank = mosaic(tmp_path, astromap_blank=0.5, rootname="blank", **layout)
    image = read(blank)
    assert np.isfinite(read(plain)[80, 20:140]).all()
    first = columns_of(blank, grid)[np.isfinite(image[image.shape[0] // 2])][0]
    assert 60 <= first <= 63  # a spline's neighbours are left out too
    assert np.array_equal(read(mosaic(tmp_path, astromap_blank=2.0, **layout)), read(plain),
                          equal_nan=True)
    kept = mosaic(tmp_path, astromap_blank=0.5, save=True, rootname="keep", **layout)
    saved = fits.getdata(tmp_path / "keep-astroblank-P0.fits")[0, 0]
    assert np.isnan(saved[:, :60]).all() and np.isfinite(saved[:, 60:]).all()
    assert np.array_equal(read(kept), image, equal_nan=True)
    (tmp_path / "keep-reproject-P0.fits").unlink()
    again = mosaic(tmp_path, astromap_blank=0.5, load=True, rootname="keep", **layout)
    assert np.array_equal(read(again), image, equal_nan=True)


def test_kept_files_are_taken_up_only_if_they_fit(tmp_path, sky):
    names = ("P0", "P1")
    for number, name in enumerate(names):
        fields.write_pointing(tmp_path / name, (0.02 * number, 45.0), sky, n=N, noise=1e-3,
                              seed=number)
    first = mosaic(tmp_path, names, save=True, find_noise=True)
    image = read(first)
    kept = sorted(p.name for p in tmp_path.glob("*-P?.fits"))
    assert kept == ["reproject-P0.fits", "reproject-P1.fits", "weight-P0.fits", "weight-P1.fits"]
    # Marked files tell whether they are really read.
    with fits.open(tmp_path / "reproject-P1.fits", mode="update") as hdus:
        hdus[0].data += 1.0
    loaded = mosaic(tmp_path, names, load=True, find_noise=True)
    assert not loaded.remarks and np.nanmax(read(loaded) - image) > 0.3
    rescaled = mosaic(tmp_path, names, load=True, find_noise=True, scale=(1.0, 0.5))
    assert not rescaled.remarks  # factors are applied to what is kept
    other = mosaic(tmp_path, names, load=True, find_noise=True, beamcut=0.25)
    assert len(other.remarks) == 2 and "other files, options or grid" in other.remarks[0]
    assert np.nanmax(np.abs(read(other))) < 0.7
    fields.write_pointing(tmp_path / "P1", (0.02, 45.0), sky, n=N, noise=1e-3, seed=9)
    changed = mosaic(tmp_path, names, load=True, find_noise=True)
    # The second centre is no longer covered as before either, so both are made again.
    assert any("P1" in text for text in changed.remarks)
    assert np.nanmax(np.abs(read(changed))) < 0.7


def test_nothing_is_written_with_no_write(tmp_path, sky):
    fields.write_pointing(tmp_path / "P0", CENTRE, sky, n=N)
    made = mosaic(tmp_path, no_write=True)
    assert made.products == {} and made.figures["width"] > 100
    assert not list(tmp_path.glob("mosaic*.fits"))
    mosaic(tmp_path, no_write=True, save=True)
    assert (tmp_path / "weight-P0.fits").is_file() and not list(tmp_path.glob("mosaic*.fits"))


def test_noise_by_facet(tmp_path):
    """One half of the image has three times the noise, and a ninth of the weight."""
    nothing = fields.Sky(*np.zeros((3, 0)))
    grid = fields.write_pointing(tmp_path / "P0", CENTRE, nothing, n=N, noise=1e-3)
    fields.write_facets(tmp_path / "P0", grid, 2)
    for kind in ("app_restored", "int_restored"):
        path = tmp_path / "P0" / naming.image_product(naming.FINAL_IMAGE, kind)
        with fits.open(path, mode="update") as hdus:
            hdus[0].data[..., :80] *= 3.0
    made = mosaic(tmp_path, read_noise=True)
    noise = fits.getdata(naming.beside_image(
        tmp_path / "P0" / naming.image_product(naming.FINAL_IMAGE, "app_restored"), "facetnoise"))
    assert noise.shape == (1, 1, N, N)
    assert noise[0, 0, 80, 20] == pytest.approx(3e-3, rel=0.1)
    assert noise[0, 0, 80, 120] == pytest.approx(1e-3, rel=0.1)
    weights = read(made, "weights")
    row = weights[weights.shape[0] // 2]
    middle = row.size // 2
    assert row[middle - 20] / row[middle + 20] == pytest.approx(1 / 9, rel=0.15)
    assert fits.getheader(made.products["weights"])["BUNIT"] == "(Jy/beam)-2"


def test_stokes_v_and_bands(tmp_path, sky):
    fields.write_pointing(tmp_path / "P0", CENTRE, sky, n=N,
                          root="image_full_ampphase_di_m.NS_Band2")
    made = mosaic(tmp_path, band=2)
    assert made.products["mosaic"].name == "band2-mosaic.fits"
    with pytest.raises(DataError, match="NS_Band1.int.restored.fits"):
        mosaic(tmp_path, band=1)
    with fits.open(tmp_path / "P0" / "image_full_ampphase_di_m.NS_Band2.int.restored.fits") as hdus:
        for name in ("dirty.corr", "dirty"):
            both = np.concatenate([np.zeros_like(hdus[0].data), hdus[0].data], axis=1)
            fits.PrimaryHDU(both, hdus[0].header).writeto(
                tmp_path / "P0" / f"image_full_high_stokesV.{name}.fits")
    v = mosaic(tmp_path, do_stokesV=True, rootname="V")
    for name in ("dirty.corr", "dirty"):
        (tmp_path / "P0" / f"image_full_high_stokesV.{name}.fits").rename(
            tmp_path / "P0" / f"image_full_high_stokesV_L1.{name}.fits")
    named = mosaic(tmp_path, do_stokesV=True, rootname="V1")
    assert np.array_equal(read(named), read(v), equal_nan=True)
    (tmp_path / "P0" / "image_full_high_stokesV_L2.dirty.corr.fits").touch()
    with pytest.raises(DataError, match="of 2 observations"):
        mosaic(tmp_path, do_stokesV=True)
    assert np.nanmax(read(v)) == pytest.approx(np.nanmax(read(made)), rel=0.3)
    assert np.nanmax(read(v)) > 0.3


def test_offset_signs_are_those_of_the_sky(tmp_path):
    """A positive RA offset means that the image's sources lie too far east."""
    lone = fields.Sky(np.array([0.0]), np.radians([45.0]), np.array([1.0]))
    grid = fields.write_pointing(tmp_path / "P0", CENTRE, lone, n=N, shift=(-1.0, 0.0))
    assert grid.lm(0, -1.0)[0] - grid.lm(0, 0.0)[0] == pytest.approx(3 * ARCSEC)  # that is east
    fields.write_facets(tmp_path / "P0", grid, 1)
    write_offsets(tmp_path / "P0", [(3.0, 0.0)], method="panstarrs")
    with pytest.raises(DataError, match="choose it with --offsets"):
        mosaic(tmp_path, apply_shift=True)
    made = mosaic(tmp_path, apply_shift=True, offsets="panstarrs")
    assert np.abs(positions(made, lone)).max() < 0.02
