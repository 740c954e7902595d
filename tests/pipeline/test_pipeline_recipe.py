"""The classic recipe against the tables of its manual, typed here on their own."""

from pathlib import Path

import pytest

from ddfpipe.engines.base import ImageJob, MaskJob, SmoothJob, SolveJob
from ddfpipe.errors import ConfigError, InputModelError
from ddfpipe.pipeline.selfcal import build_recipe
from workplace import configuration

SMALL = (Path("L1_a.ms"),)
FULL = (Path("L1_a.ms"), Path("L1_b.ms"))
TH = (15.0, 9.0, 7.0)
SEQUENCE = """
image_dirin_SSD_init external_mask image_dirin_SSD diffuse_mask external_mask_diffuse
image_dirin_SSD_mask image_dirin_SSD_m clusters image_dirin_SSD_m_c
DIS0 DIS0_merged image_dirin_SSD_m_c_di image_dirin_SSD_m_c_di_m
image_dirin_SSD_m_c_di_m_mask
DDS0 DDS0_smoothed image_phase1 image_phase1_mask image_phase1_masked
DDS1 DDS1_smoothed image_ampphase1 image_ampphase1_mask image_ampphase1m_masked
DIS1 DIS1_merged image_ampphase1_di
image_ampphase1_di_mask image_ampphase1_di_masked DDS2_full DDS2_full_smoothed
DIS2_full DIS2_full_merged
image_full_ampphase_di image_full_ampphase_di_mask image_full_ampphase_di_m
image_full_ampphase_di_m_mask image_full_ampphase_di_m_masked
DDS3_full DDS3_full_smoothed DDS3_full_slow DDS3_full_slow_merged
image_full_low image_full_low_mask image_full_low_im full_extended_mask image_full_low_im_mask
image_full_low_m external_mask_ext-deep final_mask image_full_ampphase_di_m.NS
""".split()

