"""The benchmark of the deconvolution at a small size: its parts, and that the programs agree."""

from __future__ import annotations

import json
import sys
from argparse import Namespace
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from other_programs import found

sys.path.insert(0, str(Path(__file__).resolve().parent))

import deconvolve  # noqa: E402
from deconvbench import report  # noqa: E402
from deconvbench.field import prepare  # noqa: E402
from deconvbench.programs import ddfacet_words, has_radler  # noqa: E402
from deconvbench.skies import CASES, Setting, sources_of  # noqa: E402
from deconvbench.truth import judge  # noqa: E402

from ddfpipe.data.model import PixelModel  # noqa: E402
from ddfpipe.simulate.sky import fluxes  # noqa: E402

TINY = Setting(npix=216, facets=2, core=12, remote=6, blocks=16, sets=3, noise=0.1, share=0.05)
CASE = replace(next(case for case in CASES if case.name == "doubles"), bands=3)
DDF = found("ddfacet")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("deconvolution")


@pytest.fixture(scope="module")
def field(folder):
    return prepare(folder, CASE, TINY)


@pytest.fixture(scope="module")
def figures(folder, field):
    """Figures of the programs that are here."""
    python = Path(sys.executable)
    names = ["ddfpipe"] + (["Radler generic", "Radler multiscale"] if has_radler(python) else [])
    names += ["DDFacet SSD2"] if DDF else []
    options = Namespace(majors=2, threads=1, radler=python, ddf=DDF, keep=False)
    return deconvolve.compare(folder, TINY, [CASE], names, options)[CASE.name]


def points_of(field) -> PixelModel:
    """The points of the sky as they truly are."""
    sources = [s for s in sources_of(CASE, TINY) if s.major == 0]
    y, x = field.grid.pixel(*field.grid.lm_of(*np.array([(s.ra, s.dec) for s in sources]).T))
    freq = field.arrays["band_freq"]
    return PixelModel.from_points(field.grid, freq, y, x, fluxes(sources, freq).T)


def test_skies_are_what_they_say():
    for case in CASES:
        sources = sources_of(case, Setting())
        size = np.array([s.major for s in sources]) * 206265
        kinds = {s.name[0] for s in sources}
        assert kinds == {"points": {"p"}, "doubles": {"p", "d"}, "halo": {"p", "o", "h"},
                         "spectra": {"p", "o", "d", "h"}}[case.name]
        assert (size.max() == 0) == (case.name == "points")
        if case.name == "spectra":
            index = np.array([s.spectral_index[0] for s in sources if s.name[0] == "p"])
            assert 0.2 < index.std() < 0.4


def test_truth_is_what_the_data_hold(field):
    """The true points leave nothing at their places but noise, and are judged as right."""
    model = points_of(field)
    residual = field.residual(model)
    quality = judge(field, model, residual)
    median, rms = quality.flux["points"]
    assert abs(median) < 1e-3 and rms < 3e-3
    assert quality.index["points"] < 0.01
    y, x = (np.rint(v).astype(int) for v in model.place())
    far = np.abs(field.mean(field.arrays["residual"])[y, x])
    assert (np.abs(field.mean(residual)[y, x]) < 0.1 * far).all()


def test_judge_sees_what_is_missing(field):
    model = points_of(field)
    residual = np.zeros_like(field.arrays["residual"])
    quality = judge(field, model.scaled(0.9), residual)
    assert quality.flux["points"][0] == pytest.approx(-0.1, abs=2e-3)
    assert quality.flux["doubles"][0] == pytest.approx(-1.0, abs=0.01)
    steep = PixelModel(model.grid, model.freq, model.index,
                       model.flux * (model.freq[:, None] / 144e6) ** -0.5, model.offset)
    assert judge(field, steep, residual).index["points"] == pytest.approx(0.5, abs=0.01)


def test_ours(figures):
    """Two major cycles reach the noise, and the fluxes of points and doubles."""
    ours = figures["ddfpipe"]
    assert ours["inside"] < 1.5 and ours["outside"] < 1.15
    assert ours["flux"]["points"][1] < 0.02 and ours["flux"]["doubles"][1] < 0.02
    assert ours["index"]["doubles"] < 0.1
    assert len(ours["cpu"]) == 2 and 0 < sum(ours["cpu"]) < ours["whole"]
    assert ours["memory"] > 1e7


