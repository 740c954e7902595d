"""Layers, file format and what is said about files and overrides that are wrong."""

from __future__ import annotations

import re

import pytest
from ddfpipe.config import Config, dump, load_config, read_files
from ddfpipe.errors import ConfigError
from hypothesis import given, settings
from hypothesis import strategies as st


@pytest.fixture
def write(tmp_path):
    """Function that writes a configuration file and returns its path as a string."""

    def write(text: str, name: str = "a.cfg") -> str:
        path = tmp_path / name
        path.write_text(text)
        return str(path)

    return write


def load(*words, **options):
    """Configuration without the checks that need a whole set-up."""
    return load_config(list(words), check=False, environ={}, **options)


def problem(*words) -> str:
    with pytest.raises(ConfigError) as caught:
        load(*words)
    assert caught.value.exit_code == 1
    return str(caught.value)


def test_later_files_and_then_overrides_count(write):
    first = write("[image]\nimsize=100\nrobust=-1\n[control]\nquiet=yes\n", "1.cfg")
    second = write("[image]\nimsize=200\n", "2.cfg")
    cfg = load("--image-imsize=300", first, "--image-robust=0", second, "--image-robust=1")
    assert (cfg.image.imsize, cfg.image.robust, cfg.control.quiet) == (300, 1.0, True)
    assert load(first, second).image.imsize == 200
    assert load(second, first).image.imsize == 100


def test_provenance(write):
    path = write("# a comment\n[image]\n\nimsize = 100\nRobust: 1\n[control]\nquiet=1\n")
    cfg = load(path, "--control-quiet=0")
    assert cfg.source("image", "imsize") == f"{path}:4"
    assert cfg.source("image", "robust") == f"{path}:5"
    assert cfg.source("control", "quiet") == "command line"
    assert cfg.source("data", "mslist") == "default"
    assert cfg.provenance["data.mslist"] == "default"


def test_file_format(write):
    path = write(
        "; first\n[masking]\nTHRESHOLDS: [15, 5, # inline\n   5,\n   5]   ; more\n"
        "tgss = /a%b/50%.fits # percent\nregion=a#b;c.reg\n[image]\nimsize = 512 ; pixels\n"
    )
    cfg = load(path)
    assert cfg.masking.thresholds == (15.0, 5.0, 5.0, 5.0)
    assert cfg.masking.tgss == "/a%b/50%.fits"
    assert cfg.masking.region == "a#b;c.reg"
    assert cfg.image.imsize == 512


def test_byte_order_mark_and_windows_line_ends(tmp_path):
    path = tmp_path / "w.cfg"
    path.write_bytes(b"\xef\xbb\xbf[image]\r\nimsize=512\r\n")
    assert load(str(path)).image.imsize == 512


def test_option_names_have_no_case():
    cfg = load("--image-IMSIZE=512", "--solutions-niterkf=[1,1,1,1,1,1,1]", "--control-redo_di=1")
    assert cfg.image.imsize == 512 and cfg.control.redo_DI
    assert cfg.solutions.NIterKF == (1,) * 7


def test_blanks_round_the_equals_sign_of_an_override():
    assert load("--image-imsize = 512").image.imsize == 512
    assert load("--data-mslist=a=b.txt").data.mslist == "a=b.txt"


def test_same_name_in_two_sections():
    cfg = load("--image-uvmin=0.2", "--solutions-uvmin=0.3")
    assert (cfg.image.uvmin, cfg.solutions.uvmin) == (0.2, 0.3)


@pytest.mark.parametrize("body, line, expected", [
    ("[image]\nimsze=5\n", 2, "did you mean imsize?"),
    ("[Image]\nimsize=50\n", 1, "did you mean [image]?"),
    ("[quux]\nx=50\n", 1, "the sections are machine, data"),
    ("[DEFAULT]\nimsize=50\n", 1, "no section [DEFAULT]"),
    ("[image]\nndir=5\n", 2, "it belongs in [solutions]"),
    ("[image]\nskip_dii=1\n", 2, "did you mean skip_di of [control]?"),
    ("[image]\nimsize=50\nIMSIZE=60\n", 3, "imsize is given twice in [image]"),
    ("[image]\n[data]\n[image]\n", 3, "the section [image] begins twice"),
    ("imsize=50\n", 1, "comes before the first [section]"),
    ("[image]\nimsize\n", 2, "'imsize' is not of the form option = value"),
    ("[image]\nimsize=\n", 2, "has no value"),
    ("[image]\nimsize=512\n robust=3\n", 2, "indented by accident"),
    ("[data]\nmslist='a.txt'\n", 2, "without quotes: a.txt"),
    ("[solutions]\nsmoothing=100\n", 2, "write smoothing=True"),
])
def test_wrong_files(write, body, line, expected):
    path = write(body)
    message = problem(path)
    assert message.startswith(f"{path}:{line}: ") and expected in message


def test_files_that_cannot_be_read(tmp_path, write):
    assert "nowhere.cfg: there is no such file" in problem("nowhere.cfg")
    assert "this is a folder" in problem(str(tmp_path))
    (tmp_path / "b.cfg").write_bytes(b"\xff\xfe[image]\n")
    assert "not a text file in UTF-8" in problem(str(tmp_path / "b.cfg"))
    (tmp_path / "c.cfg").write_bytes(b"[\0]\nimsize=50\n[image]\n")
    assert "not a text file" in problem(str(tmp_path / "c.cfg"))


