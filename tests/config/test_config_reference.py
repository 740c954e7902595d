"""The options of ddf-pipeline are all there, and configurations in use with it load unchanged."""

from __future__ import annotations

from pathlib import Path

import pytest
from ddfpipe.config import (
    SECTIONS,
    all_options,
    describe_options,
    effective,
    load_config,
    options_markdown,
)
from ddfpipe.config.machine import cpu_count
from ddfpipe.config.option import default_of, options_of
from ddfpipe.errors import ConfigError
from reference_config import AUTO, COUNTS, REFERENCE, STALE, VARIANTS, config_text

ROOT = Path(__file__).resolve().parents[2]
OURS = {
    "machine.engine", "machine.image_engine", "machine.solve_engine", "machine.wsclean",
    "machine.dp3", "machine.ddfacet", "machine.killms", "machine.memory_limit_gb",
    "data.drop_international", "image.beam_model", "image.nband", "control.strategy",
    "control.write_columns", "control.redo_DI_model", "control.polcubes_stokes",
    "inputmodel.skymodel", "bootstrap.min_sources", "bootstrap.on_failure", "spectra.catalogue",
    "spectra.radius",
    "offsets.server", "offsets.catalogue_dir",
    "solutions.dt_shorten",
}
FLAT = [(s, n, *kind_default) for s, o in REFERENCE.items() for n, kind_default in o.items()]


@pytest.fixture
def field_folder(tmp_path, monkeypatch):
    """Working directory with the files and catalogues that the configurations name."""
    monkeypatch.chdir(tmp_path)
    catalogues = tmp_path / "catalogues"
    catalogues.mkdir()
    for name in ("TGSSADR1_7sigma_catalog.fits", "VLSS.fits", "wenss.fits", "NVSS.fits"):
        (catalogues / name).touch()
    template = tmp_path / "template"
    template.mkdir()
    (template / "image_dirin_SSD_m.npy.ClusterCat.npy").touch()
    for kind in ("mask.fits", "model.npz", "app.restored.fits"):
        (template / f"image_full_ampphase_di_m.NS.{kind}").touch()
    monkeypatch.setenv("DDF_PIPELINE_CATALOGS", str(catalogues))
    return tmp_path


def test_the_reference_has_111_options_in_11_sections():
    assert {title: len(options) for title, options in REFERENCE.items()} == COUNTS
    assert sum(COUNTS.values()) == 111 and len(COUNTS) == 11


def test_ours_are_the_reference_and_the_new_ones():
    reference = {f"{title}.{name}" for title, name, _, _ in FLAT}
    new = {f"{title}.{name}" for title, name, spec in all_options() if spec.ours}
    assert new == OURS
    assert {f"{title}.{name}" for title, name, _ in all_options()} == reference | OURS
    assert len(list(all_options())) == 111 + len(OURS)
    assert set(SECTIONS) == set(REFERENCE)


@pytest.mark.parametrize("title, name, kind, default", FLAT)
def test_type_and_default(title, name, kind, default):
    spec = options_of(SECTIONS[title])[name]
    value = default_of(SECTIONS[title], name)
    assert spec.kind == kind
    if default is AUTO:
        assert value == cpu_count() and spec.auto
    elif kind == "list" and default is not None:
        assert list(value) == default
    else:
        assert value == default
    assert spec.nullable or default is not None


def test_every_option_is_described():
    for title, name, spec in all_options():
        assert len(spec.help) > 10 and spec.help.endswith((".", ")")), (title, name)
        assert "\n" not in spec.help


@pytest.mark.parametrize("name", VARIANTS)
def test_production_configurations_load(name, field_folder):
    path = field_folder / f"{name}.cfg"
    path.write_text(config_text(VARIANTS[name]))
    warnings: list[str] = []
    cfg = load_config([str(path)], warnings=warnings)
    assert cfg.data.mslist == "mslist.txt"
    assert cfg.solutions.NIterKF == (6,) * 7
    assert cfg.solutions.normalize == (None, None, None)
    assert cfg.masking.tgss == str(field_folder / "catalogues/TGSSADR1_7sigma_catalog.fits")
    assert cfg.source("image", "imsize").startswith(f"{path}:")
    assert any("auto_uvmin" in line for line in warnings) == (name == "tier1")