# name: list, majors, peak factor, rms factor, automask, solutions, mode, norm, weights from,
# start model, reuse, reused, smooth beam, data through DI set
PAIR = ("DDS3_full_smoothed", "DDS3_full_slow_merged")
IMAGES = {
    "image_dirin_SSD_init":
        ("small", 0, 0.05, 3, 10, None, None, None, None, None, None, None, False, None),
    "image_dirin_SSD":
        ("small", 1, 0.01, 3, TH[0], None, None, None, None, None, "image_dirin_SSD_init",
         "dirty", False, None),
    "image_dirin_SSD_m":
        ("small", 2, 0.001, 0, TH[0], None, None, None, None, "image_dirin_SSD",
         "image_dirin_SSD", "residual", False, None),
    "image_dirin_SSD_m_c":
        ("small", 1, 0.001, 0, TH[0], None, None, None, None, "image_dirin_SSD_m", None, None,
         False, None),
    "image_dirin_SSD_m_c_di":
        ("small", 0, 0.001, 0, TH[0], None, None, None, "DIS0", "image_dirin_SSD_m_c", None,
         None, False, "DIS0_merged"),
    "image_dirin_SSD_m_c_di_m":
        ("small", 1, 0.001, 0, TH[0], None, None, None, "DIS0", "image_dirin_SSD_m_c",
         "image_dirin_SSD_m_c_di", "dirty", False, "DIS0_merged"),
    "image_phase1":
        ("small", 2, 0.001, 3, TH[1], ("DDS0_smoothed",), "P", "BLBased", "DDS0",
         "image_dirin_SSD_m_c_di_m", None, None, False, "DIS0_merged"),
    "image_ampphase1":
        ("small", 1, 0.001, 3, TH[1], ("DDS1_smoothed",), "AP", "BLBased", "DDS1",
         "image_phase1_masked", None, None, False, "DIS0_merged"),
    "image_ampphase1_di":
        ("small", 1, 0.001, 3, TH[1], ("DDS1_smoothed",), "AP", "BLBased", "DDS1",
         "image_ampphase1m_masked", None, None, False, "DIS1_merged"),
    "image_full_ampphase_di":
        ("full", 0, 0.001, 3, TH[2], ("DDS2_full_smoothed",), "AP", "Mean", "DDS2_full",
         "image_ampphase1_di_masked", None, None, True, "DIS2_full_merged"),
    "image_full_ampphase_di_m":
        ("full", 1, 0.001, 3, TH[2], ("DDS2_full_smoothed",), "AP", "Mean", "DDS2_full",
         "image_ampphase1_di_masked", "image_full_ampphase_di", "dirty", True, "DIS2_full_merged"),
    "image_full_low":
        ("full", 2, 0.001, 3, 5, PAIR, "P", "SumBLBased", "DDS3_full_slow", None, None, None,
         True, "DIS2_full_merged"),
    "image_full_low_im":
        ("full", 1, 0.001, 3, 5, PAIR, "P", "SumBLBased", "DDS3_full_slow", "image_full_low",
         "image_full_low", "residual", True, "DIS2_full_merged"),
    "image_full_low_m":
        ("full", 1, 0.001, 0.7, 4, PAIR, "P", "SumBLBased", "DDS3_full_slow",
         "image_full_low_im", "image_full_low_im", "residual", True, "DIS2_full_merged"),
    "image_full_ampphase_di_m.NS":
        ("full", 1, 0.001, 3, TH[2], PAIR, "P", "Mean", "DDS3_full_slow",
         "image_full_ampphase_di_m_masked", None, None, True, "DIS2_full_merged"),
}
# name: list, kind, model, CovQ, dt, channels, iterations, evolves from, pre-applied, DI set seen,
# gains of the model, updates weights, shortest baseline
SOLVES = {
    "DIS0": ("small", "DI", "image_dirin_SSD_m_c", 0.1, 3.0, None, 11, None, (), None, None,
             True, 0.25),
    "DDS0": ("small", "DD", "image_dirin_SSD_m_c_di_m", 0.02, 1.5, 2, 12, None, (), "DIS0_merged",
             None, True, 0.25),
    "DDS1": ("small", "DD", "image_phase1_masked", 0.02, 1.5, 2, 13, "DDS0_smoothed", (),
             "DIS0_merged", None, True, 0.25),
    "DIS1": ("small", "DI", "image_ampphase1m_masked", 0.1, 3.0, None, 14, None, (), None,
             (("DDS1_smoothed",), "P", "BLBased"), False, 0.25),
    "DDS2_full": ("full", "DD", "image_ampphase1_di_masked", 0.1, 1.5, 2, 15, None, (), None,
                  None, True, 0.25),
    "DIS2_full": ("full", "DI", "image_ampphase1_di_masked", 0.1, 3.0, None, 16, None, (), None,
                  (("DDS2_full_smoothed",), "P", "BLBased"), False, 0.25),
    "DDS3_full": ("full", "DD", "image_full_ampphase_di_m_masked", 0.1, 0.4, 1, 17, None, (),
                  "DIS2_full_merged", None, True, 0.25),
    "DDS3_full_slow": ("full", "DD", "image_full_ampphase_di_m_masked", 0.1, 40.0, 1, 6, None,
                       ("DDS3_full_smoothed",), "DIS2_full_merged", None, True, 0.8),
}
# image thresholded, sigma, masks merged in
EXTERNAL = "external_mask_diffuse.fits"
MASKS = {
    "diffuse_mask": ("image_dirin_SSD.residual01.fits", 16.0, ()),
    "image_dirin_SSD_mask": ("image_dirin_SSD.app.restored.fits", TH[0], (EXTERNAL,)),
    "image_dirin_SSD_m_c_di_m_mask":
        ("image_dirin_SSD_m_c_di_m.app.restored.fits", TH[1], (EXTERNAL,)),
    "image_phase1_mask": ("image_phase1.app.restored.fits", TH[1], (EXTERNAL,)),
    "image_ampphase1_mask": ("image_ampphase1.app.restored.fits", TH[1], (EXTERNAL,)),
    "image_ampphase1_di_mask": ("image_ampphase1_di.app.restored.fits", TH[1], (EXTERNAL,)),
    "image_full_ampphase_di_mask":
        ("image_full_ampphase_di.app.restored.fits", 10, (EXTERNAL,)),
    "image_full_ampphase_di_m_mask":
        ("image_full_ampphase_di_m.app.restored.fits", TH[2], (EXTERNAL,)),
    "image_full_low_mask": ("image_full_low.app.restored.fits", 2.5, ()),
    "image_full_low_im_mask":
        ("image_full_low_im.app.restored.fits", 2.5, ("full-mask-low.fits",)),
}
# clean mask of each image
CLEAN_MASKS = {
    "image_dirin_SSD_init": None,
    "image_dirin_SSD": "external_mask.fits",
    "image_dirin_SSD_m": "image_dirin_SSD.app.restored.fits.mask.fits",
    "image_dirin_SSD_m_c": "image_dirin_SSD.app.restored.fits.mask.fits",
    "image_dirin_SSD_m_c_di": "image_dirin_SSD.app.restored.fits.mask.fits",
    "image_dirin_SSD_m_c_di_m": "image_dirin_SSD.app.restored.fits.mask.fits",
    "image_phase1": "image_dirin_SSD_m_c_di_m.app.restored.fits.mask.fits",
    "image_ampphase1": "image_phase1.app.restored.fits.mask.fits",
    "image_ampphase1_di": "image_ampphase1.app.restored.fits.mask.fits",
    "image_full_ampphase_di": "image_ampphase1_di.app.restored.fits.mask.fits",
    "image_full_ampphase_di_m": "image_full_ampphase_di.app.restored.fits.mask.fits",
    "image_full_low": None,
    "image_full_low_im": "image_full_low.app.restored.fits.mask.fits",
    "image_full_low_m": "image_full_low_im.app.restored.fits.mask.fits",
    "image_full_ampphase_di_m.NS": "final_mask.fits",
}
TYPED = dict(
    image__final_rmsfactor=0.7, solutions__uvmin=0.25, solutions__uvmin_very_slow=0.8,
    solutions__dt_slow=1.5, solutions__dt_fast=0.4, solutions__dt_very_slow=40.0,
    solutions__dt_di=3.0, solutions__NChanSols=2, masking__low_threshold=2.5,
    masking__thres_outmaskextended=16.0, image__low_cell=6.0, image__imsize=2000,
    image__cellsize=2.0, image__apply_weights=(True, True, True, True),
)