@pytest.mark.parametrize("word, expected", [
    ("--restart=False", "did you mean --control-restart=False?"),
    ("--control.restart=False", "did you mean --control-restart=False?"),
    ("--control_restart=False", "did you mean --control-restart=False?"),
    ("-control-restart=False", "did you mean --control-restart=False?"),
    ("--control-restart", "did you mean --control-restart=VALUE?"),
    ("--full_mslist=x", "did you mean --data-full_mslist=x?"),
    ("--robust=0", "--solutions-robust=0 or --image-robust=0?"),
    ("--x", "--section-option=value"),
    ("--Image-imsize=50", "did you mean [image]?"),
    ("--image-imsze=50", "did you mean imsize?"),
    ("--image-ndir=5", "it belongs in [solutions]"),
    ("--solutions-dt=5", "obsolete; use [solutions] dt_slow"),
    ("--image-imsize=", "has no value"),
    ("--data-mslist=a #b", "begin a comment"),
])
def test_wrong_overrides(word, expected):
    assert expected in problem(word)


def test_several_problems_are_told_together(write):
    path = write("[image]\nimsze=5\nrobust=x\nrobust=1\n[quux]\n")
    message = problem(path, "nowhere.cfg", "--restart=1", "--solutions-ndir=none")
    assert message.startswith("6 problems") and message.count("\n  - ") == 6
    for part in ("imsze", "robust is given twice", "[quux]", "nowhere.cfg", "--restart=1", "ndir"):
        assert part in message


@pytest.mark.parametrize("title, name, replacement", [
    ("image", "auto_uvmin", "[image] uvmin"),
    ("control", "second_selfcal", "full_mslist"),
    ("solutions", "PowerSmooth", "smoothing"),
    ("solutions", "dt", "dt_slow"),
    ("solutions", "final_dt", "dt_fast"),
    ("solutions", "NChanSols_di", "dt_di"),
])
def test_obsolete_names_warn(write, title, name, replacement):
    path = write(f"[{title}]\n{name}=1\n")
    warnings: list[str] = []
    assert load(path, warnings=warnings) == load()
    assert len(warnings) == 1
    assert warnings[0].startswith(f"{path}:2:") and replacement in warnings[0]


def test_options_of_the_quality_pipeline_warn(write):
    path = write("[control]\nsfind=True\n[comparison_cats]\nlist=['TGSS']\n")
    warnings: list[str] = []
    assert load(path, warnings=warnings) == load()
    assert len(warnings) == 2 and all("quality_pipeline.py" in line for line in warnings)


def test_lists_that_are_too_long_warn():
    warnings: list[str] = []
    cfg = load("--solutions-NIterKF=[1,2,3,4,5,6,7,8]", warnings=warnings)
    assert len(cfg.solutions.NIterKF) == 8
    assert re.search(r"NIterKF: has 8 entries; those after the first 7", warnings[0])


def test_read_files_is_free_of_other_files(write):
    path = write("[masking]\ntgss=$$/x.fits\n")
    assert read_files([path]).masking.tgss == "$$/x.fits"


def test_dump_tells_the_sources_and_reads_back(write):
    path = write("[image]\nimsize=512\n")
    cfg = load(path, "--data-mslist=m.txt")
    text = dump(cfg, sources=True)
    assert f"imsize = 512  # {path}:2" in text and "mslist = m.txt  # command line" in text
    assert "ndir = 45  # default" in text
    assert load(write(text, "again.cfg")) == cfg


def test_comment_signs_inside_lists_survive_a_dump(write):
    path = write(r"""[bootstrap]
catalogues = ['a \x23b.fits', 'c \x3bd.fits', 'e\\#f', "it's"]
""")
    cfg = load(path)
    assert cfg.bootstrap.catalogues == ("a #b.fits", "c ;d.fits", "e\\#f", "it's")
    assert load(write(dump(cfg), "again.cfg")) == cfg


PIECES = st.sampled_from([
    "[image]", "[data]", "[solutions]", "[Image]", "imsize", "normalize", "robust", "=", ":", "\n",
    "\n ", "\n\n", " ", "#", ";", "%", "$$", "[", "]", "'", "512", "-0.5", "None", "['None']*3",
    "[1,2", "\\", "\u2028", "\x0c", "\ufeff", "\xe4",
])


@settings(max_examples=300, deadline=None)
@given(st.lists(PIECES, max_size=25).map("".join) | st.text(max_size=60))
def test_any_text_is_read_or_refused(tmp_path_factory, text):
    path = tmp_path_factory.getbasetemp() / "any.cfg"
    path.write_text(text, encoding="utf-8", errors="replace", newline="")
    try:
        cfg = load(str(path), warnings=[])
    except ConfigError as error:
        assert str(path) in str(error)
    else:
        assert isinstance(cfg, Config)


@settings(max_examples=200, deadline=None)
@given(st.lists(PIECES | st.just("-"), max_size=10).map("".join))
def test_any_override_is_read_or_refused(text):
    try:
        cfg = load("-" + text, "--image-" + text, warnings=[])
    except ConfigError as error:
        assert "-" + text in str(error) or "command line" in str(error)
    else:
        assert isinstance(cfg, Config)