def test_programs_agree(figures):
    """Fluxes of the others are the true ones too, and ours leave no more in the data."""
    others = {name: f for name, f in figures.items() if name != "ddfpipe"}
    if not others:
        pytest.skip("SKIPPED LOUDLY: neither Radler (pip install radler) nor DDFacet "
                    "(misc/install_ddfacet.sh) is here")
    for name, other in others.items():
        assert other["flux"]["doubles"][1] < 0.1, name
        assert figures["ddfpipe"]["inside"] < 1.1 * other["inside"], name
        assert figures["ddfpipe"]["flux"]["doubles"][1] < other["flux"]["doubles"][1] + 0.01, name


def test_ddfacet_is_asked_for_the_same(field, tmp_path):
    words = ddfacet_words(field, tmp_path, 2, "HMP", 2)
    last = dict(word.lstrip("-").split("=", 1) for word in words)
    assert last["Deconv-Mode"] == "HMP" and last["Facets-NFacets"] == "2"
    assert last["Selection-UVRangeKm"] == "[0.1,25.0]" and last["Deconv-MaxMajorIter"] == "2"
    assert Path(last["Mask-External"]).exists()
    assert (tmp_path / "sets.txt").read_text().splitlines() == [str(ms) for ms in field.ms]


def test_other_seeds_are_other_skies_and_report_has_their_median(figures):
    places = [np.array([(s.ra, s.dec) for s in sources_of(CASE, replace(TINY, seed=seed))])
              for seed in (0, 0, 1)]
    assert np.array_equal(places[0], places[1])
    assert np.abs(places[0] - places[2]).max() > 1e-4
    one = figures["ddfpipe"]
    runs = [{CASE.name: {"ddfpipe": one | {
        "cpu": [3.0, part], "inside": part,
        "flux": {kind: (part * median, part * rms) for kind, (median, rms) in one["flux"].items()},
    }}} for part in (1.0, 2.0, 6.0)] + [{CASE.name: {"other": one}}]
    found = report.merged(runs)[CASE.name]
    assert list(found) == ["ddfpipe", "ddfpipe, 3 skies", "other"]
    assert found["ddfpipe"] == runs[0][CASE.name]["ddfpipe"] and found["other"] == one
    all_three = found["ddfpipe, 3 skies"]
    assert all_three["cpu"] == [5.0] and all_three["inside"] == 2.0
    assert all_three["flux"]["doubles"] == pytest.approx(
        (3 * one["flux"]["doubles"][0], 2 * one["flux"]["doubles"][1]))
    table = report.table({CASE.name: found})
    assert "| ddfpipe, 3 skies | 5 |  |" in table and "| other | " in table


def test_time_of_nested_calls_counts_once():
    from deconvbench import run_ddfacet

    run_ddfacet.calls.clear()
    inner = run_ddfacet.counted("Init", lambda: sum(range(3_000_000)))
    run_ddfacet.counted("Deconvolve", lambda: inner())()
    (call,) = run_ddfacet.calls
    assert call["call"] == "Deconvolve" and 0 < call["cpu"] < 10 and call["to"] >= call["from"]


def test_report(figures, tmp_path):
    page = tmp_path / "page.md"
    page.write_text(f"# Page\n{report.BEGIN}\nold\n{report.END}\nrest\n")
    other = figures["ddfpipe"] | {"cpu": [10 * v for v in figures["ddfpipe"]["cpu"]]}
    found = json.loads(json.dumps({CASE.name: {"ddfpipe": figures["ddfpipe"], "other": other}}))
    report.write(found, page)
    report.write(found, page)
    text = page.read_text()
    assert text.startswith("# Page\n") and text.endswith("\nrest\n") and "old" not in text
    assert "| other | " in text and " | 10 | " in text and "diverged" not in text
    found[CASE.name]["other"]["inside"] = 1e5
    assert "| diverged |" in report.table(found)
    page.write_text("# Page\n")
    with pytest.raises(ValueError, match="missing"):
        report.write(found, page)