def recipe(full=True, **options):
    return build_recipe(configuration(full, **options), SMALL, FULL if full else ())


def jobs(kind, **options):
    return {s.name: s.job for s in recipe(**options).stages if isinstance(s.job, kind)}


def test_order_of_the_stages():
    assert recipe().names() == SEQUENCE


def test_images_have_the_parameters_of_the_matrix():
    found = jobs(ImageJob, **TYPED)
    assert set(found) == set(IMAGES)
    for name, expected in IMAGES.items():
        job = found[name]
        gains = job.gains
        assert (
            "full" if job.vis.ms == FULL else "small", job.major_cycles, job.peak_factor,
            job.rms_factor, job.auto_mask_sigma, gains and gains.names, gains and gains.mode,
            gains and gains.normalize, job.weights_from, job.start_model, job.reuse,
            job.reuse_what, job.smooth_beam, job.vis.di,
        ) == expected, name
        assert job.weights == ("imaging" if job.weights_from else "unit"), name
        assert job.allow_negative == name.startswith("image_full"), name
        assert (job.external_mask and str(job.external_mask)) == CLEAN_MASKS[name], name
        assert job.vis.column == "CORRECTED_DATA"
        assert (job.clusters is None) == (SEQUENCE.index(name) < SEQUENCE.index("clusters")), name


def test_geometry_of_the_images():
    found = jobs(ImageJob, **TYPED)
    for name, job in found.items():
        if "low" in name:
            want = (668, 6.0, -0.2, (20.0, 20.0, 0.0), (0.1, 25.75))
        elif "full" in name:
            want = (2000, 2.0, -0.5, (6.0, 6.0, 0.0), (0.1, 1000.0))
        else:
            want = (2000, 2.0, -0.15, (12.0, 12.0, 0.0), (0.1, 1000.0))
        got = (job.npix, job.cell_arcsec, job.robust, job.restoring_beam, job.vis.uv_km)
        assert got == want, name


def test_fast_gains_alone_may_have_shorter_intervals():
    found = {name for name, job in jobs(SolveJob).items() if job.shorten}
    assert found == {"DDS0", "DDS1", "DDS2_full", "DDS3_full"}
    assert not any(j.shorten for j in jobs(SolveJob, solutions__dt_shorten=False).values())


def test_solves_have_the_parameters_of_the_matrix():
    found = jobs(SolveJob, **TYPED)
    assert set(found) == set(SOLVES)
    for name, expected in SOLVES.items():
        job = found[name]
        gains = job.model_gains
        assert (
            "full" if job.vis.ms == FULL else "small", job.kind, job.model, job.cov_q,
            job.dt_min, job.n_chan_sols, job.n_iter, job.evolve_from, job.pre_apply, job.vis.di,
            gains and (gains.names, gains.mode, gains.normalize), job.update_weights,
            job.vis.uv_km[0],
        ) == expected, name
        assert job.vis.uv_km[1] == 1000.0 and job.lambda_kf == 0.5
        directional = job.kind == "DD" or gains
        assert bool(job.clusters) == bool(directional), name


def test_masks_have_their_thresholds():
    found = jobs(MaskJob, **TYPED)
    assert set(found) == set(MASKS)
    for name, (image, sigma, external) in MASKS.items():
        job = found[name]
        assert (str(job.image), job.sigma, tuple(map(str, job.external))) == (
            image, sigma, external), name
        assert job.box == (50, 2) and job.diffuse == (name == "diffuse_mask")


