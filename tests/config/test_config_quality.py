"""The configuration of quality_pipeline.py."""

from __future__ import annotations

from pathlib import Path

import pytest

from ddfpipe.config.describe import quality_markdown
from ddfpipe.config.option import options_of
from ddfpipe.config.quality import (
    QUALITY_SECTIONS, QualityConfig, catalogue_choices, dump_quality, load_quality,
)
from ddfpipe.errors import ConfigError

ROOT = Path(__file__).resolve().parents[2]
REFERENCE = {
    "machine": {"NCPU"},
    "image": {"pbimage", "nonpbimage", "catprefix"},
    "control": {"sfind_pixel_fraction", "fit_sourcecounts", "quiet", "logging", "dryrun",
                "restart"},
    "pybdsm": {"atrous"},
    "comparison_cats": {"dir", "list", "filenames", "radii", "fluxfactor"} | {
        f"{name}{suffix}" for name in ("TGSS", "FIRST")
        for suffix in ("", "_matchrad", "_filtersize", "_fluxfactor")},
}
"""Options of ddf-pipeline's quality_pipeline.py but for those that it never used."""


def write(tmp_path, text: str) -> str:
    path = tmp_path / "q.cfg"
    path.write_text(text)
    return str(path)


def test_every_option_of_the_older_program_is_there_and_marked():
    for title, names in REFERENCE.items():
        specs = options_of(QUALITY_SECTIONS[title])
        assert {name for name, spec in specs.items() if not spec.ours} == names
    ours = {"measures", "limits"}
    assert set(QUALITY_SECTIONS) == set(REFERENCE) | ours
    assert all(spec.ours for title in ours for spec in options_of(QUALITY_SECTIONS[title]).values())


def test_defaults():
    cfg = load_quality([], environ={})
    assert cfg.image.catprefix == "image_full_ampphase_di_m.NS"
    assert cfg.comparison_cats.TGSS_fluxfactor == 1000.0
    assert catalogue_choices(cfg) == []
    assert all(getattr(cfg.limits, name) is None for name in options_of(type(cfg.limits)))


def test_the_example_and_an_older_file_load(tmp_path):
    warnings: list[str] = []
    cfg = load_quality([str(ROOT / "examples/quality_pipeline.cfg")], warnings=warnings,
                       environ={"DDF_PIPELINE_CATALOGS": "/cats"})
    assert warnings == []
    tgss, first, nvss = catalogue_choices(cfg)
    assert tgss.path == Path("/cats/TGSSADR1_7sigma_catalog.fits") and tgss.divisor is None
    assert first.divisor == 1000.0 and first.max_size == 10.0 and nvss.max_size is None
    old = write(tmp_path, """[control]
sfind=True
sfind_pixel_fraction=0.5
[comparison_cats]
list=['TGSS','FIRST','NVSS']
filenames=['a.fits','b.fits','c.fits']
radii=[10,10,10]
TGSS_match_majkey1 = Maj_1
""")
    cfg = load_quality([old, "--machine-NCPU=16"], warnings=warnings, environ={})
    assert cfg.control.sfind_pixel_fraction == 0.5 and cfg.machine.NCPU == 16
    assert len(warnings) == 2 and "sfind" in warnings[0] and "majkey1" in warnings[1].lower()
    assert [c.name for c in catalogue_choices(cfg)] == ["TGSS", "FIRST", "NVSS"]


def test_the_older_way_to_name_two_catalogues(tmp_path):
    cfg = load_quality(["--comparison_cats-TGSS=t.fits", "--comparison_cats-TGSS_matchrad=7",
                        "--comparison_cats-TGSS_filtersize=None"], environ={})
    only, = catalogue_choices(cfg)
    assert (only.name, only.radius_arcsec, only.unitless_divisor) == ("TGSS", 7.0, 1000.0)
    assert only.max_size is None and only.divisor is None


def test_columns_and_other_lists():
    cfg = load_quality([
        "--comparison_cats-list=['A','B']", "--comparison_cats-filenames=['a','b']",
        "--comparison_cats-columns=['ra=LON flux=S1','-']",
        "--comparison_cats-frequencies=[None, 150]", "--comparison_cats-min_fluxes=[0.1, None]"],
        environ={})
    one, two = catalogue_choices(cfg)
    assert dict(one.columns) == {"ra": "LON", "flux": "S1"} and two.columns == ()
    assert one.frequency_mhz is None and two.frequency_mhz == 150.0
    assert one.min_flux == 0.1 and two.radius_arcsec == 10.0


@pytest.mark.parametrize("words, told", [
    (["--control-sfind_pixel_fractoin=0.5"], "did you mean sfind_pixel_fraction"),
    (["--image-pbimag=x"], "did you mean pbimage"),
    (["--limits-max_noise=10"], "did you mean max_noise_ujy"),
    (["--control-sfind_pixel_fraction=2"], "at most 1|from|out of range"),
    (["--data-mslist=x"], r"no section \[data\]"),
    (["--comparison_cats-list=['A']"], "need their files"),
    (["--comparison_cats-list=['A']", "--comparison_cats-filenames=['a','b']"],
     "has 2 entries, but list names 1"),
    (["--comparison_cats-list=['A/B']", "--comparison_cats-filenames=['a']"], "a file's name"),
    (["--control-report=../x"], "a file's name"),
    (["--comparison_cats-list=['A']", "--comparison_cats-filenames=['a']",
      "--comparison_cats-columns=['S1']"], "not of the form"),
    (["--comparison_cats-dir=$$/x"], "DDF_PIPELINE_CATALOGS, which is not set"),
    (["--pybdsm-thresh_isl=6"], "cannot be higher"),
    (["--limits-max_false_fraction=0.1", "--control-false_detections=False"], "cannot be tested"),
    (["nowhere.cfg"], "no such file"),
])
def test_mistakes_are_told(words, told):
    with pytest.raises(ConfigError, match=told):
        load_quality(words, environ={})


def test_a_dump_gives_the_same_configuration(tmp_path):
    cfg = load_quality(["--limits-max_noise_ujy=100", "--pybdsm-rms_box=[80, 20]"], environ={})
    assert load_quality([write(tmp_path, dump_quality(cfg))], environ={}) == cfg
    assert cfg != QualityConfig()


def test_options_of_the_pipeline_and_of_quality_do_not_mix(tmp_path):
    from ddfpipe.config import load_config

    warnings: list[str] = []
    load_config([write(tmp_path, "[data]\nmslist=x\n[pybdsm]\natrous=True\n")],
                warnings=warnings, check=False, environ={})
    assert "belongs to quality_pipeline.py" in warnings[0]


def test_the_page_of_options_is_up_to_date():
    page = (ROOT / "docs/quality-options.md").read_text()
    assert page == quality_markdown(), (
        "python -m ddfpipe.config.document quality > docs/quality-options.md")
