"""Checks across options, environment and files."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from ddfpipe.calibration.smooth import smooth_table
from ddfpipe.config import checks, load_config
from ddfpipe.errors import ConfigError, ImagingError, InputModelError, SolveError
from ddfpipe.imaging.restore import convolve_model

BOOTSTRAP = ["--control-bootstrap=1", "--image-low_psf_arcsec=20"]


def load(*words, environ=None, warnings=None):
    return load_config(["--data-mslist=m.txt", *words], environ=environ or {}, warnings=warnings)


@pytest.mark.parametrize("words, expected", [
    (["--image-final_psf_minor_arcsec=5"], "needs its position angle: set final_psf_pa_deg"),
    (["--image-final_psf_minor_arcsec=9", "--image-final_psf_pa_deg=0"],
     "longer than the major axis (6 arcsec)"),
    (["--image-cellsize=8.5"], "less than 1.5 pixels of 8.5 arcsec"),
    (["--data-full_mslist=f", "--image-cellsize=5"], "[image] final_psf_arcsec"),
    (["--image-low_psf_arcsec=12", "--image-low_cell=15"], "lower low_cell or raise"),
    (["--solutions-smoothingtype=tec"], "'tec' is unknown; use TEC, PolyAmp or TEC,PolyAmp"),
    (["--control-archive_dir=."], "another folder than the one of the run"),
    (["--inputmodel-basedicomodel=x", "--inputmodel-baseimagename=y",
      "--inputmodel-basemaskname=z", "--image-clusterfile=c"],
     "the file x.model.npz does not exist"),
    (["--image-uvmin=5", "--image-uvmax=5"], "uvmin (5 km) must be below uvmax (5 km)"),
    (["--control-remove_columns=1"], "full_mslist, which is not given"),
    (["--image-do_wide=1"], "full_mslist, which is not given"),
    (["--image-do_wide=1", "--data-full_mslist=f", "--image-wide_imsize=100"],
     "the wide image (0.28 deg) must reach beyond the main image (8.33 deg)"),
    (["--control-redo_DI=1", "--control-redo_DI_model=nowhere.sky"],
     "the file nowhere.sky does not exist"),
    (["--spectra-do_dynspec=1", "--spectra-catalogue=nowhere.csv"],
     "the file nowhere.csv does not exist"),
    (["--spectra-do_dynspec=1", "--spectra-catalogue=$$/t.fits"],
     "DDF_PIPELINE_CATALOGS, which is not set"),
    (["--machine-solve_engine=killms"], "solve_engine"),
    (["--control-polcubes=1"], "set [image] low_psf_arcsec"),
    (["--control-bootstrap=1"], "set [image] low_psf_arcsec"),
    (BOOTSTRAP, "bootstrap=True needs the list catalogues"),
    (BOOTSTRAP, "bootstrap=True needs the list frequencies"),
    (["--bootstrap-frequencies=[74e6,327e6]", "--bootstrap-radii=[1]"],
     "frequencies has 2, radii has 1"),
    (["--bootstrap-frequencies=[74]"], "74 Hz is out of range"),
    (["--inputmodel-skymodel=nowhere.sky"], "the file nowhere.sky does not exist"),
    (["--image-clusterfile=nowhere.npy"], "the file nowhere.npy does not exist"),
    (["--masking-region=nowhere.reg"], "the file nowhere.reg does not exist"),
    (["--masking-external_fits_mask=nowhere.fits"], "the file nowhere.fits does not exist"),
    (["--masking-tgss=nowhere.fits"], "the file nowhere.fits does not exist"),
    (["--masking-tgss=$$/t.fits"], "DDF_PIPELINE_CATALOGS, which is not set"),
    ([*BOOTSTRAP, "--bootstrap-catalogues=['$$/v.fits']"], "DDF_PIPELINE_CATALOGS, which is not"),
    (["--control-write_columns=['CORRECTED_DATA']"], "not one of SCALED_DATA"),
    (["--control-write_columns=['DD_PREDICT','DD_PREDICT']"], "has an entry twice"),
    (["--control-strategy=quick"], "not one of classic"),
    (["--image-imsize=0"], "0 pixels is out of range"),
    (["--image-cellsize=-1.5"], "-1.5 arcsec is out of range"),
    (["--solutions-uvmin=1001"], "from 0 to 1000"),
    (["--masking-thresholds=[5,5]"], "has 2 entries, at least 3"),
    (["--solutions-normalize=['None']"], "has 1 entries, at least 3"),
    (["--image-apply_weights=[True]"], "has 1 entries, at least 3"),
    (["--solutions-apply_sols=[P,AP]"], "need quotes; write ['P', 'AP']"),
    (["--solutions-apply_sols=['P','AP','AP']"], "has 3 entries, at least 7"),
])
def test_refused(words, expected):
    with pytest.raises(ConfigError) as caught:
        load(*words)
    assert expected in str(caught.value) and caught.value.exit_code == 1


def test_files_need_not_be_there_for_a_plan():
    words = ["--data-mslist=m.txt", "--masking-region=nowhere.reg", "--offsets-method=nowhere"]
    assert load_config(words, files=False).masking.region == "nowhere.reg"
    with pytest.raises(ConfigError, match="2 problems"):
        load_config(words)
    with pytest.raises(ConfigError, match="must be below"):
        load_config([*words, "--image-uvmin=5", "--image-uvmax=5"], files=False)


def test_measurement_sets_must_be_given():
    with pytest.raises(ConfigError, match="mslist.*must be given"):
        load_config([])


def test_a_missing_file_hides_what_follows_from_it():
    with pytest.raises(ConfigError) as caught:
        load_config(["nowhere.cfg"])
    assert str(caught.value) == "nowhere.cfg: there is no such file"


def test_checks_of_unreadable_values_are_left_out():
    with pytest.raises(ConfigError) as caught:
        load("--image-uvmax=far", "--image-uvmin=2000")
    assert "uvmax: 'far' is not a number" in str(caught.value)
    assert "must be below" not in str(caught.value)


def test_place_of_a_contradiction_is_told(tmp_path):
    path = tmp_path / "a.cfg"
    path.write_text("[image]\nfinal_psf_minor_arcsec=5\n")
    with pytest.raises(ConfigError) as caught:
        load(str(path))
    assert str(caught.value).startswith(f"{path}:2: [image] final_psf_minor_arcsec: ")


def test_catalogues_are_expanded_and_all_missing_ones_told(tmp_path):
    words = [*BOOTSTRAP, "--masking-tgss=$$/t.fits", "--bootstrap-frequencies=[74e6,1.4e9]",
             "--bootstrap-catalogues=['$$/v.fits','$$/n.fits']"]
    environ = {"DDF_PIPELINE_CATALOGS": str(tmp_path)}
    with pytest.raises(ConfigError) as caught:
        load(*words, environ=environ)
    for name in ("t.fits", "v.fits", "n.fits"):
        assert f"the file {tmp_path}/{name} does not exist" in str(caught.value)
        (tmp_path / name).touch()
    cfg = load(*words, environ=environ)
    assert cfg.masking.tgss == f"{tmp_path}/t.fits"
    assert cfg.bootstrap.catalogues == (f"{tmp_path}/v.fits", f"{tmp_path}/n.fits")


def test_bootstrap_catalogues_do_not_matter_without_bootstrap():
    cfg = load("--bootstrap-catalogues=['$$/v.fits']")
    assert cfg.bootstrap.catalogues == ("$$/v.fits",)


def test_input_model_is_all_or_nothing(tmp_path):
    cluster, mask = tmp_path / "c.npy", tmp_path / "m.fits"
    cluster.touch()
    mask.touch()
    root = tmp_path / "x"
    for kind in ("model.npz", "app.restored.fits"):
        (tmp_path / f"x.{kind}").touch()
    words = [f"--inputmodel-basedicomodel={root}", f"--inputmodel-basemaskname={mask}",
             f"--inputmodel-baseimagename={root}", f"--image-clusterfile={cluster}"]
    assert load(*words).inputmodel.basedicomodel == str(root)
    assert load(words[3]).image.clusterfile == str(cluster)
    names = ["basedicomodel", "basemaskname", "baseimagename", "clusterfile"]
    for index, name in enumerate(names):
        with pytest.raises(InputModelError, match=name) as caught:
            load(*words[:index], *words[index + 1:])
        assert caught.value.exit_code == 4


def test_input_model_problem_among_others_is_a_configuration_error():
    with pytest.raises(ConfigError) as caught:
        load("--inputmodel-basedicomodel=x", "--image-imsize=big")
    assert "baseimagename" in str(caught.value) and "'big'" in str(caught.value)


def test_two_starting_models_are_one_too_many(tmp_path):
    sky = tmp_path / "s.sky"
    sky.touch()
    assert load(f"--inputmodel-skymodel={sky}").inputmodel.skymodel == str(sky)
    with pytest.raises(ConfigError, match="both are starting models"):
        load(f"--inputmodel-skymodel={sky}", "--inputmodel-basedicomodel=x")


@pytest.mark.parametrize("word, expected", [
    ("--image-final_psf_pa_deg=90", "final_psf_pa_deg has no effect"),
    ("--image-splitisland_size=50", "splitisland_size has no effect"),
    ("--image-use_splitisland=1", "never collects them into islands"),
    ("--control-redo_DI_model=m.sky", "redo_DI_model has no effect"),
    ("--spectra-catalogue=t.csv", "catalogue has no effect"),
    ("--control-split_polcubes=1", "split_polcubes has no effect"),
    ("--compression-delete_compressed=1", "delete_compressed has no effect"),
    ("--control-exitafter=cleanup", "exitafter=cleanup has no effect without redofrom"),
    ("--masking-extended_size=50", "extended_size has no effect"),
])
def test_values_without_effect_are_pointed_out(word, expected):
    warnings: list[str] = []
    load(word, warnings=warnings)
    assert len(warnings) == 1 and expected in warnings[0]


def test_limits_are_those_of_what_they_guard():
    """The configuration knows no numerical code, so each says them for itself."""
    model, beam = np.zeros((16, 16), np.float32), np.array([2.0, checks.LEAST_BEAM])
    assert convolve_model(model, (*beam, 0.0), 1.0).shape == model.shape
    with pytest.raises(ImagingError, match="1.5 is needed"):
        convolve_model(model, (*beam * 0.999, 0.0), 1.0)
    jones = SimpleNamespace(n_corr=4)
    for mode in (*checks.SMOOTHINGS, ",".join(checks.SMOOTHINGS)):
        with pytest.raises(SolveError, match="full-Jones"):  # the word is known
            smooth_table(jones, mode)
    with pytest.raises(SolveError, match="unknown"):
        smooth_table(jones, "Clock")