def test_solutions_are_smoothed_but_slow_ones_tied_together():
    found = {job.name: (job.smooth, job.sigma_clip, job.tie) for job in jobs(SmoothJob).values()}
    smooth, tied = ("TEC,PolyAmp", None, False), (None, None, True)
    assert found == {"DIS0": tied, "DDS0": smooth, "DDS1": smooth, "DIS1": tied,
                     "DDS2_full": smooth, "DIS2_full": tied, "DDS3_full": smooth,
                     "DDS3_full_slow": (None, 5.0, True)}


def test_exit_points_are_where_the_manual_says():
    assert recipe().exit_points == {
        "initial": "image_dirin_SSD_m", "dirin": "image_dirin_SSD_m_c",
        "dirin_di": "image_dirin_SSD_m_c_di_m_mask", "phase": "image_phase1",
        "ampphase": "image_ampphase1", "ampphase_di": "image_ampphase1_di",
        "fullampphase": "image_full_ampphase_di", "fulllow": "external_mask_ext-deep",
    }


def test_every_need_is_an_earlier_stage():
    for options in ({}, {"control__skip_di": True}, {"solutions__smoothing": False}):
        seen = set()
        for stage in recipe(**options).stages:
            assert set(stage.needs) <= seen, stage.name
            seen.add(stage.name)


def test_without_di_calibration():
    names = recipe(control__skip_di=True).names()
    assert not [name for name in names if name.startswith("DIS") or "_di_m_mask" in name
                and "full" not in name]
    chain = [name for name in names if name.startswith("image_full_amp")]
    assert chain == [
        "image_full_ampphase", "image_full_ampphase_mask", "image_full_ampphase_m",
        "image_full_ampphase_m_mask", "image_full_ampphase_m_masked",
        "image_full_ampphase_di_m.NS",
    ]
    images = jobs(ImageJob, control__skip_di=True)
    assert images["image_phase1"].start_model == "image_dirin_SSD_m_c"
    assert str(images["image_phase1"].external_mask).startswith("image_dirin_SSD.app")
    assert images["image_full_ampphase"].start_model == "image_ampphase1m_masked"
    assert all(job.vis.di is None for job in images.values())
    solves = jobs(SolveJob, control__skip_di=True)
    assert solves["DDS0"].model == "image_dirin_SSD_m_c"
    assert solves["DDS2_full"].model == "image_ampphase1m_masked"


def test_without_full_list_the_recipe_ends_early():
    short = recipe(full=False)
    last = SEQUENCE.index("image_ampphase1_di")
    assert short.no_full_list and short.names() == SEQUENCE[:last + 1]


def test_without_low_resolution():
    names = recipe(image__low_psf_arcsec=None).names()
    assert names == [n for n in SEQUENCE if "low" not in n or n.endswith("slow")
                     or "slow_merged" in n if n not in ("full_extended_mask",
                                                        "external_mask_ext-deep", "final_mask")]
    assert str(jobs(ImageJob, image__low_psf_arcsec=None)["image_full_ampphase_di_m.NS"]
               .external_mask) == "image_full_ampphase_di_m.app.restored.fits.mask.fits"


def test_without_smoothing_plain_solutions_are_applied():
    found = jobs(ImageJob, solutions__smoothing=False)
    assert found["image_phase1"].gains.names == ("DDS0",)
    assert found["image_full_ampphase_di_m.NS"].gains.names == ("DDS3_full", "DDS3_full_slow")
    assert jobs(SmoothJob, solutions__smoothing=False) == {}


def test_without_very_slow_solutions():
    found = jobs(ImageJob, solutions__do_very_slow=False)
    final = found["image_full_ampphase_di_m.NS"]
    assert final.gains.names == ("DDS3_full_smoothed",) and final.weights_from == "DDS3_full"


def test_clusters_of_the_user():
    stages = {s.name: s for s in recipe(image__clusterfile="mine.npy").stages}
    assert "clusters" not in stages
    assert stages["image_dirin_SSD_m_c"].job.clusters == Path("mine.npy")
    assert stages["DDS0"].files == (Path("mine.npy"),)


def test_without_diffuse_mask():
    stages = {s.name: s for s in recipe(masking__use_maskdiffuse=False).stages}
    assert not {"diffuse_mask", "external_mask_diffuse"} & set(stages)
    assert stages["image_dirin_SSD_mask"].job.external == (Path("external_mask.fits"),)
    assert stages["clusters"].job.avoid_mask is None


