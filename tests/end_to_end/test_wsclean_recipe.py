"""The whole recipe with WSClean and DP3, and with our own engine, on one small field."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from native_runs import (
    FINAL, TINY_FIELD, TINY_RUN, Run, peaks_over_truth, simulate, tree_state, write_config,
)

from ddfpipe.data.images import read_image
from ddfpipe.engines.wsclean.engine import find_tools
from ddfpipe.errors import ConfigError
from ddfpipe.imaging.noise import robust_noise

pytestmark = pytest.mark.slow
DP3 = os.environ.get("DDFPIPE_TEST_DP3", "auto")
ENGINES = {
    "native": (),
    "wsclean": ("--machine-engine=wsclean", f"--machine-dp3={DP3}"),
    "mixed": ("--machine-image_engine=wsclean", f"--machine-dp3={DP3}"),
}


@pytest.fixture(scope="module")
def field(tmp_path_factory):
    """A simulated field without a beam; skips loudly without the programs."""
    try:
        find_tools(dp3=DP3)
    except ConfigError as error:
        pytest.skip(f"SKIPPED LOUDLY: {error}")
    spec = TINY_FIELD.replace('beam = "array_factor"', 'beam = "none"')
    return simulate(tmp_path_factory.mktemp("wsclean_recipe"), spec)


def run_with(field: Path, folder: Path, engine: str) -> Run:
    sections = {name: dict(options) for name, options in TINY_RUN.items()}
    sections["image"]["beam_model"] = "none"
    run = Run(folder, write_config(folder.with_suffix(".cfg"), field, sections))
    code, text = run(*ENGINES[engine], timeout=1800)
    assert code == 0, text[-3000:]
    return run


def noise(run: Run) -> float:
    return robust_noise(read_image(run.folder / f"{FINAL}.app.residual.fits").plane())


def test_the_recipe_runs_unattended_and_agrees_with_our_own_engine(field, tmp_path):
    before = tree_state(field)
    runs = {name: run_with(field, tmp_path / name, name) for name in ENGINES}
    assert tree_state(field) == before, "the user's measurement sets were changed"
    ratios = {name: peaks_over_truth(run.folder, field, 0.1) for name, run in runs.items()}
    common = sorted(set.intersection(*(set(r) for r in ratios.values())))
    assert len(common) > 6
    median = {n: float(np.median([r[i] for i in common])) for n, r in ratios.items()}
    for name in ("wsclean", "mixed"):
        assert median[name] == pytest.approx(median["native"], abs=0.1), median
        assert noise(runs[name]) < 3 * noise(runs["native"])
    record = json.loads((runs["wsclean"].folder / f"ddfpipe.state/{FINAL}.json").read_text())
    assert record["versions"]["wsclean"].startswith("3.") and "dp3" in record["versions"]
    code, text = runs["wsclean"](*ENGINES["wsclean"])
    assert code == 0 and "all 43 stages are done already" in text


def test_a_dry_run_prints_the_commands_and_does_nothing(field, tmp_path):
    sections = {name: dict(options) for name, options in TINY_RUN.items()}
    sections["image"]["beam_model"] = "none"
    run = Run(tmp_path / "run", write_config(tmp_path / "a.cfg", field, sections))
    code, text = run(*ENGINES["wsclean"], "--control-dryrun=True")
    assert code == 0 and "# image_phase1\n" in text and "# DDS3_full_slow\n" in text
    assert text.count("wsclean -name") > 20 and text.count("steps=[ddecal]") > 20
    assert not list(run.folder.iterdir())
    code, text = run(*ENGINES["wsclean"], "--machine-dp3=/nowhere", "--control-dryrun=True")
    assert code == 0 and "commands cannot be told" in text and "install_lofar.sh" in text


def test_what_the_engine_cannot_do_is_refused_before_anything_starts(field, tmp_path):
    sections = {name: dict(options) for name, options in TINY_RUN.items()}
    run = Run(tmp_path / "run", write_config(tmp_path / "a.cfg", field, sections))
    code, text = run(*ENGINES["wsclean"])
    assert code == 1 and "beam_model = none" in text
    code, text = run("--machine-engine=wsclean", "--machine-dp3=/nowhere",
                     "--image-beam_model=none", "--solutions-robust=0.0")
    assert code == 1 and "install_lofar.sh" in text and "robust = None" in text
    assert not list(run.folder.glob("image_*"))
    shutil.rmtree(run.folder)
