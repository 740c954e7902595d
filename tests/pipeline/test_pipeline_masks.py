"""Masks of known sources and of extended emission, on real arrays."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table

from ddfpipe.data.images import SkyGrid, read_image, write_image
from ddfpipe.data.regions import FacetOutline, write_tessel
from ddfpipe.pipeline import external_masks
from ddfpipe.pipeline.context import Context
from ddfpipe.pipeline.jobs import ExtendedMaskJob, ExternalMaskJob, MergeMasksJob
from ddfpipe.products.facetnoise import central_noise, facet_noise
from ddfpipe.units import ARCSEC, DEGREE

LOW = SkyGrid(1.0, 0.9, 300, 300, 12 * ARCSEC)
HIGH = SkyGrid(1.0, 0.9, 600, 600, 6 * ARCSEC)


@pytest.fixture
def context(tmp_path):
    return Context(None, tmp_path, tmp_path, None, None)


def image(path, data, grid):
    return write_image(path, data.astype(np.float32), grid, freq=150e6)


def field(noise):
    """Noise with a big island (41 x 51), a small one (5 x 5) and an enormous one (200 x 140)."""
    data = np.random.default_rng(4).normal(0, 1, LOW.shape) * noise
    data[30:71, 40:91] += 50
    data[20:25, 150:155] += 50
    data[100:300, 150:290] += 50
    return data


def test_islands_of_the_right_size_on_both_grids(context, tmp_path):
    image(tmp_path / "low.app.restored.fits", field(1.0), LOW)
    image(tmp_path / "high.app.restored.fits", np.zeros(HIGH.shape), HIGH)
    job = ExtendedMaskJob(
        Path("low.app.restored.fits"), Path("high.app.restored.fits"), Path("full-mask-low.fits"),
        Path("full-mask-high.fits"), sigma=8.0, min_pixels=1500, max_pixels=25000,
    )
    result = external_masks.extended(context, job)
    assert result.figures["islands"] == 1
    low = read_image(tmp_path / "full-mask-low.fits").plane() > 0
    assert low[30:71, 40:91].mean() > 0.99 and low.sum() < 1.03 * 41 * 51
    high = read_image(tmp_path / "full-mask-high.fits")
    assert high.grid.same(HIGH)
    mask = high.plane() > 0
    assert mask.sum() == pytest.approx(4 * low.sum(), rel=0.03)
    # The same piece of sky: the middle of the island on either grid.
    place = [np.mean(np.nonzero(m), axis=1) for m in (low, mask)]
    offsets = [np.array(g.lm(*p)) for g, p in zip((LOW, HIGH), place)]
    np.testing.assert_allclose(offsets[0], offsets[1], atol=6 * ARCSEC)


def test_one_noise_a_facet(context, tmp_path):
    data = np.random.default_rng(5).normal(0, 1, LOW.shape)
    data[:, 150:] *= 10
    image(tmp_path / "low.fits", data, LOW)
    corners = {"west": (150, 299), "east": (0, 149)}
    outlines = []
    for name, (x0, x1) in corners.items():
        y, x = np.array([0, 0, 299, 299.0]), np.array([x0, x1, x1, x0], float)
        ra, dec = LOW.radec(*LOW.lm(y, x))
        centre = tuple(float(v) for v in LOW.radec(*LOW.lm(150, (x0 + x1) / 2)))
        outlines.append(FacetOutline(name, centre, np.stack([ra, dec], axis=1)))
    write_tessel(tmp_path / "facets.tessel.reg", outlines)
    noise = facet_noise(data.astype(np.float32), LOW, tmp_path / "facets.tessel.reg")
    assert noise[150, 40] == pytest.approx(1.0, rel=0.05)
    assert noise[150, 260] == pytest.approx(10.0, rel=0.05)


def test_noise_of_the_centre_ignores_the_edges():
    plane = np.random.default_rng(6).normal(0, 1, (1400, 1400)).astype(np.float32)
    plane[:150] *= 100
    assert central_noise(plane) == pytest.approx(1.0, rel=0.02)


def test_known_sources_regions_and_masks_are_drawn_and_merged(context, tmp_path):
    image(tmp_path / "grid.dirty.fits", np.zeros(HIGH.shape), HIGH)
    y, x = np.array([300, 100, 500]), np.array([200, 400, 300])
    ra, dec = HIGH.radec(*HIGH.lm(y, x))
    Table({
        "RA": ra / DEGREE, "DEC": dec / DEGREE, "Peak_flux": [900.0, 100.0, 500.0],
        "Maj": [25.0, 25.0, 120.0], "Min": [25.0, 25.0, 60.0], "PA": [0.0, 0.0, 0.0],
    }).write(tmp_path / "tgss.fits")
    where = HIGH.radec(*HIGH.lm(50, 50))
    (tmp_path / "mine.reg").write_text(
        f'fk5\ncircle({where[0] / DEGREE:.6f},{where[1] / DEGREE:.6f},60")\n')
    own = np.zeros(HIGH.shape)
    own[580:590, 10:20] = 1
    image(tmp_path / "own.fits", own, HIGH)
    job = ExternalMaskJob(
        Path("external_mask.fits"), Path("grid.dirty.fits"), Path("tgss.fits"), tgss_radius=6.0,
        tgss_flux=300.0, tgss_extended=True, tgss_pointlike=30.0, region=Path("mine.reg"),
        fits_mask=Path("own.fits"),
    )
    result = external_masks.draw(context, job)
    mask = read_image(tmp_path / "external_mask.fits").plane() > 0
    assert result.products == ("external_mask.fits",)
    assert result.figures["masked_fraction"] == pytest.approx(mask.mean())
    # (y, x) of: bright source, faint one, the far end of the extended one, region, own mask.
    assert [bool(mask[p]) for p in ((300, 200), (100, 400), (514, 300), (50, 50), (585, 15))] == [
        True, False, True, True, True]
    assert mask[290:311, 190:211].sum() == pytest.approx(np.pi * 36, rel=0.1)
    other = np.zeros(HIGH.shape)
    other[0, 0] = 1
    image(tmp_path / "other.fits", other, HIGH)
    external_masks.merge(context, MergeMasksJob(
        Path("merged.fits"), (Path("external_mask.fits"), Path("other.fits"))))
    merged = fits.getdata(tmp_path / "merged.fits").squeeze() > 0
    assert merged[0, 0] and merged.sum() == mask.sum() + 1


def test_a_mask_of_nearly_everything_is_pointed_out(context, tmp_path):
    """As diffuse emission of the Galaxy makes it."""
    told = []
    loud = replace(context, monitor=SimpleNamespace(message=told.append))
    half = np.zeros(HIGH.shape)
    half[:300] = 1
    for name, data in (("half.fits", half), ("none.fits", 0 * half)):
        image(tmp_path / name, data, HIGH)
    external_masks.merge(loud, MergeMasksJob(Path("a.fits"), (Path("none.fits"),) * 2))
    assert told == []
    external_masks.merge(loud, MergeMasksJob(
        Path("b.fits"), (Path("none.fits"), Path("half.fits"))))
    [warning] = told
    assert "WARNING: b.fits: the mask covers 50 % of the image" in warning
    assert "raise the threshold" in warning
