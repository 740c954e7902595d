"""Band images, cubes of polarisation, Stokes V and compression as stages of a run."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from ddfpipe.engines.base import GainChoice
from ddfpipe.naming import image_product
from ddfpipe.pipeline.end_products import (
    USUAL_BANDS_MHZ, band_limits, n_channels, problems,
)
from ddfpipe.pipeline.selfcal import build_recipe
from ddfpipe.pipeline.verbs import image_marker_files
from ddfpipe.products import compression
from workplace import configuration

SMALL = (Path("L1_a.ms"),)
FULL = (Path("L1_a.ms"), Path("L1_b.ms"), Path("L2_a.ms"))
NORMAL = "image_full_ampphase_di_m.NS"
PAIR = ("DDS3_full_smoothed", "DDS3_full_slow_merged")


def stages(**options):
    recipe = build_recipe(configuration(**options), SMALL, FULL)
    return {stage.name: stage for stage in recipe.stages}


# ---------------------------------------------------------------------- recipe


def test_nothing_is_added_without_being_asked():
    names = set(stages())
    assert not [n for n in names if "Band" in n or "QU" in n or "stokesV" in n or "fpack" in n]


def test_band_images_are_dirty_through_the_masked_model_of_all_the_data():
    made = stages(control__spectral_restored=True, image__centralfreqs=(130.0, 150.0, 140.0))
    limits = {0: (0.0, 135.0), 1: (145.0, 1e6), 2: (135.0, 145.0)}
    final = made[NORMAL].job
    for number, centre in enumerate((130.0, 150.0, 140.0)):
        job = made[f"{NORMAL}_Band{number}"].job
        assert job.vis.mhz == limits[number] and job.header_mhz == centre
        assert (job.vis.ms, job.vis.di) == (FULL, "DIS2_full_merged")
        assert job.vis.uv_km == final.vis.uv_km
        assert job.major_cycles == 0
        assert job.start_model == "image_full_ampphase_di_m_masked"
        mask = Path("image_full_ampphase_di_m.app.restored.fits.mask.fits")
        assert job.external_mask == mask and job.gains == final.gains
        assert (job.weights, job.weights_from) == ("imaging", "DDS3_full_slow")
        assert job.restoring_beam == final.restoring_beam and job.robust == final.robust
        assert image_product(job.name, "int_restored") in image_marker_files(job)


def test_an_empty_list_of_bands_is_the_usual_three():
    limits = band_limits(configuration(image__centralfreqs=()))
    edges = [(a + b) / 2 for a, b in zip(USUAL_BANDS_MHZ, USUAL_BANDS_MHZ[1:])]
    assert limits == [(0.0, edges[0]), (edges[0], edges[1]), (edges[1], 1e6)]


def test_cubes_at_both_resolutions():
    made = stages(control__polcubes=True, image__vlow_psf_arcsec=90.0)
    low, very = made["image_full_low_QU"].job, made["image_full_vlow_QU"].job
    for job in (low, very):
        assert job.stokes == "QU" and job.cubes == ("dirty", "dirty_corr")
        assert job.band_mode == "channel" and job.major_cycles == 0 and job.start_model is None
        assert job.gains == GainChoice(PAIR, "P", "SumBLBased")
        assert (job.weights, job.weights_from) == ("imaging", "DDS3_full_slow")
        assert job.vis.ms == FULL and job.vis.di == "DIS2_full_merged" and job.smooth_beam
    like = made["image_full_low_m"].job
    assert (low.npix, low.cell_arcsec, low.robust, low.vis.uv_km, low.restoring_beam) == (
        like.npix, like.cell_arcsec, like.robust, like.vis.uv_km, like.restoring_beam)
    assert (very.npix, very.cell_arcsec, very.robust) == (500, 50.0, -0.2)
    assert very.vis.uv_km == (0.1, 1.6) and very.restoring_beam == (90.0, 90.0, 0.0)
    assert made["image_full_low_QU"].makes == (
        "image_full_low_QU.cube.dirty.fits", "image_full_low_QU.cube.dirty.corr.fits")


def test_very_low_cubes_alone_where_there_is_no_low_resolution():
    made = stages(control__polcubes=True, image__low_psf_arcsec=None, image__vlow_psf_arcsec=90.0)
    assert "image_full_vlow_QU" in made and "image_full_low_QU" not in made


@pytest.mark.parametrize("stokes, names", [
    ("QU", ["StokesQ", "StokesU"]), ("IQUV", ["StokesI", "StokesQ", "StokesU", "StokesV"]),
])
def test_split_cubes(stokes, names):
    made = stages(
        control__polcubes=True, control__split_polcubes=True, control__polcubes_stokes=stokes
    )
    for resolution in ("low", "vlow"):
        found = [n for n in made if n.startswith(f"image_full_{resolution}_Stokes")]
        assert found == [f"image_full_{resolution}_{name}" for name in names]
        assert [made[n].job.stokes for n in found] == list(stokes)


def test_more_stokes_parameters_in_one_cube():
    made = stages(control__polcubes=True, control__polcubes_stokes="IQUV")
    assert made["image_full_low_IQUV"].job.stokes == "IQUV"


def test_stokes_v_of_every_observation():
    made = stages(control__stokesv=True)
    final = made[NORMAL].job
    for observation, sets in (("L1", FULL[:2]), ("L2", FULL[2:])):
        job = made[f"image_full_high_stokesV_{observation}"].job
        assert job.stokes == "IV" and job.vis.ms == sets and job.cubes == ()
        assert job.gains == GainChoice(PAIR, "P", "SumBLBased")
        assert (job.npix, job.robust, job.restoring_beam) == (
            final.npix, final.robust, final.restoring_beam)
        assert image_marker_files(job) == (
            f"image_full_high_stokesV_{observation}.dirty.fits",
            f"image_full_high_stokesV_{observation}.dirty.corr.fits")


def test_msss_mode_makes_cubes_of_the_full_bandwidth_images():
    made = stages(control__msss_mode=True)
    for name in ("image_full_ampphase_di", "image_full_ampphase_di_m"):
        job = made[name].job
        assert job.cubes == ("int_restored",) and job.band_mode == "frequency"
        assert f"{name}.cube.int.restored.fits" in made[name].makes
    assert made[NORMAL].job.cubes == ()


def test_compression_follows_each_cube():
    made = stages(control__polcubes=True, compression__compress_polcubes=True,
                  compression__fpack_q=8, compression__delete_compressed=True)
    stage = made["image_full_low_QU_fpack"]
    assert stage.needs == ("image_full_low_QU",) and stage.job.quantisation == 8
    assert stage.makes == ("image_full_low_QU.cube.dirty.fits.fz",
                           "image_full_low_QU.cube.dirty.corr.fits.fz")
    assert dict(stage.replaces) == {name[:-3]: name for name in stage.makes}
    kept = stages(control__polcubes=True, compression__compress_polcubes=True)
    assert not kept["image_full_vlow_QU_fpack"].replaces


# ---------------------------------------------------------------------- runs and restarts


OPTIONS = dict(
    control__polcubes=True, control__stokesv=True, control__spectral_restored=True,
    control__msss_mode=True, compression__compress_polcubes=True,
)
NEW = [f"{NORMAL}_Band0", f"{NORMAL}_Band1", f"{NORMAL}_Band2", "image_full_low_QU",
       "image_full_vlow_QU", "image_full_high_stokesV_L1"]


def test_a_run_makes_them_and_a_second_one_nothing(place):
    made = place.run(**OPTIONS)
    assert made[-len(NEW):] == NEW
    products = place.products()
    for name in ("image_full_low_QU.cube.dirty.corr.fits", "image_full_vlow_QU.cube.dirty.fits.fz",
                 "image_full_high_stokesV_L1.dirty.corr.fits", f"{NORMAL}_Band2.int.restored.fits",
                 "image_full_ampphase_di.cube.int.restored.fits"):
        assert name in products, name
    assert place.run(**OPTIONS) == []
    assert place.products() == products


def test_deleted_cubes_stay_deleted(place):
    options = OPTIONS | dict(compression__delete_compressed=True)
    place.run(**options)
    cube = place.folder / "image_full_low_QU.cube.dirty.fits"
    packed = cube.with_name(cube.name + ".fz")
    assert packed.exists() and not cube.exists()
    assert place.run(**options) == []
    # the copy is all there is: without it the cube has to be made again
    packed.unlink()
    assert place.run(**options) == ["image_full_low_QU"]
    assert packed.exists() and not cube.exists()
    packed.write_bytes(packed.read_bytes()[:-2880])
    assert place.run(**options) == ["image_full_low_QU"]


def test_another_quantisation_needs_the_cubes_again(place):
    options = OPTIONS | dict(compression__delete_compressed=True)
    place.run(**options)
    again = place.run(**options, compression__fpack_q=16)
    assert again == ["image_full_low_QU", "image_full_vlow_QU"]
    assert place.run(**options, compression__fpack_q=16) == []


def test_kept_cubes_are_only_packed_again(place):
    place.run(**OPTIONS)
    assert place.run(**OPTIONS, compression__fpack_q=16) == []
    cube = place.folder / "image_full_low_QU.cube.dirty.fits"
    assert cube.exists()
    assert place.run(**OPTIONS, compression__fpack_q=16, compression__delete_compressed=True) == []
    assert not cube.exists()


def test_other_stokes_parameters_make_other_cubes_only(place):
    place.run(**OPTIONS)
    assert place.run(**OPTIONS, control__polcubes_stokes="IQUV") == [
        "image_full_low_IQUV", "image_full_vlow_IQUV"]


def test_a_stop_while_packing_leaves_the_cube(place, monkeypatch):
    whole = compression.compress

    def fail(source, target, *rest):
        if "corr" in str(source):
            raise OSError(28, "No space left on device")
        return whole(source, target, *rest)

    monkeypatch.setattr(compression, "compress", fail)
    options = OPTIONS | dict(compression__delete_compressed=True)
    with pytest.raises(Exception, match="disk is full"):
        place.run(**options)
    for kind in ("dirty", "dirty.corr"):
        assert (place.folder / f"image_full_low_QU.cube.{kind}.fits").exists()
    monkeypatch.setattr(compression, "compress", whole)
    assert place.run(**options) == ["image_full_vlow_QU", "image_full_high_stokesV_L1"]


def test_pictures_of_the_new_products(place):
    place.run(pictures=True, **OPTIONS)
    previews = {path.name for path in (place.folder / "previews").iterdir()}
    assert {"image_full_low_QU.cube.dirty.fits.png",
            "image_full_high_stokesV_L1.dirty.fits.png",
            "image_full_ampphase_di.cube.int.restored.fits.png",
            f"{NORMAL}_Band0.app.restored.fits.png"} <= previews


# ---------------------------------------------------------------------- checks before a run


def info(name, freqs, start=0.0):
    return SimpleNamespace(
        path=Path(name), name=name, freqs=np.asarray(freqs) * 1e6, times=np.array([start]),
        time_range=(start, start + 3600.0), n_time=10, n_chan=len(freqs),
        stations_used=np.ones(5, bool),
    )


INFOS = [info("L1_a.ms", [120.0, 120.2]), info("L1_b.ms", [140.0, 140.2])]


def test_an_empty_band_is_told_before_the_run():
    bands = dict(image__centralfreqs=(121.0, 141.0, 160.0))
    config = configuration(control__spectral_restored=True, **bands)
    [problem] = problems(config, INFOS, 1 << 30)
    assert problem.fatal and "nearest to 160 MHz" in problem.text
    assert "between 120.1 and 140.1 MHz" in problem.text
    assert problems(configuration(**bands), INFOS, 1 << 30) == []


def test_observations_of_one_name_are_told():
    config = configuration(control__stokesv=True)
    assert problems(config, INFOS, 1 << 30) == []
    later = [*INFOS, info("L1_c.ms", [120.0, 120.2], start=1e6)]
    [problem] = problems(config, later, 1 << 30)
    assert not problem.fatal and "2 observations share the name L1" in problem.text


def test_fpack_is_looked_for_before_the_run(monkeypatch):
    config = configuration(control__polcubes=True, compression__compress_polcubes=True)
    monkeypatch.setattr(compression, "fpack_program", lambda: "/usr/bin/fpack")
    assert problems(config, INFOS, 1) == []
    monkeypatch.setattr(compression, "fpack_program", lambda: None)
    [slow] = problems(config, INFOS, 1 << 40)
    assert not slow.fatal and "astropy" in slow.text
    [large] = problems(config, INFOS, 1 << 20)
    assert large.fatal and "libcfitsio-bin" in large.text


def test_channels_of_all_sets_are_planes_of_a_cube():
    assert n_channels(INFOS) == 4 and n_channels([*INFOS, INFOS[0]]) == 4