def test_variants_have_their_own_values(field_folder):
    def load(name):
        path = field_folder / "x.cfg"
        path.write_text(config_text(VARIANTS[name]))
        return load_config([str(path)])

    lowdec = load("tier1-jul2018-lowdec")
    assert lowdec.image.do_wide and lowdec.image.final_psf_pa_deg == 90.0
    assert lowdec.bootstrap.groups == (1, 2, 2)
    assert lowdec.bootstrap.catalogues[2] == str(field_folder / "catalogues/NVSS.fits")
    galactic = load("tier1-apr2021-galactic")
    assert galactic.control.skip_di and set(galactic.solutions.apply_sols) == {"P"}
    assert galactic.machine.NCPU_DDF == 32 and galactic.masking.thresholds == (50.0,) * 4
    assert load("tier1-sep2024").offsets.method is None
    assert load("tier1").solutions.uvmin == 1.5
    deep = load("tier1-nov2018-deepfields")
    assert deep.image.low_psf_arcsec is None and deep.offsets.method == "panstarrs"


@pytest.mark.parametrize("name, expected", [
    ("tier1-feb2018", "has 3 entries, at least 7"),
    ("tier1-apr2018", "has 3 entries, at least 7"),
    ("tier1-dec2017", "write smoothing=True"),
])
def test_stale_configurations_say_why(name, expected, field_folder):
    path = field_folder / "old.cfg"
    path.write_text(config_text(STALE[name]))
    warnings: list[str] = []
    with pytest.raises(ConfigError, match=expected) as caught:
        load_config([str(path)], warnings=warnings)
    assert caught.value.exit_code == 1 and str(path) in str(caught.value)
    obsolete = [option for change in STALE[name] for options in change.values()
                for option in options if option not in ("NIterKF", "smoothing", "ndir", "imsize")]
    for option in obsolete:
        assert any(f" {option.lower()} of" in line for line in warnings), option


def test_flat_names_are_those_of_the_reference():
    flat = effective(load_config(["--data-mslist=m", "--solutions-robust=-0.3"]))
    clashes = {"image_uvmin", "solutions_uvmin", "image_robust", "solutions_robust"}
    names = {name for _, name, _ in all_options()} - {"uvmin", "robust"}
    assert set(flat) == names | clashes
    assert flat["solutions_robust"] == -0.3 and flat["image_robust"] == -0.15
    assert flat["thresholds"] == [15.0, 10.0, 10.0, 5.0]


@pytest.mark.parametrize("name", ["example.cfg", "tier1.cfg", "tier1-jul2018.cfg"])
def test_examples_load_without_warnings(name, field_folder):
    warnings: list[str] = []
    cfg = load_config([str(ROOT / "examples" / name)], warnings=warnings)
    assert warnings == []
    assert cfg.data.full_mslist == "big-mslist.txt"


def test_example_tier1_jul2018_is_the_recipe(field_folder):
    path = field_folder / "reference.cfg"
    path.write_text(config_text([]))
    ours = load_config([str(ROOT / "examples/tier1-jul2018.cfg")])
    assert ours == load_config([str(path)])


def test_option_page_is_up_to_date():
    page = (ROOT / "docs/options.md").read_text()
    assert page == options_markdown(), "python -m ddfpipe.config.document > docs/options.md"
    for title, name, _, _ in FLAT:
        assert f"## [{title}]" in page and f"`{name}`" in page


@pytest.mark.parametrize("width", [60, 80, 160])
def test_table_fits_the_terminal(width):
    text = describe_options(width)
    assert max(len(line) for line in text.splitlines()) <= width
    for title, name, _, _ in FLAT:
        assert f"[{title}]" in text and f"\n  {name} " in text