def test_external_mask_draws_what_is_given():
    given = dict(masking__tgss="tgss.fits", masking__tgss_radius=5.0, masking__tgss_flux=200.0,
                 masking__tgss_extended=True, masking__tgss_pointlike=25.0,
                 masking__region="mine.reg", masking__external_fits_mask="mine.fits")
    stage = recipe(**given).stages[1]
    assert stage.files == (Path("tgss.fits"), Path("mine.reg"), Path("mine.fits"))
    job = stage.job
    assert (job.tgss_radius, job.tgss_flux, job.tgss_extended, job.tgss_pointlike) == (
        5.0, 200.0, True, 25.0)


def test_noise_by_facets_needs_the_facets():
    stage = {s.name: s for s in recipe(masking__rmsfacet=True).stages}["full_extended_mask"]
    assert stage.job.facets == Path("image_dirin_SSD_m_c.tessel.reg")
    assert "image_dirin_SSD_m_c" in stage.needs


def test_start_from_a_sky_model():
    stages = {s.name: s for s in recipe(inputmodel__skymodel="sky.txt").stages}
    assert stages["start_model"].files == (Path("sky.txt"),)
    first = stages["image_dirin_SSD"].job
    assert (first.start_model, first.reuse, first.reuse_what) == (
        "image_start", "image_dirin_SSD_init", None)
    assert "start_model" in stages["image_dirin_SSD"].needs


MODEL = dict(inputmodel__basedicomodel="template/model", inputmodel__basemaskname="t/mask.fits",
             inputmodel__baseimagename="t/image", image__clusterfile="t/clusters.npy")


def test_start_from_a_known_model():
    stages = {s.name: s for s in recipe(**MODEL).stages}
    assert list(stages)[:5] == ["DDS2_full", "DDS2_full_smoothed", "DIS2_full",
                                "DIS2_full_merged", "image_full_ampphase_di"]
    solve = stages["DDS2_full"]
    assert solve.job.model == "template/model"
    assert set(solve.files) == {Path("template/model.model.npz"), Path("t/clusters.npy"),
                                Path("t/image.app.restored.fits")}
    image = stages["image_full_ampphase_di"].job
    assert image.external_mask == Path("t/mask.fits") and image.start_model == "template/model"
    extended = stages["full_extended_mask"].job
    assert extended.template == Path("image_full_ampphase_di.app.restored.fits")


@pytest.mark.parametrize("missing", sorted(set(MODEL) - {"inputmodel__basedicomodel"}))
def test_an_incomplete_known_model_is_refused(missing):
    with pytest.raises(InputModelError, match=missing.split("__")[1]):
        recipe(**MODEL | {missing: None})


def test_a_known_model_needs_the_full_list():
    with pytest.raises(InputModelError, match="full_mslist"):
        recipe(full=False, **MODEL)


def test_elliptical_beam_and_normalisation_off():
    found = jobs(ImageJob, image__final_psf_minor_arcsec=5.0, image__final_psf_pa_deg=80.0,
                 solutions__normalize=("None", None, "None"))
    final = found["image_full_ampphase_di_m.NS"]
    assert final.restoring_beam == (6.0, 5.0, 80.0) and final.gains.normalize is None
    assert found["image_phase1"].gains.normalize is None
    with pytest.raises(ConfigError, match="final_psf_pa_deg"):
        recipe(image__final_psf_minor_arcsec=5.0)


def test_weights_fall_back_where_imaging_weights_are_off():
    off = dict(image__apply_weights=(False, False, False, False))
    for use, kind in ((False, "unit"), (True, "spectrum")):
        found = jobs(ImageJob, image__use_weightspectrum=use, **off)
        imaging = {name for name, job in found.items() if job.weights == "imaging"}
        assert imaging == {"image_dirin_SSD_m_c_di", "image_dirin_SSD_m_c_di_m",
                           "image_full_low", "image_full_low_im", "image_full_low_m"}
        assert {job.weights for name, job in found.items() if name not in imaging} == {kind}


def test_stages_know_the_options_they_were_built_from():
    stages = {s.name: s for s in recipe().stages}
    assert stages["image_phase1_mask"].options == {"masking.thresholds[1]": 9.0}
    phase = stages["image_phase1"].options
    assert phase["image.robust"] == -0.15 and phase["solutions.apply_sols[0]"] == "P"
    assert "masking.thresholds[0]" not in phase and "image.final_robust" not in phase


def test_unknown_strategy():
    with pytest.raises(ConfigError, match="classic"):
        recipe(control__strategy="quick")
